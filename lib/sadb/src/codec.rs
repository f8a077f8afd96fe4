//! A child SA as the bytes of its record, and back. The order of the calls here is the layout. Whether it sends is no part of it: that stands in the record's state.

use std::net::{IpAddr, SocketAddr};

use zeroize::Zeroizing;

use crate::{
    Algorithms, ChildSa, DfPolicy, DscpPolicy, Encapsulation, Error, IkeSpi, Lifetimes, MAX_SELECTORS, Mode,
    SaKeys, SecretBytes, Selector, Selectors, Spi,
};

/// Room for an encoded child SA.
pub(crate) const BODY_BYTES: usize = 688;

/// An encoded child SA; zeroed on drop.
pub(crate) type Body = Zeroizing<[u8; BODY_BYTES]>;

const FLAG_INBOUND: u8 = 1;
const FLAG_ESN: u8 = 4;
const FLAG_TRANSPORT: u8 = 8;
const FLAG_UDP: u8 = 16;
/// Whoever does not know it works as if it were not there.
const FLAG_SHARED: u8 = 32;
const DSCP_COPY: u8 = 0xff;

/// Encodes a validated child SA.
pub(crate) fn encode(sa: &ChildSa) -> Body {
    let mut out = Encoder {
        body: Zeroizing::new([0; BODY_BYTES]),
        at: 0,
    };
    out.put(&sa.inbound_spi.to_u32().to_le_bytes());
    out.put(&sa.outbound_spi.to_le_bytes());
    let flags = if sa.inbound_active { FLAG_INBOUND } else { 0 }
        | if sa.esn { FLAG_ESN } else { 0 }
        | if sa.mode == Mode::Transport {
            FLAG_TRANSPORT
        } else {
            0
        }
        | if sa.encapsulation == Encapsulation::Udp {
            FLAG_UDP
        } else {
            0
        }
        | if sa.shared { FLAG_SHARED } else { 0 };
    let df = match sa.df {
        DfPolicy::Copy => 0,
        DfPolicy::Set => 1,
        DfPolicy::Clear => 2,
    };
    let dscp = match sa.dscp {
        DscpPolicy::Copy => DSCP_COPY,
        DscpPolicy::Fixed(value) => value,
    };
    out.put(&[flags, df, dscp, sa.algorithms.icv_bytes]);
    for number in [
        sa.algorithms.encryption,
        sa.algorithms.key_bits,
        sa.algorithms.integrity,
    ] {
        out.put(&number.to_le_bytes());
    }
    for number in [sa.replay_window, sa.fragment_mtu, sa.inner_mtu, sa.outer_mtu] {
        out.put(&number.to_le_bytes());
    }
    out.put(&sa.context.to_le_bytes());
    out.put(&sa.ike_sa.to_u64().to_le_bytes());
    out.put(&sa.lifetimes.soft_seconds.to_le_bytes());
    out.put(&sa.lifetimes.hard_seconds.to_le_bytes());
    out.put(&sa.lifetimes.soft_bytes.to_le_bytes());
    out.put(&sa.lifetimes.hard_bytes.to_le_bytes());
    out.put_endpoint(sa.local);
    out.put_endpoint(sa.peer);
    for keys in [&sa.inbound_keys, &sa.outbound_keys] {
        out.put_secret(&keys.encryption);
        out.put_secret(&keys.salt);
        out.put_secret(&keys.integrity);
    }
    out.put_selectors(&sa.local_selectors);
    out.put_selectors(&sa.remote_selectors);
    out.body
}

/// Decodes what [`encode`] made; [`Error::Corrupt`] for anything else.
pub(crate) fn decode(body: &Body) -> Result<ChildSa, Error> {
    let mut input = Decoder {
        rest: body.as_slice(),
    };
    let inbound_spi = Spi::from_u32(input.u32()?).ok_or(Error::Corrupt { field: "inbound SPI" })?;
    let outbound_spi = input.u32()?;
    let [flags, df, dscp, icv_bytes] = input.array()?;
    let [encryption, key_bits, integrity] = [input.u16()?, input.u16()?, input.u16()?];
    let [replay_window, fragment_mtu, inner_mtu, outer_mtu] =
        [input.u16()?, input.u16()?, input.u16()?, input.u16()?];
    let context = input.u32()?;
    let ike_sa = IkeSpi::from_u64(input.u64()?).ok_or(Error::Corrupt { field: "IKE SPI" })?;
    let lifetimes = Lifetimes {
        soft_seconds: input.u32()?,
        hard_seconds: input.u32()?,
        soft_bytes: input.u64()?,
        hard_bytes: input.u64()?,
    };
    let sa = ChildSa {
        inbound_spi,
        outbound_spi,
        inbound_active: flags & FLAG_INBOUND != 0,
        outbound_active: false,
        algorithms: Algorithms {
            encryption,
            key_bits,
            integrity,
            icv_bytes,
        },
        esn: flags & FLAG_ESN != 0,
        mode: if flags & FLAG_TRANSPORT != 0 {
            Mode::Transport
        } else {
            Mode::Tunnel
        },
        encapsulation: if flags & FLAG_UDP != 0 {
            Encapsulation::Udp
        } else {
            Encapsulation::Esp
        },
        df: match df {
            0 => DfPolicy::Copy,
            1 => DfPolicy::Set,
            2 => DfPolicy::Clear,
            _ => return Err(Error::Corrupt { field: "DF policy" }),
        },
        dscp: if dscp == DSCP_COPY {
            DscpPolicy::Copy
        } else {
            DscpPolicy::Fixed(dscp)
        },
        replay_window,
        fragment_mtu,
        inner_mtu,
        outer_mtu,
        shared: flags & FLAG_SHARED != 0,
        context,
        ike_sa,
        lifetimes,
        local: input.endpoint()?,
        peer: input.endpoint()?,
        inbound_keys: input.keys()?,
        outbound_keys: input.keys()?,
        local_selectors: input.selectors()?,
        remote_selectors: input.selectors()?,
    };
    sa.validate().map_err(|_| Error::Corrupt { field: "value" })?;
    Ok(sa)
}

/// Length of an address in records and rings.
pub(crate) const ADDRESS: usize = 17;

/// An address as it stands in records and rings: its family (4 or 6) and 16 octets, those that it does not need zero.
pub fn address_bytes(address: IpAddr) -> [u8; ADDRESS] {
    let mut bytes = [0; ADDRESS];
    let (family, rest) = bytes.split_at_mut(1);
    match address {
        IpAddr::V4(v4) => {
            family.fill(4);
            rest.iter_mut().zip(v4.octets()).for_each(|(to, from)| *to = from);
        }
        IpAddr::V6(v6) => {
            family.fill(6);
            rest.copy_from_slice(&v6.octets());
        }
    }
    bytes
}

/// The address that [`address_bytes`] wrote; `None` when it did not.
pub fn address_from(bytes: &[u8; ADDRESS]) -> Option<IpAddr> {
    let [family, octets @ ..] = *bytes;
    let [a, b, c, d, ..] = octets;
    match family {
        4 => Some(IpAddr::from([a, b, c, d])),
        6 => Some(IpAddr::from(octets)),
        _ => None,
    }
}

struct Encoder {
    body: Body,
    at: usize,
}

impl Encoder {
    fn put(&mut self, bytes: &[u8]) {
        let end = self.at + bytes.len();
        // The longest child SA fits (test `the_longest_child_sa_fits`), so nothing is ever cut off here.
        if let Some(place) = self.body.get_mut(self.at..end) {
            place.copy_from_slice(bytes);
        }
        self.at = end;
    }

    fn put_endpoint(&mut self, endpoint: SocketAddr) {
        self.put(&address_bytes(endpoint.ip()));
        self.put(&endpoint.port().to_le_bytes());
    }

    fn put_secret<const MAX: usize>(&mut self, secret: &SecretBytes<MAX>) {
        let end = self.at + 1 + MAX;
        self.put(&[u8::try_from(secret.len()).unwrap_or(u8::MAX)]);
        self.put(secret.expose());
        self.at = end;
    }

    fn put_selectors(&mut self, selectors: &[Selector]) {
        self.put(&[u8::try_from(selectors.len()).unwrap_or(u8::MAX)]);
        for selector in selectors {
            self.put(&address_bytes(selector.start));
            self.put(&address_bytes(selector.end));
            self.put(&[selector.protocol]);
            self.put(&selector.start_port.to_le_bytes());
            self.put(&selector.end_port.to_le_bytes());
        }
    }
}

struct Decoder<'a> {
    rest: &'a [u8],
}

impl Decoder<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, tail) = self
            .rest
            .split_first_chunk()
            .ok_or(Error::Corrupt { field: "length" })?;
        self.rest = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_le_bytes)
    }

    fn address(&mut self) -> Result<IpAddr, Error> {
        address_from(&self.array()?).ok_or(Error::Corrupt {
            field: "address family",
        })
    }

    fn endpoint(&mut self) -> Result<SocketAddr, Error> {
        Ok(SocketAddr::new(self.address()?, self.u16()?))
    }

    fn secret<const MAX: usize>(&mut self) -> Result<SecretBytes<MAX>, Error> {
        let corrupt = || Error::Corrupt { field: "key length" };
        let length = usize::from(self.u8()?);
        let (place, tail) = self.rest.split_at_checked(MAX).ok_or_else(corrupt)?;
        self.rest = tail;
        SecretBytes::new("key", place.get(..length).ok_or_else(corrupt)?)
    }

    fn keys(&mut self) -> Result<SaKeys, Error> {
        Ok(SaKeys {
            encryption: self.secret()?,
            salt: self.secret()?,
            integrity: self.secret()?,
        })
    }

    fn selectors(&mut self) -> Result<Selectors, Error> {
        let length = usize::from(self.u8()?);
        if length > MAX_SELECTORS {
            return Err(Error::Corrupt { field: "selectors" });
        }
        let mut list = Vec::with_capacity(MAX_SELECTORS);
        for _ in 0..length {
            list.push(Selector {
                start: self.address()?,
                end: self.address()?,
                protocol: self.u8()?,
                start_port: self.u16()?,
                end_port: self.u16()?,
            });
        }
        Selectors::new(&list).map_err(|_| Error::Corrupt { field: "selectors" })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::{SaIndex, Slot};
    use proptest::prelude::*;

    /// A child SA with every part filled.
    pub(crate) fn sample(spi: Spi) -> ChildSa {
        let keys = |seed: u8| SaKeys {
            encryption: SecretBytes::new("key", &[seed; 32]).unwrap(),
            salt: SecretBytes::new("salt", &[seed.wrapping_add(1); 4]).unwrap(),
            integrity: SecretBytes::new("key", &[seed.wrapping_add(2); 64]).unwrap(),
        };
        let v4 = Selector::any_port("10.1.0.0".parse().unwrap(), "10.1.255.255".parse().unwrap());
        let v6 = Selector {
            start: "2001:db8::".parse().unwrap(),
            end: "2001:db8::ffff".parse().unwrap(),
            protocol: 17,
            start_port: 2152,
            end_port: 2152,
        };
        ChildSa {
            inbound_spi: spi,
            outbound_spi: 0xdead_beef,
            inbound_active: true,
            outbound_active: false,
            algorithms: Algorithms {
                encryption: 12,
                key_bits: 256,
                integrity: 14,
                icv_bytes: 32,
            },
            inbound_keys: keys(0x11),
            outbound_keys: keys(0x55),
            mode: Mode::Tunnel,
            esn: true,
            encapsulation: Encapsulation::Udp,
            local: "[2001:db8:1::1]:4500".parse().unwrap(),
            peer: "[2001:db8:2::2]:61234".parse().unwrap(),
            context: 3,
            replay_window: 512,
            local_selectors: Selectors::new(&[v4, v6, v6, v6]).unwrap(),
            remote_selectors: Selectors::new(&[v6, v4, v6, v6]).unwrap(),
            fragment_mtu: 1400,
            inner_mtu: 1438,
            outer_mtu: 1500,
            shared: false,
            df: DfPolicy::Clear,
            dscp: DscpPolicy::Fixed(46),
            ike_sa: IkeSpi::new(spi.slot(), 77, 0x0102_0304).unwrap(),
            lifetimes: Lifetimes {
                soft_seconds: 3000,
                hard_seconds: 3600,
                soft_bytes: 1,
                hard_bytes: u64::MAX,
            },
        }
    }

    fn spi() -> Spi {
        Spi::new(Slot::MIN, 3, SaIndex::new(9).unwrap())
    }

    #[test]
    fn the_longest_child_sa_fits() {
        let sa = sample(spi());
        let body = encode(&sa);
        assert_eq!(decode(&body).unwrap(), sa);
        let unused = body.iter().rev().take_while(|byte| **byte == 0).count();
        assert!(unused >= 8, "the layout has grown to its limit");
    }

    /// Octets of a file of `formats`.
    fn recorded(text: &str) -> Vec<u8> {
        let octets = text.split_whitespace();
        octets
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect()
    }

    /// A record of layout 3 as it was recorded when that was the newest. It never changes: another encoding is another layout, beside which this one stays readable.
    #[test]
    fn a_child_sa_of_layout_3_is_read() {
        let octets = recorded(include_str!("../formats/child-sa-3.hex"));
        let body = <[u8; BODY_BYTES]>::try_from(octets).unwrap();
        assert_eq!(decode(&Zeroizing::new(body)).unwrap(), sample(spi()));
    }

    #[test]
    fn what_is_shared_comes_back_so() {
        let shared = ChildSa {
            shared: true,
            ..sample(spi())
        };
        assert_eq!(decode(&encode(&shared)).unwrap(), shared);
    }

    #[test]
    fn an_empty_record_is_corrupt_and_not_a_child_sa() {
        assert!(matches!(
            decode(&Zeroizing::new([0; BODY_BYTES])),
            Err(Error::Corrupt { .. })
        ));
    }

    proptest! {
        #[test]
        fn any_bytes_decode_or_fail_without_panic(mut bytes in proptest::collection::vec(any::<u8>(), BODY_BYTES), flip in 0..BODY_BYTES, value: u8) {
            let mut body = encode(&sample(spi()));
            body[flip] = value;
            let _ = decode(&body);
            bytes[0] |= 1;
            let _ = decode(&Zeroizing::new(<[u8; BODY_BYTES]>::try_from(bytes).unwrap()));
        }
    }
}

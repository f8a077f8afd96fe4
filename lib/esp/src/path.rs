//! What routers say about the path of our ESP packets: ICMP fragmentation needed (RFC 1191), ICMPv6 Packet Too Big (RFC 8201).
//!
//! Nobody signs such a message. One that quotes an SPI, which only those on the path have seen, is believed down to what every link takes. One that
//! does not (RFC 792 asks for eight octets, which are the UDP header's) could be anybody's who guesses ports: it is believed down to 1280 octets.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sadb::Encapsulation;

use crate::bytes::{byte, long, quad, word};
use crate::checksum::Checksum;
use crate::outer::{IPV4_LEAST_MTU, IPV6_LEAST_MTU, narrower};
use crate::packet::{FRAGMENT, FRAGMENT_OFFSET, IPV4_HEADER, IPV6_HEADER, UDP};

const ESP: u8 = 50;
/// RFC 3948 2.1.
const NAT_T_PORT: u16 = 4500;
const UDP_HEADER: usize = 8;
const FRAGMENT_HEADER: usize = 8;
const ICMP_HEADER: usize = 8;
const FRAGMENTATION_NEEDED: [u8; 2] = [3, 4];
const PACKET_TOO_BIG: u8 = 2;

/// The path to a peer is narrower than one of our packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NarrowPath {
    /// Our address.
    pub local: IpAddr,
    /// Where the packet was going; port 0 for protocol 50.
    pub peer: SocketAddr,
    /// How it was wrapped.
    pub encapsulation: Encapsulation,
    /// Its SPI, if it is quoted.
    pub spi: Option<u32>,
    /// What gets through, in octets with the outer IP header.
    pub mtu: u16,
}

/// The packet that a message quotes, as far as it does.
struct Quoted {
    local: IpAddr,
    peer: IpAddr,
    protocol: u8,
    length: usize,
    /// Where its payload begins.
    payload: usize,
}

impl NarrowPath {
    /// Reads an ICMP message, without its IP header. `None` for any other message, and for one that is not about ESP.
    pub fn parse_v4(message: &[u8]) -> Option<Self> {
        if !message.starts_with(&FRAGMENTATION_NEEDED) || !Checksum::new().with(message).is_valid() {
            return None;
        }
        let quote = message.get(ICMP_HEADER..)?;
        let header = usize::from(byte(quote, 0)? & 0xf) * 4;
        if byte(quote, 0)? >> 4 != 4 || header < IPV4_HEADER || word(quote, 6)? & FRAGMENT_OFFSET != 0 {
            return None;
        }
        let quoted = Quoted {
            local: Ipv4Addr::from(long(quote, 12)?).into(),
            peer: Ipv4Addr::from(long(quote, 16)?).into(),
            protocol: byte(quote, 9)?,
            length: word(quote, 2)?.into(),
            payload: header,
        };
        let mtu = match word(message, 6)? {
            // RFC 1191 5: a router that knows no better.
            0 => narrower(quoted.length)?,
            mtu => mtu.into(),
        };
        quoted.path(quote, mtu, IPV4_LEAST_MTU)
    }

    /// Reads an ICMPv6 message, whose checksum the kernel has verified. `None` as for IPv4.
    pub fn parse_v6(message: &[u8]) -> Option<Self> {
        let quote = message.get(ICMP_HEADER..)?;
        if byte(message, 0)? != PACKET_TOO_BIG || byte(quote, 0)? >> 4 != 6 {
            return None;
        }
        let (mut protocol, mut payload) = (byte(quote, 6)?, IPV6_HEADER);
        if protocol == FRAGMENT {
            if word(quote, payload + 2)? & 0xfff8 != 0 {
                return None;
            }
            protocol = byte(quote, payload)?;
            payload += FRAGMENT_HEADER;
        }
        let quoted = Quoted {
            local: Ipv6Addr::from(quad(quote, 8)?).into(),
            peer: Ipv6Addr::from(quad(quote, 24)?).into(),
            protocol,
            length: IPV6_HEADER + usize::from(word(quote, 4)?),
            payload,
        };
        let mtu = usize::try_from(long(message, 4)?).ok()?;
        quoted.path(quote, mtu, IPV6_LEAST_MTU)
    }
}

impl Quoted {
    fn path(&self, quote: &[u8], mtu: usize, least: usize) -> Option<NarrowPath> {
        if mtu >= self.length {
            return None;
        }
        let (encapsulation, port, esp) = match self.protocol {
            ESP => (Encapsulation::Esp, 0, self.payload),
            UDP if word(quote, self.payload)? == NAT_T_PORT => {
                let port = word(quote, self.payload + 2)?;
                (Encapsulation::Udp, port, self.payload + UDP_HEADER)
            }
            _ => return None,
        };
        let spi = long(quote, esp);
        if spi == Some(0) {
            // IKE (RFC 3948 2.2).
            return None;
        }
        let least = if spi.is_some() { least } else { IPV6_LEAST_MTU };
        Some(NarrowPath {
            local: self.local,
            peer: SocketAddr::new(self.peer, port),
            encapsulation,
            spi,
            mtu: u16::try_from(mtu.max(least)).ok()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::put;
    use crate::packet::tests::{ipv4, ipv6};
    use proptest::prelude::*;

    const SPI: u32 = 0xc0ff_ee01;

    fn udp_esp() -> Vec<u8> {
        let mut udp = vec![0x11, 0x94, 0xee, 0x48, 0, 0, 0, 0];
        udp.extend(SPI.to_be_bytes());
        udp.extend([0; 1400]);
        udp
    }

    fn esp() -> Vec<u8> {
        [&SPI.to_be_bytes()[..], &[0; 1400]].concat()
    }

    /// A message that quotes so many octets of a packet.
    fn v4(mtu: u16, packet: &[u8], octets: usize) -> Vec<u8> {
        let mut message = vec![3, 4, 0, 0, 0, 0];
        message.extend(mtu.to_be_bytes());
        message.extend(&packet[..octets]);
        let sum = Checksum::new().with(&message).finish();
        put(&mut message, 2, sum).unwrap();
        message
    }

    fn v6(mtu: u32, packet: &[u8], octets: usize) -> Vec<u8> {
        let mut message = vec![2, 0, 0, 0];
        message.extend(mtu.to_be_bytes());
        message.extend(&packet[..octets]);
        message
    }

    fn packet_v4(protocol: u8, payload: &[u8]) -> Vec<u8> {
        ipv4(protocol, [192, 0, 2, 1], [198, 51, 100, 7], payload)
    }

    #[test]
    fn both_encapsulations_of_both_families() {
        let udp = NarrowPath::parse_v4(&v4(1300, &packet_v4(UDP, &udp_esp()), 548)).unwrap();
        let expected = NarrowPath {
            local: "192.0.2.1".parse().unwrap(),
            peer: "198.51.100.7:61000".parse().unwrap(),
            encapsulation: Encapsulation::Udp,
            spi: Some(SPI),
            mtu: 1300,
        };
        assert_eq!(udp, expected);
        let plain = NarrowPath::parse_v4(&v4(1300, &packet_v4(ESP, &esp()), 28)).unwrap();
        let expected = NarrowPath {
            peer: "198.51.100.7:0".parse().unwrap(),
            encapsulation: Encapsulation::Esp,
            ..expected
        };
        assert_eq!(plain, expected);
        let plain = NarrowPath::parse_v6(&v6(1400, &ipv6(ESP, &esp()), 1232)).unwrap();
        let expected = NarrowPath {
            local: "fd00::1".parse().unwrap(),
            peer: "[fd00::2]:0".parse().unwrap(),
            mtu: 1400,
            ..expected
        };
        assert_eq!(plain, expected);
        // The kernel had cut it already.
        let fragment = [&[UDP, 0, 0, 1, 0, 0, 0, 7][..], &udp_esp()].concat();
        let udp = NarrowPath::parse_v6(&v6(1400, &ipv6(FRAGMENT, &fragment), 1232)).unwrap();
        assert_eq!((udp.peer.port(), udp.spi), (61000, Some(SPI)));
    }

    #[test]
    fn what_a_forger_can_guess_narrows_little_and_nothing_narrows_below_the_least() {
        let udp = packet_v4(UDP, &udp_esp());
        let mtu = |message: &[u8]| NarrowPath::parse_v4(message).map(|path| (path.mtu, path.spi));
        assert_eq!(mtu(&v4(68, &udp, 28)), Some((1280, None)));
        assert_eq!(mtu(&v4(1300, &udp, 28)), Some((1300, None)));
        assert_eq!(mtu(&v4(68, &udp, 32)), Some((576, Some(SPI))));
        let v6 = NarrowPath::parse_v6(&v6(68, &ipv6(ESP, &esp()), 48)).unwrap();
        assert_eq!(v6.mtu, 1280);
    }

    #[test]
    fn a_router_that_does_not_say_how_much_means_the_next_usual_width() {
        let path = NarrowPath::parse_v4(&v4(0, &packet_v4(UDP, &udp_esp()), 548)).unwrap();
        assert_eq!(path.mtu, 1400);
    }

    #[test]
    fn other_messages_say_nothing() {
        let udp = packet_v4(UDP, &udp_esp());
        let good = v4(1300, &udp, 548);
        let mut ike = udp.clone();
        ike[28..32].fill(0);
        let mut other_port = udp.clone();
        other_port[21] = 0;
        let mut later = udp.clone();
        later[7] = 9;
        let mut broken = good.clone();
        broken[7] ^= 1;
        let mut unreachable = good.clone();
        unreachable[1] = 3;
        let wide = v4(1432, &udp, 548);
        for message in [
            v4(1300, &ike, 548),
            v4(1300, &other_port, 548),
            v4(1300, &later, 548),
            broken,
            unreachable,
            wide,
        ] {
            assert_eq!(NarrowPath::parse_v4(&message), None);
        }
        assert!((0..32).all(|length| NarrowPath::parse_v4(&v4(1300, &udp, 548)[..length]).is_none()));
        assert_eq!(NarrowPath::parse_v6(&good), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(mut data in proptest::collection::vec(any::<u8>(), 0..120), checked: bool) {
            crate::fuzz::path(&data);
            if checked && data.len() > 30 {
                data[..2].copy_from_slice(&FRAGMENTATION_NEEDED);
                data[8] = 0x45;
                put(&mut data, 2, [0, 0]);
                let sum = Checksum::new().with(&data).finish();
                put(&mut data, 2, sum);
                crate::fuzz::path(&data);
                data[0] = PACKET_TOO_BIG;
                data[8] = 0x60;
                crate::fuzz::path(&data);
            }
        }
    }
}

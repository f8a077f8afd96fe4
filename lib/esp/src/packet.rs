//! The inner packet: what the data plane has to know of it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::bytes::{byte, long, put, quad, word};
use crate::checksum::Checksum;

/// Next-header value of an IPv4 packet inside ESP.
pub const IPV4: u8 = 4;
/// Next-header value of an IPv6 packet inside ESP.
pub const IPV6: u8 = 41;
/// Next-header value of a dummy packet (RFC 4303 2.6).
pub const NO_NEXT_HEADER: u8 = 59;

pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
pub(crate) const ICMP: u8 = 1;
pub(crate) const ICMPV6: u8 = 58;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
const MOBILITY: u8 = 135;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
pub(crate) const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

pub(crate) const IPV4_HEADER: usize = 20;
pub(crate) const IPV6_HEADER: usize = 40;
/// More extension headers than any honest sender uses.
const MOST_EXTENSIONS: usize = 8;

pub(crate) const DONT_FRAGMENT: u16 = 0x4000;
pub(crate) const MORE_FRAGMENTS: u16 = 0x2000;
pub(crate) const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Source and destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Of an IPv4 packet.
    V4 {
        /// Source address.
        source: u32,
        /// Destination address.
        destination: u32,
    },
    /// Of an IPv6 packet.
    V6 {
        /// Source address.
        source: u128,
        /// Destination address.
        destination: u128,
    },
}

impl Addresses {
    /// The source address.
    pub fn source(&self) -> IpAddr {
        match *self {
            Self::V4 { source, .. } => Ipv4Addr::from(source).into(),
            Self::V6 { source, .. } => Ipv6Addr::from(source).into(),
        }
    }

    /// The destination address.
    pub fn destination(&self) -> IpAddr {
        match *self {
            Self::V4 { destination, .. } => Ipv4Addr::from(destination).into(),
            Self::V6 { destination, .. } => Ipv6Addr::from(destination).into(),
        }
    }
}

/// An IP packet's headers, checked against its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Source and destination.
    pub addresses: Addresses,
    /// Length by its own header, in bytes; what follows is padding (RFC 4303 2.7).
    pub length: usize,
    /// Where the upper-layer header begins.
    pub upper: usize,
    /// The upper-layer protocol.
    pub protocol: u8,
    /// Source and destination port; type and code (in one number, twice) for ICMP; `None` when there are none to see: another protocol, a fragment but
    /// not the first, or too short.
    pub ports: Option<(u16, u16)>,
    /// Type of service or traffic class.
    pub traffic_class: u8,
    /// The sender forbids fragmentation on the way: DF, or IPv6.
    pub dont_fragment: bool,
    /// It is a fragment, whichever.
    pub is_fragment: bool,
}

impl Packet {
    /// Reads the headers. `None` when it is no IP packet, or cut anywhere from its header to its stated end.
    #[inline]
    pub fn parse(data: &[u8]) -> Option<Self> {
        match byte(data, 0)? >> 4 {
            4 => Self::parse_v4(data),
            6 => Self::parse_v6(data),
            _ => None,
        }
    }

    /// Its IP version as ESP's next-header field has it.
    pub fn next_header(&self) -> u8 {
        match self.addresses {
            Addresses::V4 { .. } => IPV4,
            Addresses::V6 { .. } => IPV6,
        }
    }

    #[inline]
    fn parse_v4(data: &[u8]) -> Option<Self> {
        let upper = usize::from(byte(data, 0)? & 0xf) * 4;
        let length = usize::from(word(data, 2)?);
        let fragment = word(data, 6)?;
        if upper < IPV4_HEADER || length < upper || length > data.len() {
            return None;
        }
        let protocol = byte(data, 9)?;
        let payload = data.get(upper..length)?;
        Some(Self {
            addresses: Addresses::V4 {
                source: long(data, 12)?,
                destination: long(data, 16)?,
            },
            length,
            upper,
            protocol,
            ports: if fragment & FRAGMENT_OFFSET == 0 {
                ports(protocol, payload)
            } else {
                None
            },
            traffic_class: byte(data, 1)?,
            dont_fragment: fragment & DONT_FRAGMENT != 0,
            is_fragment: fragment & (MORE_FRAGMENTS | FRAGMENT_OFFSET) != 0,
        })
    }

    fn parse_v6(data: &[u8]) -> Option<Self> {
        let length = IPV6_HEADER + usize::from(word(data, 4)?);
        let data = data.get(..length)?;
        let (mut protocol, mut upper) = (byte(data, 6)?, IPV6_HEADER);
        let (mut is_fragment, mut is_first) = (false, true);
        for _ in 0..MOST_EXTENSIONS {
            match protocol {
                HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS => {
                    protocol = byte(data, upper)?;
                    upper += 8 + usize::from(byte(data, upper + 1)?) * 8;
                }
                FRAGMENT => {
                    protocol = byte(data, upper)?;
                    is_first = word(data, upper + 2)? & 0xfff8 == 0;
                    is_fragment = true;
                    upper += 8;
                    if !is_first {
                        // What follows is the middle of something.
                        break;
                    }
                }
                _ => break,
            }
        }
        let payload = data.get(upper..)?;
        Some(Self {
            addresses: Addresses::V6 {
                source: quad(data, 8)?,
                destination: quad(data, 24)?,
            },
            length,
            upper,
            protocol,
            ports: if is_first { ports(protocol, payload) } else { None },
            traffic_class: (word(data, 0)? >> 4) as u8,
            dont_fragment: true,
            is_fragment,
        })
    }
}

/// Where a packet goes, if it is IP at all: nothing else of it is looked at.
pub fn destination_of(data: &[u8]) -> Option<IpAddr> {
    match byte(data, 0)? >> 4 {
        4 => Some(Ipv4Addr::from(long(data, 16)?).into()),
        6 => Some(Ipv6Addr::from(quad(data, 24)?).into()),
        _ => None,
    }
}

/// The numbers that selectors look at (RFC 4301 4.4.1.1).
fn ports(protocol: u8, payload: &[u8]) -> Option<(u16, u16)> {
    match protocol {
        TCP | UDP | DCCP | SCTP | UDP_LITE => Some((word(payload, 0)?, word(payload, 2)?)),
        ICMP | ICMPV6 => word(payload, 0).map(|type_and_code| (type_and_code, type_and_code)),
        // The message type is the third byte of the mobility header; it goes where ICMP's type does.
        MOBILITY => byte(payload, 2).map(|kind| (u16::from(kind) << 8, u16::from(kind) << 8)),
        _ => None,
    }
}

/// Writes a traffic class into an IP header (and brings its checksum up to date, for IPv4). Nothing happens to what is no IP header.
pub(crate) fn set_traffic_class(data: &mut [u8], class: u8) -> Option<()> {
    match byte(data, 0)? >> 4 {
        4 => {
            let before = word(data, 0)?;
            put(data, 1, [class])?;
            // RFC 1624: what was wrong stays wrong, for the receiver to see.
            let sum = Checksum::new()
                .with_word(!word(data, 10)?)
                .with_word(!before)
                .with_word(word(data, 0)?);
            put(data, 10, sum.finish())
        }
        6 => {
            let first = word(data, 0)? & 0xf00f | u16::from(class) << 4;
            put(data, 0, first.to_be_bytes())
        }
        _ => None,
    }
}

/// Writes the checksum of an IPv4 header, which may have options.
pub(crate) fn finish_ipv4_header(data: &mut [u8]) -> Option<()> {
    let length = usize::from(byte(data, 0)? & 0xf) * 4;
    put(data, 10, [0, 0])?;
    let sum = Checksum::new().with(data.get(..length)?).finish();
    put(data, 10, sum)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An IPv4 packet with a correct header checksum.
    pub(crate) fn ipv4(protocol: u8, source: [u8; 4], destination: [u8; 4], payload: &[u8]) -> Vec<u8> {
        let length = (IPV4_HEADER + payload.len()) as u16;
        let mut packet = vec![0x45, 0];
        packet.extend(length.to_be_bytes());
        packet.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
        packet.extend(source);
        packet.extend(destination);
        finish_ipv4_header(&mut packet).unwrap();
        packet.extend(payload);
        packet
    }

    /// An IPv6 packet between fd00::1 and fd00::2.
    pub(crate) fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend((payload.len() as u16).to_be_bytes());
        packet.extend([next, 64]);
        packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1).octets());
        packet.extend(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2).octets());
        packet.extend(payload);
        packet
    }

    #[test]
    fn ipv4_fields() {
        let mut data = ipv4(
            UDP,
            [10, 0, 0, 1],
            [10, 0, 0, 2],
            &[0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0],
        );
        data.extend([0; 7]);
        let packet = Packet::parse(&data).unwrap();
        assert_eq!(packet.addresses.source(), Ipv4Addr::new(10, 0, 0, 1));
        assert_eq!(packet.addresses.destination(), Ipv4Addr::new(10, 0, 0, 2));
        assert_eq!(destination_of(&data), Some(packet.addresses.destination()));
        assert_eq!(
            (packet.length, packet.upper, packet.protocol),
            (28, 20, UDP),
            "padding is not counted"
        );
        assert_eq!(packet.ports, Some((0x1234, 0x5678)));
        assert!(!packet.dont_fragment && !packet.is_fragment);

        put(&mut data, 6, (DONT_FRAGMENT).to_be_bytes()).unwrap();
        assert!(Packet::parse(&data).unwrap().dont_fragment);
        put(&mut data, 6, MORE_FRAGMENTS.to_be_bytes()).unwrap();
        let first = Packet::parse(&data).unwrap();
        assert!(first.is_fragment && first.ports.is_some());
        put(&mut data, 6, 5u16.to_be_bytes()).unwrap();
        let later = Packet::parse(&data).unwrap();
        assert!(later.is_fragment && later.ports.is_none());
    }

    #[test]
    fn ipv6_fields_behind_extension_headers() {
        let udp = [0x12, 0x34, 0x56, 0x78, 0, 8, 0, 0];
        let hop_by_hop = [ROUTING, 0, 0, 0, 0, 0, 0, 0];
        let routing = [FRAGMENT, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let fragment = [UDP, 0, 0, 1, 0, 0, 0, 9];
        let chain =
            |fragment: [u8; 8]| ipv6(HOP_BY_HOP, &[&hop_by_hop[..], &routing, &fragment, &udp].concat());
        let packet = Packet::parse(&chain(fragment)).unwrap();
        assert_eq!(
            (packet.protocol, packet.upper, packet.ports),
            (UDP, 72, Some((0x1234, 0x5678)))
        );
        assert!(packet.is_fragment && packet.dont_fragment);
        let later = Packet::parse(&chain([UDP, 0, 0, 9, 0, 0, 0, 9])).unwrap();
        assert_eq!((later.protocol, later.ports), (UDP, None));

        let plain = ipv6(ICMPV6, &[128, 0, 0, 0]);
        let destination = destination_of(&plain);
        let plain = Packet::parse(&plain).unwrap();
        assert_eq!(destination, Some(plain.addresses.destination()));
        assert_eq!(
            (plain.ports, plain.is_fragment, plain.next_header()),
            (Some((0x8000, 0x8000)), false, IPV6)
        );
    }

    #[test]
    fn cut_packets_are_refused() {
        let whole = ipv4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], &[0; 20]);
        assert!((0..whole.len()).all(|n| Packet::parse(&whole[..n]).is_none()));
        let whole = ipv6(TCP, &[0; 20]);
        assert!((0..whole.len()).all(|n| Packet::parse(&whole[..n]).is_none()));
        let mut short_header = ipv4(TCP, [10, 0, 0, 1], [10, 0, 0, 2], &[0; 20]);
        short_header[0] = 0x44;
        assert_eq!(Packet::parse(&short_header), None);
        short_header[0] = 0x4f;
        assert_eq!(Packet::parse(&short_header), None);
        assert_eq!(Packet::parse(&[0x50; 60]), None);
    }

    #[test]
    fn traffic_class_is_replaced() {
        let mut v4 = ipv4(UDP, [10, 0, 0, 1], [10, 0, 0, 2], &[]);
        set_traffic_class(&mut v4, 0xb9).unwrap();
        assert_eq!(Packet::parse(&v4).unwrap().traffic_class, 0xb9);
        assert!(Checksum::new().with(&v4[..20]).is_valid());
        v4[8] ^= 1;
        set_traffic_class(&mut v4, 0x03).unwrap();
        assert!(!Checksum::new().with(&v4[..20]).is_valid(), "it was wrong before");
        let mut v6 = ipv6(UDP, &[]);
        v6[1] |= 0x05;
        set_traffic_class(&mut v6, 0xb9).unwrap();
        assert_eq!(Packet::parse(&v6).unwrap().traffic_class, 0xb9);
        assert_eq!(v6[..4], [0x6b, 0x95, 0, 0], "version and flow label stay");
    }

    proptest! {
        #[test]
        fn a_checksum_brought_up_to_date_is_the_one_of_the_whole(header in proptest::collection::vec(any::<u8>(), 20), class: u8) {
            let mut header = header;
            header[0] = 0x45;
            finish_ipv4_header(&mut header).unwrap();
            set_traffic_class(&mut header, class).unwrap();
            let updated = header.clone();
            finish_ipv4_header(&mut header).unwrap();
            prop_assert_eq!(updated, header);
        }

        #[test]
        fn any_bytes_are_read_without_panic(mut data in proptest::collection::vec(any::<u8>(), 0..200), version in prop_oneof![Just(4u8), Just(6)], truthful: bool) {
            if let Some(first) = data.first_mut() {
                *first = version << 4 | *first & 0xf;
            }
            if truthful && data.len() > 40 {
                let length = data.len() as u16;
                if version == 4 { put(&mut data, 2, length.to_be_bytes()) } else { put(&mut data, 4, (length - 40).to_be_bytes()) };
            }
            if let Some(packet) = Packet::parse(&data) {
                prop_assert!(packet.upper <= packet.length && packet.length <= data.len());
            }
        }
    }
}

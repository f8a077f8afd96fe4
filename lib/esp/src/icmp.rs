//! Telling a sender that its packet is too long: ICMP fragmentation needed (RFC 1191), ICMPv6 Packet Too Big (RFC 4443 3.2).

use crate::bytes::{byte, put, word};
use crate::checksum::{Checksum, pseudo_header};
use crate::packet::{
    Addresses, FRAGMENT_OFFSET, ICMP, ICMPV6, IPV4_HEADER, IPV6_HEADER, Packet, finish_ipv4_header,
};

/// Longest messages: what every host takes (RFC 1812 4.3.2.3, RFC 4443 2.4).
const MOST_V4: usize = 576;
const MOST_V6: usize = 1280;
const ICMP_HEADER: usize = 8;
const HOP_LIMIT: u8 = 64;
/// Room that every message fits in, in bytes.
pub const MOST_BYTES: usize = MOST_V6;

/// Writes the message that answers `data`, of which only `mtu` bytes fit, and returns its length.
///
/// It comes from the address that the packet was for, as the tunnel has none of its own on the clear side, and the sender's network lets
/// packets from there in. `None` when the RFCs forbid an answer (to ICMP errors, later fragments of IPv4, multicast), or `out` is shorter than
/// [`MOST_BYTES`].
pub fn too_big(data: &[u8], packet: &Packet, mtu: u16, out: &mut [u8]) -> Option<usize> {
    let data = data.get(..packet.length)?;
    // RFC 1122 3.2.2, RFC 4443 2.4 (e).
    if is_icmp_error(data, packet) {
        return None;
    }
    match packet.addresses {
        Addresses::V4 { source, destination } => {
            let is_first = word(data, 6)? & FRAGMENT_OFFSET == 0;
            if !is_first || !is_unicast_v4(source) || !is_unicast_v4(destination) {
                return None;
            }
            let quoted = data.get(..data.len().min(MOST_V4 - IPV4_HEADER - ICMP_HEADER))?;
            let length = IPV4_HEADER + ICMP_HEADER + quoted.len();
            let out = out.get_mut(..length)?;
            let (header, message) = out.split_at_mut(IPV4_HEADER);
            header.fill(0);
            put(header, 0, [0x45, 0xc0])?;
            put(header, 2, u16::try_from(length).ok()?.to_be_bytes())?;
            put(header, 8, [HOP_LIMIT, ICMP])?;
            put(header, 12, destination.to_be_bytes())?;
            put(header, 16, source.to_be_bytes())?;
            finish_ipv4_header(header)?;
            write_message(message, [3, 4], mtu.into(), quoted)?;
            let sum = Checksum::new().with(message).finish();
            put(message, 2, sum)?;
            Some(length)
        }
        Addresses::V6 { source, destination } => {
            // Multicast destinations do get this one (RFC 4443 2.4 (e.3)), but from a unicast address, which we do not have.
            if source == 0 || source >> 120 == 0xff || destination >> 120 == 0xff {
                return None;
            }
            let quoted = data.get(..data.len().min(MOST_V6 - IPV6_HEADER - ICMP_HEADER))?;
            let length = IPV6_HEADER + ICMP_HEADER + quoted.len();
            let out = out.get_mut(..length)?;
            let (header, message) = out.split_at_mut(IPV6_HEADER);
            header.fill(0);
            put(header, 0, [0x60])?;
            put(header, 4, u16::try_from(message.len()).ok()?.to_be_bytes())?;
            put(header, 6, [ICMPV6, HOP_LIMIT])?;
            put(header, 8, destination.to_be_bytes())?;
            put(header, 24, source.to_be_bytes())?;
            write_message(message, [2, 0], mtu.into(), quoted)?;
            let sum = pseudo_header(header.get(8..)?, ICMPV6, u32::try_from(message.len()).ok()?);
            let sum = sum.with(message).finish();
            put(message, 2, sum)?;
            Some(length)
        }
    }
}

fn write_message(message: &mut [u8], type_and_code: [u8; 2], mtu: u32, quoted: &[u8]) -> Option<()> {
    let (header, body) = message.split_at_mut_checked(ICMP_HEADER)?;
    header.fill(0);
    put(header, 0, type_and_code)?;
    put(header, 4, mtu.to_be_bytes())?;
    body.copy_from_slice(quoted);
    Some(())
}

fn is_icmp_error(data: &[u8], packet: &Packet) -> bool {
    let kind = byte(data, packet.upper);
    // A later fragment does not tell.
    let is_hidden = packet.is_fragment && packet.ports.is_none();
    match packet.protocol {
        // Unreachable, source quench, redirect, time exceeded, parameter problem.
        ICMP => matches!(kind, None | Some(3 | 4 | 5 | 11 | 12)),
        ICMPV6 => is_hidden || kind.is_none_or(|kind| kind < 128),
        _ => false,
    }
}

fn is_unicast_v4(address: u32) -> bool {
    let first = address >> 24;
    first != 0 && first != 127 && first < 224
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::{ipv4, ipv6};
    use crate::packet::{FRAGMENT, TCP, UDP};

    fn answer(data: &[u8], mtu: u16) -> Option<Vec<u8>> {
        let mut out = [0xaa; MOST_BYTES];
        let length = too_big(data, &Packet::parse(data)?, mtu, &mut out)?;
        Some(out[..length].to_vec())
    }

    #[test]
    fn fragmentation_needed() {
        let data = ipv4(TCP, [10, 0, 0, 1], [10, 9, 0, 2], &[7; 1400]);
        let message = answer(&data, 1438).unwrap();
        let packet = Packet::parse(&message).unwrap();
        assert_eq!((packet.length, packet.protocol), (576, ICMP));
        assert_eq!(packet.addresses.source().to_string(), "10.9.0.2");
        assert_eq!(packet.addresses.destination().to_string(), "10.0.0.1");
        assert!(Checksum::new().with(&message[..20]).is_valid());
        assert!(Checksum::new().with(&message[20..]).is_valid());
        assert_eq!(message[20..22], [3, 4]);
        assert_eq!(message[24..28], [0, 0, 0x05, 0x9e]);
        assert_eq!(message[28..], data[..576 - 28]);
    }

    #[test]
    fn packet_too_big() {
        let data = ipv6(UDP, &[7; 1400]);
        let message = answer(&data, 1418).unwrap();
        let packet = Packet::parse(&message).unwrap();
        assert_eq!((packet.length, packet.protocol), (1280, ICMPV6));
        assert_eq!(packet.addresses.destination().to_string(), "fd00::1");
        assert_eq!(message[40..42], [2, 0]);
        assert_eq!(message[44..48], 1418u32.to_be_bytes());
        let sum = pseudo_header(&message[8..40], ICMPV6, 1240).with(&message[40..]);
        assert!(sum.is_valid());
        assert_eq!(message[48..], data[..1280 - 48]);
    }

    #[test]
    fn fragments_are_answered_where_they_may_be() {
        let fragment = |protocol, offset: u16| {
            let header = [
                &[protocol, 0][..],
                &(offset << 3 | 1).to_be_bytes(),
                &[0, 0, 0, 7],
            ]
            .concat();
            ipv6(FRAGMENT, &[&header[..], &[1; 1400]].concat())
        };
        // Of ESP inside, which has no ports to see, and of any protocol.
        for data in [
            fragment(50, 0),
            fragment(50, 9),
            fragment(UDP, 0),
            fragment(UDP, 9),
        ] {
            assert!(answer(&data, 1280).is_some());
        }
        assert_eq!(answer(&fragment(ICMPV6, 9), 1280), None, "it may be an error");
        let mut first = ipv4(50, [10, 0, 0, 1], [10, 9, 0, 2], &[1; 1400]);
        first[6] = 0x60;
        assert!(answer(&first, 1000).is_some());
    }

    #[test]
    fn no_answer_where_none_may_be() {
        let later_fragment = {
            let mut data = ipv4(UDP, [10, 0, 0, 1], [10, 9, 0, 2], &[0; 100]);
            data[7] = 1;
            data
        };
        for data in [
            later_fragment,
            ipv4(UDP, [10, 0, 0, 1], [224, 0, 0, 1], &[0; 100]),
            ipv4(UDP, [0, 0, 0, 0], [10, 9, 0, 2], &[0; 100]),
            ipv4(ICMP, [10, 0, 0, 1], [10, 9, 0, 2], &[3; 100]),
            ipv6(ICMPV6, &[1; 100]),
        ] {
            assert_eq!(answer(&data, 1000), None);
        }
        assert!(answer(&ipv4(ICMP, [10, 0, 0, 1], [10, 9, 0, 2], &[8; 100]), 1000).is_some());
        assert!(answer(&ipv6(ICMPV6, &[128; 100]), 1000).is_some());
    }
}

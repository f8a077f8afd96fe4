//! The numbered packets inside the tunnels: IPv4, UDP, `tunnel (4) | number (8) | padding`.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;

const IPV4_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const MARK: usize = 12;
/// Octets in front of the payload.
pub(crate) const HEADERS: usize = IPV4_HEADER + UDP_HEADER;
/// The smallest inner packet.
pub(crate) const SMALLEST: usize = HEADERS + MARK;
/// Lengths of inner packets that can be asked for: they must fit into the path's 1500 octets when sealed.
pub(crate) const LENGTHS: RangeInclusive<i64> = SMALLEST as i64..=1420;
const UDP: u8 = 17;
const DONT_FRAGMENT: u8 = 0x40;
const TTL: u8 = 64;

/// The packet of a tunnel, to be numbered: all of its packets are alike but for the number.
#[derive(Debug, Clone)]
pub(crate) struct Template(Vec<u8>);

impl Template {
    /// A packet of `length` octets from `source` to `destination`, of tunnel `tunnel`.
    pub(crate) fn new(source: SocketAddrV4, destination: SocketAddrV4, length: usize, tunnel: u32) -> Self {
        let mut packet = vec![0; length.clamp(SMALLEST, usize::from(u16::MAX))];
        write_headers(&mut packet, source, destination);
        packet[HEADERS..HEADERS + 4].copy_from_slice(&tunnel.to_be_bytes());
        Self(packet)
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Writes packet `number` into `out`, which is as long as the packet.
    pub(crate) fn write(&self, number: u64, out: &mut [u8]) {
        out.copy_from_slice(&self.0);
        out[HEADERS + 4..HEADERS + MARK].copy_from_slice(&number.to_be_bytes());
    }
}

/// Whose echo an inner packet is: the tunnel and the number. `None` for anything else.
pub(crate) fn read(packet: &[u8], destination: Ipv4Addr) -> Option<(u32, u64)> {
    let header = packet.get(..HEADERS)?;
    let ours = header[0] == 0x45 && header[9] == UDP && header[16..20] == destination.octets();
    let mark: &[u8; MARK] = packet.get(HEADERS..)?.first_chunk()?;
    let (tunnel, number) = mark.split_first_chunk::<4>()?;
    ours.then_some((
        u32::from_be_bytes(*tunnel),
        u64::from_be_bytes(number.try_into().ok()?),
    ))
}

/// The payload of an IPv4 packet without options that carries UDP. `None` for anything else.
pub(crate) fn payload(packet: &[u8]) -> Option<&[u8]> {
    let (header, payload) = packet.split_first_chunk::<HEADERS>()?;
    (header[0] == 0x45 && header[9] == UDP).then_some(payload)
}

/// Writes the IPv4 and UDP headers of a packet, which has room for them in front.
pub(crate) fn write_headers(packet: &mut [u8], source: SocketAddrV4, destination: SocketAddrV4) {
    let total = u16::try_from(packet.len()).unwrap_or(u16::MAX);
    let Some(header) = packet.first_chunk_mut::<HEADERS>() else {
        return;
    };
    *header = [0; HEADERS];
    header[0] = 0x45;
    header[2..4].copy_from_slice(&total.to_be_bytes());
    header[6] = DONT_FRAGMENT;
    header[8] = TTL;
    header[9] = UDP;
    header[12..16].copy_from_slice(&source.ip().octets());
    header[16..20].copy_from_slice(&destination.ip().octets());
    let sum = checksum(&header[..IPV4_HEADER]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    header[20..22].copy_from_slice(&source.port().to_be_bytes());
    header[22..24].copy_from_slice(&destination.port().to_be_bytes());
    // UDP over IPv4 may go without checksum: what is inside protects itself.
    header[24..26].copy_from_slice(&(total - IPV4_HEADER as u16).to_be_bytes());
}

/// RFC 1071.
fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_read_as_it_was_written() {
        let (source, destination) = (
            "10.64.0.7:4000".parse().unwrap(),
            "172.16.0.10:7".parse().unwrap(),
        );
        let template = Template::new(source, destination, 100, 7);
        let mut packet = vec![0; template.len()];
        template.write(123_456_789_012, &mut packet);
        assert_eq!(checksum(&packet[..IPV4_HEADER]), 0);
        assert_eq!(read(&packet, *destination.ip()), Some((7, 123_456_789_012)));
        assert_eq!(read(&packet, *source.ip()), None);
        assert_eq!(read(&packet[..30], *destination.ip()), None);
    }
}

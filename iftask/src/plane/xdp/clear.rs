//! Packets of the clear side in Ethernet frames: the little of forwarding that the kernel does otherwise.
//!
//! Only frames come here that the kernel would have forwarded, and only to hosts does anything leave that frames came from: see `netio`'s program.

use std::net::IpAddr;

use esp::VnetHeader;
use netio::{XDP_CLEAR_TYPE, sum_words};

use super::frame::{ETHERNET, Header, SHORTEST, TYPE_IPV4, TYPE_IPV6, UDP, Way, fold, is_forwarded, parse};

/// Where the first octet stands of what a TUN would have given: the place of the Ethernet header is as good.
const READ: usize = ETHERNET - VnetHeader::BYTES;
/// Of the type of a frame.
const TYPE_AT: usize = 12;
const TCP: u8 = 6;
const TCP_CHECKSUM_AT: usize = 16;
const UDP_CHECKSUM_AT: usize = 6;
const IPV4_TTL_AT: usize = 8;
const IPV4_CHECKSUM_AT: usize = 10;
const IPV4_ADDRESSES_AT: usize = 12;
const IPV6_HOPS_AT: usize = 7;
const IPV6_ADDRESSES_AT: usize = 8;

/// A frame that came.
pub(super) struct Came<'p> {
    /// Who sent the packet, and the way that leads there.
    pub(super) source: IpAddr,
    pub(super) way: Way,
    /// As a TUN would have given it: a virtio-net header and the packet.
    pub(super) read: &'p mut [u8],
}

/// Whether a frame is one that `netio`'s program took for the clear side, and nothing else that came by the same queue.
pub(super) fn is_clear(frame: &[u8]) -> bool {
    frame.get(TYPE_AT..ETHERNET) == Some(&XDP_CLEAR_TYPE.to_be_bytes())
}

/// Takes a packet one hop on, out of its frame; `None` when its header is broken, or it must not go on.
pub(super) fn take(frame: &mut [u8]) -> Option<Came<'_>> {
    let is_v4 = frame.get(ETHERNET)? >> 4 == 4;
    frame
        .get_mut(TYPE_AT..ETHERNET)?
        .copy_from_slice(if is_v4 { &TYPE_IPV4 } else { &TYPE_IPV6 });
    let (way, packet, header) = parse(frame)?;
    let (source, destination, _, protocol, upper, length) = header;
    if !is_forwarded(source) || !is_forwarded(destination) {
        return None;
    }
    let checksum = missing_checksum(packet.get(..length)?, protocol, upper, source.is_ipv4());
    let packet = frame.get_mut(ETHERNET..ETHERNET + length)?;
    if let Some((at, checksum)) = checksum {
        packet.get_mut(at..at + 2)?.copy_from_slice(&checksum);
    }
    go_on(packet)?;
    let read = frame.get_mut(READ..ETHERNET + length)?;
    let (header, _) = read.split_first_chunk_mut::<{ VnetHeader::BYTES }>()?;
    *header = VnetHeader::default().to_bytes();
    Some(Came { source, way, read })
}

/// The checksum of TCP or UDP that a sender left to its device, and where it goes. A veth hands frames over without it, with the sum of the pseudo-header in its
/// place; no wire does.
fn missing_checksum(packet: &[u8], protocol: u8, upper: usize, is_v4: bool) -> Option<(usize, [u8; 2])> {
    let place = match protocol {
        TCP => TCP_CHECKSUM_AT,
        UDP => UDP_CHECKSUM_AT,
        _ => return None,
    };
    let addresses = if is_v4 {
        IPV4_ADDRESSES_AT
    } else {
        IPV6_ADDRESSES_AT
    };
    let inside = packet.get(upper..)?;
    let field = u16::from_ne_bytes(*inside.get(place..)?.first_chunk()?);
    let [l0, l1] = u16::try_from(inside.len()).ok()?.to_be_bytes();
    let pseudo = sum_words(packet.get(addresses..upper)?) + sum_words(&[0, protocol, l0, l1]);
    // Of an honest checksum that is so once in 65,536 times.
    if field != fold(pseudo) {
        return None;
    }
    let sum = sum_words(inside);
    if fold(pseudo + sum) == u16::MAX {
        return None;
    }
    let checksum = match !fold(sum) {
        0 => u16::MAX,
        checksum => checksum,
    };
    Some((upper + place, checksum.to_ne_bytes()))
}

/// Counts a hop; `None` when there are none left.
fn go_on(packet: &mut [u8]) -> Option<()> {
    let is_v4 = packet.first()? >> 4 == 4;
    let hops = packet.get_mut(if is_v4 { IPV4_TTL_AT } else { IPV6_HOPS_AT })?;
    if *hops < 2 {
        return None;
    }
    *hops -= 1;
    if is_v4 {
        let checksum = packet.get_mut(IPV4_CHECKSUM_AT..)?.first_chunk_mut()?;
        // RFC 1624: what the header has less, the checksum has more.
        let sum = u32::from(u16::from_be_bytes(*checksum)) + 0x100;
        *checksum = ((sum + u32::from(sum >= 0xffff)) as u16).to_be_bytes();
    }
    Some(())
}

/// A packet that may leave to a host.
pub(super) struct Leaving<'p> {
    pub(super) source: IpAddr,
    pub(super) destination: IpAddr,
    packet: &'p [u8],
}

impl<'p> Leaving<'p> {
    /// Looks at a packet that came out of a tunnel; `None` when the kernel is to see it: it has options or extension headers, is a fragment, has no hop left, or
    /// an address that no host has.
    pub(super) fn parse(packet: &'p [u8]) -> Option<Self> {
        let (source, destination, _, protocol, _, length): Header = super::frame::parse_packet(packet)?;
        let hops = match destination {
            IpAddr::V4(_) => packet.get(IPV4_TTL_AT)?,
            // RFC 8200 4: what follows the header may concern routers.
            IpAddr::V6(_) if matches!(protocol, 0 | 43 | 44 | 60) => return None,
            IpAddr::V6(_) => packet.get(IPV6_HOPS_AT)?,
        };
        (*hops > 1 && is_forwarded(source) && is_forwarded(destination)).then_some(Self {
            source,
            destination,
            packet: packet.get(..length)?,
        })
    }

    /// Octets of the IP packet.
    pub(super) fn length(&self) -> usize {
        self.packet.len()
    }

    /// Writes its frame, one hop on; returns the length. `None` when there is no room.
    pub(super) fn write(&self, way: Way, room: &mut [u8]) -> Option<usize> {
        let end = ETHERNET + self.packet.len();
        let (frame, rest) = room.split_at_mut_checked(end)?;
        let padding = SHORTEST.saturating_sub(end);
        rest.get_mut(..padding)?.fill(0);
        let (ethernet, packet) = frame.split_first_chunk_mut::<ETHERNET>()?;
        way.write(ethernet, self.destination.is_ipv4());
        packet.copy_from_slice(self.packet);
        go_on(packet)?;
        Some(end + padding)
    }
}

#[cfg(test)]
mod tests {
    use esp::Packet;

    use super::*;

    const WAY: Way = Way {
        ours: [2, 0, 0, 0, 0, 1],
        neighbour: [2, 0, 0, 0, 0, 2],
    };

    /// A datagram between hosts, with its checksums, and no frame around it.
    fn datagram(is_v4: bool) -> Vec<u8> {
        let mut packet = if is_v4 {
            let mut header = vec![
                0x45, 0, 0, 33, 0, 1, 0, 0, 64, UDP, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7,
            ];
            let checksum = !fold(sum_words(&header));
            header[10..12].copy_from_slice(&checksum.to_ne_bytes());
            header
        } else {
            let mut header = vec![0x60, 0, 0, 0, 0, 13, UDP, 64];
            header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
            header.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
            header
        };
        let upper = packet.len();
        packet.extend([4, 0, 0, 9, 0, 13, 0, 0]);
        packet.extend(b"hello");
        let from = if is_v4 {
            IPV4_ADDRESSES_AT
        } else {
            IPV6_ADDRESSES_AT
        };
        let pseudo = sum_words(&packet[from..upper]) + sum_words(&[0, UDP, 0, 13]);
        let checksum = !fold(pseudo + sum_words(&packet[upper..]));
        packet[upper + 6..upper + 8].copy_from_slice(&checksum.to_ne_bytes());
        packet
    }

    fn framed(packet: &[u8]) -> Vec<u8> {
        let mut frame = [0; ETHERNET];
        WAY.write(&mut frame, packet[0] >> 4 == 4);
        let mut frame = frame.to_vec();
        frame.extend(packet);
        frame.resize(frame.len().max(SHORTEST), 0xaa);
        frame
    }

    #[test]
    fn a_packet_is_taken_one_hop_on() {
        for is_v4 in [true, false] {
            let packet = datagram(is_v4);
            let mut frame = framed(&packet);
            let came = take(&mut frame).unwrap();
            // Seen from the other end.
            assert_eq!((came.way.ours, came.way.neighbour), (WAY.neighbour, WAY.ours));
            assert_eq!(came.read[..VnetHeader::BYTES], VnetHeader::default().to_bytes());
            let read = &came.read[VnetHeader::BYTES..];
            assert_eq!(read.len(), packet.len(), "no padding");
            assert_eq!(came.source, Packet::parse(read).unwrap().addresses.source());
            if is_v4 {
                assert_eq!(fold(sum_words(&read[..20])), u16::MAX);
                assert_eq!((read[8], &read[12..]), (63, &packet[12..]));
            } else {
                assert_eq!((read[7], &read[8..]), (63, &packet[8..]));
            }
        }
    }

    #[test]
    fn a_checksum_that_was_left_to_the_device_is_completed() {
        for (is_v4, upper) in [(true, 20), (false, 40)] {
            let good = datagram(is_v4);
            let mut partial = good.clone();
            let from = if is_v4 {
                IPV4_ADDRESSES_AT
            } else {
                IPV6_ADDRESSES_AT
            };
            let pseudo = fold(sum_words(&good[from..upper]) + sum_words(&[0, UDP, 0, 13]));
            partial[upper + 6..upper + 8].copy_from_slice(&pseudo.to_ne_bytes());
            let mut frame = framed(&partial);
            let came = take(&mut frame).unwrap();
            assert_eq!(came.read[VnetHeader::BYTES + upper..], good[upper..]);
            // One that is wrong is for the receiver to find.
            let mut wrong = good.clone();
            wrong[upper + 6] ^= 1;
            let mut frame = framed(&wrong);
            let came = take(&mut frame).unwrap();
            assert_eq!(came.read[VnetHeader::BYTES + upper..], wrong[upper..]);
        }
    }

    #[test]
    fn what_leaves_arrives() {
        for is_v4 in [true, false] {
            let packet = datagram(is_v4);
            let leaving = Leaving::parse(&packet).unwrap();
            assert_eq!(leaving.length(), packet.len());
            let mut room = [0xbb; 200];
            let end = leaving.write(WAY, &mut room).unwrap();
            assert_eq!(end, (ETHERNET + packet.len()).max(SHORTEST));
            assert_eq!(room[..6], WAY.neighbour);
            let came = take(&mut room[..end]).unwrap();
            assert_eq!(came.read[VnetHeader::BYTES + 20..][..4], packet[20..24]);
            assert_eq!(came.read.len(), VnetHeader::BYTES + packet.len());
            assert_eq!(leaving.write(WAY, &mut [0; 40]), None);
        }
    }

    #[test]
    fn what_is_unusual_does_not_leave() {
        let (v4, v6) = (datagram(true), datagram(false));
        for (plain, at, octet) in [
            (&v6, 7, 1),
            (&v6, 7, 0),
            (&v6, 6, 0),
            (&v6, 6, 44),
            (&v6, 8, 0xff),
            (&v6, 24, 0xff),
            (&v6, 5, 200),
            (&v4, 0, 0x46),
            (&v4, 9, 6),
        ] {
            let mut packet = plain.clone();
            packet[at] = octet;
            // Of IPv4 the checksum tells.
            assert!(Leaving::parse(&packet).is_none(), "{at} {octet}");
        }
        let mut last = v4.clone();
        last[8] = 1;
        last[10..12].fill(0);
        let checksum = !fold(sum_words(&last[..20]));
        last[10..12].copy_from_slice(&checksum.to_ne_bytes());
        assert!(Leaving::parse(&last).is_none(), "the kernel answers it");
        assert!(take(&mut framed(&last)).is_none());
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_does_no_harm(
            is_v4: bool,
            changes in proptest::collection::vec((0usize..60, proptest::num::u8::ANY), 0..6),
            length in 0usize..80,
        ) {
            let mut frame = framed(&datagram(is_v4));
            for (at, octet) in changes {
                frame[at] = octet;
            }
            frame.truncate(length);
            let packet = frame.get(ETHERNET..).unwrap_or_default().to_vec();
            if let Some(leaving) = Leaving::parse(&packet) {
                proptest::prop_assert!(leaving.write(WAY, &mut [0; 100]).is_some());
            }
            if let Some(came) = take(&mut frame) {
                proptest::prop_assert!(came.read.len() > VnetHeader::BYTES + 20);
            }
        }
    }
}

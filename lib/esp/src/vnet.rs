//! The header that Linux puts before every packet on a virtual interface (virtio 1.2 section 5.1.6, linux/virtio_net.h).

use crate::offload::{Offload, PartialChecksum, SegmentKind, Segmentation};

/// What precedes every packet on a queue, both ways: `struct virtio_net_hdr_v1` (12 bytes), in the machine's byte order.
///
/// From the kernel: a packet may be a super-packet (`gso_type` not [`VnetHeader::GSO_NONE`]) of `gso_size` payload segments, and lack its checksum
/// ([`VnetHeader::NEEDS_CSUM`]): the sum of the pseudo-header stands in its place. To the kernel: likewise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// [`NEEDS_CSUM`](Self::NEEDS_CSUM), [`DATA_VALID`](Self::DATA_VALID).
    pub flags: u8,
    /// One of the `GSO_` constants, perhaps with [`GSO_ECN`](Self::GSO_ECN).
    pub gso_type: u8,
    /// Length of all headers, a hint only.
    pub header_length: u16,
    /// Payload bytes of each segment.
    pub gso_size: u16,
    /// Where the checksummed part begins, from the start of the packet.
    pub checksum_start: u16,
    /// Where the checksum goes, from `checksum_start`.
    pub checksum_offset: u16,
    /// 1; reserved for merged buffers.
    pub buffers: u16,
}

impl VnetHeader {
    /// Its length.
    pub const BYTES: usize = 12;
    /// The checksum is to be completed from `checksum_start` on.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum was verified.
    pub const DATA_VALID: u8 = 2;
    /// An ordinary packet.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP, each segment a datagram of its own (USO).
    pub const GSO_UDP_L4: u8 = 5;
    /// Beside a TCP type: CWR is set.
    pub const GSO_ECN: u8 = 0x80;

    /// Reads the header before a packet; gives the packet too. `None` when there is not that much.
    pub fn split(bytes: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, packet) = bytes.split_first_chunk_mut::<{ Self::BYTES }>()?;
        let [flags, gso_type, a, b, c, d, e, f, g, h, i, j] = *header;
        let word = |low, high| u16::from_ne_bytes([low, high]);
        let header = Self {
            flags,
            gso_type,
            header_length: word(a, b),
            gso_size: word(c, d),
            checksum_start: word(e, f),
            checksum_offset: word(g, h),
            buffers: word(i, j),
        };
        Some((header, packet))
    }

    /// The header as bytes.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let [a, b] = self.header_length.to_ne_bytes();
        let [c, d] = self.gso_size.to_ne_bytes();
        let [e, f] = self.checksum_start.to_ne_bytes();
        let [g, h] = self.checksum_offset.to_ne_bytes();
        let [i, j] = self.buffers.to_ne_bytes();
        [self.flags, self.gso_type, a, b, c, d, e, f, g, h, i, j]
    }

    /// What it leaves to whoever reads it. `None` for a kind of super-packet that was not agreed to.
    pub fn offload(self) -> Option<Offload> {
        let kind = match self.gso_type & !Self::GSO_ECN {
            Self::GSO_NONE => None,
            Self::GSO_TCPV4 | Self::GSO_TCPV6 => Some(SegmentKind::Tcp),
            Self::GSO_UDP_L4 => Some(SegmentKind::Udp),
            _ => return None,
        };
        Some(Offload {
            segmentation: kind.map(|kind| Segmentation {
                kind,
                size: self.gso_size,
            }),
            checksum: (self.flags & Self::NEEDS_CSUM != 0).then_some(PartialChecksum {
                start: self.checksum_start,
                offset: self.checksum_offset,
            }),
        })
    }

    /// The header that leaves this to the kernel. `is_v4` and `headers` are those of the packet.
    pub(crate) fn leaving(offload: Offload, is_v4: bool, headers: usize) -> Self {
        let mut header = Self::default();
        if let Some(checksum) = offload.checksum {
            header.flags = Self::NEEDS_CSUM;
            header.checksum_start = checksum.start;
            header.checksum_offset = checksum.offset;
        }
        if let Some(segmentation) = offload.segmentation {
            header.gso_type = match (segmentation.kind, is_v4) {
                (SegmentKind::Tcp, true) => Self::GSO_TCPV4,
                (SegmentKind::Tcp, false) => Self::GSO_TCPV6,
                (SegmentKind::Udp, _) => Self::GSO_UDP_L4,
            };
            header.gso_size = segmentation.size;
            header.header_length = u16::try_from(headers).unwrap_or(0);
        }
        header
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_bytes_round_trip() {
        let header = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type: VnetHeader::GSO_UDP_L4,
            header_length: 28,
            gso_size: 1200,
            checksum_start: 20,
            checksum_offset: 6,
            buffers: 1,
        };
        let mut bytes = [&header.to_bytes()[..], b"packet"].concat();
        assert_eq!(
            VnetHeader::split(&mut bytes),
            Some((header, &mut b"packet".to_owned()[..]))
        );
        assert_eq!(VnetHeader::split(&mut [0; 11]), None);
    }

    #[test]
    fn headers_and_offloads_are_the_same_thing() {
        let checksum = Some(PartialChecksum {
            start: 40,
            offset: 16,
        });
        for (kind, is_v4, gso_type) in [
            (SegmentKind::Tcp, true, 1),
            (SegmentKind::Tcp, false, 4),
            (SegmentKind::Udp, true, 5),
            (SegmentKind::Udp, false, 5),
        ] {
            let segmentation = Some(Segmentation { kind, size: 1400 });
            let wanted = Offload {
                segmentation,
                checksum,
            };
            let header = VnetHeader::leaving(wanted, is_v4, 60);
            assert_eq!(
                (header.gso_type, header.flags, header.header_length),
                (gso_type, 1, 60)
            );
            assert_eq!(header.offload(), Some(wanted));
        }
        assert_eq!(
            VnetHeader::leaving(Offload::default(), true, 20),
            VnetHeader::default()
        );
        assert_eq!(VnetHeader::default().offload(), Some(Offload::default()));
        let congested = VnetHeader {
            gso_type: VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN,
            gso_size: 9,
            ..VnetHeader::default()
        };
        assert_eq!(
            congested.offload().unwrap().segmentation.unwrap().kind,
            SegmentKind::Tcp
        );
        let unknown = VnetHeader {
            gso_type: 3,
            ..VnetHeader::default()
        };
        assert_eq!(unknown.offload(), None);
    }
}

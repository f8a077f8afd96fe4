//! The virtio-net header of the TUN against what `lib/esp` says about offloads.

use esp::{Offload, PartialChecksum, SegmentKind, Segmentation};
use netio::VnetHeader;

/// What a header from the kernel leaves to us. `None` for a kind of super-packet that was not agreed to.
pub(crate) fn offload(header: VnetHeader) -> Option<Offload> {
    let kind = match header.gso_type & !VnetHeader::GSO_ECN {
        VnetHeader::GSO_NONE => None,
        VnetHeader::GSO_TCPV4 | VnetHeader::GSO_TCPV6 => Some(SegmentKind::Tcp),
        VnetHeader::GSO_UDP_L4 => Some(SegmentKind::Udp),
        _ => return None,
    };
    Some(Offload {
        segmentation: kind.map(|kind| Segmentation {
            kind,
            size: header.gso_size,
        }),
        checksum: (header.flags & VnetHeader::NEEDS_CSUM != 0).then_some(PartialChecksum {
            start: header.checksum_start,
            offset: header.checksum_offset,
        }),
    })
}

/// The header for a packet to the kernel. `is_v4` and `headers` are those of the packet.
pub(crate) fn header(offload: Offload, is_v4: bool, headers: usize) -> VnetHeader {
    let mut header = VnetHeader::default();
    if let Some(checksum) = offload.checksum {
        header.flags = VnetHeader::NEEDS_CSUM;
        header.checksum_start = checksum.start;
        header.checksum_offset = checksum.offset;
    }
    if let Some(segmentation) = offload.segmentation {
        header.gso_type = match (segmentation.kind, is_v4) {
            (SegmentKind::Tcp, true) => VnetHeader::GSO_TCPV4,
            (SegmentKind::Tcp, false) => VnetHeader::GSO_TCPV6,
            (SegmentKind::Udp, _) => VnetHeader::GSO_UDP_L4,
        };
        header.gso_size = segmentation.size;
        header.header_length = u16::try_from(headers).unwrap_or(0);
    }
    header
}

#[cfg(test)]
mod tests {
    use super::*;

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
            let header = header(wanted, is_v4, 60);
            assert_eq!(
                (header.gso_type, header.flags, header.header_length),
                (gso_type, 1, 60)
            );
            assert_eq!(offload(header), Some(wanted));
        }
        assert_eq!(header(Offload::default(), true, 20), VnetHeader::default());
        assert_eq!(offload(VnetHeader::default()), Some(Offload::default()));
        let congested = VnetHeader {
            gso_type: VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN,
            gso_size: 9,
            ..VnetHeader::default()
        };
        assert_eq!(
            offload(congested).unwrap().segmentation.unwrap().kind,
            SegmentKind::Tcp
        );
        let unknown = VnetHeader {
            gso_type: 3,
            ..VnetHeader::default()
        };
        assert_eq!(offload(unknown), None);
    }
}

//! Cutting super-packets into packets (TSO, USO), and finishing checksums.

use crate::bytes::{byte, long, put, word};
use crate::checksum::{Checksum, pseudo_header};
use crate::offload::{PartialChecksum, SegmentKind, Segmentation};
use crate::packet::{Addresses, Packet, TCP, UDP};

const UDP_HEADER: usize = 8;
const TCP_HEADER: usize = 20;
const FIN: u16 = 0x01;
const PSH: u16 = 0x08;
const CWR: u16 = 0x80;
/// Where the checksum lies in the upper-layer header.
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;

/// A super-packet and the packets it consists of. What all of them have in common is summed up once.
#[derive(Debug)]
pub struct Segments<'p> {
    data: &'p [u8],
    kind: SegmentKind,
    is_v4: bool,
    /// Where the upper-layer header begins.
    upper: usize,
    /// Length of all headers.
    headers: usize,
    size: usize,
    /// The IPv4 header without length, identification, and checksum.
    ip_sum: Checksum,
    identification: u16,
    /// Pseudo-header and upper-layer header, without lengths, sequence number, flags, checksum.
    upper_sum: Checksum,
    sequence: u32,
    /// TCP: data offset and flags.
    flags: u16,
}

impl<'p> Segments<'p> {
    /// `packet` is what [`Packet::parse`] made of `data`. `None` when the headers are not those of a super-packet of that kind.
    pub fn new(data: &'p [u8], packet: &Packet, segmentation: Segmentation) -> Option<Self> {
        let data = data.get(..packet.length)?;
        let (upper, size) = (packet.upper, usize::from(segmentation.size));
        let (protocol, header, checksum) = match segmentation.kind {
            SegmentKind::Tcp => (TCP, usize::from(byte(data, upper + 12)? >> 4) * 4, TCP_CHECKSUM),
            SegmentKind::Udp => (UDP, UDP_HEADER, UDP_CHECKSUM),
        };
        if packet.protocol != protocol
            || packet.is_fragment
            || size == 0
            || segmentation.kind == SegmentKind::Tcp && header < TCP_HEADER
        {
            return None;
        }
        let headers = upper + header;
        if headers >= data.len() {
            return None;
        }
        let (is_v4, addresses) = match packet.addresses {
            Addresses::V4 { .. } => (true, data.get(12..20)?),
            Addresses::V6 { .. } => (false, data.get(8..40)?),
        };
        let mut sums = Self {
            data,
            kind: segmentation.kind,
            is_v4,
            upper,
            headers,
            size,
            ip_sum: Checksum::new(),
            identification: 0,
            upper_sum: pseudo_header(addresses, protocol, 0),
            sequence: 0,
            flags: 0,
        };
        if is_v4 {
            sums.ip_sum = Checksum::new()
                .with(data.get(..2)?)
                .with(data.get(6..10)?)
                .with(data.get(12..upper)?);
            sums.identification = word(data, 4)?;
        }
        let head = data.get(upper..headers)?;
        match segmentation.kind {
            SegmentKind::Tcp => {
                sums.upper_sum = sums
                    .upper_sum
                    .with(head.get(..4)?)
                    .with(head.get(8..12)?)
                    .with(head.get(14..checksum)?)
                    .with(head.get(checksum + 2..)?);
                sums.sequence = long(head, 4)?;
                sums.flags = word(head, 12)?;
            }
            SegmentKind::Udp => sums.upper_sum = sums.upper_sum.with(head.get(..4)?),
        }
        Some(sums)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        (self.data.len() - self.headers).div_ceil(self.size)
    }

    /// The length of segment `n`, headers included; 0 when there is none.
    pub fn length(&self, n: usize) -> usize {
        let left = (self.data.len() - self.headers).saturating_sub(n.saturating_mul(self.size));
        if left == 0 {
            0
        } else {
            self.headers + left.min(self.size)
        }
    }

    /// Writes segment `n` with finished checksums and returns its length. `None` when there is none, or `out` is too short for it.
    pub fn write(&self, n: usize, out: &mut [u8]) -> Option<usize> {
        let length = self.length(n);
        let start = self.headers + n * self.size;
        let payload = self.data.get(start..)?.get(..length.checked_sub(self.headers)?)?;
        let out = out.get_mut(..length)?;
        let (headers, out_payload) = out.split_at_mut(self.headers);
        headers.copy_from_slice(self.data.get(..self.headers)?);
        out_payload.copy_from_slice(payload);

        let (ip, upper) = headers.split_at_mut(self.upper);
        if self.is_v4 {
            let length = u16::try_from(length).ok()?;
            let identification = self.identification.wrapping_add(n as u16);
            put(ip, 2, length.to_be_bytes())?;
            put(ip, 4, identification.to_be_bytes())?;
            let sum = self.ip_sum.with_word(length).with_word(identification);
            put(ip, 10, sum.finish())?;
        } else {
            put(ip, 4, u16::try_from(length - 40).ok()?.to_be_bytes())?;
        }
        let upper_length = u16::try_from(length - self.upper).ok()?;
        let sum = self.upper_sum.with_word(upper_length);
        match self.kind {
            SegmentKind::Tcp => {
                let sequence = self.sequence.wrapping_add((n * self.size) as u32);
                let mut flags = self.flags;
                if start + payload.len() < self.data.len() {
                    flags &= !(FIN | PSH);
                }
                if n > 0 {
                    flags &= !CWR;
                }
                put(upper, 4, sequence.to_be_bytes())?;
                put(upper, 12, flags.to_be_bytes())?;
                let sum = sum
                    .with_word((sequence >> 16) as u16)
                    .with_word(sequence as u16)
                    .with_word(flags);
                put(upper, TCP_CHECKSUM, sum.with(payload).finish())?;
            }
            SegmentKind::Udp => {
                put(upper, 4, upper_length.to_be_bytes())?;
                let sum = sum.with_word(upper_length).with(payload);
                put(upper, UDP_CHECKSUM, udp_checksum(sum))?;
            }
        }
        Some(length)
    }
}

/// Finishes the checksum of a single packet. `None` when it would lie outside.
pub fn finish_checksum(data: &mut [u8], packet: &Packet, partial: PartialChecksum) -> Option<()> {
    let data = data.get_mut(..packet.length)?;
    let covered = data.get_mut(usize::from(partial.start)..)?;
    let sum = Checksum::new().with(covered);
    let at = usize::from(partial.offset);
    // Only UDP has a way to say "no checksum", which a finished one must not look like (RFC 768).
    let is_udp = packet.protocol == UDP && at == UDP_CHECKSUM;
    let bytes = if is_udp { udp_checksum(sum) } else { sum.finish() };
    put(covered, at, bytes)
}

fn udp_checksum(sum: Checksum) -> [u8; 2] {
    match sum.finish() {
        [0, 0] => [0xff, 0xff],
        bytes => bytes,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::packet::IPV4_HEADER;
    use crate::packet::finish_ipv4_header;
    use crate::packet::tests::{ipv4, ipv6};
    use proptest::prelude::*;

    /// A TCP segment with a correct checksum.
    pub(crate) fn tcp(v6: bool, sequence: u32, flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut segment = vec![0x13, 0x88, 0x9c, 0x40];
        segment.extend(sequence.to_be_bytes());
        segment.extend([
            1,
            2,
            3,
            4,
            ((20 + options.len()) as u8 / 4) << 4,
            flags,
            0x20,
            0,
            0,
            0,
            0,
            0,
        ]);
        segment.extend(options);
        segment.extend(payload);
        packet(v6, TCP, segment)
    }

    /// A UDP datagram with a correct checksum.
    pub(crate) fn udp(v6: bool, payload: &[u8]) -> Vec<u8> {
        let mut datagram = vec![0x13, 0x88, 0x9c, 0x40];
        datagram.extend(((8 + payload.len()) as u16).to_be_bytes());
        datagram.extend([0, 0]);
        datagram.extend(payload);
        packet(v6, UDP, datagram)
    }

    fn packet(v6: bool, protocol: u8, upper: Vec<u8>) -> Vec<u8> {
        let mut data = if v6 {
            ipv6(protocol, &upper)
        } else {
            ipv4(protocol, [10, 0, 0, 1], [10, 0, 0, 2], &upper)
        };
        let parsed = Packet::parse(&data).unwrap();
        let checksum = start_checksum(&mut data);
        finish_checksum(&mut data, &parsed, checksum).unwrap();
        assert!(is_valid(&data));
        data
    }

    /// Leaves the checksum as the kernel does for NEEDS_CSUM.
    pub(crate) fn start_checksum(data: &mut [u8]) -> PartialChecksum {
        let packet = Packet::parse(data).unwrap();
        let offset = if packet.protocol == TCP {
            TCP_CHECKSUM
        } else {
            UDP_CHECKSUM
        };
        let addresses = if packet.upper == IPV4_HEADER {
            12..20
        } else {
            8..40
        };
        let length = (packet.length - packet.upper) as u32;
        let sum = pseudo_header(&data[addresses], packet.protocol, length).partial();
        put(data, packet.upper + offset, sum).unwrap();
        PartialChecksum {
            start: packet.upper as u16,
            offset: offset as u16,
        }
    }

    /// Both checksums are right.
    pub(crate) fn is_valid(data: &[u8]) -> bool {
        let packet = Packet::parse(data).unwrap();
        let v4 = packet.upper == IPV4_HEADER;
        let addresses = if v4 { 12..20 } else { 8..40 };
        let length = (packet.length - packet.upper) as u32;
        let sum = pseudo_header(&data[addresses], packet.protocol, length);
        (!v4 || Checksum::new().with(&data[..20]).is_valid())
            && sum.with(&data[packet.upper..packet.length]).is_valid()
    }

    fn cut(data: &[u8], kind: SegmentKind, size: u16) -> Vec<Vec<u8>> {
        let parsed = Packet::parse(data).unwrap();
        let segments = Segments::new(data, &parsed, Segmentation { kind, size }).unwrap();
        let mut out = [0; 70_000];
        let all: Vec<_> = (0..segments.count())
            .map(|n| {
                let length = segments.write(n, &mut out).unwrap();
                assert_eq!(length, segments.length(n));
                out[..length].to_vec()
            })
            .collect();
        assert_eq!(segments.write(all.len(), &mut out), None);
        all
    }

    #[test]
    fn tcp_flags_sequence_numbers_and_identification() {
        let payload: Vec<u8> = (0..2500).map(|n| n as u8).collect();
        let mut data = tcp(false, u32::MAX - 999, 0x99, &[1, 1, 1, 1], &payload);
        start_checksum(&mut data);
        let segments = cut(&data, SegmentKind::Tcp, 1000);
        assert_eq!(segments.len(), 3);
        assert!(segments.iter().all(|s| is_valid(s)));
        let flags: Vec<_> = segments.iter().map(|s| s[33]).collect();
        assert_eq!(flags, [0x90, 0x10, 0x19], "CWR first, FIN and PSH last");
        let sequences: Vec<_> = segments.iter().map(|s| long(s, 24).unwrap()).collect();
        assert_eq!(sequences, [u32::MAX - 999, 0, 1000]);
        let identifications: Vec<_> = segments.iter().map(|s| word(s, 4).unwrap()).collect();
        assert_eq!(identifications, [0x1234, 0x1235, 0x1236]);
        assert_eq!(segments[2].len(), 20 + 24 + 500);
    }

    #[test]
    fn a_udp_checksum_of_zero_is_sent_as_ffff() {
        // The payload's last word is chosen so that the sum comes out as zero.
        let mut data = udp(false, &[0; 4]);
        let checksum = [data[26], data[27]];
        data[30..32].copy_from_slice(&checksum);
        let partial = start_checksum(&mut data);
        let parsed = Packet::parse(&data).unwrap();
        finish_checksum(&mut data, &parsed, partial).unwrap();
        assert_eq!(data[26..28], [0xff, 0xff]);

        let mut doubled = data.clone();
        doubled.extend_from_slice(&data[28..32]);
        put(&mut doubled, 2, 36u16.to_be_bytes()).unwrap();
        finish_ipv4_header(&mut doubled).unwrap();
        let segments = cut(&doubled, SegmentKind::Udp, 4);
        assert!(segments.iter().all(|s| s[26..28] == [0xff, 0xff] && is_valid(s)));
    }

    #[test]
    fn what_is_no_super_packet_is_refused() {
        let data = tcp(false, 1, 0x10, &[], &[0; 100]);
        let parsed = Packet::parse(&data).unwrap();
        let new = |data: &[u8], packet: &Packet, kind, size| {
            Segments::new(data, packet, Segmentation { kind, size }).is_none()
        };
        assert!(new(&data, &parsed, SegmentKind::Udp, 50));
        assert!(new(&data, &parsed, SegmentKind::Tcp, 0));
        let fragment = Packet {
            is_fragment: true,
            ..parsed
        };
        assert!(new(&data, &fragment, SegmentKind::Tcp, 50));
        for offset in [0x40, 0xf0] {
            let mut bad = tcp(false, 1, 0x10, &[], &[0; 30]);
            bad[32] = offset;
            assert!(new(&bad, &Packet::parse(&bad).unwrap(), SegmentKind::Tcp, 50));
        }
    }

    proptest! {
        #[test]
        fn segments_carry_the_payload_with_valid_checksums(v6: bool, is_tcp: bool, length in 1usize..65_000, size in 1u16..9000) {
            prop_assume!(length / usize::from(size) < 200);
            let payload: Vec<u8> = (0..length).map(|n| (n * 7 + n / 256) as u8).collect();
            let mut data = if is_tcp { tcp(v6, 12345, 0x18, &[1; 12], &payload) } else { udp(v6, &payload) };
            start_checksum(&mut data);
            let kind = if is_tcp { SegmentKind::Tcp } else { SegmentKind::Udp };
            let segments = cut(&data, kind, size);
            let mut again = Vec::new();
            for segment in &segments {
                prop_assert!(is_valid(segment));
                let upper = Packet::parse(segment).unwrap().upper;
                again.extend_from_slice(&segment[upper + if is_tcp { 32 } else { 8 }..]);
            }
            prop_assert_eq!(again, payload);
        }

        #[test]
        fn any_bytes_are_cut_without_panic(data in proptest::collection::vec(any::<u8>(), 0..200), version in prop_oneof![Just(0x45u8), Just(0x60)], is_tcp: bool, size: u16, start: u16, offset: u16) {
            let mut data = data;
            if data.len() > 40 {
                data[0] = version;
                let length = data.len() as u16;
                let protocol = if is_tcp { TCP } else { UDP };
                if version == 0x45 {
                    put(&mut data, 2, length.to_be_bytes());
                    put(&mut data, 9, [protocol]);
                } else {
                    put(&mut data, 4, (length - 40).to_be_bytes());
                    put(&mut data, 6, [protocol]);
                }
            }
            if let Some(packet) = Packet::parse(&data) {
                let kind = if is_tcp { SegmentKind::Tcp } else { SegmentKind::Udp };
                if let Some(segments) = Segments::new(&data, &packet, Segmentation { kind, size }) {
                    let mut out = [0; 256];
                    for n in 0..segments.count() {
                        segments.write(n, &mut out);
                    }
                }
                finish_checksum(&mut data, &packet, PartialChecksum { start, offset });
            }
        }
    }
}

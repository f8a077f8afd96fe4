//! Ethernet frames with ESP in them: what the kernel's network stack does otherwise, for the little of it that comes this way.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use netio::sum_words;
use sadb::Encapsulation;

/// Octets of headers (IEEE 802.3, RFC 791 3.1 without options, RFC 8200 3, RFC 768).
pub(super) const ETHERNET: usize = 14;
const IPV4: usize = 20;
const IPV6: usize = 40;
const UDP_HEADER: usize = 8;
/// The shortest frame, without its checksum.
pub(super) const SHORTEST: usize = 60;
pub(super) const TYPE_IPV4: [u8; 2] = [0x08, 0x00];
pub(super) const TYPE_IPV6: [u8; 2] = [0x86, 0xdd];
const ESP: u8 = 50;
pub(super) const UDP: u8 = 17;
const DONT_FRAGMENT: [u8; 2] = [0x40, 0];
/// More fragments, and the offset.
const FRAGMENT: u16 = 0x3fff;
/// As the kernel's own default.
const HOPS: u8 = 64;

/// A frame's way from a neighbour to us, which an answer goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) ours: [u8; 6],
    pub(crate) neighbour: [u8; 6],
}

/// What a frame says outside of its ESP packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outside {
    pub(crate) way: Way,
    pub(crate) local: IpAddr,
    /// Port 0 without UDP.
    pub(crate) source: SocketAddr,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) traffic_class: u8,
    /// Where a socket would have what it reads begin and end: at the payload of UDP, at ESP, and over IPv4 without UDP at the IP header.
    pub(crate) data: Range<usize>,
}

impl Outside {
    /// Reads the headers of a frame; `None` when they are broken, or the kernel would drop it for where it comes from.
    ///
    /// The checksum of UDP is not looked at: what ESP does not vouch for is dropped by its integrity check (RFC 3948 2.1).
    pub(crate) fn parse(frame: &[u8]) -> Option<Self> {
        let (way, packet, header) = parse(frame)?;
        let (source, local, traffic_class, protocol, header, length) = header;
        let inside = packet.get(header..length)?;
        let (encapsulation, port, start, end) = match protocol {
            ESP if local.is_ipv4() => (Encapsulation::Esp, 0, 0, length),
            ESP => (Encapsulation::Esp, 0, header, length),
            UDP => {
                let [p0, p1, _, _, l0, l1, ..] = *inside.first_chunk::<UDP_HEADER>()?;
                let (port, octets) = (u16::from_be_bytes([p0, p1]), u16::from_be_bytes([l0, l1]));
                let octets = usize::from(octets);
                if port == 0 || !(UDP_HEADER..=inside.len()).contains(&octets) {
                    return None;
                }
                (Encapsulation::Udp, port, header + UDP_HEADER, header + octets)
            }
            _ => return None,
        };
        Some(Self {
            way,
            local,
            source: SocketAddr::new(source, port),
            encapsulation,
            traffic_class,
            data: ETHERNET + start..ETHERNET + end,
        })
    }
}

/// The way of a frame, its packet and what its IP header says.
pub(super) fn parse(frame: &[u8]) -> Option<(Way, &[u8], Header)> {
    let (ethernet, packet) = frame.split_first_chunk::<ETHERNET>()?;
    let (addresses, kind) = ethernet.split_at(12);
    let (ours, neighbour) = addresses.split_at(6);
    let way = Way {
        ours: ours.try_into().ok()?,
        neighbour: neighbour.try_into().ok()?,
    };
    let is_v4 = packet.first()? >> 4 == 4;
    if kind != if is_v4 { TYPE_IPV4 } else { TYPE_IPV6 } {
        return None;
    }
    let header @ (source, ..) = parse_packet(packet)?;
    is_a_host(source).then_some((way, packet, header))
}

/// What the IP header of a packet says; `None` when it is broken, has options, or that of a fragment.
pub(super) fn parse_packet(packet: &[u8]) -> Option<Header> {
    match packet.first()? >> 4 {
        4 => parse_v4(packet),
        _ => parse_v6(packet),
    }
}

/// Source, destination, type of service, protocol, length of the header and of the packet.
pub(super) type Header = (IpAddr, IpAddr, u8, u8, usize, usize);

fn parse_v4(packet: &[u8]) -> Option<Header> {
    let header = packet.first_chunk::<IPV4>()?;
    let [
        first,
        class,
        l0,
        l1,
        _,
        _,
        f0,
        f1,
        _,
        protocol,
        _,
        _,
        s0,
        s1,
        s2,
        s3,
        d0,
        d1,
        d2,
        d3,
    ] = *header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    let is_whole = u16::from_be_bytes([f0, f1]) & FRAGMENT == 0;
    let is_plain = first == 0x45 && (IPV4..=packet.len()).contains(&length) && is_whole;
    if !is_plain || fold(sum_words(header)) != u16::MAX {
        return None;
    }
    let source = Ipv4Addr::new(s0, s1, s2, s3);
    let local = Ipv4Addr::new(d0, d1, d2, d3);
    Some((source.into(), local.into(), class, protocol, IPV4, length))
}

fn parse_v6(packet: &[u8]) -> Option<Header> {
    let (header, rest) = packet.split_first_chunk::<IPV6>()?;
    let [first, second, _, _, l0, l1, protocol, _, addresses @ ..] = header;
    let length = usize::from(u16::from_be_bytes([*l0, *l1]));
    if first >> 4 != 6 || length > rest.len() {
        return None;
    }
    let (source, local) = addresses.split_first_chunk::<16>()?;
    let local: [u8; 16] = local.try_into().ok()?;
    Some((
        Ipv6Addr::from(*source).into(),
        Ipv6Addr::from(local).into(),
        first << 4 | second >> 4,
        *protocol,
        IPV6,
        IPV6 + length,
    ))
}

/// Whether packets may come from there (RFC 1122 3.2.1.3, RFC 4291 2.7).
pub(super) fn is_a_host(address: IpAddr) -> bool {
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback() || is_broadcast)
}

/// Whether routers pass packets from and to there on: as `netio`'s program has it (RFC 6890: not this network; RFC 4291 2.4: not what has IPv4 in it, nor the link's own).
pub(super) fn is_forwarded(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !matches!(address.octets(), [0 | 127 | 224.., ..]),
        IpAddr::V6(address) => !matches!(address.octets(), [0 | 0xfe.., ..]),
    }
}

impl Way {
    /// Whether it leads between two stations: neither address is that of a group.
    pub(crate) fn is_between_stations(&self) -> bool {
        [self.ours, self.neighbour]
            .iter()
            .all(|[first, ..]| first & 1 == 0)
    }

    /// Writes the header of a frame that goes to the neighbour.
    pub(super) fn write(&self, ethernet: &mut [u8; ETHERNET], is_v4: bool) {
        let kind = if is_v4 { TYPE_IPV4 } else { TYPE_IPV6 };
        let parts = [&self.neighbour[..], &self.ours, &kind];
        let octets = ethernet.iter_mut().zip(parts.iter().copied().flatten());
        octets.for_each(|(to, from)| *to = *from);
    }
}

/// What goes around an ESP packet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Envelope {
    pub(crate) way: Way,
    pub(crate) local: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) traffic_class: u8,
    pub(crate) dont_fragment: bool,
    /// Of IPv4, for those who may cut it (RFC 6864).
    pub(crate) identification: u16,
}

impl Envelope {
    /// Octets of the IP packet with so many of ESP inside.
    pub(crate) fn packet_bytes(&self, esp: usize) -> usize {
        let ip = if self.local.is_ipv4() { IPV4 } else { IPV6 };
        match self.encapsulation {
            Encapsulation::Udp => ip + UDP_HEADER + esp,
            Encapsulation::Esp => ip + esp,
        }
    }

    /// Writes the frame; returns its length. `None` when there is no room, or the addresses are not of one family.
    pub(crate) fn write(&self, room: &mut [u8], esp: &[u8]) -> Option<usize> {
        let length = self.packet_bytes(esp.len());
        let end = ETHERNET + length;
        let (frame, rest) = room.split_at_mut_checked(end)?;
        let padding = SHORTEST.saturating_sub(end);
        rest.get_mut(..padding)?.fill(0);
        let (ethernet, packet) = frame.split_first_chunk_mut::<ETHERNET>()?;
        self.way.write(ethernet, self.local.is_ipv4());
        packet.get_mut(length - esp.len()..)?.copy_from_slice(esp);
        let length = u16::try_from(length).ok()?;
        match (self.local.ip(), self.destination.ip()) {
            (IpAddr::V4(local), IpAddr::V4(destination)) => {
                let (header, inside) = packet.split_first_chunk_mut::<IPV4>()?;
                *header = self.header_v4(length, local, destination);
                // RFC 3948 2.1: no checksum.
                self.write_udp(inside, None)?;
            }
            (IpAddr::V6(local), IpAddr::V6(destination)) => {
                let (header, inside) = packet.split_first_chunk_mut::<IPV6>()?;
                *header = self.header_v6(length - IPV6 as u16, local, destination);
                self.write_udp(inside, Some((local, destination)))?;
            }
            _ => return None,
        }
        Some(end + padding)
    }

    fn protocol(&self) -> u8 {
        match self.encapsulation {
            Encapsulation::Udp => UDP,
            Encapsulation::Esp => ESP,
        }
    }

    fn header_v4(&self, length: u16, local: Ipv4Addr, destination: Ipv4Addr) -> [u8; IPV4] {
        let ([l0, l1], [i0, i1]) = (length.to_be_bytes(), self.identification.to_be_bytes());
        let ([i0, i1], [f0, f1]) = if self.dont_fragment {
            ([0, 0], DONT_FRAGMENT)
        } else {
            ([i0, i1], [0, 0])
        };
        let ([s0, s1, s2, s3], [d0, d1, d2, d3]) = (local.octets(), destination.octets());
        let (class, protocol) = (self.traffic_class, self.protocol());
        let header = |[c0, c1]: [u8; 2]| {
            [
                0x45, class, l0, l1, i0, i1, f0, f1, HOPS, protocol, c0, c1, s0, s1, s2, s3, d0, d1, d2, d3,
            ]
        };
        header((!fold(sum_words(&header([0, 0])))).to_ne_bytes())
    }

    fn header_v6(&self, inside: u16, local: Ipv6Addr, destination: Ipv6Addr) -> [u8; IPV6] {
        let (class, [l0, l1]) = (self.traffic_class, inside.to_be_bytes());
        let mut header = [0; IPV6];
        let first = [0x60 | class >> 4, class << 4, 0, 0, l0, l1, self.protocol(), HOPS];
        let parts = [&first[..], &local.octets(), &destination.octets()];
        let octets = header.iter_mut().zip(parts.iter().copied().flatten());
        octets.for_each(|(to, from)| *to = *from);
        header
    }

    /// The UDP header in front of the payload, if there is to be one; with a checksum between these addresses (RFC 8200 8.1).
    fn write_udp(&self, inside: &mut [u8], checked: Option<(Ipv6Addr, Ipv6Addr)>) -> Option<()> {
        if self.encapsulation == Encapsulation::Esp {
            return Some(());
        }
        let length = u16::try_from(inside.len()).ok()?;
        let header = inside.first_chunk_mut::<UDP_HEADER>()?;
        let ([s0, s1], [d0, d1]) = (
            self.local.port().to_be_bytes(),
            self.destination.port().to_be_bytes(),
        );
        let [l0, l1] = length.to_be_bytes();
        *header = [s0, s1, d0, d1, l0, l1, 0, 0];
        let Some((local, destination)) = checked else {
            return Some(());
        };
        let pseudo = [0, 0, l0, l1, 0, 0, 0, UDP];
        let parts = [&local.octets()[..], &destination.octets(), &pseudo, inside];
        let sum = parts.iter().map(|part| sum_words(part)).sum();
        // 0 would mean that there is none.
        let checksum = match !fold(sum) {
            0 => u16::MAX,
            checksum => checksum,
        };
        let [c0, c1] = checksum.to_ne_bytes();
        let header = inside.first_chunk_mut::<UDP_HEADER>()?;
        *header = [s0, s1, d0, d1, l0, l1, c0, c1];
        Some(())
    }
}

/// A sum of 32-bit words as one of 16-bit words, with the carries added (RFC 1071).
pub(super) fn fold(sum: u64) -> u16 {
    let mut sum = sum;
    while let more @ 1.. = sum >> 16 {
        sum = (sum & 0xffff) + more;
    }
    sum as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAY: Way = Way {
        ours: [2, 0, 0, 0, 0, 1],
        neighbour: [2, 0, 0, 0, 0, 2],
    };

    fn envelope(local: &str, destination: &str, encapsulation: Encapsulation) -> Envelope {
        Envelope {
            way: WAY,
            local: local.parse().unwrap(),
            destination: destination.parse().unwrap(),
            encapsulation,
            traffic_class: 0xb9,
            dont_fragment: false,
            identification: 0x1234,
        }
    }

    fn envelopes() -> [Envelope; 4] {
        [
            envelope("192.0.2.1:4500", "198.51.100.7:1024", Encapsulation::Udp),
            envelope("192.0.2.1:0", "198.51.100.7:0", Encapsulation::Esp),
            envelope("[2001:db8::1]:4500", "[2001:db8::7]:4500", Encapsulation::Udp),
            envelope("[2001:db8::1]:0", "[2001:db8::7]:0", Encapsulation::Esp),
        ]
    }

    #[test]
    fn what_is_written_is_read_at_the_other_end() {
        for envelope in envelopes() {
            for length in [1, 4, 40, 999, 1400] {
                let esp: Vec<u8> = (0..length).map(|n| n as u8).collect();
                let mut room = [0xaa; 2048];
                let end = envelope.write(&mut room, &esp).unwrap();
                assert_eq!(end, (ETHERNET + envelope.packet_bytes(length)).max(SHORTEST));
                let read = Outside::parse(&room[..end]).unwrap();
                assert_eq!(read.source, envelope.local);
                assert_eq!(read.local, envelope.destination.ip());
                assert_eq!(read.encapsulation, envelope.encapsulation);
                assert_eq!(read.traffic_class, envelope.traffic_class);
                // Seen from there.
                assert_eq!((read.way.ours, read.way.neighbour), (WAY.neighbour, WAY.ours));
                let data = &room[read.data];
                let header = data.len() - length;
                assert_eq!(data[header..], esp);
                let is_raw_v4 = envelope.local.is_ipv4() && envelope.encapsulation == Encapsulation::Esp;
                assert_eq!(header, if is_raw_v4 { IPV4 } else { 0 });
            }
        }
    }

    #[test]
    fn headers_as_others_write_them() {
        let [udp, _, udp6, _] = envelopes();
        let mut room = [0; 100];
        udp.write(&mut room, b"12345678").unwrap();
        // Worked out by hand (RFC 1071).
        let expected = [
            2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0xb9, 0, 36, 0x12, 0x34, 0, 0, 64, 17, 0x7b,
            0xa0, 192, 0, 2, 1, 198, 51, 100, 7, 0x11, 0x94, 4, 0, 0, 16, 0, 0,
        ];
        assert_eq!(room[..42], expected);
        let whole = Envelope {
            dont_fragment: true,
            ..udp
        };
        whole.write(&mut room, b"12345678").unwrap();
        assert_eq!(room[18..22], [0, 0, 0x40, 0]);
        assert!(Outside::parse(&room).is_some());
        udp6.write(&mut room, b"12345678").unwrap();
        // Sum of pseudo-header, header and payload: all ones.
        let mut sum: u32 = 16 + 17;
        for pair in room[22..70].chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(pair[1]);
        }
        assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff);
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_within_its_frame(
            kind in 0usize..4,
            changes in proptest::collection::vec((0usize..100, proptest::num::u8::ANY), 0..6),
            length in 0usize..100,
        ) {
            let mut room = [0; 200];
            let envelope = envelopes()[kind];
            envelope.write(&mut room, &[1; 40]).unwrap();
            for (at, octet) in changes {
                room[at] = octet;
            }
            let frame = &room[..length];
            if let Some(outside) = Outside::parse(frame) {
                proptest::prop_assert!(outside.data.start >= ETHERNET && frame.get(outside.data).is_some());
            }
        }
    }

    #[test]
    fn no_room_and_two_families() {
        let [udp, .., esp6] = envelopes();
        assert_eq!(udp.write(&mut [0; 59], b"1"), None);
        assert_eq!(udp.write(&mut [0; 1000], &[0; 990]), None);
        let mixed = Envelope {
            destination: esp6.destination,
            ..udp
        };
        assert_eq!(mixed.write(&mut [0; 1000], b"1"), None);
    }

    #[test]
    fn broken_frames_are_refused() {
        let frame = |envelope: &Envelope| {
            let mut room = vec![0; 200];
            let length = envelope.write(&mut room, &[1; 100]).unwrap();
            room.truncate(length);
            room
        };
        for envelope in envelopes() {
            let good = frame(&envelope);
            for end in 0..good.len() {
                assert_eq!(Outside::parse(&good[..end]), None, "{end} octets");
            }
        }
        let [udp, _, udp6, _] = envelopes();
        let changed = |frame: &[u8], at: usize, octet: u8, is_v4: bool| {
            let mut frame = frame.to_vec();
            frame[at] = octet;
            if is_v4 {
                frame[24..26].fill(0);
                let checksum = !fold(sum_words(&frame[14..34]));
                frame[24..26].copy_from_slice(&checksum.to_ne_bytes());
            }
            Outside::parse(&frame)
        };
        let (v4, v6) = (frame(&udp), frame(&udp6));
        assert!(changed(&v4, 15, 7, true).is_some());
        assert_eq!(changed(&v4, 15, 7, false), None, "checksum");
        // Version, length, fragments, protocol, sources that are no hosts, source port, length of UDP.
        for (at, octet) in [
            (14, 0x46),
            (17, 200),
            (20, 0x20),
            (21, 1),
            (23, 6),
            (26, 127),
            (26, 224),
            (39, 7),
            (38, 1),
        ] {
            assert_eq!(changed(&v4, at, octet, true), None, "{at}");
        }
        for (at, octet) in [(12, 8), (14, 0x50), (18, 1), (20, 0), (22, 0xff), (59, 7)] {
            assert_eq!(changed(&v6, at, octet, false), None, "{at}");
        }
        let nobody = Envelope {
            local: "0.0.0.0:4500".parse().unwrap(),
            ..udp
        };
        assert_eq!(Outside::parse(&frame(&nobody)), None);
        let broadcast = Envelope {
            local: "255.255.255.255:4500".parse().unwrap(),
            ..udp
        };
        assert_eq!(Outside::parse(&frame(&broadcast)), None);
        let no_port = Envelope {
            local: "192.0.2.1:0".parse().unwrap(),
            ..udp
        };
        assert_eq!(Outside::parse(&frame(&no_port)), None);
    }
}

//! Control messages (cmsg(3)): what travels beside the bytes of a datagram.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{Datagram, Received};

/// Room for the control messages of a datagram.
pub(super) const CONTROL_BYTES: usize = 128;
const CONTROL_HEADER_BYTES: usize = size_of::<libc::cmsghdr>();
const CONTROL_ALIGN: usize = size_of::<usize>();

/// Room for control messages, aligned as the kernel's headers want it.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Control(pub(super) [u8; CONTROL_BYTES]);

/// Notes what a control message says of a datagram.
pub(super) fn read_control(received: &mut Received<'_>, level: libc::c_int, kind: libc::c_int, value: &[u8]) {
    let int = value
        .first_chunk()
        .map(|bytes| libc::c_int::from_ne_bytes(*bytes));
    match (level, kind) {
        (libc::SOL_UDP, libc::UDP_GRO) => {
            if let Some(segment) = int
                .and_then(|value| usize::try_from(value).ok())
                .filter(|segment| *segment > 0)
            {
                received.segment = segment;
            }
        }
        // A byte, whatever other systems say.
        (libc::IPPROTO_IP, libc::IP_TOS) => received.traffic_class = value.first().copied().unwrap_or(0),
        (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => received.traffic_class = int.unwrap_or(0) as u8,
        // in_pktinfo: interface, our address for routing, address in the header.
        (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
            received.destination = value
                .get(8..)
                .and_then(|rest| rest.first_chunk())
                .map(|octets: &[u8; 4]| Ipv4Addr::from(*octets).into());
        }
        // in6_pktinfo: address, interface.
        (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
            received.destination = value
                .first_chunk()
                .map(|octets: &[u8; 16]| Ipv6Addr::from(*octets).into());
        }
        _ => {}
    }
}

/// Says to the kernel what is to be done with a datagram.
pub(super) fn write_control(writer: &mut ControlWriter<'_>, datagram: &Datagram<'_>) {
    let ipv4 = datagram.destination.is_ipv4();
    if let Some(segment) = datagram.segment.filter(|_| datagram.is_segmented()) {
        writer.put(libc::SOL_UDP, libc::UDP_SEGMENT, &segment.to_ne_bytes());
    }
    if datagram.traffic_class != 0 {
        let (level, kind) = if ipv4 {
            (libc::IPPROTO_IP, libc::IP_TOS)
        } else {
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)
        };
        writer.put(
            level,
            kind,
            &libc::c_int::from(datagram.traffic_class).to_ne_bytes(),
        );
    }
    match datagram.source {
        Some(IpAddr::V4(source)) if ipv4 => {
            let mut info = [0; 12];
            info.iter_mut()
                .skip(4)
                .zip(source.octets())
                .for_each(|(to, from)| *to = from);
            writer.put(libc::IPPROTO_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(source)) if !ipv4 => {
            let mut info = [0; 20];
            info.iter_mut()
                .zip(source.octets())
                .for_each(|(to, from)| *to = from);
            writer.put(libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &info);
        }
        _ => {}
    }
}

/// Reads control messages (cmsg(3)) from the kernel.
pub(super) struct ControlMessages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for ControlMessages<'a> {
    type Item = (libc::c_int, libc::c_int, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (length, rest) = self.0.split_first_chunk()?;
        let (level, rest) = rest.split_first_chunk()?;
        let (kind, _) = rest.split_first_chunk()?;
        let length = usize::from_ne_bytes(*length);
        let value = self.0.get(CONTROL_HEADER_BYTES..length)?;
        self.0 = self
            .0
            .get(length.checked_next_multiple_of(CONTROL_ALIGN)?..)
            .unwrap_or(&[]);
        Some((
            libc::c_int::from_ne_bytes(*level),
            libc::c_int::from_ne_bytes(*kind),
            value,
        ))
    }
}

/// Writes control messages for the kernel. All that a datagram can need fits.
pub(super) struct ControlWriter<'a> {
    pub(super) room: &'a mut [u8],
    pub(super) used: usize,
}

impl ControlWriter<'_> {
    fn put(&mut self, level: libc::c_int, kind: libc::c_int, value: &[u8]) {
        let length = CONTROL_HEADER_BYTES + value.len();
        let space = length.next_multiple_of(CONTROL_ALIGN);
        let Some(place) = self.room.get_mut(self.used..self.used + space) else {
            return;
        };
        let (header, rest) = place.split_at_mut(CONTROL_HEADER_BYTES);
        let fields = length
            .to_ne_bytes()
            .into_iter()
            .chain(level.to_ne_bytes())
            .chain(kind.to_ne_bytes());
        header.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
        rest.iter_mut().zip(value).for_each(|(to, from)| *to = *from);
        self.used += space;
    }
}

//! Reading and sending many datagrams with one system call, and many segments with one datagram (UDP GSO and GRO).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use crate::{DatagramSocket, sys};
use cmsg::{CONTROL_BYTES, Control, ControlMessages, ControlWriter, read_control, write_control};

mod cmsg;

/// The most bytes of one GSO send: an IPv4 packet less its headers.
pub const MAX_GSO_BYTES: usize = 65_507;
/// The most segments of one GSO send (UDP_MAX_SEGMENTS of older kernels).
pub const MAX_GSO_SEGMENTS: usize = 64;
/// Buffer size that holds whatever UDP_GRO coalesces.
pub const GRO_BUFFER_BYTES: usize = 65_536;

/// Buffers for one recvmmsg(2), used again and again.
pub struct ReceiveBatch {
    data: Vec<u8>,
    buffer_bytes: usize,
    slots: Vec<Slot>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    received: usize,
}

#[derive(Clone, Copy)]
struct Slot {
    address: libc::sockaddr_storage,
    control: Control,
    length: usize,
    truncated: bool,
    control_length: usize,
}

/// One datagram received, or several equal ones of the same peer coalesced.
#[derive(Debug)]
pub struct Received<'a> {
    /// The bytes, of all segments together.
    pub data: &'a mut [u8],
    /// The length of each segment but the last, which may be shorter. `data.len()` (at least 1) when nothing was coalesced.
    pub segment: usize,
    /// Who sent it.
    pub source: SocketAddr,
    /// To which of our addresses, when the socket was opened with `packet_info`.
    pub destination: Option<IpAddr>,
    /// Type of service or traffic class of the outer header: DSCP and ECN.
    pub traffic_class: u8,
    /// The datagram was longer than the buffer and was cut.
    pub truncated: bool,
}

impl Received<'_> {
    /// The segments, each a datagram as the peer sent it.
    pub fn segments_mut(&mut self) -> std::slice::ChunksMut<'_, u8> {
        self.data.chunks_mut(self.segment.max(1))
    }
}

// SAFETY: the pointers in `headers` and `vectors` are only followed by the kernel during `receive`, which first sets each of them to point into
// `self`.
unsafe impl Send for ReceiveBatch {}

impl ReceiveBatch {
    /// Room for `messages` datagrams of up to `buffer_bytes` ([`GRO_BUFFER_BYTES`] for sockets with GRO). Memory is touched when first used.
    pub fn new(messages: usize, buffer_bytes: usize) -> Self {
        let messages = messages.max(1);
        // SAFETY: C structures of integers and pointers, for which zero is valid.
        let (address, header, vector) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        let slot = Slot {
            address,
            control: Control([0; CONTROL_BYTES]),
            length: 0,
            truncated: false,
            control_length: 0,
        };
        Self {
            data: vec![0; messages * buffer_bytes],
            buffer_bytes,
            slots: vec![slot; messages],
            headers: vec![header; messages],
            vectors: vec![vector; messages],
            received: 0,
        }
    }

    /// Reads what waits, up to the batch's size, and says how many datagrams that were; `WouldBlock` when none. What was read before is gone.
    pub fn receive(&mut self, socket: impl AsFd) -> io::Result<usize> {
        self.received = 0;
        let buffers = self.data.chunks_exact_mut(self.buffer_bytes.max(1));
        for (((header, vector), slot), buffer) in self
            .headers
            .iter_mut()
            .zip(&mut self.vectors)
            .zip(&mut self.slots)
            .zip(buffers)
        {
            *vector = libc::iovec {
                iov_base: buffer.as_mut_ptr().cast(),
                iov_len: buffer.len(),
            };
            header.msg_len = 0;
            header.msg_hdr = message(vector, &mut slot.address, &mut slot.control);
        }
        let count = u32::try_from(self.headers.len()).unwrap_or(u32::MAX);
        // SAFETY: each header points at its own vector, address, control room and buffer, all set above, of the lengths given, and alive and not
        // otherwise used through the call.
        let received = unsafe {
            libc::recvmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.received = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        for (slot, header) in self.slots.iter_mut().zip(&self.headers).take(self.received) {
            slot.length = usize::try_from(header.msg_len)
                .unwrap_or(0)
                .min(self.buffer_bytes);
            slot.truncated = header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0;
            slot.control_length = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        }
        Ok(self.received)
    }

    /// What the last [`receive`](Self::receive) read. Datagrams that are not of IPv4 or IPv6 do not occur.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = Received<'_>> {
        let buffers = self.data.chunks_exact_mut(self.buffer_bytes.max(1));
        self.slots
            .iter()
            .zip(buffers)
            .take(self.received)
            .filter_map(|(slot, buffer)| {
                let data = buffer.get_mut(..slot.length)?;
                let mut received = Received {
                    segment: data.len().max(1),
                    data,
                    source: sys::from_c(&slot.address)?,
                    destination: None,
                    traffic_class: 0,
                    truncated: slot.truncated,
                };
                for (level, kind, value) in
                    ControlMessages(slot.control.0.get(..slot.control_length).unwrap_or(&[]))
                {
                    read_control(&mut received, level, kind, value);
                }
                Some(received)
            })
    }
}

impl std::fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "ReceiveBatch({} of {} buffers)",
            self.received,
            self.slots.len()
        )
    }
}

/// One datagram to send, or several equal ones to the same peer.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// To whom.
    pub destination: SocketAddr,
    /// From which of our addresses, for sockets bound to the unspecified address.
    pub source: Option<IpAddr>,
    /// The bytes, of all segments together.
    pub data: &'a [u8],
    /// Cut `data` into datagrams of this length, the last may be shorter (UDP GSO). At most [`MAX_GSO_SEGMENTS`] and [`MAX_GSO_BYTES`]. `None`: one datagram.
    pub segment: Option<u16>,
    /// Type of service or traffic class of the outer header.
    pub traffic_class: u8,
}

impl<'a> Datagram<'a> {
    /// One plain datagram.
    pub fn to(destination: SocketAddr, data: &'a [u8]) -> Self {
        Self {
            destination,
            source: None,
            data,
            segment: None,
            traffic_class: 0,
        }
    }

    fn is_segmented(&self) -> bool {
        self.segment
            .is_some_and(|segment| self.data.len() > usize::from(segment))
    }

    /// How many datagrams it is for the peer.
    pub fn segments(&self) -> usize {
        self.segment
            .map_or(1, |segment| self.data.len().div_ceil(usize::from(segment).max(1)))
    }

    fn is_valid(&self) -> bool {
        self.segment != Some(0) && self.segments() <= MAX_GSO_SEGMENTS && self.data.len() <= MAX_GSO_BYTES
    }
}

/// Why [`SendBatch::send`] stopped: at datagram number `sent`. Those before it are on their way.
#[derive(Debug)]
pub struct SendError {
    /// How many were sent; the index of the one that was not, or not as a whole.
    pub sent: usize,
    /// How many segments of that one are on their way all the same.
    pub segments: usize,
    /// What the kernel said. `WouldBlock`: the socket's buffer is full.
    pub error: io::Error,
}

impl SendError {
    /// Whether it was longer than the interface takes in one piece.
    pub fn is_too_long(&self) -> bool {
        self.error.raw_os_error() == Some(libc::EMSGSIZE)
    }
}

/// Scratch space for sendmmsg(2), used again and again.
pub struct SendBatch {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    addresses: Vec<libc::sockaddr_storage>,
    controls: Vec<Control>,
}

// SAFETY: the pointers in `headers` and `vectors` are only followed by the kernel during `send_some`, which first sets each of them.
unsafe impl Send for SendBatch {}

impl SendBatch {
    /// Hands up to `messages` datagrams to the kernel at once.
    pub fn new(messages: usize) -> Self {
        let messages = messages.max(1);
        // SAFETY: C structures of integers and pointers, for which zero is valid.
        let (header, vector, address) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed(), std::mem::zeroed()) };
        Self {
            headers: vec![header; messages],
            vectors: vec![vector; messages],
            addresses: vec![address; messages],
            controls: vec![Control([0; CONTROL_BYTES]); messages],
        }
    }

    /// Sends all datagrams in order. Where segmentation offload fails (an interface without checksum offload, a segment longer than the MTU) the
    /// segments are sent one by one, those that the kernel takes.
    pub fn send(&mut self, socket: &DatagramSocket, datagrams: &[Datagram<'_>]) -> Result<(), SendError> {
        let mut sent = 0;
        while let Some(rest) = datagrams.get(sent..).filter(|rest| !rest.is_empty()) {
            let Some(first) = rest.first() else { break };
            let refused = |error| SendError {
                sent,
                segments: 0,
                error,
            };
            if !first.is_valid() {
                return Err(refused(io::Error::from_raw_os_error(libc::EMSGSIZE)));
            }
            let offload = socket.segments();
            if first.is_segmented() && !offload {
                self.send_segments(socket, first)
                    .map_err(|error| SendError { sent, ..error })?;
                sent += 1;
                continue;
            }
            // Up to the first that needs another treatment.
            let alike = rest
                .iter()
                .take_while(|d| d.is_valid() && (offload || !d.is_segmented()))
                .count();
            match self.send_some(socket, rest.get(..alike).unwrap_or(rest)) {
                Ok(count) => sent += count,
                Err(error) if first.is_segmented() && refuses_segmentation(socket, &error) => {
                    self.send_segments(socket, first)
                        .map_err(|error| SendError { sent, ..error })?;
                    sent += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(())
    }

    /// Sends the segments of a datagram one by one. One that is refused does not keep the others: the first refusal is reported at the end.
    fn send_segments(&mut self, socket: &DatagramSocket, datagram: &Datagram<'_>) -> Result<(), SendError> {
        let length = datagram.segment.map_or(datagram.data.len(), usize::from).max(1);
        let mut room = [*datagram; MAX_GSO_SEGMENTS];
        let mut count = 0;
        for (place, data) in room.iter_mut().zip(datagram.data.chunks(length)) {
            *place = Datagram {
                data,
                segment: None,
                ..*datagram
            };
            count += 1;
        }
        let mut rest = room.get(..count).unwrap_or(&room);
        let mut segments = 0;
        let mut refused = None;
        while !rest.is_empty() {
            let done = match self.send_some(socket, rest) {
                Ok(count) => {
                    segments += count;
                    count
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
                Err(error) => {
                    let is_full = error.kind() == io::ErrorKind::WouldBlock;
                    // A full buffer has the last word: whoever sends has to wait.
                    if is_full || refused.is_none() {
                        refused = Some(error);
                    }
                    if is_full { rest.len() } else { 1 }
                }
            };
            rest = rest.get(done..).unwrap_or(&[]);
        }
        refused.map_or(Ok(()), |error| {
            Err(SendError {
                sent: 0,
                segments,
                error,
            })
        })
    }

    /// One sendmmsg(2) of as many as fit; at least one is sent, or it is an error.
    fn send_some(&mut self, socket: impl AsFd, datagrams: &[Datagram<'_>]) -> io::Result<usize> {
        let places = self
            .headers
            .iter_mut()
            .zip(&mut self.vectors)
            .zip(&mut self.addresses)
            .zip(&mut self.controls);
        let mut count = 0;
        for ((((header, vector), address), control), datagram) in places.zip(datagrams) {
            let (storage, address_length) = sys::to_c(datagram.destination);
            *address = storage;
            // The kernel does not write through this pointer when sending.
            *vector = libc::iovec {
                iov_base: datagram.data.as_ptr().cast_mut().cast(),
                iov_len: datagram.data.len(),
            };
            let mut writer = ControlWriter {
                room: &mut control.0,
                used: 0,
            };
            write_control(&mut writer, datagram);
            let used = writer.used;
            header.msg_len = 0;
            header.msg_hdr = message(vector, address, control);
            header.msg_hdr.msg_namelen = address_length;
            header.msg_hdr.msg_controllen = used;
            if used == 0 {
                header.msg_hdr.msg_control = std::ptr::null_mut();
            }
            count += 1;
        }
        // SAFETY: `count` headers point at their own vector, address and control room and at the datagrams' bytes, all set above, of the lengths
        // given, and alive through the call.
        let sent = unsafe {
            libc::sendmmsg(
                socket.as_fd().as_raw_fd(),
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL,
            )
        };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl std::fmt::Debug for SendBatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SendBatch({} at once)", self.headers.len())
    }
}

/// Whether this error speaks of segmentation. EIO: the interface cannot checksum, so it never will; EINVAL, EMSGSIZE: this segment is too long for the route.
fn refuses_segmentation(socket: &DatagramSocket, error: &io::Error) -> bool {
    match error.raw_os_error() {
        Some(libc::EIO | libc::EOPNOTSUPP) => {
            socket.give_up_segmentation();
            true
        }
        Some(libc::EINVAL | libc::EMSGSIZE) => true,
        _ => false,
    }
}

/// Takes the IPv4 header off a packet read from a raw socket: its type of service, and what follows. `None` when it is not whole.
pub fn split_ipv4_header(packet: &mut [u8]) -> Option<(u8, &mut [u8])> {
    let [first, traffic_class, ..] = *packet else {
        return None;
    };
    let length = usize::from(first & 0xf) * 4;
    if first >> 4 != 4 || length < 20 {
        return None;
    }
    Some((traffic_class, packet.split_at_mut_checked(length)?.1))
}

fn message(
    vector: &mut libc::iovec,
    address: &mut libc::sockaddr_storage,
    control: &mut Control,
) -> libc::msghdr {
    // SAFETY: a C structure of integers and pointers, for which zero is valid.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = std::ptr::from_mut(address).cast();
    message.msg_namelen = size_of::<libc::sockaddr_storage>() as libc::socklen_t;
    message.msg_iov = vector;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES;
    message
}

#[cfg(test)]
mod tests;

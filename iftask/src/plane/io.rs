//! What the data plane's logic needs of the world: a fake one in tests, the kernel in life.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};

use netio::{Datagram, DatagramSocket, SendBatch, SendError, TunQueue};
use sadb::Encapsulation;

use super::bursts::MOST_BURSTS;
use super::xdp::XdpWays;

/// Sockets of the encrypted side and queues of the clear side, by their place in [`Ports`].
pub(crate) trait Io {
    /// Sends datagrams from a socket, with the given DF bit.
    fn send(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
    ) -> Result<(), SendError>;

    /// Writes one packet, with its virtio-net header, to a TUN queue.
    fn write(&mut self, tun: usize, parts: &[IoSlice<'_>]) -> io::Result<()>;

    /// Sends a packet that came out of a tunnel by a device of a context, if there is one that knows the way; otherwise it is for the TUN.
    fn forward(&mut self, context: u32, packet: &[u8]) -> bool;

    /// Has clear packets to this destination come to our queue of this TUN from now on, if that can be.
    fn attract(&mut self, tun: usize, destination: IpAddr);

    /// Has the flows of clear packets to this destination go to all queues of this TUN from now on, if that can be.
    fn spread(&mut self, tun: usize, destination: IpAddr);
}

/// A socket of the encrypted side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Socket {
    /// The context whose network it is in.
    pub(crate) context: u32,
    pub(crate) local: SocketAddr,
    pub(crate) encapsulation: Encapsulation,
}

/// What there is: descriptions of the sockets and queues, by place. Places are used again after a removal.
#[derive(Debug, Default)]
pub(crate) struct Ports {
    sockets: Vec<Option<Socket>>,
    /// Contexts.
    tuns: Vec<Option<u32>>,
    /// Goes up whenever sockets come or go.
    changes: u32,
}

/// An SA's note of its socket: the changes when it was found, and where.
pub(crate) type SocketNote = Option<(u32, u32)>;

impl Ports {
    /// Notes a socket; returns its place.
    pub(crate) fn add_socket(&mut self, socket: Socket) -> usize {
        self.changes = self.changes.wrapping_add(1);
        place(&mut self.sockets, socket)
    }

    /// Notes the queue of a context; returns its place.
    pub(crate) fn add_tun(&mut self, context: u32) -> usize {
        place(&mut self.tuns, context)
    }

    /// The socket at a place.
    pub(crate) fn socket(&self, place: usize) -> Option<Socket> {
        self.sockets.get(place).copied().flatten()
    }

    /// The context of the queue at a place.
    pub(crate) fn context_of(&self, tun: usize) -> Option<u32> {
        self.tuns.get(tun).copied().flatten()
    }

    /// The queue of a context.
    pub(crate) fn tun(&self, context: u32) -> Option<usize> {
        self.tuns.iter().position(|id| *id == Some(context))
    }

    /// The socket that packets of an SA leave by: its address and encapsulation, of its clear side's context if there are several.
    pub(crate) fn socket_for(
        &self,
        local: SocketAddr,
        encapsulation: Encapsulation,
        context: u32,
    ) -> Option<usize> {
        let fits = |socket: &Socket| socket.local.ip() == local.ip() && socket.encapsulation == encapsulation;
        let find = |wanted: &dyn Fn(&Socket) -> bool| {
            self.sockets
                .iter()
                .position(|socket| socket.as_ref().is_some_and(wanted))
        };
        find(&|socket| fits(socket) && socket.context == context).or_else(|| find(&fits))
    }

    /// Likewise, as noted if nothing has changed since.
    pub(crate) fn noted_socket(
        &self,
        note: &mut SocketNote,
        local: SocketAddr,
        encapsulation: Encapsulation,
        context: u32,
    ) -> Option<usize> {
        if let Some((changes, place)) = *note
            && changes == self.changes
        {
            return Some(place as usize);
        }
        let place = self.socket_for(local, encapsulation, context)?;
        *note = u32::try_from(place).ok().map(|place| (self.changes, place));
        Some(place)
    }

    /// Places of the sockets of an address in a context.
    pub(crate) fn sockets_of(&self, context: u32, address: std::net::IpAddr) -> Vec<usize> {
        let fits =
            |socket: &Option<Socket>| socket.is_some_and(|s| s.context == context && s.local.ip() == address);
        (0..self.sockets.len())
            .filter(|place| self.sockets.get(*place).is_some_and(fits))
            .collect()
    }

    /// Frees a socket's place.
    pub(crate) fn remove_socket(&mut self, place: usize) {
        self.changes = self.changes.wrapping_add(1);
        if let Some(socket) = self.sockets.get_mut(place) {
            *socket = None;
        }
    }

    /// Frees a queue's place.
    pub(crate) fn remove_tun(&mut self, place: usize) {
        if let Some(tun) = self.tuns.get_mut(place) {
            *tun = None;
        }
    }
}

fn place<T>(list: &mut Vec<Option<T>>, item: T) -> usize {
    let free = list.iter().position(Option::is_none);
    let place = free.unwrap_or_else(|| {
        list.push(None);
        list.len() - 1
    });
    if let Some(slot) = list.get_mut(place) {
        *slot = Some(item);
    }
    place
}

/// The kernel.
pub(crate) struct KernelIo {
    /// By place; the DF bit that was set last.
    pub(crate) sockets: Vec<Option<(DatagramSocket, Option<bool>)>>,
    pub(crate) tuns: Vec<Option<TunQueue>>,
    pub(crate) xdp: XdpWays,
    batch: SendBatch,
}

impl KernelIo {
    pub(crate) fn new() -> Self {
        Self {
            sockets: Vec::new(),
            tuns: Vec::new(),
            xdp: XdpWays::default(),
            batch: SendBatch::new(MOST_BURSTS),
        }
    }

    /// Sends datagrams from the socket at a place.
    pub(crate) fn send_by_socket(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
    ) -> Result<(), SendError> {
        let gone = |error: io::Error| SendError {
            sent: 0,
            segments: 0,
            error,
        };
        let Some(Some((socket, current))) = self.sockets.get_mut(socket) else {
            return Err(gone(io::Error::from(io::ErrorKind::NotConnected)));
        };
        if *current != Some(dont_fragment) {
            socket
                .set_dont_fragment(dont_fragment)
                .map_err(|e| gone(io::Error::other(e)))?;
            *current = Some(dont_fragment);
        }
        self.batch.send(socket, datagrams)
    }
}

impl Io for KernelIo {
    fn send(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
    ) -> Result<(), SendError> {
        if self.xdp.is_empty() {
            self.send_by_socket(socket, dont_fragment, datagrams)
        } else {
            self.send_by_ways(socket, dont_fragment, datagrams)
        }
    }

    fn write(&mut self, tun: usize, parts: &[IoSlice<'_>]) -> io::Result<()> {
        match self.tuns.get(tun) {
            Some(Some(queue)) => queue.write(parts),
            _ => Err(io::Error::from(io::ErrorKind::NotConnected)),
        }
    }

    fn forward(&mut self, context: u32, packet: &[u8]) -> bool {
        !self.xdp.is_empty() && self.xdp.forward(context, packet)
    }

    fn attract(&mut self, tun: usize, destination: IpAddr) {
        if let Some(Some(queue)) = self.tuns.get(tun) {
            queue.attract(destination);
        }
    }

    fn spread(&mut self, tun: usize, destination: IpAddr) {
        if let Some(Some(queue)) = self.tuns.get(tun) {
            queue.spread(destination);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_of_an_sa() {
        let mut ports = Ports::default();
        let socket = |context, local: &str, encapsulation| Socket {
            context,
            local: local.parse().unwrap(),
            encapsulation,
        };
        let udp = ports.add_socket(socket(2, "192.0.2.1:4500", Encapsulation::Udp));
        let esp = ports.add_socket(socket(2, "192.0.2.1:0", Encapsulation::Esp));
        let twin = ports.add_socket(socket(3, "192.0.2.1:4500", Encapsulation::Udp));
        let local = "192.0.2.1:4500".parse().unwrap();
        assert_eq!(ports.socket_for(local, Encapsulation::Udp, 3), Some(twin));
        assert_eq!(ports.socket_for(local, Encapsulation::Udp, 9), Some(udp));
        assert_eq!(ports.socket_for(local, Encapsulation::Esp, 3), Some(esp));
        let other = "192.0.2.9:4500".parse().unwrap();
        assert_eq!(ports.socket_for(other, Encapsulation::Esp, 3), None);
        let mut note = None;
        let noted =
            |ports: &Ports, note: &mut SocketNote| ports.noted_socket(note, local, Encapsulation::Udp, 2);
        assert_eq!([(); 2].map(|()| noted(&ports, &mut note)), [Some(udp); 2]);
        assert_eq!(ports.sockets_of(2, local.ip()), [udp, esp]);
        ports.remove_socket(udp);
        assert_eq!(ports.socket_for(local, Encapsulation::Udp, 2), Some(twin));
        assert_eq!(noted(&ports, &mut note), Some(twin), "the note is no longer true");
        assert_eq!(
            ports.add_socket(socket(4, "192.0.2.1:4500", Encapsulation::Udp)),
            udp
        );
        assert_eq!(ports.add_tun(7), 0);
        assert_eq!(
            (ports.tun(7), ports.context_of(0), ports.tun(8)),
            (Some(0), Some(7), None)
        );
        ports.remove_tun(0);
        assert_eq!(ports.tun(7), None);
    }
}

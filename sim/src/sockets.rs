//! The sockets of simulated eNodeBs: ports 500 and 4500 of each local address.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ikev2::Path;
use netio::{
    Datagram, DatagramSocket, Error, GRO_BUFFER_BYTES, Poller, ReceiveBatch, SendBatch, SocketOptions,
};

const IKE_PORT: u16 = 500;
const NATT_PORT: u16 = 4500;
const MARKER: [u8; 4] = [0; 4];
/// Datagrams (coalesced or not) read in one go.
const BATCH: usize = 16;

/// What came in.
pub(crate) enum Arrived<'a> {
    /// An IKE message, without marker.
    Ike(Path, &'a [u8]),
    /// An ESP packet in UDP.
    Esp(&'a mut [u8]),
}

/// Every socket.
pub(crate) struct Sockets {
    sockets: Vec<DatagramSocket>,
    by_local: HashMap<SocketAddr, usize>,
    poller: Poller,
    receive: ReceiveBatch,
    send: SendBatch,
}

impl Sockets {
    /// Binds both ports of each address.
    pub(crate) fn bind(addresses: &[IpAddr]) -> Result<Self, Error> {
        let poller = Poller::new(addresses.len() * 2)?;
        let mut sockets = Vec::new();
        let mut by_local = HashMap::new();
        for address in addresses {
            for port in [IKE_PORT, NATT_PORT] {
                let options = SocketOptions {
                    gro: port == NATT_PORT,
                    freebind: false,
                    ..SocketOptions::default()
                };
                let socket = DatagramSocket::bind_udp(SocketAddr::new(*address, port), options)?;
                poller.add(&socket, sockets.len() as u64)?;
                by_local.insert(socket.local(), sockets.len());
                sockets.push(socket);
            }
        }
        Ok(Self {
            sockets,
            by_local,
            poller,
            receive: ReceiveBatch::new(BATCH, GRO_BUFFER_BYTES),
            send: SendBatch::new(BATCH),
        })
    }

    /// The path of an initiator's first message.
    pub(crate) fn path(local: IpAddr, gateway: IpAddr) -> Path {
        Path {
            local: SocketAddr::new(local, IKE_PORT),
            remote: SocketAddr::new(gateway, IKE_PORT),
        }
    }

    /// Waits at most `timeout` and gives everything that came to `take`.
    pub(crate) fn receive(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(Arrived<'_>),
    ) -> std::io::Result<()> {
        let ready: Vec<u64> = self.poller.wait(Some(timeout))?.collect();
        for index in ready {
            let Some(socket) = usize::try_from(index)
                .ok()
                .and_then(|index| self.sockets.get(index))
            else {
                continue;
            };
            while let Ok(count) = self.receive.receive(socket) {
                for mut received in self.receive.iter_mut() {
                    let path = Path {
                        local: socket.local(),
                        remote: received.source,
                    };
                    for segment in received.segments_mut() {
                        if path.local.port() != NATT_PORT {
                            take(Arrived::Ike(path, segment));
                        } else if let Some(message) = segment.strip_prefix(&MARKER) {
                            take(Arrived::Ike(path, message));
                        } else {
                            take(Arrived::Esp(segment));
                        }
                    }
                }
                if count < BATCH {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Sends one datagram, or several of `segment` octets. False when the kernel had no room: the caller may try again.
    pub(crate) fn send(&mut self, path: Path, data: &[u8], segment: Option<u16>) -> std::io::Result<bool> {
        let Some(socket) = self
            .by_local
            .get(&path.local)
            .and_then(|index| self.sockets.get(*index))
        else {
            return Ok(true);
        };
        let datagram = Datagram {
            segment,
            ..Datagram::to(path.remote, data)
        };
        match self.send.send(socket, &[datagram]) {
            Ok(()) => Ok(true),
            Err(stopped) if stopped.error.kind() == std::io::ErrorKind::WouldBlock => Ok(false),
            Err(stopped) => Err(stopped.error),
        }
    }

    /// Sends datagrams that lie one behind the other in `octets`: path, end, octets of each that they are cut into. Gives how many the kernel took.
    pub(crate) fn send_all(&mut self, waiting: &[(Path, usize, u16)], octets: &[u8]) -> std::io::Result<u64> {
        let mut taken = 0;
        for (index, socket) in self.sockets.iter().enumerate() {
            let mut start = 0;
            let mut datagrams = Vec::new();
            for (path, end, segment) in waiting {
                let data = octets.get(start..*end).unwrap_or(&[]);
                start = *end;
                if self.by_local.get(&path.local) == Some(&index) {
                    datagrams.push(Datagram {
                        segment: (data.len() > usize::from(*segment)).then_some(*segment),
                        ..Datagram::to(path.remote, data)
                    });
                }
            }
            taken += match self.send.send(socket, &datagrams) {
                Ok(()) => datagrams.iter().map(Datagram::segments).sum(),
                Err(stopped) if stopped.error.kind() == std::io::ErrorKind::WouldBlock => {
                    let whole = datagrams.iter().take(stopped.sent).map(Datagram::segments);
                    whole.sum::<usize>() + stopped.segments
                }
                Err(stopped) => return Err(stopped.error),
            } as u64;
        }
        Ok(taken)
    }
}

//! The IKE sockets of this worker: one pair for each bound address.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ikev2::Path;
use netio::{Datagram, DatagramSocket, Poller, ReceiveBatch, SendBatch};
use telemetry::Counters;
use telemetry::counters::ikev2 as counter;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::Error;

/// The port without non-ESP marker.
pub(crate) const IKE_PORT: u16 = 500;
/// The port where IKE has a non-ESP marker.
pub(crate) const NAT_PORT: u16 = 4500;

/// Datagrams read with one system call.
const BATCH: usize = 64;
/// Longest IKE datagram we take: certificate chains make long messages.
const LONGEST: usize = 16 * 1024;
/// Reads of one socket before the others get their turn.
const READS_A_TURN: usize = 4;
/// RFC 3948 2.2.
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// RFC 3948 2.3.
const KEEPALIVE: [u8; 1] = [0xff];

/// All sockets.
pub(crate) struct Sockets {
    poller: Poller,
    /// The poller's own descriptor, which tokio waits on.
    readiness: AsyncFd<OwnedFd>,
    sockets: HashMap<u64, DatagramSocket>,
    by_address: HashMap<SocketAddr, u64>,
    next_token: u64,
    receive: ReceiveBatch,
    send: SendBatch,
    outbox: Vec<(Path, Vec<u8>)>,
    counters: Counters,
}

impl Sockets {
    /// No sockets yet. Must be called within a tokio runtime.
    pub(crate) fn new(counters: Counters) -> Result<Self, Error> {
        let poller = Poller::new(BATCH)?;
        let descriptor = poller.as_fd().try_clone_to_owned().map_err(Error::Watch)?;
        Ok(Self {
            poller,
            readiness: task::async_fd(descriptor).map_err(Error::Watch)?,
            sockets: HashMap::new(),
            by_address: HashMap::new(),
            next_token: 0,
            receive: ReceiveBatch::new(BATCH, LONGEST),
            send: SendBatch::new(BATCH),
            outbox: Vec::new(),
            counters,
        })
    }

    /// Reads a socket from now on; an older one of the same address is closed.
    pub(crate) fn add(&mut self, fd: OwnedFd) -> Result<(), Error> {
        let socket = DatagramSocket::adopt(fd)?;
        let token = self.next_token;
        self.next_token += 1;
        self.poller.add(&socket, token)?;
        if let Some(old) = self.by_address.insert(socket.local(), token) {
            self.drop_socket(old);
        }
        self.sockets.insert(token, socket);
        Ok(())
    }

    /// Closes the sockets of an address.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        for port in [IKE_PORT, NAT_PORT] {
            if let Some(token) = self.by_address.remove(&SocketAddr::new(address, port)) {
                self.drop_socket(token);
            }
        }
    }

    /// Waits until [`receive`](Self::receive) has something to do.
    pub(crate) async fn readable(&self) {
        match self.readiness.readable().await {
            Ok(mut guard) => guard.retain_ready(),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands every IKE message that waits to `take`, without non-ESP marker, up to a bound; what is left makes [`readable`](Self::readable) ready again.
    pub(crate) fn receive(&mut self, mut take: impl FnMut(Path, &[u8])) {
        let ready = self.readiness.try_io(Interest::READABLE, |_| {
            let tokens: Vec<u64> = self.poller.wait(Some(Duration::ZERO))?.collect();
            if tokens.is_empty() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(tokens)
            }
        });
        for token in ready.unwrap_or_default() {
            let Some(socket) = self.sockets.get(&token) else {
                continue;
            };
            for _ in 0..READS_A_TURN {
                let count = match self.receive.receive(socket) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // ICMP errors are reported here once and cleared by being read.
                    Err(error) => {
                        tracing::debug!("reading {}: {error}", socket.local());
                        break;
                    }
                };
                for received in self.receive.iter_mut() {
                    self.counters.inc(counter::RX_PACKETS);
                    self.counters.add(counter::RX_OCTETS, received.data.len() as u64);
                    let path = Path {
                        local: socket.local(),
                        remote: received.source,
                    };
                    let message = if socket.local().port() == NAT_PORT {
                        received.data.strip_prefix(&NON_ESP_MARKER)
                    } else {
                        Some(&*received.data)
                    };
                    match message {
                        Some(message) => take(path, message),
                        None if *received.data == KEEPALIVE => self.counters.inc(counter::KEEPALIVE_RECV),
                        // ESP that was steered to an IKE socket cannot be helped here.
                        None => self.counters.inc(counter::DROP_UNEXPECTED_PAYLOAD),
                    }
                }
                if count < BATCH {
                    break;
                }
            }
        }
    }

    /// Sends a UDP payload with the next [`flush`](Self::flush).
    pub(crate) fn transmit(&mut self, path: Path, bytes: Vec<u8>) {
        self.outbox.push((path, bytes));
    }

    /// Sends what is to be sent. What the kernel does not take is lost, as on any network; IKE retransmits.
    pub(crate) fn flush(&mut self) {
        let mut outbox = std::mem::take(&mut self.outbox);
        // Stable: datagrams of one socket stay in order.
        outbox.sort_by_key(|(path, _)| path.local);
        for run in outbox.chunk_by(|(one, _), (two, _)| one.local == two.local) {
            let local = run.first().map(|(path, _)| path.local);
            let socket = local.and_then(|local| self.sockets.get(self.by_address.get(&local)?));
            let Some(socket) = socket else {
                tracing::debug!("no socket for {local:?} any more");
                continue;
            };
            let datagrams: Vec<Datagram<'_>> = run
                .iter()
                .map(|(path, bytes)| Datagram::to(path.remote, bytes))
                .collect();
            let mut rest = datagrams.as_slice();
            while !rest.is_empty() {
                let (sent, skipped) = match self.send.send(socket, rest) {
                    Ok(()) => (rest.len(), 0),
                    Err(failure) => {
                        let remote = rest.get(failure.sent).map(|datagram| datagram.destination);
                        tracing::debug!("sending from {} to {remote:?}: {}", socket.local(), failure.error);
                        (failure.sent, 1)
                    }
                };
                let (gone, left) = rest.split_at(sent);
                self.counters.add(counter::TX_PACKETS, gone.len() as u64);
                self.counters.add(
                    counter::TX_OCTETS,
                    gone.iter().map(|datagram| datagram.data.len() as u64).sum(),
                );
                rest = left.get(skipped..).unwrap_or(&[]);
            }
        }
        outbox.clear();
        self.outbox = outbox;
    }

    fn drop_socket(&mut self, token: u64) {
        if let Some(socket) = self.sockets.remove(&token)
            && let Err(error) = self.poller.remove(&socket)
        {
            tracing::debug!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use netio::SocketOptions;

    fn socket() -> DatagramSocket {
        DatagramSocket::bind_udp("127.0.0.1:0".parse().unwrap(), SocketOptions::default()).unwrap()
    }

    #[tokio::test]
    async fn datagrams_come_in_and_go_out_and_are_counted() {
        let counters = Counters::in_memory();
        let mut sockets = Sockets::new(counters.clone()).unwrap();
        let (ours, peer) = (socket(), socket());
        let (local, remote) = (ours.local(), peer.local());
        sockets.add(ours.into()).unwrap();
        SendBatch::new(4)
            .send(
                &peer,
                &[Datagram::to(local, b"one"), Datagram::to(local, b"second")],
            )
            .unwrap();
        let mut got = Vec::new();
        while got.len() < 2 {
            sockets.readable().await;
            sockets.receive(|path, message| {
                assert_eq!(path, Path { local, remote });
                got.push(message.to_vec());
            });
        }
        assert_eq!(got, [b"one".to_vec(), b"second".to_vec()]);
        sockets.receive(|_, _| panic!("nothing waits"));
        let nothing = tokio::time::timeout(Duration::from_millis(50), sockets.readable()).await;
        assert!(nothing.is_err(), "ready although nothing waits");

        sockets.transmit(Path { local, remote }, b"answer".to_vec());
        sockets.transmit(
            Path {
                local: "127.0.0.1:1".parse().unwrap(),
                remote,
            },
            b"nobody sends this".to_vec(),
        );
        sockets.flush();
        let mut batch = ReceiveBatch::new(4, 100);
        assert_eq!(batch.receive(&peer).unwrap(), 1);
        assert_eq!(batch.iter_mut().next().unwrap().data, b"answer");
        let counted = [
            counter::RX_PACKETS,
            counter::RX_OCTETS,
            counter::TX_PACKETS,
            counter::TX_OCTETS,
        ];
        assert_eq!(counted.map(|counter| counters.get(counter)), [2, 9, 1, 6]);
    }

    /// In a namespace, where port 4500 is free.
    #[test]
    fn on_the_nat_port_only_ike_passes() {
        let Ok(namespace) = netio::Namespace::create() else {
            eprintln!("skipped: needs root");
            return;
        };
        let work = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let counters = Counters::in_memory();
                let mut sockets = Sockets::new(counters.clone()).unwrap();
                let bind = |address: &str| {
                    DatagramSocket::bind_udp(address.parse().unwrap(), SocketOptions::default()).unwrap()
                };
                let (ours, peer) = (bind("127.0.0.1:4500"), bind("127.0.0.1:0"));
                let to = ours.local();
                sockets.add(ours.into()).unwrap();
                let datagrams = [&b"\0\0\0\0ike"[..], b"\xff", b"\x01\0\0\x05esp", b"\0\0\0\0", b""]
                    .map(|data| Datagram::to(to, data));
                SendBatch::new(8).send(&peer, &datagrams).unwrap();
                let mut got = Vec::new();
                while got.len() < 2 {
                    sockets.readable().await;
                    sockets.receive(|_, message| got.push(message.to_vec()));
                }
                assert_eq!(got, [b"ike".to_vec(), b"".to_vec()]);
                let counted = [
                    counter::RX_PACKETS,
                    counter::KEEPALIVE_RECV,
                    counter::DROP_UNEXPECTED_PAYLOAD,
                ];
                assert_eq!(counted.map(|counter| counters.get(counter)), [5, 1, 2]);
                sockets.remove("127.0.0.1".parse().unwrap());
                assert!(sockets.sockets.is_empty() && sockets.by_address.is_empty());
            });
        };
        namespace.run(work).unwrap();
    }
}

//! The IKE sockets of this worker: one pair for each bound address.
//!
//! On port 4500 the kernel coalesces datagrams of equal length from one peer, whatever they are (UDP_GRO), and steers them by the first. So a read has segments,
//! and some may be ESP, which goes to this worker's data plane by a ring; that hands us the IKE messages that it finds among ESP. IKE messages of other workers'
//! slots, on either port, go the same way, and on to their manager: the kernel steers a while longer to the worker that had a slot before.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use ikev2::Path;
use netio::{Datagram, DatagramSocket, GRO_BUFFER_BYTES, Poller, ReceiveBatch, SendBatch};
use sadb::{Encapsulation, Slot, StrayHeader, StrayOrigin};
use task::RingEnds;
use telemetry::Counters;
use telemetry::counters::{ikev2 as counter, ipsec};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::Error;
use crate::strays::Strays;
use crate::waiting::{Place, Waiting};

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

/// The poller's token of the ring from the data plane; sockets count from 0.
const RING: u64 = u64::MAX;

/// All sockets.
pub(crate) struct Sockets {
    poller: Poller,
    /// The poller's own descriptor, which tokio waits on.
    readiness: AsyncFd<OwnedFd>,
    sockets: HashMap<u64, DatagramSocket>,
    by_address: HashMap<SocketAddr, u64>,
    next_token: u64,
    receive: ReceiveBatch,
    strays: Option<Strays>,
    waiting: Waiting,
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
            receive: ReceiveBatch::new(BATCH, GRO_BUFFER_BYTES),
            strays: None,
            waiting: Waiting::new(),
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

    /// Takes over who has which slot.
    pub(crate) fn set_places(&mut self, place_of: impl Fn(Slot) -> Place) {
        self.waiting.set(place_of);
    }

    /// Hands what waited for slots that are ours now to `take`.
    pub(crate) fn take_waiting(&mut self, take: &mut dyn FnMut(Path, &[u8])) {
        for (path, message) in self.waiting.take() {
            take(path, &message);
        }
    }

    /// Exchanges what reached the wrong socket with this worker's data plane.
    pub(crate) fn join_data_plane(&mut self, rings: RingEnds) -> Result<(), Error> {
        let strays = Strays::new(rings)?;
        self.poller.add(&strays, RING)?;
        self.strays = Some(strays);
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
        if self.strays.as_ref().is_some_and(Strays::has_more) {
            return;
        }
        match self.readiness.readable().await {
            Ok(mut guard) => guard.retain_ready(),
            // The runtime is shutting down.
            Err(_) => std::future::pending().await,
        }
    }

    /// Hands every IKE message that waits to `take`, without non-ESP marker, up to a bound; what is left makes [`readable`](Self::readable) ready again.
    pub(crate) fn receive(&mut self, take: &mut dyn FnMut(Path, &[u8])) {
        let ready = self.readiness.try_io(Interest::READABLE, |_| {
            let tokens: Vec<u64> = self.poller.wait(Some(Duration::ZERO))?.collect();
            if tokens.is_empty() {
                Err(io::ErrorKind::WouldBlock.into())
            } else {
                Ok(tokens)
            }
        });
        self.read(&ready.unwrap_or_default(), take);
    }

    /// Like [`receive`](Self::receive), whether or not [`readable`](Self::readable) said that there is something to do. False when there was nothing.
    pub(crate) fn receive_now(&mut self, take: &mut dyn FnMut(Path, &[u8])) -> bool {
        let tokens: Vec<u64> = match self.poller.wait(Some(Duration::ZERO)) {
            Ok(tokens) => tokens.collect(),
            Err(error) => {
                tracing::debug!("{error}");
                Vec::new()
            }
        };
        let more = !tokens.is_empty() || self.strays.as_ref().is_some_and(Strays::has_more);
        self.read(&tokens, take);
        more
    }

    fn read(&mut self, ready: &[u64], take: &mut dyn FnMut(Path, &[u8])) {
        let Self {
            sockets,
            receive,
            strays,
            waiting,
            counters,
            ..
        } = self;
        for token in ready {
            let Some(socket) = sockets.get(token) else {
                continue;
            };
            for _ in 0..READS_A_TURN {
                let count = match receive.receive(socket) {
                    Ok(count) => count,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // ICMP errors are reported here once and cleared by being read.
                    Err(error) => {
                        tracing::debug!("reading {}: {error}", socket.local());
                        break;
                    }
                };
                for mut received in receive.iter_mut() {
                    let origin = StrayOrigin {
                        source: received.source,
                        local: socket.local(),
                        traffic_class: received.traffic_class,
                        encapsulation: Encapsulation::Udp,
                    };
                    if received.truncated || received.data.is_empty() {
                        counters.inc(counter::RX_PACKETS);
                        counters.inc(counter::DROP_UNEXPECTED_PAYLOAD);
                        continue;
                    }
                    for segment in received.segments_mut() {
                        if !pass_on(strays, waiting, counters, origin, segment) {
                            deliver(counters, origin, segment, take);
                        }
                    }
                }
                if count < BATCH {
                    break;
                }
            }
        }
        if let Some(strays) = strays
            && (strays.has_more() || ready.contains(&RING))
        {
            strays.take(BATCH, |origin, message| {
                counters.inc(counter::RX_PACKETS);
                counters.add(counter::RX_OCTETS, message.len() as u64);
                match waiting.elsewhere(message) {
                    None => take(path_of(origin), message),
                    // Who passed it on knows the newest map; if not, it must not go round.
                    Some((slot, _)) => wait(waiting, counters, slot, origin, message),
                }
            });
        }
    }

    /// How much of the room of the fullest socket is in use, in percent.
    pub(crate) fn backlog(&self) -> u32 {
        let sockets = self.sockets.values();
        sockets
            .filter_map(|socket| socket.backlog().ok())
            .max()
            .unwrap_or(0)
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

/// What a datagram is, on a port.
enum Kind<'a> {
    /// IKE, without non-ESP marker.
    Ike(&'a [u8]),
    Keepalive,
    /// ESP, or nonsense that the data plane counts.
    Other,
}

fn kind_of(datagram: &[u8], port: u16) -> Kind<'_> {
    if port != NAT_PORT {
        return Kind::Ike(datagram);
    }
    match datagram.strip_prefix(&NON_ESP_MARKER) {
        Some(message) => Kind::Ike(message),
        None if *datagram == KEEPALIVE => Kind::Keepalive,
        None => Kind::Other,
    }
}

fn path_of(origin: StrayOrigin) -> Path {
    Path {
        local: origin.local,
        remote: origin.source,
    }
}

/// Hands what is not for us to the data plane, or keeps it if it will be. False when it is for us.
fn pass_on(
    strays: &mut Option<Strays>,
    waiting: &mut Waiting,
    counters: &Counters,
    origin: StrayOrigin,
    datagram: &[u8],
) -> bool {
    let Some(strays) = strays else { return false };
    let passed = match kind_of(datagram, origin.local.port()) {
        Kind::Ike(message) => match waiting.elsewhere(message) {
            None => return false,
            Some((slot, Place::Coming)) if message.len() <= LONGEST => {
                counters.inc(counter::RX_PACKETS);
                counters.add(counter::RX_OCTETS, datagram.len() as u64);
                wait(waiting, counters, slot, origin, message);
                return true;
            }
            Some(_) => strays.pass_on(StrayHeader::IKE, origin, message),
        },
        Kind::Other => strays.pass_on(StrayHeader::ESP, origin, datagram),
        Kind::Keepalive => return false,
    };
    counters.inc(if passed {
        ipsec::STRAYS_SENT
    } else {
        ipsec::STRAYS_LOST
    });
    true
}

fn wait(waiting: &mut Waiting, counters: &Counters, slot: Slot, origin: StrayOrigin, message: &[u8]) {
    let gone = waiting.keep(slot, path_of(origin), message);
    counters.add(ipsec::STRAYS_LOST, gone);
}

fn deliver(counters: &Counters, origin: StrayOrigin, datagram: &[u8], take: &mut dyn FnMut(Path, &[u8])) {
    counters.inc(counter::RX_PACKETS);
    counters.add(counter::RX_OCTETS, datagram.len() as u64);
    match kind_of(datagram, origin.local.port()) {
        Kind::Ike(message) if message.len() <= LONGEST => take(path_of(origin), message),
        Kind::Keepalive => counters.inc(counter::KEEPALIVE_RECV),
        Kind::Ike(_) | Kind::Other => counters.inc(counter::DROP_UNEXPECTED_PAYLOAD),
    }
}

#[cfg(test)]
mod tests;

//! Ordinary sockets: one end of a measurement on the kernel's own UDP, with a port for each flow to receive on.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netio::{Datagram, DatagramSocket, GRO_BUFFER_BYTES, Poller, ReceiveBatch, SendBatch, SocketOptions};

use super::sender::{Burst, Carrier};
use crate::pace::Pace;
use crate::packets::HEADERS;

const BATCH: usize = 32;

/// Sockets on consecutive ports of one address. All is sent from the first; flow n is received on port n.
pub(crate) struct Ports {
    sockets: Vec<DatagramSocket>,
    poller: Poller,
    receive: ReceiveBatch,
    send: SendBatch,
    /// Where each flow goes; without an address it is not sent.
    pub destinations: Vec<Option<SocketAddr>>,
    /// Payloads that wait for the flush: destination, end in `octets`, octets of each.
    waiting: Vec<(SocketAddr, usize, u16)>,
    octets: Vec<u8>,
    /// Of payloads that come.
    pace: Pace,
}

impl Ports {
    /// Binds `count` ports from `first` on.
    pub(crate) fn bind(address: IpAddr, first: u16, count: u16) -> Result<Self, String> {
        let text = |error: netio::Error| error.to_string();
        let poller = Poller::new(count.into()).map_err(text)?;
        let options = SocketOptions {
            gro: true,
            freebind: false,
            ..SocketOptions::default()
        };
        let mut sockets = Vec::new();
        for (place, number) in (0..count).zip(first..) {
            let socket = DatagramSocket::bind_udp(SocketAddr::new(address, number), options).map_err(text)?;
            poller.add(&socket, place.into()).map_err(text)?;
            sockets.push(socket);
        }
        if sockets.len() < usize::from(count) {
            return Err(format!("there are no {count} ports from {first} on"));
        }
        Ok(Self {
            sockets,
            poller,
            receive: ReceiveBatch::new(BATCH, GRO_BUFFER_BYTES),
            send: SendBatch::new(BATCH),
            destinations: Vec::new(),
            waiting: Vec::new(),
            octets: Vec::new(),
            pace: Pace::new(),
        })
    }

    /// Waits at most `timeout` and gives every payload to `take`, with its sender, the port it came to and the time, read once for what waited together. While much
    /// comes, that is up to a tenth of a millisecond later than it could be.
    pub(crate) fn receive(
        &mut self,
        timeout: Duration,
        mut take: impl FnMut(&[u8], SocketAddr, usize, u64),
    ) -> Result<(), String> {
        // With something else to do the caller does not wait.
        if !timeout.is_zero() {
            self.pace.rest();
        }
        let ready: Vec<u64> = self
            .poller
            .wait(Some(timeout))
            .map_err(|error| format!("receive: {error}"))?
            .collect();
        let (mut packets, mut more) = (0, false);
        for place in ready {
            let place = usize::try_from(place).unwrap_or(usize::MAX);
            let Some(socket) = self.sockets.get(place) else {
                continue;
            };
            // An error is one of an earlier send that is reported here: what was lost is counted.
            more |= self.receive.receive(socket).is_ok_and(|reads| reads == BATCH);
            let now = netio::task::monotonic_ns();
            for mut received in self.receive.iter_mut() {
                let source = received.source;
                for payload in received.segments_mut() {
                    packets += 1;
                    take(payload, source, place, now);
                }
            }
        }
        self.pace.took(packets, more);
        Ok(())
    }

    /// Sends one payload from port number `place`. What is lost is repeated by whoever waits for an answer.
    pub(crate) fn say(&mut self, payload: &[u8], destination: SocketAddr, place: usize) {
        if let Some(socket) = self.sockets.get(place) {
            let _ = self.send.send(socket, &[Datagram::to(destination, payload)]);
        }
    }
}

impl Carrier for Ports {
    fn carry(&mut self, burst: &Burst) {
        let Some(destination) = self.destinations.get(burst.flow).copied().flatten() else {
            return;
        };
        let length = burst.length.saturating_sub(HEADERS).max(super::wire::MARK);
        for mark in burst.marks() {
            let start = self.octets.len();
            self.octets.resize(start + length, 0);
            mark.write(self.octets.get_mut(start..).unwrap_or(&mut []));
        }
        let segment = u16::try_from(length).unwrap_or(u16::MAX);
        self.waiting.push((destination, self.octets.len(), segment));
    }

    fn flush(&mut self) -> Result<u64, String> {
        let Some(socket) = self.sockets.first() else {
            return Ok(0);
        };
        let mut start = 0;
        let mut datagrams = Vec::with_capacity(self.waiting.len());
        for (destination, end, segment) in &self.waiting {
            let data = self.octets.get(start..*end).unwrap_or(&[]);
            start = *end;
            datagrams.push(Datagram {
                segment: (data.len() > usize::from(*segment)).then_some(*segment),
                ..Datagram::to(*destination, data)
            });
        }
        let taken = match self.send.send(socket, &datagrams) {
            Ok(()) => datagrams.iter().map(Datagram::segments).sum(),
            // No room in the kernel, or no way at the moment: these packets were never sent.
            Err(stopped) => {
                let whole = datagrams.iter().take(stopped.sent).map(Datagram::segments);
                whole.sum::<usize>() + stopped.segments
            }
        };
        self.waiting.clear();
        self.octets.clear();
        Ok(taken as u64)
    }
}

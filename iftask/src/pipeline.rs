//! The data plane of a worker without the kernel, for `benches/pipeline`: the code that carries packets, with sockets and queues that forget.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use netio::{Datagram, Received, SendError};
use sadb::{Encapsulation, SlotWorker};
use telemetry::Counters;

use crate::counters::{Count, Statistics, Tally};
use crate::plane::{Engine, Io, Socket};

/// One worker: one UDP socket, one clear side.
pub struct Pipeline {
    engine: Engine<Nowhere>,
    statistics: Arc<Statistics>,
    context: u32,
}

impl Pipeline {
    /// A worker whose packets come to and leave from `local`, its clear side in `context`.
    pub fn new(local: SocketAddr, context: u32) -> Self {
        let statistics = Statistics::new();
        let tally = Tally::new(Counters::in_memory(), statistics.clone());
        let mut engine = Engine::new(Nowhere, 1, tally);
        engine.ports.add_socket(Socket {
            context,
            local,
            encapsulation: Encapsulation::Udp,
        });
        engine.ports.add_tun(context);
        Self {
            engine,
            statistics,
            context,
        }
    }

    /// Takes a slot over, with the SAs in it.
    pub fn add_slot(&mut self, slot: SlotWorker) {
        self.engine.add_slot(slot);
    }

    /// Begins a round at a time of CLOCK_MONOTONIC, as after a wait.
    pub fn begin(&mut self, now_ns: u64) {
        self.engine.begin(now_ns);
    }

    /// Datagrams, as one read of the socket gives them: opened, joined, written to the clear side.
    pub fn open<'p>(&mut self, batch: impl Iterator<Item = Received<'p>>) {
        self.engine.inbound(0, batch);
    }

    /// Packets behind their virtio-net headers, as reads of the clear side give them: sealed and sent.
    pub fn seal<'p>(&mut self, reads: impl Iterator<Item = &'p mut [u8]>) {
        self.engine.outbound(self.context, reads);
        self.engine.flush();
    }

    /// Ends a round.
    pub fn end(&mut self) {
        self.engine.end();
    }

    /// Packets opened and delivered, packets sealed and sent, in all rounds that have ended.
    pub fn carried(&self) -> (u64, u64) {
        let count = |count| self.statistics.get(count);
        (count(Count::Delivered), count(Count::EspSent))
    }
}

/// A world that forgets.
struct Nowhere;

impl Io for Nowhere {
    fn send(&mut self, _: usize, _: bool, _: &[Datagram<'_>]) -> Result<(), SendError> {
        Ok(())
    }

    fn write(&mut self, _: usize, _: &[IoSlice<'_>]) -> io::Result<()> {
        Ok(())
    }

    fn forward(&mut self, _: u32, _: &[u8]) -> bool {
        false
    }

    fn attract(&mut self, _: usize, _: IpAddr) {}

    fn spread(&mut self, _: usize, _: IpAddr) {}
}

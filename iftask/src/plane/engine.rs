//! The data plane without the kernel: everything between what was read and what is to be written.

use std::io::{self, IoSlice};

use esp::CoalescerSpace;
use esp::VnetHeader;
use sadb::{Encapsulation, Slot, SlotWorker, Spi};

use super::bursts::Bursts;
use super::flush::Failed;
use super::io::{Io, Ports};
use super::keepalive::Keepalives;
use super::moves::Moves;
use super::paths::MESSAGES;
use super::strays::Strays;
use super::table::Table;
use crate::counters::{Count, Tally};

/// Packets looked at together: what one needs is fetched into the cache while those before it are worked on.
pub(crate) const BATCH: usize = 64;
/// How many packets ahead of its turn the SA of a packet and its records are fetched, and its keys: where they are is known once the SA is there. A packet needs some 20
/// lines, so that few more packets ahead are more lines than a processor fetches at a time (measured: 8 and 4 cost a tenth more).
pub(crate) const FAR: usize = 4;
pub(crate) const NEAR: usize = 2;

/// How old the view of the slots may be, in nanoseconds, when a packet asks for what it does not have.
const REFRESH_NS: u64 = 1_000_000;
/// Answers to packets that are too big: a burst, and as many in a second (RFC 4443 2.4 (f)).
const ANSWERS: u64 = 200;
pub(crate) const SECOND_NS: u64 = 1_000_000_000;

/// What must not be joined in one super-packet: packets of different SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) context: u32,
    pub(crate) spi: Spi,
}

/// All state of the data plane of a worker. One per `iftask`, on its pinned thread.
pub(crate) struct Engine<I> {
    pub(crate) io: I,
    pub(crate) ports: Ports,
    pub(crate) table: Table,
    pub(crate) tally: Tally,
    pub(crate) strays: Strays,
    pub(crate) moves: Moves,
    pub(crate) keepalives: Keepalives,
    pub(crate) bursts: Bursts,
    pub(crate) space: CoalescerSpace<Tag>,
    /// UDP datagrams may be joined: false once the kernel refused.
    pub(crate) joins_datagrams: bool,
    /// CLOCK_MONOTONIC at the beginning of the round.
    pub(crate) now_ns: u64,
    refreshed_ns: u64,
    pub(crate) answers: RateLimit,
    pub(crate) path_messages: RateLimit,
    /// Scratch memory for a fragment and for a segment.
    pub(crate) fragment: Vec<u8>,
    pub(crate) segment: Vec<u8>,
    /// What the kernel refused, during a flush.
    pub(crate) failed: Vec<Failed>,
}

impl<I: Io> Engine<I> {
    /// The data plane of worker `worker`, with no slots, sockets or queues yet.
    pub(crate) fn new(io: I, worker: u16, tally: Tally) -> Self {
        Self {
            io,
            ports: Ports::default(),
            table: Table::new(),
            tally,
            strays: Strays::new(worker),
            moves: Moves::default(),
            keepalives: Keepalives::default(),
            bursts: Bursts::new(),
            space: CoalescerSpace::new(),
            joins_datagrams: true,
            now_ns: 0,
            refreshed_ns: 0,
            answers: RateLimit::new(ANSWERS),
            path_messages: RateLimit::new(MESSAGES),
            fragment: vec![0; usize::from(u16::MAX)],
            segment: vec![0; usize::from(u16::MAX)],
            failed: Vec::new(),
        }
    }

    /// Begins a round: notes the time, and looks for changed SAs if that was long ago.
    pub(crate) fn begin(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        if self.refresh_due() {
            self.refresh();
        }
    }

    /// Ends a round: sends what waits and makes the counts visible.
    pub(crate) fn end(&mut self) {
        self.announce();
        if !self.bursts.is_empty() {
            self.flush();
        }
        self.tally.publish();
    }

    /// Takes a slot over.
    pub(crate) fn add_slot(&mut self, worker: SlotWorker) {
        self.seal_runs();
        self.table.add_slot(worker);
    }

    /// Gives a slot up.
    pub(crate) fn drop_slot(&mut self, slot: Slot) {
        self.seal_runs();
        self.table.drop_slot(slot);
    }

    pub(crate) fn refresh_due(&self) -> bool {
        self.now_ns.saturating_sub(self.refreshed_ns) >= REFRESH_NS
    }

    /// Looks for changed SAs.
    pub(crate) fn refresh(&mut self) {
        self.refreshed_ns = self.now_ns;
        self.seal_runs();
        self.table.refresh();
        self.announce();
    }

    /// Sends a NAT keepalive to the peer of an SA, if its address has a socket.
    pub(crate) fn send_keepalive(&mut self, spi: Spi) {
        let Some(sa) = self.table.entries().get(spi) else {
            return;
        };
        let Some(socket) = self.ports.socket_for(sa.local, Encapsulation::Udp, sa.context) else {
            return;
        };
        let keepalive = [netio::Datagram::to(sa.peer, &[0xff])];
        if self.io.send(socket, false, &keepalive).is_ok() {
            self.tally.one(Count::KeepalivesSent, 1);
        }
    }
}

/// Writes a complete packet to a TUN queue.
pub(crate) fn write_plain(io: &mut impl Io, tun: usize, packet: &[u8]) -> io::Result<()> {
    let header = VnetHeader::default().to_bytes();
    io.write(tun, &[IoSlice::new(&header), IoSlice::new(packet)])
}

/// At most so many a second, with bursts as large.
#[derive(Debug)]
pub(crate) struct RateLimit {
    a_second: u64,
    tokens: u64,
    filled_ns: u64,
}

impl RateLimit {
    /// With a full bucket.
    pub(crate) fn new(a_second: u64) -> Self {
        Self {
            a_second,
            tokens: a_second,
            filled_ns: 0,
        }
    }

    /// Whether one more is allowed now.
    pub(crate) fn allow(&mut self, now_ns: u64) -> bool {
        let elapsed = now_ns.saturating_sub(self.filled_ns).min(SECOND_NS);
        let earned = elapsed * self.a_second / SECOND_NS;
        if earned > 0 {
            self.tokens = (self.tokens + earned).min(self.a_second);
            self.filled_ns = now_ns;
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_so_many_a_second() {
        let mut limit = RateLimit::new(10);
        let start = 5 * SECOND_NS;
        assert_eq!((0..20).filter(|_| limit.allow(start)).count(), 10);
        let allowed = (0..1000)
            .filter(|n| limit.allow(start + n * SECOND_NS / 1000))
            .count();
        assert!((9..=10).contains(&allowed), "{allowed}");
    }
}

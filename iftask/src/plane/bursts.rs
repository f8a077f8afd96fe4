//! Packets on their way to the network: for each SA a burst of equal length, which leaves with one call (UDP GSO).

use std::net::SocketAddr;

use netio::{Datagram, MAX_GSO_BYTES, MAX_GSO_SEGMENTS};
use sadb::{Encapsulation, Spi};

/// Bursts that can be under way at once.
pub(crate) const MOST_BURSTS: usize = 64;
/// Memory of a burst: what one send may carry, and some cache lines so that the beginnings of all bursts do not compete for the same places in the cache.
const BURST_BYTES: usize = 65_536 + 17 * 64;

/// How a packet leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    pub(crate) spi: Spi,
    pub(crate) socket: usize,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) destination: SocketAddr,
    pub(crate) traffic_class: u8,
    pub(crate) dont_fragment: bool,
    /// It may share a send with others. Not so what is longer than the path, which the kernel has to cut.
    pub(crate) joins: bool,
}

/// Packets of one SA, one after the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Burst {
    pub(crate) exit: Exit,
    /// Length of each packet but the last.
    pub(crate) segment: usize,
    pub(crate) used: usize,
    pub(crate) packets: u32,
    /// Bytes of the inner packets.
    pub(crate) inner: u64,
    closed: bool,
    run: Run,
}

/// Packets at the end of a burst that are laid out and not sealed: they are sealed several at once ([`esp::OutboundSa::seal_run`]).
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    packets: u32,
    octets: usize,
    inner: u64,
    /// They could not be sealed.
    spoilt: bool,
}

/// The memory and the state of all bursts of a batch.
pub(crate) struct Bursts {
    memory: Vec<u8>,
    list: Vec<Burst>,
    /// Some packets may not be sealed yet.
    has_runs: bool,
    /// Number of the batch, so that an SA knows whether its burst is of this one.
    batch: u64,
}

impl Bursts {
    pub(crate) fn new() -> Self {
        Self {
            memory: vec![0; MOST_BURSTS * BURST_BYTES],
            list: Vec::with_capacity(MOST_BURSTS),
            has_runs: false,
            batch: 1,
        }
    }

    /// A place for a sealed packet of `length` bytes: the SA's open burst, or a new one. `None` when all are taken: send them first.
    ///
    /// `last` is the SA's own note of its last burst, which is brought up to date.
    pub(crate) fn place(&mut self, last: &mut (u64, usize), exit: &Exit, length: usize) -> Option<usize> {
        if last.0 == self.batch
            && let Some(burst) = self.list.get(last.1)
            && burst.takes(exit, length)
        {
            return Some(last.1);
        }
        if self.is_full() {
            return None;
        }
        self.list.push(Burst {
            exit: *exit,
            segment: length,
            used: 0,
            packets: 0,
            inner: 0,
            closed: false,
            run: Run::default(),
        });
        let index = self.list.len() - 1;
        *last = (self.batch, index);
        Some(index)
    }

    /// Room at the end of a burst, for a packet of `length` bytes.
    pub(crate) fn room(&mut self, index: usize, length: usize) -> Option<&mut [u8]> {
        let burst = self.list.get(index)?;
        let start = index * BURST_BYTES + burst.used;
        let memory = self.memory.get_mut(start..(index + 1) * BURST_BYTES)?;
        memory.get_mut(..length)
    }

    /// Makes what was written into [`room`](Self::room) part of the burst.
    pub(crate) fn commit(&mut self, index: usize, length: usize, inner: usize) {
        if let Some(burst) = self.list.get_mut(index) {
            burst.used += length;
            burst.packets += 1;
            burst.inner += inner as u64;
            burst.closed |= length < burst.segment || !burst.exit.joins;
        }
    }

    /// Likewise for a packet that is only laid out: [`get`](Self::get) does not give it before [`sealed`](Self::sealed). Returns how many such the burst has.
    pub(crate) fn commit_laid_out(&mut self, index: usize, length: usize, inner: usize) -> usize {
        self.commit(index, length, inner);
        let Some(burst) = self.list.get_mut(index) else {
            return 0;
        };
        self.has_runs = true;
        burst.run.packets += 1;
        burst.run.octets += length;
        burst.run.inner += inner as u64;
        burst.run.packets as usize
    }

    /// Whether there may be packets that are not sealed.
    pub(crate) fn has_runs(&self) -> bool {
        self.has_runs
    }

    /// The packets of a burst that are not sealed, and the length of each but the last. `None` when all are, or these cannot be.
    pub(crate) fn run(&mut self, index: usize) -> Option<(&mut [u8], usize)> {
        let burst = self.list.get(index)?;
        let end = index * BURST_BYTES + burst.used;
        let bytes = self.memory.get_mut(end - burst.run.octets..end)?;
        (!bytes.is_empty() && !burst.run.spoilt).then_some((bytes, burst.segment))
    }

    /// All packets of a burst are sealed now; or those that were not are spoilt.
    pub(crate) fn sealed(&mut self, index: usize, is_done: bool) {
        if let Some(burst) = self.list.get_mut(index) {
            if is_done {
                burst.run = Run::default();
            } else {
                burst.run.spoilt = true;
                burst.closed = true;
            }
        }
    }

    /// Takes packets that are not sealed out of a burst; returns whose they are, how many, and the bytes of their inner packets.
    pub(crate) fn give_up(&mut self, index: usize) -> Option<(Spi, u64, u64)> {
        let burst = self.list.get_mut(index)?;
        let run = std::mem::take(&mut burst.run);
        burst.used -= run.octets;
        burst.packets -= run.packets;
        burst.inner -= run.inner;
        (run.packets > 0).then_some((burst.exit.spi, run.packets.into(), run.inner))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// No other can be begun.
    pub(crate) fn is_full(&self) -> bool {
        self.list.len() >= MOST_BURSTS
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// A burst and its bytes, never such as are not sealed.
    pub(crate) fn get(&self, index: usize) -> Option<(&Burst, &[u8])> {
        let burst = self.list.get(index)?;
        let start = index * BURST_BYTES;
        let end = start + burst.used - burst.run.octets;
        Some((burst, self.memory.get(start..end)?))
    }

    /// Forgets all bursts.
    pub(crate) fn clear(&mut self) {
        self.list.clear();
        self.has_runs = false;
        self.batch += 1;
    }
}

impl Burst {
    fn takes(&self, exit: &Exit, length: usize) -> bool {
        !self.closed
            && self.exit == *exit
            && length <= self.segment
            && self.packets < MAX_GSO_SEGMENTS as u32
            && self.used + length <= MAX_GSO_BYTES
    }

    /// The datagrams to hand to the kernel: one with segmentation for UDP, each packet by itself for protocol 50.
    pub(crate) fn datagrams<'b>(&self, bytes: &'b [u8]) -> impl Iterator<Item = Datagram<'b>> {
        let whole = self.exit.encapsulation == Encapsulation::Udp;
        let length = if whole { bytes.len() } else { self.segment };
        let segment = (whole && self.packets > 1).then_some(self.segment as u16);
        let exit = self.exit;
        bytes.chunks(length.max(1)).map(move |data| Datagram {
            destination: exit.destination,
            source: None,
            data,
            segment,
            traffic_class: exit.traffic_class,
        })
    }
}

//! The counters of a child SA.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Spi;
use crate::map::Shared;

/// What is counted for each child SA. Bytes are those of inner packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum SaCounter {
    /// Packets received and delivered.
    PacketsIn,
    /// Bytes received and delivered.
    BytesIn,
    /// Packets sent.
    PacketsOut,
    /// Bytes sent.
    BytesOut,
    /// Received, integrity check failed.
    DropAuthentication,
    /// Received, number seen before or left of the window.
    DropReplay,
    /// Received and authentic, but the inner packet does not match the SA's selectors.
    DropSelector,
    /// Received, too short, bad padding, or not an IP packet inside.
    DropMalformed,
    /// Received on an SA that is not active.
    DropInactive,
    /// To be sent, all sequence numbers used.
    DropSequence,
    /// To be sent, longer than the outer MTU allows and must not be fragmented.
    DropTooBig,
    /// To be sent, refused by the kernel.
    DropSend,
    /// Received and authentic, TUN refused it.
    DropDeliver,
}

const COUNTERS: usize = 15;

impl SaCounter {
    /// Every counter, in the order of the record.
    pub const ALL: [Self; 13] = [
        Self::PacketsIn,
        Self::BytesIn,
        Self::PacketsOut,
        Self::BytesOut,
        Self::DropAuthentication,
        Self::DropReplay,
        Self::DropSelector,
        Self::DropMalformed,
        Self::DropInactive,
        Self::DropSequence,
        Self::DropTooBig,
        Self::DropSend,
        Self::DropDeliver,
    ];
}

#[repr(C, align(64))]
pub(crate) struct CounterRecord {
    spi: AtomicU64,
    cells: [AtomicU64; COUNTERS],
}

// SAFETY: repr(C), atomics only, 16 words without padding.
unsafe impl Shared for CounterRecord {}

impl CounterRecord {
    /// Prepares the record for a new SA. Owner only.
    pub(crate) fn reset(&self, spi: Spi) {
        self.cells
            .iter()
            .for_each(|cell| cell.store(0, Ordering::Relaxed));
        self.spi.store(spi.to_u32().into(), Ordering::Release);
    }

    /// The SPI whose counters these are, `None` before the first use.
    pub(crate) fn spi(&self) -> Option<Spi> {
        u32::try_from(self.spi.load(Ordering::Acquire))
            .ok()
            .and_then(Spi::from_u32)
    }

    /// What packets that get through change, in one cache line.
    pub(crate) fn often(&self) -> &AtomicU64 {
        &self.spi
    }

    pub(crate) fn snapshot(&self) -> SaCounters {
        let mut values = [0; COUNTERS];
        values
            .iter_mut()
            .zip(&self.cells)
            .for_each(|(value, cell)| *value = cell.load(Ordering::Relaxed));
        SaCounters { values }
    }
}

/// The worker's hand on the counters of one SA.
#[derive(Clone, Copy)]
pub struct CounterCells<'a> {
    pub(crate) record: &'a CounterRecord,
}

impl CounterCells<'_> {
    /// Adds to a counter. One writer, so a load and a store do; readers may be a moment behind.
    pub fn add(&self, counter: SaCounter, count: u64) {
        if let Some(cell) = self.record.cells.get(counter as usize) {
            cell.store(
                cell.load(Ordering::Relaxed).wrapping_add(count),
                Ordering::Relaxed,
            );
        }
    }

    /// Adds one packet of `bytes` received and delivered.
    pub fn received(&self, packets: u64, bytes: u64) {
        self.add(SaCounter::PacketsIn, packets);
        self.add(SaCounter::BytesIn, bytes);
    }

    /// Adds packets of together `bytes` sent.
    pub fn sent(&self, packets: u64, bytes: u64) {
        self.add(SaCounter::PacketsOut, packets);
        self.add(SaCounter::BytesOut, bytes);
    }

    /// What they say now.
    pub fn snapshot(&self) -> SaCounters {
        self.record.snapshot()
    }
}

/// The counters of one SA at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaCounters {
    values: [u64; COUNTERS],
}

impl SaCounters {
    /// One counter's value.
    pub fn get(&self, counter: SaCounter) -> u64 {
        self.values.get(counter as usize).copied().unwrap_or(0)
    }

    /// All drops together.
    pub fn drops(&self) -> u64 {
        SaCounter::ALL
            .iter()
            .skip_while(|counter| **counter != SaCounter::DropAuthentication)
            .map(|c| self.get(*c))
            .sum()
    }
}

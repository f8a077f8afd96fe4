//! When something is due: one entry for each IKE SA, at its earliest deadline, cancelled by being out of date.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use crate::output::IkeSaId;

/// Deadlines of all IKE SAs. An IKE SA remembers for which instant it is in here; an entry for another instant is stale and
/// is dropped when it comes up. An IKE SA whose deadline moves later keeps its entry and goes in again when that comes up.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, IkeSaId)>>,
}

impl Timers {
    /// Adds an entry.
    pub fn push(&mut self, at: Instant, ike: IkeSaId) {
        self.heap.push(Reverse((at, ike)));
    }

    /// The earliest entry, stale or not.
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _))| *at)
    }

    /// Takes the earliest entry that is due.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, IkeSaId)> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry)
    }
}

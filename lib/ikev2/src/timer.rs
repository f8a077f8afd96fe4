//! When something is due: one entry for each IKE SA, at its earliest deadline, cancelled by being out of date.
//!
//! A hierarchical timing wheel: adding and taking cost the same with ten IKE SAs and with a million. Time is cut into ticks. A deadline lies at the level
//! of the highest six bits in which its tick differs from the current one, so all of a level is due before anything of the level above, and a place is
//! dealt out among lower levels when time comes to it. What the current tick has come to is put in order exactly, in a heap that stays small.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use crate::output::IkeSaId;

/// Nanoseconds of a tick, as a power of two: about a millisecond.
const TICK_BITS: u32 = 20;
/// Places of a level, as a power of two: one for each bit of a word.
const LEVEL_BITS: u32 = 6;
const PLACES: usize = 1 << LEVEL_BITS;
/// As many as a 64-bit number of nanoseconds needs.
const LEVELS: usize = (u64::BITS - TICK_BITS).div_ceil(LEVEL_BITS) as usize;

/// Deadlines of all IKE SAs. An IKE SA remembers for which instant it is in here; an entry for another instant is stale and
/// is dropped when it comes up. An IKE SA whose deadline moves later keeps its entry and goes in again when that comes up.
#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Tick 0: the first deadline that came.
    origin: Option<Instant>,
    /// Everything up to and with this tick is in `near`, and nothing later is.
    current: u64,
    levels: [Level; LEVELS],
    near: BinaryHeap<Reverse<(Instant, IkeSaId)>>,
}

#[derive(Debug)]
struct Level {
    /// A bit for each place that has entries.
    occupied: u64,
    places: [Place; PLACES],
}

#[derive(Debug, Default)]
struct Place {
    entries: Vec<Entry>,
    /// The earliest of them, in nanoseconds since the origin.
    earliest: u64,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    /// Nanoseconds since the origin.
    at: u64,
    ike: IkeSaId,
}

impl Default for Level {
    fn default() -> Self {
        Self {
            occupied: 0,
            places: std::array::from_fn(|_| Place::default()),
        }
    }
}

impl Timers {
    /// Adds an entry.
    pub fn push(&mut self, at: Instant, ike: IkeSaId) {
        let origin = *self.origin.get_or_insert(at);
        let since = at
            .checked_duration_since(origin)
            .and_then(|since| u64::try_from(since.as_nanos()).ok());
        match since {
            Some(since) => self.put(origin, Entry { at: since, ike }),
            // Before tick 0, or centuries after it: the heap takes any instant.
            None => self.near.push(Reverse((at, ike))),
        }
    }

    /// The earliest entry, stale or not.
    pub fn next(&self) -> Option<Instant> {
        let near = self.near.peek().map(|Reverse((at, _))| *at);
        let far = self.first().and_then(|(level, place)| {
            let place = self.levels.get(level)?.places.get(place)?;
            self.origin?.checked_add(Duration::from_nanos(place.earliest))
        });
        near.into_iter().chain(far).min()
    }

    /// Takes the earliest entry that is due.
    pub fn pop(&mut self, now: Instant) -> Option<(Instant, IkeSaId)> {
        self.advance(now);
        let (at, _) = self.near.peek()?.0;
        if at > now {
            return None;
        }
        self.near.pop().map(|Reverse(entry)| entry)
    }

    /// Brings everything up to the tick of `now` to `near`.
    fn advance(&mut self, now: Instant) {
        let Some(origin) = self.origin else { return };
        let Some(since) = now.checked_duration_since(origin) else {
            return;
        };
        let now = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX) >> TICK_BITS;
        while let Some((level, place)) = self.first() {
            let shift = level as u32 * LEVEL_BITS;
            // The place shares all bits above its level with the current tick.
            let above = self.current.checked_shr(shift + LEVEL_BITS).unwrap_or(0);
            let begins = (above << LEVEL_BITS | place as u64) << shift;
            if begins > now {
                break;
            }
            self.current = begins;
            for entry in self.take(level, place) {
                self.put(origin, entry);
            }
        }
        self.current = self.current.max(now);
    }

    /// The earliest place with entries: its level and its number there.
    fn first(&self) -> Option<(usize, usize)> {
        let mut levels = self.levels.iter().enumerate();
        levels.find_map(|(level, Level { occupied, .. })| {
            (*occupied != 0).then(|| (level, occupied.trailing_zeros() as usize))
        })
    }

    fn take(&mut self, level: usize, place: usize) -> Vec<Entry> {
        let Some(level) = self.levels.get_mut(level) else {
            return Vec::new();
        };
        level.occupied &= !(1 << place);
        let place = level.places.get_mut(place);
        place.map_or_else(Vec::new, |place| std::mem::take(&mut place.entries))
    }

    fn put(&mut self, origin: Instant, entry: Entry) {
        let tick = entry.at >> TICK_BITS;
        if tick > self.current {
            let level = (tick ^ self.current).ilog2() / LEVEL_BITS;
            let place = (tick >> (level * LEVEL_BITS)) as usize % PLACES;
            if let Some(level) = self.levels.get_mut(level as usize)
                && let Some(found) = level.places.get_mut(place)
            {
                level.occupied |= 1 << place;
                let earliest = found.entries.is_empty() || entry.at < found.earliest;
                if earliest {
                    found.earliest = entry.at;
                }
                return found.entries.push(entry);
            }
        }
        // Cannot be too late: it is an instant less the origin.
        if let Some(at) = origin.checked_add(Duration::from_nanos(entry.at)) {
            self.near.push(Reverse((at, entry.ike)));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is added when, in which order of magnitude; and how far time goes on after it.
    fn steps() -> impl Strategy<Value = Vec<(u64, u32, u64, u32)>> {
        proptest::collection::vec((any::<u64>(), 0u32..64, any::<u64>(), 0u32..50), 0..200)
    }

    proptest! {
        #[test]
        fn it_is_the_heap_it_stands_for(steps in steps()) {
            let start = Instant::now() + Duration::from_secs(1_000);
            let mut now = start;
            let mut timers = Timers::default();
            let mut model = BinaryHeap::new();
            for (number, (delay, fewer, pause, shorter)) in (1u64..).zip(steps) {
                let ike = IkeSaId(number);
                let delay = Duration::from_nanos(delay >> fewer);
                // Some deadlines are past when they come.
                let at = if number % 5 == 0 { now.checked_sub(delay).unwrap_or(start) } else { now + delay };
                timers.push(at, ike);
                model.push(Reverse((at, ike)));
                prop_assert_eq!(timers.next(), model.peek().map(|Reverse((at, _))| *at));
                now += Duration::from_nanos(pause >> (14 + shorter));
                while let Some(entry) = timers.pop(now) {
                    prop_assert_eq!(Some(Reverse(entry)), model.pop());
                }
                prop_assert!(model.peek().is_none_or(|Reverse((at, _))| *at > now));
                prop_assert_eq!(timers.next(), model.peek().map(|Reverse((at, _))| *at));
            }
        }
    }

    #[test]
    fn what_falls_due_at_once_comes_in_order() {
        let start = Instant::now();
        let mut timers = Timers::default();
        for number in (1..=1_000).rev() {
            timers.push(start + Duration::from_nanos(number), IkeSaId(number));
        }
        assert_eq!(timers.pop(start), None);
        let popped: Vec<u64> = std::iter::from_fn(|| timers.pop(start + Duration::from_secs(1)))
            .map(|(_, ike)| ike.0)
            .collect();
        assert_eq!(popped, (1..=1_000).collect::<Vec<_>>());
        assert_eq!(timers.next(), None);
    }
}

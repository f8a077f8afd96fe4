//! The change log: tells `iftask` which records of a slot changed, without a system call.
//!
//! A ring of words, each `position << 14 | index`. The owner stores the word, then publishes the position after it. A reader that finds
//! another position in a word than it looks for was lapped and has to look at every record.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::{SaIndex, Spi};

/// Changes that a reader may be behind before it is lapped.
pub(crate) const LOG_ENTRIES: usize = 4096;

/// What a reader of the change log has to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Read this record again.
    Record(SaIndex),
    /// Read every record again: more happened than the log holds.
    Rescan,
}

/// Appends a change. Owner only.
pub(crate) fn append(head: &AtomicU64, entries: &[AtomicU64], index: SaIndex) {
    let position = head.load(Ordering::Relaxed);
    if let Some(entry) = entry(entries, position) {
        entry.store(
            position << Spi::INDEX_BITS | u64::from(index.number()),
            Ordering::Release,
        );
    }
    head.store(position.wrapping_add(1), Ordering::Release);
}

/// Has every reader look at every record. Owner only.
pub(crate) fn lap(head: &AtomicU64) {
    let position = head.load(Ordering::Relaxed);
    head.store(position.wrapping_add(LOG_ENTRIES as u64 + 1), Ordering::Release);
}

/// The change at `position`, which is moved on; `None` when there is no newer one.
pub(crate) fn next(head: &AtomicU64, entries: &[AtomicU64], position: &mut u64) -> Option<Change> {
    let newest = head.load(Ordering::Acquire);
    if *position == newest {
        return None;
    }
    let word = entry(entries, *position)?.load(Ordering::Acquire);
    let index = SaIndex::new((word & ((1 << Spi::INDEX_BITS) - 1)) as u16);
    match index {
        Some(index) if word >> Spi::INDEX_BITS == *position => {
            *position = position.wrapping_add(1);
            Some(Change::Record(index))
        }
        _ => {
            *position = newest;
            Some(Change::Rescan)
        }
    }
}

fn entry(entries: &[AtomicU64], position: u64) -> Option<&AtomicU64> {
    entries.get((position % LOG_ENTRIES as u64) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log() -> (AtomicU64, Vec<AtomicU64>) {
        (
            AtomicU64::new(0),
            (0..LOG_ENTRIES).map(|_| AtomicU64::new(0)).collect(),
        )
    }

    fn index(n: usize) -> SaIndex {
        SaIndex::new((n % 16384) as u16).unwrap()
    }

    #[test]
    fn every_change_is_reported_once_and_in_order_across_the_wrap() {
        let (head, entries) = log();
        let mut position = 0;
        for round in 0..3 * LOG_ENTRIES {
            append(&head, &entries, index(round));
            append(&head, &entries, index(round + 1));
            assert_eq!(
                next(&head, &entries, &mut position),
                Some(Change::Record(index(round)))
            );
            assert_eq!(
                next(&head, &entries, &mut position),
                Some(Change::Record(index(round + 1)))
            );
            assert_eq!(next(&head, &entries, &mut position), None);
        }
    }

    #[test]
    fn a_reader_that_was_up_to_date_is_lapped_too() {
        let (head, entries) = log();
        let mut position = 0;
        for n in 0..10 {
            append(&head, &entries, index(n));
            next(&head, &entries, &mut position);
        }
        lap(&head);
        assert_eq!(next(&head, &entries, &mut position), Some(Change::Rescan));
        assert_eq!(next(&head, &entries, &mut position), None);
    }

    #[test]
    fn a_lapped_reader_is_told_once() {
        let (head, entries) = log();
        let mut position = 0;
        for n in 0..LOG_ENTRIES + 1 {
            append(&head, &entries, index(n));
        }
        assert_eq!(next(&head, &entries, &mut position), Some(Change::Rescan));
        assert_eq!(next(&head, &entries, &mut position), None);
        append(&head, &entries, index(42));
        assert_eq!(
            next(&head, &entries, &mut position),
            Some(Change::Record(index(42)))
        );
    }
}

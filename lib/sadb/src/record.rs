//! One child SA's record in the keys segment, under a sequence lock.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use zeroize::Zeroizing;

use crate::codec::{self, BODY_BYTES, Body};
use crate::map::Shared;
use crate::word::store;
use crate::{ChildSa, Error, SaIndex};

const BODY_WORDS: usize = BODY_BYTES / 8;
/// A writer holds the lock for well under a microsecond; a reader that meets it this often met a dead one.
const READ_ATTEMPTS: usize = 64;

/// What the record is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    Free,
    Reserved,
    Installed,
}

/// Set in the state of a record whose child SA sends.
const SENDS: u64 = 0x80;

/// `sequence` is odd while the owner writes. `state` is `uses << 8 | SENDS | Use`; alone it may change without the lock.
#[repr(C, align(64))]
pub(crate) struct Record {
    sequence: AtomicU64,
    state: AtomicU64,
    body: [AtomicU64; BODY_WORDS],
}

// SAFETY: repr(C), atomics only, 88 words without padding.
unsafe impl Shared for Record {}

impl Record {
    /// How often the record was freed, and what it is used for now. Only the owner may rely on it outside the lock.
    pub(crate) fn usage(&self) -> (u64, Use) {
        split_state(self.state.load(Ordering::Relaxed))
    }

    /// Reads the child SA, `None` when none is installed. [`Error::Torn`] when no undisturbed read succeeded.
    pub(crate) fn read(&self, index: SaIndex) -> Result<Option<ChildSa>, Error> {
        for _ in 0..READ_ATTEMPTS {
            let before = self.sequence.load(Ordering::Acquire);
            if before % 2 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let state = self.state.load(Ordering::Relaxed);
            let (_, used) = split_state(state);
            let mut body: Body = Zeroizing::new([0; BODY_BYTES]);
            if used == Use::Installed {
                for (bytes, word) in body.as_chunks_mut().0.iter_mut().zip(&self.body) {
                    *bytes = word.load(Ordering::Relaxed).to_le_bytes();
                }
            }
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) != before {
                continue;
            }
            if used != Use::Installed {
                return Ok(None);
            }
            let sa = codec::decode(&body)?;
            return Ok(Some(ChildSa {
                outbound_active: state & SENDS != 0,
                ..sa
            }));
        }
        Err(Error::Torn {
            index: index.number(),
        })
    }

    /// Whether a write was begun and never ended: the mark that a dead owner leaves.
    pub(crate) fn is_torn(&self) -> bool {
        self.sequence.load(Ordering::Relaxed) % 2 == 1
    }

    /// Marks the record reserved, with nothing in it. Owner only.
    pub(crate) fn reserve(&self) {
        let (uses, _) = self.usage();
        self.write(uses << 8 | Use::Reserved as u64, &Zeroizing::new([0; BODY_BYTES]));
    }

    /// Writes a child SA where none is. Owner only.
    pub(crate) fn install(&self, sa: &ChildSa) {
        self.write(self.installed(sa.outbound_active), &codec::encode(sa));
    }

    /// Writes a child SA over what is known of it. Owner only, which can end it in a later life.
    pub(crate) fn update(&self, sa: &ChildSa, index: SaIndex, redo: &Redo) {
        let body = codec::encode(sa);
        redo.note(index, &body);
        self.write(self.installed(sa.outbound_active), &body);
        redo.forget();
    }

    /// Has the child SA send, or not: one store, which nobody can find half done. Owner only.
    pub(crate) fn set_outbound(&self, active: bool) {
        store(&self.state, self.installed(active));
    }

    /// Overwrites the keys with zeros and makes the record free for its next use. Owner only.
    pub(crate) fn free(&self) {
        let (uses, _) = self.usage();
        let state = uses.wrapping_add(1) << 8 | Use::Free as u64;
        self.write(state, &Zeroizing::new([0; BODY_BYTES]));
    }

    /// Ends what a dead owner had begun: an update as it was meant to be; otherwise the record is empty, and reserved unless it was freed. Owner only.
    pub(crate) fn repair(&self, index: SaIndex, redo: &Redo) {
        match (redo.pending(index), self.usage().1) {
            (Some(body), Use::Installed) => {
                self.write(self.state.load(Ordering::Relaxed), &body);
                redo.forget();
            }
            _ if !self.is_torn() => {}
            (_, Use::Free) => self.free(),
            (_, Use::Reserved | Use::Installed) => self.reserve(),
        }
    }

    /// The state of this use with a child SA.
    fn installed(&self, sends: bool) -> u64 {
        let (uses, _) = self.usage();
        uses << 8 | if sends { SENDS } else { 0 } | Use::Installed as u64
    }

    fn write(&self, state: u64, body: &Body) {
        // Odd from here on, also when a dead owner left it odd.
        let odd = self.sequence.load(Ordering::Relaxed) | 1;
        store(&self.sequence, odd);
        fence(Ordering::Release);
        store(&self.state, state);
        write_body(&self.body, body);
        store(&self.sequence, odd.wrapping_add(1));
    }
}

/// The change of a record that is being made, so that a successor can end it.
#[repr(C, align(64))]
pub(crate) struct Redo {
    /// The record's index, plus one; 0 = none is being made.
    record: AtomicU64,
    body: [AtomicU64; BODY_WORDS],
}

/// Room for one.
pub(crate) const REDO_BYTES: usize = size_of::<Redo>();

// SAFETY: repr(C), atomics only; the padding behind the last field is never read.
unsafe impl Shared for Redo {}

impl Redo {
    fn note(&self, index: SaIndex, body: &Body) {
        write_body(&self.body, body);
        fence(Ordering::SeqCst);
        store(&self.record, u64::from(index.number()) + 1);
        fence(Ordering::SeqCst);
    }

    /// What record `index` was to become.
    fn pending(&self, index: SaIndex) -> Option<Body> {
        if self.record.load(Ordering::Acquire) != u64::from(index.number()) + 1 {
            return None;
        }
        let mut body: Body = Zeroizing::new([0; BODY_BYTES]);
        for (bytes, word) in body.as_chunks_mut().0.iter_mut().zip(&self.body) {
            *bytes = word.load(Ordering::Relaxed).to_le_bytes();
        }
        Some(body)
    }

    /// The change is made: keeps no copy of the keys. Owner only.
    pub(crate) fn forget(&self) {
        fence(Ordering::SeqCst);
        store(&self.record, 0);
        write_body(&self.body, &Zeroizing::new([0; BODY_BYTES]));
    }
}

fn write_body(words: &[AtomicU64; BODY_WORDS], body: &Body) {
    for (word, bytes) in words.iter().zip(body.as_chunks().0) {
        store(word, u64::from_le_bytes(*bytes));
    }
}

fn split_state(state: u64) -> (u64, Use) {
    let used = match state & (SENDS - 1) {
        1 => Use::Reserved,
        2 => Use::Installed,
        _ => Use::Free,
    };
    (state >> 8, used)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::tests::sample;
    use crate::{Slot, Spi};

    fn record() -> Record {
        Record {
            sequence: AtomicU64::new(0),
            state: AtomicU64::new(0),
            body: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    fn index() -> SaIndex {
        SaIndex::new(9).unwrap()
    }

    #[test]
    fn keys_are_zero_after_free() {
        let record = record();
        let sa = sample(Spi::new(Slot::MIN, 0, index()));
        record.install(&sa);
        assert_eq!(record.read(index()).unwrap(), Some(sa));
        record.free();
        assert_eq!(record.usage(), (1, Use::Free));
        assert!(record.body.iter().all(|word| word.load(Ordering::Relaxed) == 0));
        assert_eq!(record.read(index()).unwrap(), None);
    }

    #[test]
    fn a_write_that_never_ended_is_seen_and_repaired_by_the_next() {
        let record = record();
        let sa = sample(Spi::new(Slot::MIN, 0, index()));
        record.install(&sa);
        record.sequence.fetch_add(1, Ordering::Relaxed);
        record.body[3].store(u64::MAX, Ordering::Relaxed);
        assert!(record.is_torn());
        assert!(matches!(record.read(index()), Err(Error::Torn { index: 9 })));
        record.install(&sa);
        assert!(!record.is_torn());
        assert_eq!(record.read(index()).unwrap(), Some(sa));
    }

    /// Two child SAs alternate under a reader, which must never see a mixture.
    #[test]
    fn a_reader_never_sees_half_a_write() {
        let record = record();
        let spi = Spi::new(Slot::MIN, 0, index());
        let (first, mut second) = (sample(spi), sample(spi));
        second.outbound_spi = 1;
        second.inbound_keys.encryption = crate::SecretBytes::new("key", &[0xee; 32]).unwrap();
        second.lifetimes.hard_bytes = 1;
        second.inbound_active = false;
        record.install(&first);
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..20_000 {
                    record.install(if round % 2 == 0 { &second } else { &first });
                }
                done.store(true, Ordering::Relaxed);
            });
            let mut read = 0;
            while !done.load(Ordering::Relaxed) {
                match record.read(index()) {
                    Ok(Some(sa)) => {
                        assert!(sa == first || sa == second);
                        read += 1;
                    }
                    Err(Error::Torn { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
            assert!(read > 0);
        });
    }
}

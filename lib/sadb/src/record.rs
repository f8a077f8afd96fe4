//! One child SA's record in the keys segment, under a sequence lock.

use std::sync::atomic::{AtomicU64, Ordering, fence};

use zeroize::Zeroizing;

use crate::codec::{self, BODY_BYTES, Body};
use crate::map::Shared;
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

/// `sequence` is odd while the owner writes. `state` is `uses << 8 | Use`.
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
            let (_, used) = self.usage();
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
            return if used == Use::Installed {
                codec::decode(&body).map(Some)
            } else {
                Ok(None)
            };
        }
        Err(Error::Torn {
            index: index.number(),
        })
    }

    /// Whether a write was begun and never ended: the mark that a dead owner leaves.
    pub(crate) fn is_torn(&self) -> bool {
        self.sequence.load(Ordering::Relaxed) % 2 == 1
    }

    /// Marks the record reserved. Owner only.
    pub(crate) fn reserve(&self) {
        let (uses, _) = self.usage();
        self.write(uses, Use::Reserved, &Zeroizing::new([0; BODY_BYTES]));
    }

    /// Writes the child SA. Owner only.
    pub(crate) fn install(&self, sa: &ChildSa) {
        let (uses, _) = self.usage();
        self.write(uses, Use::Installed, &codec::encode(sa));
    }

    /// Overwrites the keys with zeros and makes the record free for its next use. Owner only.
    pub(crate) fn free(&self) {
        let (uses, _) = self.usage();
        self.write(uses.wrapping_add(1), Use::Free, &Zeroizing::new([0; BODY_BYTES]));
    }

    fn write(&self, uses: u64, used: Use, body: &Body) {
        // Odd from here on, also when a dead owner left it odd.
        let odd = self.sequence.load(Ordering::Relaxed) | 1;
        self.sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        self.state.store(uses << 8 | used as u64, Ordering::Relaxed);
        for (word, bytes) in self.body.iter().zip(body.as_chunks().0) {
            word.store(u64::from_le_bytes(*bytes), Ordering::Relaxed);
        }
        self.sequence.store(odd.wrapping_add(1), Ordering::Release);
    }
}

fn split_state(state: u64) -> (u64, Use) {
    let used = match state & 0xff {
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

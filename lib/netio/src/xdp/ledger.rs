//! Whose a frame is: a word for each in the shared memory, so that it outlives whoever works with the frames.
//!
//! A frame is either ours (0) or was given: then the word has the number of its entry in the ring by which it was given (fill or transmit), written *before*
//! the entry is produced. It is ours again from when its entry in the other ring (receive or completion) was seen, which is written *before* that entry is
//! consumed. So whoever finds the memory of a process that was killed knows of every frame:
//!
//! | word | in the ring that gives back, not consumed | entry produced | whose |
//! |---|---|---|---|
//! | any | yes | | about to be given back: given |
//! | ours | no | | ours |
//! | given | no | no: the process died between word and producer | ours |
//! | given | no | yes | the kernel's |

use std::sync::atomic::{AtomicU64, Ordering};

use super::FRAME_BYTES;
use super::ring::Ring;

const OURS: u64 = 0;
const GIVEN: u64 = 1 << 32;

/// The words of consecutive frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ledger<'m> {
    words: &'m [AtomicU64],
    /// Number of the first of these frames in the memory of the queue.
    first: usize,
}

impl<'m> Ledger<'m> {
    pub(super) fn new(words: &'m [AtomicU64], first: usize) -> Self {
        Self { words, first }
    }

    /// The frame that an address is in, if it is one of these.
    pub(super) fn frame_at(self, address: u64) -> Option<usize> {
        let frame = usize::try_from(address).ok()? / FRAME_BYTES;
        frame
            .checked_sub(self.first)
            .filter(|place| *place < self.words.len())?;
        Some(frame)
    }

    /// Notes that a frame will be given by entry `index`.
    pub(super) fn give(self, frame: usize, index: u32) {
        if let Some(word) = self.word(frame) {
            word.store(GIVEN | u64::from(index), Ordering::Relaxed);
        }
    }

    /// Notes that a frame came back; false when it was not away, so that it must not be used as if it came.
    pub(super) fn take(self, frame: usize) -> bool {
        let Some(word) = self.word(frame) else {
            return false;
        };
        let was_given = word.load(Ordering::Relaxed) != OURS;
        if was_given {
            word.store(OURS, Ordering::Relaxed);
        }
        was_given
    }

    /// Puts the words of a process that died right: returns the frames that are ours. `giving` is the ring by which they leave, `returning` the one by which
    /// they come back.
    pub(super) fn recover(self, giving: &Ring, size: u32, returning: &Ring) -> Vec<usize> {
        let produced = giving.produced();
        let mut index = returning.consumed();
        while index != returning.produced() {
            let entry = returning.read(index);
            if let Some(frame) = entry.and_then(|entry| self.frame_at(entry.address)) {
                // As if it were still away, which `take` expects.
                self.give(frame, produced.wrapping_sub(1));
            }
            index = index.wrapping_add(1);
        }
        let is_ours = |word: &AtomicU64| {
            let word = word.load(Ordering::Relaxed);
            // Entries that were not produced are ahead of the producer, by less than the ring has places.
            word & GIVEN == 0 || (word as u32).wrapping_sub(produced) < size
        };
        let words = (self.first..).zip(self.words);
        let ours: Vec<usize> = words
            .filter(|(_, word)| is_ours(word))
            .map(|(frame, _)| frame)
            .collect();
        for frame in &ours {
            if let Some(word) = self.word(*frame) {
                word.store(OURS, Ordering::Relaxed);
            }
        }
        ours
    }

    fn word(self, frame: usize) -> Option<&'m AtomicU64> {
        self.words.get(frame.checked_sub(self.first)?)
    }
}

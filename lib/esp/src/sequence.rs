//! Sequence numbers: the high half of extended ones, and the anti-replay window.

use sadb::{Hot, MAX_REPLAY_WINDOW, ReplayVerdict};

/// Where the numbers received on an SA are remembered: the shared segment ([`SharedReplay`]) or plain memory ([`ReplayWindow`]).
pub trait Replay {
    /// The highest number received, 0 before the first packet.
    fn top(&self) -> u64;
    /// Its width in packets, 0 when the check is off.
    fn window(&self) -> u16;
    /// Looks a number up, before the packet is authenticated. Changes nothing.
    fn check(&self, sequence: u64) -> ReplayVerdict;
    /// Looks it up again and marks it, after the packet was authenticated and before it is delivered.
    fn accept(&mut self, sequence: u64) -> ReplayVerdict;
}

/// The full number of a packet on an SA with extended sequence numbers, from its low half (RFC 4303 appendix A2.2).
///
/// `top` is the highest number received so far, `window` the width of the replay window, 0 when it is off. `None` when the number would have to be
/// below zero, so that the packet cannot be authentic.
pub fn extended(low: u32, top: u64, window: u16) -> Option<u64> {
    // Without a window nothing says how far back a packet may be: take the nearest number.
    let window = match window {
        0 => 1 << 31,
        packets => u32::from(packets),
    };
    let (top_high, top_low) = (top >> 32, top as u32);
    let bottom = top_low.wrapping_sub(window - 1);
    let high = if top_low >= window - 1 {
        // Case A: the window lies within one subspace.
        if low >= bottom { top_high } else { top_high + 1 }
    } else if low >= bottom {
        // Case B: it spans two, and the packet is in the older.
        top_high.checked_sub(1)?
    } else {
        top_high
    };
    Some(high << 32 | u64::from(low))
}

/// The replay window of an SA in its slot's segment.
#[derive(Clone, Copy)]
pub struct SharedReplay<'a> {
    /// The SA's hot record.
    pub hot: Hot<'a>,
    /// Width in packets, 0 = off.
    pub window: u16,
}

impl Replay for SharedReplay<'_> {
    fn top(&self) -> u64 {
        self.hot.replay_top()
    }

    fn window(&self) -> u16 {
        self.window
    }

    fn check(&self, sequence: u64) -> ReplayVerdict {
        self.hot.check(sequence, self.window)
    }

    fn accept(&mut self, sequence: u64) -> ReplayVerdict {
        self.hot.accept(sequence, self.window)
    }
}

const WORDS: usize = MAX_REPLAY_WINDOW as usize / 64;

/// A replay window in plain memory, for peers that share nothing (the simulator).
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    top: u64,
    window: u16,
    /// Bit `n % 512` is set when number `n` was received.
    bits: [u64; WORDS],
}

impl ReplayWindow {
    /// An empty window of `window` packets, at most [`MAX_REPLAY_WINDOW`]; 0 = off.
    pub fn new(window: u16) -> Self {
        Self {
            top: 0,
            window: window.min(MAX_REPLAY_WINDOW),
            bits: [0; WORDS],
        }
    }

    fn bit(sequence: u64) -> (usize, u64) {
        ((sequence / 64) as usize % WORDS, 1 << (sequence % 64))
    }
}

impl Replay for ReplayWindow {
    fn top(&self) -> u64 {
        self.top
    }

    fn window(&self) -> u16 {
        self.window
    }

    fn check(&self, sequence: u64) -> ReplayVerdict {
        if self.window == 0 || sequence > self.top {
            return ReplayVerdict::Fresh;
        }
        // The first packet has number 1 (RFC 4303 3.3.3).
        if sequence == 0 || self.top - sequence >= u64::from(self.window) {
            return ReplayVerdict::TooOld;
        }
        let (word, bit) = Self::bit(sequence);
        match self.bits.get(word) {
            Some(bits) if bits & bit == 0 => ReplayVerdict::Fresh,
            _ => ReplayVerdict::Duplicate,
        }
    }

    fn accept(&mut self, sequence: u64) -> ReplayVerdict {
        let verdict = self.check(sequence);
        if verdict != ReplayVerdict::Fresh {
            return verdict;
        }
        if sequence > self.top {
            // Numbers in between were not received; after 512 of them nothing is left of what was.
            for skipped in (self.top + 1..=sequence).take(MAX_REPLAY_WINDOW.into()) {
                let (word, bit) = Self::bit(skipped);
                if let Some(bits) = self.bits.get_mut(word) {
                    *bits &= !bit;
                }
            }
            if sequence - self.top >= u64::from(MAX_REPLAY_WINDOW) {
                self.bits = [0; WORDS];
            }
            self.top = sequence;
        }
        let (word, bit) = Self::bit(sequence);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= bit;
        }
        ReplayVerdict::Fresh
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn high_half_at_the_edges() {
        // Before the first packet, and in order.
        assert_eq!(extended(1, 0, 64), Some(1));
        assert_eq!(extended(0xffff_ffff, 0, 64), None);
        // Across the first wrap, both ways.
        assert_eq!(extended(0, 0xffff_ffff, 64), Some(1 << 32));
        assert_eq!(extended(5, 0xffff_fff0, 64), Some((1 << 32) + 5));
        assert_eq!(extended(0xffff_fff0, (1 << 32) + 5, 64), Some(0xffff_fff0));
        // Just inside and just outside the window: outside means the next subspace.
        assert_eq!(extended(100 - 63, (7 << 32) + 100, 64), Some((7 << 32) + 37));
        assert_eq!(extended(100 - 64, (7 << 32) + 100, 64), Some((8 << 32) + 36));
        // No window: the nearest.
        assert_eq!(extended(1, (7 << 32) + (1 << 31), 0), Some((7 << 32) + 1));
    }

    proptest! {
        /// A number that is at most a window behind or less than 2^32 minus a window ahead is always recovered.
        #[test]
        fn high_half_is_recovered(top in 0u64..1 << 40, window in 32u16..=512, step in -511i64..(1 << 32) - 512) {
            let sequence = top.saturating_add_signed(step);
            prop_assume!(sequence > 0 && sequence + u64::from(window) > top);
            prop_assert_eq!(extended(sequence as u32, top, window), Some(sequence));
        }

        /// Against the definition: a set of everything received.
        #[test]
        fn window_follows_the_definition(window in prop_oneof![Just(0u16), 32u16..=512], steps in proptest::collection::vec((0u64..1200, any::<bool>()), 1..300)) {
            let mut replay = ReplayWindow::new(window);
            let (mut top, mut seen) = (0u64, HashSet::new());
            for (step, forward) in steps {
                let sequence = if forward { top + step } else { top.saturating_sub(step) };
                let expected = if window == 0 {
                    ReplayVerdict::Fresh
                } else if sequence == 0 || sequence + u64::from(window) <= top {
                    ReplayVerdict::TooOld
                } else if seen.contains(&sequence) {
                    ReplayVerdict::Duplicate
                } else {
                    ReplayVerdict::Fresh
                };
                prop_assert_eq!(replay.check(sequence), expected);
                prop_assert_eq!(replay.accept(sequence), expected);
                if expected == ReplayVerdict::Fresh {
                    seen.insert(sequence);
                    top = top.max(sequence);
                }
                prop_assert_eq!(replay.top(), top);
            }
        }
    }
}

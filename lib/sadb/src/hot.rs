//! The hot record of a child SA: what changes with every packet.
//!
//! Sequence words carry the generation of the SPI in their top ten bits. So a worker that has not yet noticed that a record was given to
//! another SA finds out at the first number that it reserves or checks, and no number of the new SA is used with the old key.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::codec::{address_bytes, address_from};
use crate::map::Shared;
use crate::{MAX_REPLAY_WINDOW, Spi};

const WINDOW_WORDS: usize = MAX_REPLAY_WINDOW as usize / 64;
const SEQUENCE_BITS: u32 = 64 - Spi::GENERATION_BITS;
const SEQUENCE_MASK: u64 = (1 << SEQUENCE_BITS) - 1;
/// The last sequence number of an SA without ESN (RFC 4303 2.2).
const LAST_SHORT: u64 = u32::MAX as u64;
/// The last sequence number we send with ESN: far below 2^64 - 1, and still 570 years at a million packets per second.
const LAST_EXTENDED: u64 = SEQUENCE_MASK >> 1;
const READ_ATTEMPTS: usize = 64;

#[repr(C, align(64))]
pub(crate) struct HotRecord {
    /// Generation, and the last sequence number reserved for sending.
    outbound: AtomicU64,
    /// Generation, and the highest sequence number received and authenticated.
    replay_top: AtomicU64,
    last_in: AtomicU64,
    last_out: AtomicU64,
    /// Odd while the learned endpoint is written; 0 = never was.
    peer_sequence: AtomicU64,
    /// Family (0 = no endpoint learned) in the low byte, port above it; then what is known of the path (see [`PathMtu`]): 16 bits and 24, 0 = nothing.
    peer_port: AtomicU64,
    peer_address: [AtomicU64; 2],
    /// Bit `n % 512` is set when number `n` was received.
    window: [AtomicU64; WINDOW_WORDS],
}

// SAFETY: repr(C), atomics only, 16 words without padding.
unsafe impl Shared for HotRecord {}

impl HotRecord {
    /// Prepares the record for a new SA. Owner only.
    pub(crate) fn reset(&self, generation: u16) {
        let tag = u64::from(generation) << SEQUENCE_BITS;
        self.outbound.store(tag, Ordering::Relaxed);
        self.replay_top.store(tag, Ordering::Relaxed);
        for word in [
            &self.last_in,
            &self.last_out,
            &self.peer_sequence,
            &self.peer_port,
        ] {
            word.store(0, Ordering::Relaxed);
        }
        self.window
            .iter()
            .chain(&self.peer_address)
            .for_each(|word| word.store(0, Ordering::Relaxed));
        fence(Ordering::Release);
    }

    /// What packets that leave change, in one cache line.
    pub(crate) fn outbound(&self) -> &AtomicU64 {
        &self.outbound
    }

    pub(crate) fn activity(&self, generation: u16) -> Option<Activity> {
        let [outbound, top] =
            [&self.outbound, &self.replay_top].map(|word| untag(word.load(Ordering::Relaxed), generation));
        Some(Activity {
            last_in_ns: self.last_in.load(Ordering::Relaxed),
            last_out_ns: self.last_out.load(Ordering::Relaxed),
            outbound_sequence: outbound?,
            inbound_sequence: top?,
            learned_peer: self.learned_peer(),
        })
    }

    fn learned_peer(&self) -> Option<SocketAddr> {
        for _ in 0..READ_ATTEMPTS {
            let before = self.peer_sequence.load(Ordering::Acquire);
            if before == 0 {
                return None;
            }
            if before % 2 == 1 {
                std::hint::spin_loop();
                continue;
            }
            let [family, low, high, ..] = self.peer_port.load(Ordering::Relaxed).to_le_bytes();
            let mut address = [0; 17];
            let (first, octets) = address.split_at_mut(1);
            first.fill(family);
            for (chunk, word) in octets.as_chunks_mut().0.iter_mut().zip(&self.peer_address) {
                *chunk = word.load(Ordering::Relaxed).to_le_bytes();
            }
            fence(Ordering::Acquire);
            if self.peer_sequence.load(Ordering::Relaxed) == before {
                return address_from(&address).map(|ip| SocketAddr::new(ip, u16::from_le_bytes([low, high])));
            }
        }
        None
    }
}

/// What the owner sees of an SA's life. Times are nanoseconds of CLOCK_MONOTONIC, 0 = never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Activity {
    /// The last authenticated packet from the peer.
    pub last_in_ns: u64,
    /// The last packet to the peer.
    pub last_out_ns: u64,
    /// The last sequence number reserved for sending.
    pub outbound_sequence: u64,
    /// The highest sequence number received.
    pub inbound_sequence: u64,
    /// Where the peer's newest authenticated packet came from, if not from where IKE knows it.
    pub learned_peer: Option<SocketAddr>,
}

/// What routers said about packets to the peer that were too long. A new endpoint has another path, so learning one forgets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathMtu {
    /// Longest outer packet.
    pub mtu: u16,
    /// Believed until then (nanoseconds of CLOCK_MONOTONIC), kept to some 17 s.
    pub until_ns: u64,
}

impl PathMtu {
    /// Where it lies in `peer_port`: above family and port.
    const SHIFT: u32 = 24;
    /// A tick of the time that is kept: 2^34 ns, of which 24 bits last nine years.
    const TICK_BITS: u32 = 34;

    fn from_word(word: u64) -> Option<Self> {
        let [.., low, high, a, b, c] = word.to_le_bytes();
        let mtu = u16::from_le_bytes([low, high]);
        let ticks = u64::from(u32::from_le_bytes([a, b, c, 0]));
        (mtu != 0).then_some(Self {
            mtu,
            until_ns: ticks << Self::TICK_BITS,
        })
    }

    fn to_word(self) -> u64 {
        let ticks = self.until_ns.div_ceil(1 << Self::TICK_BITS);
        (u64::from(self.mtu) | ticks << u16::BITS) << Self::SHIFT
    }
}

/// Why no sequence number could be reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SequenceExhausted {
    /// All numbers of the SA are used (RFC 4303 3.3.3): it must be rekeyed.
    Spent,
    /// The record belongs to another SA by now.
    Stale,
}

/// What the replay window says of a sequence number (RFC 4303 3.4.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplayVerdict {
    /// Not seen yet, inside the window or to its right.
    Fresh,
    /// Received before.
    Duplicate,
    /// Left of the window, so nobody knows.
    TooOld,
    /// The record belongs to another SA by now.
    Stale,
}

/// The worker's hand on a hot record. Cheap to make for each packet. There is one worker, so nothing here is contended.
#[derive(Clone, Copy)]
pub struct Hot<'a> {
    pub(crate) record: &'a HotRecord,
    pub(crate) generation: u16,
}

impl Hot<'_> {
    /// Reserves `count` sequence numbers for sending and returns the first. Nothing else ever gets them, also not after a crash.
    ///
    /// With `esn` numbers above 2^32 - 1 are given out, otherwise [`SequenceExhausted::Spent`].
    pub fn reserve(&self, count: u32, esn: bool) -> Result<u64, SequenceExhausted> {
        let last = if esn { LAST_EXTENDED } else { LAST_SHORT };
        let fits = |used: u64| used.checked_add(count.into()).is_some_and(|end| end <= last);
        // Looking first keeps a spent counter from creeping on with every packet that is refused.
        let word = &self.record.outbound;
        match untag(word.load(Ordering::Relaxed), self.generation) {
            None => return Err(SequenceExhausted::Stale),
            Some(used) if !fits(used) => return Err(SequenceExhausted::Spent),
            Some(_) => {}
        }
        match untag(word.fetch_add(count.into(), Ordering::Relaxed), self.generation) {
            Some(used) if fits(used) => Ok(used + 1),
            Some(_) => Err(SequenceExhausted::Spent),
            None => Err(SequenceExhausted::Stale),
        }
    }

    /// The highest number received: what ESN inference starts from (RFC 4303 appendix A2). 0 before the first packet.
    pub fn replay_top(&self) -> u64 {
        self.record.replay_top.load(Ordering::Relaxed) & SEQUENCE_MASK
    }

    /// Looks a (full, 64-bit) sequence number up, before the packet is authenticated. Changes nothing. `window` 0 = check off.
    pub fn check(&self, sequence: u64, window: u16) -> ReplayVerdict {
        let Some(top) = untag(self.record.replay_top.load(Ordering::Relaxed), self.generation) else {
            return ReplayVerdict::Stale;
        };
        if window == 0 {
            return ReplayVerdict::Fresh;
        }
        // The first packet has number 1 (RFC 4303 3.3.3); 0 is never sent.
        if sequence == 0 || sequence > SEQUENCE_MASK {
            return ReplayVerdict::TooOld;
        }
        if sequence > top {
            return ReplayVerdict::Fresh;
        }
        if top - sequence >= window.min(MAX_REPLAY_WINDOW).into() {
            return ReplayVerdict::TooOld;
        }
        let (word, bit) = self.bit(sequence);
        if word.is_some_and(|word| word.load(Ordering::Relaxed) & bit == 0) {
            ReplayVerdict::Fresh
        } else {
            ReplayVerdict::Duplicate
        }
    }

    /// Checks again and marks the number as received, after the packet was authenticated and before it is delivered. Only after
    /// [`ReplayVerdict::Fresh`] may it be delivered.
    ///
    /// Order of the stores: top, then the bits. A crash between them leaves bits of numbers 512 lower standing, which can lose packets to
    /// come, but never forgets one that was delivered.
    pub fn accept(&self, sequence: u64, window: u16) -> ReplayVerdict {
        let verdict = self.check(sequence, window);
        if verdict != ReplayVerdict::Fresh {
            return verdict;
        }
        let top = self.replay_top();
        if sequence > top && sequence <= SEQUENCE_MASK {
            let tag = u64::from(self.generation) << SEQUENCE_BITS;
            self.record.replay_top.store(tag | sequence, Ordering::Relaxed);
            fence(Ordering::Release);
            self.forget(top, sequence);
        }
        let (word, bit) = self.bit(sequence);
        if let Some(word) = word {
            word.store(word.load(Ordering::Relaxed) | bit, Ordering::Relaxed);
        }
        ReplayVerdict::Fresh
    }

    /// Notes the time of an authenticated packet from the peer (nanoseconds of CLOCK_MONOTONIC).
    pub fn received_at(&self, now_ns: u64) {
        self.record.last_in.store(now_ns, Ordering::Relaxed);
    }

    /// Notes the time of a packet to the peer.
    pub fn sent_at(&self, now_ns: u64) {
        self.record.last_out.store(now_ns, Ordering::Relaxed);
    }

    /// When the last packet left, 0 = never.
    pub fn last_sent_ns(&self) -> u64 {
        self.record.last_out.load(Ordering::Relaxed)
    }

    /// What is known of the path to the peer.
    pub fn path(&self) -> Option<PathMtu> {
        PathMtu::from_word(self.record.peer_port.load(Ordering::Relaxed))
    }

    /// Takes over what a router said of the path.
    pub fn learn_path(&self, path: PathMtu) {
        // Family and port stay as they are, so whoever reads the endpoint meanwhile reads the same.
        let word = self.record.peer_port.load(Ordering::Relaxed);
        let endpoint = word & ((1 << PathMtu::SHIFT) - 1);
        self.record
            .peer_port
            .store(endpoint | path.to_word(), Ordering::Relaxed);
    }

    /// Where packets to the peer go, if that was learned from an authenticated packet.
    pub fn learned_peer(&self) -> Option<SocketAddr> {
        self.record.learned_peer()
    }

    /// Takes over a new outer address of the peer. Only from an authenticated packet newer than all before (RFC 7296 2.23).
    pub fn learn_peer(&self, peer: SocketAddr) {
        self.write_peer(address_bytes(peer.ip()), peer.port());
    }

    /// Goes back to the address in the SA's record (IKE moved it: MOBIKE, or a NAT mapping confirmed by IKE).
    pub fn forget_peer(&self) {
        self.write_peer([0; 17], 0);
    }

    fn write_peer(&self, [family, octets @ ..]: [u8; 17], port: u16) {
        let record = self.record;
        let odd = record.peer_sequence.load(Ordering::Relaxed) | 1;
        record.peer_sequence.store(odd, Ordering::Relaxed);
        fence(Ordering::Release);
        let [low, high] = port.to_le_bytes();
        record.peer_port.store(
            u64::from_le_bytes([family, low, high, 0, 0, 0, 0, 0]),
            Ordering::Relaxed,
        );
        for (word, chunk) in record.peer_address.iter().zip(octets.as_chunks().0) {
            word.store(u64::from_le_bytes(*chunk), Ordering::Relaxed);
        }
        record.peer_sequence.store(odd.wrapping_add(1), Ordering::Release);
    }

    fn bit(&self, sequence: u64) -> (Option<&AtomicU64>, u64) {
        (
            self.record.window.get((sequence / 64) as usize % WINDOW_WORDS),
            1 << (sequence % 64),
        )
    }

    /// Clears the bits of the numbers above `top`, up to and including `new_top`.
    fn forget(&self, top: u64, new_top: u64) {
        if new_top - top >= MAX_REPLAY_WINDOW.into() {
            self.record
                .window
                .iter()
                .for_each(|word| word.store(0, Ordering::Relaxed));
            return;
        }
        let mut at = top + 1;
        while at <= new_top {
            let count = (64 - at % 64).min(new_top - at + 1);
            let mask = u64::MAX >> (64 - count) << (at % 64);
            if let (Some(word), _) = self.bit(at) {
                word.store(word.load(Ordering::Relaxed) & !mask, Ordering::Relaxed);
            }
            at += count;
        }
    }
}

fn untag(word: u64, generation: u16) -> Option<u64> {
    (word >> SEQUENCE_BITS == generation.into()).then_some(word & SEQUENCE_MASK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn record() -> HotRecord {
        let zero = || AtomicU64::new(0);
        HotRecord {
            outbound: zero(),
            replay_top: zero(),
            last_in: zero(),
            last_out: zero(),
            peer_sequence: zero(),
            peer_port: zero(),
            peer_address: [zero(), zero()],
            window: std::array::from_fn(|_| zero()),
        }
    }

    #[test]
    fn numbers_begin_at_one_and_end_with_the_sequence_space() {
        let record = record();
        record.reset(5);
        let hot = Hot {
            record: &record,
            generation: 5,
        };
        assert_eq!(hot.reserve(10, false), Ok(1));
        assert_eq!(hot.reserve(1, false), Ok(11));
        record.outbound.fetch_add(LAST_SHORT - 12, Ordering::Relaxed);
        assert_eq!(hot.reserve(2, false), Err(SequenceExhausted::Spent));
        assert_eq!(hot.reserve(1, false), Ok(LAST_SHORT));
        assert_eq!(hot.reserve(1, false), Err(SequenceExhausted::Spent));
        assert_eq!(hot.reserve(1, true), Ok(LAST_SHORT + 1));
    }

    #[test]
    fn an_old_generation_gets_no_number_and_accepts_no_packet() {
        let record = record();
        record.reset(5);
        let old = Hot {
            record: &record,
            generation: 5,
        };
        assert_eq!(old.accept(1, 64), ReplayVerdict::Fresh);
        record.reset(6);
        assert_eq!(old.reserve(1, true), Err(SequenceExhausted::Stale));
        assert_eq!(old.accept(2, 64), ReplayVerdict::Stale);
        assert_eq!(record.activity(5), None);
        let activity = record.activity(6).unwrap();
        assert_eq!((activity.inbound_sequence, activity.outbound_sequence), (0, 0));
    }

    #[test]
    fn threads_never_share_a_number() {
        let record = record();
        record.reset(1023);
        let hot = Hot {
            record: &record,
            generation: 1023,
        };
        let mut numbers: Vec<u64> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(move || {
                        (0..2000)
                            .map(|_| hot.reserve(3, false).unwrap())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect()
        });
        numbers.sort_unstable();
        assert!(
            numbers
                .iter()
                .enumerate()
                .all(|(n, first)| *first == 3 * n as u64 + 1)
        );
    }

    #[test]
    fn learned_peer_is_kept_for_both_families() {
        let record = record();
        record.reset(0);
        let hot = Hot {
            record: &record,
            generation: 0,
        };
        assert_eq!(hot.learned_peer(), None);
        for peer in ["192.0.2.7:4500", "[2001:db8::7]:61000"] {
            let peer = peer.parse().unwrap();
            hot.learn_peer(peer);
            assert_eq!(hot.learned_peer(), Some(peer));
            assert_eq!(record.activity(0).unwrap().learned_peer, Some(peer));
        }
        hot.forget_peer();
        assert_eq!(hot.learned_peer(), None);
    }

    #[test]
    fn what_is_known_of_a_path_stands_beside_the_endpoint() {
        const TICK: u64 = 1 << PathMtu::TICK_BITS;
        let record = record();
        record.reset(0);
        let hot = Hot {
            record: &record,
            generation: 0,
        };
        assert_eq!(hot.path(), None);
        let path = PathMtu {
            mtu: 1280,
            until_ns: 5 * TICK - 3,
        };
        hot.learn_path(path);
        let kept = PathMtu {
            until_ns: 5 * TICK,
            ..path
        };
        assert_eq!((hot.path(), hot.learned_peer()), (Some(kept), None));
        let peer = "[2001:db8::7]:61000".parse().unwrap();
        hot.learn_peer(peer);
        assert_eq!(
            (hot.path(), hot.learned_peer()),
            (None, Some(peer)),
            "another path"
        );
        hot.learn_path(PathMtu { mtu: 65_535, ..kept });
        assert_eq!(hot.path().map(|path| path.mtu), Some(65_535));
        assert_eq!(hot.learned_peer(), Some(peer));
    }

    #[test]
    fn a_crash_after_any_store_never_forgets_a_delivered_packet() {
        // Everything up to 1000 delivered; 1300 arrives and the process dies right after the new top was stored.
        let record = record();
        record.reset(0);
        let hot = Hot {
            record: &record,
            generation: 0,
        };
        (1..=1000).for_each(|n| assert_eq!(hot.accept(n, 512), ReplayVerdict::Fresh));
        record.replay_top.store(1300, Ordering::Relaxed);
        for delivered in 1..=1000 {
            assert_ne!(hot.check(delivered, 512), ReplayVerdict::Fresh, "{delivered}");
        }
    }

    proptest! {
        /// Against the definition: a set of everything received.
        #[test]
        fn window_follows_the_definition(window in prop_oneof![Just(32u16), Just(64), Just(512), 32u16..=512], steps in proptest::collection::vec((0u64..1200, any::<bool>()), 1..300)) {
            let record = record();
            record.reset(9);
            let hot = Hot { record: &record, generation: 9 };
            let (mut top, mut seen) = (0u64, HashSet::new());
            for (step, forward) in steps {
                let sequence = if forward { top + step } else { top.saturating_sub(step) };
                let expected = if sequence == 0 || sequence + u64::from(window) <= top {
                    ReplayVerdict::TooOld
                } else if seen.contains(&sequence) {
                    ReplayVerdict::Duplicate
                } else {
                    ReplayVerdict::Fresh
                };
                prop_assert_eq!(hot.check(sequence, window), expected);
                prop_assert_eq!(hot.accept(sequence, window), expected);
                if expected == ReplayVerdict::Fresh {
                    seen.insert(sequence);
                    top = top.max(sequence);
                }
                prop_assert_eq!(hot.replay_top(), top);
            }
        }
    }
}

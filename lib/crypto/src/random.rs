//! Where random bytes come from.

use std::thread;

use aws_lc_rs::rand;

use crate::hash;

/// A source of random bytes. Protocol libraries take one as a parameter and use no other.
pub trait Random: Send {
    /// Fills `out` with random bytes.
    fn fill(&mut self, out: &mut [u8]);
}

impl dyn Random + '_ {
    /// An array of random bytes, e.g. a nonce or a cookie secret.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        self.fill(&mut out);
        out
    }

    /// A random 32-bit number.
    pub fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.array())
    }

    /// A random 64-bit number.
    pub fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.array())
    }
}

/// The cryptographic random generator of the process, seeded by the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandom;

impl SystemRandom {
    /// Seeds the generator, on a thread of its own: aws-lc gathers entropy from the processor's jitter first, which takes some 30 ms, once in
    /// a process. Whoever needs a random number meanwhile waits for it, as without this; a process that is given no thread seeds it then.
    pub fn seed_ahead() {
        let seed = || Self.fill(&mut [0; 1]);
        drop(thread::Builder::new().name("seed".to_owned()).spawn(seed));
    }
}

impl Random for SystemRandom {
    #[expect(
        clippy::expect_used,
        reason = "a gateway that has no entropy must stop, not send predictable keys"
    )]
    fn fill(&mut self, out: &mut [u8]) {
        rand::fill(out).expect("the system's random generator works");
    }
}

/// A repeatable source for tests and simulations: the same seed gives the same bytes. **Never** for real keys, as
/// anyone who knows the seed knows them.
#[derive(Debug, Clone)]
pub struct TestRandom {
    seed: u64,
    counter: u64,
    block: [u8; 32],
    used: usize,
}

impl TestRandom {
    /// A source that is fully determined by `seed`.
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            counter: 0,
            block: [0; 32],
            used: 32,
        }
    }
}

impl Random for TestRandom {
    fn fill(&mut self, out: &mut [u8]) {
        for byte in out {
            if self.used == self.block.len() {
                self.block = hash::sha256(&[&self.seed.to_be_bytes(), &self.counter.to_be_bytes()]);
                self.counter += 1;
                self.used = 0;
            }
            *byte = self.block[self.used];
            self.used += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn same_seed_same_bytes_however_they_are_taken() {
        let mut whole = [0; 100];
        TestRandom::new(7).fill(&mut whole);
        let mut pieces = TestRandom::new(7);
        for chunk in whole.chunks(13) {
            let mut piece = vec![0; chunk.len()];
            pieces.fill(&mut piece);
            assert_eq!(piece, chunk);
        }
        let mut other = [0; 100];
        TestRandom::new(8).fill(&mut other);
        assert_ne!(whole, other);
    }

    #[test]
    fn system_random_does_not_repeat() {
        let random: &mut dyn Random = &mut SystemRandom;
        assert_ne!(random.array::<32>(), random.array::<32>());
        assert_ne!(random.u64(), random.u64());
    }
}

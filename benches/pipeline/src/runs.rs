//! What it gains that packets of a CBC suite are sealed several at once: packets of one SA that follow each other, as a super-packet gives them, beside packets each of
//! another SA, which are sealed one by one. Both are the same code over the same octets.

use std::time::Instant;

use crypto::{Cipher, Integrity};
use esp::Transform;
use netio::task::monotonic_ns;

use crate::measure::{Carrier, TURNS, median};
use crate::packets::{Chance, Sizes};
use crate::tunnels::{BATCH, Tunnels, Way};

/// Nanoseconds to seal a packet.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    pub single_ns: f64,
    pub run_ns: f64,
}

impl Runs {
    /// How many times as fast packets in runs are.
    pub fn gain(&self) -> f64 {
        self.single_ns / self.run_ns
    }
}

/// Measures so many batches of each.
pub fn measure(batches: usize) -> Result<Runs, String> {
    let transform = Transform::new(Cipher::AesCbc128, Some(Integrity::HmacSha2_256_128));
    let transform = transform.map_err(|error| error.to_string())?;
    let mut kinds = Vec::new();
    for tunnels in [BATCH, 1] {
        let mut built = Tunnels::with(transform, tunnels, 1..=1)?;
        built.warm_up()?;
        kinds.push((built, Vec::new()));
    }
    let mut chance = Chance::new(12345);
    for _ in 0..TURNS {
        for (tunnels, times) in &mut kinds {
            let before = tunnels.carried().1;
            let batches = batches.div_ceil(TURNS);
            for _ in 0..batches {
                tunnels.prepare_in_turn(Way::Seal, 0, Sizes::Long, &mut chance)?;
                let now_ns = monotonic_ns();
                let start = Instant::now();
                tunnels.round(Way::Seal, now_ns);
                times.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
            }
            let (sealed, expected) = (tunnels.carried().1 - before, (batches * BATCH) as u64);
            if sealed != expected {
                return Err(format!("of {expected} packets of AES-CBC {sealed} were sealed"));
            }
        }
    }
    let mut medians = kinds.into_iter().map(|(_, times)| median(times));
    let mut next = || medians.next().unwrap_or_default();
    Ok(Runs {
        single_ns: next(),
        run_ns: next(),
    })
}

//! Nanoseconds per packet.

use std::sync::Barrier;
use std::thread::scope;
use std::time::Instant;

use netio::task::{monotonic_ns, pin_to_cpu, usable_cpus};

use crate::packets::{Chance, Sizes};
use crate::tunnels::{BATCH, Tunnels, Way};

/// Tunnels of the measurements with one worker.
const TUNNELS: [usize; 3] = [1, 100, 100_000];
/// Tunnels of the measurement with two.
const SHARED: usize = 100_000;
/// Slots of all workers together.
const SLOTS: usize = 255;

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub sizes: Sizes,
    pub tunnels: usize,
    pub workers: usize,
    /// Nanoseconds per packet of each worker, their mean.
    pub open_ns: f64,
    pub seal_ns: f64,
}

impl Row {
    /// Packets a second of all workers, as many opened as sealed.
    pub fn rate(&self) -> f64 {
        self.workers as f64 * 2e9 / (self.open_ns + self.seal_ns)
    }

    /// Bits of inner packets a second.
    pub fn bits(&self) -> f64 {
        self.rate() * self.sizes.mean() * 8.0
    }
}

/// Measures everything, or only what has packets of these sizes.
pub fn all(batches: usize, only: Option<Sizes>) -> Result<Vec<Row>, String> {
    let cpus = usable_cpus().map_err(|error| error.to_string())?;
    let wanted: Vec<Sizes> = Sizes::ALL
        .into_iter()
        .filter(|sizes| only.is_none_or(|only| only == *sizes))
        .collect();
    let mut rows = Vec::new();
    for tunnels in TUNNELS {
        rows.extend(run(tunnels, cpus.get(..1).unwrap_or(&cpus), &wanted, batches)?);
    }
    match cpus.get(..2) {
        Some(two) => rows.extend(run(SHARED, two, &wanted, batches)?),
        None => eprintln!("one processor only: two workers are not measured"),
    }
    Ok(rows)
}

/// Measures with a worker on each of the processors, which share the tunnels.
fn run(tunnels: usize, cpus: &[usize], wanted: &[Sizes], batches: usize) -> Result<Vec<Row>, String> {
    let barrier = Barrier::new(cpus.len());
    let work = |worker: usize, cpu: usize| -> Result<Vec<(f64, f64)>, String> {
        pin_to_cpu(cpu).map_err(|error| error.to_string())?;
        let slots = SLOTS / cpus.len();
        let first = worker * slots;
        let built = Tunnels::new(tunnels / cpus.len(), first as u8 + 1..=(first + slots) as u8);
        // Who fails must not keep the others waiting.
        let ready = built.and_then(|mut built| built.warm_up().map(|()| built));
        barrier.wait();
        let mut ready = ready?;
        let mut times = Vec::new();
        for sizes in wanted {
            barrier.wait();
            times.push(medians(&mut ready, *sizes, batches));
        }
        times.into_iter().collect()
    };
    let all: Vec<Vec<(f64, f64)>> = scope(|scope| {
        let threads: Vec<_> = cpus
            .iter()
            .enumerate()
            .map(|(worker, cpu)| scope.spawn(move || work(worker, *cpu)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a worker panicked".to_owned())?)
            .collect::<Result<_, String>>()
    })?;
    let workers = all.len();
    let rows = wanted.iter().enumerate().map(|(n, sizes)| {
        let of = |pick: fn(&(f64, f64)) -> f64| {
            all.iter().filter_map(|times| times.get(n)).map(pick).sum::<f64>() / workers as f64
        };
        Row {
            sizes: *sizes,
            tunnels,
            workers,
            open_ns: of(|times| times.0),
            seal_ns: of(|times| times.1),
        }
    });
    Ok(rows.collect())
}

/// Medians over batches of the nanoseconds per packet, opened and sealed.
fn medians(tunnels: &mut Tunnels, sizes: Sizes, batches: usize) -> Result<(f64, f64), String> {
    let mut chance = Chance::new(12345);
    let mut times = [Vec::with_capacity(batches), Vec::with_capacity(batches)];
    let before = tunnels.pipeline.carried();
    for _ in 0..batches {
        for (way, times) in [Way::Open, Way::Seal].into_iter().zip(&mut times) {
            tunnels.prepare(way, sizes, &mut chance)?;
            let now_ns = monotonic_ns();
            let start = Instant::now();
            tunnels.round(way, now_ns);
            times.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
        }
    }
    let after = tunnels.pipeline.carried();
    let expected = (batches * BATCH) as u64;
    if (after.0 - before.0, after.1 - before.1) != (expected, expected) {
        return Err(format!(
            "of {expected} packets {} were opened and {} were sealed",
            after.0 - before.0,
            after.1 - before.1
        ));
    }
    let [open, seal] = times.map(|mut times| {
        times.sort_by(f64::total_cmp);
        times.get(times.len() / 2).copied().unwrap_or_default()
    });
    Ok((open, seal))
}

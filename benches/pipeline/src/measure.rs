//! Nanoseconds per packet.

use std::sync::Barrier;
use std::thread::scope;
use std::time::Instant;

use netio::task::{monotonic_ns, pin_to_cpu, usable_cpus};

use crate::bare::Bare;
use crate::packets::{Chance, Sizes};
use crate::tunnels::{BATCH, Tunnels, Way};

/// Tunnels of the measurements with one worker.
const TUNNELS: [usize; 3] = [1, 100, 100_000];
/// Tunnels of the measurement with two.
const SHARED: usize = 100_000;
/// Slots of all workers together.
const SLOTS: usize = 255;
/// Parts of a measurement, ours and the yardstick's in turn, so that both meet the same machine.
pub const TURNS: usize = 8;

/// What carries packets.
pub trait Carrier {
    /// Prepares a batch of packets that belong to tunnels at random.
    fn prepare(&mut self, way: Way, sizes: Sizes, chance: &mut Chance) -> Result<(), String>;
    /// Carries the batch that was prepared, at a time of CLOCK_MONOTONIC.
    fn round(&mut self, way: Way, now_ns: u64);
    /// Packets opened and packets sealed until now.
    fn carried(&self) -> (u64, u64);
}

/// Nanoseconds per packet.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    pub open_ns: f64,
    pub seal_ns: f64,
}

impl Times {
    /// Of a packet, as many opened as sealed.
    pub fn mean(&self) -> f64 {
        (self.open_ns + self.seal_ns) / 2.0
    }
}

/// One measurement.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    pub sizes: Sizes,
    pub tunnels: usize,
    pub workers: usize,
    /// Of each worker, their mean.
    pub ours: Times,
    /// Of the yardstick, with one worker.
    pub bare: Option<Times>,
}

impl Row {
    /// Packets a second of all workers, as many opened as sealed.
    pub fn rate(&self) -> f64 {
        self.workers as f64 * 1e9 / self.ours.mean()
    }

    /// How near our rate comes to the yardstick's.
    pub fn of_bare(&self) -> Option<f64> {
        self.bare.map(|bare| bare.mean() / self.ours.mean())
    }

    /// Bits of inner packets a second.
    pub fn bits(&self) -> f64 {
        self.rate() * self.sizes.mean() * 8.0
    }
}

/// Measures everything, or only what has packets of these sizes and so many tunnels.
pub fn all(batches: usize, only: Option<Sizes>, tunnels: Option<usize>) -> Result<Vec<Row>, String> {
    let cpus = usable_cpus().map_err(|error| error.to_string())?;
    let wanted: Vec<Sizes> = Sizes::ALL
        .into_iter()
        .filter(|sizes| only.is_none_or(|only| only == *sizes))
        .collect();
    let mut rows = Vec::new();
    let chosen = tunnels.map(|tunnels| vec![tunnels]);
    for tunnels in chosen.unwrap_or_else(|| TUNNELS.to_vec()) {
        rows.extend(run(tunnels, cpus.get(..1).unwrap_or(&cpus), &wanted, batches)?);
    }
    match cpus.get(..2) {
        _ if tunnels.is_some() => {}
        Some(two) => rows.extend(run(SHARED, two, &wanted, batches)?),
        None => eprintln!("one processor only: two workers are not measured"),
    }
    Ok(rows)
}

/// Measures with a worker on each of the processors, which share the tunnels; with one also the yardstick.
fn run(tunnels: usize, cpus: &[usize], wanted: &[Sizes], batches: usize) -> Result<Vec<Row>, String> {
    let barrier = Barrier::new(cpus.len());
    let work = |worker: usize, cpu: usize| -> Result<Vec<(Times, Option<Times>)>, String> {
        pin_to_cpu(cpu).map_err(|error| error.to_string())?;
        let slots = SLOTS / cpus.len();
        let first = worker * slots;
        let built = Tunnels::new(tunnels / cpus.len(), first as u8 + 1..=(first + slots) as u8);
        // Who fails must not keep the others waiting.
        let ready = built.and_then(|mut built| built.warm_up().map(|()| built));
        let bare = (cpus.len() == 1).then(|| Bare::new(tunnels)).transpose();
        barrier.wait();
        let (mut ready, mut bare) = (ready?, bare?);
        let mut times = Vec::new();
        for sizes in wanted {
            barrier.wait();
            times.push(medians(&mut ready, bare.as_mut(), *sizes, batches));
        }
        times.into_iter().collect()
    };
    let all: Vec<Vec<(Times, Option<Times>)>> = scope(|scope| {
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
        let of = || all.iter().filter_map(|times| times.get(n));
        let mean = |pick: fn(&Times) -> f64| of().map(|(ours, _)| pick(ours)).sum::<f64>() / workers as f64;
        Row {
            sizes: *sizes,
            tunnels,
            workers,
            ours: Times {
                open_ns: mean(|times| times.open_ns),
                seal_ns: mean(|times| times.seal_ns),
            },
            bare: of().find_map(|(_, bare)| *bare),
        }
    });
    Ok(rows.collect())
}

/// Medians over batches, ours and the yardstick's.
fn medians(
    ours: &mut Tunnels,
    mut bare: Option<&mut Bare>,
    sizes: Sizes,
    batches: usize,
) -> Result<(Times, Option<Times>), String> {
    let (mut our_times, mut bare_times) = (Batches::default(), Batches::default());
    for _ in 0..TURNS {
        our_times.measure(ours, sizes, batches.div_ceil(TURNS))?;
        if let Some(bare) = bare.as_deref_mut() {
            bare_times.measure(bare, sizes, batches.div_ceil(TURNS))?;
        }
    }
    Ok((our_times.medians(), bare.map(|_| bare_times.medians())))
}

/// Nanoseconds per packet of each batch.
#[derive(Default)]
struct Batches {
    open: Vec<f64>,
    seal: Vec<f64>,
}

impl Batches {
    /// Carries so many batches each way, and sees that every packet was carried.
    fn measure(&mut self, carrier: &mut impl Carrier, sizes: Sizes, batches: usize) -> Result<(), String> {
        let mut chance = Chance::new(12345 + self.open.len() as u64);
        let before = carrier.carried();
        for _ in 0..batches {
            for (way, times) in [(Way::Open, &mut self.open), (Way::Seal, &mut self.seal)] {
                carrier.prepare(way, sizes, &mut chance)?;
                let now_ns = monotonic_ns();
                let start = Instant::now();
                carrier.round(way, now_ns);
                times.push(start.elapsed().as_nanos() as f64 / BATCH as f64);
            }
        }
        let after = carrier.carried();
        let carried = (after.0 - before.0, after.1 - before.1);
        let expected = (batches * BATCH) as u64;
        if carried == (expected, expected) {
            Ok(())
        } else {
            let (opened, sealed) = carried;
            Err(format!(
                "of {expected} packets {opened} were opened and {sealed} were sealed"
            ))
        }
    }

    fn medians(self) -> Times {
        Times {
            open_ns: median(self.open),
            seal_ns: median(self.seal),
        }
    }
}

/// 0 of none.
pub fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times.get(times.len() / 2).copied().unwrap_or_default()
}

//! How busy the workers are: sampled from the counter pages of their `ipsecmgr`.

use std::path::{Path, PathBuf};

use telemetry::Reader;
use telemetry::counters::{Counter, ikev2};
use tokio::time::Instant;

/// What one `ipsecmgr` has and does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub ike_sas: u64,
    pub half_open: u64,
    pub child_sas: u64,
    /// IKE SAs set up in a second, in tenths, over the last sampling interval.
    pub setups: u64,
    /// IKE packets in and out in a second, in tenths, over the last sampling interval.
    pub packets: u64,
    /// IKE SAs ever set up.
    pub total: u64,
    /// Set-ups that failed.
    pub failures: u64,
}

/// The loads of all workers.
pub(crate) struct Loads {
    directory: PathBuf,
    samples: Vec<Sample>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: Instant,
    setups: u64,
    packets: u64,
    load: Load,
}

impl Loads {
    /// Of `workers` workers, from the pages in `directory`.
    pub fn new(directory: &Path, workers: u32) -> Self {
        let empty = Sample {
            at: Instant::now(),
            setups: 0,
            packets: 0,
            load: Load::default(),
        };
        let mut loads = Self {
            directory: directory.to_owned(),
            samples: vec![empty; workers as usize],
        };
        loads.sample();
        for sample in &mut loads.samples {
            // Nothing is known yet of the time before.
            sample.load.setups = 0;
            sample.load.packets = 0;
        }
        loads
    }

    /// Looks at the pages.
    pub fn sample(&mut self) {
        let Ok(reader) = Reader::open(&self.directory) else {
            return;
        };
        for (worker, sample) in (1..).zip(&mut self.samples) {
            let value = |counter: Counter| reader.instance("ipsecmgr", worker, counter).unwrap_or(0);
            let now = Instant::now();
            let milliseconds = u64::try_from(now.duration_since(sample.at).as_millis())
                .unwrap_or(u64::MAX)
                .max(1);
            let rate =
                |now: u64, before: u64| now.saturating_sub(before).saturating_mul(10_000) / milliseconds;
            let setups = value(ikev2::TOTAL_SAS);
            let packets = value(ikev2::RX_PACKETS).saturating_add(value(ikev2::TX_PACKETS));
            let load = Load {
                ike_sas: value(ikev2::CURRENT_SAS),
                half_open: value(ikev2::CURRENT_HALF_OPEN),
                child_sas: value(ikev2::CURRENT_CHILD_SAS),
                setups: rate(setups, sample.setups),
                packets: rate(packets, sample.packets),
                total: setups,
                failures: value(ikev2::INIT_FAIL),
            };
            *sample = Sample {
                at: now,
                setups,
                packets,
                load,
            };
        }
    }

    /// The present load of a worker: what it has is read now, its rates are those of the last interval.
    pub fn of(&self, worker: u32) -> Load {
        let index = worker.checked_sub(1).map(|index| index as usize);
        let mut load = index
            .and_then(|index| self.samples.get(index))
            .map_or_else(Load::default, |sample| sample.load);
        if let Ok(reader) = Reader::open(&self.directory) {
            let value = |counter: Counter| reader.instance("ipsecmgr", worker, counter).unwrap_or(0);
            load.ike_sas = value(ikev2::CURRENT_SAS);
            load.half_open = value(ikev2::CURRENT_HALF_OPEN);
            load.child_sas = value(ikev2::CURRENT_CHILD_SAS);
            load.total = value(ikev2::TOTAL_SAS);
            load.failures = value(ikev2::INIT_FAIL);
        }
        load
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use telemetry::Counters;

    #[tokio::test]
    async fn rates_are_those_of_the_last_interval() {
        let directory = std::env::temp_dir().join(format!("rmctrl-load-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let counters = Counters::open(&directory, "ipsecmgr", 2).unwrap();
        counters.add(ikev2::TOTAL_SAS, 1_000);
        let mut loads = Loads::new(&directory, 2);
        assert_eq!((loads.of(2).setups, loads.of(2).total), (0, 1_000));
        counters.add(ikev2::TOTAL_SAS, 100);
        counters.add(ikev2::RX_PACKETS, 200);
        counters.set(ikev2::CURRENT_SAS, 42);
        tokio::time::sleep(Duration::from_millis(100)).await;
        loads.sample();
        let load = loads.of(2);
        // 100 in at least 100 ms are at most 1,000 a second.
        assert!((1_000..=10_000).contains(&load.setups), "{load:?}");
        assert_eq!(load.packets / load.setups, 2);
        assert_eq!((load.ike_sas, load.total), (42, 1_100));
        assert_eq!(loads.of(1), Load::default());
        assert_eq!(loads.of(3), Load::default());
        std::fs::remove_dir_all(&directory).unwrap();
    }
}

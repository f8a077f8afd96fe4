//! What the slots carry: asked of the processes that have them, at each sampling.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::messages::slots::{GetSlotLoads, SlotLoad, SlotLoads};
use bus::{Address, Bus, Facility};
use tokio::task::JoinSet;
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(2);

/// What a slot carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Load {
    pub ike_sas: u64,
    pub child_sas: u64,
    /// Packets a second both ways, over the last interval.
    pub packets: u64,
}

/// What one process said last.
#[derive(Debug)]
struct Told {
    at: Instant,
    busy_ns: u64,
    loads: BTreeMap<u32, SlotLoad>,
    /// Over the interval before: packets a second of each slot, and the share of the time that was work, in percent.
    rates: BTreeMap<u32, u64>,
    /// `None` until this life has said it twice.
    busy: Option<u32>,
    takes_output: bool,
}

/// What all processes said last.
#[derive(Default)]
pub(crate) struct Carried {
    told: BTreeMap<Address, Told>,
    /// Questions under way.
    asked: JoinSet<(Address, Option<SlotLoads>)>,
    waiting: BTreeSet<Address>,
}

impl Carried {
    /// Asks the processes of all workers; [`next`](Self::next) takes the answers.
    pub fn ask(&mut self, bus: &Bus, workers: u32) {
        let tasks = (1..=workers).flat_map(|worker| {
            [Facility::Iftask, Facility::Ipsecmgr].map(|facility| Address::new(facility, worker))
        });
        for task in tasks {
            if self.waiting.insert(task) {
                let bus = bus.clone();
                self.asked.spawn(async move {
                    let loads = bus.request(task, &GetSlotLoads {}, DEADLINE).await;
                    (task, loads.ok())
                });
            }
        }
    }

    /// Waits for the next answer. Waits for ever when nobody is asked; cancelling loses nothing.
    pub async fn next(&mut self) {
        match self.asked.join_next().await {
            Some(Ok((task, loads))) => {
                self.waiting.remove(&task);
                match loads {
                    Some(loads) => self.heard(task, Instant::now(), &loads),
                    // What it said before is too old by now.
                    None => drop(self.told.remove(&task)),
                }
            }
            // A question does not panic, and is not aborted.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    pub(crate) fn heard(&mut self, task: Address, at: Instant, loads: &SlotLoads) {
        let mut told = Told {
            at,
            busy_ns: loads.busy_ns,
            loads: loads.loads.iter().map(|load| (load.slot, *load)).collect(),
            rates: BTreeMap::new(),
            busy: None,
            takes_output: loads.takes_output,
        };
        // A new life begins to count anew.
        if let Some(before) = self
            .told
            .get(&task)
            .filter(|before| before.busy_ns <= loads.busy_ns)
        {
            let elapsed = at.saturating_duration_since(before.at).as_nanos().max(1);
            let a_second = |count: u64| (u128::from(count) * 1_000_000_000 / elapsed) as u64;
            told.busy = Some((a_second(loads.busy_ns - before.busy_ns) / 10_000_000).min(100) as u32);
            for load in &loads.loads {
                let earlier = before.loads.get(&load.slot).map_or(0, |before| before.packets);
                told.rates
                    .insert(load.slot, a_second(load.packets.saturating_sub(earlier)));
            }
        }
        self.told.insert(task, told);
    }

    /// What a slot carries, wherever it is.
    pub fn of(&self, slot: u32) -> Load {
        let sum = |value: fn(&SlotLoad) -> u32| -> u64 {
            let loads = self.told.values().filter_map(|told| told.loads.get(&slot));
            loads.map(|load| u64::from(value(load))).sum()
        };
        Load {
            ike_sas: sum(|load| load.ike_sas),
            child_sas: sum(|load| load.child_sas),
            packets: self.told.values().filter_map(|told| told.rates.get(&slot)).sum(),
        }
    }

    /// Whether a worker's data plane takes the last step for others.
    pub fn takes_output(&self, worker: u32) -> bool {
        let told = self.told.get(&Address::new(Facility::Iftask, worker));
        told.is_some_and(|told| told.takes_output)
    }

    /// The share of the last interval that a worker's data plane has worked, in percent; `None` when it does not say.
    pub fn busy(&self, worker: u32) -> Option<u32> {
        self.told
            .get(&Address::new(Facility::Iftask, worker))
            .and_then(|told| told.busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_those_of_the_last_interval_and_of_one_life() {
        let start = Instant::now();
        let mut carried = Carried::default();
        let says = |carried: &mut Carried, worker, seconds, busy_ms: u64, packets| {
            let loads = SlotLoads {
                loads: vec![SlotLoad {
                    slot: 7,
                    packets,
                    child_sas: 2,
                    ike_sas: 0,
                }],
                busy_ns: busy_ms * 1_000_000,
                takes_output: false,
            };
            let at = start + Duration::from_secs(seconds);
            carried.heard(Address::new(Facility::Iftask, worker), at, &loads);
        };
        assert_eq!((carried.of(7), carried.busy(1)), (Load::default(), None));
        says(&mut carried, 1, 0, 1_000, 50_000);
        assert_eq!((carried.of(7).packets, carried.busy(1)), (0, None));
        says(&mut carried, 1, 5, 3_000, 60_000);
        assert_eq!((carried.of(7).packets, carried.busy(1)), (2_000, Some(40)));
        assert_eq!(carried.of(7).child_sas, 2);
        // Killed, and begun again.
        says(&mut carried, 1, 10, 2_000, 100);
        assert_eq!((carried.of(7).packets, carried.busy(1)), (0, None));
        says(&mut carried, 1, 12, 4_000, 300);
        assert_eq!((carried.of(7).packets, carried.busy(1)), (100, Some(100)));
    }
}

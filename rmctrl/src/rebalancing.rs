//! Whether slots should go to another data plane, and which: the busiest one gives some to the least busy one, when it has too much and the other much less.
//!
//! A tunnel cannot be divided: one that alone makes the load of its data plane would only take it along. So everything else leaves that one instead, as far as
//! the others have room. If that is not enough, or there is nothing else, the last step for its packets, the call of the kernel, goes to another data plane, which takes them
//! from a ring in order.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::messages::rmctrl::{SlotMap, SlotPart};
use config::Rebalancing;
use tokio::time::Instant;

use crate::carried::Carried;
use crate::moves::Order;

/// Slots of one decision.
const MOST_SLOTS: usize = 4;
/// What was moved stays so long.
const STAYS: Duration = Duration::from_secs(60);
/// The map must have been the same for so long: two samplings, so that what is decided by was measured with it.
const SETTLED: Duration = Duration::from_secs(10);

/// The memory of the policy.
#[derive(Debug, Default)]
pub(crate) struct Policy {
    /// When the map had which version first.
    version: Option<(u64, Instant)>,
    /// Slots that were moved of late.
    moved: BTreeMap<u32, Instant>,
}

impl Policy {
    /// What to move now, if anything; `may_go` says of a slot whether its data plane may be another than by a map.
    pub fn decide(
        &mut self,
        now: Instant,
        settings: Rebalancing,
        map: &SlotMap,
        workers: u32,
        carried: &Carried,
        may_go: impl Fn(&SlotMap, u8) -> bool,
    ) -> Option<Order> {
        self.moved.retain(|_, at| now.duration_since(*at) < STAYS);
        match self.version {
            Some((version, since)) if version == map.version => {
                if now.duration_since(since) < SETTLED {
                    return None;
                }
            }
            _ => {
                self.version = Some((map.version, now));
                return None;
            }
        }
        if !settings.enabled || !map.leaving.is_empty() {
            return None;
        }
        let (slots, part, to) = handed_back(settings, map, carried, |slot| !self.moved.contains_key(&slot))
            .or_else(|| self.relief(settings, map, workers, carried, may_go))?;
        self.moved.extend(slots.iter().map(|slot| (*slot, now)));
        Some(Order { slots, part, to })
    }

    /// What leaves the busiest data plane: slots, or the output of one.
    fn relief(
        &self,
        settings: Rebalancing,
        map: &SlotMap,
        workers: u32,
        carried: &Carried,
        may_go: impl Fn(&SlotMap, u8) -> bool,
    ) -> Option<(Vec<u32>, SlotPart, u32)> {
        let busy = |worker| carried.busy(worker).map(|busy| (busy, worker));
        // Who does not say how busy it is neither gives nor takes.
        let (most, from) = (1..=workers).filter_map(busy).max()?;
        let (least, to) = (1..=workers).filter_map(busy).min()?;
        if most < settings.busy || most - least < settings.difference {
            return None;
        }
        let slots: Vec<(u64, u32)> = (1u8..=u8::MAX)
            .filter(|slot| map.owner(SlotPart::Data, *slot) == Some(from))
            .map(|slot| (carried.of(slot.into()).packets, u32::from(slot)))
            .filter(|(packets, _)| *packets > 0)
            .collect();
        let stays = |slot: u32| self.moved.contains_key(&slot);
        let leaves = |slot: u32| u8::try_from(slot).is_ok_and(|slot| may_go(map, slot)) && !stays(slot);
        let mut chosen = choose(slots.clone(), most, most - least, leaves);
        // Each may go, but perhaps not all.
        let mut then = map.clone();
        chosen.retain(|slot| {
            let slot = u8::try_from(*slot).ok().filter(|slot| may_go(&then, *slot));
            slot.inspect(|slot| then.give(SlotPart::Data, *slot, to))
                .is_some()
        });
        if !chosen.is_empty() {
            return Some((chosen, SlotPart::Data, to));
        }
        let all: u64 = slots.iter().map(|(packets, _)| packets).sum();
        let (packets, heaviest) = slots.into_iter().max()?;
        let output = map.owner(SlotPart::Output, u8::try_from(heaviest).ok()?);
        let helps = packets > all / 2 && carried.takes_output(to);
        let helps = helps && output == Some(from) && !stays(heaviest);
        helps.then_some((vec![heaviest], SlotPart::Output, to))
    }
}

/// An output that its data plane can take back: both together have little to do by now, or who has it much more than the other.
fn handed_back(
    settings: Rebalancing,
    map: &SlotMap,
    carried: &Carried,
    may_go: impl Fn(u32) -> bool,
) -> Option<(Vec<u32>, SlotPart, u32)> {
    (1u8..=u8::MAX).find_map(|slot| {
        let [data, output] = [SlotPart::Data, SlotPart::Output].map(|part| map.owner(part, slot));
        let (data, output) = (data?, output.filter(|output| Some(*output) != data)?);
        let (own, other) = (carried.busy(data)?, carried.busy(output)?);
        let fits = own + other < settings.busy || !carried.takes_output(output);
        let overdone = other >= settings.busy && other.saturating_sub(own) >= settings.difference;
        let goes = (fits || overdone) && may_go(slot.into());
        goes.then(|| (vec![slot.into()], SlotPart::Output, data))
    })
}

/// The slots to move, of those with their packets a second that make one data plane `busy` percent, `gap` more than another: as much as half of the gap, the largest
/// that fit first; else one that leaves the busier of both less busy than it was.
fn choose(mut slots: Vec<(u64, u32)>, busy: u32, gap: u32, may_go: impl Fn(u32) -> bool) -> Vec<u32> {
    let all = slots.iter().map(|(packets, _)| packets).sum::<u64>().max(1);
    // In thousandths of a percent.
    let share = |packets: u64| (u128::from(packets) * u128::from(busy) * 1000 / u128::from(all)) as u64;
    let gap = u64::from(gap) * 1000;
    slots.retain(|(_, slot)| may_go(*slot));
    slots.sort_unstable_by(|one, two| two.cmp(one));
    let mut moved = 0;
    let mut chosen = Vec::new();
    for (packets, slot) in &slots {
        if chosen.len() < MOST_SLOTS && moved + share(*packets) <= gap / 2 {
            moved += share(*packets);
            chosen.push(*slot);
        }
    }
    if chosen.is_empty()
        && let Some((packets, slot)) = slots.last()
        // At least a tenth of the gap is won.
        && share(*packets) <= gap * 9 / 10
    {
        chosen.push(*slot);
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::messages::slots::{SlotLoad, SlotLoads};
    use bus::{Address, Facility};

    /// What two workers are told at two samplings, and what is decided then: `busy` in percent, packets a second of slots 1, 2, ...
    fn decided(map: &SlotMap, busy: [u32; 2], packets: &[u64]) -> Option<Order> {
        decided_if(map, busy, packets, |_, _| true)
    }

    /// The same where not all may go.
    fn decided_if(
        map: &SlotMap,
        busy: [u32; 2],
        packets: &[u64],
        may_go: impl Fn(&SlotMap, u8) -> bool + Copy,
    ) -> Option<Order> {
        let (start, mut carried) = (Instant::now(), Carried::default());
        for (second, worker) in [(0, 1), (0, 2), (10, 1), (10, 2)] {
            let of_worker = |slot: &u8| map.owner(SlotPart::Data, *slot) == Some(worker);
            let load = |slot: u8| SlotLoad {
                slot: slot.into(),
                packets: packets.get(usize::from(slot) - 1).map_or(0, |rate| rate * second),
                ike_sas: 0,
                child_sas: 1,
            };
            let loads = SlotLoads {
                loads: (1..=u8::MAX).filter(of_worker).map(load).collect(),
                busy_ns: u64::from(busy[worker as usize - 1]) * second * 10_000_000,
                takes_output: true,
            };
            let at = start + Duration::from_secs(second);
            carried.heard(Address::new(Facility::Iftask, worker), at, &loads);
        }
        let mut policy = Policy::default();
        let settings = Rebalancing::default();
        let mut decide = |now| policy.decide(now, settings, map, 2, &carried, may_go);
        assert_eq!(decide(start), None, "not settled");
        decide(start + SETTLED)
    }

    #[test]
    fn a_tunnel_that_is_too_much_for_one_has_its_output_handed_on_and_back() {
        let mut map = SlotMap::of_workers(vec![1; 255]);
        let order = |part, to| {
            let slots = vec![1];
            Some(Order { slots, part, to })
        };
        let on = order(SlotPart::Output, 2);
        assert_eq!(decided(&map, [98, 3], &[50_000]), on);
        assert_eq!(
            decided(&map, [98, 3], &[50_000, 10]),
            Some(Order {
                slots: vec![2],
                ..order(SlotPart::Data, 2).unwrap()
            }),
            "all else goes first"
        );
        assert_eq!(decided(&map, [30, 3], &[50_000]), None, "it fits");
        map.give(SlotPart::Output, 1, 2);
        assert_eq!(decided(&map, [70, 60], &[50_000]), None);
        assert_eq!(
            decided(&map, [98, 60], &[50_000]),
            None,
            "nothing more can be done"
        );
        let back = order(SlotPart::Output, 1);
        assert_eq!(
            decided(&map, [20, 15], &[9_000]),
            back,
            "both together have little to do"
        );
        assert_eq!(decided(&map, [40, 99], &[50_000]), back, "too much for the other");
    }

    fn chosen(packets: &[u64], busy: u32, gap: u32) -> Vec<u32> {
        let slots = (1..)
            .zip(packets)
            .map(|(slot, packets)| (*packets, slot))
            .collect();
        choose(slots, busy, gap, |_| true)
    }

    #[test]
    fn as_much_goes_as_makes_both_equal() {
        // 90 % here, 10 % there: 40 of 90 should go.
        assert_eq!(chosen(&[300, 300, 300], 90, 80), [3], "30 %; two would be 60");
        assert_eq!(chosen(&[100; 9], 90, 80).len(), 4);
        assert_eq!(chosen(&[400, 300, 100, 100], 90, 80), [1]);
        assert_eq!(chosen(&[450, 300, 100, 50], 90, 80), [2, 3], "45 % is too much");
    }

    #[test]
    fn everything_leaves_a_tunnel_that_makes_the_load_alone() {
        // One slot has 85 of 90 %, the rest goes.
        assert_eq!(chosen(&[850, 20, 20, 10], 90, 80), [3, 2, 4]);
        // Nothing is left that could go: it would only take its load along.
        assert_eq!(chosen(&[900], 90, 80), [] as [u32; 0]);
        assert_eq!(chosen(&[450, 450], 90, 80), [1], "one of two equal ones does");
        assert_eq!(chosen(&[], 90, 80), [] as [u32; 0]);
    }

    #[test]
    fn the_last_that_may_go_stays() {
        let map = SlotMap::of_workers(vec![1; 255]);
        // The data plane keeps one of the first three.
        let may_go = |map: &SlotMap, _| {
            let own = (1..=3).filter(|slot| map.owner(SlotPart::Data, *slot) == Some(1));
            own.count() > 1
        };
        let order = decided_if(&map, [98, 3], &[10, 10, 10, 70], may_go);
        assert_eq!(order.unwrap().slots, [3, 2]);
    }

    #[test]
    fn what_was_moved_stays() {
        let slots = vec![(100, 1), (100, 2)];
        assert_eq!(choose(slots, 50, 90, |slot| slot != 2), [1]);
    }
}

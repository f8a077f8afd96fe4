//! Whether slots should go to another data plane, and which: the busiest one gives some to the least busy one, when it has too much and the other much less.
//!
//! A tunnel cannot be divided: one that alone makes the load of its data plane would only take it along. So everything else leaves that one instead, as far as
//! the others have room.

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
    /// What to move now, if anything; `may_go` says of a slot whether it may be.
    pub fn decide(
        &mut self,
        now: Instant,
        settings: Rebalancing,
        map: &SlotMap,
        workers: u32,
        carried: &Carried,
        may_go: impl Fn(u8) -> bool,
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
        let busy = |worker| carried.busy(worker).map(|busy| (busy, worker));
        // Who does not say how busy it is neither gives nor takes.
        let (most, from) = (1..=workers).filter_map(busy).max()?;
        let (least, to) = (1..=workers).filter_map(busy).min()?;
        if most < settings.busy || most - least < settings.difference {
            return None;
        }
        let slots = (1u8..=u8::MAX)
            .filter(|slot| map.owner(SlotPart::Data, *slot) == Some(from))
            .map(|slot| (carried.of(slot.into()).packets, u32::from(slot)))
            .filter(|(packets, _)| *packets > 0)
            .collect();
        let may_go = |slot: u32| u8::try_from(slot).is_ok_and(&may_go) && !self.moved.contains_key(&slot);
        let slots = choose(slots, most, most - least, may_go);
        if slots.is_empty() {
            return None;
        }
        self.moved.extend(slots.iter().map(|slot| (*slot, now)));
        Some(Order {
            slots,
            part: SlotPart::Data,
            to,
        })
    }
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
    fn what_was_moved_stays() {
        let slots = vec![(100, 1), (100, 2)];
        assert_eq!(choose(slots, 50, 90, |slot| slot != 2), [1]);
    }
}

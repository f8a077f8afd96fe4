//! Slots of a manager that other workers' data planes have: where the configuration wants child SAs beside each other (RFC 9611), each manager needs one for each data plane.

use std::collections::BTreeMap;
use std::time::Duration;

use bus::messages::rmctrl::{SlotMap, SlotPart};
use config::Config;
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;
use tokio::time::Instant;

use crate::carried::Carried;
use crate::moves::{Moves, Order};

/// After a move that was refused the next ones wait so long, and twice as long each time: each changes the map, and rebalancing wants one that stays.
const PAUSE: Duration = Duration::from_secs(60);
const MAX_PAUSE: Duration = Duration::from_secs(600);

/// Sees to it that there are such slots.
#[derive(Debug, Default)]
pub(crate) struct Lanes {
    wanted: bool,
    /// Tell what becomes of the moves that were ordered, as long as they are under way.
    ordered: Vec<Outcome>,
    /// After moves that were refused: how long to wait, and until when.
    pause: Option<(Duration, Instant)>,
}

type Outcome = oneshot::Receiver<Result<(), String>>;

impl Lanes {
    /// Takes over a configuration.
    pub fn configure(&mut self, config: &Config) {
        let templates = config
            .contexts
            .values()
            .flat_map(|context| context.crypto_templates.values());
        let mut payloads = templates.flat_map(|template| template.payloads.values());
        self.wanted = payloads.any(|payload| payload.per_resource.is_some());
    }

    /// Orders the moves that are missing, when those that were ordered before are over.
    pub fn make(&mut self, now: Instant, moves: &Moves, workers: u32, carried: &Carried) {
        let map = moves.map();
        if !self.may_order(now) || !map.leaving.is_empty() {
            return;
        }
        let weight = |slot| {
            let load = carried.of(u32::from(slot));
            (load.packets, load.child_sas)
        };
        let orders = missing(&map, workers, weight).into_iter();
        self.ordered = orders.map(|order| moves.order_and_hear(order)).collect();
    }

    /// Hears what has become of the moves that were ordered: whether there may be others now.
    fn may_order(&mut self, now: Instant) -> bool {
        let (before, mut refused) = (self.ordered.len(), false);
        self.ordered.retain_mut(|ordered| {
            let outcome = ordered.try_recv();
            refused |= matches!(outcome, Ok(Err(_)) | Err(TryRecvError::Closed));
            outcome == Err(TryRecvError::Empty)
        });
        if refused {
            let last = self.pause.map(|(pause, _)| pause * 2);
            let pause = last.unwrap_or(PAUSE).min(MAX_PAUSE);
            self.pause = Some((pause, now + pause));
        } else if before > 0 && self.ordered.is_empty() && self.pause.is_none_or(|(_, until)| until <= now) {
            self.pause = None;
        }
        let waits = self.pause.is_some_and(|(_, until)| now < until);
        self.wanted && self.ordered.is_empty() && !waits
    }

    /// Whether the data plane of a slot may go elsewhere.
    pub fn may_go(&self, map: &SlotMap, slot: u8) -> bool {
        let [manager, worker] = [SlotPart::Manager, SlotPart::Data].map(|part| map.owner(part, slot));
        let is_like = |other: &u8| {
            *other != slot
                && map.owner(SlotPart::Manager, *other) == manager
                && map.owner(SlotPart::Data, *other) == worker
        };
        !self.wanted || (1..=u8::MAX).any(|other| is_like(&other))
    }
}

/// What to move so that each manager has a slot of each data plane, as far as half of its slots are enough. `weight` says how much would be moved with a slot.
fn missing<W: Ord>(map: &SlotMap, workers: u32, weight: impl Fn(u8) -> W) -> Vec<Order> {
    let mut orders = Vec::new();
    for manager in 1..=workers {
        let mut slots: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
        for slot in (1..=u8::MAX).filter(|slot| map.owner(SlotPart::Manager, *slot) == Some(manager)) {
            let worker = map.owner(SlotPart::Data, slot).unwrap_or(0);
            slots.entry(worker).or_default().push(slot);
        }
        let all: usize = slots.values().map(Vec::len).sum();
        // Beginning after itself, so that where there is not one for each all get some.
        let others = (1..workers).map(|step| (manager - 1 + step) % workers + 1);
        for to in others.take(all / 2) {
            if slots.contains_key(&to) {
                continue;
            }
            let Some((_, most)) = slots.iter_mut().max_by_key(|(_, slots)| slots.len()) else {
                break;
            };
            let lightest = most.iter().enumerate().min_by_key(|(place, slot)| {
                // The last of those that are equal.
                (weight(**slot), usize::MAX - place)
            });
            let Some(place) = lightest.map(|(place, _)| place).filter(|_| most.len() > 1) else {
                break;
            };
            let slot = most.remove(place);
            slots.insert(to, vec![slot]);
            orders.push(Order {
                slots: vec![slot.into()],
                part: SlotPart::Data,
                to,
            });
        }
    }
    orders
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slots::slot_map;

    /// The map when that is done, and how many moves it takes.
    fn made(workers: u32) -> (SlotMap, usize) {
        let mut map = slot_map(workers);
        let orders = missing(&map, workers, |_| 0);
        for order in &orders {
            map.data[order.slots[0] as usize - 1] = order.to;
        }
        assert_eq!(missing(&map, workers, |_| 0), [], "{workers}: it is enough");
        (map, orders.len())
    }

    #[test]
    fn each_manager_gets_a_slot_of_each_data_plane() {
        for workers in [1, 2, 3, 8, 15] {
            let (map, count) = made(workers);
            let most = 255 / workers as usize / 2;
            let lanes = (workers as usize - 1).min(most);
            assert!(count <= workers as usize * (lanes + 1) && count >= workers as usize * lanes);
            for manager in 1..=workers {
                let data = (1..=u8::MAX).filter(|slot| map.owner(SlotPart::Manager, *slot) == Some(manager));
                let mut data: Vec<_> = data.filter_map(|slot| map.owner(SlotPart::Data, slot)).collect();
                let own = data.iter().filter(|worker| **worker == manager).count();
                assert!(2 * own >= data.len() - 1, "{workers}: at least half stays");
                data.sort_unstable();
                data.dedup();
                assert!(data.len() > lanes, "{workers}: {data:?}");
            }
        }
        assert_eq!(made(1).1, 0);
        assert_eq!(made(2).1, 2);
    }

    #[test]
    fn what_carries_least_is_moved_and_the_only_one_stays() {
        let map = slot_map(2);
        let orders = missing(&map, 2, |slot| if slot == 9 || slot == 10 { 0 } else { 1 });
        let moved: Vec<_> = orders.iter().map(|order| (order.slots[0], order.to)).collect();
        assert_eq!(moved, [(9, 2), (10, 1)]);
        let (map, _) = made(2);
        let mut lanes = Lanes::default();
        let only = (1..=u8::MAX)
            .find(|slot| map.owner(SlotPart::Manager, *slot) != map.owner(SlotPart::Data, *slot))
            .unwrap();
        assert!(lanes.may_go(&map, only), "nobody wants it");
        lanes.wanted = true;
        assert!(!lanes.may_go(&map, only));
        assert!(lanes.may_go(&map, 1));
    }

    #[test]
    fn after_a_refusal_it_waits_longer_each_time() {
        let (start, mut lanes) = (Instant::now(), Lanes::default());
        assert!(!lanes.may_order(start), "nobody wants it");
        lanes.wanted = true;
        assert!(lanes.may_order(start));
        let mut at = start;
        let order = |lanes: &mut Lanes| {
            let (done, outcome) = oneshot::channel();
            lanes.ordered.push(outcome);
            done
        };
        for pause in [60, 120, 240, 480, 600, 600] {
            let (done, other) = (order(&mut lanes), order(&mut lanes));
            assert!(!lanes.may_order(at), "under way");
            done.send(Err("not now".to_owned())).unwrap();
            assert!(!lanes.may_order(at), "the other is under way");
            other.send(Ok(())).unwrap();
            assert!(!lanes.may_order(at + Duration::from_secs(pause - 1)));
            at += Duration::from_secs(pause);
            assert!(lanes.may_order(at));
        }
        order(&mut lanes).send(Ok(())).unwrap();
        assert!(lanes.may_order(at), "it is done");
        order(&mut lanes).send(Err("not now".to_owned())).unwrap();
        assert!(!lanes.may_order(at));
        assert!(lanes.may_order(at + PAUSE));
    }
}

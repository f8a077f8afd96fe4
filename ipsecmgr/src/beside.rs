//! Child SAs beside one another with the same traffic selectors, each for a data plane (RFC 9611): in which slot the next one is, and whether data planes share the
//! traffic.
//!
//! A child SA lives in the slot of its SPI, and that slot's data plane works with it. So one for another data plane is in another slot than its IKE SA, which this
//! `ipsecmgr` has as well.

use std::collections::HashMap;
use std::rc::Rc;

use bus::messages::rmctrl::{SlotMap, SlotPart};
use ikev2::IkeSaId;

use crate::slots::slot_of;

/// What is known of them.
#[derive(Default)]
pub(crate) struct Beside {
    /// The worker whose data plane has a slot, by its number; empty until a map comes.
    data: Vec<u32>,
    groups: HashMap<IkeSaId, Vec<u32>>,
    /// The group that a child SA is in, by its inbound SPI, and whose it is.
    by_spi: HashMap<u32, (IkeSaId, Rc<[u32]>)>,
}

impl Beside {
    /// Follows the slot map. Returns the child SAs that may be concerned.
    pub(crate) fn follow(&mut self, map: &SlotMap) -> Vec<u32> {
        let worker = |slot| map.owner(SlotPart::Data, slot).unwrap_or(0);
        let data: Vec<u32> = (0..=u8::MAX).map(worker).collect();
        if data == self.data {
            return Vec::new();
        }
        self.data = data;
        self.by_spi.keys().copied().collect()
    }

    /// Takes what the engine says of an IKE SA. Returns the child SAs that may be concerned.
    pub(crate) fn note(&mut self, ike: IkeSaId, groups: &[Vec<u32>]) -> Vec<u32> {
        let mut concerned = self.forget(ike);
        let now: Vec<u32> = groups.iter().flatten().copied().collect();
        for group in groups {
            let shared: Rc<[u32]> = group.as_slice().into();
            self.by_spi
                .extend(group.iter().map(|spi| (*spi, (ike, shared.clone()))));
        }
        concerned.extend(&now);
        if !now.is_empty() {
            self.groups.insert(ike, now);
        }
        concerned
    }

    /// Forgets the IKE SAs of a slot.
    pub(crate) fn let_go(&mut self, slot: u8) {
        let goes: Vec<IkeSaId> = self
            .groups
            .keys()
            .copied()
            .filter(|ike| ike.slot() == slot)
            .collect();
        for ike in goes {
            self.forget(ike);
        }
    }

    fn forget(&mut self, ike: IkeSaId) -> Vec<u32> {
        let before = self.groups.remove(&ike).unwrap_or_default();
        for spi in &before {
            // They may be those of its successor by now.
            if self.by_spi.get(spi).is_some_and(|(of, _)| *of == ike) {
                self.by_spi.remove(spi);
            }
        }
        before
    }

    /// Whether other data planes work with what stands beside this child SA.
    pub(crate) fn is_shared(&self, spi: u32) -> bool {
        let group = self.by_spi.get(&spi).map(|(_, group)| group);
        group.is_some_and(|group| {
            let worker = self.worker(slot_of(spi));
            group.iter().any(|other| self.worker(slot_of(*other)) != worker)
        })
    }

    /// Of `ours` the slot for a child SA of an IKE SA in slot `of`, beside those in the slots of `taken`: of the data plane that has the fewest of them, the next
    /// after that of `of` if several have.
    pub(crate) fn slot(&self, ours: impl Iterator<Item = u8>, of: u8, taken: &[u8]) -> u8 {
        let own = self.worker(of);
        let rank = |slot: u8| {
            let worker = self.worker(slot);
            let has = taken
                .iter()
                .filter(|taken| self.worker(**taken) == worker)
                .count();
            // Own ones are the farthest from itself.
            (has, worker.wrapping_sub(own).wrapping_sub(1))
        };
        let mut ranked: Vec<_> = ours.map(|slot| (rank(slot), slot)).collect();
        ranked.sort_unstable();
        let Some((best, _)) = ranked.first().copied() else {
            return of;
        };
        ranked.retain(|(rank, _)| *rank == best);
        if ranked.iter().any(|(_, slot)| *slot == of) {
            return of;
        }
        // Its neighbours get other ones.
        let chosen = ranked.get(usize::from(of) % ranked.len());
        chosen.map_or(of, |(_, slot)| *slot)
    }

    fn worker(&self, slot: u8) -> u32 {
        self.data.get(usize::from(slot)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IKE: IkeSaId = IkeSaId(0x0100_0000_0000_0001);
    const NEXT: IkeSaId = IkeSaId(0x0100_0001_0000_0002);

    /// Slots 1 to 6; whose data planes have them.
    fn with(workers: [u32; 6]) -> Beside {
        let mut beside = Beside::default();
        let mut map = SlotMap::of_workers(vec![1; 255]);
        for (place, worker) in map.data.iter_mut().zip(workers) {
            *place = worker;
        }
        beside.follow(&map);
        beside
    }

    #[test]
    fn each_data_plane_has_its_turn() {
        let beside = with([1, 1, 2, 2, 3, 1]);
        let ours = || 1..=6;
        let mut taken = vec![1];
        for expected in [4, 5, 4, 5, 1] {
            let slot = beside.slot(ours(), 1, &taken);
            assert_eq!(slot, expected, "beside {taken:?}");
            taken.push(slot);
        }
        assert_eq!(beside.slot(ours(), 2, &[2]), 3, "another IKE SA, another of both");
        assert_eq!(beside.slot(1..=1, 5, &[5]), 1, "the only other");
        assert_eq!(beside.slot(1..=2, 2, &[2]), 2, "nobody else");
    }

    #[test]
    fn what_several_data_planes_have_is_shared() {
        let mut beside = with([1, 1, 2, 2, 3, 1]);
        let [one, same, other] = [0x0100_0001, 0x0200_0002, 0x0300_0003];
        assert_eq!(beside.note(IKE, &[vec![one, same]]), [one, same]);
        assert!(!beside.is_shared(one) && !beside.is_shared(same));
        beside.note(IKE, &[vec![one, same, other]]);
        assert!([one, same, other].into_iter().all(|spi| beside.is_shared(spi)));
        // The IKE SA is rekeyed: its successor has them, and only then it has them no more.
        beside.note(NEXT, &[vec![one, same, other]]);
        assert_eq!(beside.note(IKE, &[]), [one, same, other]);
        assert!(beside.is_shared(one));
        // The data plane of one of them moves.
        let mut map = SlotMap::of_workers(vec![1; 255]);
        assert_eq!(beside.follow(&map).len(), 3);
        assert!(!beside.is_shared(other));
        assert_eq!(beside.follow(&map), [], "nothing new");
        map.data[0] = 2;
        beside.follow(&map);
        assert!(beside.is_shared(one));
        beside.let_go(1);
        assert!(!beside.is_shared(one));
        assert_eq!(beside.note(NEXT, &[]), []);
    }
}

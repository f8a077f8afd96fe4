//! The slot map.

use bus::messages::rmctrl::SlotMap;

/// Slots are numbered 1 to 255; 0 would be an SPI that means "none".
pub(crate) const SLOTS: u32 = 255;

/// Deals the slots out to the workers in turn, so that each has as many as any other, give or take one.
pub(crate) fn slot_map(workers: u32) -> SlotMap {
    let workers = workers.max(1);
    SlotMap::of_workers((0..SLOTS).map(|slot| slot % workers + 1).collect())
}

/// How many slots a worker has.
pub(crate) fn slots_of(map: &SlotMap, worker: u32) -> usize {
    map.managers.iter().filter(|&&owner| owner == worker).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_slot_has_a_worker_and_every_worker_its_share() {
        for workers in [1, 2, 3, 17, 255] {
            let map = slot_map(workers);
            assert_eq!(map.managers.len(), 255);
            let shares: Vec<_> = (1..=workers).map(|worker| slots_of(&map, worker)).collect();
            assert_eq!(shares.iter().sum::<usize>(), 255);
            let (least, most) = (shares.iter().min(), shares.iter().max());
            assert!(most.unwrap() - least.unwrap() <= 1, "{workers}: {shares:?}");
        }
        assert_eq!(slot_map(2), slot_map(2));
    }
}

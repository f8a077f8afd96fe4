//! The slot map, which must not die with `rmctrl`: the version that was committed last, and what follows from it for the kernel and for who gets segments.

use bus::messages::rmctrl::{Leaving, MovePhase, SlotMap, SlotPart};
use netio::steering::SlotOwners;
use sadb::Slot;

/// Checks a map for a node of `workers` workers against the one that is kept. `Ok(false)`: it is the same.
///
/// # Errors
/// In words: what is wrong with it.
pub(crate) fn check(map: &SlotMap, kept: Option<&SlotMap>, workers: u32) -> Result<bool, String> {
    let is_worker = |worker: &u32| (1..=workers).contains(worker);
    let is_whole = |owners: &[u32]| owners.len() == usize::from(u8::MAX) && owners.iter().all(is_worker);
    if !is_whole(&map.managers) || !is_whole(&map.data) {
        return Err(format!("the slot map does not fit {workers} workers"));
    }
    let is_output = |worker: &u32| *worker == 0 || is_worker(worker);
    if !matches!(map.outputs.len(), 0 | 255) || !map.outputs.iter().all(is_output) {
        return Err(format!(
            "the outputs of the slot map do not fit {workers} workers"
        ));
    }
    for (n, entry) in map.leaving.iter().enumerate() {
        let is_known = Slot::new(u8::try_from(entry.slot).unwrap_or(0)).is_some()
            && matches!(
                SlotPart::try_from(entry.part),
                Ok(SlotPart::Manager | SlotPart::Data)
            )
            && MovePhase::try_from(entry.phase).is_ok();
        let is_second = |other: &Leaving| (other.slot, other.part) == (entry.slot, entry.part);
        if !is_known || !is_worker(&entry.from) || map.leaving.iter().take(n).any(is_second) {
            return Err(format!("the slot map has a move that cannot be: {entry:?}"));
        }
    }
    match kept {
        Some(kept) if map.version < kept.version || (map.version == kept.version && map != kept) => {
            Err(format!(
                "version {} of the slot map is not newer than version {}",
                map.version, kept.version
            ))
        }
        Some(kept) => Ok(map.version > kept.version),
        None => Ok(true),
    }
}

/// Who gets what the kernel receives for a slot.
pub(crate) fn steered_to(map: &SlotMap, slot: Slot) -> SlotOwners {
    let [manager, data] = [SlotPart::Manager, SlotPart::Data].map(|part| {
        let worker = map.steered_to(part, slot.number())?;
        usize::try_from(worker.checked_sub(1)?).ok()
    });
    SlotOwners { manager, data }
}

/// Whether a worker may have the segments of a slot. While the new owner prepares, a new life of the former one serves on; once it has been asked to let go nobody gets
/// them anew, for it may have done so and died, until it is known that it has. A data plane may map what it does not write yet.
pub(crate) fn may_open(map: &SlotMap, part: SlotPart, slot: Slot, worker: u32) -> bool {
    let is_owner = map.owner(part, slot.number()) == Some(worker);
    match map.leaving_of(part, slot.number()) {
        None | Some((_, MovePhase::Released)) => is_owner,
        Some((entry, MovePhase::Preparing)) if entry.from == worker => true,
        _ => is_owner && part == SlotPart::Data,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: Slot = Slot::MIN;

    /// Everything is worker 1's; slot 1 goes from there to worker 2.
    fn moving(part: SlotPart, phase: MovePhase) -> SlotMap {
        let mut map = SlotMap::of_workers(vec![1; 255]);
        map.give(part, 1, 2);
        map.leaving.push(Leaving {
            slot: 1,
            part: part as i32,
            from: 1,
            phase: phase as i32,
            version: 2,
        });
        map.version = 2;
        map
    }

    #[test]
    fn a_map_must_be_whole_and_newer() {
        let first = SlotMap::of_workers(vec![1; 255]);
        assert_eq!(check(&first, None, 1), Ok(true));
        assert_eq!(check(&first, Some(&first), 1), Ok(false));
        let second = moving(SlotPart::Data, MovePhase::Preparing);
        assert_eq!(check(&second, Some(&first), 2), Ok(true));
        assert!(check(&second, Some(&first), 1).is_err(), "there is no worker 2");
        assert!(check(&first, Some(&second), 2).is_err(), "older");
        let other = SlotMap {
            version: 2,
            ..first.clone()
        };
        assert!(
            check(&other, Some(&second), 2).is_err(),
            "another one of the same version"
        );
        type Change = fn(&mut SlotMap);
        let wrong: [Change; 7] = [
            |map| map.data.truncate(254),
            |map| map.managers[7] = 0,
            |map| map.leaving[0].slot = 0,
            |map| map.leaving[0].slot = 256,
            |map| map.leaving[0].from = 0,
            |map| map.leaving[0].phase = 9,
            |map| map.leaving.push(map.leaving[0].clone()),
        ];
        for (n, change) in wrong.into_iter().enumerate() {
            let mut map = second.clone();
            change(&mut map);
            assert!(check(&map, Some(&first), 2).is_err(), "{n}");
        }
    }

    #[test]
    fn the_kernel_and_the_segments_follow_the_phases() {
        use MovePhase::{Preparing, Released, Steered};
        let may = |map: &SlotMap, part| [1, 2].map(|worker| may_open(map, part, SLOT, worker));
        for (phase, steered, manager, data) in [
            (Preparing, (0, 0), [true, false], [true, true]),
            (Steered, (0, 1), [false, false], [false, true]),
            (Released, (1, 1), [false, true], [false, true]),
        ] {
            let map = moving(SlotPart::Manager, phase);
            assert_eq!(steered_to(&map, SLOT).manager, Some(steered.0), "{phase:?}");
            assert_eq!(steered_to(&map, SLOT).data, Some(0));
            assert_eq!(may(&map, SlotPart::Manager), manager, "{phase:?}");
            let map = moving(SlotPart::Data, phase);
            assert_eq!(steered_to(&map, SLOT).data, Some(steered.1), "{phase:?}");
            assert_eq!(steered_to(&map, SLOT).manager, Some(0));
            assert_eq!(may(&map, SlotPart::Data), data, "{phase:?}");
        }
        let map = SlotMap::of_workers(vec![1; 255]);
        assert_eq!(may(&map, SlotPart::Data), [true, false]);
    }
}

//! SPIs and slots that come and go.

use crypto::TestRandom;

use super::*;

#[test]
fn an_spi_carries_its_slot_and_index_and_is_checked_whole() {
    let mut random = TestRandom::new(1);
    let mut table = Table::new(&[7, 9, 7, 0], 10);
    let first = table.reserve_for_rekey(9, &mut random).unwrap();
    let second = table.reserve_for_rekey(9, &mut random).unwrap();
    assert_eq!((first.slot(), first.index()), (9, 0));
    assert_eq!((second.slot(), second.index()), (9, 1));
    assert!(table.is_ours(first));
    assert!(!table.is_ours(IkeSaId(0)));
    assert!(table.entry_mut(IkeSaId(first.0 ^ 1)).is_none());
    assert!(table.reserve_for_rekey(8, &mut random).is_none());
}

#[test]
fn an_spi_of_an_earlier_life_is_taken_once_and_within_reason() {
    let mut random = TestRandom::new(1);
    let mut table = Table::new(&[1], 10);
    let id = |index: u64| IkeSaId(1 << 56 | index << 32 | 7);
    assert!(table.park(id(3), Some(id(1))));
    assert!(!table.park(id(3), None), "taken");
    assert!(!table.park(id(4), Some(id(1))), "taken too");
    assert!(!table.exists(id(4)), "nothing is left of that");
    assert!(!table.park(id(1 << 23), None), "nobody had so many");
    assert!(!table.park(IkeSaId(2 << 56 | 7), None), "another slot");
    assert_eq!((table.count, table.offered_of(id(3))), (2, Some(id(1))));
    // The places between are given out, those that are taken are not.
    let mut given: Vec<usize> = (0..8)
        .map(|_| table.reserve_for_rekey(1, &mut random).unwrap().index())
        .collect();
    given.sort_unstable();
    given.dedup();
    assert_eq!(given.len(), 8);
    assert!(!given.contains(&3) && !given.contains(&1));
}

#[test]
fn a_released_spi_is_dead_and_the_limit_holds() {
    let mut random = TestRandom::new(1);
    let mut table = Table::new(&[1, 2], 2);
    let first = table.reserve(&mut random).unwrap();
    let second = table.reserve(&mut random).unwrap();
    assert_ne!(first.slot(), second.slot(), "new IKE SAs go round the slots");
    assert!(table.reserve(&mut random).is_none());
    let rekeyed = table.reserve_for_rekey(1, &mut random).unwrap();
    assert!(table.reserve_for_rekey(1, &mut random).is_none(), "bounded too");
    table.release(rekeyed);
    table.release(first);
    table.release(first);
    assert_eq!(table.count, 1);
    assert!(table.entry_mut(first).is_none());
    assert!(table.reserve(&mut random).is_some());
}

#[test]
fn slots_come_and_go_and_nothing_of_them_stays() {
    let mut random = TestRandom::new(1);
    let mut table = Table::new(&[], 10);
    assert!(table.is_full() && table.reserve(&mut random).is_none());
    for slot in [9, 2, 2, 0, 5] {
        table.add_slot(slot);
    }
    let mut of = |table: &mut Table| {
        let given: Vec<IkeSaId> = (0..3).map(|_| table.reserve(&mut random).unwrap()).collect();
        given.iter().map(|id| id.slot()).collect::<Vec<_>>()
    };
    let mut slots = of(&mut table);
    slots.sort_unstable();
    assert_eq!(slots, [2, 5, 9]);
    assert!(table.set_crowded(&|slot| slot != 5));
    assert_eq!(of(&mut table), [5, 5, 5]);
    assert!(!table.set_crowded(&|_| true));
    assert!(table.reserve(&mut TestRandom::new(2)).is_none());
    assert!(table.set_crowded(&|_| false));
    let parked = IkeSaId(5 << 56 | 77 << 32);
    assert!(table.park(parked, None));
    assert_eq!(table.count, 7);
    assert!(table.remove_slot(5).is_empty() && table.remove_slot(5).is_empty());
    assert_eq!(table.count, 2);
    assert!(!table.is_ours(parked) && table.is_ours(IkeSaId(9 << 56)));
    table.add_slot(5);
    assert!(table.park(parked, None), "it may come back");
}

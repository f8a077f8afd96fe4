//! A store and its successors.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::word::crash;
use crate::{DEFAULT_CAPACITY, SlotSegments};

const SLOT: u8 = 7;

/// By IKE SPI.
type Records = BTreeMap<u64, Vec<u8>>;

fn segments(capacity: usize) -> SlotSegments {
    SlotSegments::with_capacity(Slot::new(SLOT).unwrap(), capacity).unwrap()
}

fn map(segments: &SlotSegments) -> IkeStore {
    IkeStore::map(&segments.owner_fds().unwrap().ike.unwrap()).unwrap()
}

fn id(index: u32, random: u32) -> IkeSpi {
    IkeSpi::new(Slot::new(SLOT).unwrap(), index, random).unwrap()
}

fn record(seed: u8, length: usize) -> Vec<u8> {
    (0..length).map(|n| seed.wrapping_add(n as u8) | 1).collect()
}

fn records(store: &IkeStore) -> Records {
    let read = |id: IkeSpi| {
        let mut record = Vec::new();
        assert!(store.read(id, &mut record).unwrap());
        (id.to_u64(), record)
    };
    store.ids().into_iter().map(read).collect()
}

/// Every chunk is in a chain or zero and free.
fn assert_tidy(store: &IkeStore) {
    let mut used = Vec::new();
    for id in store.ids() {
        let mut at = store.head(id.index()).unwrap();
        while at != 0 {
            used.push(at);
            at = store.link(at).unwrap().next;
        }
    }
    for number in 1..chunks(store.shape.capacity) as u32 {
        let zero = store
            .chunk(number)
            .unwrap()
            .iter()
            .all(|word| word.load(Ordering::Relaxed) == 0);
        assert_eq!(zero, !used.contains(&number), "chunk {number}");
    }
    assert_eq!(store.usage().bytes, used.len() * CHUNK_BYTES);
    assert_eq!(store.chunks.count(), used.len());
}

/// A store with three IKE SAs.
fn inhabited() -> (SlotSegments, IkeStore) {
    let segments = segments(4);
    let mut store = map(&segments);
    for (index, length) in [(0, 300), (1, 20), (5, 900)] {
        assert!(
            store
                .stage(id(index, 9), &record(index as u8, length), false)
                .unwrap()
        );
    }
    store.commit().unwrap();
    (segments, store)
}

/// One is saved again, one is gone and its index has another, one comes; all belong together.
fn change(store: &mut IkeStore) {
    store.stage(id(0, 9), &record(100, 500), false).unwrap();
    store.stage_removal(id(1, 9)).unwrap();
    store.stage(id(1, 10), &record(101, 104), true).unwrap();
    store.stage(id(2, 9), &record(102, 0), false).unwrap();
    store.stage_removal(id(5, 9)).unwrap();
    store.commit().unwrap();
}

#[test]
fn records_of_every_length_come_back() {
    let segments = segments(100);
    let mut store = map(&segments);
    for length in (0..700).chain([4000, 65_000]) {
        let record = record(length as u8, length);
        assert!(store.stage(id(3, 1), &record, false).unwrap());
        store.commit().unwrap();
        let again = map(&segments);
        assert_eq!(
            (again.lost(), records(&again)),
            (0, Records::from([(id(3, 1).to_u64(), record)]))
        );
    }
    assert_tidy(&map(&segments));
    assert!(!store.stage(id(3, 1), &record(1, LONGEST + 1), false).unwrap());
    store.commit().unwrap();
    assert_eq!(
        records(&store),
        Records::new(),
        "what could not be stored has no record"
    );
    assert!(
        store
            .stage(IkeSpi::new(Slot::MIN, 3, 1).unwrap(), &[], false)
            .is_err()
    );
    assert!(
        store.stage(id(201, 1), &[], false).is_err(),
        "an index without head"
    );
    let own = store.own().unwrap();
    assert_eq!(own.index() as usize, store.capacity());
    assert!(store.stage(own, &record(3, 70), false).unwrap());
    store.commit().unwrap();
    let again = map(&segments);
    assert_eq!((again.lost(), again.ids()), (0, vec![]));
    assert!(again.read(own, &mut Vec::new()).unwrap());
}

#[test]
fn nothing_staged_is_seen_before_the_commit_and_an_index_is_not_an_ike_sa() {
    let (segments, mut store) = inhabited();
    let before = records(&store);
    store.stage(id(1, 10), &record(1, 50), false).unwrap();
    store.stage_removal(id(0, 8)).unwrap();
    // The former one of the index is gone, which is told after its successor came.
    store.stage_removal(id(1, 9)).unwrap();
    assert_eq!(records(&store), before);
    assert_eq!(records(&map(&segments)), before);
    let mut store = map(&segments);
    store.stage(id(1, 10), &record(1, 50), false).unwrap();
    store.stage_removal(id(1, 9)).unwrap();
    store.stage_removal(id(0, 8)).unwrap();
    store.commit().unwrap();
    let keys: Vec<u64> = records(&store).into_keys().collect();
    assert_eq!(keys, [id(0, 9), id(1, 10), id(5, 9)].map(IkeSpi::to_u64));
    assert!(!store.read(id(1, 9), &mut Vec::new()).unwrap());
    assert_eq!(store.clear().unwrap(), 3);
    assert_tidy(&store);
}

/// The owner dies at every store of a change; its successor finds all of the change or nothing, and so does the successor of one that died while it
/// put things in order.
#[test]
fn a_death_at_any_store_leaves_all_or_nothing() {
    let (segments, mut store) = inhabited();
    let before = records(&store);
    change(&mut store);
    let after = records(&store);
    assert_tidy(&store);
    drop((segments, store));
    let (mut olds, mut news) = (0, 0);
    for stores in 0.. {
        let (segments, mut store) = inhabited();
        let ended = crash::after(stores, || change(&mut store));
        drop(store);
        for more in 0.. {
            let image = image(&segments);
            if crash::after(more, || drop(map(&segments))) {
                break;
            }
            let successor = map(&segments);
            assert_eq!(successor.lost(), 0);
            let found = records(&successor);
            assert!(
                found == before || found == after,
                "died after {stores} stores, then {more}: {:?}",
                found.keys()
            );
            assert_tidy(&successor);
            drop(successor);
            restore(&segments, &image);
        }
        let successor = map(&segments);
        if records(&successor) == before {
            assert_eq!(news, 0, "old again after new");
            olds += 1;
        } else {
            assert_eq!(records(&successor), after);
            news += 1;
        }
        assert_tidy(&successor);
        if ended {
            break;
        }
    }
    assert!(olds > 50 && news > 50, "{olds} {news}");
}

#[test]
fn damage_costs_the_records_it_is_in_and_no_other() {
    let damaged = |break_it: &dyn Fn(&IkeStore)| {
        let (segments, store) = inhabited();
        break_it(&store);
        drop(store);
        let successor = map(&segments);
        assert_tidy(&successor);
        let left: Vec<u32> = successor.ids().into_iter().map(IkeSpi::index).collect();
        (successor.lost(), left)
    };
    let get =
        |store: &IkeStore, chunk: u32, nth: usize| store.chunk(chunk).unwrap()[nth].load(Ordering::Relaxed);
    let set = |store: &IkeStore, chunk: u32, nth: usize, value: u64| {
        store.chunk(chunk).unwrap()[nth].store(value, Ordering::Relaxed);
    };
    // A bit of a record.
    assert_eq!(
        damaged(&|store| {
            let at = store.head(5).unwrap();
            set(store, at, 4, get(store, at, 4) ^ 1);
        }),
        (1, vec![0, 1])
    );
    // A chain that runs into another, and one that runs in a circle.
    assert_eq!(
        damaged(&|store| {
            let (head, other) = (store.head(0).unwrap(), store.head(5).unwrap());
            set(
                store,
                head,
                0,
                get(store, head, 0) & !0xffff_ffff | u64::from(other),
            );
        }),
        (1, vec![1, 5])
    );
    assert_eq!(
        damaged(&|store| {
            let head = store.head(5).unwrap();
            let next = store.link(head).unwrap().next;
            set(store, next, 0, u64::from(head));
        }),
        (1, vec![0, 1])
    );
    // Two heads of one chain; a head beyond everything; one that is no number of a chunk.
    for wild in [1, 1 << 20, u64::MAX] {
        assert_eq!(
            damaged(&|store| store.heads()[2].store(wild, Ordering::Relaxed)).1,
            vec![0, 1, 5]
        );
    }
    // A journal that is valid and makes no sense.
    assert_eq!(
        damaged(&|store| {
            store.journal()[0].store(u64::MAX, Ordering::Relaxed);
            store.header().unwrap().journal_valid.store(1, Ordering::Relaxed);
        }),
        (1, vec![0, 1, 5])
    );
}

#[test]
fn half_open_ones_get_a_quarter_and_a_full_store_says_so() {
    let segments = segments(8);
    let mut store = map(&segments);
    for index in 0..4 {
        assert!(store.has_room_for_half_open());
        assert!(store.stage(id(index, 1), &record(1, 100), true).unwrap());
        store.commit().unwrap();
    }
    assert!(!store.has_room_for_half_open(), "four of sixteen heads");
    assert!(!store.stage(id(5, 1), &record(1, 100), true).unwrap());
    store.commit().unwrap();
    assert_eq!((store.usage().records, store.usage().half_open), (4, 4));
    // One of them is established, and has room like any other.
    assert!(store.stage(id(3, 1), &record(1, 10_000), false).unwrap());
    store.commit().unwrap();
    assert!(store.has_room_for_half_open());
    // Not enough chunks: there is no record then, also no old one.
    assert!(!store.stage(id(3, 1), &record(1, 10_000), false).unwrap());
    assert!(store.stage(id(6, 1), &record(1, 10), false).unwrap());
    store.commit().unwrap();
    assert!(!store.read(id(3, 1), &mut Vec::new()).unwrap());
    assert_tidy(&store);
    assert_eq!(map(&segments).usage(), store.usage());
}

#[test]
fn memory_that_a_crowd_needed_goes_back_to_the_kernel() {
    let segments = segments(DEFAULT_CAPACITY);
    let fd = segments.owner_fds().unwrap().ike.unwrap();
    let blocks = || nix::sys::stat::fstat(&fd).unwrap().st_blocks * 512;
    let mut store = map(&segments);
    for index in 0..2000 {
        assert!(store.stage(id(index, 1), &record(1, 1000), false).unwrap());
    }
    store.commit().unwrap();
    let full = blocks();
    assert!(full > 2_000_000);
    for index in 10..2000 {
        store.stage_removal(id(index, 1)).unwrap();
    }
    store.commit().unwrap();
    assert!(blocks() < full / 4, "{} of {full}", blocks());
    let again = map(&segments);
    assert_eq!((again.ids().len(), again.lost()), (10, 0));
    assert!(store.stage(id(100, 1), &record(2, 100_000), false).unwrap());
    store.commit().unwrap();
    assert_eq!(map(&segments).ids().len(), 11);
}

fn image(segments: &SlotSegments) -> Vec<u8> {
    use std::io::{Read, Seek};
    let mut file = std::fs::File::from(segments.owner_fds().unwrap().ike.unwrap());
    let mut bytes = Vec::new();
    file.rewind().unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn restore(segments: &SlotSegments, image: &[u8]) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::File::from(segments.owner_fds().unwrap().ike.unwrap());
    file.write_all_at(image, 0).unwrap();
}

proptest! {
    /// Against the definition: a map of what was committed.
    #[test]
    fn a_store_is_a_map_that_survives(steps in proptest::collection::vec((0u32..16, 0usize..600, 0u8..8, any::<u16>()), 1..60)) {
        let segments = segments(8);
        let mut store = map(&segments);
        let (mut committed, mut wanted) = (Records::new(), Records::new());
        for (index, length, what, stop) in steps {
            match what {
                0 => { store.stage_removal(id(index, 1)).unwrap(); wanted.remove(&id(index, 1).to_u64()); }
                1..5 => {
                    let record = record(what, length);
                    let stored = store.stage(id(index, 1), &record, false).unwrap();
                    wanted.remove(&id(index, 1).to_u64());
                    if stored { wanted.insert(id(index, 1).to_u64(), record); }
                }
                5 | 6 => { store.commit().unwrap(); committed = wanted.clone(); }
                _ => {
                    let ended = crash::after(usize::from(stop % 2000), || store.commit().unwrap());
                    store = map(&segments);
                    let found = records(&store);
                    prop_assert!(found == wanted || (!ended && found == committed));
                    (committed, wanted) = (found.clone(), found);
                    assert_tidy(&store);
                }
            }
            prop_assert_eq!(&records(&store), &committed);
        }
    }
}

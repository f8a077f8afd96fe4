//! What the data plane sees of the engine's wishes, and what a later life finds.

use super::*;
use crate::child::record;
use crate::child::tests::{child, data_path};
use ikev2::Sad;
use sadb::{SlotSegments, SlotWorker};

fn later(segments: &SlotSegments) -> Slots {
    let mut slots = Slots::new();
    slots
        .add(segments.slot(), &segments.owner_fds().unwrap())
        .unwrap();
    slots
}

fn slots(capacity: usize) -> (SlotSegments, Slots) {
    let segments = SlotSegments::with_capacity(Slot::new(3).unwrap(), capacity).unwrap();
    let slots = later(&segments);
    (segments, slots)
}

#[test]
fn the_data_plane_reads_what_the_engine_wants() {
    let (segments, mut slots) = slots(10);
    let worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
    let read = |spi: u32| worker.find(Spi::from_u32(spi).unwrap()).unwrap();
    let old = slots.allocate_spi(3).unwrap();
    assert_eq!(slots.allocate_spi(4), None, "not our slot");
    slots
        .install(&record(&child(old), &data_path()).unwrap())
        .unwrap();
    assert!(!read(old).unwrap().outbound_active, "nothing is sent yet");
    slots.activate(old, None).unwrap();
    assert!(read(old).unwrap().outbound_active);

    // The peer rekeys: the new one receives only, until it is activated.
    let new = slots.allocate_spi(3).unwrap();
    let pending = ikev2::ChildSa {
        outbound_active: false,
        ..child(new)
    };
    slots.install(&record(&pending, &data_path()).unwrap()).unwrap();
    assert_eq!(
        (
            read(old).unwrap().outbound_active,
            read(new).unwrap().outbound_active
        ),
        (true, false)
    );
    slots.activate(new, Some(old)).unwrap();
    assert_eq!(
        (
            read(old).unwrap().outbound_active,
            read(new).unwrap().outbound_active
        ),
        (false, true)
    );

    // We rekey: the new one sends at once, and the one before it no more.
    let third = slots.allocate_spi(3).unwrap();
    slots
        .install(&record(&child(third), &data_path()).unwrap())
        .unwrap();
    slots.activate(third, Some(new)).unwrap();
    assert_eq!(
        (
            read(new).unwrap().outbound_active,
            read(third).unwrap().outbound_active
        ),
        (false, true)
    );

    let path = Path {
        local: "192.0.2.1:4500".parse().unwrap(),
        remote: "203.0.113.7:61000".parse().unwrap(),
    };
    slots.relocate(third, path).unwrap();
    assert_eq!(read(third).unwrap().peer, path.remote);
    assert!(slots.relocate(0x0500_0000, path).is_err());

    let spi = Spi::from_u32(third).unwrap();
    worker.counters(spi).unwrap().received(2, 300);
    worker.hot(spi).unwrap().received_at(netio::task::monotonic_ns());
    worker
        .hot(spi)
        .unwrap()
        .learn_peer("203.0.113.8:1".parse().unwrap());
    let usage = slots.usage(third);
    assert_eq!(
        (usage.inbound_packets, usage.inbound_bytes, usage.outbound_bytes),
        (2, 300, 0)
    );
    assert_eq!(usage.learned_peer, "203.0.113.8:1".parse().ok());
    assert!(usage.last_inbound.unwrap() <= Instant::now());
    slots.usage(third);
    assert_eq!((slots.take_moves(), slots.take_moves()), (1, 0));

    // A later life finds it as it is, and brings it to what its record says.
    let mut slots = later(&segments);
    let elsewhere = Path {
        remote: "203.0.113.9:4500".parse().unwrap(),
        ..path
    };
    assert!(slots.revive(third, false, elsewhere).unwrap());
    assert_eq!(
        (read(third).unwrap().peer, read(third).unwrap().outbound_active),
        (elsewhere.remote, false)
    );
    assert_eq!(slots.counters(third).get(SaCounter::BytesIn), 300);
    assert!(!slots.revive(0x0300_3fff, true, path).unwrap());
    let reserved = slots.allocate_spi(3).unwrap();
    slots.withdraw(new).unwrap();
    assert!(read(new).is_none());
    // Neither the old one nor what was only reserved is asked for.
    assert_eq!(slots.remove_unknown(3, &HashSet::from([third, new])), 1);
    assert!(read(old).is_none() && slots.withdraw(reserved).is_err());
    slots
        .install(&record(&child(new), &data_path()).unwrap())
        .unwrap();
    slots.remove(third);
    assert!(read(third).is_none());
    slots.remove(third);
    assert_eq!(slots.clear().unwrap(), 1);
}

#[test]
fn a_full_slot_gives_no_spi_until_one_is_given_back() {
    let (_segments, mut slots) = slots(1);
    let spi = slots.allocate_spi(3).unwrap();
    assert_eq!(slots.allocate_spi(3), None);
    slots.free_spi(spi);
    assert_eq!(slots.allocate_spi(3), None, "a record may list it");
    slots.free();
    assert!(slots.allocate_spi(3).is_some_and(|again| again != spi));
}

#[test]
fn both_clocks_tell_the_same_time() {
    let clock = Clock {
        instant: Instant::now(),
        nanoseconds: netio::task::monotonic_ns(),
    };
    let nanoseconds = netio::task::monotonic_ns();
    let read = clock.instant(nanoseconds).unwrap();
    assert_eq!(
        read - clock.instant,
        Duration::from_nanos(nanoseconds - clock.nanoseconds)
    );
    assert!(read <= Instant::now());
    let before = clock.instant(clock.nanoseconds - 1_000_000).unwrap();
    assert_eq!(clock.instant - before, Duration::from_millis(1));
    assert_eq!(clock.instant(0), None);
}

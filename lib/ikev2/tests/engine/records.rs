//! What is saved when, and what becomes of records that cannot be used.

use std::sync::Arc;

use crypto::TestRandom;
use ikev2::{Action, CookieThresholds, DropCause, Engine, EngineConfig, IkeSaId, Profile, RestoreError};

use crate::world::Side::{A, B};
use crate::world::{Host, SECOND, World, profile};

/// The engine of a later life that knows nobody yet.
fn later_life(host: &Host) -> Engine {
    Engine::new(host.memory.config.clone(), Box::new(TestRandom::new(77)))
}

fn nobody(_: &str) -> Option<Arc<Profile>> {
    None
}

/// The record of the only IKE SA of a side.
fn only_record(host: &Host) -> (IkeSaId, Vec<u8>) {
    assert_eq!(host.sad.records.len(), 1);
    let (ike, record) = host.sad.records.first_key_value().unwrap();
    (*ike, record.clone())
}

#[test]
fn only_what_changes_is_saved() {
    let mut world = World::connected();
    let saved = |world: &World| world.b.memory.saved.len();
    world.action(A, Action::CheckLiveness);
    let request = world.intercept(B);
    let before = saved(&world);
    world.deliver(&request);
    assert_eq!(saved(&world), before + 1, "a new request");
    world.wire.clear();
    let mut damaged = request.clone();
    *damaged.bytes.last_mut().unwrap() ^= 1;
    let mut other = request.clone();
    other.bytes[23] += 7;
    for datagram in [&request, &damaged, &other] {
        world.deliver(datagram);
    }
    assert_eq!(saved(&world), before + 1, "repeated, damaged, out of order");
    // Retransmissions of ours and timers change nothing either.
    world.settle();
    let liveness = saved(&world);
    world.advance(200 * SECOND);
    assert_eq!(saved(&world), liveness);
}

#[test]
fn a_response_that_nobody_can_want_any_more_is_not_kept() {
    let mut world = World::connected();
    let (_, with_response) = only_record(&world.b);
    world.run(600 * SECOND, 10 * SECOND);
    let (_, without) = only_record(&world.b);
    assert!(without.len() + 150 < with_response.len());
    world.action(A, Action::CheckLiveness);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn what_could_not_be_saved_is_tried_again_at_its_next_change() {
    let mut world = World::connected();
    world.b.memory.full = true;
    world.action(A, Action::CheckLiveness);
    world.settle();
    assert!(world.b.sad.records.is_empty());
    assert_eq!(world.b.engine.totals().resting, 0, "all there is of it is here");
    world.b.memory.full = false;
    world.action(A, Action::CheckLiveness);
    world.settle();
    assert_eq!(world.b.sad.records.len(), 1);
    assert_eq!(world.b.engine.totals().resting, 1);
}

#[test]
fn relatives_are_saved_together() {
    let mut world = World::connected();
    let old = world.ike(B);
    world.action(A, Action::RekeyIke);
    world.b.memory.saved.clear();
    world.deliver_next(B);
    let saved = world.b.memory.saved.clone();
    assert_eq!(saved.len(), 2);
    assert!(saved.iter().any(|(ike, _)| *ike == old));
    assert_eq!([saved[0].1, saved[1].1], [true, false], "{saved:?}");
    world.settle();
    world.check_pairs(1);
}

#[test]
fn a_parked_ike_sa_says_nothing_and_comes_back_when_its_service_does() {
    let mut world = World::connected();
    let (ike, record) = only_record(&world.b);
    let profiles = world.b.memory.profiles.clone();
    let now = world.now;
    world.b.engine = later_life(&world.b);
    let engine = &mut world.b.engine;
    let unknown = engine.restore(now, ike, &record, &nobody, &mut world.b.sad);
    assert_eq!(unknown.err(), Some(RestoreError::NotParked));
    let claim = engine.reserve_restored(ike, &record).unwrap();
    assert_eq!(claim.service, profiles.last().unwrap().service);
    assert_eq!(claim.spis, world.b.sending.iter().copied().collect::<Vec<_>>());
    assert_eq!(
        engine.reserve_restored(ike, &record),
        Err(RestoreError::Corrupt),
        "once only"
    );
    let waits = engine.restore(now, ike, &record, &nobody, &mut world.b.sad);
    let service = claim.service;
    assert_eq!(waits.err(), Some(RestoreError::NoProfile { service }));
    engine.finish_restore(now, &mut world.b.sad);
    world.action(A, Action::CheckLiveness);
    world.deliver_next(B);
    assert_eq!(world.b.drops(DropCause::Parked), 1);
    assert!(world.wire.is_empty());
    let find = |service: &str| {
        profiles
            .iter()
            .find(|profile| profile.service == service)
            .cloned()
    };
    world
        .b
        .engine
        .restore(now, ike, &record, &find, &mut world.b.sad)
        .unwrap();
    world.run(3 * SECOND, SECOND / 4);
    world.check_pairs(1);
    assert_eq!(world.ike(B), ike);
}

#[test]
fn a_parked_ike_sa_that_is_given_up_leaves_its_place() {
    let world = World::connected();
    let (ike, record) = only_record(&world.b);
    let mut engine = later_life(&world.b);
    engine.reserve_restored(ike, &record).unwrap();
    engine.discard_parked(ike);
    engine.discard_parked(ike);
    engine.reserve_restored(ike, &record).unwrap();
}

#[test]
fn an_ike_sa_that_was_to_be_replaced_keeps_the_spi_for_that() {
    let mut world = World::connected();
    world.action(A, Action::RekeyIke);
    let (ike, record) = only_record(&world.a);
    let mut engine = later_life(&world.a);
    engine.reserve_restored(ike, &record).unwrap();
    let find = |_: &str| world.a.memory.profiles.first().cloned();
    engine
        .restore(world.now, ike, &record, &find, &mut world.a.sad)
        .unwrap();
    world.a.engine = engine;
    world.settle();
    world.check_pairs(1);
    assert_ne!(world.ike(A), ike);
}

#[test]
fn what_is_another_ones_is_not_given_twice() {
    let mut world = World::connected();
    let (ike, record) = only_record(&world.b);
    let copy = IkeSaId(ike.0 + (1 << 32));
    let mut engine = later_life(&world.b);
    for ike in [ike, copy] {
        engine.reserve_restored(ike, &record).unwrap();
    }
    let find = |_: &str| world.b.memory.profiles.last().cloned();
    let (now, sad) = (world.now, &mut world.b.sad);
    engine.restore(now, ike, &record, &find, sad).unwrap();
    let twice = engine.restore(now, copy, &record, &find, sad);
    assert_eq!(
        twice.err(),
        Some(RestoreError::Corrupt),
        "a child SA is in one IKE SA"
    );
    engine.reserve_restored(copy, &record).unwrap();
}

#[test]
fn a_service_that_lost_a_child_profile_keeps_the_child_sas() {
    let mut world = World::connected();
    let (ike, record) = only_record(&world.b);
    let now = world.now;
    let before = world
        .b
        .engine
        .ike_sa(now, ike, &world.b.sad)
        .unwrap()
        .children
        .remove(0);
    let changed = Arc::new(Profile {
        children: Vec::new(),
        ..(**world.b.memory.profiles.last().unwrap()).clone()
    });
    world.b.engine = later_life(&world.b);
    world.b.engine.reserve_restored(ike, &record).unwrap();
    let find = |_: &str| Some(changed.clone());
    let restored = world
        .b
        .engine
        .restore(now, ike, &record, &find, &mut world.b.sad)
        .unwrap();
    let child = &restored.view.children[0];
    assert_eq!(child.child.name, "net");
    assert_eq!(child.remote_selectors, before.remote_selectors);
    // It is rekeyed between the same networks, with the same algorithms.
    let old = world.child(B);
    world.action(A, Action::RekeyChild(world.child(A)));
    world.settle();
    world.check_pairs(1);
    assert_ne!(world.child(B), old);
    // Another one is not to be had.
    let spi = world.child(A);
    world.action(A, Action::CreateChild(0));
    world.settle();
    assert_eq!(world.child(A), spi);
}

#[test]
fn without_room_for_records_no_new_peer_comes_in() {
    let mut world = World::new();
    world.b.engine.set_crowded(&|_| true);
    world.initiate(profile(A));
    world.settle();
    assert_eq!(world.b.drops(DropCause::Congestion), 1);
    world.b.engine.set_crowded(&|_| false);
    world.run(2 * SECOND, SECOND / 4);
    world.check_pairs(1);
}

#[test]
fn secrets_of_cookies_are_given_until_they_are_kept() {
    let mut world = World::new();
    let mut theirs = profile(B);
    theirs.cookies = Some(CookieThresholds { start: 0, stop: 0 });
    world.serve(theirs);
    world.initiate(profile(A));
    let request = world.intercept(B);
    let engine = &mut world.b.engine;
    engine.receive(world.now, request.path, &request.bytes, &mut world.b.sad);
    let mut given = Vec::new();
    for may in [false, true, true] {
        engine.checkpoint_cookies(&mut |state| {
            given.push(state.to_vec());
            may
        });
    }
    assert_eq!(given.len(), 2);
    assert_eq!(given[0], given[1]);
    engine.mark_cookies_changed();
    engine.checkpoint_cookies(&mut |state| {
        given.push(state.to_vec());
        true
    });
    assert_eq!(given.len(), 3, "what kept them is gone");
}

#[test]
fn an_engine_without_epoch_saves_nothing() {
    let mut world = World::new();
    world.b.configure(3, EngineConfig::default());
    let config = EngineConfig {
        epoch: None,
        rests: false,
        ..world.b.memory.config.clone()
    };
    world.b.engine = Engine::new(config, Box::new(TestRandom::new(3)));
    world.serve(profile(B));
    world.initiate(profile(A));
    world.settle();
    world.check_pairs(1);
    assert!(world.b.sad.records.is_empty());
    assert_eq!(world.b.engine.totals().resting, 0);
}

/// Takes up a record as it was recorded when its version was the newest, after the SPI of its IKE SA; returns it, and its child SAs with which of them stand beside
/// another. Such a record never changes: another layout gets another version, beside which this one stays readable.
fn take_up(recorded: &str) -> (u8, Vec<(u32, bool)>) {
    let mut world = World::connected();
    let recorded: Vec<u8> = recorded
        .split_whitespace()
        .map(|octet| u8::from_str_radix(octet, 16).unwrap())
        .collect();
    let (spi, record) = recorded.split_first_chunk().unwrap();
    let ike = IkeSaId(u64::from_be_bytes(*spi));
    let profiles = world.b.memory.profiles.clone();
    let find = |service: &str| {
        profiles
            .iter()
            .find(|profile| profile.service == service)
            .cloned()
    };
    world.b.engine = later_life(&world.b);
    let claim = world.b.engine.reserve_restored(ike, record).unwrap();
    assert_eq!(claim.service, "local/1");
    let now = world.now;
    let restored = world.b.engine.restore(now, ike, record, &find, &mut world.b.sad);
    let restored = restored.unwrap();
    let spis: Vec<u32> = restored.children.iter().map(|child| child.inbound_spi).collect();
    assert_eq!(claim.spis, spis);
    let children = restored.view.children.iter();
    let children = children.map(|child| (child.inbound_spi, child.per_resource));
    (record[0], children.collect())
}

#[test]
fn a_record_of_version_1_is_read() {
    let (version, children) = take_up(include_str!("../../formats/ike-record-1.hex"));
    assert_eq!(version, 1);
    assert!(matches!(children[..], [(_, false)]), "{children:x?}");
}

#[test]
fn a_record_of_version_2_is_read() {
    let (version, children) = take_up(include_str!("../../formats/ike-record-2.hex"));
    assert_eq!(version, 2);
    let wanted = [(0x2200_0001, false), (0x2300_0002, true), (0x2400_0003, true)];
    assert_eq!(children, wanted);
}

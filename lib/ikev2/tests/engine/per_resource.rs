//! Child SAs with the same traffic selectors, each for a processor (RFC 9611).

use std::collections::BTreeSet;
use std::sync::Arc;

use crypto::{Cipher, DhGroup};
use ikev2::{Action, ChildExchange, ChildFailure, ChildProfile, Count, NotifyKind, Profile, RemoveReason};

use crate::world::Side::{A, B};
use crate::world::{Host, SECOND, Side, World, change_child, esp_proposal, profile, ranges};

/// How many each side makes, and how many it accepts.
type Wants = [(u8, u8); 2];

fn profiles(wants: Wants) -> [Profile; 2] {
    let mut profiles = [profile(A), profile(B)];
    for (profile, (make, accept)) in profiles.iter_mut().zip(wants) {
        change_child(profile, |child| {
            child.per_resource.make = make;
            child.per_resource.accept = accept;
        });
    }
    profiles
}

/// Three other processors work for either side.
fn world() -> World {
    let mut world = World::new();
    world.a.sad.others = vec![0x12, 0x13, 0x14];
    world.b.sad.others = vec![0x23, 0x24, 0x25];
    world
}

fn connect(world: &mut World, [ours, theirs]: [Profile; 2]) {
    world.serve(theirs);
    world.initiate(ours);
    world.run(3 * SECOND, SECOND / 4);
    assert_eq!((world.a.established(), world.b.established()), (1, 1));
}

fn connected(wants: Wants) -> World {
    let mut world = world();
    connect(&mut world, profiles(wants));
    world
}

/// Slots of the child SAs in use, in order.
fn slots(host: &Host) -> Vec<u8> {
    let mut slots: Vec<u8> = host.sending.iter().map(|spi| spi.to_be_bytes()[0]).collect();
    slots.sort_unstable();
    slots
}

/// Our SPIs of those that stand beside another.
fn beside(world: &World, side: Side) -> BTreeSet<u32> {
    let views = world.look(side).views(world.now);
    let children = views.iter().flat_map(|view| &view.children);
    children
        .filter(|child| child.per_resource && world.look(side).sending.contains(&child.inbound_spi))
        .map(|child| child.inbound_spi)
        .collect()
}

/// The one that was there first.
fn first(world: &World, side: Side) -> u32 {
    let beside = beside(world, side);
    let mut rest = world.look(side).sending.difference(&beside);
    let first = *rest.next().unwrap();
    assert_eq!(rest.next(), None);
    first
}

/// The shell was told of all that send, as one group; or of none, if there is one only.
fn check_group(world: &World, side: Side) {
    let host = world.look(side);
    let sending: Vec<u32> = host.sending.iter().copied().collect();
    let told = host.groups.get(&world.ike(side)).cloned().unwrap_or_default();
    let wanted = if sending.len() > 1 {
        vec![sending]
    } else {
        Vec::new()
    };
    assert_eq!(told, wanted);
}

fn check(world: &World, count: usize) {
    world.check_pairs(count);
    for side in [A, B] {
        assert_eq!(beside(world, side).len(), count - 1);
        check_group(world, side);
    }
}

#[test]
fn either_side_makes_as_many_as_it_wants_each_in_a_slot_of_its_own() {
    for (wants, maker) in [([(3, 0), (0, 8)], A), ([(0, 8), (3, 0)], B)] {
        let world = connected(wants);
        check(&world, 4);
        assert_eq!(slots(&world.a), [0x11, 0x12, 0x13, 0x14]);
        assert_eq!(slots(&world.b), [0x22, 0x23, 0x24, 0x25]);
        for side in [A, B] {
            let host = world.look(side);
            assert_eq!(host.count(Count::PerResourceCreated(side == maker)), 3);
            assert_eq!(host.count(Count::PerResourceCreated(side != maker)), 0);
            // The others, and the answers to the others; the initiator's word in IKE_AUTH and the answer to it.
            let in_auth = usize::from(maker == A);
            let told = Count::NotifyReceived(NotifyKind::SA_RESOURCE_INFO);
            assert_eq!(host.count(told), 3 + in_auth, "{side:?}");
        }
    }
}

#[test]
fn with_more_of_them_than_processors_some_share_one() {
    let world = connected([(6, 0), (0, 8)]);
    check(&world, 7);
    let slots = slots(&world.b);
    assert_eq!(slots.iter().collect::<BTreeSet<_>>().len(), 4);
}

#[test]
fn who_has_enough_says_so_and_is_not_asked_again() {
    for reason in [NotifyKind::TS_MAX_QUEUE, NotifyKind::NO_ADDITIONAL_SAS] {
        let mut world = world();
        let is_limit = reason == NotifyKind::TS_MAX_QUEUE;
        let [ours, theirs] = profiles([(5, 0), (0, if is_limit { 2 } else { 8 })]);
        world.b.sad.capacity = if is_limit { 1000 } else { 3 };
        connect(&mut world, [ours, theirs]);
        world.run(60 * SECOND, SECOND);
        check(&world, 3);
        assert_eq!(world.b.count(Count::NotifySent(reason)), 1);
        assert_eq!(world.a.count(Count::PerResourceRefused(true)), 1);
        let refused = world.b.count(Count::PerResourceRefused(false));
        assert_eq!(refused, usize::from(is_limit));
        assert_eq!(
            world.a.sad.allocated.len(),
            3,
            "the SPI of the attempt is given back"
        );
    }
}

#[test]
fn a_peer_that_may_have_none_keeps_the_first() {
    let world = connected([(2, 0), (0, 0)]);
    check(&world, 1);
    assert_eq!(
        world.a.count(Count::NotifyReceived(NotifyKind::SA_RESOURCE_INFO)),
        0
    );
    assert_eq!(*world.b.child_failure(), ChildFailure::TooManyBeside);
}

#[test]
fn both_may_make_them_at_the_same_time() {
    let world = connected([(2, 8), (2, 8)]);
    let pairs = world.a.sending.len();
    assert!((3..=5).contains(&pairs), "{pairs}");
    check(&world, pairs);
}

#[test]
fn a_rekeyed_one_keeps_its_processor_whoever_rekeys_it() {
    for maker in [A, B] {
        for rekeyer in [A, B] {
            let wants = if maker == A {
                [(3, 0), (0, 3)]
            } else {
                [(0, 3), (3, 0)]
            };
            let mut world = connected(wants);
            let before = (slots(&world.a), slots(&world.b), beside(&world, rekeyer));
            let all: Vec<u32> = world.look(rekeyer).sending.iter().copied().collect();
            for spi in all {
                world.action(rekeyer, Action::RekeyChild(spi));
                world.run(6 * SECOND, SECOND / 2);
                check(&world, 4);
            }
            assert_eq!((slots(&world.a), slots(&world.b)), (before.0, before.1));
            assert!(beside(&world, rekeyer).is_disjoint(&before.2));
            for host in [&world.a, &world.b] {
                assert!(
                    host.removed
                        .iter()
                        .all(|(_, reason)| *reason == RemoveReason::Rekeyed)
                );
                let made = [true, false].map(|ours| host.count(Count::PerResourceCreated(ours)));
                assert_eq!(made.iter().sum::<usize>(), 3, "no rekey counts");
            }
        }
    }
}

#[test]
fn they_follow_the_ike_sa_into_its_successor() {
    for side in [A, B] {
        let mut world = connected([(3, 0), (0, 3)]);
        let before = world.ike(side);
        world.action(side, Action::RekeyIke);
        world.run(6 * SECOND, SECOND / 2);
        assert_ne!(world.ike(side), before);
        check(&world, 4);
        for host in [&world.a, &world.b] {
            assert_eq!(
                host.groups.values().filter(|groups| !groups.is_empty()).count(),
                1
            );
        }
    }
}

#[test]
fn an_ordinary_second_child_sa_is_none_of_them() {
    let [ours, theirs] = profiles([(2, 0), (0, 2)]).map(|profile| Profile {
        max_children: 2,
        ..profile
    });
    let mut world = world();
    connect(&mut world, [ours, theirs]);
    check(&world, 3);
    world.action(A, Action::CreateChild(0));
    world.settle();
    world.check_pairs(4);
    assert_eq!((beside(&world, A).len(), beside(&world, B).len()), (2, 2));
    assert_eq!(slots(&world.b), [0x22, 0x22, 0x23, 0x24]);
    world.action(A, Action::CreateChild(0));
    world.run(3 * SECOND, SECOND);
    world.check_pairs(4);
    assert_eq!(*world.b.child_failure(), ChildFailure::TooMany);
}

#[test]
fn all_have_the_algorithms_of_the_first() {
    let [mut ours, mut theirs] = profiles([(1, 0), (0, 1)]);
    let both = |ciphers: [Cipher; 2]| {
        ciphers.map(|cipher| ikev2::EspProposal {
            ciphers: vec![cipher],
            groups: vec![DhGroup::Curve25519],
            ..esp_proposal()
        })
    };
    let (one, other) = (Cipher::AesGcm128Icv16, Cipher::AesGcm256Icv16);
    change_child(&mut ours, |child| child.proposals = both([one, other]).to_vec());
    change_child(&mut theirs, |child| child.proposals = both([other, one]).to_vec());
    let mut world = world();
    connect(&mut world, [ours, theirs]);
    check(&world, 2);
    let ciphers: Vec<_> = world.a.installed.values().map(|child| child.cipher).collect();
    assert_eq!(ciphers[0], ciphers[1]);
    let views = world.a.views(world.now);
    let second = views[0].children.iter().find(|child| child.per_resource).unwrap();
    assert_eq!(
        second.group,
        Some(DhGroup::Curve25519),
        "it has a key exchange of its own"
    );
}

#[test]
fn another_group_is_asked_for_as_ever() {
    let [mut ours, mut theirs] = profiles([(2, 0), (0, 2)]);
    let groups = |groups: &[DhGroup]| {
        let groups = groups.to_vec();
        move |child: &mut ikev2::ChildProfile| child.proposals[0].groups = groups
    };
    change_child(&mut ours, groups(&[DhGroup::Ecp256, DhGroup::Curve25519]));
    change_child(&mut theirs, groups(&[DhGroup::Curve25519]));
    let mut world = world();
    connect(&mut world, [ours, theirs]);
    check(&world, 3);
}

#[test]
fn one_that_is_deleted_is_missed_by_nobody() {
    for side in [A, B] {
        let mut world = connected([(2, 0), (0, 2)]);
        let spi = *beside(&world, side).first().unwrap();
        world.action(side, Action::DeleteChild(spi));
        world.run(10 * SECOND, SECOND);
        check(&world, 2);
        // The first goes: the rest carry its traffic.
        let spi = first(&world, side);
        world.action(side, Action::DeleteChild(spi));
        world.run(10 * SECOND, SECOND);
        world.check_pairs(1);
        check_group(&world, side);
        assert_eq!((world.a.established(), world.b.established()), (1, 1));
    }
}

#[test]
fn a_peer_that_deletes_each_of_them_is_not_asked_for_ever() {
    let mut world = connected([(2, 0), (0, 2)]);
    for _ in 0..10 {
        for spi in beside(&world, B) {
            world.action(B, Action::DeleteChild(spi));
        }
        world.run(4 * SECOND, SECOND / 4);
    }
    check(&world, 1);
    let sent = Count::ChildRequestSent(ChildExchange::Create);
    assert_eq!(world.a.count(sent), 2);
    // The first has new keys: it is tried again.
    let first = first(&world, A);
    world.action(A, Action::RekeyChild(first));
    world.run(6 * SECOND, SECOND / 4);
    check(&world, 3);
    assert_eq!(world.a.count(sent), 4);
}

#[test]
fn a_peer_that_deletes_one_while_the_next_is_made_gets_no_more_than_we_make() {
    let mut world = world();
    let [ours, theirs] = profiles([(3, 0), (0, 8)]);
    world.serve(theirs);
    world.initiate(ours);
    for _ in 0..100 {
        if let Some(spi) = beside(&world, B).first().copied() {
            world.action(B, Action::DeleteChild(spi));
        }
        world.run(SECOND / 4, SECOND / 4);
    }
    check(&world, 1);
    assert_eq!(world.a.count(Count::ChildRequestSent(ChildExchange::Create)), 3);
}

#[test]
fn one_that_the_peer_narrows_stands_beside_nothing_and_goes() {
    let [mut ours, mut theirs] = profiles([(3, 0), (0, 8)]);
    let with_group = |group| {
        vec![ikev2::EspProposal {
            groups: vec![group],
            ..esp_proposal()
        }]
    };
    // The first has no key exchange of its own, so the wide one is for it; all others become the narrow one.
    change_child(&mut ours, |child| {
        child.proposals = with_group(DhGroup::Curve25519)
    });
    change_child(&mut theirs, |child| child.proposals = with_group(DhGroup::Ecp256));
    theirs.children.push(Arc::new(ChildProfile {
        proposals: with_group(DhGroup::Curve25519),
        remote: ranges(&["10.1.1.0/24"]),
        ..(*theirs.children[0]).clone()
    }));
    theirs.max_children = 2;
    let mut world = world();
    connect(&mut world, [ours, theirs]);
    world.run(60 * SECOND, SECOND);
    check(&world, 1);
    let sent = Count::ChildRequestSent(ChildExchange::Create);
    assert_eq!(world.a.count(sent), 1);
    assert_eq!(world.a.count(Count::PerResourceCreated(true)), 0);
    assert_eq!(world.b.count(Count::PerResourceCreated(false)), 0);
}

#[test]
fn when_the_first_goes_another_is_the_first() {
    for side in [A, B] {
        let mut world = connected([(2, 0), (0, 2)]);
        let gone = first(&world, side);
        world.action(side, Action::DeleteChild(gone));
        world.run(10 * SECOND, SECOND);
        check(&world, 2);
        let first = first(&world, A);
        world.action(A, Action::RekeyChild(first));
        world.run(10 * SECOND, SECOND);
        check(&world, 3);
    }
}

#[test]
fn one_that_is_being_made_has_an_spi_in_another_slot() {
    let mut world = world();
    let [ours, theirs] = profiles([(1, 0), (0, 1)]);
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    let reserved = |world: &World, slot| world.a.engine.reserved_apart(&[slot]);
    assert_eq!(reserved(&world, 0x11), None);
    while reserved(&world, 0x11).is_none() {
        assert!(world.a.sending.len() < 2, "it is made already");
        world.advance(SECOND / 4);
    }
    let found = reserved(&world, 0x12);
    assert_eq!(found, reserved(&world, 0x11), "either slot is tied");
    let (ike, spi) = found.unwrap();
    assert_eq!((ike, spi.to_be_bytes()[0]), (world.ike(A), 0x12));
    assert_eq!(reserved(&world, 0x13), None);
    world.run(3 * SECOND, SECOND);
    check(&world, 2);
    assert_eq!(reserved(&world, 0x12), None, "it is a child SA by now");
}

#[test]
fn one_that_the_peer_has_lost_is_made_again() {
    let mut world = connected([(2, 0), (0, 2)]);
    let lost = *beside(&world, A).first().unwrap();
    let theirs = world.a.installed[&lost].outbound_spi;
    world.action(B, Action::DeleteChild(theirs));
    world.wire.clear();
    world.action(A, Action::RekeyChild(lost));
    world.run(40 * SECOND, SECOND / 4);
    world.check_pairs(world.a.sending.len());
    assert!(!world.a.sending.contains(&lost));
    assert_eq!((world.a.established(), world.b.established()), (1, 1));
}

#[test]
fn a_later_life_and_another_engine_go_on_with_them() {
    for side in [A, B] {
        for go_on in [World::restart, World::move_slots] {
            let mut world = connected([(3, 0), (0, 3)]);
            let before = beside(&world, side);
            go_on(&mut world, side);
            check(&world, 4);
            assert_eq!(beside(&world, side), before);
            let spi = *before.first().unwrap();
            world.action(side, Action::RekeyChild(spi));
            world.run(6 * SECOND, SECOND);
            check(&world, 4);
            assert_eq!(slots(&world.b), [0x22, 0x23, 0x24, 0x25]);
        }
    }
}

#[test]
fn a_life_that_ends_while_they_are_made_is_made_up_for() {
    for side in [A, B] {
        let mut world = world();
        let [ours, theirs] = profiles([(3, 0), (0, 3)]);
        world.serve(theirs);
        world.initiate(ours);
        for _ in 0..60 {
            world.deliver_next(if side == A { B } else { A });
            world.restart(side);
            world.deliver_next(side);
            world.restart(side);
            world.advance(SECOND / 4);
        }
        world.run(10 * SECOND, SECOND);
        check(&world, 4);
        assert_eq!(slots(&world.b), [0x22, 0x23, 0x24, 0x25]);
    }
}

#[test]
fn only_records_that_need_it_are_of_the_newer_version() {
    for (make, version) in [(0, ikev2::OLDEST_RECORD_VERSION), (2, ikev2::RECORD_VERSION)] {
        let world = connected([(make, 0), (0, 2)]);
        for host in [&world.a, &world.b] {
            let records = host.sad.records.values();
            assert!(records.into_iter().all(|record| record[0] == version));
        }
    }
}

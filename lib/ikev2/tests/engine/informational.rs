//! Deletes, liveness checks, lifetimes.

use std::time::Duration;

use ikev2::{Action, ChildLifetime, Count, IkeLifetime, Liveness, RemoveReason, Usage};

use crate::world::Side::{A, B};
use crate::world::{SECOND, World, change_child, profile};

fn liveness() -> Liveness {
    Liveness {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(2),
        retries: 2,
    }
}

#[test]
fn either_side_deletes_the_ike_sa() {
    for side in [A, B] {
        let mut world = World::connected();
        world.action(side, Action::Delete);
        world.settle();
        let other = if side == A { B } else { A };
        assert_eq!(world.look(side).removed[0].1, RemoveReason::Local);
        assert_eq!(world.look(other).removed[0].1, RemoveReason::Peer);
        assert_eq!(world.look(other).count(Count::IkeDeleteReplied), 1);
        world.check_nothing_left();
    }
}

#[test]
fn both_delete_the_ike_sa_at_once() {
    let mut world = World::connected();
    world.action(A, Action::Delete);
    world.action(B, Action::Delete);
    world.settle();
    world.run(Duration::from_secs(20), SECOND);
    world.check_nothing_left();
}

#[test]
fn a_lost_answer_to_a_delete_is_given_again() {
    let mut world = World::connected();
    world.action(A, Action::Delete);
    world.deliver_next(B);
    world.intercept(A);
    assert_eq!(world.a.engine.totals().ike_sas, 1);
    world.run(SECOND, SECOND / 10);
    assert_eq!(world.b.count(Count::ResponseRepeated), 1);
    world.check_nothing_left();
}

#[test]
fn either_side_deletes_a_child_sa() {
    for side in [A, B] {
        let mut world = World::connected_both(|profile| profile.allow_empty = true);
        let spi = world.child(side);
        world.action(side, Action::DeleteChild(spi));
        world.settle();
        world.check_pairs(0);
        assert_eq!((world.a.established(), world.b.established()), (1, 1));
        assert!(world.a.sad.allocated.is_empty() && world.b.sad.allocated.is_empty());
        // And back again.
        world.action(side, Action::CreateChild(0));
        world.settle();
        world.check_pairs(1);
    }
}

#[test]
fn both_delete_the_child_sa_at_once() {
    let mut world = World::connected_both(|profile| profile.allow_empty = true);
    for side in [A, B] {
        let spi = world.child(side);
        world.action(side, Action::DeleteChild(spi));
    }
    world.settle();
    world.check_pairs(0);
    assert!(world.a.sad.allocated.is_empty() && world.b.sad.allocated.is_empty());
    assert_eq!((world.a.established(), world.b.established()), (1, 1));
}

#[test]
fn the_last_child_takes_the_ike_sa_along() {
    let mut world = World::connected();
    let spi = world.child(A);
    world.action(A, Action::DeleteChild(spi));
    world.settle();
    world.check_ended();
}

#[test]
fn liveness_is_checked_after_silence_and_answered() {
    let mut theirs = profile(B);
    theirs.liveness = Some(liveness());
    let mut world = World::connected_with(profile(A), theirs);
    world.run(Duration::from_secs(35), SECOND);
    assert_eq!(world.b.count(Count::LivenessSent), 3);
    assert_eq!(world.b.count(Count::LivenessAnswered), 3);
    assert_eq!(world.a.count(Count::LivenessReceived), 3);
    assert_eq!(world.a.count(Count::LivenessReplied), 3);
    world.check_pairs(1);
}

#[test]
fn esp_is_a_sign_of_life() {
    let mut theirs = profile(B);
    theirs.liveness = Some(liveness());
    let mut world = World::connected_with(profile(A), theirs);
    let spi = world.child(B);
    for _ in 0..30 {
        world.run(SECOND, SECOND);
        let now = world.now;
        world.b.sad.usage.entry(spi).or_default().last_inbound = Some(now);
    }
    assert_eq!(world.b.count(Count::LivenessSent), 0);
    world.run(Duration::from_secs(11), SECOND);
    assert_eq!(world.b.count(Count::LivenessSent), 1);
}

#[test]
fn a_dead_peer_is_found_out_in_the_configured_time() {
    let mut theirs = profile(B);
    theirs.liveness = Some(liveness());
    let mut world = World::connected_with(profile(A), theirs);
    let spi = world.child(B);
    world.advance(Duration::from_secs(10 + 3 * 2 - 1));
    world.wire.clear();
    assert_eq!(world.b.established(), 1);
    world.advance(SECOND);
    assert_eq!(world.b.established(), 0);
    assert_eq!(world.b.removed, [(spi, RemoveReason::Liveness)]);
    assert_eq!(world.b.count(Count::LivenessSent), 3);
    assert_eq!(world.b.count(Count::LivenessTimeout), 1);
}

#[test]
fn an_ike_sa_ends_with_its_lifetime() {
    let mut theirs = profile(B);
    theirs.lifetime = IkeLifetime {
        time: Some(Duration::from_secs(100)),
        rekey: false,
    };
    let mut world = World::connected_with(profile(A), theirs);
    world.run(Duration::from_secs(99), SECOND);
    assert_eq!(world.a.established(), 1);
    world.run(Duration::from_secs(20), SECOND);
    assert_eq!(world.b.count(Count::IkeHardLifetime), 1);
    assert_eq!(world.b.removed[0].1, RemoveReason::Lifetime);
    world.check_nothing_left();
}

#[test]
fn a_child_sa_is_rekeyed_before_its_lifetime_ends_if_it_was_used() {
    for used in [true, false] {
        let mut theirs = profile(B);
        change_child(&mut theirs, |child| {
            child.lifetime = ChildLifetime {
                time: Some(Duration::from_secs(1000)),
                rekey: true,
                ..ChildLifetime::default()
            }
        });
        let mut world = World::connected_with(profile(A), theirs);
        let first = world.child(B);
        if used {
            let usage = Usage {
                inbound_packets: 1,
                ..Usage::default()
            };
            world.b.sad.usage.insert(first, usage);
        }
        world.run(Duration::from_secs(849), SECOND);
        assert_eq!(world.child(B), first);
        world.run(Duration::from_secs(102), SECOND);
        assert_eq!(world.b.count(Count::ChildSoftLifetime), 1);
        assert_eq!(world.child(B) != first, used);
        world.run(Duration::from_secs(70), SECOND);
        if used {
            world.check_pairs(1);
        } else {
            // Nothing was carried, so it just ends.
            world.check_nothing_left();
        }
    }
}

#[test]
fn kilobytes_count_too() {
    let mut theirs = profile(B);
    change_child(&mut theirs, |child| {
        child.lifetime = ChildLifetime {
            kilobytes: Some(1000),
            rekey: true,
            ..ChildLifetime::default()
        }
    });
    let mut world = World::connected_with(profile(A), theirs);
    let first = world.child(B);
    let usage = |bytes| Usage {
        outbound_bytes: bytes,
        outbound_packets: 1,
        ..Usage::default()
    };
    for bytes in [440_000, 669_999, 784_999, 842_499, 871_249, 885_624, 892_811] {
        world.b.sad.usage.insert(first, usage(bytes));
        world.run(SECOND, SECOND);
        assert_eq!(world.child(B), first, "{bytes}");
    }
    world.b.sad.usage.insert(first, usage(900_000));
    world.run(Duration::from_secs(2), SECOND);
    let second = world.child(B);
    assert_ne!(second, first);
    // At this pace it would be too late at the next look.
    world.b.sad.usage.insert(second, usage(460_000));
    world.run(Duration::from_secs(2), SECOND);
    let third = world.child(B);
    assert_ne!(third, second);
    // Far too much at once.
    world.b.sad.usage.insert(third, usage(5_000_000));
    world.run(Duration::from_secs(2), SECOND);
    assert_ne!(world.child(B), third);
    world.run(Duration::from_secs(20), SECOND);
    assert_eq!(world.b.count(Count::ChildHardLifetime), 0);
    world.check_pairs(1);
}

#[test]
fn a_child_sa_that_is_not_rekeyed_ends_with_its_kilobytes() {
    let mut theirs = profile(B);
    change_child(&mut theirs, |child| {
        child.lifetime = ChildLifetime {
            kilobytes: Some(1000),
            ..ChildLifetime::default()
        }
    });
    let mut world = World::connected_with(profile(A), theirs);
    let usage = Usage {
        inbound_bytes: 1_000_000,
        inbound_packets: 1,
        ..Usage::default()
    };
    world.b.sad.usage.insert(world.child(B), usage);
    world.run(Duration::from_secs(20), SECOND);
    assert_eq!(world.b.count(Count::ChildHardLifetime), 1);
    world.check_nothing_left();
}

#[test]
fn sequence_numbers_do_not_run_out() {
    let mut theirs = profile(B);
    change_child(&mut theirs, |child| child.lifetime.rekey = true);
    let mut world = World::connected_with(profile(A), theirs);
    let first = world.child(B);
    let usage = Usage {
        outbound_packets: 3 << 30,
        ..Usage::default()
    };
    world.b.sad.usage.insert(first, usage);
    // So long it takes to the first look.
    world.run(Duration::from_secs(181), SECOND);
    assert_ne!(world.child(B), first);
    world.check_pairs(1);
}

//! CREATE_CHILD_SA without collisions.

use std::time::Duration;

use crypto::DhGroup;
use ikev2::{Action, ChildFailure, Count, Event, IkeLifetime, NotifyKind, RemoveReason};

use crate::world::Side::{A, B};
use crate::world::{SECOND, Side, World, change_child, profile};

/// Both with these PFS groups.
fn with_groups(ours: &[DhGroup], theirs: &[DhGroup]) -> World {
    let mut profiles = [profile(A), profile(B)];
    for (profile, groups) in profiles.iter_mut().zip([ours, theirs]) {
        change_child(profile, |child| child.proposals[0].groups = groups.to_vec());
    }
    let [ours, theirs] = profiles;
    World::connected_with(ours, theirs)
}

fn other(side: Side) -> Side {
    if side == A { B } else { A }
}

#[test]
fn either_side_rekeys_a_child_sa() {
    for side in [A, B] {
        for groups in [&[][..], &[DhGroup::Curve25519]] {
            let mut world = with_groups(groups, groups);
            let old = (world.child(A), world.child(B));
            let spi = world.child(side);
            world.action(side, Action::RekeyChild(spi));
            world.deliver_next(other(side));
            // The new one is there on the responder's side, but it still sends with the old one.
            assert_eq!(world.look(other(side)).installed.len(), 2);
            assert_eq!(world.child(other(side)), if side == A { old.1 } else { old.0 });
            world.settle();
            world.check_pairs(1);
            assert_ne!(world.child(A), old.0);
            assert_ne!(world.child(B), old.1);
            // The old ones receive for a while, for what is on the way.
            assert_eq!((world.a.installed.len(), world.b.installed.len()), (2, 2));
            world.run(Duration::from_secs(6), SECOND);
            assert_eq!(world.a.removed, [(old.0, RemoveReason::Rekeyed)]);
            assert_eq!(world.b.removed, [(old.1, RemoveReason::Rekeyed)]);
            world.check_pairs(1);
        }
    }
}

#[test]
fn a_peer_in_a_hurry_is_slowed_down() {
    let mut world = World::connected();
    for _ in 0..40 {
        let newest = world.child(A);
        world.action(A, Action::RekeyChild(newest));
        world.settle();
        assert!(world.b.installed.len() <= 8, "those that drain count too");
    }
    world.run(Duration::from_secs(60), Duration::from_secs(1));
    world.check_pairs(1);
}

#[test]
fn another_pfs_group_is_asked_for() {
    let mut world = with_groups(&[DhGroup::Ecp256, DhGroup::Curve25519], &[DhGroup::Curve25519]);
    let old = world.child(A);
    world.action(A, Action::RekeyChild(old));
    world.settle();
    assert_eq!(
        world.b.count(Count::NotifySent(NotifyKind::INVALID_KE_PAYLOAD)),
        1
    );
    assert_ne!(world.child(A), old);
    world.check_pairs(1);
    // The next rekey knows the group.
    let old = world.child(A);
    world.action(A, Action::RekeyChild(old));
    world.settle();
    assert_eq!(
        world.b.count(Count::NotifySent(NotifyKind::INVALID_KE_PAYLOAD)),
        1
    );
    assert_ne!(world.child(A), old);
}

#[test]
fn without_a_common_pfs_group_the_old_child_sa_stays() {
    let mut world = with_groups(&[DhGroup::Ecp256], &[DhGroup::Curve25519]);
    let old = world.child(A);
    world.action(A, Action::RekeyChild(old));
    world.settle();
    assert_eq!(world.child(A), old);
    assert_eq!(
        world.b.child_failure().to_string(),
        "no proposal chosen: ESP DH group differs: peer offers 19, configured 31"
    );
    assert_eq!(
        world.a.sad.allocated.len(),
        1,
        "the SPI of the attempt is given back"
    );
    world.check_pairs(1);
}

#[test]
fn either_side_rekeys_the_ike_sa() {
    for side in [A, B] {
        let mut world = World::connected();
        let old = (world.ike(A), world.ike(B));
        world.action(side, Action::RekeyIke);
        world.settle();
        world.check_pairs(1);
        let new = (world.ike(A), world.ike(B));
        assert_ne!(old.0, new.0);
        assert_ne!(old.1, new.1);
        for host in [&world.a, &world.b] {
            assert_eq!(host.engine.totals().ike_sas, 1);
            assert!(
                !host
                    .events
                    .iter()
                    .any(|event| matches!(event, Event::Deleted { .. }))
            );
        }
        let view = world
            .look(side)
            .engine
            .ike_sa(
                world.now,
                if side == A { new.0 } else { new.1 },
                &world.look(side).sad,
            )
            .unwrap();
        assert!(
            view.initiator,
            "who rekeys is the original initiator of the new one"
        );
        // The new one can do everything, in both directions.
        for side in [A, B] {
            world.action(side, Action::CheckLiveness);
            world.settle();
            assert_eq!(world.look(side).count(Count::LivenessAnswered), 1);
            let spi = world.child(side);
            world.action(side, Action::RekeyChild(spi));
            world.settle();
            world.check_pairs(1);
            world.action(side, Action::RekeyIke);
            world.settle();
        }
        world.action(B, Action::Delete);
        world.settle();
        world.check_ended();
    }
}

#[test]
fn the_ike_sa_is_rekeyed_before_its_lifetime_ends() {
    let mut ours = profile(A);
    ours.lifetime = IkeLifetime {
        time: Some(Duration::from_secs(100)),
        rekey: true,
    };
    let mut world = World::connected_with(ours, profile(B));
    let old = world.ike(A);
    world.run(Duration::from_secs(84), SECOND);
    assert_eq!(world.ike(A), old);
    world.run(Duration::from_secs(400), SECOND);
    assert_eq!(world.a.count(Count::IkeHardLifetime), 0);
    assert!((4..=5).contains(&world.a.count(Count::IkeSoftLifetime)));
    world.check_pairs(1);
}

#[test]
fn a_lifetime_that_ends_during_the_rekey_does_not_end_the_new_one() {
    let mut ours = profile(A);
    ours.lifetime = IkeLifetime {
        time: Some(Duration::from_secs(100)),
        rekey: true,
    };
    ours.retransmission.timeout = Duration::from_secs(60);
    let mut world = World::connected_with(ours, profile(B));
    world.run(Duration::from_secs(84), SECOND);
    while world.wire.is_empty() {
        world.advance(SECOND);
    }
    world.advance(Duration::from_secs(20));
    assert_eq!(world.a.count(Count::IkeHardLifetime), 1);
    world.run(Duration::from_secs(30), SECOND);
    world.check_pairs(1);
    assert_eq!((world.a.established(), world.b.established()), (1, 1));
}

#[test]
fn another_ike_group_is_asked_for() {
    let mut theirs = profile(B);
    theirs.proposals[0].groups = vec![DhGroup::Ecp256, DhGroup::Curve25519];
    let mut ours = profile(A);
    ours.proposals[0].groups = vec![DhGroup::Curve25519, DhGroup::Ecp256];
    let mut world = World::connected_with(ours, theirs);
    world.action(A, Action::RekeyIke);
    world.settle();
    world.check_pairs(1);
    let id = world.ike(A);
    let view = world.a.engine.ike_sa(world.now, id, &world.a.sad).unwrap();
    assert_eq!(view.algorithms.unwrap().group, DhGroup::Ecp256);
}

#[test]
fn more_child_sas_up_to_the_limit() {
    let mut theirs = profile(B);
    theirs.max_children = 3;
    let mut world = World::connected_with(profile(A), theirs);
    for _ in 0..3 {
        world.action(A, Action::CreateChild(0));
        world.settle();
    }
    world.check_pairs(3);
    assert_eq!(*world.b.child_failure(), ChildFailure::TooMany);
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::NO_ADDITIONAL_SAS)), 1);
    // Rekeying is not limited by it.
    let spi = *world.a.sending.first().unwrap();
    world.action(A, Action::RekeyChild(spi));
    world.settle();
    world.check_pairs(3);
}

#[test]
fn a_full_spi_table_is_survived() {
    let mut world = World::connected();
    world.b.sad.capacity = 1;
    let spi = world.child(A);
    world.action(A, Action::RekeyChild(spi));
    world.settle();
    world.check_pairs(1);
    assert_eq!(world.child(A), spi);
    assert_eq!(world.a.sad.allocated.len(), 1);
}

#[test]
fn wishes_wait_for_their_turn() {
    let mut world = World::connected();
    let spi = world.child(A);
    world.action(A, Action::CheckLiveness);
    world.action(A, Action::RekeyChild(spi));
    world.action(A, Action::RekeyIke);
    world.action(A, Action::CreateChild(0));
    assert_eq!(world.wire.len(), 1, "a window of one");
    world.settle();
    world.check_pairs(2);
    assert_eq!(world.b.count(Count::LivenessReplied), 1);
    assert_eq!(world.a.engine.totals().ike_sas, 1);
}

//! Both sides want something at the same time (RFC 7296 2.8.1, 2.25), in every order of delivery.

use std::time::Duration;

use ikev2::{Action, ChildExchange, Count, NotifyKind};

use crate::world::Side::{A, B};
use crate::world::{SECOND, Side, World};

fn connected() -> World {
    connected_with(true)
}

fn connected_with(allow_empty: bool) -> World {
    World::connected_both(|profile| {
        profile.allow_empty = allow_empty;
        profile.max_children = 5;
    })
}

/// A wish of one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    RekeyChild,
    DeleteChild,
    CreateChild,
    RekeyIke,
    DeleteIke,
    Liveness,
}

use Wish::{CreateChild, DeleteChild, DeleteIke, Liveness, RekeyChild, RekeyIke};

const WISHES: [Wish; 6] = [
    RekeyChild,
    DeleteChild,
    CreateChild,
    RekeyIke,
    DeleteIke,
    Liveness,
];

fn wish(world: &mut World, side: Side, wish: Wish) {
    let action = match wish {
        RekeyChild => Action::RekeyChild(world.child(side)),
        DeleteChild => Action::DeleteChild(world.child(side)),
        CreateChild => Action::CreateChild(0),
        RekeyIke => Action::RekeyIke,
        DeleteIke => Action::Delete,
        Liveness => Action::CheckLiveness,
    };
    // It may be impossible just now, e.g. to rekey what is being replaced.
    let _ = world.try_action(side, action);
}

/// Delivers what is on the wire in an order that the bits of `order` choose: a set bit means A is next.
fn deliver_in_order(world: &mut World, mut order: u32) {
    for _ in 0..200 {
        if world.wire.is_empty() {
            return;
        }
        let side = if order & 1 == 1 { A } else { B };
        order = order.rotate_right(1);
        if !world.deliver_next(side) {
            world.deliver_next(if side == A { B } else { A });
        }
    }
    panic!("they never stop talking");
}

/// Whatever happened, both must agree in the end: the same child SAs in use, the same IKE SA, nothing left over.
fn check_agreement(world: &mut World, what: &str) {
    world.run(Duration::from_secs(120), SECOND);
    let totals = (world.a.engine.totals(), world.b.engine.totals());
    assert_eq!(totals.0.established, totals.1.established, "{what}: {totals:?}");
    assert_eq!(totals.0.ike_sas, totals.0.established, "{what}: {totals:?}");
    assert_eq!(totals.1.ike_sas, totals.1.established, "{what}: {totals:?}");
    assert!(totals.0.ike_sas <= 1, "{what}: {totals:?}");
    assert_eq!(world.a.sending.len(), world.b.sending.len(), "{what}");
    world.check_pairs(world.a.sending.len());
    for host in [&world.a, &world.b] {
        assert_eq!(
            host.installed.len(),
            host.sending.len(),
            "{what}: left over {:x?}",
            host.installed.keys()
        );
        assert_eq!(host.sad.allocated.len(), host.installed.len(), "{what}");
        assert_eq!(
            host.engine.totals().children as usize,
            host.installed.len(),
            "{what}"
        );
    }
    if totals.0.established == 1 {
        let (ours, theirs) = (world.ike(A), world.ike(B));
        let ours = world.a.engine.ike_sa(world.now, ours, &world.a.sad).unwrap();
        let theirs = world.b.engine.ike_sa(world.now, theirs, &world.b.sad).unwrap();
        assert_eq!(ours.initiator_spi, theirs.initiator_spi, "{what}");
        assert_eq!(ours.responder_spi, theirs.responder_spi, "{what}");
        // It works.
        for side in [A, B] {
            let before = world.look(side).count(Count::LivenessAnswered);
            world.action(side, Action::CheckLiveness);
            world.settle();
            assert_eq!(
                world.look(side).count(Count::LivenessAnswered),
                before + 1,
                "{what}"
            );
        }
    } else {
        world.check_nothing_left();
    }
}

#[test]
fn every_pair_of_wishes_in_every_order() {
    for ours in WISHES {
        for theirs in WISHES {
            for order in 0..64 {
                let mut world = connected();
                wish(&mut world, A, ours);
                wish(&mut world, B, theirs);
                deliver_in_order(&mut world, order);
                let what = format!("A {ours:?}, B {theirs:?}, order {order:b}");
                check_agreement(&mut world, &what);
                check_outcome(&world, ours, theirs, &what);
            }
        }
    }
}

#[test]
fn every_pair_of_wishes_in_every_order_where_no_ike_sa_may_be_empty() {
    for ours in WISHES {
        for theirs in WISHES {
            for order in 0..64 {
                let mut world = connected_with(false);
                wish(&mut world, A, ours);
                wish(&mut world, B, theirs);
                deliver_in_order(&mut world, order);
                let what = format!("A {ours:?}, B {theirs:?}, order {order:b}");
                check_agreement(&mut world, &what);
                assert_eq!(world.a.established() == 0, world.a.sending.is_empty(), "{what}");
            }
        }
    }
}

/// What must have come of it.
fn check_outcome(world: &World, ours: Wish, theirs: Wish, what: &str) {
    let has = |wish| ours == wish || theirs == wish;
    if has(DeleteIke) {
        return assert_eq!(world.a.established(), 0, "{what}");
    }
    assert_eq!(world.a.established(), 1, "{what}");
    let created = usize::from(ours == CreateChild) + usize::from(theirs == CreateChild);
    let children = world.a.sending.len();
    if has(DeleteChild) {
        // A rekey may have saved it before the delete came, and a delete may have made a new one necessary.
        assert!(
            (created..=created + 1).contains(&children),
            "{what}: {children} children"
        );
    } else {
        assert_eq!(children, created + 1, "{what}");
    }
}

#[test]
fn simultaneous_child_rekeys_leave_the_one_with_the_higher_lowest_nonce() {
    let (mut ours_won, mut theirs_won) = (false, false);
    for seed in 0..16 {
        let mut world = connected();
        // Other random numbers, so that either may win.
        for _ in 0..seed {
            world.action(A, Action::RekeyIke);
            world.settle();
            // Until nothing is left of the one before: too many at once are put off.
            world.run(11 * SECOND, SECOND);
        }
        let old = (world.child(A), world.child(B));
        world.action(A, Action::RekeyChild(old.0));
        world.action(B, Action::RekeyChild(old.1));
        world.settle();
        let seen = world.a.count(Count::Collision(ChildExchange::RekeyChild))
            + world.b.count(Count::Collision(ChildExchange::RekeyChild));
        assert_eq!(seen, 2, "both saw it");
        check_agreement(&mut world, "child rekeys");
        world.check_pairs(1);
        let initiated_by = |host: &crate::world::Host, spi| {
            host.events.iter().any(|event| {
                matches!(event, ikev2::Event::ChildCreated { inbound_spi, initiator: true, .. } if *inbound_spi == spi)
            })
        };
        let winner = initiated_by(&world.a, world.child(A));
        assert_ne!(winner, initiated_by(&world.b, world.child(B)));
        ours_won |= winner;
        theirs_won |= !winner;
    }
    assert!(ours_won && theirs_won, "the test must see both outcomes");
}

#[test]
fn simultaneous_ike_rekeys_leave_one() {
    let (mut ours_won, mut theirs_won) = (false, false);
    for seed in 0..16 {
        let mut world = connected();
        for _ in 0..seed {
            let spi = world.child(A);
            world.action(A, Action::RekeyChild(spi));
            world.settle();
        }
        world.action(A, Action::RekeyIke);
        world.action(B, Action::RekeyIke);
        world.settle();
        check_agreement(&mut world, "IKE rekeys");
        world.check_pairs(1);
        let id = world.ike(A);
        let winner = world
            .a
            .engine
            .ike_sa(world.now, id, &world.a.sad)
            .unwrap()
            .initiator;
        ours_won |= winner;
        theirs_won |= !winner;
    }
    assert!(ours_won && theirs_won, "the test must see both outcomes");
}

#[test]
fn a_lost_request_in_a_collision_is_settled_all_the_same() {
    for exchange in [RekeyChild, RekeyIke] {
        for lost in [A, B] {
            let mut world = connected();
            wish(&mut world, A, exchange);
            wish(&mut world, B, exchange);
            world.intercept(lost);
            check_agreement(&mut world, &format!("{exchange:?}, request to {lost:?} lost"));
            world.check_pairs(1);
        }
    }
}

#[test]
fn a_lost_response_in_a_collision_is_settled_all_the_same() {
    for exchange in [RekeyChild, RekeyIke] {
        for lost in [A, B] {
            let mut world = connected();
            wish(&mut world, A, exchange);
            wish(&mut world, B, exchange);
            world.deliver_next(A);
            world.deliver_next(B);
            world.intercept(lost);
            check_agreement(&mut world, &format!("{exchange:?}, response to {lost:?} lost"));
            world.check_pairs(1);
        }
    }
}

#[test]
fn a_child_request_while_the_ike_sa_is_rekeyed_is_put_off() {
    let mut world = connected();
    let old = world.child(B);
    world.action(A, Action::RekeyIke);
    world.action(B, Action::RekeyChild(old));
    world.deliver_next(A);
    assert_eq!(world.a.count(Count::NotifySent(NotifyKind::TEMPORARY_FAILURE)), 1);
    check_agreement(&mut world, "put off");
    // It was tried again later.
    assert_ne!(world.child(B), old);
}

#[test]
fn a_rekey_of_a_child_that_is_gone_makes_a_new_one() {
    let mut world = connected();
    let old = world.child(A);
    world.action(B, Action::DeleteChild(world.child(B)));
    world.action(A, Action::RekeyChild(old));
    // A's request comes after B has been answered, so B knows nothing of it any more.
    let request = world.intercept(B);
    world.settle();
    world.deliver(&request);
    check_agreement(&mut world, "not found");
    assert_eq!(
        world.b.count(Count::NotifySent(NotifyKind::CHILD_SA_NOT_FOUND)),
        1
    );
}

#[test]
fn many_wishes_over_a_bad_network() {
    // Deterministic noise: a linear congruential generator.
    let mut state: u64 = 1;
    let mut next = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    for round in 0..60 {
        let mut world = connected();
        for _ in 0..30 {
            let side = if next(2) == 0 { A } else { B };
            if world.look(side).established() == 1 && world.look(side).sending.len() == 1 {
                let at = usize::try_from(next(3)).unwrap();
                wish(&mut world, side, [RekeyChild, RekeyIke, Liveness][at]);
            }
            for _ in 0..next(6) {
                if world.wire.is_empty() {
                    break;
                }
                let at = usize::try_from(next(world.wire.len() as u64)).unwrap();
                let datagram = world.wire[at].clone();
                match next(4) {
                    0 => drop(world.wire.remove(at)),
                    1 => {}
                    _ => drop(world.wire.remove(at)),
                }
                if next(10) != 0 {
                    world.deliver(&datagram);
                }
            }
            world.advance(Duration::from_millis(100 + next(400)));
        }
        check_agreement(&mut world, &format!("round {round}"));
    }
}

//! Lost, late, repeated messages.

use std::time::Duration;

use ikev2::{Action, Count, DropCause, Liveness, RemoveReason, Retransmission};

use crate::world::Side::{A, B};
use crate::world::{SECOND, World, profile};

#[test]
fn each_lost_message_of_a_set_up_is_sent_again_byte_for_byte() {
    for lost in 0..4 {
        let mut world = World::new();
        world.initiate(profile(A));
        for _ in 0..lost {
            let datagram = world.wire.pop_front().unwrap();
            world.deliver(&datagram);
        }
        let gone = world.wire.pop_front().unwrap();
        world.advance(Duration::from_millis(499));
        assert!(world.wire.is_empty());
        world.advance(Duration::from_millis(1));
        if gone.to == B {
            assert_eq!(world.wire.front(), Some(&gone), "request {lost}");
        } else {
            world.deliver_next(B);
            assert_eq!(world.wire.front(), Some(&gone), "response {lost}");
        }
        world.settle();
        world.check_pairs(1);
    }
}

#[test]
fn retransmission_backs_off_and_gives_up() {
    for exponential in [true, false] {
        let mut ours = profile(A);
        ours.retransmission = Retransmission {
            timeout: SECOND,
            exponential,
            max: 3,
        };
        let mut world = World::connected_with(ours, profile(B));
        let spi = world.child(A);
        world.action(A, Action::RekeyChild(spi));
        let mut sent = Vec::new();
        for second in 0..16 {
            world.advance(Duration::ZERO);
            sent.extend(world.wire.drain(..).map(|_| second));
            world.advance(SECOND);
        }
        let expected = if exponential { [0, 1, 3, 7] } else { [0, 1, 2, 3] };
        assert_eq!(sent, expected);
        assert_eq!(world.a.count(Count::Retransmitted), 3);
        assert_eq!(world.a.established(), 0);
        assert_eq!(world.a.removed, [(spi, RemoveReason::NoResponse)]);
        assert!(world.a.sad.allocated.is_empty());
    }
}

#[test]
fn a_repeated_request_has_its_effect_once() {
    let mut world = World::connected();
    let spi = world.child(A);
    world.action(A, Action::RekeyChild(spi));
    let request = world.intercept(B);
    world.deliver(&request);
    let response = world.intercept(A);
    for _ in 0..3 {
        world.deliver(&request);
        assert_eq!(world.intercept(A), response);
    }
    assert_eq!(world.b.installed.len(), 2);
    assert_eq!(world.b.count(Count::ResponseRepeated), 3);
    world.deliver(&response);
    world.deliver(&response);
    assert_eq!(world.a.drops(DropCause::UnexpectedResponse), 1);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn a_recorded_request_is_answered_now_and_then_and_is_no_sign_of_life() {
    let mut theirs = profile(B);
    theirs.liveness = Some(Liveness {
        interval: Duration::from_secs(10),
        timeout: Duration::from_secs(1),
        retries: 2,
    });
    let mut world = World::connected_with(profile(A), theirs);
    world.action(A, Action::CheckLiveness);
    let request = world.intercept(B);
    world.deliver(&request);
    world.settle();
    for _ in 0..100 {
        world.deliver(&request);
    }
    assert_eq!(world.b.count(Count::ResponseRepeated), 5);
    assert_eq!(world.b.drops(DropCause::Retransmission), 95);
    // The peer is gone; somebody goes on sending what it once said.
    for _ in 0..15 {
        world.advance(Duration::from_secs(1));
        world.wire.clear();
        world.deliver(&request);
    }
    assert!(world.b.count(Count::ResponseRepeated) > 10);
    assert_eq!(world.b.established(), 0, "found dead");
}

#[test]
fn messages_with_a_wrong_checksum_do_not_end_a_set_up() {
    let mut world = World::new();
    world.initiate(profile(A));
    world.deliver_next(B);
    world.deliver_next(A);
    let request = world.intercept(B);
    let mut forged = request.clone();
    *forged.bytes.last_mut().unwrap() ^= 1;
    for _ in 0..100 {
        world.deliver(&forged);
    }
    assert_eq!(world.b.drops(DropCause::Undecodable), 100);
    world.deliver(&request);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn old_and_future_requests_are_dropped() {
    let mut world = World::connected();
    let mut requests = Vec::new();
    for _ in 0..3 {
        world.action(A, Action::CheckLiveness);
        requests.push(world.intercept(B));
        let request = requests.last().unwrap().clone();
        world.deliver(&request);
        world.settle();
    }
    let before = world.b.count(Count::LivenessReplied);
    world.deliver(&requests[0]);
    world.deliver(&requests[1]);
    assert_eq!(world.b.drops(DropCause::StaleMessageId), 2);
    world.deliver(&requests[2]);
    assert_eq!(world.b.count(Count::ResponseRepeated), 1);
    // A message from the future: its ID is not the next.
    let mut future = requests[2].clone();
    future.bytes[23] += 2;
    world.deliver(&future);
    assert_eq!(world.b.drops(DropCause::MessageId), 1);
    assert_eq!(world.b.count(Count::LivenessReplied), before);
}

#[test]
fn an_invalid_message_id_is_told_where_wanted() {
    let mut theirs = profile(B);
    theirs.notifies.invalid_message_id = true;
    let mut world = World::connected_with(profile(A), theirs);
    // A restored copy of A would go on with another ID; here one request is lost and forgotten.
    world.action(A, Action::CheckLiveness);
    let lost = world.intercept(B);
    let mut forged = lost.clone();
    forged.bytes[23] += 1;
    world.deliver(&forged);
    assert_eq!(
        world
            .b
            .count(Count::NotifySent(ikev2::NotifyKind::INVALID_MESSAGE_ID)),
        0,
        "not before it is known to be authentic"
    );
    world.deliver(&lost);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn a_reordered_network_is_no_trouble() {
    let mut world = World::connected();
    for _ in 0..20 {
        world.action(A, Action::CheckLiveness);
        world.action(B, Action::CheckLiveness);
        while let Some(datagram) = world.wire.pop_back() {
            world.deliver(&datagram);
        }
    }
    assert_eq!(world.a.count(Count::LivenessAnswered), 20);
    assert_eq!(world.b.count(Count::LivenessAnswered), 20);
    assert_eq!(world.a.count(Count::Retransmitted), 0);
}

#[test]
fn a_quarter_of_all_messages_lost_and_still_there() {
    let mut ours = profile(A);
    let mut theirs = profile(B);
    for profile in [&mut ours, &mut theirs] {
        profile.retransmission.max = 8;
        profile.retransmission.exponential = false;
    }
    let mut world = World::connected_with(ours, theirs);
    let mut flip = 0u32;
    for round in 0..40 {
        let side = if round % 2 == 0 { A } else { B };
        if world.look(side).established() == 1 && world.look(side).sending.len() == 1 {
            let spi = world.child(side);
            let action = if round % 3 == 0 {
                Action::RekeyIke
            } else {
                Action::RekeyChild(spi)
            };
            world.action(side, action);
        }
        for _ in 0..40 {
            while let Some(datagram) = world.wire.pop_front() {
                flip = flip.wrapping_mul(1_103_515_245).wrapping_add(12_345);
                if flip >> 30 != 0 {
                    world.deliver(&datagram);
                }
            }
            world.advance(SECOND / 2);
        }
    }
    world.run(Duration::from_secs(60), SECOND / 2);
    assert_eq!((world.a.established(), world.b.established()), (1, 1));
    world.check_pairs(1);
}

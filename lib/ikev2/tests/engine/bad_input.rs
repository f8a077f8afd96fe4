//! Damaged, forged and senseless messages: counted, and without effect.

use std::time::Duration;

use ikev2::{Action, Count, DecodeError, DropCause, EngineConfig, Event, IkeSaView, NotifyKind};

use crate::world::Side::{A, B};
use crate::world::{Datagram, SECOND, World, profile};

/// All that can be seen of B.
fn look(world: &World) -> (Vec<IkeSaView>, String) {
    let views = world.b.views(world.now);
    let text = format!("{views:?} {:?} {:x?}", world.b.engine.totals(), world.b.sending);
    (views, text)
}

/// The messages of a set-up and of a rekey, as B gets them.
fn recorded() -> Vec<Datagram> {
    let mut world = World::new();
    world.initiate(profile(A));
    let mut recorded = Vec::new();
    for _ in 0..2 {
        let datagram = world.intercept(B);
        world.deliver(&datagram);
        recorded.push(datagram);
        world.deliver_next(A);
    }
    let spi = world.child(A);
    world.action(A, Action::RekeyChild(spi));
    recorded.push(world.intercept(B));
    recorded
}

#[test]
fn every_flipped_bit_and_every_truncation_of_an_encrypted_message_is_dropped() {
    let mut world = World::connected();
    let spi = world.child(A);
    world.action(A, Action::RekeyChild(spi));
    let request = world.intercept(B);
    let before = look(&world);
    let mut drops = 0;
    for bit in 0..request.bytes.len() * 8 {
        let mut damaged = request.clone();
        damaged.bytes[bit / 8] ^= 1 << (bit % 8);
        world.deliver(&damaged);
        drops += 1;
    }
    for length in 0..request.bytes.len() {
        let mut damaged = request.clone();
        damaged.bytes.truncate(length);
        world.deliver(&damaged);
        drops += 1;
    }
    assert_eq!(look(&world).1, before.1);
    let counted = world
        .b
        .events
        .iter()
        .filter(|event| matches!(event, Event::Dropped { .. }))
        .count();
    // A flipped response bit makes it a response, a flipped version another version: all are drops.
    assert_eq!(counted, drops, "each has a cause");
    world.deliver(&request);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn every_damaged_ike_sa_init_leaves_the_true_one_a_way() {
    let recorded = recorded();
    let request = &recorded[0];
    for bit in 0..request.bytes.len() * 8 {
        let mut world = World::new();
        let mut damaged = request.clone();
        damaged.bytes[bit / 8] ^= 1 << (bit % 8);
        world.deliver(&damaged);
        assert!(world.b.engine.totals().ike_sas <= 1);
        world.advance(Duration::from_secs(61));
        world.wire.clear();
        world.check_nothing_left();
    }
}

#[test]
fn messages_of_another_ike_sa_are_dropped() {
    let mut world = World::connected();
    let before = look(&world);
    for datagram in recorded() {
        // As the random numbers are the same, so are the SPIs; another one's keys and SPIs differ.
        let mut foreign = datagram.clone();
        foreign.bytes[0] ^= 0x40;
        world.deliver(&foreign);
    }
    world.wire.clear();
    let after = look(&world);
    assert_eq!(
        before.0.len() + 1,
        after.0.len(),
        "only the IKE_SA_INIT made something: a half-open one"
    );
    assert_eq!(world.b.engine.totals().half_open, 1);
    assert_eq!(world.b.drops(DropCause::RequestNoSa), 2);
}

#[test]
fn nobody_goes_on_at_another_address_of_ours() {
    let mut world = World::new();
    world.initiate(profile(A));
    world.deliver_next(B);
    world.deliver_next(A);
    let auth = world.intercept(B);
    let elsewhere = |datagram: &Datagram| {
        let mut moved = datagram.clone();
        moved.path.local.set_ip("192.0.2.3".parse().unwrap());
        moved
    };
    world.deliver(&elsewhere(&auth));
    assert_eq!(world.b.drops(DropCause::RequestNoSa), 1);
    assert_eq!(world.b.engine.totals().half_open, 1);
    world.deliver(&auth);
    world.settle();
    world.check_pairs(1);
    let child = world.child(B);
    let before = world.b.installed[&child].path;
    world.action(A, Action::CheckLiveness);
    let request = world.intercept(B);
    world.deliver(&elsewhere(&request));
    assert_eq!(world.b.count(Count::LivenessReceived), 0);
    assert_eq!(world.b.installed[&child].path, before);
    world.deliver(&request);
    assert_eq!(world.b.count(Count::LivenessReceived), 1);
}

#[test]
fn a_request_for_a_lost_ike_sa_is_answered_without_protection_and_not_too_often() {
    let mut world = World::connected();
    let (ike, since) = (world.ike(B), world.now);
    world.action(A, Action::CheckLiveness);
    let request = world.intercept(B);
    world.action(B, Action::Forget);
    world.deliver(&request);
    let answer = world.intercept(A);
    assert_eq!(answer.bytes[..16], request.bytes[..16], "the SPIs of the request");
    assert_eq!(answer.bytes[16..24], [41, 0x20, 37, 0x20, 0, 0, 0, 2], "{ike}");
    assert_eq!(answer.bytes[28..], [0, 0, 0, 8, 0, 0, 0, 4], "INVALID_IKE_SPI");
    assert!(answer.bytes.len() <= request.bytes.len());
    // It is a hint that anybody can send: the peer goes on asking until its own patience ends.
    world.deliver(&answer);
    assert_eq!(world.a.established(), 1);

    let mut response = request.clone();
    response.bytes[19] |= 0x20;
    world.deliver(&response);
    let sent = |world: &World| world.b.count(Count::NotifySent(NotifyKind::INVALID_IKE_SPI));
    assert_eq!(sent(&world), 1, "no answer to a response");
    for _ in 0..200 {
        world.deliver(&request);
    }
    assert_eq!(world.now, since);
    assert_eq!(sent(&world), 100);
    assert_eq!(world.b.count(Count::UnknownUnanswered), 101);
    world.wire.clear();
    world.now += Duration::from_secs(1);
    world.deliver(&request);
    assert_eq!(sent(&world), 101);
}

#[test]
fn a_foreign_slot_is_told_apart() {
    let mut world = World::connected();
    world.action(A, Action::CheckLiveness);
    let mut request = world.intercept(B);
    request.bytes[8] = 0x77;
    world.deliver(&request);
    assert_eq!(world.b.drops(DropCause::ForeignSlot), 1);
}

#[test]
fn unreadable_ike_sa_inits_have_their_cause() {
    let recorded = recorded();
    let request = &recorded[0];
    let cause = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut world = World::new();
        let mut damaged = request.clone();
        change(&mut damaged.bytes);
        let length = u32::try_from(damaged.bytes.len()).unwrap();
        if damaged.bytes.len() >= 28 {
            damaged.bytes[24..28].copy_from_slice(&length.to_be_bytes());
        }
        world.deliver(&damaged);
        let error = world.b.events.iter().find_map(|event| match event {
            Event::Undecodable { error, .. } => Some(*error),
            _ => None,
        });
        assert_eq!(world.b.engine.totals().ike_sas, 0);
        error
    };
    assert_eq!(cause(&|bytes| bytes.truncate(27)), Some(DecodeError::Header));
    assert_eq!(
        cause(&|bytes| bytes[..8].fill(0)),
        Some(DecodeError::HeaderInitiatorSpi)
    );
    assert_eq!(
        cause(&|bytes| bytes[15] = 1),
        Some(DecodeError::HeaderResponderSpi)
    );
    assert_eq!(
        cause(&|bytes| bytes[18] = 38),
        Some(DecodeError::HeaderExchangeType(38))
    );
    assert_eq!(cause(&|bytes| bytes[19] = 0), Some(DecodeError::HeaderFlags));
    // The first payload, at 28, is SA; its proposal begins at 32.
    assert_eq!(cause(&|bytes| bytes[31] = 3), Some(DecodeError::PayloadLength));
    assert_eq!(cause(&|bytes| bytes[37] = 9), Some(DecodeError::ProposalProtocol));
    assert_eq!(
        cause(&|bytes| bytes[39] = 9),
        Some(DecodeError::TooManyTransforms)
    );
    assert_eq!(cause(&|bytes| bytes[32] = 1), Some(DecodeError::ProposalHeader));
    assert_eq!(cause(&|bytes| bytes[16] = 0), Some(DecodeError::PayloadLength));
    assert_eq!(
        cause(&|bytes| bytes.truncate(60)),
        Some(DecodeError::PayloadLength)
    );
    assert_eq!(
        cause(&|bytes| {
            bytes[16] = 99;
            bytes[29] = 0x80;
        }),
        Some(DecodeError::CriticalPayload(99))
    );
    assert_eq!(
        cause(&|bytes| bytes[16] = 99),
        Some(DecodeError::Syntax),
        "unknown, so SA is missing"
    );
}

#[test]
fn noise_is_dropped() {
    let mut world = World::connected();
    let before = look(&world);
    let mut state = 7u32;
    for length in 0..600 {
        let bytes = (0..length)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        let path = ikev2::Path {
            local: world.b.address,
            remote: world.a.address,
        };
        world.deliver(&Datagram { to: B, path, bytes });
    }
    assert_eq!(look(&world).1, before.1);
    assert!(world.wire.is_empty(), "nobody answers noise: {:?}", world.wire);
}

#[test]
fn a_keepalive_is_nothing() {
    let mut world = World::connected();
    let path = ikev2::Path {
        local: world.b.address,
        remote: world.a.address,
    };
    world.deliver(&Datagram {
        to: B,
        path,
        bytes: vec![0xff],
    });
    assert_eq!(world.b.drops(DropCause::Keepalive), 1);
}

/// A world whose B has these limits.
fn limited(config: EngineConfig) -> World {
    let mut world = World::new();
    world.b.configure(5, config);
    world.serve(profile(B));
    world
}

/// A begins another IKE SA and goes no further than IKE_SA_INIT; it obliges when it is asked for a cookie.
fn half_open(world: &mut World) {
    world.initiate(profile(A));
    let asked = world.b.count(Count::NotifySent(NotifyKind::COOKIE));
    world.deliver_next(B);
    if world.b.count(Count::NotifySent(NotifyKind::COOKIE)) > asked {
        world.deliver_next(A);
        world.deliver_next(B);
    }
    world.wire.clear();
}

#[test]
fn the_limit_of_half_open_ike_sas_holds() {
    let mut world = limited(EngineConfig {
        max_half_open: 3,
        ..EngineConfig::default()
    });
    for _ in 0..5 {
        half_open(&mut world);
    }
    assert_eq!(world.b.engine.totals().half_open, 3);
    assert_eq!(world.b.drops(DropCause::Congestion), 2);
}

#[test]
fn above_a_quarter_of_the_limit_cookies_are_asked_for_though_nobody_configured_it() {
    let mut world = limited(EngineConfig {
        max_half_open: 8,
        ..EngineConfig::default()
    });
    for _ in 0..5 {
        half_open(&mut world);
    }
    assert_eq!(world.b.engine.totals().half_open, 5);
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::COOKIE)), 2);
    assert!(world.b.engine.totals().cookies_active);
}

#[test]
fn one_source_cannot_have_all_half_open_ike_sas() {
    let mut world = limited(EngineConfig {
        max_half_open_of_source: 8,
        ..EngineConfig::default()
    });
    for _ in 0..10 {
        half_open(&mut world);
    }
    assert_eq!(world.b.engine.totals().half_open, 8);
    assert_eq!(world.b.drops(DropCause::Congestion), 2);
    // Above a quarter it has to show that it is there, so nobody can use its share up in its name.
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::COOKIE)), 7);
    // Others are served all the same, and need no cookie.
    world.a.address = "192.0.2.3:500".parse().unwrap();
    half_open(&mut world);
    assert_eq!(world.b.engine.totals().half_open, 9);
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::COOKIE)), 7);
    // What is over does not count any more.
    world.advance(Duration::from_secs(61));
    world.a.address = "192.0.2.1:500".parse().unwrap();
    world.wire.clear();
    half_open(&mut world);
    assert_eq!(world.b.engine.totals().half_open, 1);
}

#[test]
fn peers_that_are_being_authenticated_are_half_open_too() {
    let mut world = limited(EngineConfig {
        max_half_open_of_source: 4,
        ..EngineConfig::default()
    });
    // Their keys, or the AAA server's word, are long in coming.
    world.b.answers.hold = true;
    for _ in 0..4 {
        world.initiate(profile(A));
        world.settle();
    }
    assert_eq!(world.b.held.len(), 4);
    assert_eq!(world.b.engine.totals().half_open, 4);
    half_open(&mut world);
    assert_eq!(world.b.drops(DropCause::Congestion), 1);
    world.answer_held(B);
    world.settle();
    assert_eq!((world.b.established(), world.b.engine.totals().half_open), (4, 0));
    half_open(&mut world);
    assert_eq!(world.b.engine.totals().half_open, 1);
}

#[test]
fn peers_that_fail_leave_room_for_those_that_do_not() {
    let mut world = limited(EngineConfig {
        max_ike_sas: 4,
        max_failed: 2,
        ..EngineConfig::default()
    });
    world.b.answers.remote_psk = Some(b"another");
    for failed in 1..=8 {
        world.initiate(profile(A));
        world.settle();
        let refused = Count::NotifySent(NotifyKind::AUTHENTICATION_FAILED);
        assert_eq!(world.b.count(refused), failed, "all are told");
    }
    assert_eq!(world.b.drops(DropCause::SetupMemory), 6);
    world.b.answers.remote_psk = Some(b"secret");
    world.initiate(profile(A));
    world.settle();
    world.check_pairs(1);
    // When those are gone there is room for others.
    world.run(11 * SECOND, SECOND);
    world.b.answers.remote_psk = Some(b"another");
    world.initiate(profile(A));
    world.settle();
    assert_eq!(world.b.drops(DropCause::SetupMemory), 6);
}

#[test]
fn a_long_ike_sa_init_is_not_even_looked_at() {
    let mut world = World::new();
    world.initiate(profile(A));
    let mut request = world.intercept(B);
    // A notify of a kind nobody knows, at the end of the chain, that makes the message long.
    let padding = |request: &mut Datagram, length: usize| {
        let missing = length - request.bytes.len();
        let mut vendor = vec![request.bytes[16], 0];
        vendor.extend(u16::try_from(missing).unwrap().to_be_bytes());
        vendor.resize(missing, 0);
        request.bytes[16] = 43;
        request.bytes.splice(28..28, vendor);
        let length = u32::try_from(length).unwrap();
        request.bytes[24..28].copy_from_slice(&length.to_be_bytes());
    };
    let mut long = request.clone();
    padding(&mut long, 4097);
    world.deliver(&long);
    assert_eq!(world.b.drops(DropCause::SetupMemory), 1);
    assert_eq!(world.b.engine.totals().ike_sas, 0);
    padding(&mut request, 4096);
    world.deliver(&request);
    assert_eq!(world.b.engine.totals().half_open, 1);
}

#[test]
fn ike_sas_in_set_up_keep_so_much_and_no_more() {
    let mut world = limited(EngineConfig {
        max_setup_octets: 3_000,
        ..EngineConfig::default()
    });
    for _ in 0..40 {
        half_open(&mut world);
    }
    let kept = world.b.engine.totals().half_open;
    assert!((2..10).contains(&kept), "{kept}");
    assert_eq!(world.b.drops(DropCause::SetupMemory), 40 - kept as usize);
    // Nothing is charged for what is over.
    world.advance(Duration::from_secs(61));
    world.wire.clear();
    for _ in 0..5 {
        world.initiate(profile(A));
        world.settle();
    }
    assert_eq!(world.b.established(), 5);
    assert_eq!(world.b.drops(DropCause::SetupMemory), 40 - kept as usize);
}

#[test]
fn new_peers_leave_room_for_rekeys() {
    let mut world = limited(EngineConfig {
        max_ike_sas: 1,
        ..EngineConfig::default()
    });
    world.initiate(profile(A));
    world.settle();
    half_open(&mut world);
    assert_eq!(world.b.drops(DropCause::Congestion), 1);
    world.advance(Duration::from_secs(61));
    world.wire.clear();
    world.action(A, Action::RekeyIke);
    world.settle();
    world.check_pairs(1);
    assert_eq!(world.b.engine.totals().ike_sas, 1);
}

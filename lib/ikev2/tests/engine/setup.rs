//! IKE_SA_INIT and IKE_AUTH.

use std::time::Duration;

use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{
    Action, AuthMethod, CookieSecret, CookieThresholds, Count, DropCause, EspProposal, Event, Identity,
    IkeProposal, NotifyKind, Profile, SetupFailure, TransformKind,
};

use crate::world::Side::{A, B};
use crate::world::{World, change_child, esp_proposal, ike_proposal, profile};

#[test]
fn psk_both_ways() {
    let world = World::connected();
    let established = world.b.events.iter().find_map(|event| match event {
        Event::Established(established) => Some(established),
        _ => None,
    });
    let established = established.unwrap();
    assert_eq!(established.peer, Identity::fqdn("a.example").unwrap());
    assert_eq!(established.peer_auth, AuthMethod::Psk);
    assert_eq!(established.child, Some(world.child(B)));
    assert!(!established.nat);
    let id = world.ike(B);
    assert_eq!(id.slot(), 0x22);
    let view = world.b.engine.ike_sa(world.now, id, &world.b.sad).unwrap();
    assert_eq!(view.initiator_spi, world.ike(A).0);
    assert_eq!(view.algorithms.unwrap().group, DhGroup::Curve25519);
    assert_eq!(view.children.len(), 1);
}

#[test]
fn wrong_psk_is_refused_and_leaves_nothing() {
    let mut world = World::new();
    world.b.answers.remote_psk = Some(b"another");
    world.initiate(profile(A));
    world.settle();
    assert_eq!(
        world.a.setup_failure(),
        Some(&SetupFailure::Refused(NotifyKind::AUTHENTICATION_FAILED))
    );
    assert_eq!(
        world.b.setup_failure(),
        Some(&SetupFailure::PeerAuthentication {
            method: AuthMethod::Psk,
            reason: "pre-shared key does not match".to_owned()
        })
    );
    world.advance(Duration::from_secs(11));
    world.check_nothing_left();
}

#[test]
fn a_responder_with_the_wrong_psk_is_told_so() {
    let mut world = World::new();
    world.b.answers.local_psk = Some(b"another");
    world.initiate(profile(A));
    world.settle();
    assert!(matches!(
        world.a.setup_failure(),
        Some(SetupFailure::PeerAuthentication { .. })
    ));
    world.check_ended();
}

#[test]
fn an_empty_psk_proves_nothing() {
    let mut world = World::new();
    world.a.answers.local_psk = Some(b"");
    world.b.answers.remote_psk = Some(b"");
    world.initiate(profile(A));
    world.settle();
    assert_eq!(world.b.count(Count::AuthFailed(AuthMethod::Psk)), 1);
    assert_eq!(world.b.established(), 0);
}

#[test]
fn ipv6_outside() {
    let mut world = World::new();
    world.a.address = "[2001:db8::1]:500".parse().unwrap();
    world.b.address = "[2001:db8::2]:500".parse().unwrap();
    world.serve(profile(B));
    world.initiate(profile(A));
    world.settle();
    world.check_pairs(1);
    let child = &world.b.installed[&world.child(B)];
    assert_eq!(child.path.remote, world.a.address);
    assert!(!child.udp_encapsulation, "no NAT was seen");
}

#[test]
fn no_proposal_names_the_transform() {
    let mut world = World::new();
    let mut ours = profile(A);
    ours.proposals[0].prfs = vec![Prf::HmacSha2_512];
    world.initiate(ours);
    world.settle();
    assert_eq!(
        world.a.setup_failure(),
        Some(&SetupFailure::Refused(NotifyKind::NO_PROPOSAL_CHOSEN))
    );
    let mismatch = world.b.events.iter().find_map(|event| match event {
        Event::NoProposal { mismatch, .. } => Some(mismatch),
        _ => None,
    });
    let differences = &mismatch.unwrap().differences;
    assert_eq!(differences.len(), 1);
    assert_eq!(differences[0].transform, TransformKind::Prf);
    assert_eq!(differences[0].offered, "HMAC-SHA2-512");
    assert_eq!(differences[0].configured, "HMAC-SHA2-256");
    world.check_nothing_left();
}

#[test]
fn another_group_is_asked_for_and_given() {
    let mut world = World::new();
    let mut ours = profile(A);
    ours.proposals[0].groups = vec![DhGroup::Ecp256, DhGroup::Curve25519];
    world.initiate(ours);
    world.settle();
    world.check_pairs(1);
    assert_eq!(
        world.b.count(Count::NotifySent(NotifyKind::INVALID_KE_PAYLOAD)),
        1
    );
}

#[test]
fn a_group_that_was_not_offered_is_not_given() {
    let mut world = World::new();
    world.initiate(profile(A));
    let request = world.intercept(B);
    // An attacker asks for group 14, which A does not offer.
    let mut refusal = request.bytes[..8].to_vec();
    refusal.extend([0; 8]);
    refusal.extend([41, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 38]);
    refusal.extend([0, 0, 0, 10, 0, 0, 0, 17, 0, 14]);
    world.wire.clear();
    let path = ikev2::Path {
        local: request.path.remote,
        remote: request.path.local,
    };
    world.deliver(&crate::world::Datagram {
        to: A,
        path,
        bytes: refusal,
    });
    assert_eq!(
        world.a.setup_failure(),
        Some(&SetupFailure::Refused(NotifyKind::INVALID_KE_PAYLOAD))
    );
}

#[test]
fn cookies_are_asked_for_and_checked() {
    let mut world = World::new();
    let mut theirs = profile(B);
    theirs.cookies = Some(CookieThresholds { start: 0, stop: 0 });
    world.serve(theirs);
    world.initiate(profile(A));
    world.deliver_next(B);
    assert_eq!(
        world.b.engine.totals().ike_sas,
        0,
        "stateless until the cookie is back"
    );
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::COOKIE)), 1);
    world.deliver_next(A);
    let mut second = world.intercept(B);
    // A wrong cookie is as good as none (RFC 7296 2.6); the cookie is in the first payload.
    second.bytes[40] ^= 1;
    world.deliver(&second);
    assert_eq!(world.b.count(Count::CookieMismatched), 1);
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::COOKIE)), 2);
    assert_eq!(world.b.engine.totals().ike_sas, 0);
    world.wire.clear();
    second.bytes[40] ^= 1;
    world.deliver(&second);
    assert_eq!(world.b.count(Count::CookieMatched), 1);
    world.settle();
    world.check_pairs(1);
    assert!(world.b.engine.totals().cookies_active);
}

#[test]
fn a_cookie_that_got_too_old_is_replaced() {
    let mut world = World::new();
    let mut theirs = profile(B);
    theirs.cookies = Some(CookieThresholds { start: 0, stop: 0 });
    world.serve(theirs);
    world.initiate(profile(A));
    world.deliver_next(B);
    world.deliver_next(A);
    // While the second request is on the way, B comes to have other secrets.
    let secret = |version| CookieSecret {
        version,
        secret: [version; 32],
    };
    world.b.engine.set_cookie_secrets(secret(9), Some(secret(8)));
    world.settle();
    world.check_pairs(1);
    assert_eq!(world.b.count(Count::CookieMismatched), 1);
    assert_eq!(world.b.count(Count::CookieMatched), 1);
}

/// The peer repeats its first request while the answer to it, which asks for a cookie, is on the way. When the copy comes, none is asked for any more.
#[test]
fn a_late_copy_of_the_first_request_does_not_spoil_the_one_with_the_cookie() {
    let mut world = World::new();
    let with_cookies = |start| Profile {
        cookies: Some(CookieThresholds { start, stop: 0 }),
        ..profile(B)
    };
    world.serve(with_cookies(0));
    world.initiate(profile(A));
    let first = world.intercept(B);
    world.deliver(&first);
    world.deliver_next(A);
    let second = world.intercept(B);
    assert_ne!(first.bytes, second.bytes);
    world.serve(with_cookies(10));
    world.deliver(&first);
    let mut forged = second.clone();
    forged.bytes[40] ^= 1;
    world.deliver(&forged);
    assert_eq!(
        world.b.drops(DropCause::Retransmission),
        1,
        "that is no cookie of ours"
    );
    world.deliver(&second);
    world.settle();
    world.check_pairs(1);
    assert_eq!(world.b.engine.totals().ike_sas, 1);
}

#[test]
fn cookies_begin_above_the_threshold() {
    let mut world = World::new();
    let mut theirs = profile(B);
    theirs.cookies = Some(CookieThresholds { start: 2, stop: 1 });
    world.serve(theirs);
    for _ in 0..4 {
        world.initiate(profile(A));
        world.deliver_next(B);
    }
    assert_eq!(world.b.engine.totals().half_open, 3);
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::COOKIE)), 1);
}

#[test]
fn every_algorithm_of_ike_works() {
    let all = Cipher::ALL.into_iter().filter(|cipher| *cipher != Cipher::Null);
    for (at, cipher) in all.enumerate() {
        let proposal = IkeProposal {
            ciphers: vec![cipher],
            integrities: vec![Integrity::ALL[at % 4]],
            prfs: vec![Prf::ALL[(at + 1) % 4]],
            groups: vec![DhGroup::Curve25519],
        };
        both_with(proposal, esp_proposal());
    }
    for group in DhGroup::ALL {
        let proposal = IkeProposal {
            groups: vec![group],
            ..ike_proposal()
        };
        both_with(proposal, esp_proposal());
    }
}

#[test]
fn every_algorithm_of_esp_works() {
    for cipher in Cipher::ALL {
        for (at, integrity) in Integrity::ALL.into_iter().enumerate() {
            let proposal = EspProposal {
                ciphers: vec![cipher],
                integrities: vec![integrity],
                groups: Vec::new(),
                esn: vec![at % 2 == 1],
            };
            both_with(ike_proposal(), proposal);
        }
    }
}

fn both_with(ike: IkeProposal, esp: EspProposal) {
    let mut world = World::connected_both(|profile| {
        profile.proposals = vec![ike.clone()];
        change_child(profile, |child| child.proposals = vec![esp.clone()]);
    });
    let child = &world.a.installed[&world.child(A)];
    assert_eq!(child.cipher, esp.ciphers[0]);
    assert_eq!(child.esn, esp.esn[0]);
    let expected = (!child.cipher.is_aead()).then_some(esp.integrities[0]);
    assert_eq!(child.integrity, expected);
    world.action(A, Action::Delete);
    world.settle();
    assert_eq!(world.b.established(), 0);
}

#[test]
fn initial_contact_removes_what_was_left_over() {
    let mut ours = profile(A);
    ours.initial_contact = true;
    let mut world = World::connected_with(ours.clone(), profile(B));
    let old = world.child(B);
    // A restarts and knows nothing of before.
    world.a = World::new().a;
    world.initiate(ours);
    world.settle();
    assert_eq!(world.b.established(), 1);
    assert_eq!(world.b.removed, [(old, ikev2::RemoveReason::InitialContact)]);
    world.check_pairs(1);
}

#[test]
fn initial_contact_concerns_one_service_at_all_its_addresses() {
    const OTHER_SERVICE: u64 = 7;
    let mut ours = profile(A);
    ours.initial_contact = true;
    let mut world = World::connected_with(ours.clone(), profile(B));
    let old = world.child(B);
    world.b.address = "192.0.2.3:500".parse().unwrap();
    for (service, left) in [(OTHER_SERVICE, 2), (profile(B).tag, 2)] {
        world.a = World::new().a;
        let mut theirs = profile(B);
        theirs.tag = service;
        world.serve(theirs);
        world.initiate(ours.clone());
        world.settle();
        assert_eq!(world.b.established(), left, "after a call of service {service}");
    }
    assert_eq!(world.b.removed, [(old, ikev2::RemoveReason::InitialContact)]);
}

#[test]
fn a_slow_answer_is_as_good_as_a_fast_one() {
    let mut world = World::new();
    world.b.answers.hold = true;
    world.initiate(profile(A));
    world.settle();
    // The peer asks again meanwhile, which changes nothing.
    world.advance(Duration::from_secs(2));
    world.settle();
    assert!(world.b.drops(DropCause::Retransmission) > 0);
    assert_eq!(world.b.held.len(), 1);
    world.answer_held(B);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn late_and_foreign_answers_have_no_effect() {
    let mut world = World::new();
    world.b.answers.hold = true;
    world.initiate(profile(A));
    world.settle();
    let (ticket, _) = world.b.held.remove(0);
    world.advance(Duration::from_secs(61));
    assert_eq!(world.b.engine.totals().ike_sas, 0, "set-up timer");
    let answer = ikev2::Answer::Psk {
        remote: None,
        local: None,
    };
    world.b.engine.answer(world.now, ticket, answer, &mut world.b.sad);
    world.collect(B);
    assert_eq!(world.b.count(Count::LateAnswer), 1);
}

#[test]
fn a_peer_that_stops_after_init_is_half_open_and_goes() {
    let mut world = World::new();
    world.initiate(profile(A));
    world.deliver_next(B);
    assert_eq!(world.b.engine.totals().half_open, 1);
    world.wire.clear();
    world.advance(Duration::from_secs(61));
    assert_eq!(
        world.b.setup_failure(),
        Some(&SetupFailure::Timeout { half_open: true })
    );
    assert_eq!(world.a.setup_failure(), Some(&SetupFailure::NoResponse));
    world.check_nothing_left();
}

#[test]
fn the_other_major_version_is_told_ours() {
    let mut world = World::new();
    world.initiate(profile(A));
    let mut request = world.intercept(B);
    request.bytes[17] = 0x30;
    world.deliver(&request);
    assert_eq!(
        world
            .b
            .count(Count::NotifySent(NotifyKind::INVALID_MAJOR_VERSION)),
        1
    );
    request.bytes[17] = 0x10;
    world.deliver(&request);
    assert_eq!(world.b.drops(DropCause::Version1), 1);
    assert_eq!(world.b.engine.totals().ike_sas, 0);
}

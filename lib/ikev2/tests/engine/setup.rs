//! IKE_SA_INIT and IKE_AUTH.

use std::time::Duration;

use crypto::{Cipher, DhGroup, Integrity, Prf};
use ikev2::{
    Action, AuthMethod, ChildFailure, Configuration, ConfigurationRequest, CookieSecret, CookieThresholds,
    Count, DropCause, EspProposal, Event, Identity, IkeProposal, NotifyKind, Refusal, SelectorPolicy,
    SetupFailure, TransformKind,
};

use crate::world::Side::{A, B};
use crate::world::{World, change_child, esp_proposal, ike_proposal, net, profile, ranges};

fn setup_failure(events: &[Event]) -> Option<&SetupFailure> {
    events.iter().find_map(|event| match event {
        Event::SetupFailed { reason, .. } => Some(reason),
        _ => None,
    })
}

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
    let view = world.b.engine.ike_sa(world.now, id).unwrap();
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
        setup_failure(&world.a.events),
        Some(&SetupFailure::Refused(NotifyKind::AUTHENTICATION_FAILED))
    );
    assert_eq!(
        setup_failure(&world.b.events),
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
        setup_failure(&world.a.events),
        Some(SetupFailure::PeerAuthentication { .. })
    ));
    world.run(Duration::from_secs(11), Duration::from_secs(1));
    world.check_nothing_left();
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
        setup_failure(&world.a.events),
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
        setup_failure(&world.a.events),
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
fn a_nat_moves_them_to_port_4500() {
    let mut world = World::new();
    world.nat = true;
    world.a_outside = "198.51.100.7:500".parse().unwrap();
    world.initiate(profile(A));
    world.settle();
    world.check_pairs(1);
    let ours = &world.a.installed[&world.child(A)];
    assert!(ours.udp_encapsulation);
    assert_eq!((ours.path.local.port(), ours.path.remote.port()), (4500, 4500));
    let child = world.child(B);
    let theirs = &world.b.installed[&child];
    assert!(theirs.udp_encapsulation);
    assert_eq!(theirs.path.remote, "198.51.100.7:14500".parse().unwrap());
    let view = world
        .b
        .engine
        .ike_sa(world.now, world.b.installed[&child].ike)
        .unwrap();
    assert_eq!(view.nat, (false, true));
    // We are behind it, so it is up to us to keep it open.
    world.advance(Duration::from_secs(20));
    assert_eq!(world.a.count(Count::KeepaliveSent), 1);
    assert_eq!(world.wire.pop_back().unwrap().bytes, [0xff]);
    assert_eq!(world.b.count(Count::KeepaliveSent), 0);
}

#[test]
fn a_peer_behind_a_nat_is_followed() {
    let mut world = World::new();
    world.nat = true;
    world.a_outside = "198.51.100.7:500".parse().unwrap();
    world.initiate(profile(A));
    world.settle();
    let child = world.child(B);
    world.a_outside = "198.51.100.8:500".parse().unwrap();
    // A damaged message moves nothing.
    world.action(A, Action::CheckLiveness);
    let mut damaged = world.wire.back().unwrap().clone();
    *damaged.bytes.last_mut().unwrap() ^= 1;
    world.deliver(&damaged);
    assert_eq!(
        world.b.installed[&child].path.remote.ip().to_string(),
        "198.51.100.7"
    );
    world.settle();
    assert_eq!(
        world.b.installed[&child].path.remote,
        "198.51.100.8:14500".parse().unwrap()
    );
    assert!(
        world
            .b
            .events
            .iter()
            .any(|event| matches!(event, Event::Moved { .. }))
    );
}

#[test]
fn a_peer_behind_a_nat_that_moves_silently_is_found_where_esp_came_from() {
    let mut world = World::new();
    world.nat = true;
    world.a_outside = "198.51.100.7:500".parse().unwrap();
    world.initiate(profile(A));
    world.settle();
    let child = world.child(B);
    let goes_to = |world: &mut World| {
        world.action(B, Action::CheckLiveness);
        world.advance(Duration::from_secs(1));
        let sent = world.wire.back().unwrap().clone();
        world.settle();
        (sent.to, world.b.installed[&child].path.remote)
    };
    let learn = |world: &mut World, from: &str| {
        let now = world.now;
        let usage = world.b.sad.usage.entry(child).or_default();
        usage.last_inbound = Some(now);
        usage.learned_peer = from.parse().ok();
    };
    // The NAT gives it another address; only ESP has come from there.
    world.a_outside = "198.51.100.8:500".parse().unwrap();
    learn(&mut world, "198.51.100.8:14500");
    assert_eq!(goes_to(&mut world), (A, "198.51.100.8:14500".parse().unwrap()));
    // A message of IKE is newer than what ESP told before; that is no news any more.
    world.a_outside = "198.51.100.9:500".parse().unwrap();
    world.action(A, Action::CheckLiveness);
    world.settle();
    assert_eq!(goes_to(&mut world).1, "198.51.100.9:14500".parse().unwrap());
    // A request under way finds it as well, when it is sent again.
    world.action(B, Action::CheckLiveness);
    world.intercept(A);
    world.a_outside = "198.51.100.10:500".parse().unwrap();
    learn(&mut world, "198.51.100.10:14500");
    world.advance(Duration::from_secs(3));
    let moved = world.b.installed[&child].path.remote;
    assert_eq!(moved, "198.51.100.10:14500".parse().unwrap());
}

#[test]
fn a_gateway_behind_a_nat_of_its_own_does_not_follow_esp() {
    let mut theirs = profile(B);
    theirs.force_encapsulation = true;
    let mut world = World::connected_with(profile(A), theirs);
    let child = world.child(B);
    let before = world.b.installed[&child].path;
    world.b.sad.usage.entry(child).or_default().learned_peer = "198.51.100.8:14500".parse().ok();
    world.action(B, Action::CheckLiveness);
    world.settle();
    assert_eq!(world.b.installed[&child].path, before);
}

#[test]
fn encapsulation_can_be_forced() {
    let mut ours = profile(A);
    ours.force_encapsulation = true;
    let world = World::connected_with(ours, profile(B));
    let child = world.child(B);
    assert!(world.b.installed[&child].udp_encapsulation);
}

#[test]
fn remote_access_assigns_addresses() {
    let mut ours = profile(A);
    ours.configuration_request = Some(ConfigurationRequest {
        ipv4: Some("0.0.0.0".parse().unwrap()),
        ipv6: Some("::".parse().unwrap()),
        dns4: true,
        ..ConfigurationRequest::default()
    });
    change_child(&mut ours, |child| {
        child.local = SelectorPolicy::Assigned;
        child.remote = SelectorPolicy::Received;
    });
    let mut theirs = profile(B);
    theirs.admission = true;
    change_child(&mut theirs, |child| {
        child.local = ranges(&["0.0.0.0/0", "2001:db8::/32"]);
        child.remote = SelectorPolicy::Assigned;
    });
    let mut world = World::new();
    let configuration = Configuration {
        ipv4: Some("10.9.0.1".parse().unwrap()),
        netmask: Some("255.255.255.255".parse().unwrap()),
        ipv6: Some(("2001:db8:9::1".parse().unwrap(), 128)),
        dns: vec!["10.0.0.53".parse().unwrap(), "2001:db8::53".parse().unwrap()],
    };
    world.b.answers.admit = Ok(configuration.clone());
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    world.check_pairs(1);
    let child = &world.a.installed[&world.child(A)];
    assert_eq!(child.configuration.as_deref(), Some(&configuration));
    assert_eq!(
        *child.local_selectors,
        [net("10.9.0.1/32"), net("2001:db8:9::1/128")]
    );
    assert_eq!(*child.remote_selectors, [net("0.0.0.0/0"), net("2001:db8::/32")]);
    assert!(world.b.asked.iter().any(|question| question.starts_with("Admit")));
}

#[test]
fn a_peer_that_does_not_ask_for_an_address_is_told_to() {
    let mut theirs = profile(B);
    change_child(&mut theirs, |child| child.remote = SelectorPolicy::Assigned);
    let mut world = World::new();
    world.serve(theirs);
    world.initiate(profile(A));
    world.settle();
    assert_eq!(
        world.b.count(Count::NotifySent(NotifyKind::FAILED_CP_REQUIRED)),
        1
    );
    world.run(Duration::from_secs(11), Duration::from_secs(1));
    world.check_nothing_left();
}

#[test]
fn a_refused_session_is_told_why() {
    for (refusal, kind) in [
        (Refusal::Denied("no".into()), NotifyKind::AUTHENTICATION_FAILED),
        (Refusal::Notify(8192, "no".into()), NotifyKind(8192)),
    ] {
        let mut theirs = profile(B);
        theirs.admission = true;
        let mut world = World::new();
        world.b.answers.admit = Err(refusal);
        world.serve(theirs);
        world.initiate(profile(A));
        world.settle();
        assert_eq!(setup_failure(&world.a.events), Some(&SetupFailure::Refused(kind)));
        world.run(Duration::from_secs(11), Duration::from_secs(1));
        world.check_nothing_left();
    }
}

#[test]
fn without_an_address_the_ike_sa_comes_up_and_goes_again() {
    for allow_empty in [false, true] {
        let mut theirs = profile(B);
        theirs.admission = true;
        theirs.allow_empty = allow_empty;
        let mut world = World::new();
        world.b.answers.admit = Err(Refusal::NoAddress("full".into()));
        world.serve(theirs);
        let mut ours = profile(A);
        ours.allow_empty = true;
        world.initiate(ours);
        world.settle();
        let established =
            |events: &[Event]| events.iter().any(|event| matches!(event, Event::Established(_)));
        assert!(established(&world.a.events) && established(&world.b.events));
        let refused = ChildFailure::Refused(NotifyKind::INTERNAL_ADDRESS_FAILURE);
        let failed = |event: &Event| matches!(event, Event::ChildFailed { reason, .. } if *reason == refused);
        assert!(world.a.events.iter().any(failed));
        assert!(world.b.installed.is_empty());
        world.run(Duration::from_secs(11), Duration::from_secs(1));
        world.check_nothing_left();
    }
}

#[test]
fn selectors_are_narrowed() {
    let mut ours = profile(A);
    change_child(&mut ours, |child| {
        child.local = ranges(&["10.1.0.0/24", "10.1.1.0/24", "172.16.0.0/12"]);
        child.remote = ranges(&["0.0.0.0/0"]);
    });
    let world = World::connected_with(ours, profile(B));
    let child = &world.a.installed[&world.child(A)];
    assert_eq!(*child.local_selectors, [net("10.1.0.0/24"), net("10.1.1.0/24")]);
    assert_eq!(*child.remote_selectors, [net("10.2.0.0/16")]);
}

#[test]
fn received_selectors_are_taken_as_they_come() {
    let mut theirs = profile(B);
    change_child(&mut theirs, |child| child.remote = SelectorPolicy::Received);
    let mut ours = profile(A);
    change_child(&mut ours, |child| {
        child.local = ranges(&["192.168.7.0/24", "2001:db8:7::/48"])
    });
    let world = World::connected_with(ours, theirs);
    let child = world.child(B);
    assert_eq!(
        *world.b.installed[&child].remote_selectors,
        [net("192.168.7.0/24"), net("2001:db8:7::/48")]
    );
}

#[test]
fn unacceptable_selectors_leave_no_empty_ike_sa() {
    let mut ours = profile(A);
    change_child(&mut ours, |child| child.remote = ranges(&["172.16.0.0/12"]));
    let mut world = World::new();
    world.initiate(ours);
    world.settle();
    assert_eq!(world.b.count(Count::NotifySent(NotifyKind::TS_UNACCEPTABLE)), 1);
    assert!(world.b.events.iter().any(|event| matches!(
        event,
        Event::ChildFailed {
            reason: ikev2::ChildFailure::Selectors { .. },
            ..
        }
    )));
    world.run(Duration::from_secs(11), Duration::from_secs(1));
    world.check_nothing_left();
}

#[test]
fn an_empty_ike_sa_stays_where_it_may() {
    let mut ours = profile(A);
    ours.allow_empty = true;
    change_child(&mut ours, |child| child.remote = ranges(&["172.16.0.0/12"]));
    let mut theirs = profile(B);
    theirs.allow_empty = true;
    let mut world = World::new();
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    assert_eq!((world.a.established(), world.b.established()), (1, 1));
    world.check_pairs(0);
}

#[test]
fn esp_mismatch_names_the_transform() {
    let mut ours = profile(A);
    change_child(&mut ours, |child| {
        child.proposals[0].ciphers = vec![Cipher::AesGcm256Icv16]
    });
    let mut world = World::new();
    world.initiate(ours);
    world.settle();
    let reason = world.b.events.iter().find_map(|event| match event {
        Event::ChildFailed { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    assert_eq!(
        reason.unwrap(),
        "no proposal chosen: ESP encryption differs: peer offers AES-GCM-16-256, configured AES-GCM-16-128"
    );
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
    let mut profiles = [profile(A), profile(B)];
    for profile in &mut profiles {
        profile.proposals = vec![ike.clone()];
        change_child(profile, |child| child.proposals = vec![esp.clone()]);
    }
    let [ours, theirs] = profiles;
    let mut world = World::connected_with(ours, theirs);
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
        setup_failure(&world.b.events),
        Some(&SetupFailure::Timeout { half_open: true })
    );
    assert_eq!(setup_failure(&world.a.events), Some(&SetupFailure::NoResponse));
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

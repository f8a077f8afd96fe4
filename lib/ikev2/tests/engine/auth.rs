//! Certificates and EAP. The shells of the tests sign with a hash, so what is checked here is what is signed, not how.

use std::sync::Arc;
use std::time::Duration;

use ikev2::{
    Action, Answer, AuthMethod, Count, DropCause, EngineConfig, Event, FragmentMtu, Identity, LocalAuth,
    Profile, RemoteAuth, SetupFailure,
};

use crate::world::Side::{A, B};
use crate::world::{Side, World, profile};

const CERTIFICATE: RemoteAuth = RemoteAuth {
    psk: false,
    certificate: true,
    eap: false,
};
const EAP: RemoteAuth = RemoteAuth {
    psk: false,
    certificate: false,
    eap: true,
};

fn chain(octets: usize) -> LocalAuth {
    LocalAuth::Certificate {
        chain: Arc::new([vec![0x30; octets], vec![0x31; 10]]),
    }
}

fn with_certificates(side: Side, octets: usize) -> Profile {
    Profile {
        local_auth: chain(octets),
        remote_auth: CERTIFICATE,
        trust_hashes: vec![[7; 20]],
        ..profile(side)
    }
}

fn eap_pair() -> (Profile, Profile) {
    let ours = Profile {
        local_auth: LocalAuth::Eap,
        remote_auth: CERTIFICATE,
        ..profile(A)
    };
    let theirs = Profile {
        remote_auth: EAP,
        admission: true,
        ..with_certificates(B, 100)
    };
    (ours, theirs)
}

fn peer_auth(events: &[Event]) -> AuthMethod {
    let established = events.iter().find_map(|event| match event {
        Event::Established(established) => Some(established),
        _ => None,
    });
    established.unwrap().peer_auth
}

fn failure(events: &[Event]) -> String {
    let failure = events.iter().find_map(|event| match event {
        Event::SetupFailed { reason, .. } => Some(reason.to_string()),
        _ => None,
    });
    failure.unwrap()
}

#[test]
fn certificates_both_ways() {
    let world = World::connected_with(with_certificates(A, 100), with_certificates(B, 100));
    assert_eq!(peer_auth(&world.a.events), AuthMethod::Signature(14));
    assert_eq!(peer_auth(&world.b.events), AuthMethod::Signature(14));
    for host in [&world.a, &world.b] {
        assert_eq!(host.count(Count::CertificateSent(2)), 1);
        assert_eq!(host.count(Count::CertificateReceived(2)), 1);
        assert_eq!(host.count(Count::CertificateRequestSent), 1);
        let sign = host
            .asked
            .iter()
            .find(|question| question.starts_with("Sign"))
            .unwrap();
        assert!(sign.ends_with("hashes: [2, 3, 4] }"));
    }
    assert_eq!(world.b.count(Count::CertificateRequestReceived), 1);
}

#[test]
fn without_hash_algorithms_the_legacy_methods_are_used() {
    let mut world = World::new();
    let config = EngineConfig {
        signature_hashes: Vec::new(),
        ..EngineConfig::default()
    };
    world.b.configure(9, config);
    world.serve(with_certificates(B, 100));
    world.initiate(with_certificates(A, 100));
    world.settle();
    world.check_pairs(1);
    assert_eq!(peer_auth(&world.b.events), AuthMethod::Signature(1));
}

#[test]
fn a_certificate_on_one_side_and_psk_on_the_other() {
    let ours = Profile {
        remote_auth: CERTIFICATE,
        ..profile(A)
    };
    let theirs = Profile {
        local_auth: chain(100),
        ..profile(B)
    };
    let world = World::connected_with(ours, theirs);
    assert_eq!(peer_auth(&world.a.events), AuthMethod::Signature(14));
    assert_eq!(peer_auth(&world.b.events), AuthMethod::Psk);
    let ours = Profile {
        local_auth: chain(100),
        ..profile(A)
    };
    let theirs = Profile {
        remote_auth: CERTIFICATE,
        ..profile(B)
    };
    World::connected_with(ours, theirs);
}

#[test]
fn an_invalid_certificate_is_refused() {
    for side in [A, B] {
        let mut world = World::new();
        world.host(side).answers.verify = Err("revoked".to_owned());
        world.serve(with_certificates(B, 100));
        world.initiate(with_certificates(A, 100));
        world.settle();
        let reason = failure(&world.look(side).events);
        assert_eq!(
            reason,
            "digital signature authentication of the peer failed: revoked"
        );
        world.check_ended();
    }
}

#[test]
fn a_method_that_is_not_allowed_is_refused() {
    let mut world = World::new();
    world.serve(with_certificates(B, 100));
    world.initiate(profile(A));
    world.settle();
    assert_eq!(
        failure(&world.b.events),
        "authentication not allowed: peer wants PSK authentication"
    );
}

#[test]
fn another_identity_than_expected_is_refused() {
    let mut world = World::new();
    let mut theirs = profile(B);
    theirs.remote_identity = Identity::fqdn("other.example");
    world.serve(theirs);
    world.initiate(profile(A));
    world.settle();
    assert_eq!(
        failure(&world.b.events),
        "authentication not allowed: peer says it is a.example, expected other.example"
    );
    assert!(world.b.asked.is_empty(), "nobody is bothered");
}

#[test]
fn no_answer_from_within_is_a_failure_with_its_reason() {
    for side in [A, B] {
        let mut world = World::new();
        world.host(side).answers.hold = true;
        world.serve(with_certificates(B, 100));
        world.initiate(with_certificates(A, 100));
        world.settle();
        let (ticket, _) = world.host(side).held.remove(0);
        let now = world.now;
        let host = world.host(side);
        let answer = Answer::Unavailable("certmgr does not answer".to_owned());
        host.engine.answer(now, ticket, answer, &mut host.sad);
        world.collect(side);
        world.settle();
        assert!(failure(&world.look(side).events).contains("certmgr does not answer"));
        world.run(Duration::from_secs(61), Duration::from_secs(1));
        world.check_nothing_left();
    }
}

#[test]
fn long_chains_travel_in_fragments() {
    let mut ours = with_certificates(A, 5000);
    ours.fragment_mtu = FragmentMtu { ipv4: 576, ipv6: 576 };
    let world = World::connected_with(ours, with_certificates(B, 3000));
    assert_eq!(world.a.count(Count::FragmentsSent(12)), 1);
    assert_eq!(world.b.count(Count::Reassembled), 1);
    assert_eq!(world.b.count(Count::FragmentsSent(3)), 1);
    assert_eq!(world.a.count(Count::Reassembled), 1);
}

#[test]
fn before_the_peer_is_known_little_is_put_together() {
    for (ours, theirs) in [(20_000, 100), (100, 20_000)] {
        let mut world = World::new();
        world.serve(with_certificates(B, theirs));
        world.initiate(with_certificates(A, ours));
        world.settle();
        assert_eq!(world.a.established(), 0);
        let refuses = if ours > theirs { &world.b } else { &world.a };
        assert_eq!(refuses.count(Count::Reassembled), 0);
        assert!(refuses.drops(DropCause::Fragment) > 0);
    }
}

#[test]
fn fragments_in_any_order_and_twice_and_lost() {
    let mut world = World::new();
    world.serve(with_certificates(B, 5000));
    world.initiate(with_certificates(A, 5000));
    world.deliver_next(B);
    world.deliver_next(A);
    let mut fragments: Vec<_> = world.wire.drain(..).collect();
    assert!(fragments.len() > 3);
    for fragment in &fragments {
        assert!(fragment.bytes.len() + 28 <= 1384);
    }
    fragments.reverse();
    let lost = fragments.pop().unwrap();
    for fragment in fragments.iter().chain(&fragments) {
        world.deliver(fragment);
    }
    assert_eq!(world.b.engine.totals().half_open, 1, "one is missing");
    world.deliver(&lost);
    // The response is fragmented too. A retransmitted request is answered once: by its first fragment.
    let responses = world.wire.len();
    assert!(responses > 3);
    for fragment in fragments.iter().chain([&lost]) {
        world.deliver(fragment);
    }
    assert_eq!(world.wire.len(), 2 * responses);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn eap_with_a_key() {
    let (ours, theirs) = eap_pair();
    let mut world = World::new();
    world.b.answers.eap_rounds = Some(3);
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    world.check_pairs(1);
    assert_eq!(peer_auth(&world.b.events), AuthMethod::Eap);
    assert_eq!(peer_auth(&world.a.events), AuthMethod::Signature(14));
    let id = world.ike(B);
    let view = world.b.engine.ike_sa(world.now, id, &world.b.sad).unwrap();
    assert_eq!(view.eap_identity, ikev2::UserName::new(b"user@aaa"));
    let admit = world.b.asked.last().unwrap();
    assert!(admit.contains("eap_identity: Some(\"user@aaa\")"), "{admit}");
    world.action(A, Action::Delete);
    world.settle();
    assert_eq!(world.b.established(), 0);
}

#[test]
fn nobody_gets_an_auth_of_our_pre_shared_key_by_asking_for_eap() {
    let (ours, theirs) = eap_pair();
    let mut world = World::new();
    world.serve(Profile {
        local_auth: LocalAuth::Psk,
        ..theirs
    });
    world.initiate(ours);
    world.settle();
    assert!(world.b.asked.is_empty(), "{:?}", world.b.asked);
    assert!(failure(&world.b.events).contains("EAP needs a certificate of ours"));
    assert_eq!(world.a.established(), 0);
}

#[test]
fn with_eap_initial_contact_is_about_the_user_and_not_about_what_idi_says() {
    let (mut ours, theirs) = eap_pair();
    ours.initial_contact = true;
    let mut world = World::connected_with(ours.clone(), theirs);
    let again = |world: &mut World, user: &'static [u8], identity: &str| {
        world.b.answers.user = user;
        world.a = World::new().a;
        world.initiate(Profile {
            local_identity: Identity::fqdn(identity),
            ..ours.clone()
        });
        world.settle();
        world.b.established()
    };
    // Another user under the same IDi displaces nobody.
    assert_eq!(again(&mut world, b"mallory@aaa", "a.example"), 2);
    // The user itself does, wherever it says it is.
    assert_eq!(again(&mut world, b"user@aaa", "a.example"), 2);
    assert_eq!(again(&mut world, b"mallory@aaa", "a.example"), 2);
}

#[test]
fn eap_without_a_key_proves_with_sk_p() {
    let (ours, theirs) = eap_pair();
    let mut world = World::new();
    world.a.answers.msk = None;
    world.b.answers.msk = None;
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    world.check_pairs(1);
}

#[test]
fn different_eap_keys_do_not_do() {
    let (ours, theirs) = eap_pair();
    let mut world = World::new();
    world.a.answers.msk = Some(&[1; 64]);
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    assert_eq!(
        failure(&world.b.events),
        "EAP authentication of the peer failed: AUTH does not fit the key of EAP"
    );
    assert!(matches!(
        world
            .a
            .events
            .iter()
            .find(|event| matches!(event, Event::SetupFailed { .. })),
        Some(Event::SetupFailed {
            reason: SetupFailure::Refused(ikev2::NotifyKind::AUTHENTICATION_FAILED),
            ..
        })
    ));
}

#[test]
fn eap_failure_reaches_the_peer() {
    let (ours, theirs) = eap_pair();
    let mut world = World::new();
    world.b.answers.eap_rounds = None;
    world.serve(theirs);
    world.initiate(ours);
    world.settle();
    assert_eq!(
        failure(&world.b.events),
        "EAP authentication of the peer failed: Access-Reject"
    );
    assert_eq!(
        failure(&world.a.events),
        "we cannot authenticate ourselves: EAP-Failure"
    );
    world.check_ended();
}

//! The first child SA: admission, addresses, selectors (RFC 7296 2.9, 2.19).

use crypto::Cipher;
use ikev2::{
    ChildFailure, Configuration, ConfigurationRequest, Count, Event, NotifyKind, Refusal, SelectorPolicy,
    SetupFailure,
};

use crate::world::Side::{A, B};
use crate::world::{World, change_child, net, profile, ranges};

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
    world.check_ended();
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
        assert_eq!(world.a.setup_failure(), Some(&SetupFailure::Refused(kind)));
        world.check_ended();
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
        world.check_ended();
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
    assert!(matches!(world.b.child_failure(), ChildFailure::Selectors { .. }));
    world.check_ended();
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
    assert_eq!(
        world.b.child_failure().to_string(),
        "no proposal chosen: ESP encryption differs: peer offers AES-GCM-16-256, configured AES-GCM-16-128"
    );
}

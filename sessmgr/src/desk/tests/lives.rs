//! Sessions of the same identity, time limits, and operators.

use super::*;

#[test]
fn of_two_sessions_on_two_workers_the_younger_stays() {
    let detect = |context: &mut Context| {
        let service = context.wsg_services.get_mut("site").unwrap();
        service.duplicate_session_detection = true;
    };
    let (mut older, mut younger) = (World::new(detect), World::new(detect));
    let tell = |from: &mut World, to: &mut World| {
        for errand in std::mem::take(&mut from.state.errands) {
            let Errand::Newer(service, identity, began) = errand else {
                panic!("{errand:?}")
            };
            to.state
                .newer_elsewhere(&service.context, &service.name, &identity, began);
        }
    };
    assert_eq!(older.admit(ask(1, "site", "enb1")).refusal, "");
    assert_eq!(younger.admit(ask(2, "site", "enb1")).refusal, "");
    // Both hear of each other; the younger one's word comes first, or its errands would be of its own end.
    let said = std::mem::take(&mut older.state.errands);
    tell(&mut younger, &mut older);
    let ends = older.state.errands.split_off(0);
    assert_eq!(ends, [Errand::End(vec![1], Reason::Duplicate)]);
    older.state.errands = said;
    tell(&mut older, &mut younger);
    assert_eq!(younger.state.errands, []);
}

#[test]
fn a_second_session_of_an_identity_displaces_the_first_and_takes_its_address() {
    let detect = |context: &mut Context| {
        let service = context.wsg_services.get_mut("host").unwrap();
        service.duplicate_session_detection = true;
    };
    let mut world = World::new(detect);
    world.stock("v4", "10.30.0.1", 8);
    assert_eq!(
        world
            .admit(chosen(ask(1, "host", "ue1"), [10, 30, 0, 5]))
            .displaced,
        [0; 0]
    );
    let verdict = world.admit(chosen(ask(2, "host", "ue1"), [10, 30, 0, 5]));
    assert_eq!(
        (verdict.displaced.as_slice(), verdict.ipv4.as_slice()),
        (&[1][..], &[10, 30, 0, 5][..])
    );
    world.release(1, 344);
    let other = world.admit(chosen(ask(3, "host", "ue2"), [10, 30, 0, 5]));
    assert!(other.no_address, "the address went with the younger session");
    assert!(
        world
            .state
            .errands
            .iter()
            .any(|errand| matches!(errand, Errand::Newer(..)))
    );
    // Another worker admits the same identity later; an older announcement changes nothing.
    world.state.errands.clear();
    let identity = ikev2::Identity::fqdn("ue1").unwrap();
    let began = world.state.sessions.get(2).unwrap().began;
    world.state.newer_elsewhere("isp", "host", &identity, began - 1);
    assert_eq!(world.state.errands, []);
    world.state.newer_elsewhere("isp", "host", &identity, began + 1);
    assert_eq!(world.state.errands, [Errand::End(vec![2], Reason::Duplicate)]);
    world.state.newer_elsewhere("isp", "host", &identity, began + 2);
    assert_eq!(world.state.errands.len(), 1, "told once");
}

#[test]
fn without_detection_both_sessions_stay() {
    let mut world = World::new(|_| ());
    world.admit(ask(1, "site", "enb1"));
    assert_eq!(world.admit(ask(2, "site", "enb1")).displaced, [0; 0]);
    assert_eq!(world.state.errands, []);
    world.release(1, 2);
    world.release(2, 2);
    assert_eq!(world.counters.get(counted::CURRENT_CALLS), 0);
}

#[test]
fn a_peer_that_has_no_other_session_ends_all_its_older_ones_at_other_workers() {
    let mut left = World::new(|_| ());
    left.admit(ask(1, "site", "enb1"));
    left.admit(ask(2, "site", "enb1"));
    left.admit(ask(3, "site", "enb2"));
    assert_eq!(left.state.errands, []);
    let mut came_to = World::new(|_| ());
    let back = Admission {
        initial_contact: true,
        ..ask(9, "site", "enb1")
    };
    assert_eq!(came_to.admit(back).displaced, [0; 0]);
    let told = came_to.state.errands.pop();
    let Some(Errand::Newer(service, identity, began)) = told else {
        panic!("nobody is told: {told:?}");
    };
    let hear = |world: &mut World| {
        world
            .state
            .newer_elsewhere(&service.context, &service.name, &identity, began);
    };
    hear(&mut left);
    assert_eq!(left.state.errands, [Errand::End(vec![1, 2], Reason::Duplicate)]);
    hear(&mut came_to);
    assert_eq!(came_to.state.errands, [], "the younger one stays");
    left.state.errands.clear();
    left.admit(ask(4, "site", "enb1"));
    hear(&mut left);
    assert_eq!(left.state.errands, [], "and so does one that came since");
}

#[test]
fn time_limits_end_sessions_and_traffic_keeps_them() {
    let limits = |context: &mut Context| {
        context.subscriber.idle_timeout = Some(30);
        context.subscriber.absolute_timeout = Some(300);
    };
    let mut world = World::new(limits);
    let authorization = Authorization {
        session_timeout: 50,
        ..Authorization::default()
    };
    world.admit(Admission {
        authorization: Some(authorization),
        ..ask(1, "site", "short")
    });
    world.admit(ask(2, "site", "idle"));
    world.admit(ask(3, "site", "busy"));
    (1..=3).for_each(|number| world.connect(number, 0, &[number as u32]));
    let kinds =
        |world: &mut World| -> Vec<i32> { world.records().iter().map(|record| record.kind).collect() };
    assert_eq!(kinds(&mut world), [1, 1, 1]);
    for second in 0..12 {
        world.traffic.set(1, second + 1);
        world.traffic.set(3, second + 1);
        world.pass(5);
    }
    let ended = std::mem::take(&mut world.state.errands);
    let expected = [
        Errand::End(vec![2], Reason::IdleTimeout),
        Errand::End(vec![1], Reason::AbsoluteTimeout),
    ];
    assert_eq!(ended, expected);
    assert_eq!(world.counters.get(counted::CURRENT_DISCONNECTING), 2);
    assert_eq!(
        kinds(&mut world),
        [3],
        "an interim record of the busy one after a minute"
    );
    // ipsecmgr calls both a local disconnect; we know better.
    world.release(1, 3);
    world.release(2, 3);
    let stops = world.records();
    assert_eq!(
        stops.iter().map(|stop| stop.terminate_cause).collect::<Vec<_>>(),
        [5, 4]
    );
    assert_eq!(world.counters.get(counted::CURRENT_DISCONNECTING), 0);
    assert_eq!(world.counters.get(counted::CURRENT_ACTIVE), 1);
}

#[test]
fn operators_see_and_clear_sessions() {
    use bus::messages::common::Execute;
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.admit(ask(2, "site", "enb1"));
    world.connect(2, 0, &[0x0700_0005]);
    let execute = |world: &mut World, command: &str, words: &[(&str, &str)]| {
        let request = Execute {
            context: "isp".to_owned(),
            ..Execute::new(command, words)
        };
        crate::show::execute(&mut world.state, &request)
    };
    let all = execute(&mut world, "show subscribers", &[("all", "")]);
    let lines: Vec<&str> = all.text.lines().collect();
    assert!(
        lines[0].starts_with("AR ") && lines[0].contains("ue1") && lines[0].contains("10.30.0.1"),
        "{lines:?}"
    );
    assert!(
        lines[1].starts_with("CS ") && lines[1].contains("peer 198.51.100.7"),
        "{lines:?}"
    );
    assert_eq!(all.totals[0].value, 2);
    let one = execute(
        &mut world,
        "show subscribers",
        &[("full", ""), ("username", ""), ("username", "enb1")],
    );
    assert!(
        one.text.contains("Inbound SPIs            : 0x07000005"),
        "{}",
        one.text
    );
    assert!(!one.text.contains("ue1"));
    let summary = execute(&mut world, "show subscribers", &[("summary", "")]);
    let values: Vec<u64> = summary.totals.iter().map(|total| total.value).collect();
    assert_eq!(values, [2, 1, 1, 0, 1, 1, 1, 0]);
    let cleared = execute(
        &mut world,
        "clear subscribers",
        &[("wsg-service", ""), ("service", "site")],
    );
    assert_eq!(cleared.totals[0].value, 1);
    assert_eq!(world.state.errands, [Errand::End(vec![2], Reason::Admin)]);
    let elsewhere = Execute {
        context: "other".to_owned(),
        ..Execute::new("show subscribers", &[])
    };
    assert_eq!(crate::show::execute(&mut world.state, &elsewhere).text, "");
}

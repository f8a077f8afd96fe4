//! Death and return of a `sessmgr` or an `ipsecmgr`.

use super::*;

#[test]
fn a_restarted_sessmgr_goes_on_where_the_last_one_ended() {
    let folder = std::env::temp_dir().join(format!("sessmgr-journal-{}", std::process::id()));
    let detect = |context: &mut Context| {
        context
            .wsg_services
            .get_mut("host")
            .unwrap()
            .duplicate_session_detection = true;
    };
    let mut world = World::new(detect);
    let (mut journal, past) = Journal::open(&folder, 1, 0).unwrap();
    assert_eq!(past.len(), 0);
    world.stock("v4", "10.30.0.1", 8);
    world.stock("v6", "fd30::", 4);
    let authorization = Authorization {
        class: vec![b"class".to_vec()],
        session_timeout: 3600,
        framed_ipv4: vec![10, 30, 0, 77],
        ..Authorization::default()
    };
    assert_eq!(
        world.arrive(vec![Admission {
            wants_ipv6: true,
            ..ask(1, "host", "ue1")
        }]),
        []
    );
    world.arrive(vec![Admission {
        authorization: Some(authorization),
        ..ask(2, "host", "ue2")
    }]);
    world.granted(&Need::Address(2, ip("10.30.0.77")), Grant::Given);
    world.admit(ask(3, "site", "enb1"));
    world.admit(ask(4, "site", "enb2"));
    world.connect(1, 0, &[100]);
    world.connect(2, 0, &[200]);
    world.traffic.set(200, 5);
    world.connect(3, 0, &[300]);
    world.connect(33, 3, &[301]);
    world.release(4, 2);
    world.pass(1);
    journal.write(&mut world.state);
    world.admit(ask(5, "host", "ue5"));
    journal.write(&mut world.state);
    let call = world.state.sessions.get(2).unwrap().call;
    drop(journal);

    let mut again = World::new(detect);
    again.traffic = world.traffic.clone();
    again.state.meter = Box::new(world.traffic.clone());
    let (mut journal, past) = Journal::open(&folder, 1, 1).unwrap();
    again.state.restore(&past, again.now);
    let spis: Vec<u64> = again
        .state
        .sessions
        .after(None)
        .map(|(ike_spi, _)| ike_spi)
        .collect();
    assert_eq!(spis, [1, 2, 5, 33]);
    assert_eq!(again.counters.get(counted::CURRENT_ACTIVE), 3);
    assert_eq!(again.counters.get(counted::CURRENT_ARRIVED), 1);
    assert_eq!(again.state.held(2).len(), 3, "two blocks and a single address");
    let session = again.state.sessions.get(1).unwrap();
    assert_eq!(session.ipv4.as_ref().unwrap().address, ip("10.30.0.1"));
    assert_eq!(session.ipv6.as_ref().unwrap().address, ip("fd30::1"));
    assert_eq!(
        again.admit(ask(6, "host", "ue6")).ipv4,
        [10, 30, 0, 3],
        "1 and 2 are in use"
    );
    let single = again.admit(chosen(ask(7, "host", "ue7"), [10, 30, 0, 2]));
    assert!(single.no_address, "an address was given twice");
    assert_eq!(
        again.admit(ask(8, "host", "ue1")).displaced,
        [1],
        "identities are known again"
    );
    // Traffic of the earlier life is in the stop record, but not in the counters a second time.
    again.pass(2);
    assert_eq!(again.counters.get(counted::RX_PACKETS), 0);
    again.traffic.set(200, 9);
    again.release(2, 2);
    let stop = again.records().pop().unwrap();
    assert_eq!(
        (stop.packets_in, stop.class.clone()),
        (9, vec![b"class".to_vec()])
    );
    assert_eq!(
        stop.session,
        format!("{call:016X}"),
        "the same accounting session"
    );
    assert_eq!(again.counters.get(counted::RX_PACKETS), 4);
    assert!(
        again
            .state
            .errands
            .iter()
            .any(|errand| matches!(errand, Errand::GiveBack { pool, .. } if pool.is_empty()))
    );
    journal.write(&mut again.state);
    let (_, past) = Journal::open(&folder, 1, 2).unwrap();
    assert_eq!(past.len(), 5);
    let (_, past) = Journal::open(&folder, 1, 0).unwrap();
    assert_eq!(past.len(), 0, "a new life of the node");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_session_whose_set_up_was_forgotten_does_not_stay_for_ever() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.pass(599);
    assert_eq!(world.state.sessions.len(), 1);
    world.pass(2);
    assert_eq!(world.state.sessions.len(), 0);
    assert_eq!(world.state.blocks.free(&key("v4")), 8);
    assert_eq!(world.counters.get(counted::CURRENT_ARRIVED), 0);
    assert_eq!(world.counters.get(counted::FAILED), 1);
}

#[test]
fn an_ipsecmgr_that_recovers_nothing_releases_everything() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.admit(ask(2, "site", "enb1"));
    world.connect(2, 0, &[5]);
    assert_eq!(world.recover(&[]), [0; 0]);
    assert_eq!(world.state.sessions.len(), 0);
    assert_eq!(world.state.blocks.free(&key("v4")), 8);
    for gauge in [
        counted::CURRENT_CALLS,
        counted::CURRENT_ACTIVE,
        counted::CURRENT_ARRIVED,
    ] {
        assert_eq!(world.counters.get(gauge), 0);
    }
    assert_eq!(world.state.held(2).len(), 1, "the block stays ours");
}

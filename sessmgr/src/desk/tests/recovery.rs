//! An `ipsecmgr` that dies and goes on.

use super::*;

use bus::messages::sessmgr::Claim;

fn with_detection(context: &mut Context) {
    let service = context.wsg_services.get_mut("host").unwrap();
    service.duplicate_session_detection = true;
}

fn spis(world: &World) -> Vec<u64> {
    world
        .state
        .sessions
        .after(None)
        .map(|(ike_spi, _)| ike_spi)
        .collect()
}

fn claim(admission: Admission, ipv4: &[u8]) -> Admission {
    Admission {
        claim: Some(Claim {
            ipv4: ipv4.to_vec(),
            ipv6: Vec::new(),
        }),
        ..admission
    }
}

#[test]
fn sessions_that_are_listed_go_on_and_all_others_are_over() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    for ike_spi in 1..=4 {
        world.admit(ask(ike_spi, "host", &format!("ue{ike_spi}")));
    }
    (1..=3).for_each(|ike_spi| world.connect(ike_spi, 0, &[ike_spi as u32 * 100]));
    world.records();
    world.traffic.set(100, 7);
    let call = world.state.sessions.get(1).unwrap().call;
    // 1 has been rekeyed, 2 was being rekeyed and its new name has come here, news of 4 have not, and 9 was never heard of.
    world.connect(22, 2, &[200]);
    let listed: &[(u64, u64, &[u32])] = &[
        (11, 1, &[100, 101]),
        (22, 2, &[200]),
        (4, 0, &[400]),
        (9, 0, &[900]),
    ];
    assert_eq!(world.recover(listed), [9]);
    assert_eq!(spis(&world), [4, 11, 22]);
    let session = world.state.sessions.get(11).unwrap();
    assert_eq!((session.call, &*session.spis), (call, &[100, 101][..]));
    assert_eq!(
        world.state.blocks.free(&key("v4")),
        5,
        "the address of 3 is free again"
    );
    let kinds: Vec<(i32, u32)> = world
        .records()
        .iter()
        .map(|record| (record.kind, record.terminate_cause))
        .collect();
    assert_eq!(
        kinds,
        [
            (AccountingKind::Start as i32, 0),
            (AccountingKind::Stop as i32, 9)
        ],
        "4 begins, 3 ends"
    );
    assert_eq!(world.counters.get(counted::CURRENT_ACTIVE), 3);
    assert_eq!(world.counters.get(counted::CURRENT_ARRIVED), 0);
    // The same once more, as the bus may bring it; and the next death.
    world.tenure -= 1;
    assert_eq!(world.recover(listed), [9]);
    assert_eq!(spis(&world), [4, 11, 22]);
    world.recover(&[(11, 11, &[101])]);
    assert_eq!(spis(&world), [11]);
    world.traffic.set(101, 1);
    world.pass(2);
    assert_eq!(
        world.counters.get(counted::RX_PACKETS),
        8,
        "traffic goes on being counted, also that of a child SA that is gone"
    );
}

#[test]
fn many_sessions_are_listed_in_parts_and_nothing_is_over_before_the_last() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    for ike_spi in 1..=4 {
        world.admit(ask(ike_spi, "site", &format!("enb{ike_spi}")));
        world.connect(ike_spi, 0, &[ike_spi as u32]);
    }
    let part = |sessions: &[(u64, u64)], more| WorkerRecovered {
        tenure: 1,
        slots: vec![0],
        sessions: sessions
            .iter()
            .map(|&(ike_spi, known_as)| RecoveredSession {
                ike_spi,
                known_as,
                spis: vec![7],
            })
            .collect(),
        more,
    };
    assert_eq!(world.state.recovered(&part(&[(1, 0)], true), world.now), [0; 0]);
    assert_eq!(spis(&world), [1, 2, 3, 4]);
    // Meanwhile a peer comes to the new life.
    world.tenure = 1;
    world.admit(ask(5, "site", "enb5"));
    // An earlier life has nothing to say any more.
    let late = WorkerRecovered {
        slots: vec![0],
        ..WorkerRecovered::default()
    };
    assert_eq!(world.state.recovered(&late, world.now), [0; 0]);
    assert_eq!(world.state.recovered(&part(&[(33, 3)], false), world.now), [0; 0]);
    assert_eq!(spis(&world), [1, 5, 33]);
}

#[test]
fn a_verdict_that_was_lost_is_given_again_with_what_it_displaces() {
    let mut world = World::new(with_detection);
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.connect(1, 0, &[100]);
    world.state.errands.clear();
    let first = world.admit(ask(2, "host", "ue1"));
    assert_eq!(first.displaced, [1]);
    assert_eq!(world.state.errands.len(), 1);
    // Its ipsecmgr has died, the next one asks for the peer before it says what it has, and that list does not have it.
    world.tenure += 1;
    assert_eq!(world.admit(ask(2, "host", "ue1")), first);
    assert_eq!(
        world.state.errands.len(),
        2,
        "other workers may not have been told"
    );
    world.tenure -= 1;
    assert_eq!(world.recover(&[(1, 1, &[100])]), [0; 0]);
    assert_eq!(spis(&world), [1, 2]);
    assert_eq!(
        world.counters.get(counted::ARRIVED),
        2,
        "a repetition is no attempt"
    );
    world.connect(2, 0, &[200]);
    assert_eq!(world.admit(ask(2, "host", "ue1")).displaced, [0; 0]);
}

#[test]
fn what_a_verdict_displaces_is_known_to_the_next_sessmgr() {
    let folder = std::env::temp_dir().join(format!("sessmgr-displaced-{}", std::process::id()));
    let mut world = World::new(with_detection);
    world.tenure = 3;
    let (mut journal, _) = Journal::open(&folder, 1, 0).unwrap();
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    let verdict = world.admit(ask(2, "host", "ue1"));
    journal.write(&mut world.state);
    let mut again = World::new(with_detection);
    let (_, past) = Journal::open(&folder, 1, 1).unwrap();
    again.state.restore(&past, again.now);
    assert_eq!(again.state.tenure(2), 3);
    again.tenure = 3;
    assert_eq!(again.admit(ask(2, "host", "ue1")), verdict);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn who_asks_again_while_a_peer_waits_gets_the_same_verdict() {
    let mut world = World::new(|_| ());
    let needs = world.arrive(vec![ask(1, "host", "ue1")]);
    assert_eq!(needs, [Need::Block(key("v4"))]);
    assert_eq!(
        world.arrive(vec![ask(1, "host", "ue1"), ask(2, "site", "enb1")]),
        []
    );
    world.tenure += 1;
    assert_eq!(world.arrive(vec![ask(1, "host", "ue1")]), []);
    // The list of the new life does not end what it has asked for itself.
    world.tenure -= 1;
    world.recover(&[]);
    world.stock("v4", "10.30.0.1", 8);
    assert_eq!(world.granted(&needs[0], Grant::Given), []);
    let verdicts = std::mem::take(&mut *world.verdicts.lock().unwrap());
    let first: Vec<&Verdict> = verdicts.iter().filter(|verdict| verdict.ike_spi == 1).collect();
    assert_eq!(first.len(), 3);
    assert!(first.iter().all(|verdict| verdict.ipv4 == [10, 30, 0, 1]));
    assert_eq!(
        world.state.blocks.free(&key("v4")),
        7,
        "one address for all three"
    );
    assert_eq!(world.counters.get(counted::ARRIVED), 2);
}

#[test]
fn peers_that_only_the_dead_one_asked_for_are_given_up() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    let dual = Admission {
        wants_ipv6: true,
        ..ask(1, "host", "ue1")
    };
    let needs = world.arrive(vec![dual.clone(), ask(2, "site", "enb1")]);
    assert_eq!(needs, [Need::Block(key("v6"))]);
    world.recover(&[]);
    assert_eq!(
        world.state.blocks.free(&key("v4")),
        8,
        "what had been found goes back"
    );
    assert_eq!(spis(&world), [0; 0]);
    let verdicts = std::mem::take(&mut *world.verdicts.lock().unwrap());
    assert!(verdicts[0].no_address && verdicts[0].refusal.contains("restarted"));
    // A request of the dead one that was still on its way.
    world.tenure -= 1;
    assert_eq!(world.arrive(vec![ask(3, "site", "enb3")]), []);
    assert_eq!(spis(&world), [0; 0]);
    let verdict = world.verdicts.lock().unwrap().pop().unwrap();
    assert!(
        verdict.refusal.contains("another ipsecmgr"),
        "{}",
        verdict.refusal
    );
    assert_eq!(
        world.counters.get(counted::REJECTED),
        1,
        "that is no attempt of the peer"
    );
    world.tenure += 1;
    assert_eq!(world.arrive(vec![dual]), [], "vpnmgr has been asked already");
    world.stock("v6", "fd30::", 4);
    world.granted(&needs[0], Grant::Given);
    assert_eq!(spis(&world), [1]);
}

#[test]
fn a_forgotten_session_is_claimed_with_its_address_or_not_at_all() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    assert_eq!(world.admit(ask(1, "host", "ue1")).ipv4, [10, 30, 0, 1]);
    let claimed = world.admit(claim(ask(2, "host", "ue2"), &[10, 30, 0, 5]));
    assert_eq!(
        (claimed.refusal.as_str(), claimed.ipv4.as_slice()),
        ("", &[10, 30, 0, 5][..])
    );
    assert_eq!(
        world.admit(claim(ask(2, "host", "ue2"), &[10, 30, 0, 5])),
        claimed,
        "the same again"
    );
    for (spi, address) in [(1, [10, 30, 0, 2]), (2, [10, 30, 0, 6])] {
        let other = world.admit(claim(ask(spi, "host", "ue"), &address));
        assert_eq!(other.refusal, "the session has other addresses");
    }
    let taken = world.admit(claim(ask(3, "host", "ue3"), &[10, 30, 0, 1]));
    assert!(!taken.refusal.is_empty(), "given to two peers");
    // Not in a block of ours: vpnmgr decides.
    let outside = claim(ask(4, "host", "ue4"), &[10, 30, 0, 99]);
    let needs = world.arrive(vec![outside]);
    assert_eq!(needs, [Need::Address(2, ip("10.30.0.99"))]);
    world.granted(&needs[0], Grant::Refused("no".to_owned()));
    assert!(!world.verdicts.lock().unwrap().pop().unwrap().refusal.is_empty());
    // It had none, whatever its peers are given today.
    let without = world.admit(claim(ask(5, "host", "ue5"), &[]));
    assert_eq!((without.refusal.as_str(), without.ipv4.len()), ("", 0));
    assert_eq!(spis(&world), [1, 2, 5]);
}

#[test]
fn a_claim_displaces_nobody() {
    let mut world = World::new(with_detection);
    world.stock("v4", "10.30.0.1", 8);
    world.admit(ask(1, "host", "ue1"));
    world.state.errands.clear();
    let claimed = world.admit(claim(ask(2, "host", "ue1"), &[10, 30, 0, 5]));
    assert!(!claimed.refusal.is_empty());
    let claimed = world.admit(claim(ask(3, "host", "ue3"), &[10, 30, 0, 5]));
    assert_eq!(claimed.refusal, "");
}

#[test]
fn what_was_to_end_is_ended_by_the_next_life() {
    let mut world = World::new(|_| ());
    world.admit(ask(1, "site", "enb1"));
    world.admit(ask(2, "site", "enb2"));
    world.connect(1, 0, &[100]);
    world.connect(2, 0, &[200]);
    world.state.end_all(vec![1], Reason::Admin);
    world.state.errands.clear();
    world.recover(&[(1, 1, &[100]), (2, 2, &[200])]);
    assert_eq!(world.state.errands, [Errand::End(vec![1], Reason::Admin)]);
    assert_eq!(world.counters.get(counted::CURRENT_DISCONNECTING), 1);
    world.release(1, Reason::Admin.number());
    assert_eq!(spis(&world), [2]);
}

/// An IKE SPI in a slot.
const fn spi(slot: u64, number: u64) -> u64 {
    slot << 56 | number
}

#[test]
fn a_slot_that_moves_ends_only_what_is_in_it() {
    let mut world = World::new(|_| ());
    let (stays, moves, lost) = (spi(1, 1), spi(2, 2), spi(2, 3));
    for ike_spi in [stays, moves, lost] {
        world.admit(ask(ike_spi, "site", &format!("enb{ike_spi}")));
        world.connect(ike_spi, 0, &[ike_spi as u32]);
    }
    // Another ipsecmgr takes slot 2, in its first life; whose record of one of them is gone.
    assert_eq!(
        world.recover_in(&[2], &[(moves, 0, &[2]), (spi(1, 9), 0, &[])]),
        [0; 0]
    );
    assert_eq!(spis(&world), [stays, moves]);
    // The former one dies after that: its new life has what it has, and says nothing of slot 2.
    assert_eq!(world.recover_in(&[1], &[(stays, 0, &[1])]), [0; 0]);
    assert_eq!(spis(&world), [stays, moves]);
    // A word of the former owner of slot 2 comes late.
    let late = WorkerRecovered {
        tenure: 0,
        slots: vec![1, 2],
        ..WorkerRecovered::default()
    };
    assert_eq!(world.state.recovered(&late, world.now), [0; 0]);
    assert_eq!(spis(&world), [stays, moves]);
    // The new owner dies and has lost everything.
    world.recover_in(&[2], &[]);
    assert_eq!(spis(&world), [stays]);
}

#[test]
fn whoever_has_the_slot_is_answered_and_nobody_else() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    let peer = || ask(spi(2, 1), "host", "ue1");
    let dual = Admission {
        wants_ipv6: true,
        ..peer()
    };
    // The former owner asks, and while vpnmgr is asked the slot moves.
    let needs = world.arrive(vec![dual.clone()]);
    world.recover_in(&[2], &[]);
    assert!(world.verdicts.lock().unwrap().pop().unwrap().no_address);
    assert_eq!(world.state.blocks.free(&key("v4")), 8);
    // The peer repeats its message, and the new owner asks, in its own name.
    assert_eq!(world.arrive(vec![dual.clone()]), []);
    world.stock("v6", "fd30::", 4);
    world.granted(&needs[0], Grant::Given);
    let verdict = world.verdicts.lock().unwrap().pop().unwrap();
    assert_eq!((verdict.refusal.as_str(), verdict.ipv4.len()), ("", 4));
    // A request of the former owner was still on its way.
    world.tenure -= 1;
    assert!(!world.admit(dual.clone()).refusal.is_empty());
    world.tenure += 1;
    assert_eq!(world.admit(dual), verdict);
    assert_eq!(world.state.blocks.free(&key("v4")), 7);
}

#[test]
fn a_peer_that_has_no_other_session_ends_those_that_another_ipsecmgr_has() {
    let mut world = World::new(|_| ());
    let mut managers = vec![1; 255];
    managers[6] = 2;
    world.state.set_managers(managers);
    let (here, there) = (spi(1, 1), spi(7, 2));
    for ike_spi in [here, there] {
        world.admit(ask(ike_spi, "site", "enb1"));
        world.connect(ike_spi, 0, &[ike_spi as u32]);
    }
    world.state.errands.clear();
    let back = Admission {
        initial_contact: true,
        ..ask(spi(1, 3), "site", "enb1")
    };
    world.admit(back.clone());
    let errands = std::mem::take(&mut world.state.errands);
    assert!(matches!(errands[0], Errand::Newer(..)), "{errands:?}");
    assert_eq!(errands[1..], [Errand::End(vec![there], Reason::Duplicate)]);
    world.admit(back);
    assert_eq!(world.state.errands.len(), 1, "those that end are not told twice");
}

//! Where addresses come from and go to.

use super::*;

#[test]
fn a_host_waits_for_the_first_block_only() {
    let mut world = World::new(|_| ());
    let both = Admission {
        wants_ipv6: true,
        ..ask(1, "host", "ue1")
    };
    let needs = world.arrive(vec![both, ask(2, "host", "ue2")]);
    assert_eq!(needs, [Need::Block(key("v4"))], "asked for once");
    world.stock("v4", "10.30.0.1", 4);
    let needs = world.granted(&needs[0], Grant::Given);
    assert_eq!(needs, [Need::Block(key("v6"))]);
    assert!(world.verdicts.lock().unwrap().is_empty());
    world.stock("v6", "fd30::", 4);
    assert_eq!(world.granted(&needs[0], Grant::Given), []);
    let verdicts = std::mem::take(&mut *world.verdicts.lock().unwrap());
    assert_eq!(
        verdicts.iter().map(|verdict| verdict.ike_spi).collect::<Vec<_>>(),
        [1, 2]
    );
    assert_eq!(verdicts[0].ipv4, [10, 30, 0, 1]);
    assert_eq!(
        verdicts[0].ipv6,
        "fd30::1".parse::<std::net::Ipv6Addr>().unwrap().octets()
    );
    assert_eq!(
        (verdicts[0].ipv6_prefix_length, verdicts[0].dns.clone()),
        (64, vec![vec![10, 0, 0, 53]])
    );
    assert_eq!(
        (verdicts[1].ipv4.clone(), verdicts[1].ipv6.len()),
        (vec![10, 30, 0, 2], 0)
    );
    assert_eq!(world.admit(ask(3, "host", "ue3")).ipv4, [10, 30, 0, 3]);
    assert_eq!(
        world.admit(ask(3, "host", "ue3")).ipv4,
        [10, 30, 0, 3],
        "asked twice, given once"
    );
}

#[test]
fn the_next_pool_is_tried_and_then_there_is_none() {
    let mut world = World::new(|_| ());
    let needs = world.arrive(vec![ask(1, "host", "ue1")]);
    let needs = world.granted(&needs[0], Grant::Refused("empty".to_owned()));
    assert_eq!(needs, [Need::Block(key("spare"))]);
    assert_eq!(world.granted(&needs[0], Grant::Refused("empty".to_owned())), []);
    let verdict = world.verdicts.lock().unwrap().pop().unwrap();
    assert!(verdict.no_address && !verdict.refusal.is_empty());
    let unknown = world.admit(ask(2, "nowhere", "ue1"));
    assert_eq!(unknown.refusal, "there is no wsg-service nowhere in context isp");
    assert!(!unknown.no_address);
    assert_eq!(
        world.admit(ask(3, "unbound", "ue1")).refusal,
        "wsg-service unbound is not bound"
    );
    assert_eq!(world.counters.get(counted::REJECTED), 3);
    assert_eq!(world.state.sessions.len(), 0);
}

#[test]
fn one_family_is_enough() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 4);
    let needs = world.arrive(vec![Admission {
        wants_ipv6: true,
        ..ask(1, "host", "ue1")
    }]);
    assert_eq!(needs, [Need::Block(key("v6"))]);
    world.granted(&needs[0], Grant::Refused("empty".to_owned()));
    let verdict = world.verdicts.lock().unwrap().pop().unwrap();
    assert_eq!(
        (verdict.ipv4.len(), verdict.ipv6.len(), verdict.refusal.as_str()),
        (4, 0, "")
    );
}

#[test]
fn released_addresses_are_given_again_and_spare_blocks_return() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 2);
    let first = world.admit(ask(1, "host", "ue1")).ipv4;
    world.admit(ask(2, "host", "ue2"));
    world.release(1, 2);
    assert_eq!(world.admit(ask(3, "host", "ue3")).ipv4, first);
    world.stock("v4", "10.30.0.32", 8);
    world.stock("v4", "10.30.0.40", 8);
    world.pass(1);
    let returned: Vec<Errand> = std::mem::take(&mut world.state.errands);
    assert_eq!(returned, [], "one idle block is not many");
    world.stock("v4", "10.30.0.48", 8);
    world.pass(1);
    let back = Errand::GiveBack {
        context: 2,
        pool: "v4".to_owned(),
        first: ip("10.30.0.32"),
    };
    assert_eq!(world.state.errands, [back]);
}

#[test]
fn pools_have_gauges_of_what_sessions_use() {
    let mut world = World::new(|context| {
        if let Some(pool) = context.ipv4_pools.get_mut("v4") {
            pool.hold_timer = 60;
        }
    });
    let levels = |world: &World| {
        let page = world.counters.scoped(&Scope::pool("isp", "v4")).unwrap();
        (page.get(ippool::USED), page.get(ippool::HOLD))
    };
    world.stock("v4", "10.0.0.0", 64);
    world.pass(1);
    assert_eq!(levels(&world), (0, 0), "what is leased is not used");
    for ike_spi in 1..=3 {
        let identity = format!("ue{ike_spi}");
        assert_eq!(world.admit(ask(ike_spi, "host", &identity)).refusal, "");
    }
    world.release(1, 2);
    world.pass(1);
    assert_eq!(levels(&world), (2, 1));
    world.pass(60);
    assert_eq!(levels(&world), (2, 0));
}

#[test]
fn an_address_of_aaa_is_given_once() {
    let mut world = World::new(|_| ());
    world.stock("v4", "10.30.0.1", 8);
    assert_eq!(
        world.admit(chosen(ask(1, "host", "ue1"), [10, 30, 0, 5])).ipv4,
        [10, 30, 0, 5]
    );
    let again = world.admit(chosen(ask(2, "host", "ue2"), [10, 30, 0, 5]));
    assert_eq!(again.refusal, "address 10.30.0.5 is in use");
    // Outside our blocks: vpnmgr decides.
    let need = Need::Address(2, ip("10.30.0.77"));
    assert_eq!(
        world.arrive(vec![chosen(ask(3, "host", "ue3"), [10, 30, 0, 77])]),
        std::slice::from_ref(&need)
    );
    assert_eq!(
        world.arrive(vec![chosen(ask(4, "host", "ue4"), [10, 30, 0, 77])]),
        [],
        "asked already"
    );
    world.granted(&need, Grant::Given);
    let verdicts = std::mem::take(&mut *world.verdicts.lock().unwrap());
    assert_eq!(verdicts[0].ipv4, [10, 30, 0, 77]);
    assert!(verdicts[1].no_address, "{verdicts:?}");
    world.arrive(vec![chosen(ask(5, "host", "ue5"), [10, 30, 0, 78])]);
    world.granted(
        &Need::Address(2, ip("10.30.0.78")),
        Grant::Refused("taken".to_owned()),
    );
    assert!(
        world.verdicts.lock().unwrap()[0]
            .refusal
            .ends_with("is refused: taken")
    );
    world.state.errands.clear();
    world.release(3, 2);
    let back = Errand::GiveBack {
        context: 2,
        pool: String::new(),
        first: ip("10.30.0.77"),
    };
    assert_eq!(world.state.errands, [back]);
    // 255.255.255.254 leaves the choice to us (RFC 2865 section 5.8).
    assert_eq!(
        world
            .admit(chosen(ask(6, "host", "ue6"), [255, 255, 255, 254]))
            .ipv4,
        [10, 30, 0, 1]
    );
}

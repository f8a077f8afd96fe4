//! Processes that are killed, and starts that are refused.

use system_tests::node::binary;
use system_tests::process::{eventually, kill, run_in};
use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer, try_run_in};

#[test]
fn any_process_but_sit_comes_back_and_new_tunnels_come_up() {
    if !real_peer("kill-each", PROGRAMS) {
        return;
    }
    let world = World::new("kill-each");
    let connection = Connection::default();
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    let facilities = [
        "sct", "rmctrl", "vpnmgr", "sessmgr", "aaamgr", "certmgr", "bulkstat", "snmp", "iftask", "ipsecmgr",
    ];
    for (count, facility) in facilities.iter().enumerate() {
        let before = node.pids(facility);
        let others: Vec<u32> = facilities
            .iter()
            .filter(|other| *other != facility)
            .flat_map(|other| node.pids(other))
            .collect();
        assert!(
            !before.is_empty(),
            "no {facility} in the task table:\n{}",
            node.cli("show task table")
        );
        kill(before[0]);
        eventually(&format!("{facility} to come back"), || {
            let (ok, _) = node.try_cli(&["show task table"]);
            let now = if ok { node.pids(facility) } else { Vec::new() };
            (now.len() == before.len() && !now.contains(&before[0])).then_some(())
        });
        let after: Vec<u32> = facilities
            .iter()
            .filter(|other| *other != facility)
            .flat_map(|other| node.pids(other))
            .collect();
        assert_eq!(others, after, "killing {facility} stopped another process");
        let crashes = node.cli("show crash list");
        assert!(
            crashes.contains(facility) && crashes.contains(&format!("Total Crashes : {}", count + 1)),
            "the crash of {facility} is not listed:\n{crashes}"
        );
        let (ok, text) = peer.swanctl(&["--initiate", "--child", "net", "--timeout", "10"]);
        assert!(ok, "no tunnel after {facility} came back: {text}\n{}", node.log());
        both_ways(&world, "10.20.1.1", "10.20.2.1", 1_000, 1);
        let _ = peer.swanctl(&["--terminate", "--ike", "gw", "--timeout", "5"]);
    }
}

/// Somebody deletes the device of the tunnels: it is made again, with the routes of tunnels that are up.
#[test]
fn tunnels_outlive_their_device() {
    if !real_peer("deleted-tun", PROGRAMS) {
        return;
    }
    let world = World::new("deleted-tun");
    let connection = Connection::default();
    let _node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    both_ways(&world, "10.20.1.1", "10.20.2.1", 1_000, 1);
    let before = peer.spis();
    run_in(&world.node(), &["ip", "link", "delete", "starward1"]);
    let route = ["ip", "route", "show", "table", "4500", "dev", "starward1"];
    eventually("the route to be back", || {
        let (_, routes) = try_run_in(&world.node(), &route, &[]);
        routes.contains("10.20.1.1").then_some(())
    });
    eventually("packets to cross again", || {
        let ping = ["ping", "-c", "1", "-W", "1", "-I", "10.20.2.1", "10.20.1.1"];
        try_run_in(&world.host(), &ping, &[]).0.then_some(())
    });
    both_ways(&world, "10.20.1.1", "10.20.2.1", 1_000, 1);
    assert_eq!(peer.spis(), before, "it is the same tunnel");
}

#[test]
fn pre_shared_key_tunnels_do_not_need_certmgr_or_aaamgr() {
    if !real_peer("without-certmgr-and-aaamgr", PROGRAMS) {
        return;
    }
    let world = World::new("without-certmgr-and-aaamgr");
    let connection = Connection::default();
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    for facility in ["certmgr", "aaamgr"] {
        for pid in node.pids(facility) {
            let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
            assert!(nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).is_ok());
        }
    }
    peer.initiate("net");
    both_ways(&world, "10.20.1.1", "10.20.2.1", 10_000, 2);
    for facility in ["certmgr", "aaamgr"] {
        for pid in node.pids(facility) {
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(pid.cast_signed()),
                nix::sys::signal::Signal::SIGCONT,
            );
        }
    }
}

#[test]
fn a_killed_iftask_carries_on_with_its_tunnels() {
    if !real_peer("kill-iftask", PROGRAMS) {
        return;
    }
    let world = World::new("kill-iftask");
    let connection = Connection::default();
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    let before = node.spis();
    both_ways(&world, "10.20.1.1", "10.20.2.1", 10_000, 1);
    for pid in node.pids("iftask") {
        kill(pid);
    }
    both_ways(&world, "10.20.1.1", "10.20.2.1", 10_000, 1);
    assert_eq!(node.spis(), before, "the tunnel was set up anew");
}

#[test]
fn a_stopping_node_deletes_its_tunnels() {
    if !real_peer("drain", PROGRAMS) {
        return;
    }
    let world = World::new("drain");
    let connection = Connection::default();
    let mut node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    node.process().signal(nix::sys::signal::Signal::SIGTERM);
    let status = node.process().wait();
    assert!(
        status.is_some_and(|status| status.success()),
        "the node did not stop cleanly: {status:?}\n{}",
        node.log()
    );
    eventually("the peer to have no SA", || peer.spis().is_empty().then_some(()));
    assert!(
        peer.log().contains("received DELETE for IKE_SA"),
        "the peer received no delete:\n{}",
        peer.log()
    );
}

#[test]
fn a_second_node_on_the_same_run_directory_is_refused() {
    if !real_peer("second-node", &["ip"]) {
        return;
    }
    let world = World::new("second-node");
    let node = Node::start(&world, &Connection::default().configuration());
    let run_dir = node.run_dir().to_string_lossy().into_owned();
    let file = world.folder().join("node.cfg").to_string_lossy().into_owned();
    let state = world.folder().join("state2").to_string_lossy().into_owned();
    let (ok, text) = try_run_in(
        &world.node(),
        &[
            &binary(),
            "run",
            "--config",
            &file,
            "--run-dir",
            &run_dir,
            "--state-dir",
            &state,
        ],
        &[],
    );
    assert!(!ok, "a second node started");
    assert!(
        text.contains("already") && text.lines().count() <= 2,
        "not one clear line: {text}"
    );
    node.cli("show version");
}

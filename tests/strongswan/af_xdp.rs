//! Ports whose packets come and go by AF_XDP: ESP, and those of a host behind the node. Of strongSwan's ESP nothing else differs.

use std::path::Path;

use netio::{Namespace, XdpPort};
use system_tests::capture::Capture;
use system_tests::node::number_of;
use system_tests::process::eventually;
use system_tests::traffic::{Stream, tcp_both_ways};
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer, run_in, try_run_in};

use crate::common::{Scene, scene};
use system_tests::strongswan::PROGRAMS;

const PEER: &str = "10.20.1.1";
const HOST: &str = "10.20.2.1";
const STATISTICS: &str = "show iftask statistics";
const BY_AF_XDP: &str = "vran in context local               : AF_XDP by the driver, queues 0";
const BY_SOCKETS: &str = "vran in context local               : sockets: ";

/// With one worker, whose the only queue of the device is.
fn connection() -> Connection {
    Connection {
        our_global: "task facility ipsecmgr task-count 1\nport ethernet 1/10\naf-xdp\n#exit\n".to_owned(),
        ..Connection::default()
    }
}

impl Scene {
    /// A number of the data plane of worker 1, in its life.
    fn statistic(&self, label: &str) -> u64 {
        let text = self.node.cli(STATISTICS);
        number_of(&text, label).unwrap_or_else(|| panic!("no number '{label}':\n{text}"))
    }

    /// Packets that worker 1 received and sent by AF_XDP.
    fn by_af_xdp(&self) -> [u64; 2] {
        ["received", "sent"].map(|way| self.statistic(&format!("Packets {way} by AF_XDP")))
    }
}

/// `is_alone`: worker 1 is the only one.
fn carries(connection: &Connection, name: &str, is_alone: bool) {
    let Some(scene) = scene(name, connection) else {
        return;
    };
    let capture = Capture::start(&scene.world);
    scene
        .node
        .eventually(STATISTICS, "AF_XDP", |text| text.contains(BY_AF_XDP));
    scene.peer.initiate("net");
    scene.same_spis();
    run_in(
        &scene.world.peer(),
        &["ping", "-c", "3", "-i", "0.2", "-I", PEER, HOST],
    );
    both_ways(&scene.world, PEER, HOST, 10_000, 3);
    tcp_both_ways(&scene.world, PEER, HOST);
    capture.stop().only_ike_and_esp();
    let [received, sent] = scene.by_af_xdp();
    assert!(received >= 30_000, "{received} by AF_XDP");
    if is_alone {
        // The kernel has what left before the way to the peer was known.
        let all = ["received", "sent"].map(|way| scene.statistic(&format!("ESP packets {way}")));
        assert!(
            sent + 100 >= all[1] && received >= all[0],
            "{received} and {sent} of {all:?}"
        );
    }
    for cause in ["bad outer header", "receive ring full"] {
        let lost = scene.statistic(&format!("AF_XDP, {cause}"));
        assert_eq!(lost, 0, "{cause}");
    }
}

#[test]
fn a_tunnel_carries_packets_by_af_xdp() {
    carries(&connection(), "af-xdp", true);
}

#[test]
fn a_tunnel_over_ipv6_carries_packets_by_af_xdp() {
    let connection = Connection {
        outer: "fd10::1",
        our_outer: "fd10::2",
        ..connection()
    };
    carries(&connection, "af-xdp-ipv6", true);
}

/// The tunnel may belong to a worker without a queue: it gets the packets from the other, and sends by its socket.
#[test]
fn a_device_may_have_fewer_queues_than_workers() {
    let connection = Connection {
        our_global: "port ethernet 1/10\naf-xdp\n#exit\n".to_owned(),
        ..connection()
    };
    carries(&connection, "af-xdp-workers", false);
}

#[test]
fn a_killed_iftask_carries_on_by_af_xdp() {
    const SECONDS: u32 = 8;
    const KILLS: usize = 5;
    let Some(scene) = scene("af-xdp-kill-iftask", &connection()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, PEER, HOST, 1_000, 2);
    let stream = Stream::start(&scene.world, PEER, HOST, 7000, 10_000, SECONDS);
    for _ in 0..KILLS {
        scene.node.kill(&["iftask"]);
        scene
            .node
            .eventually(STATISTICS, "AF_XDP in the next life", |text| {
                text.contains(BY_AF_XDP)
            });
    }
    let reports = stream.finish();
    eprintln!("during {KILLS} kills: {reports:?}");
    for report in &reports {
        assert_eq!(report.duplicates, 0, "packets came twice: {reports:?}");
        assert!(report.received > report.sent / 2, "{reports:?}");
    }
    // Fewer than there are frames: none is lost however late this process has its turn.
    both_ways(&scene.world, PEER, HOST, 1_000, 3);
    scene.same_spis();
    // Of this life alone: it works as the first did.
    let [received, sent] = scene.by_af_xdp();
    assert!(
        received >= 3_000 && sent >= 2_900,
        "{received} and {sent} by AF_XDP"
    );
}

/// Somebody else's program is on the device: sockets do it, until it is gone.
#[test]
fn a_port_that_cannot_do_af_xdp_works_with_sockets() {
    if !real_peer("af-xdp-fall-back", PROGRAMS) {
        return;
    }
    let world = World::new("af-xdp-fall-back");
    let namespace = Namespace::open(&Path::new("/run/netns").join(world.node())).unwrap();
    let other = namespace.run(|| XdpPort::open("vran", 1)).unwrap().unwrap();
    let node = Node::start(&world, &connection().configuration());
    let peer = Strongswan::start(&world, &connection().swanctl(), "");
    peer.load();
    let scene = Scene { peer, node, world };
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, PEER, HOST, 1_000, 2);
    let text = scene.node.cli(STATISTICS);
    assert!(text.contains(BY_SOCKETS) && text.contains("busy"), "{text}");
    assert_eq!(scene.by_af_xdp(), [0, 0]);
    scene.node.logged(&["device vran is used without AF_XDP"]);

    drop(other);
    scene
        .node
        .eventually(STATISTICS, "AF_XDP", |text| text.contains(BY_AF_XDP));
    both_ways(&scene.world, PEER, HOST, 1_000, 2);
    assert!(
        scene.by_af_xdp().iter().all(|count| *count > 1_000),
        "{:?}",
        scene.by_af_xdp()
    );

    // And back, by configuration.
    let lines = ["configure", "port ethernet 1/10", "no af-xdp", "end"];
    let (ok, text) = scene.node.try_cli(&lines);
    assert!(ok, "{text}");
    scene
        .node
        .eventually(STATISTICS, "no AF_XDP", |text| !text.contains("vran in context"));
    let before = scene.by_af_xdp();
    both_ways(&scene.world, PEER, HOST, 1_000, 2);
    assert_eq!(scene.by_af_xdp(), before);
}

/// Lines for one worker, whose the only queues are, and for `af-xdp` at ports.
fn ports(numbers: &[u32]) -> Connection {
    let ports = numbers.iter();
    let ports = ports.map(|number| format!("port ethernet 1/{number}\naf-xdp\n#exit\n"));
    Connection {
        our_global: format!(
            "task facility ipsecmgr task-count 1\n{}",
            ports.collect::<String>()
        ),
        ..Connection::default()
    }
}

/// The clear side by AF_XDP: what a host sends and gets, alone or with the encrypted side.
fn reaches_a_host(numbers: &[u32], name: &str) {
    let Some(scene) = scene(name, &ports(numbers)) else {
        return;
    };
    scene.node.eventually(STATISTICS, "AF_XDP", |text| {
        text.contains("vcore in context local              : AF_XDP by the driver, queues 0")
    });
    scene.peer.initiate("net");
    scene.same_spis();
    let ping = |arguments: &[&str]| {
        let command = [&["ping", "-W", "5", "-i", "0.2"], arguments].concat();
        try_run_in(&scene.world.host(), &command, &[])
    };
    assert!(ping(&["-c", "3", PEER]).0);
    // The node is a hop, and says so when it is the last.
    let (ok, text) = ping(&["-c", "1", "-t", "1", PEER]);
    assert!(!ok && text.contains("Time to live exceeded"), "{text}");
    assert!(ping(&["-c", "1", "-t", "2", PEER]).0);
    let clear =
        || ["delivered", "to be sent"].map(|what| scene.statistic(&format!("Packets {what} by AF_XDP")));
    both_ways(&scene.world, PEER, HOST, 10_000, 3);
    tcp_both_ways(&scene.world, PEER, HOST);
    let before = clear();
    assert!(before.iter().all(|count| *count > 35_000), "{before:?}");

    // The host gets another card.
    run_in(
        &scene.world.host(),
        &["ip", "link", "set", "vcore", "address", "02:00:00:00:00:0c"],
    );
    eventually("the way to the new card", || {
        ping(&["-c", "3", PEER]).0.then_some(())
    });
    both_ways(&scene.world, PEER, HOST, 1_000, 2);
    assert!(
        clear()
            .iter()
            .zip(before)
            .all(|(now, before)| *now > before + 1_500)
    );

    // And the data plane another life.
    let stream = Stream::start(&scene.world, PEER, HOST, 7000, 5_000, 4);
    scene.node.kill(&["iftask"]);
    scene
        .node
        .eventually(STATISTICS, "AF_XDP in the next life", |text| {
            text.contains("vcore in context local              : AF_XDP by the driver, queues 0")
        });
    let reports = stream.finish();
    for report in &reports {
        assert_eq!(report.duplicates, 0, "packets came twice: {reports:?}");
        assert!(report.received > report.sent / 2, "{reports:?}");
    }
    both_ways(&scene.world, PEER, HOST, 1_000, 2);
    scene.same_spis();
    assert!(clear().iter().all(|count| *count >= 1_900), "{:?}", clear());
    for cause in ["bad outer header", "bad header", "receive ring full"] {
        assert_eq!(scene.statistic(&format!("AF_XDP, {cause}")), 0, "{cause}");
    }
}

#[test]
fn a_host_behind_the_node_is_reached_by_af_xdp() {
    reaches_a_host(&[11], "af-xdp-clear");
}

#[test]
fn both_sides_go_by_af_xdp() {
    reaches_a_host(&[10, 11], "af-xdp-both");
}

//! What carries tunnels, admits peers or reports on them never enters a tunnel, whatever a peer says is behind it.

#![expect(clippy::expect_used, reason = "a test fails by panicking")]

use std::net::UdpSocket;
use std::time::Duration;

use nix::sys::signal::Signal;
use system_tests::process::{eventually, kill};
use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer, run_in, try_run_in};

use crate::common::{Scene, scene};

const RATE: u32 = 5_000;
const SECONDS: u32 = 2;
/// Lets charon itself keep its own packets out of its tunnels.
const MARKED: &str = "  plugins { kernel-netlink { fwmark = !0x42 }\n socket-default { fwmark = 0x42 }\n kernel-libipsec { allow_peer_ts = yes } }\n";
/// Both are what this thief says is behind it.
const RADIUS: &str = "10.20.2.9";
const VICTIM: &str = "10.10.0.3";

/// strongSwan's default selector, `dynamic`, is the peer's own outer address.
#[test]
fn a_peers_outer_address_may_be_behind_it() {
    let connection = Connection {
        local_ts: "10.10.0.1/32",
        more: "    dpd_delay = 1s\n".to_owned(),
        ..Connection::default()
    };
    let Some(mut scene) = scene("own-outer-address", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    carried(&scene, "10.10.0.1");
    answers(&scene.peer);

    scene.node.pids("vpnmgr").into_iter().for_each(kill);
    carried(&scene, "10.10.0.1");
    scene
        .node
        .eventually("show ip route", "the route of the tunnel", |text| {
            text.contains("10.10.0.1/32") && text.contains("tunnel")
        });
    answers(&scene.peer);

    // What is not the node's goes with it.
    scene.node.process().signal(Signal::SIGTERM);
    let status = scene.node.process().wait();
    assert!(
        status.is_some_and(|status| status.success()),
        "{}",
        scene.node.log()
    );
    for family in ["-4", "-6"] {
        let left = run_in(&scene.world.node(), &["ip", family, "rule"])
            + &run_in(
                &scene.world.node(),
                &["ip", family, "route", "show", "table", "all"],
            );
        assert!(!left.contains("4500"), "the node left:\n{left}");
    }
}

#[test]
fn everything_may_be_on_our_side() {
    let connection = Connection {
        local_ts: "10.10.0.1/32",
        remote_ts: "0.0.0.0/0",
        more: "    dpd_delay = 1s\n".to_owned(),
        ..Connection::default()
    };
    if !real_peer("everything-on-our-side", PROGRAMS) {
        return;
    }
    let world = World::new("everything-on-our-side");
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), MARKED);
    peer.load();
    let scene = Scene { peer, node, world };
    scene.peer.initiate("net");
    scene.same_spis();
    carried(&scene, "10.10.0.1");
    answers(&scene.peer);
    // Also to the gateway itself, at the very address the tunnel ends at.
    let ping = ["ping", "-c", "3", "-i", "0.2", "-I", "10.10.0.1", "10.10.0.2"];
    let (ok, text) = try_run_in(&scene.world.peer(), &ping, &[]);
    assert!(ok, "{text}");
    carried(&scene, "10.10.0.1");
}

#[test]
fn everything_may_be_behind_a_peer() {
    let connection = Connection {
        local_ts: "0.0.0.0/0",
        more: "    dpd_delay = 1s\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("everything-behind-a-peer", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    scene
        .node
        .eventually("show ip route", "the route of the tunnel", |text| {
            text.lines()
                .any(|line| line.contains("0.0.0.0/0") && line.contains("SPI"))
        });
    carried(&scene, "10.20.1.1");
    answers(&scene.peer);
}

#[test]
fn a_peer_cannot_take_the_way_to_radius_or_to_another_peer() {
    if !real_peer("thief", PROGRAMS) {
        return;
    }
    let world = World::new("thief");
    let connection = Connection {
        outer: VICTIM,
        more: "    dpd_delay = 1s\n".to_owned(),
        our_context: format!("radius accounting server {RADIUS} key secret port 1813\n"),
        ..Connection::default()
    };
    for (namespace, address, device) in [
        (world.peer(), "10.10.0.3/24", "vran"),
        (world.peer(), "10.20.2.9/32", "lo"),
        (world.host(), "10.20.2.9/24", "vcore"),
    ] {
        run_in(&namespace, &["ip", "addr", "add", address, "dev", device]);
    }
    let radius = listen(&world);
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &with_thief(&connection), "");
    peer.load();
    peer.initiate("thief");
    node.eventually("show ip route", "the routes to the thief", |text| {
        [VICTIM, RADIUS]
            .iter()
            .all(|address| text.contains(&format!("{address}/32")))
    });
    peer.initiate("net");
    let scene = Scene { peer, node, world };
    scene.same_spis();
    carried(&scene, "10.20.1.1");
    answers(&scene.peer);

    let mut buffer = [0; 4096];
    eventually("accounting of the other peer", || {
        let length = radius.recv(&mut buffer).ok()?;
        let name = b"victim.test";
        buffer[..length]
            .windows(name.len())
            .any(|part| part == name)
            .then_some(())
    });
}

/// Fails the scenario unless a stream passes, and little else does.
fn carried(scene: &Scene, peer: &str) {
    let before = through_tun(&scene.world);
    let [end, other] = both_ways(&scene.world, peer, "10.20.2.1", RATE, SECONDS);
    let packets = through_tun(&scene.world) - before;
    let most = end.sent + other.sent + 100;
    assert!(
        packets <= most,
        "{packets} packets went through the device of the tunnels, not {most}"
    );
}

/// Packets that went through the device of the node's tunnels, either way.
fn through_tun(world: &World) -> u64 {
    let directory = "/sys/class/net/starward1/statistics";
    let text = run_in(
        &world.node(),
        &[
            "cat",
            &format!("{directory}/rx_packets"),
            &format!("{directory}/tx_packets"),
        ],
    );
    text.lines().filter_map(|line| line.parse::<u64>().ok()).sum()
}

/// Waits until the peer's liveness checks have been answered twice more.
fn answers(peer: &Strongswan) {
    let count = || peer.log().matches("parsed INFORMATIONAL response").count();
    let before = count();
    eventually("answers to liveness checks", || {
        (count() >= before + 2).then_some(())
    });
}

/// A swanctl.conf with the connection, as `victim.test`, and with a thief.
fn with_thief(connection: &Connection) -> String {
    let thief = Connection {
        outer: "10.10.0.1",
        local_ts: "10.10.0.3/32,10.20.2.9/32",
        remote_ts: "10.20.3.0/24",
        ..Connection::default()
    };
    let thief = thief
        .swanctl()
        .replace("  gw {", "  thief {")
        .replace("      net {", "      thief {");
    connection.swanctl().replace("peer.test", "victim.test") + &thief.replace("peer.test", "thief.test")
}

/// Where accounting requests arrive: nobody answers them.
fn listen(world: &World) -> UdpSocket {
    let namespace = std::fs::File::open(format!("/run/netns/{}", world.host())).expect("namespace");
    let open = move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
        UdpSocket::bind((RADIUS, 1813)).expect("bind")
    };
    let socket = std::thread::spawn(open).join().expect("socket");
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .expect("time limit");
    socket
}

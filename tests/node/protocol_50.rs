//! ESP as IP protocol 50, between the node and our simulator: strongSwan's user-space ESP knows UDP only.

use std::collections::BTreeSet;
use std::time::Duration;

use system_tests::capture::{Capture, Recorded};
use system_tests::process::kill;
use system_tests::simulator::INNER;
use system_tests::traffic::{Stream, nothing_lost, tcp_both_ways};
use system_tests::{Connection, Node, Simulator, World, both_ways, real_peer, run_in, try_run_in};

const PROGRAMS: &[&str] = &["tcpdump", "ip", "ping", "iperf3"];
const HOST: &str = "10.20.2.1";
/// ESP in either family.
const PROTOCOL_50: &str = "(ip proto 50 or ip6 proto 50)";
/// An Ethernet header more than 1500 bytes.
const FULL_FRAME: usize = 1514;

/// The outside of a scenario.
#[derive(Clone, Copy)]
struct Outside {
    name: &'static str,
    peer: &'static str,
    node: &'static str,
    /// The longest inner packet that fits into 1500 bytes, with AES-GCM: 1500 less IP header, 8 + 8 in front, 2 + 16 behind, rounded to 4 bytes.
    fits: usize,
}

const IPV4: Outside = Outside {
    name: "ipv4",
    peer: "10.10.0.1",
    node: "10.10.0.2",
    fits: 1446,
};
const IPV6: Outside = Outside {
    name: "ipv6",
    peer: "fd10::1",
    node: "fd10::2",
    fits: 1426,
};

struct Scene {
    // Dropped in this order: processes before their namespaces.
    simulator: Simulator,
    node: Node,
    capture: Capture,
    world: World,
}

/// A node and a simulator with one tunnel; `None` when the scenario has to be skipped.
fn scene(scenario: &str, outside: Outside, options: &[&str]) -> Option<Scene> {
    let scenario = format!("protocol-50-{scenario}-{}", outside.name);
    if !real_peer(&scenario, PROGRAMS) {
        return None;
    }
    let world = World::new(&scenario);
    let connection = Connection {
        our_outer: outside.node,
        // Only the path outside limits the packets inside.
        our_template: "ip mtu 2048\nipv6 mtu 2048\n".to_owned(),
        our_global: "task facility ipsecmgr task-count 2\nno crypto slot-rebalancing".to_owned(),
        ..Connection::default()
    };
    let node = Node::start(&world, &connection.configuration());
    let capture = Capture::start(&world);
    let options = [&["--encapsulation", "esp"], options].concat();
    let simulator = Simulator::start(&world, outside.peer, outside.node, &options);
    Some(Scene {
        simulator,
        node,
        capture,
        world,
    })
}

impl Scene {
    /// Fails the scenario unless node and simulator name the same SPIs; returns the node's.
    fn same_spis(&self) -> (String, String) {
        let (inbound, outbound) = self.simulator.spis();
        let ours = (outbound, inbound);
        assert_eq!(self.node.spis(), std::slice::from_ref(&ours), "the node's SPIs");
        ours
    }

    /// Sends datagrams of this size both ways that may be cut anywhere: none is lost.
    fn carries_datagrams_of(&self, octets: usize) {
        const RATE: u32 = 1_000;
        const SECONDS: u32 = 2;
        // Without path MTU discovery there is no DF.
        let no_pmtu_disc = |value: u8| {
            for namespace in [self.world.peer(), self.world.host()] {
                run_in(
                    &namespace,
                    &["sysctl", "-qw", &format!("net.ipv4.ip_no_pmtu_disc={value}")],
                );
            }
        };
        no_pmtu_disc(1);
        let stream = Stream::of_size(&self.world, INNER, HOST, 7000, RATE, SECONDS, octets);
        nothing_lost(&stream.finish(), RATE, SECONDS);
        no_pmtu_disc(0);
    }
}

/// The SPIs on the wire are these, and no other.
fn on_the_wire(recorded: &Recorded, outside: Outside, (inbound, outbound): (String, String)) {
    assert_eq!(
        recorded.spis(outside.peer),
        BTreeSet::from([inbound]),
        "to the node"
    );
    assert_eq!(
        recorded.spis(outside.node),
        BTreeSet::from([outbound]),
        "from the node"
    );
}

fn carries(outside: Outside) {
    let Some(scene) = scene("stream", outside, &[]) else {
        return;
    };
    let spis = scene.same_spis();
    both_ways(&scene.world, INNER, HOST, 10_000, 3);
    assert_eq!(scene.same_spis(), spis, "the tunnel was set up anew");
    let recorded = scene.capture.stop();
    recorded.only_ike_and_protocol_50();
    let [peer, node] = [outside.peer, outside.node]
        .map(|source| recorded.count(&format!("src host {source} and {PROTOCOL_50}")));
    assert!(
        peer >= 30_000 && node >= 30_000,
        "captured {peer} packets to the node and {node} from it"
    );
    on_the_wire(&recorded, outside, spis);
}

#[test]
fn a_stream_crosses_over_ipv4() {
    carries(IPV4);
}

#[test]
fn a_stream_crosses_over_ipv6() {
    carries(IPV6);
}

/// Datagrams beyond the MTU, which both ends have to cut before they encrypt, and then pings that may not be cut.
fn carries_large_packets(outside: Outside) {
    let Some(scene) = scene("large", outside, &[]) else {
        return;
    };
    let spis = scene.same_spis();
    for size in [1400, 3000] {
        scene.carries_datagrams_of(size);
    }

    // IPv4 and ICMP headers.
    let (fits, most) = (outside.fits, outside.fits - 28);
    let host = scene.world.host();
    let uncut = |size: usize| {
        let size = size.to_string();
        try_run_in(
            &host,
            &["ping", "-M", "do", "-c", "5", "-i", "0.2", "-s", &size, INNER],
            &[],
        )
    };
    let (ok, text) = uncut(most);
    assert!(ok, "{most} bytes: {text}");
    let (ok, text) = uncut(most + 1);
    assert!(!ok, "{} bytes: {text}", most + 1);
    assert!(
        text.contains(&format!("(mtu = {fits})")),
        "the node did not say how much fits: {text}"
    );
    assert!(
        text.contains("message too long") && text.contains(&format!("mtu={fits}")),
        "the host did not learn how much fits: {text}"
    );

    let recorded = scene.capture.stop();
    recorded.only_ike_and_protocol_50();
    on_the_wire(&recorded, outside, spis);
    let full = recorded.count(&format!("{PROTOCOL_50} and greater {FULL_FRAME}"));
    assert!(full >= 2, "only {full} packets fill the outer MTU");
    let cut = recorded.count("ip[6:2] & 0x3fff != 0 or ip6[6] == 44");
    assert_eq!(cut, 0, "packets were cut after encryption");
}

#[test]
fn large_packets_cross_over_ipv4() {
    carries_large_packets(IPV4);
}

#[test]
fn large_packets_cross_over_ipv6() {
    carries_large_packets(IPV6);
}

/// TCP, which the kernel hands over in super-packets: they are cut, sealed and sent one by one.
fn carries_tcp(outside: Outside) {
    let Some(scene) = scene("tcp", outside, &[]) else {
        return;
    };
    let spis = scene.same_spis();
    tcp_both_ways(&scene.world, INNER, HOST);
    let recorded = scene.capture.stop();
    recorded.only_ike_and_protocol_50();
    on_the_wire(&recorded, outside, spis);
}

#[test]
fn tcp_crosses_over_ipv4() {
    carries_tcp(IPV4);
}

#[test]
fn tcp_crosses_over_ipv6() {
    carries_tcp(IPV6);
}

/// A peer that cuts its packets after encryption: the kernel puts them together before our filter sees an SPI.
fn takes_outer_fragments(outside: Outside) {
    let Some(scene) = scene("fragments", outside, &["--mtu", "1500"]) else {
        return;
    };
    scene.carries_datagrams_of(1472);
    let recorded = scene.capture.stop();
    let cut = recorded.count(&format!(
        "src host {} and (ip[6:2] & 0x3fff != 0 or ip6[6] == 44)",
        outside.peer
    ));
    assert!(cut >= 4_000, "the peer sent {cut} fragments only");
}

#[test]
fn fragments_of_esp_are_put_together_over_ipv4() {
    takes_outer_fragments(IPV4);
}

#[test]
fn fragments_of_esp_are_put_together_over_ipv6() {
    takes_outer_fragments(IPV6);
}

/// What an `iftask` had in its hands when it was killed is lost; nothing else changes.
fn survives_its_iftask(outside: Outside) {
    const SECONDS: u32 = 6;
    let Some(scene) = scene("kill-iftask", outside, &[]) else {
        return;
    };
    let spis = scene.same_spis();
    let stream = Stream::start(&scene.world, INNER, HOST, 7000, 10_000, SECONDS);
    std::thread::sleep(Duration::from_secs(2));
    for pid in scene.node.pids("iftask") {
        kill(pid);
    }
    let reports = stream.finish();
    eprintln!("during the kill: {reports:?}");
    for report in &reports {
        assert_eq!(report.duplicates, 0, "packets came twice: {reports:?}");
        assert!(
            report.received > report.sent / 2,
            "the stream did not go on after the kill: {reports:?}"
        );
    }
    let crashes = scene.node.cli("show crash list");
    assert!(crashes.contains("iftask"), "no crash is listed:\n{crashes}");
    both_ways(&scene.world, INNER, HOST, 10_000, 2);
    assert_eq!(scene.same_spis(), spis, "the tunnel was set up anew");
    let recorded = scene.capture.stop();
    recorded.only_ike_and_protocol_50();
    on_the_wire(&recorded, outside, spis);
}

#[test]
fn a_killed_iftask_carries_on_over_ipv4() {
    survives_its_iftask(IPV4);
}

#[test]
fn a_killed_iftask_carries_on_over_ipv6() {
    survives_its_iftask(IPV6);
}

/// The filters of two raw sockets cannot be swapped at once: still each packet is served, and once.
fn moves(outside: Outside) {
    const RATE: u32 = 5_000;
    const SECONDS: u32 = 8;
    let Some(scene) = scene("move", outside, &[]) else {
        return;
    };
    let spis = scene.same_spis();
    let slot = scene.node.slot();
    let stream = Stream::start(&scene.world, INNER, HOST, 7000, RATE, SECONDS);
    for _ in 0..8 {
        let [_, data, _] = scene.node.owners(slot);
        let to = 3 - data;
        scene
            .node
            .cli(&format!("crypto slot move {slot} to {to} data-plane"));
        assert_eq!(scene.node.owners(slot)[1], to);
    }
    nothing_lost(&stream.finish(), RATE, SECONDS);
    assert_eq!(scene.same_spis(), spis);
    on_the_wire(&scene.capture.stop(), outside, spis);
}

#[test]
fn a_slot_that_moves_loses_nothing_over_ipv4() {
    moves(IPV4);
}

#[test]
fn a_slot_that_moves_loses_nothing_over_ipv6() {
    moves(IPV6);
}

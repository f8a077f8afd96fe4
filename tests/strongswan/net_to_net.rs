//! Site to site with a pre-shared key.

use system_tests::capture::Capture;
use system_tests::{Connection, both_ways};

use crate::common::scene;

#[test]
fn a_tunnel_carries_packets_both_ways_and_nothing_leaks() {
    let Some(scene) = scene("net-to-net", &Connection::default()) else {
        return;
    };
    let capture = Capture::start(&scene.world);
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", 10_000, 3);
    capture.stop().only_ike_and_esp();

    for command in ["show service all", "show wsg-service all"] {
        scene
            .node
            .eventually(command, "a started service", |text| text.contains(" Started"));
    }
    let sas = scene.node.cli("show crypto ikev2-ikesa security-associations");
    assert!(
        sas.contains("peer.test") && sas.contains("10.10.0.1"),
        "the peer is not shown:\n{sas}"
    );
    assert_eq!(
        scene
            .node
            .number("show crypto statistics ikev2", "Current Established IKE_SA"),
        1
    );
}

#[test]
fn ike_and_esp_run_over_ipv6() {
    let connection = Connection {
        outer: "fd10::1",
        our_outer: "fd10::2",
        ..Connection::default()
    };
    let Some(scene) = scene("ike-over-ipv6", &connection) else {
        return;
    };
    let capture = Capture::start(&scene.world);
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", 10_000, 3);
    let recorded = capture.stop();
    recorded.only_ike_and_esp();
    assert!(
        recorded.count("ip6 and udp port 4500") > 30_000,
        "the stream was not carried over IPv6"
    );
}

#[test]
fn inner_ipv6_is_carried() {
    let connection = Connection {
        local_ts: "10.20.1.1/32,fd20:1::1/128",
        remote_ts: "10.20.2.0/24,fd20:2::/64",
        ..Connection::default()
    };
    let Some(scene) = scene("inner-ipv6", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, "fd20:1::1", "fd20:2::1", 10_000, 3);
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", 10_000, 3);
}

//! strongSwan sets the tunnels up.

use system_tests::capture::Capture;
use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer};

#[test]
fn net_to_net_with_pre_shared_key() {
    if !real_peer("net_to_net_with_pre_shared_key", PROGRAMS) {
        return;
    }
    let connection = Connection::default();
    let world = World::new("net-to-net");
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    let capture = Capture::start(&world);
    peer.initiate("net");

    same_spis(&node, &peer);
    both_ways(&world, "10.20.1.1", "10.20.2.1", 10_000, 3);
    capture.stop().only_ike_and_esp();
}

/// Fails the scenario unless both sides name the same pairs of ESP SPIs.
fn same_spis(node: &Node, peer: &Strongswan) {
    let theirs = peer.spis();
    assert!(!theirs.is_empty(), "the peer has no child SA: {}", peer.sas());
    let ours = node.cli("show crypto ipsec security-associations").to_lowercase();
    for (inbound, outbound) in theirs {
        assert!(
            ours.contains(&inbound),
            "the peer's inbound SPI {inbound} is not among ours:\n{ours}"
        );
        assert!(
            ours.contains(&outbound),
            "the peer's outbound SPI {outbound} is not among ours:\n{ours}"
        );
    }
}

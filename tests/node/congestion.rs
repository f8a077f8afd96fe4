//! Overload: who is connected goes on, who comes anew is refused.

use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer};

const STATISTICS: &str = "show congestion-control statistics";

/// Half of the sessions that a service is meant for are enough.
fn congestion(action: &str) -> String {
    format!(
        "congestion-control\n\
         congestion-control policy wsg-service action {action}\n\
         congestion-control threshold max-sessions-per-service-utilization 50\n\
         congestion-control threshold tolerance 0\n\
         no congestion-control threshold system-cpu-utilization\n\
         no congestion-control threshold service-control-cpu-utilization\n\
         no congestion-control threshold system-memory-utilization\n\
         no congestion-control threshold message-queue-wait-time\n"
    )
}

/// A strongSwan that can be two peers: `net`, and after it `second`.
fn two_peers(world: &World, connection: &Connection) -> Strongswan {
    let second = [
        ("  gw {", "  other {"),
        ("net {", "second {"),
        ("peer.test", "other.test"),
        ("ike-gw", "ike-other"),
    ]
    .iter()
    .fold(connection.swanctl(), |text, (from, to)| text.replace(from, to));
    let peer = Strongswan::start(world, &(connection.swanctl() + &second), "");
    peer.load();
    peer
}

fn congested(node: &Node) {
    node.eventually(STATISTICS, "the service to be congested", |text| {
        text.contains("status : Applied") && text.contains("Congested service: local wsg\n")
    });
}

/// The service is meant for two sessions, and half of them are enough.
#[test]
fn new_peers_are_refused_while_tunnels_go_on() {
    if !real_peer("congestion", PROGRAMS) {
        return;
    }
    let world = World::new("congestion");
    let connection = Connection {
        our_global: congestion("reject"),
        our_service: "deployment-mode site-to-site\nmax-sessions 2\n".to_owned(),
        ..Connection::default()
    };
    let node = Node::start(&world, &connection.configuration());
    let peer = two_peers(&world, &connection);
    peer.initiate("net");
    congested(&node);
    node.logged(&["congestion", "local wsg 50.00%", "reject"]);
    assert!(node.cli("show snmp trap history").contains("81 (Congestion)"));

    // Another peer is told so, and has no tunnel.
    let before = node.spis();
    let (ok, text) = peer.swanctl(&["--initiate", "--child", "second", "--timeout", "10"]);
    assert!(!ok, "a new peer got in: {text}");
    assert!(
        peer.log().contains("TEMP_FAIL"),
        "the peer was not told why:\n{}",
        peer.log()
    );
    assert!(node.number(STATISTICS, "New WSG Peers Rejected") > 0);
    assert_eq!(node.spis(), before, "the tunnel that was there is another");

    // Who is connected goes on: packets, new keys for either SA, liveness.
    both_ways(&world, "10.20.1.1", "10.20.2.1", 1_000, 1);
    let (ok, text) = peer.swanctl(&["--rekey", "--ike", "gw"]);
    assert!(ok, "{text}");
    let (ok, text) = peer.swanctl(&["--rekey", "--child", "net"]);
    assert!(ok, "{text}");
    node.eventually("show crypto ipsec security-associations", "new keys", |text| {
        !text.contains(&before[0].0)
    });
    both_ways(&world, "10.20.1.1", "10.20.2.1", 1_000, 1);

    // When it ends, so does the congestion, and the next peer is served.
    let (ok, text) = peer.swanctl(&["--terminate", "--ike", "gw", "--timeout", "10"]);
    assert!(ok, "{text}");
    node.eventually(STATISTICS, "the end of the congestion", |text| {
        text.contains("status : Cleared")
    });
    assert!(
        node.cli("show snmp trap history")
            .contains("82 (CongestionClear)")
    );
    let (ok, text) = peer.swanctl(&["--initiate", "--child", "second", "--timeout", "10"]);
    assert!(ok, "no tunnel after the congestion: {text}\n{}", node.log());
}

/// Another service of the node, at another address, plays the gateway that has room.
#[test]
fn new_peers_are_sent_to_another_gateway() {
    if !real_peer("redirect", PROGRAMS) {
        return;
    }
    const ANOTHER: &str = "10.10.0.3";
    let world = World::new("redirect");
    let connection = Connection {
        our_global: congestion("redirect"),
        our_context: format!("interface ran\nip address {ANOTHER} 255.255.255.0 secondary\n#exit\n"),
        our_service: format!(
            "deployment-mode site-to-site\nmax-sessions 2\npolicy overload redirect {ANOTHER}\n"
        ),
        ..Connection::default()
    };
    let configuration = connection.configuration().replace(
        "wsg-service wsg\n",
        &format!(
            "wsg-service roomy\ndeployment-mode site-to-site\nbind address {ANOTHER} crypto-template t\n#exit\nwsg-service wsg\n"
        ),
    );
    let node = Node::start(&world, &configuration);
    let peer = two_peers(&world, &connection);
    peer.initiate("net");
    congested(&node);
    assert!(node.cli("show snmp trap history").contains("81 (Congestion)"));
    let (ok, text) = peer.swanctl(&["--initiate", "--child", "second", "--timeout", "10"]);
    assert!(
        ok,
        "the peer did not get to the other gateway: {text}\n{}",
        node.log()
    );
    let sas = peer.sas();
    assert!(
        sas.contains(ANOTHER) && sas.contains(connection.our_outer),
        "{sas}"
    );
    assert_eq!(node.number(STATISTICS, "New WSG Peers Redirected"), 1);
    assert_eq!(node.number(STATISTICS, "New WSG Peers Rejected"), 0);
    // Both have what is behind us.
    both_ways(&world, "10.20.1.1", "10.20.2.1", 1_000, 1);
}

//! Many tunnels from one peer.

use std::fmt::Write as _;

use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer};

const TUNNELS: usize = 200;

#[test]
fn two_hundred_tunnels_from_one_peer() {
    if !real_peer("two-hundred", PROGRAMS) {
        return;
    }
    let world = World::new("two-hundred");
    // charon installs a child only where one of its own addresses is inside the selectors.
    let addresses: String = (0..TUNNELS)
        .map(|number| format!("addr add {}/32 dev lo\n", inner(number)))
        .collect();
    let batch = world.file("addresses", &addresses);
    system_tests::run_in(&world.peer(), &["ip", "-batch", &batch.to_string_lossy()]);
    let connection = Connection::default();
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &many(&connection), "");
    peer.load();
    for number in 0..TUNNELS {
        peer.initiate(&format!("net{number}"));
    }
    let ours = node.spis();
    let theirs = peer.spis();
    assert_eq!(
        (ours.len(), theirs.len()),
        (TUNNELS, TUNNELS),
        "not every tunnel is up on both sides"
    );
    let mut theirs: Vec<(String, String)> = theirs
        .into_iter()
        .map(|(inbound, outbound)| (outbound, inbound))
        .collect();
    let mut ours = ours;
    ours.sort();
    theirs.sort();
    assert_eq!(ours, theirs);
    for number in [0, TUNNELS / 2, TUNNELS - 1] {
        both_ways(&world, &inner(number), "10.20.2.1", 10_000, 1);
    }
    let summary = node.cli("show crypto ikev2-ikesa security-associations summary");
    assert!(
        summary.contains("200"),
        "the summary does not count them:\n{summary}"
    );
}

fn inner(number: usize) -> String {
    format!("10.40.{}.{}", number / 250, number % 250 + 1)
}

/// A swanctl.conf with a connection for each tunnel, told apart by the identity.
fn many(connection: &Connection) -> String {
    let mut text = "connections {\n".to_owned();
    for number in 0..TUNNELS {
        let _ = write!(
            text,
            "  gw{number} {{\n    version = 2\n    unique = no\n    local_addrs = {}\n    remote_addrs = {}\n    proposals = {}\n    local {{\n      auth = psk\n      \
             id = peer{number}.test\n    }}\n    remote {{\n      auth = psk\n      id = gw.test\n    }}\n    children {{\n      net{number} {{\n        \
             local_ts = {}/32\n        remote_ts = {}\n        esp_proposals = {}\n      }}\n    }}\n  }}\n",
            connection.outer,
            connection.our_outer,
            connection.ike,
            inner(number),
            connection.remote_ts,
            connection.esp
        );
    }
    text.push_str("}\n");
    let _ = write!(
        text,
        "secrets {{\n  ike-gw {{\n    id = gw.test\n    secret = \"{}\"\n  }}\n}}\n",
        connection.secret
    );
    text
}

//! Dead peer detection.

use nix::sys::signal::Signal;
use system_tests::Connection;
use system_tests::node::number;
use system_tests::process::eventually;

use crate::common::scene;

#[test]
fn we_answer_the_peers_liveness_checks() {
    let connection = Connection {
        more: "    dpd_delay = 1s\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("peer-checks", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    eventually("three liveness checks of the peer", || {
        (scene
            .peer
            .log()
            .matches("generating INFORMATIONAL request")
            .count()
            >= 3)
            .then_some(())
    });
    scene.same_spis();
    let received = scene
        .node
        .number("show crypto statistics ikev2", "Total DPD Requests Received");
    assert!(received >= 2, "DPD requests counted: {received}");
}

#[test]
fn a_dead_peer_is_noticed_and_its_tunnel_removed() {
    let connection = Connection {
        our_template: "keepalive interval 2 timeout 1 num-retry 2\n".to_owned(),
        ..Connection::default()
    };
    let Some(mut scene) = scene("dead-peer", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    scene.node.eventually(
        "show crypto statistics ikev2",
        "a liveness check sent and answered",
        |text| number(text, "Total DPD Replies Received").is_some_and(|count| count > 0),
    );
    scene.peer.process().signal(Signal::SIGKILL);
    scene.node.eventually(
        "show crypto ikev2-ikesa security-associations",
        "no IKE SA",
        |text| !text.contains("peer.test"),
    );
    scene
        .node
        .logged(&["10.10.0.1", "does not answer, tunnel removed"]);
}

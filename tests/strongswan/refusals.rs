//! Peers that must not get in, and what the operator is told.

use system_tests::Connection;

use crate::common::scene;

#[test]
fn a_wrong_key_fails_authentication() {
    let connection = Connection {
        secret: "wrong horse",
        ..Connection::default()
    };
    let Some(scene) = scene("wrong-psk", &connection) else {
        return;
    };
    let (ok, text) = scene
        .peer
        .swanctl(&["--initiate", "--child", "net", "--timeout", "10"]);
    assert!(!ok, "a peer with a wrong key got in: {text}");
    assert!(
        scene.peer.log().contains("AUTH_FAILED"),
        "the peer was not told why:\n{}",
        scene.peer.log()
    );
    scene.node.logged(&["peer.test", "authentication"]);
    scene.no_sa();
}

#[test]
fn no_common_ike_proposal_is_refused_and_the_difference_is_named() {
    let connection = Connection {
        ike: "aes256-sha384-prfsha384-ecp384",
        ..Connection::default()
    };
    let Some(scene) = scene("no-ike-proposal", &connection) else {
        return;
    };
    let (ok, text) = scene
        .peer
        .swanctl(&["--initiate", "--child", "net", "--timeout", "10"]);
    assert!(!ok, "a peer without a common proposal got in: {text}");
    assert!(
        scene.peer.log().contains("NO_PROP"),
        "the peer was not told why:\n{}",
        scene.peer.log()
    );
    scene
        .node
        .logged(&["10.10.0.1", "NO_PROPOSAL_CHOSEN", "encryption"]);
    scene.no_sa();
}

#[test]
fn no_common_esp_proposal_is_refused_and_the_difference_is_named() {
    let connection = Connection {
        esp: "aes256-sha512",
        ..Connection::default()
    };
    let Some(scene) = scene("no-esp-proposal", &connection) else {
        return;
    };
    let (ok, text) = scene
        .peer
        .swanctl(&["--initiate", "--child", "net", "--timeout", "10"]);
    assert!(!ok, "a child without a common proposal was set up: {text}");
    assert!(
        scene.peer.log().contains("NO_PROP"),
        "the peer was not told why:\n{}",
        scene.peer.log()
    );
    scene
        .node
        .logged(&["10.10.0.1", "NO_PROPOSAL_CHOSEN", "encryption"]);
    assert!(scene.node.spis().is_empty(), "we have a child SA");
}

#[test]
fn another_group_first_is_answered_with_ours() {
    let connection = Connection {
        ike: "aes128gcm16-prfsha256-ecp256-curve25519",
        ..Connection::default()
    };
    let Some(scene) = scene("invalid-ke", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    assert!(
        scene.peer.log().contains("INVAL_KE"),
        "no INVALID_KE_PAYLOAD was needed:\n{}",
        scene.peer.log()
    );
    scene.same_spis();
}

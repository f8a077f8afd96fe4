//! Rekeying while packets flow: nothing is lost.

use std::time::Duration;

use system_tests::traffic::{Stream, nothing_lost};
use system_tests::{Connection, strongswan};

use crate::common::{Scene, scene};

const RATE: u32 = 10_000;
const SECONDS: u32 = 6;

/// Runs a stream while `rekey` happens in its middle; afterwards both sides have the same SPIs, which are not the old ones if `fresh`.
fn loses_nothing(scene: &Scene, fresh: bool, rekey: impl Fn(&Scene)) {
    scene.peer.initiate("net");
    scene.same_spis();
    let before = scene.node.spis();
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, SECONDS);
    std::thread::sleep(Duration::from_secs(2));
    rekey(scene);
    nothing_lost(&stream.finish(Duration::from_secs(30)), RATE, SECONDS);
    scene.same_spis();
    assert_eq!(
        scene.node.spis() != before,
        fresh,
        "SPIs before {before:?}, after {:?}",
        scene.node.spis()
    );
}

fn swanctl(peer: &strongswan::Strongswan, arguments: &[&str]) {
    let (ok, text) = peer.swanctl(arguments);
    assert!(ok, "swanctl {arguments:?}: {text}");
}

#[test]
fn the_peer_rekeys_the_child() {
    let connection = Connection {
        our_payload: "rekey\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("peer-rekeys-child", &connection) else {
        return;
    };
    loses_nothing(&scene, true, |scene| {
        swanctl(&scene.peer, &["--rekey", "--child", "net"])
    });
}

#[test]
fn the_peer_rekeys_the_ike_sa() {
    let connection = Connection {
        our_template: "ikev2-ikesa rekey\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("peer-rekeys-ike", &connection) else {
        return;
    };
    let before = scene.node.cli("show crypto ikev2-ikesa security-associations");
    loses_nothing(&scene, false, |scene| {
        swanctl(&scene.peer, &["--rekey", "--ike", "gw"])
    });
    assert_ne!(
        before,
        scene.node.cli("show crypto ikev2-ikesa security-associations")
    );
}

#[test]
fn we_rekey_the_child() {
    // 90 % of 60 s at the earliest would make a long test: the lifetime in kilobytes is used up by the stream itself.
    let connection = Connection {
        our_payload: "rekey\nlifetime 86400 kilo-bytes 4000\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("we-rekey-child", &connection) else {
        return;
    };
    loses_nothing(&scene, true, |_| ());
    assert!(
        scene.peer.log().contains("CREATE_CHILD_SA request"),
        "the peer saw no rekeying:\n{}",
        scene.peer.log()
    );
}

#[test]
fn we_rekey_the_ike_sa() {
    let connection = Connection {
        our_template: "ikev2-ikesa rekey\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("we-rekey-ike", &connection) else {
        return;
    };
    loses_nothing(&scene, false, |scene| {
        scene.node.cli("crypto ikev2-ikesa rekey peer 10.10.0.1");
        scene.node.logged(&["IKE SA", "rekeyed"]);
    });
}

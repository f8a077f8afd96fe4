//! Rekeying while packets flow: nothing is lost.

use std::time::Duration;

use system_tests::traffic::{Stream, nothing_lost};
use system_tests::{Connection, strongswan};

use crate::common::{Scene, scene};

const RATE: u32 = 10_000;
const SECONDS: u32 = 6;
/// The shortest lifetime of an IKE SA that can be configured, in seconds; it is rekeyed before.
const SHORTEST_LIFETIME: u32 = 60;

/// Runs a stream of `seconds` while `rekey` happens in its middle; afterwards both sides have the same SPIs, which are not the old ones if
/// `fresh`.
fn loses_nothing(scene: &Scene, fresh: bool, seconds: u32, rekey: impl Fn(&Scene)) {
    scene.peer.initiate("net");
    scene.same_spis();
    let before = scene.node.spis();
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    std::thread::sleep(Duration::from_secs(2));
    rekey(scene);
    nothing_lost(&stream.finish(), RATE, seconds);
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
    loses_nothing(&scene, true, SECONDS, |scene| {
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
    loses_nothing(&scene, false, SECONDS, |scene| {
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
    loses_nothing(&scene, true, SECONDS, |_| ());
    assert!(
        scene.peer.log().contains("CREATE_CHILD_SA request"),
        "the peer saw no rekeying:\n{}",
        scene.peer.log()
    );
}

#[test]
fn we_rekey_the_ike_sa() {
    let connection = Connection {
        our_ike: "encryption aes-128-gcm-128\nhmac none\nprf sha2-256\ngroup 31\nlifetime 60",
        our_template: "ikev2-ikesa rekey\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("we-rekey-ike", &connection) else {
        return;
    };
    loses_nothing(&scene, false, SHORTEST_LIFETIME, |_| ());
    scene.node.logged(&["IKE SA", "rekeyed"]);
    assert!(
        scene.peer.log().contains("IKE_SA gw[2] rekeyed"),
        "the peer saw no rekeying:\n{}",
        scene.peer.log()
    );
}

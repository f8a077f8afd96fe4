//! Certificates on both sides.

use system_tests::pki::{Authority, Issued};
use system_tests::process::holds_open;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer, strongswan};

use crate::common::Scene;

/// A scene where both sides have certificates, and our own.
fn scene(scenario: &str, key: &str, foreign: bool) -> Option<(Scene, Issued)> {
    if !real_peer(scenario, strongswan::PROGRAMS) {
        return None;
    }
    let world = World::new(scenario);
    let authority = Authority::new(&world.folder().join("pki"), key);
    let ours = authority.issue("gw.test");
    let theirs = if foreign {
        Authority::new(&world.folder().join("foreign"), key).issue("peer.test")
    } else {
        authority.issue("peer.test")
    };
    let connection = Connection {
        our_global: format!(
            "certificate name gw pem url file:{}\nprivate-key pem url file:{}\nca-certificate name root pem url file:{}\n",
            ours.certificate.display(),
            ours.key.display(),
            authority.certificate().display()
        ),
        our_template: "authentication local certificate\nauthentication remote certificate\ncertificate gw\n\
                       ca-certificate list ca-cert-name root\n"
            .to_owned(),
        ..Connection::default()
    };
    let node = Node::start(&world, &connection.configuration());
    let swanctl = connection
        .swanctl()
        .replacen("auth = psk", "auth = pubkey\n      certs = peer.pem", 1)
        .replacen("auth = psk", "auth = pubkey\n      cacerts = root.pem", 1);
    let peer = Strongswan::start(&world, &swanctl, "");
    peer.copy(&theirs.certificate, "x509/peer.pem");
    peer.copy(&theirs.key, "private/peer.pem");
    peer.copy(authority.certificate(), "x509ca/root.pem");
    peer.load();
    Some((Scene { peer, node, world }, ours))
}

/// A tunnel with certificates of this key type on both sides.
fn authenticates(scenario: &str, key: &str) {
    let Some((scene, ours)) = scene(scenario, key, false) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", 10_000, 2);

    // The private key is certmgr's alone: no other process may even have it open.
    for facility in ["sit", "sct", "ipsecmgr", "sessmgr", "aaamgr", "vpnmgr", "iftask"] {
        for pid in scene.node.pids(facility) {
            assert!(!holds_open(pid, &ours.key), "{facility} has the private key open");
        }
    }
}

#[test]
fn rsa_certificates() {
    authenticates("rsa-certificates", "rsa:2048");
}

#[test]
fn ecdsa_certificates() {
    authenticates("ecdsa-certificates", "ec:prime256v1");
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let Some((scene, _)) = scene("foreign-certificate", "ec:prime256v1", true) else {
        return;
    };
    let (ok, text) = scene
        .peer
        .swanctl(&["--initiate", "--child", "net", "--timeout", "10"]);
    assert!(!ok, "a peer with a foreign certificate got in: {text}");
    scene.node.logged(&["peer.test", "issuer"]);
    scene.no_sa();
}

//! strongSwan in the gateway's place and our engine as initiator: `starward sim tunnel` in the peer's namespace.

use std::collections::BTreeSet;
use std::time::Duration;

use system_tests::capture::Capture;
use system_tests::process::eventually;
use system_tests::simulator::{IDENTITY, INNER, SECRET};
use system_tests::strongswan::PROGRAMS;
use system_tests::traffic::{Stream, nothing_lost};
use system_tests::{Simulator, Strongswan, World, both_ways, real_peer, run_in};

const OUTER: &str = "10.10.0.1";
const CHARON: &str = "10.10.0.2";
const HOST: &str = "10.20.2.1";

/// Algorithms of a tunnel, as either end calls them.
struct Algorithms {
    group: &'static str,
    ike: &'static str,
    esp: &'static str,
    charon_ike: &'static str,
    charon_esp: &'static str,
}

const GCM_AND_GROUP_31: Algorithms = Algorithms {
    group: "31",
    ike: "aes128gcm16",
    esp: "aes128gcm16",
    charon_ike: "aes128gcm16-prfsha256-curve25519",
    charon_esp: "aes128gcm16",
};

struct Scene {
    // Dropped in this order: processes before their namespaces.
    simulator: Simulator,
    charon: Strongswan,
    world: World,
}

/// A charon with a tunnel from our simulator, with `more` lines in charon's connection; `None` when the scenario has to be skipped.
fn scene(scenario: &str, algorithms: &Algorithms, more: &str) -> Option<Scene> {
    if !real_peer(scenario, PROGRAMS) {
        return None;
    }
    let world = World::new(scenario);
    let namespace = world.node();
    for (device, address) in [("vran", "10.10.0.2/24"), ("vcore", "10.20.2.254/24")] {
        run_in(&namespace, &["ip", "addr", "add", address, "dev", device]);
        run_in(&namespace, &["ip", "link", "set", device, "up"]);
    }
    run_in(&namespace, &["sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    let swanctl = format!(
        "connections {{\n  gw {{\n    version = 2\n    local_addrs = {CHARON}\n    encap = yes\n    proposals = {ike}\n{more}\n    \
         local {{\n      auth = psk\n      id = gw.test\n    }}\n    remote {{\n      auth = psk\n      id = {IDENTITY}\n    }}\n    \
         children {{\n      net {{\n        local_ts = 10.20.2.0/24\n        remote_ts = {INNER}/32\n        esp_proposals = {esp}\n      }}\n    }}\n  }}\n}}\n\
         secrets {{\n  ike-peer {{\n    id = {IDENTITY}\n    secret = \"{SECRET}\"\n  }}\n}}\n",
        ike = algorithms.charon_ike,
        esp = algorithms.charon_esp,
    );
    let charon = Strongswan::start_in(&world, &namespace, &swanctl, "");
    charon.load();
    let options = [
        ["--group", algorithms.group],
        ["--ike", algorithms.ike],
        ["--esp", algorithms.esp],
    ];
    let simulator = Simulator::start(&world, OUTER, CHARON, &options.concat());
    Some(Scene {
        simulator,
        charon,
        world,
    })
}

impl Scene {
    /// Fails the scenario unless both ends come to name the same SPIs, and no other; returns the simulator's.
    fn same_spis(&self) -> (String, String) {
        eventually("both ends to agree on the SPIs", || {
            let (inbound, outbound) = self.simulator.spis();
            let theirs = (outbound.clone(), inbound.clone());
            (self.charon.spis() == [theirs]).then_some((inbound, outbound))
        })
    }

    fn swanctl(&self, arguments: &[&str]) {
        let (ok, text) = self.charon.swanctl(arguments);
        assert!(ok, "swanctl {arguments:?}: {text}");
    }

    /// Runs a stream while charon does this in its middle: nothing is lost.
    fn loses_nothing(&self, arguments: &[&str]) {
        const RATE: u32 = 10_000;
        const SECONDS: u32 = 6;
        let stream = Stream::start(&self.world, INNER, HOST, 7000, RATE, SECONDS);
        std::thread::sleep(Duration::from_secs(2));
        self.swanctl(arguments);
        nothing_lost(&stream.finish(), RATE, SECONDS);
    }

    /// The simulator ends by itself, with an error that says why, and charon has no SA left.
    fn ends(&mut self) {
        let status = self.simulator.process().wait();
        let log = self.simulator.log();
        assert!(
            status.is_some_and(|status| status.code() == Some(1)),
            "the simulator ended with {status:?}: {log}"
        );
        assert!(
            log.contains("the tunnel ended: deleted by peer"),
            "the simulator does not say why: {log}"
        );
        eventually("charon to have no SA", || {
            self.charon.sas().trim().is_empty().then_some(())
        });
        let log = self.charon.log();
        assert!(
            !log.contains("retransmit 1 of request"),
            "charon got no answer:\n{log}"
        );
    }
}

/// Sets up a tunnel with these algorithms and sends packets both ways.
fn carries(scenario: &str, algorithms: &Algorithms) {
    let Some(scene) = scene(scenario, algorithms, "") else {
        return;
    };
    let capture = Capture::start(&scene.world);
    let (inbound, outbound) = scene.same_spis();
    both_ways(&scene.world, INNER, HOST, 10_000, 3);
    let recorded = capture.stop();
    recorded.only_ike_and_esp();
    assert_eq!(recorded.spis(CHARON), BTreeSet::from([inbound]), "from charon");
    assert_eq!(recorded.spis(OUTER), BTreeSet::from([outbound]), "to charon");
}

#[test]
fn aes_gcm_128_and_group_31() {
    carries("responder-gcm128-group31", &GCM_AND_GROUP_31);
}

#[test]
fn aes_gcm_256_and_group_19() {
    carries(
        "responder-gcm256-group19",
        &Algorithms {
            group: "19",
            ike: "aes256gcm16",
            esp: "aes256gcm16",
            charon_ike: "aes256gcm16-prfsha256-ecp256",
            charon_esp: "aes256gcm16",
        },
    );
}

#[test]
fn aes_cbc_256_with_sha2_and_group_14() {
    carries(
        "responder-cbc256-group14",
        &Algorithms {
            group: "14",
            ike: "aes256-sha256",
            esp: "aes256-sha256",
            charon_ike: "aes256-sha256-modp2048",
            charon_esp: "aes256-sha256",
        },
    );
}

#[test]
fn aes_cbc_128_with_sha2_is_taken_when_it_is_offered_second() {
    carries(
        "responder-second-choice",
        &Algorithms {
            group: "31",
            ike: "aes256gcm16,aes128-sha256",
            esp: "aes128gcm16,aes128-sha256",
            charon_ike: "aes128-sha256-curve25519",
            charon_esp: "aes128-sha256",
        },
    );
}

#[test]
fn charon_rekeys_the_child() {
    let Some(scene) = scene("responder-rekeys-child", &GCM_AND_GROUP_31, "") else {
        return;
    };
    let (inbound, outbound) = scene.same_spis();
    scene.loses_nothing(&["--rekey", "--child", "net"]);
    let after = scene.same_spis();
    assert!(
        after.0 != inbound && after.1 != outbound,
        "the SPIs are the old ones: {after:?}"
    );
    scene.simulator.said("tunnel rekeyed");
}

#[test]
fn charon_rekeys_the_ike_sa() {
    let Some(scene) = scene("responder-rekeys-ike", &GCM_AND_GROUP_31, "") else {
        return;
    };
    let before = scene.same_spis();
    scene.loses_nothing(&["--rekey", "--ike", "gw"]);
    scene.simulator.said("IKE SA rekeyed");
    assert_eq!(scene.same_spis(), before, "the child SA is another");
    assert!(
        scene.charon.log().contains("IKE_SA gw[2] rekeyed"),
        "charon saw no rekeying:\n{}",
        scene.charon.log()
    );
    // The new IKE SA is good for more than its own set-up.
    scene.loses_nothing(&["--rekey", "--child", "net"]);
    assert_ne!(scene.same_spis(), before);
}

#[test]
fn charon_deletes_the_ike_sa() {
    let Some(mut scene) = scene("responder-deletes-ike", &GCM_AND_GROUP_31, "") else {
        return;
    };
    scene.same_spis();
    scene.swanctl(&["--terminate", "--ike", "gw", "--timeout", "5"]);
    scene.ends();
}

#[test]
fn charon_deletes_the_child() {
    let Some(mut scene) = scene("responder-deletes-child", &GCM_AND_GROUP_31, "") else {
        return;
    };
    scene.same_spis();
    scene.swanctl(&["--terminate", "--child", "net", "--timeout", "5"]);
    scene.ends();
}

#[test]
fn charon_finds_the_simulator_alive() {
    let more = "    dpd_delay = 1s\n";
    let Some(scene) = scene("responder-dpd", &GCM_AND_GROUP_31, more) else {
        return;
    };
    let before = scene.same_spis();
    eventually("three answers to charon's checks", || {
        let log = scene.charon.log();
        assert!(
            !log.contains("retransmit 1 of request"),
            "a check was lost:\n{log}"
        );
        (log.matches("parsed INFORMATIONAL response").count() >= 3).then_some(())
    });
    assert_eq!(scene.same_spis(), before);
}

//! The software is replaced while tunnels carry traffic: the peer must not notice.

use std::path::{Path, PathBuf};

use system_tests::capture::Capture;
use system_tests::node::{binary, number_of};
use system_tests::process::{beside, eventually};
use system_tests::traffic::{Stream, nothing_lost};
use system_tests::{Connection, both_ways};

use crate::common::{Scene, ike_spis, scene, swanctl};

const RATE: u32 = 1_000;

const FACILITIES: [&str; 10] = [
    "sct", "rmctrl", "vpnmgr", "certmgr", "aaamgr", "bulkstat", "snmp", "sessmgr", "iftask", "ipsecmgr",
];

/// A file of this name in the folder of the scenario that can be executed.
fn executable(scene: &Scene, name: &str, from: &str) -> PathBuf {
    let path = scene.world.folder().join(name);
    let copied = std::fs::copy(from, &path);
    assert!(copied.is_ok(), "cannot copy {from}: {copied:?}");
    path
}

fn runs(pid: u32) -> PathBuf {
    std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_else(|error| panic!("process {pid}: {error}"))
}

fn pids(scene: &Scene) -> Vec<u32> {
    let of = |facility: &&str| scene.node.pids(facility);
    FACILITIES.iter().flat_map(of).collect()
}

fn upgrade(scene: &Scene, path: &Path) -> (bool, String) {
    let command = format!("upgrade online {} -noconfirm", path.display());
    scene.node.try_cli(&[&command])
}

/// `show upgrade` once it says `state`.
fn upgraded(scene: &Scene, state: &str) -> String {
    eventually(&format!("an upgrade to be '{state}'"), || {
        let (ok, text) = scene.node.try_cli(&["show upgrade"]);
        (ok && text.contains(&format!("State                : {state}\n"))).then_some(text)
    })
}

/// The table without process ids: what protects each process.
fn security(scene: &Scene) -> Vec<String> {
    let table = scene.node.cli("show process security");
    table
        .lines()
        .map(|line| line.chars().take(72).collect::<String>())
        .filter(|line| !line.contains(" cli "))
        .collect()
}

#[test]
fn an_upgrade_under_traffic_is_not_noticed() {
    let connection = Connection {
        our_template: "ikev2-ikesa rekey\n".to_owned(),
        our_payload: "rekey\n".to_owned(),
        ..Connection::default()
    };
    let Some(mut scene) = scene("upgrade", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let sit = scene.node.process().pid();
    let new = executable(&scene, "starward-new", &binary());
    let (tunnels, ike, before) = (scene.node.spis(), ike_spis(&scene), pids(&scene));
    let protected = security(&scene);
    let statistics = "show crypto statistics ikev2";
    let attempts = scene.node.number(statistics, "Total Attempts Responded");
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);

    let capture = Capture::start(&scene.world);
    let seconds = 40;
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    let (ok, said) = upgrade(&scene, &new);
    assert!(ok, "{said}");
    let status = upgraded(&scene, "Complete");
    // Whatever is told while it goes on is told under traffic.
    nothing_lost(&stream.finish(), RATE, seconds);

    assert_eq!(scene.node.process().pid(), sit);
    assert_eq!(runs(sit), new, "{status}");
    let after = pids(&scene);
    assert_eq!(after.len(), before.len(), "{status}");
    for pid in &after {
        assert!(!before.contains(pid), "{pid} was not replaced:\n{status}");
        assert_eq!(runs(*pid), new, "{status}");
    }
    assert_eq!(security(&scene), protected);
    assert_eq!(
        (scene.node.spis(), ike_spis(&scene)),
        (tunnels.clone(), ike.clone())
    );
    assert_eq!(
        scene.node.number(statistics, "Total Attempts Responded"),
        attempts
    );

    // The same IKE SA goes on, with message IDs that follow those from before.
    swanctl(&scene.peer, &["--rekey", "--child", "net"]);
    scene.same_spis();
    assert_ne!(scene.node.spis(), tunnels);
    assert_eq!(ike_spis(&scene), ike);
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
    let recorded = capture.stop();
    assert!(recorded.begun().is_empty(), "somebody began a new IKE SA");
    recorded.only_ike_and_esp();

    let crashes = scene.node.cli("show crash list");
    assert!(crashes.contains("Total Crashes : 0"), "{crashes}");
    let recovery = scene.node.cli("show session recovery status verbose");
    assert!(recovery.contains(": Ready For Recovery"), "{recovery}");
    assert_eq!(number_of(&recovery, "IKE SAs Lost"), Some(0), "{recovery}");
    let traps = scene.node.cli("show snmp trap history");
    for failure in ["ManagerFailure", "TaskFailed"] {
        assert!(!traps.contains(failure), "{traps}");
    }
    swanctl(&scene.peer, &["--terminate", "--ike", "gw"]);
    scene
        .node
        .eventually("show crypto ipsec security-associations", "no child SA", |text| {
            !text.contains("0x")
        });
}

#[test]
fn an_executable_that_cannot_take_over_is_refused() {
    let Some(mut scene) = scene("refuse-upgrade", &Connection::default()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let sit = scene.node.process().pid();
    let (tunnels, before, own) = (scene.node.spis(), pids(&scene), runs(sit));
    let seconds = 5;
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    let other = executable(&scene, "true", "/bin/true");
    let broken = executable(&scene, "broken", &binary());
    let file = std::fs::File::options()
        .write(true)
        .open(&broken)
        .expect("the copy");
    file.set_len(100_000).expect("half an executable");
    drop(file);
    for (path, why) in [
        (&other, "it does not say what it is"),
        (&broken, "cannot take over"),
        (&own, "is what runs already"),
    ] {
        let (ok, said) = upgrade(&scene, path);
        assert!(!ok && said.contains("Failure: ") && said.contains(why), "{said}");
        let status = upgraded(&scene, "Failed");
        assert!(status.contains(why), "{status}");
    }
    nothing_lost(&stream.finish(), RATE, seconds);
    assert_eq!((pids(&scene), runs(sit)), (before, own));
    assert_eq!(scene.node.spis(), tunnels);
}

#[test]
fn an_ipsecmgr_that_does_not_serve_stops_an_upgrade_and_no_tunnel() {
    let Some(mut scene) = scene("stopped-upgrade", &Connection::default()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let sit = scene.node.process().pid();
    let (tunnels, ike, own) = (scene.node.spis(), ike_spis(&scene), runs(sit));
    executable(&scene, "starward", &binary());
    let new = executable(&scene, "hesitant", &beside("hesitant").to_string_lossy());
    let capture = Capture::start(&scene.world);
    let seconds = 60;
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    let (ok, said) = upgrade(&scene, &new);
    assert!(ok, "{said}");
    let status = upgraded(&scene, "Failed");
    assert!(status.contains("ipsecmgr-1 with version"), "{status}");
    // Traffic never stopped, and the same IKE SA answers again.
    nothing_lost(&stream.finish(), RATE, seconds);
    assert_eq!(scene.node.process().pid(), sit);
    assert_eq!(runs(sit), new);
    eventually("the tunnel to be shown again", || {
        (scene.node.spis() == tunnels).then_some(())
    });
    for facility in ["ipsecmgr", "iftask"] {
        for pid in scene.node.pids(facility) {
            assert_eq!(runs(pid), own, "{facility}");
        }
    }
    assert_eq!(ike_spis(&scene), ike);
    swanctl(&scene.peer, &["--rekey", "--child", "net"]);
    scene.same_spis();
    assert_eq!(ike_spis(&scene), ike);
    assert!(capture.stop().begun().is_empty(), "somebody began a new IKE SA");
    let crashes = scene.node.cli("show crash list");
    assert!(crashes.contains("Total Crashes : 0"), "{crashes}");
}

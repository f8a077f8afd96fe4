//! Processes that are killed while tunnels are up, or coming up: the peer must not notice.

use std::thread::{scope, sleep};
use std::time::Duration;

use system_tests::capture::Capture;
use system_tests::node::number_of;
use system_tests::traffic::{Stream, nothing_lost};
use system_tests::{Connection, both_ways};

use crate::common::{ike_spis, scene, swanctl};

const RATE: u32 = 1_000;
/// Between one death and the next.
const LIFE: Duration = Duration::from_millis(300);

fn rekeying() -> Connection {
    Connection {
        our_template: "ikev2-ikesa rekey\n".to_owned(),
        our_payload: "rekey\n".to_owned(),
        ..Connection::default()
    }
}

#[test]
fn tunnels_outlive_their_ipsecmgr() {
    let Some(scene) = scene("outlive-ipsecmgr", &rekeying()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let (before, ike) = (scene.node.spis(), ike_spis(&scene));
    let attempts = "Total Attempts Responded";
    let statistics = "show crypto statistics ikev2";
    let sas = scene.node.number(statistics, attempts);
    let capture = Capture::start(&scene.world);
    let seconds = 8;
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    scene.node.kill(&["ipsecmgr"]);
    nothing_lost(&stream.finish(), RATE, seconds);
    assert_eq!(
        (scene.node.spis(), ike_spis(&scene)),
        (before.clone(), ike.clone())
    );
    assert_eq!(scene.node.number(statistics, attempts), sas, "counters go on");

    // The same IKE SA answers, with message IDs that follow those from before.
    swanctl(&scene.peer, &["--rekey", "--child", "net"]);
    scene.same_spis();
    let rekeyed = scene.node.spis();
    assert_ne!(rekeyed, before);
    assert_eq!(ike_spis(&scene), ike);
    scene.node.kill(&["ipsecmgr"]);
    swanctl(&scene.peer, &["--rekey", "--ike", "gw"]);
    scene.same_spis();
    assert_ne!(ike_spis(&scene), ike);
    assert_eq!(scene.node.spis(), rekeyed);
    scene.node.kill(&["ipsecmgr"]);
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
    let recorded = capture.stop();
    assert!(recorded.begun().is_empty(), "somebody began a new IKE SA");
    recorded.only_ike_and_esp();

    // The IKE SA that was replaced lingers for a while.
    let status = scene
        .node
        .eventually("show session recovery status verbose", "one record", |text| {
            number_of(text, "IKE SAs Kept For Recovery") == Some(1)
        });
    assert!(
        status.contains("Overall Status       : Ready For Recovery"),
        "{status}"
    );
    let number = |label: &str| number_of(&status, label);
    assert_eq!(number("IKE SAs Lost"), Some(0), "{status}");
    assert!(number("IKE SAs Recovered") >= Some(3), "{status}");
    let crashes = scene.node.cli("show crash list");
    let died = crashes.lines().filter(|line| line.contains("ipsecmgr")).count();
    assert_eq!(died, 3 * scene.node.pids("ipsecmgr").len(), "{crashes}");
    scene
        .node
        .logged(&["1 of 1 IKE SAs recovered with 1 tunnels, 0 lost"]);
    // The peer can end it, and all is gone.
    swanctl(&scene.peer, &["--terminate", "--ike", "gw"]);
    scene
        .node
        .eventually("show crypto ipsec security-associations", "no child SA", |text| {
            !text.contains("0x")
        });
    scene.no_sa();
}

#[test]
fn a_rekeying_goes_on_in_the_next_life() {
    let Some(scene) = scene("die-while-rekeying", &rekeying()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let capture = Capture::start(&scene.world);
    let seconds = 40;
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    for round in 0..10 {
        let what: [&str; 2] = if round % 2 == 0 {
            ["--child", "net"]
        } else {
            ["--ike", "gw"]
        };
        scope(|scope| {
            let rekey = scope.spawn(|| swanctl(&scene.peer, &["--rekey", what[0], what[1]]));
            // At another step of the exchange each time.
            sleep(Duration::from_millis(round * 3));
            scene.node.kill(&["ipsecmgr"]);
            assert!(rekey.join().is_ok());
        });
        scene.same_spis();
    }
    nothing_lost(&stream.finish(), RATE, seconds);
    assert!(capture.stop().begun().is_empty(), "somebody began a new IKE SA");
}

#[test]
fn a_set_up_goes_on_in_the_next_life() {
    let Some(scene) = scene("die-while-setting-up", &Connection::default()) else {
        return;
    };
    let capture = Capture::start(&scene.world);
    let rounds = 10;
    let initiate = ["--initiate", "--child", "net", "--timeout", "60"];
    for round in 0..rounds {
        scope(|scope| {
            let set_up = scope.spawn(|| swanctl(&scene.peer, &initiate));
            sleep(Duration::from_millis(20 + round * 4));
            scene.node.kill(&["ipsecmgr"]);
            assert!(set_up.join().is_ok());
        });
        scene.same_spis();
        both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
        swanctl(&scene.peer, &["--terminate", "--ike", "gw"]);
        scene
            .node
            .eventually("show crypto ipsec security-associations", "no child SA", |text| {
                !text.contains("0x")
            });
    }
    let begun = capture.stop().begun();
    assert_eq!(begun.len() as u64, rounds, "one IKE SA each: {begun:?}");
}

#[test]
fn two_processes_die_at_once() {
    let Some(scene) = scene("die-together", &rekeying()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let (before, ike) = (scene.node.spis(), ike_spis(&scene));
    let capture = Capture::start(&scene.world);
    for other in [
        "sessmgr", "iftask", "vpnmgr", "aaamgr", "sct", "rmctrl", "certmgr",
    ] {
        scene.node.kill(&["ipsecmgr", other]);
        both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
        assert_eq!(
            (scene.node.spis(), ike_spis(&scene)),
            (before.clone(), ike.clone()),
            "{other}"
        );
        sleep(LIFE);
    }
    swanctl(&scene.peer, &["--rekey", "--child", "net"]);
    scene.same_spis();
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
    assert!(capture.stop().begun().is_empty(), "somebody began a new IKE SA");
    let subscribers = scene.node.cli("show subscribers summary");
    assert_eq!(
        number_of(&subscribers, "Total Subscribers"),
        Some(1),
        "{subscribers}"
    );
}

#[test]
fn without_recovery_tunnels_are_lost_and_counted() {
    let connection = Connection {
        our_global: "no require session recovery\n".to_owned(),
        ..Connection::default()
    };
    let Some(scene) = scene("no-recovery", &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    scene.node.kill(&["ipsecmgr"]);
    scene.node.logged(&["1 tunnels lost by the restart of ipsecmgr"]);
    assert!(scene.node.spis().is_empty());
    let status = scene.node.cli("show session recovery status");
    assert!(status.contains("Overall Status       : Disabled"), "{status}");
}

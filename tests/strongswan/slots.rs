//! Slots go from one worker to another while their tunnels carry packets: nothing is lost, and the peer does not notice.

use std::thread::sleep;
use std::time::{Duration, Instant};

use system_tests::capture::Capture;
use system_tests::process::eventually;
use system_tests::traffic::{Stream, nothing_lost, tcp_both_ways};
use system_tests::{Connection, both_ways};

use crate::common::scene;

const RATE: u32 = 5_000;
/// Between two moves.
const PAUSE: Duration = Duration::from_millis(300);

/// Two workers, and slots that stay where they are put.
fn two_workers() -> Connection {
    Connection {
        our_global: "task facility ipsecmgr task-count 2\nno crypto slot-rebalancing".to_owned(),
        ..Connection::default()
    }
}

#[test]
fn a_slot_goes_to_and_fro_and_nothing_is_lost() {
    let Some(scene) = scene("move-slot", &two_workers()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let before = scene.node.spis();
    let slot = scene.node.slot();
    let capture = Capture::start(&scene.world);
    let seconds = 20;
    let started = Instant::now();
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    let mut moves = 0;
    while started.elapsed() < Duration::from_secs(u64::from(seconds) - 5) {
        let [_, data, _] = scene.node.owners(slot);
        let to = 3 - data;
        scene
            .node
            .cli(&format!("crypto slot move {slot} to {to} data-plane"));
        moves += 1;
        assert_eq!(scene.node.owners(slot)[1], to);
        sleep(PAUSE);
    }
    nothing_lost(&stream.finish(), RATE, seconds);
    assert!(moves >= 4, "only {moves} moves");
    let statistics = scene.node.cli("show iftask statistics");
    eprintln!("{moves} moves at {RATE} packets a second each way");
    for line in statistics.lines() {
        let is_told = ["held", "Held", "passed on", "Replayed"]
            .iter()
            .any(|word| line.contains(word));
        if is_told {
            eprintln!("{line}");
        }
    }
    scene.same_spis();
    assert_eq!(scene.node.spis(), before);
    let recorded = capture.stop();
    assert!(recorded.begun().is_empty(), "somebody began a new IKE SA");
    scene
        .node
        .logged(&["the data-plane of slots", "has gone from worker"]);
    let (ok, text) = scene.node.try_cli(&[&format!("crypto slot move {slot} to 9")]);
    assert!(!ok && text.contains("there is no worker 9"), "{text}");
}

#[test]
fn the_output_of_a_slot_goes_to_another_worker_and_back() {
    let Some(scene) = scene("move-output", &two_workers()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let before = scene.node.spis();
    let slot = scene.node.slot();
    let [manager, data, own] = scene.node.owners(slot);
    assert_eq!(own, data);
    let other = 3 - data;
    let to = |worker: u32| {
        let command = format!("crypto slot move {slot} to {worker} output");
        // Until the data planes have said that they can.
        eventually("the output to move", || {
            scene.node.try_cli(&[&command]).0.then_some(())
        });
        assert_eq!(scene.node.owners(slot), [manager, data, worker]);
    };
    let seconds = 12;
    let started = Instant::now();
    let stream = Stream::start(&scene.world, "10.20.1.1", "10.20.2.1", 7000, RATE, seconds);
    let mut moves = 0;
    while started.elapsed() < Duration::from_secs(u64::from(seconds) - 3) {
        to(if moves % 2 == 0 { other } else { data });
        moves += 1;
        sleep(PAUSE);
    }
    nothing_lost(&stream.finish(), RATE, seconds);
    eprintln!("{moves} moves of the output at {RATE} packets a second each way");
    if moves % 2 == 0 {
        to(other);
    }
    let count = |label: &str| -> u64 {
        let text = scene.node.cli("show iftask statistics");
        let lines = text.lines().filter(|line| line.trim_start().starts_with(label));
        lines
            .filter_map(|line| line.split_whitespace().last()?.parse::<u64>().ok())
            .sum()
    };
    let (handed_on, taken) = (
        count("Packets handed on for output"),
        count("Packets taken for output"),
    );
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 2);
    let crossed = count("Packets handed on for output") - handed_on;
    assert!(
        crossed >= u64::from(4 * RATE),
        "only {crossed} packets were handed on"
    );
    assert_eq!(count("Packets taken for output") - taken, crossed);
    // Super-packets of streams, on the way there and back.
    tcp_both_ways(&scene.world, "10.20.1.1", "10.20.2.1");
    // Whoever dies, the tunnel and the division of labour stay.
    scene.node.kill(&["iftask"]);
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 2);
    assert_eq!(scene.node.owners(slot), [manager, data, other]);
    assert_eq!(scene.node.spis(), before);
    // Where the data goes, the output goes.
    scene
        .node
        .cli(&format!("crypto slot move {slot} to {other} data-plane"));
    assert_eq!(scene.node.owners(slot), [manager, other, other]);
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
}

#[test]
fn a_move_outlives_the_death_of_everybody_in_it() {
    let Some(scene) = scene("die-while-moving", &two_workers()) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let before = scene.node.spis();
    let slot = scene.node.slot();
    for facility in ["rmctrl", "iftask"] {
        for round in 0..3 {
            let [_, data, _] = scene.node.owners(slot);
            let to = 3 - data;
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    // It may be answered, or its end be seen in the map.
                    scene
                        .node
                        .try_cli(&[&format!("crypto slot move {slot} to {to} data-plane")])
                });
                sleep(Duration::from_millis(30 * round));
                scene.node.kill(&[facility]);
            });
            scene
                .node
                .eventually("show crypto slots verbose", "no move under way", |text| {
                    text.lines().count() > 255 && !text.contains(" from ")
                });
            both_ways(&scene.world, "10.20.1.1", "10.20.2.1", RATE, 1);
            assert_eq!(scene.node.spis(), before, "{facility}, {round}");
        }
    }
}

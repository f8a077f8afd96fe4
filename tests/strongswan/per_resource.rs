//! One tunnel over both workers: child SAs with the same traffic selectors (RFC 9611), each in a slot of another data plane.

use std::collections::BTreeSet;

use system_tests::process::kill;
use system_tests::scenario::real_peer;
use system_tests::simulator::{INNER, Simulator};
use system_tests::traffic::{Report, Stream};
use system_tests::{Connection, Node, World};

use crate::common::scene;

/// Flows of one tunnel, and packets a second of each.
const FLOWS: u16 = 8;
const RATE: u32 = 500;
const HOST: &str = "10.20.2.1";

/// Two workers, and what the payload says of child SAs for each.
fn two_workers(payload: &str) -> Connection {
    Connection {
        our_global: "task facility ipsecmgr task-count 2\nno crypto slot-rebalancing".to_owned(),
        our_payload: format!("{payload}\n"),
        ..Connection::default()
    }
}

/// Waits until each manager has a slot of the other worker's data plane.
fn slots_are_there(node: &Node) {
    node.eventually(
        "show crypto slots verbose",
        "slots of the other data plane",
        |text| {
            let owners = text.lines().filter_map(|line| {
                let mut words = line.split_whitespace().map_while(|word| word.parse().ok());
                let (_slot, manager, data): (u32, u32, u32) = (words.next()?, words.next()?, words.next()?);
                Some((manager, data))
            });
            owners.collect::<BTreeSet<_>>().len() == 4 && !text.contains(" from ")
        },
    );
}

/// The workers whose data planes have the child SAs.
fn workers(node: &Node) -> BTreeSet<u32> {
    let spis = node.spis().into_iter();
    let slots = spis.filter_map(|(inbound, _)| u8::from_str_radix(&inbound[..2], 16).ok());
    slots.map(|slot| node.owners(slot)[1]).collect()
}

/// What each child SA counted under a label.
fn counted(node: &Node, label: &str) -> Vec<u64> {
    let text = node.cli("show crypto ipsec security-associations");
    let lines = text.lines().filter_map(|line| line.trim().split_once(':'));
    lines
        .filter(|(found, _)| found.trim() == label)
        .filter_map(|(_, value)| value.trim().parse().ok())
        .collect()
}

/// Several flows between these, both ways, while something happens; what the ends counted.
fn flows(world: &World, peer: &str, seconds: u32, meanwhile: impl FnOnce()) -> Vec<[Report; 2]> {
    let streams: Vec<Stream<'_>> = (0..FLOWS)
        .map(|n| Stream::start(world, peer, HOST, 7000 + n, RATE, seconds))
        .collect();
    meanwhile();
    streams.into_iter().map(Stream::finish).collect()
}

fn nothing_lost(reports: &[[Report; 2]]) {
    for [peer, host] in reports {
        assert_eq!(
            (peer.sent, host.sent),
            (host.received, peer.received),
            "{reports:?}"
        );
        assert_eq!((peer.duplicates, host.duplicates), (0, 0), "{reports:?}");
    }
}

#[test]
fn flows_of_one_tunnel_cross_both_workers() {
    let Some(scene) = scene("per-resource", &two_workers("per-resource-sa initiate 1")) else {
        return;
    };
    let node = &scene.node;
    slots_are_there(node);
    scene.peer.initiate("net");
    node.eventually(
        "show crypto ipsec security-associations",
        "a second child SA",
        |text| text.matches("Inbound SPI").count() == 2,
    );
    scene.same_spis();
    assert_eq!(workers(node), BTreeSet::from([1, 2]));
    let shown = node.cli("show crypto ipsec security-associations");
    assert_eq!(
        shown.matches("Per Resource              : Yes").count(),
        1,
        "{shown}"
    );
    assert_eq!(node.number("show crypto statistics ikev2", "Created by Us"), 1);
    let log = scene.peer.log();
    assert!(
        log.contains("N((16444))"),
        "the peer has not seen SA_RESOURCE_INFO: {log}"
    );
    let before = counted(node, "Packets Out");
    let reports = flows(&scene.world, "10.20.1.1", 4, || {});
    nothing_lost(&reports);
    let after = counted(node, "Packets Out");
    let carried: Vec<u64> = after
        .iter()
        .zip(&before)
        .map(|(after, before)| after - before)
        .collect();
    let all = u64::from(FLOWS) * u64::from(RATE) * 4;
    assert!(
        carried.iter().all(|packets| *packets >= all / 16),
        "{carried:?} of {all}"
    );
    // It is rekeyed like any, and stays where it is.
    scene.peer.swanctl(&["--rekey", "--ike", "gw"]);
    scene.peer.swanctl(&["--rekey", "--child", "net"]);
    scene.same_spis();
    node.eventually(
        "show crypto ipsec security-associations",
        "two child SAs",
        |text| text.matches("Inbound SPI").count() == 2,
    );
    assert_eq!(workers(node), BTreeSet::from([1, 2]));
    nothing_lost(&flows(&scene.world, "10.20.1.1", 1, || {}));
}

#[test]
fn a_peer_that_makes_them_loses_none_when_processes_die() {
    if !real_peer("per-resource-peer", &["ip"]) {
        return;
    }
    let world = World::new("per-resource-peer");
    let node = Node::start(&world, &two_workers("per-resource-sa max 1").configuration());
    slots_are_there(&node);
    let simulator = Simulator::start(&world, "10.10.0.1", "10.10.0.2", &["--per-resource", "3"]);
    simulator.said("child SAs that share the flows: 2");
    // The third is one too many.
    node.eventually("show crypto statistics ikev2", "a refusal", |text| {
        system_tests::node::number(text, "Refused by Us") == Some(1)
    });
    assert_eq!(
        node.number("show crypto statistics ikev2", "Created by the Peer"),
        1
    );
    assert_eq!(workers(&node), BTreeSet::from([1, 2]));
    let spis = node.spis();
    let before = [counted(&node, "Packets In"), counted(&node, "Packets Out")];
    let reports = flows(&world, INNER, 4, || {});
    nothing_lost(&reports);
    for [peer, host] in &reports {
        assert_eq!((peer.overtaken, host.overtaken), (0, 0), "{reports:?}");
    }
    let after = [counted(&node, "Packets In"), counted(&node, "Packets Out")];
    let all = u64::from(FLOWS) * u64::from(RATE) * 4;
    for (after, before) in after.iter().zip(&before) {
        let carried: Vec<u64> = after
            .iter()
            .zip(before)
            .map(|(after, before)| after - before)
            .collect();
        assert!(
            carried.iter().all(|packets| *packets >= all / 16),
            "{carried:?} of {all}"
        );
    }
    // One of the data planes dies: the flows of the other go on, and nothing comes twice.
    let reports = flows(&world, INNER, 4, || {
        std::thread::sleep(std::time::Duration::from_secs(1));
        kill(node.pids("iftask")[1]);
    });
    for [peer, host] in &reports {
        assert_eq!((peer.duplicates, host.duplicates), (0, 0), "{reports:?}");
    }
    let whole = reports
        .iter()
        .filter(|[_, host]| host.sent == u64::from(RATE) * 4);
    assert!(whole.count() > 0, "{reports:?}");
    nothing_lost(&flows(&world, INNER, 1, || {}));
    // So does who talks IKE for both.
    node.kill(&["ipsecmgr"]);
    nothing_lost(&flows(&world, INNER, 1, || {}));
    assert_eq!(node.spis(), spis);
    // The manager of one of the two slots cannot be another's.
    let slot = node.slot();
    let to = 3 - node.owners(slot)[0];
    // The command may come back before that is sure.
    node.try_cli(&[&format!("crypto slot move {slot} to {to} manager")]);
    node.logged(&["per-resource child SA", "ties slot"]);
    node.eventually("show crypto slots verbose", "no move under way", |text| {
        text.lines().count() > 255 && !text.contains(" from ")
    });
    // Its data plane can: then one worker has both, and both go on.
    let to = 3 - node.owners(slot)[1];
    nothing_lost(&flows(&world, INNER, 3, || {
        node.cli(&format!("crypto slot move {slot} to {to} data-plane"));
    }));
    assert_eq!(node.spis(), spis);
}

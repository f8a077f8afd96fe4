//! Bad packets: counted, never a panic, never a change of state.

use std::net::UdpSocket;

use system_tests::strongswan::PROGRAMS;
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer};

#[test]
fn bad_packets_change_nothing() {
    if !real_peer("bad-packets", PROGRAMS) {
        return;
    }
    let world = World::new("bad-packets");
    let connection = Connection::default();
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    let before = node.spis();

    let sent = throw(&world);
    assert!(sent > 5_000);

    assert_eq!(node.spis(), before, "the tunnel changed");
    let crashes = node.cli("show crash list");
    assert!(
        crashes.contains("Total Crashes : 0"),
        "something crashed:\n{crashes}"
    );
    both_ways(&world, "10.20.1.1", "10.20.2.1", 10_000, 1);
    let failures = node.number("show crypto statistics ikev2", "Total Packets");
    assert!(failures > 1_000, "decode failures counted: {failures}");
}

/// Sends truncated, oversized, bit-flipped and random packets to both ports from the peer's namespace; returns how many.
fn throw(world: &World) -> usize {
    let namespace = std::fs::File::open(format!("/run/netns/{}", world.peer())).expect("namespace");
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
        let socket = UdpSocket::bind("10.10.0.1:0").expect("bind");
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        // An IKE_SA_INIT request header with an SA payload that claims more than there is.
        let header = |length: u32| {
            let mut packet = vec![
                1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0, 33, 0x20, 34, 0x08, 0, 0, 0, 0,
            ];
            packet.extend(length.to_be_bytes());
            packet
        };
        let mut sent = 0;
        for round in 0..3_000_usize {
            let size = usize::try_from(next() % 1_400).unwrap_or_default();
            let mut noise: Vec<u8> = (0..size).map(|_| next().to_le_bytes()[0]).collect();
            let mut ike = header(u32::try_from(28 + size).unwrap_or_default());
            ike.append(&mut noise.clone());
            ike.truncate(28 + (round % 1_400));
            let _ = socket.send_to(&ike, "10.10.0.2:500");
            noise.splice(0..0, [0, 0, 0, 0]);
            let _ = socket.send_to(&noise, "10.10.0.2:4500");
            noise.splice(0..4, [u8::try_from(round % 255 + 1).unwrap_or(1), 0, 0, 0]);
            let _ = socket.send_to(&noise, "10.10.0.2:4500");
            sent += 3;
        }
        for size in [0, 1, 3, 4, 7, 27, 28, 60_000] {
            let _ = socket.send_to(&vec![0xff; size], "10.10.0.2:500");
            let _ = socket.send_to(&vec![0xff; size], "10.10.0.2:4500");
        }
        sent
    })
    .join()
    .expect("thrower")
}

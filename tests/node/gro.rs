//! IKE and ESP of one peer, coalesced into one read by the kernel (UDP_GRO): each reaches the process that it is for.

use std::io::IoSlice;
use std::os::fd::AsRawFd;

use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrIn, sendmsg};
use system_tests::process::eventually;
use system_tests::{Connection, Node, World, real_peer};

/// Length of all datagrams but the last of a read.
const SEGMENT: u16 = 200;

#[test]
fn coalesced_ike_and_esp_reach_their_processes() {
    if !real_peer("gro", &["ip"]) {
        return;
    }
    let world = World::new("gro");
    let node = Node::start(&world, &Connection::default().configuration());
    let counts = || {
        (
            node.number("show crypto statistics ikev2", "Total Packets In"),
            no_sa(&node),
        )
    };
    let (ike_before, esp_before) = counts();
    let esp = |number: u8| {
        let mut packet = vec![number; usize::from(SEGMENT)];
        // Slot 1, and an SA that nobody has.
        packet[..4].copy_from_slice(&[1, 0xff, 0xff, number]);
        packet
    };
    // A message of slot 1 for an IKE SA that nobody has.
    let ike = |number: u8, length: usize| {
        let mut packet = vec![number; length];
        packet[..4].fill(0);
        (packet[12], packet[23]) = (1, 0x08);
        packet
    };
    let whole = usize::from(SEGMENT);
    // The data plane reads six of ESP and one of IKE; then the manager four fragments and a short one; then IKE first and ESP after it.
    let reads = [
        [(1..=6).map(esp).collect(), vec![ike(7, 100)]].concat(),
        [(1..=4).map(|n| ike(n, whole)).collect(), vec![ike(5, 90)]].concat(),
        [vec![ike(1, whole)], (2..=6).map(esp).collect()].concat(),
    ];
    send(&world, &reads);
    eventually("every datagram to be counted", || {
        (counts() == (ike_before + 7, esp_before + 11)).then_some(())
    });
}

/// Packets that a data plane counted as without SA.
fn no_sa(node: &Node) -> u64 {
    let text = node.cli("show iftask statistics");
    let drops = text
        .split_once("Drops, From the Peer")
        .map_or("", |(_, rest)| rest);
    let line = drops.lines().find(|line| line.trim().starts_with("No SA"));
    line.and_then(|line| line.split_whitespace().next_back()?.parse().ok())
        .unwrap_or_else(|| panic!("no such number:\n{text}"))
}

/// Sends each list of datagrams as one super-packet (UDP_SEGMENT), which a veth hands over uncut, as if the other end had coalesced it.
fn send(world: &World, reads: &[Vec<Vec<u8>>]) {
    let namespace = std::fs::File::open(format!("/run/netns/{}", world.peer())).expect("namespace");
    let reads: Vec<Vec<u8>> = reads.iter().map(|datagrams| datagrams.concat()).collect();
    std::thread::spawn(move || {
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("setns");
        let socket = std::net::UdpSocket::bind("10.10.0.1:0").expect("bind");
        let to = SockaddrIn::new(10, 10, 0, 2, 4500);
        for read in &reads {
            let segment = [ControlMessage::UdpGsoSegments(&SEGMENT)];
            let parts = [IoSlice::new(read)];
            let sent = sendmsg(socket.as_raw_fd(), &parts, &segment, MsgFlags::empty(), Some(&to));
            assert_eq!(sent, Ok(read.len()));
        }
    })
    .join()
    .expect("sender");
}

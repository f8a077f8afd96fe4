//! Whoever works with an AF_XDP queue is killed again and again, at whatever instruction that is; then every frame is there, and has one owner.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use netio::{
    Datagram, DatagramSocket, Namespace, ReceiveBatch, SendBatch, SocketOptions, XdpLosses, XdpPort,
    XdpQueue, XdpReceiver, XdpSender, interface,
};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork, geteuid};

const KILLS: usize = 300;
/// Frames of a queue, for what comes and what leaves.
const RECEIVE_FRAMES: u32 = 4096;
const SEND_FRAMES: u32 = 2048;
/// Where the payload of an IPv4 UDP packet begins.
const PAYLOAD: usize = 42;
const BATCH: usize = 64;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if !geteuid().is_root() {
        println!("skipped: needs root");
        return Ok(());
    }
    let (near, far) = (Namespace::create()?, Namespace::create()?);
    near.run(|| ip("link add swk type veth peer name swl"))?;
    near.run(|| interface::move_to("swl", &far))??;
    for (namespace, device, address) in [(&near, "swk", "10.9.0.2"), (&far, "swl", "10.9.0.1")] {
        namespace.run(|| {
            ip(&format!("addr add {address}/24 dev {device}"));
            interface::set_up(device)
        })??;
    }
    let mut port = near.run(|| XdpPort::open("swk", 1))??;
    port.set_addresses(&BTreeSet::from(["10.9.0.2".parse()?]))?;
    let queue = port.queues.first().ok_or("no queue")?;
    let options = SocketOptions::default();
    let mut peer = Peer {
        socket: far.run(|| DatagramSocket::bind_udp(SocketAddr::from(([10, 9, 0, 1], 4500)), options))??,
        send: SendBatch::new(BATCH),
        receive: ReceiveBatch::new(BATCH, 2048),
        number: 1 << 31,
    };

    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut answers = 0;
    for _ in 0..KILLS {
        // SAFETY: this process has one thread: those of `Namespace::run` have ended.
        let child = match unsafe { fork() }? {
            ForkResult::Child => echo(queue),
            ForkResult::Parent { child } => child,
        };
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let until = Instant::now() + Duration::from_micros(random % 20_000);
        while Instant::now() < until {
            peer.send_numbers(BATCH as u32)?;
            answers += peer.numbers().len();
        }
        kill(child, Signal::SIGKILL)?;
        waitpid(child, None)?;
    }
    println!("{answers} answers, {KILLS} kills");
    assert!(answers > KILLS, "nobody worked");

    // What leaves: all frames come back, and there are as many as ever. None of them is sent in place of another.
    let mut sender = XdpSender::map(queue)?;
    let mut receiver = XdpReceiver::map(queue)?;
    while receiver.receive() > 0 {}
    while sender.under_way() > 0 {
        sender.turn()?;
    }
    peer.numbers();
    peer.send_numbers(1)?;
    while receiver.receive() == 0 {}
    let mut packet = receiver.packets_mut().next().ok_or("no packet")?.to_vec();
    receiver.give_back();
    turn_round(&mut packet);
    for number in 0..SEND_FRAMES {
        packet[PAYLOAD..PAYLOAD + 4].copy_from_slice(&(1 << 31 | number).to_be_bytes());
        assert!(
            sender.write(|room| copy(&packet, room)),
            "only {number} frames to send"
        );
    }
    assert!(
        !sender.write(|room| copy(&packet, room)),
        "too many frames to send"
    );
    sender.commit()?;
    let mut seen = BTreeSet::new();
    while seen.len() < SEND_FRAMES as usize {
        seen.extend(peer.numbers());
    }
    assert!(
        seen.into_iter()
            .eq((0..SEND_FRAMES).map(|number| 1 << 31 | number))
    );
    while sender.under_way() > 0 {
        sender.turn()?;
    }

    // What comes: as many packets as there are frames find one, each its own; one more does not.
    receiver.losses()?;
    let first = peer.number;
    for _ in 0..RECEIVE_FRAMES / BATCH as u32 {
        peer.send_numbers(BATCH as u32)?;
    }
    peer.send_numbers(1)?;
    let one = XdpLosses {
        no_frame: 1,
        ..XdpLosses::default()
    };
    let mut lost = XdpLosses::default();
    while lost == XdpLosses::default() {
        lost = receiver.losses()?;
    }
    assert_eq!(lost, one);
    let mut seen = Vec::new();
    while seen.len() < RECEIVE_FRAMES as usize {
        receiver.receive();
        seen.extend(receiver.packets_mut().filter_map(|packet| number_of(packet)));
    }
    assert!(seen.into_iter().eq(first..first + RECEIVE_FRAMES));
    assert_eq!(receiver.losses()?, XdpLosses::default());
    println!("test every_frame_outlives_whoever_worked_with_it ... ok");
    Ok(())
}

/// The other end of the wire.
struct Peer {
    socket: DatagramSocket,
    send: SendBatch,
    receive: ReceiveBatch,
    number: u32,
}

impl Peer {
    /// Sends packets with consecutive numbers in them, all with the first bit set: ESP, as far as anybody looks.
    fn send_numbers(&mut self, count: u32) -> Result<(), Box<dyn std::error::Error>> {
        let payloads: Vec<[u8; 24]> = (self.number..self.number + count).map(payload).collect();
        let to = SocketAddr::from(([10, 9, 0, 2], 4500));
        let datagrams: Vec<_> = payloads.iter().map(|data| Datagram::to(to, data)).collect();
        self.send
            .send(&self.socket, &datagrams)
            .map_err(|error| error.error)?;
        self.number += count;
        Ok(())
    }

    /// The numbers of all answers that wait.
    fn numbers(&mut self) -> Vec<u32> {
        let mut numbers = Vec::new();
        while self.receive.receive(&self.socket).is_ok() {
            let read = self.receive.iter_mut();
            numbers.extend(read.filter_map(|read| Some(u32::from_be_bytes(*read.data.first_chunk()?))));
        }
        numbers
    }
}

/// Sends back what comes, until it is killed.
fn echo(queue: &XdpQueue) -> ! {
    let _ = nix::sys::prctl::set_pdeathsig(Signal::SIGKILL);
    let (Ok(mut receiver), Ok(mut sender)) = (XdpReceiver::map(queue), XdpSender::map(queue)) else {
        std::process::abort();
    };
    loop {
        receiver.receive();
        for packet in receiver.packets_mut() {
            turn_round(packet);
            sender.write(|room| copy(packet, room));
        }
        let _ = sender.commit();
    }
}

fn payload(number: u32) -> [u8; 24] {
    let mut payload = [7; 24];
    payload[..4].copy_from_slice(&number.to_be_bytes());
    payload
}

fn number_of(packet: &[u8]) -> Option<u32> {
    packet
        .get(PAYLOAD..)?
        .first_chunk()
        .map(|octets| u32::from_be_bytes(*octets))
}

fn copy(packet: &[u8], room: &mut [u8]) -> Option<usize> {
    room.get_mut(..packet.len())?.copy_from_slice(packet);
    Some(packet.len())
}

/// Back to where it came from, without a UDP checksum.
fn turn_round(packet: &mut [u8]) {
    let (to, from) = packet.split_at_mut(6);
    to.swap_with_slice(&mut from[..6]);
    let (from, to) = packet.split_at_mut(30);
    from[26..].swap_with_slice(&mut to[..4]);
    packet[40..PAYLOAD].fill(0);
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status();
    assert!(status.is_ok_and(|status| status.success()), "ip {arguments}");
}

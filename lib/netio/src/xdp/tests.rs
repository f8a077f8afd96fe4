//! On a veth pair between two namespaces of the test's own.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use super::*;
use crate::test::is_root;
use crate::{Datagram, DatagramSocket, Namespace, SendBatch, SocketOptions, interface};

mod clear;

const DEVICE: &str = "swx";
const ESP_IN_UDP: &[u8] = b"\x01\x02\x03\x04seq.and some octets";
const OURS: [&str; 2] = ["10.9.0.2", "fd09::2"];
const OTHER: [&str; 2] = ["10.9.0.3", "fd09::3"];

struct Pair {
    near: Namespace,
    far: Namespace,
}

/// Two namespaces with a device of the same name in each, joined; `None` without root.
fn pair() -> Option<Pair> {
    if !is_root() {
        return None;
    }
    let (near, far) = (Namespace::create().unwrap(), Namespace::create().unwrap());
    let ends = [
        (&near, [OURS, OTHER].as_flattened()),
        (&far, &["10.9.0.1", "fd09::1"]),
    ];
    near.run(|| {
        ip("link add swx type veth peer name swy");
        interface::move_to("swy", &far).unwrap();
    })
    .unwrap();
    far.run(|| ip("link set swy name swx")).unwrap();
    for (namespace, addresses) in ends {
        namespace
            .run(|| {
                for address in addresses {
                    let length = if address.contains(':') { "64 nodad" } else { "24" };
                    ip(&format!("addr add {address}/{length} dev {DEVICE}"));
                }
                interface::set_up(DEVICE).unwrap();
            })
            .unwrap();
    }
    Some(Pair { near, far })
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split(' ')).status().unwrap();
    assert!(status.success(), "ip {arguments}");
}

fn ours() -> BTreeSet<IpAddr> {
    OURS.iter().map(|address| address.parse().unwrap()).collect()
}

impl Pair {
    fn port(&self) -> XdpPort {
        let mut port = self.near.run(|| XdpPort::open(DEVICE, 8)).unwrap().unwrap();
        port.set_addresses(&ours()).unwrap();
        port
    }

    fn far_socket(&self, address: &str) -> UdpSocket {
        let any = if address.contains(':') {
            "[::]:0"
        } else {
            "0.0.0.0:0"
        };
        let bind = || UdpSocket::bind(any).unwrap();
        self.far.run(bind).unwrap()
    }
}

fn to(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

/// Waits until so many packets were taken; returns them.
fn take(receiver: &mut XdpReceiver, count: usize) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while all.len() < count {
        if receiver.receive() == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        all.extend(receiver.packets_mut().map(|packet| packet.to_vec()));
    }
    all
}

#[test]
fn esp_to_our_addresses_and_nothing_else_is_taken() {
    let Some(pair) = pair() else { return };
    let port = pair.port();
    assert!(port.native && !port.is_gone());
    assert_eq!(port.queues.len(), 1);
    let mut receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    for (ours, other) in OURS.into_iter().zip(OTHER) {
        let kernel = |address: &str| {
            let bind = || UdpSocket::bind(to(address, 4500)).unwrap();
            pair.near.run(bind).unwrap()
        };
        let (at_ours, at_other) = (kernel(ours), kernel(other));
        let from = pair.far_socket(ours);
        let options = SocketOptions::default();
        let raw = pair
            .far
            .run(|| DatagramSocket::bind_esp(to("10.9.0.1", 0), options))
            .unwrap()
            .unwrap();
        let raw6 = pair
            .far
            .run(|| DatagramSocket::bind_esp(to("fd09::1", 0), options))
            .unwrap()
            .unwrap();
        let mut tagged = ESP_IN_UDP.to_vec();
        tagged[0] = 0x77;
        // What the kernel gets: IKE, a keepalive, what is cut, what is long, what is for others.
        from.send_to(&[0; 40], to(ours, 4500)).unwrap();
        from.send_to(&[0xff], to(ours, 4500)).unwrap();
        from.send_to(&[7; 3], to(ours, 4500)).unwrap();
        from.send_to(&[7; 3000], to(ours, 4500)).unwrap();
        from.send_to(&tagged, to(other, 4500)).unwrap();
        // What we get.
        from.send_to(ESP_IN_UDP, to(ours, 4500)).unwrap();
        let socket = if ours.contains(':') { &raw6 } else { &raw };
        SendBatch::new(1)
            .send(socket, &[Datagram::to(to(ours, 0), b"\x05\x06\x07\x08seq.raw")])
            .unwrap();
        from.send_to(&[9; 1400], to(ours, 4500)).unwrap();
        let packets = take(&mut receiver, 3);
        let (udp, raw) = if ours.contains(':') { (62, 54) } else { (42, 34) };
        assert_eq!(&packets[0][udp..], ESP_IN_UDP);
        assert_eq!(&packets[1][raw..], b"\x05\x06\x07\x08seq.raw");
        assert_eq!(packets[2][udp..], [9; 1400]);
        let mut buffer = [0; 4000];
        let mut lengths = Vec::new();
        for _ in 0..4 {
            lengths.push(at_ours.recv(&mut buffer).unwrap());
        }
        assert_eq!(lengths, [40, 1, 3, 3000]);
        assert_eq!(at_other.recv(&mut buffer).unwrap(), tagged.len());
    }
    assert_eq!(receiver.receive(), 0);
    assert_eq!(receiver.losses().unwrap(), XdpLosses::default());
}

#[test]
fn what_is_tagged_has_options_or_is_cut_goes_to_the_kernel() {
    let Some(pair) = pair() else { return };
    for namespace in [&pair.near, &pair.far] {
        namespace
            .run(|| interface::set_mtu(DEVICE, 2000).unwrap())
            .unwrap();
    }
    let port = pair.port();
    let mut receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    let far = pair.far.run(|| XdpPort::open(DEVICE, 8)).unwrap().unwrap();
    let mut sender = XdpSender::map(&far.queues[0]).unwrap();
    let from = pair.far_socket(OURS[0]);
    from.send_to(ESP_IN_UDP, to(OURS[0], 4500)).unwrap();
    let plain = take(&mut receiver, 1).remove(0);
    let changed = |at: usize, octets: &[u8]| {
        let mut packet = plain.clone();
        packet.splice(at..at + octets.len(), octets.iter().copied());
        packet
    };
    let mut tagged = plain.clone();
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    let mut long = plain.clone();
    long.resize(XDP_MAX_PACKET + 1, 0);
    // The far end of the pair drops it, and goes on with the next.
    let mut too_long = plain.clone();
    too_long.resize(2018 + 1, 0);
    let others = [
        tagged,
        too_long,
        long,
        changed(12, &[0x08, 0x06]),
        changed(14, &[0x46]),
        changed(20, &[0x20, 0]),
        changed(20, &[0, 1]),
        changed(23, &[6]),
        changed(36, &[1, 244]),
        changed(38, &[0, 11]),
        changed(42, &[0; 4]),
        plain[..40].to_vec(),
        plain[..45].to_vec(),
        plain[..20].to_vec(),
    ];
    for packet in others.iter().chain([&plain]) {
        assert!(sender.write(|room| {
            room.get_mut(..packet.len())?.copy_from_slice(packet);
            Some(packet.len())
        }));
    }
    sender.commit().unwrap();
    assert_eq!(take(&mut receiver, 1), [plain], "the last alone");
    assert_eq!(receiver.receive(), 0);
    assert_eq!(receiver.losses().unwrap(), XdpLosses::default());
}

#[test]
fn what_is_no_longer_ours_goes_to_the_kernel() {
    let Some(pair) = pair() else { return };
    let mut port = pair.port();
    let mut receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    let bind = || UdpSocket::bind(to(OURS[0], 4500)).unwrap();
    let kernel = pair.near.run(bind).unwrap();
    let from = pair.far_socket(OURS[0]);
    let mut buffer = [0; 100];
    let mut send = |to_kernel: bool, receiver: &mut XdpReceiver| {
        from.send_to(ESP_IN_UDP, to(OURS[0], 4500)).unwrap();
        if to_kernel {
            assert_eq!(kernel.recv(&mut buffer).unwrap(), ESP_IN_UDP.len());
        } else {
            assert_eq!(take(receiver, 1).len(), 1);
        }
    };
    send(false, &mut receiver);
    port.set_addresses(&BTreeSet::new()).unwrap();
    send(true, &mut receiver);
    port.set_addresses(&ours()).unwrap();
    send(false, &mut receiver);
    // The program goes with its link, although the socket is still open here.
    drop(port);
    send(true, &mut receiver);
    assert_eq!(receiver.receive(), 0);
}

#[test]
fn what_is_written_leaves_and_frames_come_back() {
    let Some(pair) = pair() else { return };
    let port = pair.port();
    let mut receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    let mut sender = XdpSender::map(&port.queues[0]).unwrap();
    let from = pair.far_socket(OURS[0]);
    let mut buffer = [0; 2000];
    // More than there are frames, in bursts as large as the kernel's queue at the far end takes.
    for _ in 0..100 {
        from.send_to(&[7; 100], to(OURS[0], 4500)).unwrap();
        let [packet] = &take(&mut receiver, 1)[..] else {
            panic!("one packet")
        };
        let mut answer = packet.clone();
        answer[..6].copy_from_slice(&packet[6..12]);
        answer[6..12].copy_from_slice(&packet[..6]);
        answer[26..30].copy_from_slice(&packet[30..34]);
        answer[30..34].copy_from_slice(&packet[26..30]);
        answer[34..36].copy_from_slice(&packet[36..38]);
        answer[36..38].copy_from_slice(&packet[34..36]);
        // No UDP checksum.
        answer[40..42].copy_from_slice(&[0; 2]);
        for _ in 0..64 {
            assert!(sender.write(|room| {
                room.get_mut(..answer.len())?.copy_from_slice(&answer);
                Some(answer.len())
            }));
        }
        sender.commit().unwrap();
        for _ in 0..64 {
            assert_eq!(from.recv(&mut buffer).unwrap(), 100);
        }
    }
    assert!(!sender.write(|_| None));
    while sender.under_way() > 0 {
        sender.turn().unwrap();
    }
}

#[test]
fn losses_are_told_once_and_every_frame_is_used() {
    let Some(pair) = pair() else { return };
    let port = pair.port();
    let receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    let from = pair.far_socket(OURS[0]);
    for _ in 0..RECEIVE_FRAMES + 100 {
        from.send_to(&[7; 100], to(OURS[0], 4500)).unwrap();
    }
    let lost = |no_frame| XdpLosses {
        no_frame,
        ..XdpLosses::default()
    };
    let mut told = 0;
    while told < 100 {
        told += receiver.losses().unwrap().no_frame;
    }
    assert_eq!(told, 100);
    drop(receiver);
    // The next life is not told again, and finds all.
    let mut receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    assert_eq!(receiver.losses().unwrap(), lost(0));
    assert_eq!(take(&mut receiver, RECEIVE_FRAMES).len(), RECEIVE_FRAMES);
    assert_eq!(receiver.receive(), 0);
}

#[test]
fn a_device_is_used_once_and_its_end_is_noticed() {
    let Some(pair) = pair() else { return };
    let open = |name: &'static str| pair.near.run(move || XdpPort::open(name, 8)).unwrap();
    assert!(open("swn-none").unwrap_err().to_string().contains("swn-none"));
    let port = open(DEVICE).unwrap();
    let second = open(DEVICE).unwrap_err();
    assert_eq!(second.raw_os_error(), Some(libc::EBUSY), "{second}");
    drop(port);
    pair.near.run(|| ip("link set swx down")).unwrap();
    // A child of another test has copies of our descriptors until it executes its program.
    let mut port = loop {
        match open(DEVICE) {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                std::thread::sleep(Duration::from_millis(1));
            }
            opened => break opened.unwrap(),
        }
    };
    port.set_addresses(&ours()).unwrap();
    let mut receiver = XdpReceiver::map(&port.queues[0]).unwrap();
    pair.near.run(|| ip("link set swx up")).unwrap();
    let from = pair.far_socket(OURS[0]);
    from.send_to(ESP_IN_UDP, to(OURS[0], 4500)).unwrap();
    assert_eq!(take(&mut receiver, 1).len(), 1, "opened while it was down");
    assert!(!port.is_gone() && !receiver.is_gone());
    pair.near.run(|| ip("link set swx down")).unwrap();
    assert!(!port.is_gone() && !receiver.is_gone(), "only down");
    let elsewhere = Namespace::create().unwrap();
    let moves = || interface::move_to(DEVICE, &elsewhere).unwrap();
    pair.near.run(moves).unwrap();
    assert!(port.is_gone() && receiver.is_gone());
}

/// All frames are there, and none twice: each takes a packet of its own, or leaves with one.
fn all_frames_are_there(pair: &Pair, queue: &XdpQueue, step: &str) {
    let mut receiver = XdpReceiver::map(queue).unwrap();
    let mut sender = XdpSender::map(queue).unwrap();
    let from = pair.far_socket(OURS[0]);
    while receiver.receive() > 0 {}
    receiver.losses().unwrap();
    // Twice, for a frame that is in two places may come up late.
    for _ in 0..2 {
        for number in 0..RECEIVE_FRAMES as u32 + 1 {
            from.send_to(&(1 << 31 | number).to_be_bytes(), to(OURS[0], 4500))
                .unwrap();
        }
        // One finds no frame.
        while receiver.losses().unwrap().no_frame == 0 {}
        let mut numbers = BTreeSet::new();
        while receiver.receive() > 0 {
            numbers.extend(receiver.packets_mut().map(|packet| packet[42..46].to_vec()));
        }
        assert_eq!(numbers.len(), RECEIVE_FRAMES, "{step}");
    }
    while sender.under_way() > 0 {
        sender.turn().unwrap();
    }
    let frames: BTreeSet<_> = sender.free.iter().collect();
    assert_eq!(frames.len(), SEND_FRAMES, "{step}");
    assert_eq!(sender.free.len(), SEND_FRAMES, "{step}");
}

#[test]
fn every_step_of_a_hand_over_can_be_the_last() {
    let Some(pair) = pair() else { return };
    let port = pair.port();
    let queue = &port.queues[0];
    type Step = (&'static str, fn(&mut XdpReceiver, &mut XdpSender));
    let steps: [Step; 7] = [
        ("taken, not consumed", |receiver, _| {
            let first = receiver.ring.consumed();
            receiver.receive();
            receiver.ring.consume(first);
            receiver.taken.clear();
        }),
        ("consumed, not given back", |receiver, _| {
            receiver.receive();
            receiver.taken.clear();
        }),
        ("given back, not produced", |receiver, _| {
            let produced = receiver.fill.produced();
            receiver.receive();
            receiver.give_back();
            receiver.fill.produce(produced);
        }),
        ("written, not shown", |_, sender| {
            assert!(sender.write(|_| Some(60)));
        }),
        ("shown, not sent", |_, sender| {
            assert!(sender.write(|_| Some(60)));
            sender.ring.produce(sender.written);
        }),
        ("sent, not taken", |_, sender| {
            assert!(sender.write(|_| Some(60)));
            sender.commit().unwrap();
        }),
        ("taken, not consumed, when sent", |_, sender| {
            assert!(sender.write(|_| Some(60)));
            sender.commit().unwrap();
            while sender.completion.produced() == sender.completion.consumed() {}
            let first = sender.completion.consumed();
            sender.collect();
            sender.completion.consume(first);
        }),
    ];
    for (step, run) in steps {
        {
            let mut receiver = XdpReceiver::map(queue).unwrap();
            let mut sender = XdpSender::map(queue).unwrap();
            let from = pair.far_socket(OURS[0]);
            from.send_to(ESP_IN_UDP, to(OURS[0], 4500)).unwrap();
            while receiver.ring.produced() == receiver.ring.consumed() {}
            run(&mut receiver, &mut sender);
        }
        all_frames_are_there(&pair, queue, step);
    }
}

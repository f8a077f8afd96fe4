//! What is to enter a tunnel.

use std::os::fd::AsFd;

use super::*;
use crate::xdp::program::CLEAR_TYPE;
use crate::{NODE_MARK, Tun};

const TUN: &str = "swt";
/// Behind tunnels.
const PEERS: [&str; 2] = ["10.1.0.5", "fd01::5"];
/// Known by default routes alone.
const ELSEWHERE: [&str; 2] = ["10.77.0.1", "fd77::1"];
/// Where the payload of UDP begins in a frame.
const PAYLOAD_AT: [usize; 2] = [42, 62];
/// The same with a TUN's header in front.
const FORWARDED_AT: [usize; 2] = [12 + 28, 12 + 48];

/// The near end forwards, with a TUN and the rules that lead to it as a node has them.
struct Gateway {
    pair: Pair,
    tun: Tun,
    port: XdpPort,
}

impl Gateway {
    fn new() -> Option<Self> {
        let pair = pair()?;
        let tun = pair.near.run(|| {
            let tun = Tun::create(TUN, 1, 1500).unwrap();
            for (family, peers, own) in [
                ("-4", "10.1.0.0/16", "10.9.0.0/24"),
                ("-6", "fd01::/16", "fd09::/64"),
            ] {
                let rule = format!("{family} rule add not fwmark {NODE_MARK} lookup {NODE_MARK}");
                ip(&format!("{rule} suppress_prefixlength 0 priority 4500"));
                ip(&format!("{rule} priority 45000"));
                ip(&format!("{family} route add {peers} dev {TUN} table {NODE_MARK}"));
                ip(&format!("{family} route add throw {own} table {NODE_MARK}"));
            }
            for file in ["ipv4/ip_forward", "ipv6/conf/all/forwarding"] {
                std::fs::write(format!("/proc/sys/net/{file}"), "1").unwrap();
            }
            tun
        });
        let routes = || {
            ip("route add default via 10.9.0.2");
            ip("-6 route add default via fd09::2");
        };
        pair.far.run(routes).unwrap();
        let mut port = pair.port();
        let number = pair.near.run(|| interface::index(TUN)).unwrap().unwrap();
        port.set_tun(Some(number)).unwrap();
        let gateway = Self {
            pair,
            tun: tun.unwrap(),
            port,
        };
        gateway.acquaint();
        Some(gateway)
    }

    /// Both ends learn each other's station.
    fn acquaint(&self) {
        for address in OURS {
            let ping = || Command::new("ping").args(["-c1", "-W5", address]).output();
            assert!(self.pair.far.run(ping).unwrap().unwrap().status.success());
        }
    }

    fn receiver(&self) -> XdpReceiver {
        XdpReceiver::map(&self.port.queues[0]).unwrap()
    }

    /// `ip` at the near end.
    fn ip(&self, arguments: &str) {
        self.pair.near.run(|| ip(arguments)).unwrap();
    }

    /// Sends a datagram with `text` from the far end.
    fn send(&self, address: &str, text: &str) {
        let socket = self.pair.far_socket(address);
        socket.send_to(text.as_bytes(), to(address, 9)).unwrap();
    }

    /// The next packet that the kernel forwards into the TUN with UDP in it: its payload.
    fn forwarded(&self) -> Vec<u8> {
        let queue = self.tun.queues[0].as_fd().try_clone_to_owned().unwrap();
        let mut queue = std::fs::File::from(queue);
        let mut buffer = [0; 4096];
        loop {
            let Ok(length) = std::io::Read::read(&mut queue, &mut buffer) else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let packet = &buffer[12..length];
            match packet[0] >> 4 {
                4 if packet[9] == 17 => return buffer[FORWARDED_AT[0]..length].to_vec(),
                6 if packet[6] == 17 => return buffer[FORWARDED_AT[1]..length].to_vec(),
                _ => {}
            }
        }
    }

    /// A datagram to this address goes by the kernel into the TUN.
    fn kernel_forwards(&self, address: &str, text: &str) {
        self.send(address, text);
        assert_eq!(self.forwarded(), text.as_bytes(), "{address}");
    }
}

#[test]
fn what_the_kernel_would_send_into_the_tun_is_taken_and_nothing_else() {
    let Some(mut gateway) = Gateway::new() else { return };
    let mut receiver = gateway.receiver();
    let taken = |gateway: &Gateway, receiver: &mut XdpReceiver, address: &str, payload_at: usize| {
        gateway.send(address, "into a tunnel");
        let packet = take(receiver, 1).remove(0);
        assert_eq!(&packet[payload_at..], b"into a tunnel", "{address}");
        assert_eq!(packet[12..14], CLEAR_TYPE.to_be_bytes());
    };
    for ((peer, elsewhere), payload_at) in PEERS.into_iter().zip(ELSEWHERE).zip(PAYLOAD_AT) {
        let (family, everything, other) = if peer.contains(':') {
            ("-6", "::/0", "via fd09::1")
        } else {
            ("-4", "0.0.0.0/0", "via 10.9.0.1")
        };
        taken(&gateway, &mut receiver, peer, payload_at);
        gateway.ip(&format!("{family} neigh flush dev {DEVICE}"));
        gateway.kernel_forwards(peer, "nobody knows the way back");
        gateway.acquaint();
        taken(&gateway, &mut receiver, peer, payload_at);
        // A default route behind a peer takes what nobody else has a route for.
        gateway.ip(&format!(
            "{family} route add {everything} dev {TUN} table {NODE_MARK}"
        ));
        taken(&gateway, &mut receiver, elsewhere, payload_at);
        gateway.ip(&format!("{family} route add {elsewhere} {other}"));
        gateway.send(elsewhere, "sent back");
        gateway.ip(&format!("{family} route del {elsewhere}"));
        taken(&gateway, &mut receiver, elsewhere, payload_at);
        // Rules of an operator come first.
        gateway.ip(&format!(
            "{family} rule add ipproto udp dport 9 prohibit priority 4000"
        ));
        gateway.send(peer, "prohibited");
        gateway.ip(&format!("{family} rule del priority 4000"));
        taken(&gateway, &mut receiver, peer, payload_at);
    }
    // As another version leaves it to this one: the program is replaced.
    gateway.port.tun = None;
    gateway.port.set_tun(None).unwrap();
    gateway.kernel_forwards(PEERS[0], "no TUN");
    let number = gateway.pair.near.run(|| interface::index(TUN)).unwrap().unwrap();
    gateway.port.set_tun(Some(number)).unwrap();
    taken(&gateway, &mut receiver, PEERS[0], PAYLOAD_AT[0]);
    let from = gateway.pair.far_socket(OURS[0]);
    from.send_to(ESP_IN_UDP, to(OURS[0], 4500)).unwrap();
    let esp = take(&mut receiver, 1).remove(0);
    assert_eq!((&esp[12..14], &esp[PAYLOAD_AT[0]..]), (&[8, 0][..], ESP_IN_UDP));
    assert_eq!(receiver.losses().unwrap(), XdpLosses::default());
}

#[test]
fn what_is_not_plain_goes_to_the_kernel() {
    let Some(gateway) = Gateway::new() else { return };
    let mut receiver = gateway.receiver();
    // As they were sent.
    let mut sent = |peer, kind: [u8; 2]| {
        gateway.send(peer, "plain");
        let mut frame = take(&mut receiver, 1).remove(0);
        frame[12..14].copy_from_slice(&kind);
        frame
    };
    let (plain, plain6) = (sent(PEERS[0], [8, 0]), sent(PEERS[1], [0x86, 0xdd]));
    let open = || XdpPort::open(DEVICE, 1).unwrap();
    let far = gateway.pair.far.run(open).unwrap();
    let mut sender = XdpSender::map(&far.queues[0]).unwrap();
    let changed = |plain: &[u8], at: usize, octets: &[u8]| {
        let mut packet = plain.to_vec();
        packet.splice(at..at + octets.len(), octets.iter().copied());
        packet
    };
    let mut others = Vec::new();
    // Station, options, fragments, TTL, protocol (SCTP), addresses that nobody or somebody else has.
    for (at, octets) in [
        (0, &[2, 0, 0, 0, 0, 9][..]),
        (0, &[0xff; 6]),
        (14, &[0x46]),
        (20, &[0x20, 0]),
        (20, &[0, 1]),
        (22, &[1]),
        (22, &[0]),
        (23, &[132]),
        (26, &[0, 0, 0, 0]),
        (26, &[127, 0, 0, 1]),
        (26, &[224, 0, 0, 1]),
        (26, &[10, 9, 0, 2]),
        (26, &[10, 1, 0, 9]),
        (26, &[10, 77, 0, 1]),
        (30, &[10, 9, 0, 2]),
        (30, &[10, 9, 0, 1]),
        (30, &[239, 0, 0, 1]),
        (30, &[255, 255, 255, 255]),
        // Longer than the TUN takes, by its own word.
        (16, &[6, 0]),
    ] {
        others.push(changed(&plain, at, octets));
    }
    for (at, octets) in [
        (0, &[2, 0, 0, 0, 0, 9][..]),
        (20, &[0]),
        (20, &[44]),
        (20, &[132]),
        (21, &[1]),
        (22, &[0; 16]),
        (22, &[0xfe, 0x80]),
        (22, &[0xff, 2]),
        (22, &[0xfd, 1]),
        (22, &[0xfd, 0x77]),
        (38, &[0xfe, 0x80]),
        (38, &[0xff, 2]),
        (38, &[0; 15]),
        (18, &[6, 0]),
    ] {
        others.push(changed(&plain6, at, octets));
    }
    others.extend([plain[..37].to_vec(), plain6[..57].to_vec()]);
    for packet in others.iter().chain([&plain, &plain6]) {
        assert!(sender.write(|room| {
            room.get_mut(..packet.len())?.copy_from_slice(packet);
            Some(packet.len())
        }));
    }
    sender.commit().unwrap();
    // What came from there carries the way back as the kernel has it.
    let mark = CLEAR_TYPE.to_be_bytes();
    let taken = [&plain, &plain6].map(|frame| changed(frame, 12, &mark));
    assert_eq!(take(&mut receiver, 2), taken, "the last two alone");
    assert_eq!(receiver.receive(), 0);
    assert_eq!(receiver.losses().unwrap(), XdpLosses::default());
}

#[test]
fn a_frame_tells_the_way_back_as_the_kernel_has_it() {
    let Some(gateway) = Gateway::new() else { return };
    let mut receiver = gateway.receiver();
    for (peer, other) in PEERS.into_iter().zip(["10.9.0.1", "fd09::1"]) {
        gateway.send(peer, "from its own station");
        let first = take(&mut receiver, 1).remove(0);
        gateway.ip(&format!(
            "neigh replace {other} lladdr 02:00:00:00:00:77 dev {DEVICE} nud permanent"
        ));
        gateway.send(peer, "from another, as far as the kernel knows");
        let second = take(&mut receiver, 1).remove(0);
        assert_eq!(second[..6], first[..6]);
        assert_eq!(second[6..12], [2, 0, 0, 0, 0, 0x77]);
        assert_ne!(second[6..12], first[6..12]);
    }
    // Not forwarding at all.
    let stop = || std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    gateway.pair.near.run(stop).unwrap();
    gateway.send(PEERS[0], "nowhere");
    gateway.send(PEERS[1], "last");
    assert_eq!(&take(&mut receiver, 1)[0][PAYLOAD_AT[1]..], b"last");
}

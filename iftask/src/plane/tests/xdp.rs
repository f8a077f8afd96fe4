//! The encrypted side by AF_XDP, over a veth. Needs root, and says so without.

use netio::XdpSender;
use sadb::Encapsulation;

use super::kernel::{ENCAPSULATIONS, End, Server, ends, has, ip};
use super::world::CONTEXT;
use crate::counters::Count;
use crate::plane::xdp::frame::{Envelope, Way};
use crate::plane::{Command, Lost, LostDevice};

/// What AF_XDP must never have done.
fn nothing_wrong(end: &End) {
    let wrong = [
        Count::BadOuter,
        Count::BadIcv,
        Count::XdpNoFrame,
        Count::XdpRingFull,
        Count::XdpOther,
        Count::NotSent,
    ];
    assert!(wrong.iter().all(|count| end.count(*count) == 0), "{}", end.show());
}

/// Pings from end to end, until the path is known to both.
fn ping(a: &End, arguments: &str) {
    a.run("ping", &format!("-c 3 -i 0.02 -W 5 {arguments}"));
}

#[test]
fn pings_cross_in_every_encapsulation() {
    for (number, change) in (40..).zip(ENCAPSULATIONS) {
        let Some((a, b)) = ends(number, change) else {
            return;
        };
        // The other end has the kernel's own checks.
        let port = a.use_xdp();
        assert!(port.native);
        // The first packet cannot know the way.
        a.run("ping", "-c 1 -W 5 10.2.0.7");
        for size in [0, 56, 1300] {
            for target in ["10.2.0.7", "fd02::7"] {
                ping(&a, &format!("-s {size} {target}"));
            }
        }
        a.settled(|| a.count(Count::XdpSent) + 1 >= a.count(Count::EspSent));
        assert_eq!(a.count(Count::XdpReceived), a.count(Count::EspReceived));
        assert!(a.count(Count::XdpReceived) >= 18, "{}", a.show());
        nothing_wrong(&a);
        assert_eq!(b.count(Count::BadIcv), 0);
        // Longer than the path: cut before encryption over IPv4.
        let once = "-c 1 -W 1 -M dont -s 4000 10.2.0.7";
        let _ = (0..10).find(|_| a.program("ping", once).output().unwrap().status.success());
        ping(&a, "-M dont -s 4000 10.2.0.7");
        // Back to sockets, and none of it is lost.
        let received = a.count(Count::XdpReceived);
        drop(port);
        a.tell(Command::CloseXdp {
            context: CONTEXT,
            device: "swe-veth".to_owned(),
        });
        ping(&a, "10.2.0.7");
        assert!(a.count(Count::XdpReceived) <= received + 9);
        assert!(a.count(Count::EspReceived) > a.count(Count::XdpReceived));
    }
}

#[test]
fn streams_cross_both_ways_between_two_ends_with_af_xdp() {
    let (Some((a, b)), true) = (ends(44, |_| {}), has("iperf3")) else {
        return;
    };
    let _ports = [a.use_xdp(), b.use_xdp()];
    let server = Server::start(&b);
    a.run("iperf3", "-c 10.2.0.7 -n 20M");
    a.run("iperf3", "-c 10.2.0.7 -n 20M -R");
    a.run("iperf3", "-c 10.2.0.7 -u -b 50M -t 1 -l 1300");
    drop(server);
    // Every packet is accounted for, however many come at once.
    for (end, other) in [(&a, &b), (&b, &a)] {
        let met = [
            Count::EspReceived,
            Count::Replayed,
            Count::XdpNoFrame,
            Count::XdpRingFull,
            Count::XdpOther,
        ];
        let arrived = || met.iter().map(|count| end.count(*count)).sum::<u64>();
        end.settled(|| arrived() == other.count(Count::EspSent));
    }
    for end in [&a, &b] {
        assert!(end.count(Count::XdpReceived) > 10_000, "{}", end.show());
        end.settled(|| end.count(Count::XdpSent) + 10 >= end.count(Count::EspSent));
        assert_eq!(
            end.count(Count::BadIcv) + end.count(Count::BadOuter),
            0,
            "{}",
            end.show()
        );
    }
}

#[test]
fn answers_follow_authentic_packets_alone() {
    let Some((a, b)) = ends(45, |_| {}) else { return };
    let _port = a.use_xdp();
    let theirs = b.use_xdp();
    for (end, last) in [(&a, 0xa), (&b, 0xb)] {
        end.ip(&format!("link set swe-veth address 02:00:00:00:00:0{last:x}"));
    }
    ping(&a, "10.2.0.7");
    // A new card at the other end.
    b.ip("link set swe-veth address 02:00:00:00:00:0c");
    b.run("ping", "-c 20 -i 0.05 -W 5 10.1.0.1");
    ping(&a, "10.2.0.7");

    // Somebody says that he is the other end, and cannot prove it.
    let forged = Envelope {
        way: Way {
            ours: [2, 0, 0, 0, 0, 0xd],
            neighbour: [2, 0, 0, 0, 0, 0xa],
        },
        local: "192.0.2.2:4500".parse().unwrap(),
        destination: "192.0.2.1:4500".parse().unwrap(),
        encapsulation: Encapsulation::Udp,
        traffic_class: 0,
        dont_fragment: true,
        identification: 0,
    };
    let known = a.count(Count::NoSa);
    let mut sender = XdpSender::map(&theirs.queues[0]).unwrap();
    assert!(sender.write(|room| forged.write(room, &[1; 100])));
    sender.commit().unwrap();
    a.settled(|| a.count(Count::NoSa) == known + 1);
    ping(&a, "10.2.0.7");
    assert_eq!(b.count(Count::BadOuter), 0);
}

#[test]
fn a_device_that_goes_is_given_up() {
    let Some((mut a, _b)) = ends(46, |_| {}) else {
        return;
    };
    let _port = a.use_xdp();
    ping(&a, "10.2.0.7");
    a.ip("link del swe-veth");
    let lost = LostDevice {
        context: CONTEXT,
        device: "swe-veth".to_owned(),
    };
    assert_eq!(a.loses(), Some(Lost::Xdp(lost)));
}

/// What no load makes right.
fn nothing_broken(end: &End) {
    let wrong = [
        Count::BadOuter,
        Count::BadClear,
        Count::BadIcv,
        Count::Malformed,
        Count::NotSelected,
    ];
    assert!(wrong.iter().all(|count| end.count(*count) == 0), "{}", end.show());
}

pub(super) const CORE: &str = "swc-veth";

/// A host behind an end, which forwards for it: 10.1.5.1 and fd01:5::1.
pub(super) fn host_behind(end: &End, number: u32) -> End {
    let host = End::new(&format!("swe-h{number}-{}", std::process::id()), 17);
    ip(&format!(
        "link add name {CORE} netns {} type veth peer name {CORE} netns {}",
        end.name(),
        host.name()
    ));
    for (side, last) in [(end, "fe"), (&host, "1")] {
        let decimal = u8::from_str_radix(last, 16).unwrap();
        side.ip(&format!("addr add 10.1.5.{decimal}/24 dev {CORE}"));
        side.ip(&format!("addr add fd01:5::{last}/64 dev {CORE} nodad"));
        side.ip(&format!("link set {CORE} up"));
    }
    host.ip("route add default via 10.1.5.254");
    host.ip("-6 route add default via fd01:5::fe");
    // As a node has it: the peers in a table of their own.
    end.ip("-6 rule add not fwmark 4500 lookup 4500 suppress_prefixlength 0 priority 4500");
    end.ip("-6 route del fd02::/16 dev swe-tun");
    end.ip("-6 route add fd02::/16 dev swe-tun table 4500");
    end.run(
        "sysctl",
        "-qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    host
}

#[test]
fn a_host_behind_a_port_reaches_its_peers_both_ways() {
    let (Some((a, b)), true) = (ends(47, |_| {}), has("iperf3")) else {
        return;
    };
    let host = host_behind(&a, 47);
    let port = a.use_xdp_of(CORE);
    assert!(port.native);
    for target in ["10.2.0.7", "fd02::7"] {
        // Until both stations know each other, the kernel does it.
        ping(&host, target);
        for size in [0, 56, 1300] {
            ping(&host, &format!("-s {size} {target}"));
        }
    }
    // Both see each hop.
    for target in ["10.2.0.7", "fd02::7"] {
        let text = host
            .program("ping", &format!("-c 1 -W 5 -t 1 {target}"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&text.stdout).into_owned();
        assert!(text.contains("exceeded"), "{text}");
        let text = host.run("ping", &format!("-c 1 -W 5 -t 2 {target}"));
        assert!(text.contains("ttl=63"), "{text}");
    }
    let server = Server::start(&b);
    host.run("iperf3", "-c 10.2.0.7 -n 20M");
    host.run("iperf3", "-c 10.2.0.7 -n 20M -R");
    host.run("iperf3", "-c fd02::7 -n 5M");
    host.run("iperf3", "-c 10.2.0.7 -u -b 50M -t 1 -l 1300");
    drop(server);
    a.settled(|| a.count(Count::ClearXdpSent) > 10_000);
    assert!(a.count(Count::ClearXdpReceived) > 10_000, "{}", a.show());
    // All but what began it.
    let count = |all, by_xdp| a.count(all) - a.count(by_xdp);
    a.settled(|| count(Count::Delivered, Count::ClearXdpSent) < 50);
    assert!(
        count(Count::ClearReceived, Count::ClearXdpReceived) < 50,
        "{}",
        a.show()
    );
    nothing_broken(&a);
    assert_eq!(b.count(Count::BadIcv), 0);

    // What says that it comes from this node is for the kernel.
    a.tell(Command::OwnAddresses(
        [(CONTEXT, "10.2.0.7".parse().unwrap())].into(),
    ));
    let by_tun = a.count(Count::Writes);
    ping(&host, "10.2.0.7");
    a.settled(|| a.count(Count::Writes) >= by_tun + 3);
    a.tell(Command::OwnAddresses([].into()));

    // Longer than the device takes: the kernel says so, or cuts it.
    a.ip(&format!("link set {CORE} mtu 1280"));
    host.ip(&format!("link set {CORE} mtu 1280"));
    b.run("ping", "-c 3 -i 0.2 -W 5 -M dont -s 1390 10.1.5.1");

    // A new card at the host.
    host.ip(&format!("link set {CORE} address 02:00:00:00:00:0c"));
    host.run("ping", "-c 20 -i 0.05 -W 5 10.2.0.7");
    let before = a.count(Count::ClearXdpSent);
    ping(&host, "10.2.0.7");
    a.settled(|| a.count(Count::ClearXdpSent) >= before + 3);

    // Back to the TUN.
    drop(port);
    a.tell(Command::CloseXdp {
        context: CONTEXT,
        device: CORE.to_owned(),
    });
    let before = a.count(Count::ClearXdpReceived);
    ping(&host, "10.2.0.7");
    assert_eq!(a.count(Count::ClearXdpReceived), before);
}

#[test]
fn both_sides_may_have_af_xdp() {
    let (Some((a, b)), true) = (ends(48, |_| {}), has("iperf3")) else {
        return;
    };
    let host = host_behind(&a, 48);
    let _ports = [a.use_xdp(), a.use_xdp_of(CORE), b.use_xdp()];
    ping(&host, "10.2.0.7");
    let server = Server::start(&b);
    host.run("iperf3", "-c 10.2.0.7 -n 20M");
    host.run("iperf3", "-c 10.2.0.7 -n 20M -R");
    drop(server);
    let counts = [
        Count::XdpReceived,
        Count::XdpSent,
        Count::ClearXdpReceived,
        Count::ClearXdpSent,
    ];
    a.settled(|| counts.iter().all(|count| a.count(*count) > 10_000));
    nothing_broken(&a);
}

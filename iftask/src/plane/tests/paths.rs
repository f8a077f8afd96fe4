//! What a path that is narrower than its ends makes of packets: a router says so, and their senders hear of it.
//!
//! ```text
//!   swp-a: TUN 10.1.0.1 ── Plane ── 192.0.2.1 ══ swp-r ═(narrow)═ 198.51.100.2 ── Plane ── TUN 10.2.0.7 :swp-b
//! ```

use esp::Checksum;
use sadb::{ChildSa, Encapsulation};

use super::kernel::{End, Server, has, ip, is_root, join};
use super::world::*;
use crate::counters::Count;

const SECOND: u64 = 1_000_000_000;

/// An ICMP message with its IP header that quotes so many octets of an ESP packet as it left.
fn too_big(sent: &Sent, mtu: u16, octets: usize) -> Vec<u8> {
    let udp = [&[0x11, 0x94, 0x11, 0x94, 0, 0, 0, 0], &sent.data[..]].concat();
    let mut packet = vec![
        0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 192, 0, 2, 1, 198, 51, 100, 7,
    ];
    packet.extend(udp);
    let length = packet.len() as u16;
    packet[2..4].copy_from_slice(&length.to_be_bytes());
    let mut message = vec![3, 4, 0, 0, 0, 0];
    message.extend(mtu.to_be_bytes());
    message.extend(&packet[..octets]);
    let sum = Checksum::new().with(&message).finish();
    message[2..4].copy_from_slice(&sum);
    let mut header = vec![0x45; 20];
    header.extend(message);
    header
}

fn large(gateway: &mut World, length: usize) -> Vec<Sent> {
    let (header, mut packet) = udp("10.1.0.1", "10.2.0.7", &vec![0; length - 28], None);
    packet[6] = 0x40;
    gateway.send(header, &packet);
    gateway.flushed()
}

fn tell(gateway: &mut World, mut message: Vec<u8>) {
    gateway.engine.too_big("192.0.2.1".parse().unwrap(), &mut message);
}

#[test]
fn a_narrow_path_is_believed_for_ten_minutes() {
    let (mut gateway, _, inbound, _) = tunnel(|_| {});
    let sent = large(&mut gateway, 1400);
    let message = too_big(&sent[0], 1300, 548);
    tell(&mut gateway, message.clone());
    assert_eq!(gateway.count(Count::PathsLearned), 1);
    assert_eq!(large(&mut gateway, 1400), []);
    let answer = &gateway.delivered()[0];
    assert_eq!(
        (answer[20..22].to_vec(), answer[26..28].to_vec()),
        (vec![3, 4], 1238u16.to_be_bytes().to_vec())
    );
    assert_eq!(large(&mut gateway, 1238).len(), 1);
    // Once more, or wider, is no news.
    tell(&mut gateway, message);
    let wider = too_big(&sent[0], 1350, 548);
    tell(&mut gateway, wider);
    assert_eq!(gateway.count(Count::PathsIgnored), 2);
    // A changed record and a new SA to the same peer know it.
    let mut sa = gateway_sa(inbound, 0xcafe, 7);
    sa.outbound_spi = esp::spi_of(&sent[0].data).unwrap();
    sa.dscp = sadb::DscpPolicy::Fixed(46);
    gateway.update(&sa);
    assert_eq!(large(&mut gateway, 1400), []);
    let new = gateway.owner.allocate().unwrap();
    gateway.install(&gateway_sa(new, 0xcafe, 7));
    assert_eq!(large(&mut gateway, 1400), []);
    // After a while a longer one is tried again.
    let later = gateway.engine.now_ns + 601 * SECOND;
    gateway.engine.begin(later);
    assert_eq!(large(&mut gateway, 1400).len(), 1);
}

#[test]
fn forged_messages_narrow_nothing_or_little() {
    let (mut gateway, ..) = tunnel(|_| {});
    let sent = large(&mut gateway, 1400);
    let mut stranger = sent[0].clone();
    stranger.data[3] ^= 1;
    let unknown_spi = too_big(&stranger, 576, 548);
    tell(&mut gateway, unknown_spi);
    assert_eq!(gateway.count(Count::PathsIgnored), 1);
    assert_eq!(large(&mut gateway, 1400).len(), 1);
    // Without an SPI it may be true, and may cost some octets.
    let no_spi = too_big(&sent[0], 68, 28);
    tell(&mut gateway, no_spi);
    assert_eq!(gateway.count(Count::PathsLearned), 1);
    assert_eq!(large(&mut gateway, 1218).len(), 1);
    // With the right one, down to what every host takes.
    let spi = too_big(&sent[0], 68, 548);
    tell(&mut gateway, spi);
    assert_eq!(large(&mut gateway, 1218), []);
    let sent = large(&mut gateway, 576);
    assert!(
        sent.len() == 1 && !sent[0].dont_fragment,
        "it may be cut on its way"
    );
}

#[test]
fn a_flood_of_messages_costs_little() {
    let (mut gateway, ..) = tunnel(|_| {});
    let sent = large(&mut gateway, 1400);
    let mut stranger = sent[0].clone();
    stranger.data[3] ^= 1;
    for _ in 0..20_000 {
        let message = too_big(&stranger, 1300, 548);
        tell(&mut gateway, message);
    }
    let message = too_big(&sent[0], 1300, 548);
    tell(&mut gateway, message.clone());
    assert_eq!(gateway.count(Count::PathsLearned), 0, "not looked at");
    let later = gateway.engine.now_ns + SECOND;
    gateway.engine.begin(later);
    tell(&mut gateway, message);
    assert_eq!(gateway.count(Count::PathsLearned), 1);
}

/// Both ends with a router between them, whose link to the far one takes `mtu` octets.
fn routed(number: u32, mtu: u16, change: impl Fn(&mut ChildSa)) -> Option<(End, End, End)> {
    if !is_root() {
        return None;
    }
    let id = std::process::id();
    let mut a = End::new(&format!("swp-a{number}-{id}"), 1);
    let mut b = End::new(&format!("swp-b{number}-{id}"), 9);
    let router = End::new(&format!("swp-r{number}-{id}"), 17);
    let [one, two, between] = [&a, &b, &router].map(|end| end.name().to_owned());
    for (end, device) in [(&one, "near"), (&two, "far")] {
        ip(&format!(
            "link add name swp-veth netns {end} type veth peer name {device} netns {between}"
        ));
    }
    router.run(
        "sysctl",
        "-q net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    for (end, device, net, host) in [
        (&a, "swp-veth", 1, 1),
        (&router, "near", 1, 9),
        (&router, "far", 2, 9),
        (&b, "swp-veth", 2, 2),
    ] {
        let v4 = ["192.0.2", "198.51.100"][net - 1];
        end.ip(&format!("addr add {v4}.{host}/24 dev {device}"));
        end.ip(&format!("link set {device} up"));
        end.ip(&format!("addr add 2001:db8:{net}::{host}/64 dev {device} nodad"));
    }
    router.ip(&format!("link set far mtu {mtu}"));
    b.ip(&format!("link set swp-veth mtu {mtu}"));
    for (end, net, v4) in [(&a, 1, "192.0.2"), (&b, 2, "198.51.100")] {
        end.ip(&format!("route add default via {v4}.9"));
        end.ip(&format!("-6 route add default via 2001:db8:{net}::9"));
    }
    join(&mut a, &mut b, |sa| {
        sa.peer = "198.51.100.2:4500".parse().unwrap();
        change(sa);
    });
    Some((a, b, router))
}

fn over_ipv6(sa: &mut ChildSa) {
    sa.local = "[2001:db8:1::1]:4500".parse().unwrap();
    sa.peer = "[2001:db8:2::2]:4500".parse().unwrap();
}

/// Sends echo requests of `length` octets one by one until `done`; senders that do not know yet lose some.
fn ping_until(a: &End, target: &str, length: usize, done: impl Fn(&str, bool) -> bool) {
    let header = if target.contains(':') { 48 } else { 28 };
    let arguments = format!("-c 1 -W 1 -M do -s {} {target}", length - header);
    let mut last = String::new();
    let found = (0..20).any(|_| {
        let ping = a.program("ping", &arguments).output().unwrap();
        last = String::from_utf8_lossy(&[ping.stdout, ping.stderr].concat()).into_owned();
        done(&last, ping.status.success())
    });
    assert!(found, "{length} octets to {target}: {last}{}", a.show());
}

#[test]
fn senders_hear_how_much_gets_through_the_narrowest_link() {
    type Change = fn(&mut ChildSa);
    let changes: [(Change, usize); 4] = [
        (|_| {}, 1338),
        (|sa| sa.encapsulation = Encapsulation::Esp, 1346),
        (over_ipv6, 1318),
        (
            |sa| {
                over_ipv6(sa);
                sa.encapsulation = Encapsulation::Esp;
            },
            1326,
        ),
    ];
    for (number, (change, fits)) in (0..).zip(changes) {
        let Some((a, _b, _router)) = routed(number, 1400, change) else {
            return;
        };
        for target in ["10.2.0.7", "fd02::7"] {
            ping_until(&a, target, 1400, |text, _| {
                text.contains(&format!("mtu={fits}")) || text.contains(&format!("mtu = {fits}"))
            });
            ping_until(&a, target, fits, |_, crossed| crossed);
        }
        assert_eq!(a.count(Count::PathsLearned), 1, "{number}: {}", a.show());
        // What may be cut crosses, whatever its length.
        for length in [1400, 4000] {
            let arguments = format!("-c 3 -i 0.02 -W 2 -M dont -s {length} 10.2.0.7");
            let ping = a.program("ping", &arguments).output().unwrap();
            let text = String::from_utf8_lossy(&ping.stdout);
            assert!(ping.status.success(), "{number}: {text}{}", a.show());
        }
    }
}

#[test]
fn streams_cross_a_narrow_path_in_super_packets() {
    let (Some((a, b, _router)), true) = (routed(20, 1400, |_| {}), has("iperf3")) else {
        return;
    };
    let server = Server::start(&b);
    for target in ["10.2.0.7", "fd02::7"] {
        a.run("iperf3", &format!("-c {target} -n 4M"));
    }
    drop(server);
    assert_eq!(a.count(Count::PathsLearned), 1, "{}", a.show());
}

#[test]
fn ipv6_packets_of_1280_cross_a_path_of_1280() {
    // Over IPv6 only we can cut what does not fit, and the kernel does so for UDP alone.
    let changes: [fn(&mut ChildSa); 2] = [|_| {}, over_ipv6];
    for (number, change) in (10..).zip(changes) {
        let Some((a, _b, _router)) = routed(number, 1280, change) else {
            return;
        };
        ping_until(&a, "fd02::7", 1280, |_, crossed| crossed);
    }
}

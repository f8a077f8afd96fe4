//! What comes out of tunnels, and what does not.

use esp::VnetHeader;
use proptest::prelude::*;
use sadb::SaCounter;

use super::world::*;
use crate::counters::Count;

/// Packets of the peer, each in a datagram.
fn from_peer(peer: &mut World, payloads: &[&[u8]]) -> Vec<Sent> {
    let mut all = Vec::new();
    for payload in payloads {
        let (header, packet) = udp("fd02::7", "fd01::1", payload, None);
        peer.send(header, &packet);
        all.extend(peer.flushed());
    }
    all
}

#[test]
fn datagrams_of_a_flow_are_written_at_once() {
    let (mut gateway, mut peer, ..) = tunnel(|_| {});
    let sent = from_peer(&mut peer, &[&[1; 100], &[2; 100], &[3; 100], &[4; 60]]);
    gateway.receive(&sent, PEER);
    assert_eq!(gateway.engine.io.written.len(), 1);
    assert_eq!(gateway.engine.io.written[0].1.gso_type, VnetHeader::GSO_UDP_L4);
    assert_eq!(gateway.delivered().len(), 4);
    assert_eq!(
        (gateway.count(Count::Delivered), gateway.count(Count::Writes)),
        (4, 1)
    );
}

#[test]
fn an_old_kernel_gets_them_one_by_one() {
    let (mut gateway, mut peer, spi, _) = tunnel(|_| {});
    gateway.engine.io.old_kernel = true;
    let sent = from_peer(&mut peer, &[&[1; 100], &[2; 100], &[3; 100], &[4; 60]]);
    gateway.receive(&sent[..2], PEER);
    let first = gateway.delivered();
    assert_eq!(first.len(), 2);
    assert!(first.iter().all(|packet| esp::Packet::parse(packet).is_some()));
    assert!(!gateway.engine.joins_datagrams);
    gateway.receive(&sent[2..], PEER);
    assert_eq!(gateway.delivered().len(), 2);
    assert_eq!(gateway.of_sa(spi, SaCounter::PacketsIn), 4);
    assert_eq!(gateway.of_sa(spi, SaCounter::DropDeliver), 0);
}

#[test]
fn a_clear_side_that_is_down_is_counted() {
    let (mut gateway, mut peer, spi, _) = tunnel(|_| {});
    gateway.engine.io.down = true;
    let sent = from_peer(&mut peer, &[&[1; 100], &[2; 100]]);
    gateway.receive(&sent, PEER);
    assert_eq!(gateway.of_sa(spi, SaCounter::DropDeliver), 2);
    assert_eq!(gateway.of_sa(spi, SaCounter::PacketsIn), 0);
    assert_eq!(gateway.count(Count::NotDelivered), 2);
}

#[test]
fn bad_packets_are_counted_by_cause_and_change_nothing() {
    let (mut gateway, mut peer, spi, _) = tunnel(|_| {});
    let good = from_peer(&mut peer, &[b"one", b"two", b"three"]);
    let with = |data: Vec<u8>| Sent {
        data,
        ..good[0].clone()
    };
    let with_spi = |spi: u32| {
        let mut data = good[0].data.clone();
        data[..4].copy_from_slice(&spi.to_be_bytes());
        with(data)
    };
    let mut flipped = good[0].data.clone();
    flipped[20] ^= 1;
    let mut longer = good[0].data.clone();
    longer.push(0);
    let other_generation = spi.to_u32() ^ 1 << 14;
    let other_index = spi.to_u32() ^ 1;
    let other_slot = spi.to_u32() ^ 2 << 24;
    let bad = [
        (with(flipped), Count::BadIcv),
        (with(longer), Count::BadIcv),
        (with(good[0].data[..20].to_vec()), Count::Truncated),
        (with(good[0].data[..7].to_vec()), Count::Truncated),
        (with(vec![0xff]), Count::Keepalives),
        (with(vec![0xfe]), Count::Truncated),
        (with(vec![0; 40]), Count::NotEsp),
        (with_spi(0xff), Count::NotEsp),
        (with_spi(other_generation), Count::NoSa),
        (with_spi(other_index), Count::NoSa),
        (with_spi(other_slot), Count::NoSa),
    ];
    for (packet, cause) in bad {
        let before = (gateway.count(cause), gateway.owner.activity(spi).unwrap());
        gateway.receive(&[packet], "203.0.113.99:1234");
        assert_eq!(gateway.count(cause), before.0 + 1, "{cause:?}");
        assert_eq!(gateway.owner.activity(spi).unwrap(), before.1, "{cause:?}");
        assert_eq!(gateway.delivered(), Vec::<Vec<u8>>::new(), "{cause:?}");
    }
    // All of them are still good, once.
    gateway.receive(&good, PEER);
    assert_eq!(gateway.delivered().len(), 3);
    gateway.receive(&good, PEER);
    assert_eq!(gateway.delivered(), Vec::<Vec<u8>>::new());
    assert_eq!(gateway.count(Count::Replayed), 3);
    let of_sa = |counter| gateway.of_sa(spi, counter);
    assert_eq!(of_sa(SaCounter::DropReplay), 3);
    assert_eq!(of_sa(SaCounter::DropAuthentication), 2);
    assert_eq!(of_sa(SaCounter::PacketsIn), 3);
}

#[test]
fn truncated_reads_are_not_processed() {
    let (mut gateway, mut peer, ..) = tunnel(|_| {});
    let mut sent = from_peer(&mut peer, &[b"one"]);
    let received = netio::Received {
        segment: sent[0].data.len(),
        data: &mut sent[0].data,
        source: PEER.parse().unwrap(),
        destination: None,
        traffic_class: 0,
        truncated: true,
    };
    gateway.engine.inbound(0, std::iter::once(received));
    assert_eq!(gateway.count(Count::Truncated), 1);
}

#[test]
fn inner_packets_outside_the_selectors_are_dropped() {
    // The peer believes that it may send anything.
    let (mut gateway, mut peer, spi, outbound) = tunnel(|_| {});
    let mut sa = mirrored(&gateway_sa(spi, outbound.to_u32(), 7), outbound);
    sa.local_selectors = selectors(&[("0.0.0.0", "255.255.255.255"), ("::", "ffff::")]);
    sa.remote_selectors = sa.local_selectors;
    peer.update(&sa);
    for (from, to) in [
        ("10.2.0.8", "10.1.0.1"),
        ("10.2.0.7", "10.9.0.1"),
        ("fd02::8", "fd01::1"),
    ] {
        let (header, packet) = udp(from, to, b"x", None);
        peer.send(header, &packet);
    }
    let sent = peer.flushed();
    gateway.receive(&sent, PEER);
    assert_eq!(gateway.delivered(), Vec::<Vec<u8>>::new());
    assert_eq!(gateway.count(Count::NotSelected), 3);
    assert_eq!(gateway.of_sa(spi, SaCounter::DropSelector), 3);
}

#[test]
fn inactive_sas_take_nothing() {
    let (mut gateway, mut peer, spi, outbound) = tunnel(|_| {});
    let sent = from_peer(&mut peer, &[b"one"]);
    let mut sa = gateway_sa(spi, outbound.to_u32(), 7);
    sa.inbound_active = false;
    gateway.update(&sa);
    gateway.receive(&sent, PEER);
    assert_eq!(
        (
            gateway.count(Count::Inactive),
            gateway.of_sa(spi, SaCounter::DropInactive)
        ),
        (1, 1)
    );
    sa.inbound_active = true;
    gateway.update(&sa);
    gateway.receive(&sent, PEER);
    assert_eq!(gateway.delivered().len(), 1);
}

#[test]
fn congestion_outside_is_told_inside() {
    let (mut gateway, mut peer, spi, _) = tunnel(|_| {});
    let (header, mut packet) = udp("fd02::7", "fd01::1", b"x", None);
    packet[1] = 0x20;
    peer.send(header, &packet);
    let (header, plain) = udp("fd02::7", "fd01::1", b"x", None);
    peer.send(header, &plain);
    let mut sent = peer.flushed();
    assert_eq!(sent.iter().map(|s| s.traffic_class).collect::<Vec<_>>(), [2, 0]);
    sent.iter_mut().for_each(|sent| sent.traffic_class = 3);
    gateway.receive(&sent, PEER);
    let delivered = gateway.delivered();
    assert_eq!(delivered.len(), 1);
    assert_eq!(delivered[0][1], 0x30);
    assert_eq!(gateway.count(Count::Congestion), 1);
    assert_eq!(gateway.of_sa(spi, SaCounter::DropDeliver), 1);
}

#[test]
fn the_newest_authentic_packet_says_where_the_peer_is() {
    let (mut gateway, mut peer, spi, outbound) = tunnel(|_| {});
    let sent = from_peer(&mut peer, &[b"one", b"two", b"three", b"four"]);
    let learned = |gateway: &World| gateway.owner.activity(spi).unwrap().learned_peer;
    let reply_goes_to = |gateway: &mut World| {
        let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"reply", None);
        gateway.send(header, &packet);
        gateway.flushed()[0].destination.to_string()
    };
    gateway.receive(&sent[..1], PEER);
    assert_eq!(learned(&gateway), None);
    gateway.receive(&sent[2..3], "203.0.113.5:61000");
    assert_eq!(learned(&gateway), Some("203.0.113.5:61000".parse().unwrap()));
    assert_eq!(reply_goes_to(&mut gateway), "203.0.113.5:61000");
    // Older, though authentic; and newer, but forged.
    gateway.receive(&sent[1..2], "203.0.113.6:1");
    let mut forged = sent[3].clone();
    forged.data[30] ^= 1;
    gateway.receive(&[forged], "203.0.113.7:1");
    assert_eq!(reply_goes_to(&mut gateway), "203.0.113.5:61000");
    assert_eq!(gateway.count(Count::EndpointsLearned), 1);
    // IKE has the last word.
    let mut sa = gateway_sa(spi, outbound.to_u32(), 7);
    sa.peer = "198.51.100.200:4500".parse().unwrap();
    gateway.update(&sa);
    assert_eq!(reply_goes_to(&mut gateway), "198.51.100.200:4500");
    assert_eq!(learned(&gateway), None);
}

#[test]
fn packets_to_another_address_of_ours_teach_nothing() {
    let (mut gateway, mut peer, spi, _) = tunnel(|_| {});
    let other = gateway.engine.ports.add_socket(crate::plane::io::Socket {
        context: CONTEXT,
        local: "192.0.2.77:4500".parse().unwrap(),
        encapsulation: sadb::Encapsulation::Udp,
    });
    let mut sent = from_peer(&mut peer, &[b"one", b"two"]);
    sent[0].socket = other;
    gateway.receive(&sent[..1], "203.0.113.5:61000");
    assert_eq!(gateway.delivered().len(), 1);
    assert_eq!(gateway.owner.activity(spi).unwrap().learned_peer, None);
    gateway.receive(&sent[1..], "203.0.113.5:61000");
    let learned = gateway.owner.activity(spi).unwrap().learned_peer;
    assert_eq!(learned, Some("203.0.113.5:61000".parse().unwrap()));
}

#[test]
fn without_nat_the_peer_stays_where_it_is() {
    let (mut gateway, mut peer, spi, _) = tunnel(|sa| sa.encapsulation = sadb::Encapsulation::Esp);
    let mut sent = from_peer(&mut peer, &[b"one"]);
    sent[0].data = [&[0x45; 20][..], &sent[0].data].concat();
    gateway.receive(&sent, "203.0.113.5:0");
    assert_eq!(gateway.delivered().len(), 1);
    assert_eq!(gateway.owner.activity(spi).unwrap().learned_peer, None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Bytes as they come, and with an SPI that exists.
    #[test]
    fn any_bytes_from_the_network(mut data in proptest::collection::vec(any::<u8>(), 0..200), segment in 1u16..100, known: bool, raw: bool) {
        let (mut gateway, _, spi, _) = tunnel(|_| {});
        let offset = if raw { 20 } else { 0 };
        if raw && !data.is_empty() {
            data[0] = 0x45;
        }
        if known && data.len() >= offset + 8 {
            data[offset..offset + 4].copy_from_slice(&spi.to_u32().to_be_bytes());
        }
        let sent = Sent {
            socket: usize::from(raw),
            dont_fragment: false,
            destination: GATEWAY.parse().unwrap(),
            traffic_class: 0,
            segment: Some(segment),
            data,
        };
        gateway.receive(&[sent], PEER);
        prop_assert_eq!(gateway.delivered(), Vec::<Vec<u8>>::new());
        prop_assert_eq!(gateway.count(Count::EspReceived), 0);
    }

    #[test]
    fn any_bytes_from_the_clear_side(data in proptest::collection::vec(any::<u8>(), 0..200), flags in 0u8..2, gso_type in 0u8..8, size: u16, start in 0u16..100, offset in 0u16..100) {
        let (mut gateway, ..) = tunnel(|_| {});
        let header = VnetHeader { flags, gso_type, gso_size: size, checksum_start: start, checksum_offset: offset, ..VnetHeader::default() };
        gateway.send(header, &data);
        // The same, made to look like a packet with an SA.
        let (_, mut packet) = if size % 2 == 0 { udp("10.1.0.1", "10.2.0.7", &data, None) } else { tcp("fd01::1", "fd02::7", &data, None) };
        gateway.send(header, &packet);
        let last = packet.len() - 1;
        packet[usize::from(offset).min(last)] ^= 0x41;
        gateway.send(header, &packet);
        gateway.flushed();
    }
}

//! What is sent into tunnels.

use esp::VnetHeader;
use sadb::{DfPolicy, DscpPolicy, Encapsulation, SaCounter};

use super::world::*;
use crate::counters::Count;

#[test]
fn one_datagram_crosses() {
    for (from, to) in [("10.1.0.1", "10.2.0.7"), ("fd01::1", "fd02::7")] {
        let (mut gateway, mut peer, inbound, outbound) = tunnel(|_| {});
        let (header, packet) = udp(from, to, b"payload", None);
        gateway.send(header, &packet);
        let sent = gateway.flushed();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].destination, PEER.parse().unwrap());
        assert_eq!(sent[0].data[..4], outbound.to_u32().to_be_bytes());
        assert_eq!(sent[0].data[4..8], [0, 0, 0, 1]);
        peer.receive(&sent, GATEWAY);
        assert_eq!(peer.delivered(), [finished(header, &packet)]);

        let length = packet.len() as u64;
        assert_eq!(gateway.of_sa(inbound, SaCounter::PacketsOut), 1);
        assert_eq!(gateway.of_sa(inbound, SaCounter::BytesOut), length);
        assert_eq!(peer.of_sa(outbound, SaCounter::PacketsIn), 1);
        assert_eq!(peer.of_sa(outbound, SaCounter::BytesIn), length);
        assert_eq!(
            (gateway.count(Count::EspSent), peer.count(Count::EspReceived)),
            (1, 1)
        );
        let activity = gateway.owner.activity(inbound).unwrap();
        assert_eq!(
            (activity.outbound_sequence, activity.last_out_ns),
            (1, 1_000_000_000)
        );
        let activity = peer.owner.activity(outbound).unwrap();
        assert_eq!(
            (activity.inbound_sequence, activity.last_in_ns),
            (1, 1_000_000_000)
        );
    }
}

#[test]
fn a_tcp_super_packet_leaves_with_one_send_and_arrives_as_one() {
    for (from, to) in [("10.1.0.1", "10.2.0.7"), ("fd01::1", "fd02::7")] {
        let (mut gateway, mut peer, inbound, _) = tunnel(|_| {});
        let payload: Vec<u8> = (0..30_000).map(|n| (n / 7) as u8).collect();
        let (header, packet) = tcp(from, to, &payload, Some(1300));
        gateway.send(header, &packet);
        let sent = gateway.flushed();
        assert_eq!((sent.len(), gateway.engine.io.calls), (1, 1));
        let inner = packet.len() - payload.len() + 1300;
        let segment = 16 + (inner + 2).next_multiple_of(4) + 16;
        assert_eq!(sent[0].segment, Some(segment as u16));
        assert_eq!(gateway.of_sa(inbound, SaCounter::PacketsOut), 24);

        peer.receive(&sent, GATEWAY);
        let written = peer.engine.io.written.clone();
        assert_eq!(written.len(), 1);
        assert_eq!(
            (written[0].1.gso_type, written[0].1.gso_size),
            (header.gso_type, 1300)
        );
        assert_eq!(written[0].2, packet, "the same super-packet came out");
    }
}

#[test]
fn what_exceeds_one_send_takes_two() {
    let (mut gateway, mut peer, ..) = tunnel(|_| {});
    let payload = vec![7; 65_000];
    let (header, packet) = tcp("10.1.0.1", "10.2.0.7", &payload, Some(1300));
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    assert_eq!(sent.len(), 2);
    assert!(sent.iter().all(|sent| sent.data.len() <= netio::MAX_GSO_BYTES));
    peer.receive(&sent, GATEWAY);
    assert_eq!(peer.delivered(), cut(header, &packet));

    // Small segments: 64 to a send.
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &[7; 100 * 150], Some(150));
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    assert_eq!(sent.len(), 2);
    peer.receive(&sent, GATEWAY);
    assert_eq!(peer.delivered(), cut(header, &packet));
}

#[test]
fn each_sa_has_its_own_burst() {
    let mut gateway = World::new(1, 1, GATEWAY);
    for number in 1..=80u8 {
        let spi = gateway.owner.allocate().unwrap();
        let mut sa = gateway_sa(spi, 0xcafe_0000 + u32::from(number), number);
        sa.peer.set_port(5000 + u16::from(number));
        gateway.install(&sa);
    }
    for round in 0..10 {
        for number in 1..=80u8 {
            let (header, packet) = udp("10.1.0.1", &format!("10.2.0.{number}"), &[round; 64], None);
            gateway.send(header, &packet);
        }
    }
    let sent = gateway.flushed();
    let packets: usize = sent
        .iter()
        .map(|sent| {
            sent.segment
                .map_or(1, |segment| sent.data.len().div_ceil(segment.into()))
        })
        .sum();
    assert_eq!(packets, 800);
    for number in 1..=80u8 {
        // 80 SAs do not fit 64 bursts, but order within each is kept.
        let own = sent
            .iter()
            .filter(|s| s.destination.port() == 5000 + u16::from(number));
        let sequences: Vec<u8> = own
            .flat_map(|s| s.data.chunks(s.segment.map_or(s.data.len(), usize::from)))
            .map(|packet| packet[7])
            .collect();
        assert_eq!(sequences, (1..=10).collect::<Vec<u8>>());
    }
    let one_round = &mut gateway;
    for _ in 0..20 {
        for number in 1..=60u8 {
            let (header, packet) = udp("10.1.0.1", &format!("10.2.0.{number}"), &[0; 64], None);
            one_round.send(header, &packet);
        }
    }
    let calls = one_round.engine.io.calls;
    assert_eq!(one_round.flushed().len(), 60);
    assert_eq!(one_round.engine.io.calls, calls + 1, "all bursts with one call");
}

#[test]
fn packets_without_sa_are_counted_and_gone() {
    let (mut gateway, _, spi, _) = tunnel(|_| {});
    for (from, to) in [
        ("10.1.0.1", "10.2.0.8"),
        ("10.9.0.1", "10.2.0.7"),
        ("fd01::1", "fd02::8"),
    ] {
        let (header, packet) = udp(from, to, b"x", None);
        gateway.send(header, &packet);
    }
    gateway.send(VnetHeader::default(), &[0x50; 40]);
    gateway.send(VnetHeader::default(), &[]);
    assert_eq!(gateway.flushed(), []);
    assert_eq!(
        (gateway.count(Count::ClearNoSa), gateway.count(Count::NotIp)),
        (3, 2)
    );
    assert_eq!(gateway.of_sa(spi, SaCounter::PacketsOut), 0);
}

#[test]
fn long_packets_are_fragmented_before_encryption() {
    let (mut gateway, mut peer, ..) = tunnel(|_| {});
    let payload: Vec<u8> = (0..3000).map(|n| n as u8).collect();
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &payload, None);
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    peer.receive(&sent, GATEWAY);
    let pieces = peer.delivered();
    assert_eq!(pieces.len(), 3);
    assert!(pieces.iter().all(|piece| piece.len() <= 1400));
    let whole = finished(header, &packet);
    let again: Vec<u8> = pieces.iter().flat_map(|piece| piece[20..].to_vec()).collect();
    assert_eq!(again, whole[20..], "with the checksum finished before it was cut");
    assert_eq!(
        (gateway.count(Count::Fragmented), gateway.count(Count::TooBig)),
        (1, 0)
    );

    // Datagrams of a super-packet that are each too long.
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &[9; 3 * 1450], Some(1450));
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    peer.receive(&sent, GATEWAY);
    assert_eq!(peer.delivered().len(), 6);
}

#[test]
fn the_sender_of_what_is_too_big_is_told() {
    let (mut gateway, _, spi, _) = tunnel(|_| {});
    let (header, mut packet) = tcp("10.1.0.1", "10.2.0.7", &[7; 5000], Some(1460));
    packet[6] = 0x40;
    packet[10..12].fill(0);
    let sum = esp::Checksum::new().with(&packet[..20]).finish();
    packet[10..12].copy_from_slice(&sum);
    gateway.send(header, &packet);
    let (header_v6, packet_v6) = tcp("fd01::1", "fd02::7", &[7; 5000], Some(1440));
    gateway.send(header_v6, &packet_v6);
    assert_eq!(gateway.flushed(), []);
    assert_eq!(gateway.of_sa(spi, SaCounter::DropTooBig), 8);
    let answers = gateway.delivered();
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[0][20..22], [3, 4]);
    assert_eq!(answers[0][26..28], 1438u16.to_be_bytes());
    assert_eq!(answers[0][16..20], [10, 1, 0, 1]);
    assert_eq!(answers[1][40..42], [2, 0]);
    assert_eq!(answers[1][44..48], 1438u32.to_be_bytes());

    // A flood is answered at a limited rate.
    for _ in 0..1000 {
        gateway.send(header_v6, &packet_v6);
    }
    assert!(gateway.delivered().len() < 300);
    assert_eq!(gateway.count(Count::TooBig), 8 + 4000);
}

#[test]
fn dscp_ecn_and_df_of_the_outer_header() {
    let marked = |class: u8, df: bool| {
        let (header, mut packet) = udp("10.1.0.1", "10.2.0.7", &[1; 64], None);
        packet[1] = class;
        packet[6] = if df { 0x40 } else { 0 };
        packet[10..12].fill(0);
        let sum = esp::Checksum::new().with(&packet[..20]).finish();
        packet[10..12].copy_from_slice(&sum);
        (header, packet)
    };
    for (dscp, df, expected) in [
        (DscpPolicy::Copy, DfPolicy::Copy, [(0xb9, false), (0x02, true)]),
        (DscpPolicy::Fixed(10), DfPolicy::Set, [(0x29, true), (0x2a, true)]),
        (
            DscpPolicy::Fixed(0),
            DfPolicy::Clear,
            [(0x01, false), (0x02, false)],
        ),
    ] {
        let (mut gateway, ..) = tunnel(|sa| {
            sa.dscp = dscp;
            sa.df = df;
        });
        for (class, df) in [(0xb9, false), (0x02, true)] {
            let (header, packet) = marked(class, df);
            gateway.send(header, &packet);
        }
        let sent = gateway.flushed();
        let outer: Vec<_> = sent.iter().map(|s| (s.traffic_class, s.dont_fragment)).collect();
        assert_eq!(outer, expected);
    }
}

#[test]
fn protocol_50_goes_packet_by_packet_over_its_own_socket() {
    let (mut gateway, mut peer, ..) = tunnel(|sa| sa.encapsulation = Encapsulation::Esp);
    let (header, packet) = tcp("10.1.0.1", "10.2.0.7", &[7; 10_000], Some(1300));
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    assert_eq!(sent.len(), 8);
    assert!(sent.iter().all(|sent| sent.socket == 1 && sent.segment.is_none()));
    peer.receive(&with_ip_headers(&sent), GATEWAY);
    assert_eq!(peer.delivered(), cut(header, &packet));
    peer.receive(
        &[Sent {
            data: vec![0x4f; 30],
            ..sent[0].clone()
        }],
        GATEWAY,
    );
    assert_eq!(peer.count(Count::Truncated), 1);
}

#[test]
fn refused_sends_are_counted_and_the_rest_goes_on() {
    let (mut gateway, _, spi, _) = tunnel(|sa| sa.encapsulation = Encapsulation::Esp);
    gateway.engine.io.refused = vec![1];
    let (header, packet) = tcp("10.1.0.1", "10.2.0.7", &[7; 5200], Some(1300));
    gateway.send(header, &packet);
    let sent = gateway.flushed();
    let sequences: Vec<u8> = sent.iter().map(|sent| sent.data[7]).collect();
    assert_eq!(sequences, [1, 3, 4]);
    assert_eq!(gateway.of_sa(spi, SaCounter::DropSend), 1);
    assert_eq!(gateway.of_sa(spi, SaCounter::PacketsOut), 3);
    assert_eq!(
        (gateway.count(Count::NotSent), gateway.count(Count::EspSent)),
        (1, 3)
    );
}

#[test]
fn a_link_that_is_narrower_than_said_is_noticed_and_told() {
    let (mut gateway, ..) = tunnel(|_| {});
    gateway.engine.io.narrow = Some(1372);
    let (header, mut packet) = udp("10.1.0.1", "10.2.0.7", &[7; 1400], None);
    // DF, and the checksum that goes with it.
    packet[6] |= 0x40;
    packet[10..12].fill(0);
    let sum = esp::Checksum::new().with(&packet[..20]).finish();
    packet[10..12].copy_from_slice(&sum);
    let mut lost = 0;
    while gateway.delivered().is_empty() {
        gateway.send(header, &packet);
        assert_eq!(gateway.flushed(), []);
        lost += 1;
        assert!(lost < 5, "nobody tells");
    }
    assert_eq!(gateway.count(Count::TooBigSent), 1);
    assert!(gateway.count(Count::NotSent) >= 1);
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &[7; 1200], None);
    gateway.send(header, &packet);
    assert_eq!(gateway.flushed().len(), 1, "what fits goes through");
}

#[test]
fn no_socket_no_packet() {
    let (mut gateway, _, spi, _) = tunnel(|sa| sa.local = "192.0.2.99:4500".parse().unwrap());
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"x", None);
    gateway.send(header, &packet);
    assert_eq!(gateway.flushed(), []);
    assert_eq!(
        (
            gateway.count(Count::NoSocket),
            gateway.of_sa(spi, SaCounter::DropSend)
        ),
        (1, 1)
    );
}

#[test]
fn what_carries_the_tunnel_does_not_enter_it() {
    let (mut gateway, _, inbound, _) = tunnel(|sa| {
        sa.local_selectors = selectors(&[("0.0.0.0", "255.255.255.255")]);
        sa.remote_selectors = sa.local_selectors;
    });
    let (header, packet) = udp("192.0.2.1", "198.51.100.7", b"payload", None);
    let mut carrier = packet.clone();
    carrier[20..22].copy_from_slice(&4500_u16.to_be_bytes());
    gateway.send(header, &carrier);
    let mut esp = packet.clone();
    esp[9] = 50;
    gateway.send(VnetHeader::default(), &esp);
    assert_eq!((gateway.flushed().len(), gateway.count(Count::OwnOuter)), (0, 2));
    gateway.send(header, &packet);
    let (header, other) = udp("192.0.2.2", "198.51.100.7", b"payload", None);
    gateway.send(header, &other);
    gateway.flushed();
    assert_eq!(gateway.of_sa(inbound, SaCounter::PacketsOut), 2, "others pass");
}

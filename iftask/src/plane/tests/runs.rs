//! Packets of CBC suites, which are laid out first and sealed several at once.

use crypto::{Cipher, Integrity};
use esp::Transform;
use proptest::prelude::*;
use sadb::{Encapsulation, SaCounter, Spi};

use super::world::*;
use crate::counters::Count;

/// Sends what waits, and gives what of it arrives.
fn crossed(gateway: &mut World, peer: &mut World, encapsulation: Encapsulation) -> Vec<Vec<u8>> {
    let sent = gateway.flushed();
    match encapsulation {
        Encapsulation::Udp => peer.receive(&sent, GATEWAY),
        Encapsulation::Esp => peer.receive(&with_ip_headers(&sent), GATEWAY),
    }
    peer.delivered()
}

/// A gateway and a peer with one tunnel of a CBC suite.
fn cbc(cipher: Cipher, encapsulation: Encapsulation, esn: bool) -> (World, World, Spi) {
    let transform = Transform::new(cipher, Some(Integrity::HmacSha2_256_128)).unwrap();
    let (gateway, peer, spi, _) = tunnel(|sa| {
        with_transform(sa, transform);
        (sa.encapsulation, sa.esn) = (encapsulation, esn);
    });
    (gateway, peer, spi)
}

#[test]
fn a_tcp_super_packet_arrives() {
    for (cipher, encapsulation) in [
        (Cipher::AesCbc128, Encapsulation::Udp),
        (Cipher::AesCbc256, Encapsulation::Esp),
    ] {
        let (mut gateway, mut peer, spi) = cbc(cipher, encapsulation, false);
        let payload: Vec<u8> = (0..30_000).map(|n| (n / 7) as u8).collect();
        let (header, packet) = tcp("10.1.0.1", "10.2.0.7", &payload, Some(1300));
        gateway.send(header, &packet);
        let arrived = crossed(&mut gateway, &mut peer, encapsulation);
        assert!(arrived == cut(header, &packet), "{cipher:?}");
        assert_eq!(gateway.of_sa(spi, SaCounter::PacketsOut), 24);
    }
}

#[test]
fn packets_leave_sealed_though_their_sa_is_gone_meanwhile() {
    for is_slot in [false, true] {
        let (mut gateway, mut peer, spi) = cbc(Cipher::AesCbc128, Encapsulation::Udp, false);
        let (header, packet) = udp("10.1.0.1", "10.2.0.7", &[7; 20 * 300], Some(300));
        gateway.send(header, &packet);
        if is_slot {
            gateway.engine.drop_slot(spi.slot());
        } else {
            gateway.owner.remove(spi).unwrap();
            gateway.engine.refresh();
        }
        let arrived = crossed(&mut gateway, &mut peer, Encapsulation::Udp);
        assert_eq!(arrived, cut(header, &packet));
    }
}

#[test]
fn what_cannot_be_sealed_is_counted_and_never_sent() {
    let (mut gateway, mut peer, spi) = cbc(Cipher::AesCbc128, Encapsulation::Udp, false);
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &[7; 20 * 300], Some(300));
    gateway.send(header, &packet);
    // Its keys are gone, which happens to nobody who looks at the change log by way of the engine.
    gateway.owner.remove(spi).unwrap();
    gateway.engine.table.refresh();
    let sent = gateway.flushed();
    // A full run was sealed at once.
    let sealed = esp::OutboundSa::RUN;
    let left = 20 - sealed as u64;
    assert_eq!(
        (gateway.count(Count::EspSent), gateway.count(Count::NotSent)),
        (sealed as u64, left)
    );
    peer.receive(&sent, GATEWAY);
    assert_eq!(peer.delivered(), cut(header, &packet)[..sealed]);

    let (mut gateway, _, spi) = cbc(Cipher::AesCbc128, Encapsulation::Esp, false);
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &[7; 300], None);
    gateway.send(header, &packet);
    gateway.owner.remove(spi).unwrap();
    gateway.engine.table.refresh();
    assert_eq!(gateway.flushed(), []);
    assert_eq!(
        (gateway.count(Count::EspSent), gateway.count(Count::NotSent)),
        (0, 1)
    );
}

/// What can happen.
#[derive(Clone, Debug)]
enum Happening {
    /// A datagram, or a super-packet of them.
    Send(usize, Option<u16>),
    Refresh,
    Flush,
}

proptest! {
    #[test]
    fn everything_arrives_in_order_however_it_is_mixed(
        esn: bool,
        encapsulation in prop_oneof![Just(Encapsulation::Udp), Just(Encapsulation::Esp)],
        happenings in proptest::collection::vec(prop_oneof![
            6 => (1usize..1200).prop_map(|length| Happening::Send(length, None)),
            3 => (1usize..30_000, 600u16..1200).prop_map(|(length, gso)| Happening::Send(length, Some(gso))),
            1 => Just(Happening::Refresh),
            1 => Just(Happening::Flush),
        ], 0..40),
    ) {
        let (mut gateway, mut peer, _) = cbc(Cipher::AesCbc128, encapsulation, esn);
        let (mut expected, mut arrived) = (Vec::new(), Vec::new());
        for (n, happening) in happenings.into_iter().chain([Happening::Flush]).enumerate() {
            match happening {
                Happening::Send(length, gso) => {
                    let gso = gso.filter(|gso| usize::from(*gso) < length);
                    let (header, packet) = udp("10.1.0.1", "10.2.0.7", &vec![n as u8; length], gso);
                    gateway.send(header, &packet);
                    match gso {
                        Some(_) => expected.extend(cut(header, &packet)),
                        None => expected.push(finished(header, &packet)),
                    }
                }
                Happening::Refresh => gateway.engine.refresh(),
                Happening::Flush => arrived.extend(crossed(&mut gateway, &mut peer, encapsulation)),
            }
        }
        prop_assert!(arrived == expected);
    }
}

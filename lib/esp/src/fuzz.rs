//! Entry points for fuzzers: the same functions run as property tests and on the committed corpus. None of them may panic.

use crypto::{Cipher, Integrity};
use sadb::{SaKeys, SecretBytes, Selector};

use crate::{
    Coalescer, CoalescerSpace, Delivery, Fragments, InboundSa, NarrowPath, Offload, OutboundSa, Packet,
    Policy, ReplayWindow, SegmentKind, Segmentation, Segments, Transform, icmp, propagate_ecn,
};

const TRANSFORMS: [(Cipher, Option<Integrity>); 4] = [
    (Cipher::AesGcm128Icv16, None),
    (Cipher::AesGcm256Icv8, None),
    (Cipher::AesCbc128, Some(Integrity::HmacSha2_256_128)),
    (Cipher::Null, Some(Integrity::HmacSha1_96)),
];

/// An ESP packet from the network, and what could be inside one: opens it with SAs of every kind, then treats it as decrypted, then protects it and opens
/// it again.
pub fn inbound(data: &[u8]) {
    for (cipher, integrity) in TRANSFORMS {
        let Some((mut outbound, mut inbound)) = pair(cipher, integrity) else {
            return;
        };
        for esn in [0, 3] {
            let mut replay = ReplayWindow::new(64);
            let mut packet = data.to_vec();
            let opened = inbound[esn / 3].open(&mut packet, &mut replay);
            assert!(opened.is_err(), "a forgery was accepted");
        }
        let transform = outbound.transform();
        let mut packet = vec![0; transform.sealed_len(data.len())];
        if let Some(place) = packet.get_mut(transform.header_len()..) {
            place.iter_mut().zip(data).for_each(|(to, from)| *to = *from);
        }
        let sealed = outbound.seal(&mut packet, data.len(), crate::IPV4, 7);
        assert!(sealed.is_ok());
        let opened = inbound[0].open(&mut packet, &mut ReplayWindow::new(64));
        assert!(opened.is_ok_and(|opened| opened.payload == data));
    }
    clear(data);
}

/// An ICMP message, of either family.
pub fn path(message: &[u8]) {
    for path in [NarrowPath::parse_v4(message), NarrowPath::parse_v6(message)] {
        let least = if path.is_some_and(|path| path.local.is_ipv4() && path.spi.is_some()) {
            576
        } else {
            1280
        };
        assert!(path.is_none_or(|path| path.mtu >= least));
    }
}

/// A packet of the clear side, or decrypted.
pub fn clear(data: &[u8]) {
    let Some(packet) = Packet::parse(data) else {
        return;
    };
    let any = |start: &str, end: &str| Some(Selector::any_port(start.parse().ok()?, end.parse().ok()?));
    if let (Some(v4), Some(v6)) = (any("0.0.0.0", "127.255.255.255"), any("::", "7fff::")) {
        let policy = Policy::new(&[v4, v6], &[v6, v4]);
        policy.permits_inbound(&packet);
        policy.permits_outbound(&packet);
    }
    for outer in 0..4 {
        // Congestion that cannot be told is an error like others.
        let _ = propagate_ecn(outer, &mut data.to_vec(), &packet);
    }
    let mut out = vec![0; data.len().max(icmp::MOST_BYTES)];
    icmp::too_big(data, &packet, 1280, &mut out);
    if let Some(mut fragments) = Fragments::new(data, &packet, 68) {
        while fragments.write_next(&mut out).is_some() {}
    }
    for kind in [SegmentKind::Tcp, SegmentKind::Udp] {
        let size = u16::from(data.last().copied().unwrap_or(0)) + 1;
        if let Some(segments) = Segments::new(data, &packet, Segmentation { kind, size }) {
            for n in 0..segments.count() {
                assert!(segments.write(n, &mut out).is_some());
            }
        }
    }
    let mut bytes = 0;
    let mut deliver = |delivery: Delivery<'_, u8>| {
        bytes += delivery.bytes();
        assert!(delivery.offload != Offload::default() || delivery.packets == 1);
    };
    let mut batch: Coalescer<'_, u8> = CoalescerSpace::new().start(true);
    for _ in 0..3 {
        batch.push(0, data, &packet, &mut deliver);
    }
    batch.finish(&mut deliver);
    assert_eq!(bytes, 3 * packet.length as u64, "a packet was lost");
}

/// An SA with fixed keys, without and with ESN.
fn pair(cipher: Cipher, integrity: Option<Integrity>) -> Option<(OutboundSa, [InboundSa; 2])> {
    let transform = Transform::new(cipher, integrity).ok()?;
    let integrity_key = [0x33; 64];
    let keys = SaKeys {
        encryption: SecretBytes::new("key", [0x11; 32].get(..cipher.key_len())?).ok()?,
        salt: SecretBytes::new("salt", [0x22; 4].get(..cipher.salt_len())?).ok()?,
        integrity: SecretBytes::new(
            "key",
            integrity_key.get(..integrity.map_or(0, Integrity::key_len))?,
        )
        .ok()?,
    };
    let inbound = |esn| InboundSa::new(transform, &keys, esn).ok();
    Some((
        OutboundSa::new(transform, 0x0100_0001, &keys, false).ok()?,
        [inbound(false)?, inbound(true)?],
    ))
}

//! Tests of whole SAs: against other implementations, against each other, against forgers.

use std::cell::Cell;

use crypto::{Cipher, Integrity};
use proptest::prelude::*;
use sadb::{ReplayVerdict, SaKeys, SecretBytes, SlotOwner, SlotSegments, SlotWorker};

use crate::packet::tests::{ipv4, ipv6};
use crate::transform::tests::all;
use crate::*;

const SPI: u32 = 0x0123_4567;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter_map(|c| c.to_digit(16))
        .map(|digit| digit as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn keys_of(key: &[u8], salt: &[u8], integrity: &[u8]) -> SaKeys {
    SaKeys {
        encryption: SecretBytes::new("key", key).unwrap(),
        salt: SecretBytes::new("salt", salt).unwrap(),
        integrity: SecretBytes::new("key", integrity).unwrap(),
    }
}

fn keys(transform: Transform) -> SaKeys {
    let cipher = transform.cipher();
    keys_of(
        &vec![0x11; cipher.key_len()],
        &vec![0x22; cipher.salt_len()],
        &vec![0x33; transform.integrity().map_or(0, Integrity::key_len)],
    )
}

fn pair(transform: Transform, esn: bool) -> (OutboundSa, InboundSa) {
    let keys = keys(transform);
    (
        OutboundSa::new(transform, SPI, &keys, esn).unwrap(),
        InboundSa::new(transform, &keys, esn).unwrap(),
    )
}

fn seal(sa: &mut OutboundSa, inner: &[u8], next_header: u8, sequence: u64) -> Vec<u8> {
    let transform = sa.transform();
    let mut buffer = vec![0xee; transform.sealed_len(inner.len()) + 9];
    buffer[transform.header_len()..][..inner.len()].copy_from_slice(inner);
    sa.seal(&mut buffer, inner.len(), next_header, sequence)
        .unwrap()
        .to_vec()
}

/// A receiver that has seen everything up to `top` and nothing after.
struct Seen(Cell<u64>);

impl Replay for Seen {
    fn top(&self) -> u64 {
        self.0.get()
    }

    fn window(&self) -> u16 {
        64
    }

    fn check(&self, sequence: u64) -> ReplayVerdict {
        if sequence > self.0.get() {
            ReplayVerdict::Fresh
        } else {
            ReplayVerdict::Duplicate
        }
    }

    fn accept(&mut self, sequence: u64) -> ReplayVerdict {
        let verdict = self.check(sequence);
        self.0.set(self.0.get().max(sequence));
        verdict
    }
}

#[test]
fn gcm_case_of_the_ipsec_test_draft() {
    // draft-mcgrew-gcm-test-01, 4, first case: AES-128, ICV of 16 bytes, extended sequence number 8765432100000000.
    let packet = hex("00004321 00000000 4956ed7e3b244cfe
         fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34
         cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce
         61bc17d768fd9732459018148f6cbe722fd04796562dfdb4");
    let plain = hex("45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000
         00000000045f736970045f756470037369700963796265726369747902646b00
         0021000101020201");
    let gcm = Transform::new(Cipher::AesGcm128Icv16, None).unwrap();
    let keys = keys_of(&hex("4c80cdefbb5d10da906ac73c3613a634"), &hex("2e443b68"), &[]);
    let mut sa = InboundSa::new(gcm, &keys, true).unwrap();
    let mut replay = Seen(Cell::new(0x8765_4320_ffff_fff0));
    let mut data = packet.clone();
    let opened = sa.open(&mut data, &mut replay).unwrap();
    assert_eq!(opened.payload, &plain[..plain.len() - 4]);
    assert_eq!((opened.sequence, opened.next_header), (0x8765_4321_0000_0000, 1));
    // With any other high half it is a forgery.
    let mut data = packet.clone();
    let mut replay = Seen(Cell::new(0x8765_431f_ffff_fff0));
    assert_eq!(sa.open(&mut data, &mut replay).unwrap_err(), Cause::Integrity);
}

#[test]
fn packets_of_scapy_are_opened_and_made() {
    let mut cases = 0;
    for line in include_str!("tests/scapy.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |n: usize| fields[n].parse::<u16>().unwrap();
        let algorithms = sadb::Algorithms {
            encryption: number(0),
            key_bits: number(1),
            integrity: number(2),
            icv_bytes: number(3) as u8,
        };
        let esn = number(4) == 1;
        let spi = u32::from_str_radix(fields[5], 16).unwrap();
        let sequence = u64::from_str_radix(fields[6], 16).unwrap();
        let [key, salt, integrity, inner, packet] = [7, 8, 9, 10, 11].map(|n| hex(fields[n]));
        let transform = Transform::from_algorithms(&algorithms).unwrap();
        let keys = keys_of(&key, &salt, &integrity);
        let next_header = if inner[0] >> 4 == 4 { IPV4 } else { IPV6 };

        let mut outbound = OutboundSa::new(transform, spi, &keys, esn).unwrap();
        assert_eq!(
            seal(&mut outbound, &inner, next_header, sequence),
            packet,
            "{line}"
        );
        let mut inbound = InboundSa::new(transform, &keys, esn).unwrap();
        let mut replay = Seen(Cell::new(sequence - 1));
        let mut data = packet.clone();
        let opened = inbound.open(&mut data, &mut replay).unwrap();
        assert_eq!(opened.payload, &inner, "{line}");
        assert_eq!((opened.next_header, opened.sequence), (next_header, sequence));
        cases += 1;
    }
    assert_eq!(cases, 36);
}

#[test]
fn every_single_bit_flip_is_rejected_and_changes_nothing() {
    let inner = ipv4(17, [10, 0, 0, 1], [10, 0, 0, 2], &[7; 21]);
    for transform in all() {
        for esn in [false, true] {
            let (mut outbound, mut inbound) = pair(transform, esn);
            let packet = seal(&mut outbound, &inner, IPV4, 40);
            let mut replay = ReplayWindow::new(64);
            // The SPI is covered too, though the caller has used it before.
            for bit in 0..packet.len() * 8 {
                let mut forged = packet.clone();
                forged[bit / 8] ^= 1 << (bit % 8);
                let cause = inbound.open(&mut forged, &mut replay).unwrap_err();
                assert!(
                    matches!(cause, Cause::Integrity | Cause::Replay(_)),
                    "{transform:?} bit {bit}: {cause}"
                );
                assert_eq!(replay.top(), 0);
            }
            assert_eq!(
                inbound.open(&mut packet.clone(), &mut replay).unwrap().payload,
                &inner
            );
        }
    }
}

#[test]
fn every_truncation_is_rejected() {
    let inner = ipv6(17, &[7; 30]);
    for transform in all() {
        let (mut outbound, mut inbound) = pair(transform, false);
        let packet = seal(&mut outbound, &inner, IPV6, 40);
        for length in 0..packet.len() {
            let mut cut = packet[..length].to_vec();
            let cause = inbound.open(&mut cut, &mut ReplayWindow::new(64)).unwrap_err();
            assert!(
                matches!(cause, Cause::Truncated | Cause::Integrity),
                "{transform:?} {length}"
            );
        }
    }
}

#[test]
fn replays_and_late_packets_are_rejected() {
    for transform in all() {
        let (mut outbound, mut inbound) = pair(transform, false);
        let mut replay = ReplayWindow::new(32);
        let mut open = |packet: &[u8]| {
            inbound
                .open(&mut packet.to_vec(), &mut replay)
                .map(|opened| (opened.sequence, opened.newest))
        };
        let packets: Vec<_> = (0..=100u64)
            .map(|n| seal(&mut outbound, b"x", NO_NEXT_HEADER, n))
            .collect();
        let replayed = |verdict| Err(Cause::Replay(verdict));
        assert_eq!(open(&packets[50]), Ok((50, true)));
        assert_eq!(open(&packets[50]), replayed(ReplayVerdict::Duplicate));
        assert_eq!(open(&packets[19]), Ok((19, false)));
        assert_eq!(open(&packets[19]), replayed(ReplayVerdict::Duplicate));
        assert_eq!(open(&packets[18]), replayed(ReplayVerdict::TooOld));
        assert_eq!(open(&packets[100]), Ok((100, true)));
        assert_eq!(open(&packets[50]), replayed(ReplayVerdict::TooOld));
        assert_eq!(open(&packets[0]), replayed(ReplayVerdict::TooOld));
    }
}

#[test]
fn extended_numbers_go_past_the_wrap() {
    for transform in all() {
        let (mut outbound, mut inbound) = pair(transform, true);
        let mut replay = ReplayWindow::new(64);
        let start = (5u64 << 32) - 3;
        // What a receiver of five times 2^32 packets would have.
        let mut seen = Seen(Cell::new(start - 1));
        for sequence in start..start + 6 {
            let mut packet = seal(&mut outbound, b"abc", IPV4, sequence);
            assert_eq!(packet[4..8], (sequence as u32).to_be_bytes());
            assert_eq!(inbound.open(&mut packet, &mut seen).unwrap().sequence, sequence);
            // One who has seen none takes it for a number below 2^32, or of the subspace below zero.
            let mut packet = seal(&mut outbound, b"abc", IPV4, sequence);
            assert!(inbound.open(&mut packet, &mut replay).is_err());
        }
    }
}

#[test]
fn bad_padding_is_authentic_and_used_up() {
    let null = Transform::new(Cipher::Null, Some(Integrity::HmacSha1_96)).unwrap();
    let (_, mut inbound) = pair(null, false);
    let mut replay = ReplayWindow::new(64);
    let key = Integrity::HmacSha1_96.prepare(&[0x33; 20]).unwrap();
    for (n, trailer) in [
        [7u8, 2, 3, 3, 4],  // does not begin with 1
        [1, 2, 2, 3, 4],    // does not count
        [1, 2, 3, 0xff, 4], // longer than the packet
    ]
    .into_iter()
    .enumerate()
    {
        let mut packet = SPI.to_be_bytes().to_vec();
        packet.extend((n as u32 + 1).to_be_bytes());
        packet.extend(b"abc");
        packet.extend(trailer);
        let mut icv = [0; 12];
        key.sign(&[&packet], &mut icv).unwrap();
        packet.extend(icv);
        let again = packet.clone();
        assert_eq!(
            inbound.open(&mut packet, &mut replay).unwrap_err(),
            Cause::Padding
        );
        assert!(matches!(
            inbound.open(&mut again.clone(), &mut replay).unwrap_err(),
            Cause::Replay(ReplayVerdict::Duplicate)
        ));
    }
}

#[test]
fn the_longest_padding_is_accepted() {
    let null = Transform::new(Cipher::Null, Some(Integrity::HmacSha1_96)).unwrap();
    let (_, mut inbound) = pair(null, false);
    let mut packet = SPI.to_be_bytes().to_vec();
    packet.extend(1u32.to_be_bytes());
    packet.extend(1..=255);
    packet.extend([255, 59]);
    let mut icv = [0; 12];
    let key = Integrity::HmacSha1_96.prepare(&[0x33; 20]).unwrap();
    key.sign(&[&packet], &mut icv).unwrap();
    packet.extend(icv);
    let opened = inbound.open(&mut packet, &mut ReplayWindow::new(64)).unwrap();
    assert!(opened.payload.is_empty());
    assert_eq!(opened.next_header, NO_NEXT_HEADER);
}

#[test]
fn no_iv_is_used_twice_and_cbc_ivs_are_not_the_counter() {
    for transform in all() {
        let length = transform.cipher().iv_len();
        if length == 0 {
            continue;
        }
        let (mut outbound, _) = pair(transform, true);
        let mut seen = std::collections::HashSet::new();
        for sequence in [1, 2, 3, 1 << 32, (1 << 32) + 1, 1 << 40] {
            let packet = seal(&mut outbound, b"the same", IPV4, sequence);
            let iv = packet[8..8 + length].to_vec();
            assert!(seen.insert(iv.clone()));
            assert!(length == 8 || !iv.ends_with(&sequence.to_be_bytes()));
        }
    }
}

proptest! {
    #[test]
    fn what_is_sealed_in_a_run_is_as_sealed_by_itself(
        which in 0usize..18,
        esn in any::<bool>(),
        first in prop_oneof![1u64..1000, ((1u64 << 32) - 40)..(1u64 << 32)],
        count in 1usize..70,
        length in 1usize..1500,
        last in 1usize..1500,
    ) {
        let transform = all()[which];
        let (mut outbound, mut inbound) = pair(transform, esn);
        let segment = transform.sealed_len(length);
        let inner = |n: usize| vec![n as u8; if n + 1 == count { last.min(length) } else { length }];
        let mut run = Vec::new();
        for n in 0..count {
            let (start, inner) = (run.len(), inner(n));
            run.resize(start + transform.sealed_len(inner.len()), 0);
            run[start + transform.header_len()..][..inner.len()].copy_from_slice(&inner);
            let made = outbound.lay_out(&mut run[start..], inner.len(), IPV4, first + n as u64);
            prop_assert_eq!(made.is_ok(), transform.seals_in_runs());
        }
        let sealed = outbound.seal_run(&mut run, segment);
        prop_assert_eq!(sealed.is_ok(), transform.seals_in_runs());
        if sealed.is_err() {
            return Ok(());
        }
        let mut seen = Seen(Cell::new(first - 1));
        for (n, packet) in run.chunks_mut(segment).enumerate() {
            let (inner, sequence) = (inner(n), first + n as u64);
            prop_assert_eq!(&*packet, &seal(&mut outbound, &inner, IPV4, sequence));
            if esn || sequence < 1 << 32 {
                let opened = inbound.open(packet, &mut seen).unwrap();
                prop_assert_eq!((&*opened.payload, opened.sequence), (&inner[..], sequence));
            }
        }
    }
}

#[test]
fn a_run_of_no_packets_is_refused() {
    let cbc = Transform::new(Cipher::AesCbc128, Some(Integrity::HmacSha2_256_128)).unwrap();
    let (outbound, _) = pair(cbc, true);
    for (length, segment) in [(1, 1), (31, 31), (100, 0), (100, 7), (100, usize::MAX)] {
        assert!(outbound.seal_run(&mut vec![0; length], segment).is_err());
    }
}

#[test]
fn keys_of_the_wrong_length_and_small_buffers_are_refused() {
    for transform in all() {
        let good = keys(transform);
        let short = |secret: &[u8]| secret[..secret.len().saturating_sub(1)].to_vec();
        let bad = keys_of(
            &short(good.encryption.expose()),
            good.salt.expose(),
            &short(good.integrity.expose()),
        );
        let error = InboundSa::new(transform, &bad, false).unwrap_err();
        assert!(matches!(error, Error::KeyLength { .. }), "{transform:?}");
        assert!(error.to_string().contains("bytes instead of"), "{error}");
        let (mut outbound, _) = pair(transform, false);
        let mut buffer = vec![0; transform.sealed_len(100) - 1];
        assert_eq!(
            outbound.seal(&mut buffer, 100, IPV4, 1).unwrap_err(),
            Cause::NoRoom
        );
        assert!(buffer.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_window_of_a_slot_is_used_like_one_in_memory() {
    let gcm = Transform::new(Cipher::AesGcm128Icv16, None).unwrap();
    let slot = sadb::Slot::new(1).unwrap();
    let segments = SlotSegments::with_capacity(slot, 4).unwrap();
    let mut owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
    let worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
    let spi = owner.allocate().unwrap();
    let any = sadb::Selectors::new(&[sadb::Selector::any_port(
        "0.0.0.0".parse().unwrap(),
        "255.255.255.255".parse().unwrap(),
    )])
    .unwrap();
    let record = sadb::ChildSa {
        inbound_spi: spi,
        outbound_spi: spi.to_u32(),
        inbound_active: true,
        outbound_active: true,
        algorithms: gcm.algorithms(),
        inbound_keys: keys(gcm),
        outbound_keys: keys(gcm),
        mode: sadb::Mode::Tunnel,
        esn: true,
        encapsulation: sadb::Encapsulation::Udp,
        local: "192.0.2.1:4500".parse().unwrap(),
        peer: "192.0.2.2:4500".parse().unwrap(),
        context: 1,
        replay_window: 64,
        local_selectors: any,
        remote_selectors: any,
        fragment_mtu: 0,
        inner_mtu: 0,
        outer_mtu: 1500,
        shared: false,
        df: sadb::DfPolicy::Copy,
        dscp: sadb::DscpPolicy::Copy,
        ike_sa: sadb::IkeSpi::new(slot, 1, 1).unwrap(),
        lifetimes: sadb::Lifetimes::default(),
    };
    owner.install(&record).unwrap();
    let sa = worker.find(spi).unwrap().unwrap();
    let (mut outbound, mut inbound) = (
        OutboundSa::from_record(&sa).unwrap(),
        InboundSa::from_record(&sa).unwrap(),
    );
    let hot = worker.hot(spi).unwrap();
    let mut replay = SharedReplay { hot, window: 64 };
    for expected in 1..=3u64 {
        let sequence = hot.reserve(1, sa.esn).unwrap();
        assert_eq!(sequence, expected);
        let packet = seal(&mut outbound, b"abc", IPV4, sequence);
        assert_eq!(
            inbound.open(&mut packet.clone(), &mut replay).unwrap().payload,
            b"abc"
        );
        let cause = inbound.open(&mut packet.clone(), &mut replay).unwrap_err();
        assert_eq!(cause, Cause::Replay(ReplayVerdict::Duplicate));
    }
    let transport = sadb::ChildSa {
        mode: sadb::Mode::Transport,
        ..sa
    };
    assert_eq!(
        InboundSa::from_record(&transport).unwrap_err(),
        Error::TransportMode
    );
}

#[test]
fn fuzz_entry_points_take_what_is_nearly_right() {
    let mut nearly = vec![Vec::new(), vec![0; 8], vec![0x45], vec![0x60; 40]];
    for v6 in [false, true] {
        nearly.push(segment::tests::tcp(v6, 1, 0x10, &[1; 12], &[7; 300]));
        nearly.push(segment::tests::udp(v6, &[7; 300]));
    }
    for data in &nearly {
        for cut in [0, 1, 2, 20] {
            fuzz::inbound(&data[..data.len().saturating_sub(cut)]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_is_sealed_is_opened(which in 0usize..18, esn: bool, inner in proptest::collection::vec(any::<u8>(), 0..300), sequence in 1u64..1 << 31, next_header: u8) {
        let transform = all()[which];
        let (mut outbound, mut inbound) = pair(transform, esn);
        let mut packet = seal(&mut outbound, &inner, next_header, sequence);
        prop_assert_eq!(packet.len(), transform.sealed_len(inner.len()));
        prop_assert_eq!(spi_of(&packet), Some(SPI));
        prop_assert_eq!((packet.len() - transform.icv_len()) % 4, 0);
        let opened = inbound.open(&mut packet, &mut ReplayWindow::new(64)).unwrap();
        prop_assert_eq!((opened.next_header, opened.sequence, opened.newest), (next_header, sequence, true));
        prop_assert_eq!(opened.payload, &inner);
    }

    #[test]
    fn the_inbound_path_takes_any_bytes(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        fuzz::inbound(&data);
    }
}

//! The functions that are fuzzed, as properties: with noise, and with true messages that are damaged here and there.

#![expect(clippy::expect_used, reason = "tests fail by panic")]

use std::fs;

use ikev2::fuzz;
use proptest::prelude::*;

/// A record of some state, with octets that are something else, or one moved.
fn damaged_record() -> impl Strategy<Value = Vec<u8>> {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/ike_record");
    let samples: Vec<Vec<u8>> = fs::read_dir(samples)
        .expect("samples")
        .map(|entry| fs::read(entry.expect("a sample").path()).expect("a sample"))
        .collect();
    let damage = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    let moved = prop::option::of((any::<prop::sample::Index>(), any::<bool>()));
    (prop::sample::select(samples), damage, moved).prop_map(|(mut record, damage, moved)| {
        for (at, octet) in damage {
            let at = at.index(record.len());
            record[at] = octet;
        }
        match moved {
            Some((at, true)) => record.insert(at.index(record.len()), 1),
            Some((at, false)) => drop(record.remove(at.index(record.len()))),
            None => {}
        }
        record
    })
}

/// A chain of payloads with plausible headers around noise.
fn payload_chain() -> impl Strategy<Value = Vec<u8>> {
    let kind = prop_oneof![33u8..=48, Just(53), any::<u8>()];
    let payload = (kind, any::<bool>(), prop::collection::vec(any::<u8>(), 0..60));
    prop::collection::vec(payload, 0..8).prop_map(|payloads| {
        let mut chain = vec![payloads.first().map_or(0, |(kind, ..)| *kind)];
        for (at, (_, critical, body)) in payloads.iter().enumerate() {
            let next = payloads.get(at + 1).map_or(0, |(kind, ..)| *kind);
            let length = u16::try_from(body.len() + 4).unwrap_or(u16::MAX).to_be_bytes();
            chain.extend([next, u8::from(*critical) << 7, length[0], length[1]]);
            chain.extend(body);
        }
        chain
    })
}

/// CREATE_CHILD_SA, INFORMATIONAL and other contents as a peer of ours would write them; parts of it are then overwritten.
fn true_chain() -> impl Strategy<Value = Vec<u8>> {
    let nonce = [vec![0, 0, 0, 36], vec![7; 32]].concat();
    let sa = [
        vec![40, 0, 0, 40, 0, 0, 0, 36, 1, 3, 4, 3, 1, 2, 3, 4],
        vec![3, 0, 0, 12, 1, 0, 0, 20, 0x80, 14, 0, 128],
        vec![3, 0, 0, 8, 4, 0, 0, 31, 0, 0, 0, 8, 5, 0, 0, 0],
    ]
    .concat();
    let mut with_ke = nonce.clone();
    with_ke[0] = 34;
    let ke = [vec![44, 0, 0, 40, 0, 31, 0, 0], vec![9; 32]].concat();
    let ts = |next| {
        vec![
            next, 0, 0, 24, 1, 0, 0, 0, 7, 0, 0, 16, 0, 0, 0xff, 0xff, 10, 0, 0, 0, 10, 0, 0, 255,
        ]
    };
    let create = [vec![33], sa, with_ke, ke, ts(45), ts(0)].concat();
    let delete_child = vec![42, 0, 0, 0, 12, 3, 4, 0, 1, 1, 0, 0, 1];
    let delete_ike = vec![42, 0, 0, 0, 8, 1, 0, 0, 0];
    let rekey = [
        vec![41, 33, 0, 0, 12, 3, 4, 0x40, 0x09, 1, 0, 0, 1],
        create[1..].to_vec(),
    ]
    .concat();
    let chains = prop_oneof![
        Just(create),
        Just(rekey),
        Just(delete_child),
        Just(delete_ike),
        Just(vec![0]),
        payload_chain(),
    ];
    (
        chains,
        prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    )
        .prop_map(|(mut chain, changes)| {
            for (at, value) in changes {
                let at = at.index(chain.len());
                chain[at] = value;
            }
            chain
        })
}

fn step() -> impl Strategy<Value = Vec<u8>> {
    let sealed = (1u8..=2, any::<u8>(), true_chain())
        .prop_map(|(kind, choice, chain)| framed(kind, &[&[choice], &*chain].concat()));
    let other = (any::<u8>(), prop::collection::vec(any::<u8>(), 0..40))
        .prop_map(|(kind, octets)| framed(kind, &octets));
    prop_oneof![3 => sealed, 2 => other]
}

fn framed(kind: u8, octets: &[u8]) -> Vec<u8> {
    let length = u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&[kind, length[0], length[1]], octets].concat()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_octets_are_decoded_or_refused(octets in prop::collection::vec(any::<u8>(), 0..400)) {
        fuzz::message(&octets);
    }

    #[test]
    fn any_chain_of_payloads_is_decoded_or_refused(chain in true_chain(), cut in any::<prop::sample::Index>()) {
        let (first, body) = chain.split_first().unwrap_or((&0, &[]));
        let mut datagram = vec![0; 28];
        datagram[16] = *first;
        datagram.extend(body);
        fuzz::message(&datagram);
        datagram.truncate(28 + cut.index(body.len() + 1));
        fuzz::message(&datagram);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_script_leaves_the_engine_whole(steps in prop::collection::vec(step(), 1..20)) {
        fuzz::engine(&steps.concat());
    }

    #[test]
    fn any_record_is_read_or_refused(record in damaged_record()) {
        fuzz::record(&record);
    }
}

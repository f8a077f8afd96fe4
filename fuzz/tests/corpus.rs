//! Replays the committed corpus of the fuzz targets, and what the network may make of it, on the stable toolchain.

use std::fs;
use std::path::{Path, PathBuf};

/// A target and its function, as in `fuzz_targets`.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("bus_frame", bus::fuzz::frame),
    ("configuration", config::fuzz::configuration),
    ("eap_conversation", eap::fuzz::conversation),
    ("esp_clear", esp::fuzz::clear),
    ("esp_inbound", esp::fuzz::inbound),
    ("ike_conversation", ikev2::fuzz::engine),
    ("ike_message", ikev2::fuzz::message),
    ("ike_record", ikev2::fuzz::record),
    ("pki_certificate", pki::fuzz::certificate),
    ("pki_file", pki::fuzz::file),
    ("radius_packet", radius::fuzz::packet),
];
/// Cuts and flipped bits of one input, spread evenly over it.
const VARIANTS: usize = 128;

fn folder(of: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(of)
}

#[test]
fn every_target_survives_its_corpus() {
    for (name, target) in TARGETS {
        let mut replayed = 0;
        for entry in fs::read_dir(folder("corpus").join(name))
            .expect("a corpus")
            .flatten()
        {
            let mut input = fs::read(entry.path()).expect("an input");
            target(&input);
            for length in (0..input.len()).step_by(input.len() / VARIANTS + 1) {
                target(&input[..length]);
            }
            // A step of odd length meets every bit of an octet.
            for bit in (0..input.len() * 8).step_by((input.len() * 8 / VARIANTS) | 1) {
                input[bit / 8] ^= 1 << (bit % 8);
                target(&input);
                input[bit / 8] ^= 1 << (bit % 8);
            }
            replayed += 1;
        }
        assert!(replayed > 0, "the corpus of {name} is empty");
    }
}

#[test]
fn every_fuzz_target_is_replayed() {
    let mut found: Vec<String> = fs::read_dir(folder("fuzz_targets"))
        .expect("fuzz targets")
        .flatten()
        .filter_map(|entry| {
            entry
                .path()
                .file_stem()
                .map(|stem| stem.to_string_lossy().into_owned())
        })
        .collect();
    found.sort();
    let known: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(found, known);
}

//! Algorithms: one tunnel each, packets both ways.

use system_tests::{Connection, both_ways};

use crate::common::scene;

/// Sets up a tunnel with these transforms and sends packets both ways.
fn carries(
    scenario: &str,
    ike: &'static str,
    our_ike: &'static str,
    esp: &'static str,
    our_esp: &'static str,
) {
    let connection = Connection {
        ike,
        our_ike,
        esp,
        our_esp,
        ..Connection::default()
    };
    let Some(scene) = scene(scenario, &connection) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    both_ways(&scene.world, "10.20.1.1", "10.20.2.1", 10_000, 2);
}

#[test]
fn aes_gcm_128_and_group_19() {
    carries(
        "gcm128-group19",
        "aes128gcm16-prfsha256-ecp256",
        "encryption aes-128-gcm-128\nhmac none\nprf sha2-256\ngroup 19",
        "aes128gcm16",
        "encryption aes-128-gcm-128\nhmac none",
    );
}

#[test]
fn aes_gcm_256_and_group_31() {
    carries(
        "gcm256-group31",
        "aes256gcm16-prfsha384-curve25519",
        "encryption aes-256-gcm-128\nhmac none\nprf sha2-384\ngroup 31",
        "aes256gcm16",
        "encryption aes-256-gcm-128\nhmac none",
    );
}

#[test]
fn aes_cbc_with_sha2_and_group_14() {
    carries(
        "cbc-sha2-group14",
        "aes256-sha256-modp2048",
        "encryption aes-cbc-256\nhmac sha2-256-128\nprf sha2-256\ngroup 14",
        "aes256-sha256",
        "encryption aes-cbc-256\nhmac sha2-256-128",
    );
}

#[test]
fn aes_cbc_with_sha1_and_group_2_the_defaults_of_a_transform_set() {
    carries("defaults", "aes128-sha1-modp1024", "", "aes128-sha1", "");
}

#[test]
fn null_encryption_with_sha2() {
    carries(
        "null-sha2",
        "aes128-sha512-prfsha512-ecp384",
        "encryption aes-cbc-128\nhmac sha2-512-256\nprf sha2-512\ngroup 20",
        "null-sha256",
        "encryption null\nhmac sha2-256-128",
    );
}

#[test]
fn aes_gcm_with_short_icv_and_group_21() {
    carries(
        "gcm-icv8-group21",
        "aes128gcm8-prfsha256-ecp521",
        "encryption aes-128-gcm-64\nhmac none\nprf sha2-256\ngroup 21",
        "aes256gcm12",
        "encryption aes-256-gcm-96\nhmac none",
    );
}

//! Remote access with virtual addresses.

use system_tests::process::run_in;
use system_tests::{Connection, both_ways};

use crate::common::{Scene, scene};

#[test]
fn an_ipv4_address_is_assigned() {
    let Some(scene) = scene("virtual-ipv4", &Connection::remote_access("0.0.0.0")) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let address = virtual_address(&scene, "10.30.0.");
    both_ways(&scene.world, &address, "10.20.2.1", 10_000, 3);
}

#[test]
fn an_ipv6_address_is_assigned() {
    let Some(scene) = scene("virtual-ipv6", &Connection::remote_access("::")) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let address = virtual_address(&scene, "fd30:");
    both_ways(&scene.world, &address, "fd20:2::1", 10_000, 3);
}

#[test]
fn both_families_are_assigned_and_freed() {
    let Some(scene) = scene("virtual-both", &Connection::remote_access("0.0.0.0,::")) else {
        return;
    };
    scene.peer.initiate("net");
    scene.same_spis();
    let v4 = virtual_address(&scene, "10.30.0.");
    let v6 = virtual_address(&scene, "fd30:");
    both_ways(&scene.world, &v4, "10.20.2.1", 10_000, 3);
    both_ways(&scene.world, &v6, "fd20:2::1", 10_000, 3);

    let subscribers = scene.node.cli("show subscribers all");
    assert!(
        subscribers.contains(&v4),
        "the session does not show its address:\n{subscribers}"
    );
    scene
        .node
        .eventually("show ip pool summary", "one address is used", |text| {
            text.lines().any(|line| {
                line.starts_with("Total Addresses Used") && line.split_whitespace().next_back() == Some("1")
            })
        });
    let (ok, text) = scene.peer.swanctl(&["--terminate", "--ike", "gw"]);
    assert!(ok, "terminate: {text}");
    scene
        .node
        .eventually("show subscribers all", "no session", |text| !text.contains(&v4));
    scene.no_sa();
}

/// The virtual address with this prefix in the peer's namespace.
fn virtual_address(scene: &Scene, prefix: &str) -> String {
    let text = run_in(&scene.world.peer(), &["ip", "-o", "addr", "show"]);
    text.split_whitespace()
        .find(|word| word.starts_with(prefix))
        .and_then(|word| word.split('/').next())
        .unwrap_or_else(|| panic!("no virtual address {prefix}...:\n{text}"))
        .to_owned()
}

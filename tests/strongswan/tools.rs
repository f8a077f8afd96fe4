//! The measuring tools against strongSwan as the gateway.

use system_tests::process::run_in;
use system_tests::tool::{far, measured};
use system_tests::{Strongswan, World, real_peer, strongswan};

/// strongSwan at 10.10.0.1, the simulator at 10.10.0.2; what is behind strongSwan is an address of its own.
const GATEWAY: &str = "connections {\n gw {\n  version = 2\n  unique = no\n  local_addrs = 10.10.0.1\n  proposals = aes128gcm16-prfsha256-curve25519\n  \
                       local {\n auth = psk\n id = gw.test\n }\n  remote {\n auth = psk\n id = %any\n }\n  \
                       children {\n net {\n local_ts = 10.20.1.1/32\n remote_ts = 10.64.0.0/10\n esp_proposals = aes128gcm16\n }\n }\n }\n}\n\
                       secrets {\n ike-any {\n secret = \"correct horse battery\"\n }\n}\n";
const PEERS: [&str; 8] = [
    "--gateway",
    "10.10.0.1",
    "--local",
    "10.10.0.2",
    "--protected",
    "10.20.1.1/32",
    "--psk",
    "correct horse battery",
];

#[test]
fn load_and_traffic_work_against_another_gateway() {
    if !real_peer("tools", strongswan::PROGRAMS) {
        return;
    }
    let world = World::new("tools");
    run_in(
        &world.node(),
        &["ip", "addr", "add", "10.10.0.2/24", "dev", "vran"],
    );
    run_in(&world.node(), &["ip", "link", "set", "vran", "up"]);
    let gateway = Strongswan::start(&world, GATEWAY, "");
    gateway.load();
    let steps = ["--count", "30", "--rekey", "child", "--stay", "1"];
    let (ok, report) = measured(&world.node(), &[&["load"], &PEERS[..], &steps].concat());
    assert!(
        ok && report["set_up"] == 30 && report["rekeyed"] == 30,
        "{report}"
    );
    let (ok, report) = measured(
        &world.node(),
        &[&["load"], &PEERS[..], &["--count", "10", "--rekey", "ike"]].concat(),
    );
    assert!(
        ok && report["rekeyed"] == 10 && report["deleted"] == 10,
        "{report}"
    );

    let _far = far(&world, &world.peer(), "10.20.1.1");
    let shape = [
        "--far",
        "10.20.1.1",
        "--tunnels",
        "2",
        "--length",
        "300",
        "--rate",
        "200",
        "--ms",
        "1000",
        "--direction",
        "both",
    ];
    let (ok, report) = measured(&world.node(), &[&["traffic"], &PEERS[..], &shape].concat());
    assert!(ok, "{report}");
    for direction in ["up", "down"] {
        let one = &report[direction];
        assert!(
            one["sent"].as_u64() > Some(0) && one["received"] == one["sent"],
            "{direction}: {one}"
        );
    }
}

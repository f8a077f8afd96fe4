//! The measuring tools against our own gateway.

use serde_json::json;
use system_tests::tool::{far, measured, refused};
use system_tests::{Connection, Node, World, real_peer};

const PEERS: [&str; 6] = [
    "--gateway",
    "10.10.0.2",
    "--local",
    "10.10.0.1",
    "--protected",
    "10.20.2.0/24",
];
const KEY: [&str; 2] = ["--psk", "correct horse battery"];

fn with<'a>(command: &'a str, parts: &[&[&'a str]]) -> Vec<&'a str> {
    [&[command], &PEERS[..], &parts.concat()].concat()
}

#[test]
fn load_sets_up_rekeys_checks_and_deletes() {
    if !real_peer("tool-load", &["ip"]) {
        return;
    }
    let world = World::new("tool-load");
    let node = Node::start(&world, &Connection::default().configuration());
    let steps = [
        "--count", "40", "--rekey", "child", "--rounds", "2", "--stay", "1",
    ];
    let (ok, report) = measured(&world.peer(), &with("load", &[&KEY, &steps]));
    assert!(ok, "{report}");
    assert_eq!(
        (&report["set_up"], &report["rekeyed"], &report["deleted"]),
        (&json!(40), &json!(80), &json!(40)),
        "{report}"
    );
    assert_eq!(report["setup_us"]["count"], 40);
    let steps = [
        "--count",
        "20",
        "--rate",
        "200",
        "--hold-ms",
        "100",
        "--rekey",
        "ike",
    ];
    let (ok, report) = measured(&world.peer(), &with("load", &[&KEY, &steps]));
    // All are gone when the rekeying begins.
    assert!(
        ok && report["deleted"] == 20 && report["rekeyed"] == 0,
        "{report}"
    );
    let steps = ["--count", "20", "--rekey", "ike", "--keep"];
    let (ok, report) = measured(&world.peer(), &with("load", &[&KEY, &steps]));
    assert!(
        ok && report["rekeyed"] == 20 && report["deleted"] == 0,
        "{report}"
    );
    assert_eq!(node.spis().len(), 20);

    let (ok, report) = measured(
        &world.peer(),
        &with("load", &[&["--psk", "wrong", "--count", "3"]]),
    );
    assert!(!ok, "{report}");
    assert_eq!(
        report["failed"],
        json!({ "peer refused with AUTHENTICATION_FAILED": 3 })
    );
}

#[test]
fn load_with_certificates_of_its_own_making() {
    if !real_peer("tool-certificates", &["ip"]) {
        return;
    }
    for key in ["rsa-2048", "ecdsa-p256"] {
        let world = World::new("tool-certificates");
        let folder = world.folder().join("pki").display().to_string();
        let make = [
            "pki",
            "--folder",
            &folder,
            "--key",
            key,
            "--peers",
            "5",
            "--gateway",
            "gw.test",
        ];
        assert!(measured(&world.peer(), &make).0);
        let connection = Connection {
            our_global: format!(
                "certificate name gw pem url file:{folder}/gateway.pem\nprivate-key pem url file:{folder}/gateway.key\n\
                 ca-certificate name root pem url file:{folder}/root.pem\n"
            ),
            our_template:
                "authentication local certificate\nauthentication remote certificate\ncertificate gw\n\
                           ca-certificate list ca-cert-name root\n"
                    .to_owned(),
            ..Connection::default()
        };
        let _node = Node::start(&world, &connection.configuration());
        let (peers, root) = (format!("{folder}/peers"), format!("{folder}/root.pem"));
        let proofs = ["--certificate", &peers, "--ca", &root, "--count", "12"];
        let (ok, report) = measured(&world.peer(), &with("load", &[&proofs]));
        assert!(ok && report["set_up"] == 12, "{key}: {report}");
        // Who trusts somebody else does not get a tunnel.
        let own = format!("{folder}/peers/peer000000.pem");
        let proofs = ["--certificate", &peers, "--ca", &own, "--count", "2"];
        let (ok, report) = measured(&world.peer(), &with("load", &[&proofs]));
        assert!(!ok && report["set_up"] == 0, "{key}: {report}");
    }
}

#[test]
fn traffic_is_counted_at_both_ends() {
    if !real_peer("tool-traffic", &["ip"]) {
        return;
    }
    let world = World::new("tool-traffic");
    let node = Node::start(&world, &Connection::default().configuration());
    let _far = far(&world, &world.host(), "10.20.2.1");
    let shape = [
        "--far",
        "10.20.2.1",
        "--tunnels",
        "3",
        "--flows",
        "2",
        "--mix",
        "1",
        "--rate",
        "300",
        "--ms",
        "1500",
        "--direction",
        "both",
    ];
    let (ok, report) = measured(&world.peer(), &with("traffic", &[&KEY, &shape]));
    assert!(ok, "{report}");
    for direction in ["up", "down"] {
        let one = &report[direction];
        assert!(one["sent"].as_u64() > Some(0), "{direction}: {one}");
        assert_eq!(
            (&one["received"], &one["lost"]),
            (&one["sent"], &json!(0)),
            "{direction}: {one}"
        );
        assert_eq!(one["duplicates"], 0, "{direction}: {one}");
        assert_eq!(one["latency_us"]["count"], one["received"]);
    }
    assert_eq!(report["tunnels_lost"], 0);
    // Packets of one flow in one piece.
    let shape = [
        "--far",
        "10.20.2.1",
        "--length",
        "200",
        "--burst",
        "16",
        "--rate",
        "1600",
        "--ms",
        "500",
    ];
    let (ok, report) = measured(&world.peer(), &with("traffic", &[&KEY, &shape]));
    assert!(
        ok && report["up"]["lost"] == 0 && report["up"]["sent"].as_u64() >= Some(16),
        "{report}"
    );
    node.eventually(
        "show crypto ikev2-ikesa security-associations summary",
        "no tunnel left",
        |_| node.spis().is_empty(),
    );
}

#[test]
fn honest_peers_get_through_beside_a_small_flood() {
    if !real_peer("tool-flood", &["ip"]) {
        return;
    }
    let world = World::new("tool-flood");
    let _node = Node::start(&world, &Connection::default().configuration());
    let flood = [
        "--from",
        "10.10.0.0/26",
        "--flood-rate",
        "500",
        "--flood-seconds",
        "60",
        "--ahead",
        "0",
    ];
    // Not so fast that they are done before the flood has begun.
    let honest = ["--count", "10", "--rate", "50", "--retransmissions", "6"];
    // Started outside, as it has to be.
    let place = world.peer();
    let command = with("flood", &[&KEY, &flood, &["--namespace", &place], &honest]);
    let (ok, report) = measured(&world.host(), &command);
    assert!(ok && report["honest"]["set_up"] == 10, "{report}");
    assert!(report["flood"]["packets"].as_u64() > Some(0), "{report}");
    let text = refused(&world.peer(), &command);
    assert!(
        text.trim_end()
            .ends_with("is the network that this was started in"),
        "{text}"
    );
}

#[test]
fn wrong_options_are_refused_in_a_line() {
    if !real_peer("tool-options", &["ip"]) {
        return;
    }
    let world = World::new("tool-options");
    let far = ["--far", "10.20.2.1"];
    let wrong: [(&str, Vec<&str>); 7] = [
        ("--psk", with("load", &[])),
        ("--ca", with("load", &[&["--certificate", "x"]])),
        (
            "No such file",
            with(
                "load",
                &[&["--certificate", "/nowhere.pem", "--ca", "/nowhere.pem"]],
            ),
        ),
        ("--rekey", with("load", &[&KEY, &["--rounds", "2"]])),
        (
            "not between 0 and 1",
            with("traffic", &[&KEY, &far, &["--loss", "2"]]),
        ),
        ("1438", with("traffic", &[&KEY, &far, &["--length", "9000"]])),
        (
            "too many",
            with(
                "traffic",
                &[&KEY, &far, &["--tunnels", "100000", "--flows", "1000"]],
            ),
        ),
    ];
    for (words, command) in wrong {
        let text = refused(&world.peer(), &command);
        assert!(text.contains(words), "{command:?}: {text}");
    }
}

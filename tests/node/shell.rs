//! The shell and the configuration of a running node.

use system_tests::node::binary;
use system_tests::process::try_run_in;
use system_tests::{Connection, Node, World, real_peer};

#[test]
fn the_configuration_is_shown_saved_and_survives() {
    if !real_peer("configuration", &["ip"]) {
        return;
    }
    let world = World::new("configuration");
    let node = Node::start(&world, &Connection::default().configuration());
    let shown = node.cli("show configuration");
    assert!(
        shown.contains("crypto template t ikev2-dynamic") && shown.contains("encrypted key"),
        "{shown}"
    );
    assert!(
        !shown.contains("correct horse"),
        "a secret is shown in clear:\n{shown}"
    );

    let (ok, text) = node.try_cli(&[
        "configure",
        "system hostname other",
        "end",
        "save configuration /flash/saved.cfg",
    ]);
    assert!(ok, "{text}");
    let saved = world.folder().join("state/flash/saved.cfg");
    let text = std::fs::read_to_string(&saved).unwrap_or_default();
    assert!(text.contains("system hostname other"), "not saved:\n{text}");
    let (ok, text) = try_run_in(
        &world.node(),
        &[&binary(), "check", &saved.to_string_lossy()],
        &[],
    );
    assert!(ok, "what we saved does not check: {text}");
}

#[test]
fn a_bad_line_is_reported_and_the_rest_applied() {
    if !real_peer("bad-line", &["ip"]) {
        return;
    }
    let world = World::new("bad-line");
    let good = Connection::default().configuration();
    let bad = good.replacen(
        "system hostname gw\n",
        "system hostname gw\nsystem flux-capacitor on\n",
        1,
    );
    let node = Node::start(&world, &bad);
    node.logged(&["line 3", "flux-capacitor"]);
    assert!(node.cli("show configuration").contains("wsg-service wsg"));

    let file = world.file("bad.cfg", &bad);
    let (ok, text) = try_run_in(&world.node(), &[&binary(), "check", &file.to_string_lossy()], &[]);
    assert!(
        !ok && text.contains('3') && text.contains("flux-capacitor"),
        "check: {text}"
    );
}

#[test]
fn errors_point_at_the_token_and_abbreviations_work() {
    if !real_peer("shell", &["ip"]) {
        return;
    }
    let world = World::new("shell");
    let node = Node::start(&world, &Connection::default().configuration());
    let (ok, text) = node.try_cli(&["show crypto nonsense"]);
    assert!(
        !ok && text.contains("Failure:") && text.contains("nonsense"),
        "{text}"
    );
    assert!(node.cli("sh task tab").contains("ipsecmgr"));
    assert!(
        !node
            .cli("show task table | grep -v ipsecmgr")
            .contains("ipsecmgr")
    );
    assert!(
        node.cli("show task table | grep -i IPSECMGR")
            .contains("ipsecmgr")
    );
    let (ok, text) = node.try_cli(&["configure", "context local", "crypto map old ipsec-ikev1"]);
    assert!(!ok && text.contains("not supported"), "{text}");
}

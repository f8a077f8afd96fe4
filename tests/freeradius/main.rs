//! Real FreeRADIUS behind the node, real strongSwan in front of it.

use system_tests::freeradius::{self, Freeradius, SECRET};
use system_tests::process::{eventually, run_in};
use system_tests::{Connection, Node, Strongswan, World, both_ways, real_peer, strongswan};

const USERS: &str = "\
alice Cleartext-Password := \"wonderland\"
\tFramed-IP-Address = 10.30.0.77,
\tClass = 0x636c617373,
\tSession-Timeout = 3600
bob Cleartext-Password := \"builder\"
";

/// A remote-access connection whose peer authenticates with EAP and whose gateway has a certificate.
fn connection(
    certificate: &system_tests::pki::Issued,
    authority: &system_tests::pki::Authority,
    shared_secret: &str,
) -> Connection {
    let mut connection = Connection::remote_access("0.0.0.0");
    connection.our_global = format!(
        "certificate name gw pem url file:{}\nprivate-key pem url file:{}\nca-certificate name root pem url file:{}\n",
        certificate.certificate.display(),
        certificate.key.display(),
        authority.certificate().display()
    );
    connection.our_context.push_str(&format!(
        "eap-profile relay\nmode authentication-pass-through\n#exit\n\
         radius server 127.0.0.1 key {shared_secret} port 1812\nradius accounting server 127.0.0.1 key {shared_secret} port 1813\n"
    ));
    connection.our_template =
        "authentication local certificate\nauthentication remote eap-profile relay\ncertificate gw\n"
            .to_owned();
    connection
}

fn swanctl(connection: &Connection, user: &str, password: &str) -> String {
    connection
        .swanctl()
        .replacen(
            "auth = psk\n      id = peer.test",
            &format!("auth = eap-mschapv2\n      id = {user}\n      eap_id = {user}"),
            1,
        )
        .replacen("auth = psk", "auth = pubkey\n      cacerts = root.pem", 1)
        + &format!("secrets {{\n  eap-user {{\n    id = {user}\n    secret = \"{password}\"\n  }}\n}}\n")
}

struct Scene {
    peer: Strongswan,
    node: Node,
    radius: Freeradius,
    world: World,
}

fn scene(scenario: &str, user: &str, password: &str, shared_secret: &str) -> Option<Scene> {
    let programs: Vec<&str> = [strongswan::PROGRAMS, freeradius::PROGRAMS].concat();
    if !real_peer(scenario, &programs) {
        return None;
    }
    let world = World::new(scenario);
    run_in(&world.node(), &["ip", "link", "set", "lo", "up"]);
    let radius = Freeradius::start(&world, USERS);
    let authority = system_tests::pki::Authority::new(&world.folder().join("pki"), "rsa:2048");
    let connection = connection(&authority.issue("gw.test"), &authority, shared_secret);
    let node = Node::start(&world, &connection.configuration());
    let peer = Strongswan::start(&world, &swanctl(&connection, user, password), "");
    peer.copy(authority.certificate(), "x509ca/root.pem");
    peer.load();
    Some(Scene {
        peer,
        node,
        radius,
        world,
    })
}

#[test]
fn a_remote_access_peer_authenticates_with_eap_and_is_accounted() {
    let Some(scene) = scene("eap-mschapv2", "alice", "wonderland", SECRET) else {
        return;
    };
    scene.peer.initiate("net");
    // The address is the one RADIUS chose.
    both_ways(&scene.world, "10.30.0.77", "10.20.2.1", 10_000, 2);
    let subscribers = scene.node.cli("show subscribers all");
    assert!(
        subscribers.contains("alice") && subscribers.contains("10.30.0.77"),
        "no session of alice:\n{subscribers}"
    );
    let start = eventually("accounting start", || {
        let text = scene.radius.accounting();
        text.contains("Acct-Status-Type = Start").then_some(text)
    });
    assert!(
        start.contains("Framed-IP-Address = 10.30.0.77") && start.contains("Class = 0x636c617373"),
        "accounting start:\n{start}"
    );

    // Only aaamgr talks RADIUS.
    let sockets = run_in(&scene.world.node(), &["ss", "-unp"]);
    let all = run_in(&scene.world.node(), &["ss", "-uanp"]);
    assert!(
        !sockets.contains("ipsecmgr"),
        "ipsecmgr has a connected UDP socket:\n{sockets}"
    );
    let aaamgr = scene.node.pids("aaamgr");
    assert!(
        aaamgr.iter().any(|pid| all.contains(&format!("pid={pid},"))),
        "aaamgr {aaamgr:?} owns no UDP socket:\n{all}"
    );

    let (ok, text) = scene.peer.swanctl(&["--terminate", "--ike", "gw"]);
    assert!(ok, "terminate: {text}");
    let stop = eventually("accounting stop", || {
        let text = scene.radius.accounting();
        text.contains("Acct-Status-Type = Stop").then_some(text)
    });
    let packets = stop
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Acct-Input-Packets = "))
        .filter_map(|value| value.parse::<u64>().ok())
        .max();
    assert!(
        packets >= Some(20_000),
        "the stop record does not count the packets: {packets:?}\n{stop}"
    );
    assert_eq!(
        scene
            .radius
            .accounting()
            .matches("Acct-Status-Type = Start")
            .count(),
        1
    );
}

#[test]
fn a_wrong_password_is_refused() {
    let Some(scene) = scene("eap-wrong-password", "alice", "looking-glass", SECRET) else {
        return;
    };
    let (ok, text) = scene
        .peer
        .swanctl(&["--initiate", "--child", "net", "--timeout", "10"]);
    assert!(!ok, "a peer with a wrong password got in: {text}");
    assert!(scene.node.spis().is_empty(), "we have a child SA");
    assert!(
        scene.radius.log().contains("Login incorrect") || scene.radius.log().contains("Reject"),
        "FreeRADIUS saw nothing"
    );
    scene.node.logged(&["alice", "authentication"]);
}

#[test]
fn a_server_with_another_shared_secret_is_not_believed() {
    let Some(scene) = scene("radius-wrong-secret", "alice", "wonderland", "not-the-secret") else {
        return;
    };
    let (ok, text) = scene
        .peer
        .swanctl(&["--initiate", "--child", "net", "--timeout", "30"]);
    assert!(!ok, "a peer got in without a word from RADIUS: {text}");
    assert!(scene.node.spis().is_empty(), "we have a child SA");
    let counters = scene.node.cli("show radius counters all");
    let of = |label: &str| {
        counters
            .lines()
            .filter(|line| line.contains(label))
            .filter_map(|line| line.split_whitespace().next_back()?.parse::<u64>().ok())
            .sum::<u64>()
    };
    assert!(
        of("Access-Request Sent") > 0
            && of("Access-Accept Received") == 0
            && of("Access-Challenge Received") == 0,
        "{counters}"
    );
}

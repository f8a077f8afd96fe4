//! Real net-snmp as network management system.

use system_tests::process::{Running, eventually, run_in, try_run_in};
use system_tests::{Connection, Node, Strongswan, World, real_peer, strongswan};

const PROGRAMS: &[&str] = &["snmpget", "snmpwalk", "snmpbulkwalk", "snmptrapd"];
const AGENT: &str = "127.0.0.1:161";

struct Scene {
    trapd: Running,
    node: Node,
    world: World,
    connection: Connection,
}

fn scene(scenario: &str) -> Option<Scene> {
    let programs: Vec<&str> = [strongswan::PROGRAMS, PROGRAMS].concat();
    if !real_peer(scenario, &programs) {
        return None;
    }
    let world = World::new(scenario);
    let conf = world.file("snmptrapd.conf", "authCommunity log public\n");
    let folder = world.folder().to_string_lossy().into_owned();
    let trapd = Running::start(
        &world.node(),
        &[
            "snmptrapd",
            "-f",
            "-Lo",
            "-On",
            "-m",
            "",
            "-C",
            "-c",
            &conf.to_string_lossy(),
            "udp:127.0.0.1:1162",
        ],
        &[("SNMP_PERSISTENT_DIR", &folder)],
        &world.folder().join("traps.log"),
    );
    let connection = Connection {
        our_global:
            "snmp community public\nsnmp target nms 127.0.0.1 port 1162 security-name public version 2c\n\
                     system contact noc@example.test\nsystem location lab\n"
                .to_owned(),
        ..Connection::default()
    };
    let node = Node::start(&world, &connection.configuration());
    Some(Scene {
        trapd,
        node,
        world,
        connection,
    })
}

fn get(scene: &Scene, oid: &str) -> String {
    run_in(
        &scene.world.node(),
        &["snmpget", "-m", "", "-On", "-v2c", "-c", "public", AGENT, oid],
    )
}

#[test]
fn the_system_group_and_starent_objects_are_served() {
    let Some(scene) = scene("snmp-get") else { return };
    assert!(
        get(&scene, ".1.3.6.1.2.1.1.5.0").contains("\"gw\""),
        "sysName is not the host name"
    );
    assert!(
        get(&scene, ".1.3.6.1.2.1.1.4.0").contains("noc@example.test"),
        "sysContact"
    );
    let walk = run_in(
        &scene.world.node(),
        &[
            "snmpwalk",
            "-m",
            "",
            "-On",
            "-v2c",
            "-c",
            "public",
            AGENT,
            ".1.3.6.1.4.1.8164",
        ],
    );
    assert!(walk.lines().count() > 10, "too few STARENT objects:\n{walk}");
    let bulk = run_in(
        &scene.world.node(),
        &[
            "snmpbulkwalk",
            "-m",
            "",
            "-On",
            "-v2c",
            "-c",
            "public",
            AGENT,
            ".1.3.6.1.4.1.8164",
        ],
    );
    let objects = |text: &str| {
        text.lines()
            .filter_map(|line| line.split(' ').next())
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(objects(&walk), objects(&bulk), "walk and bulk walk disagree");
    let (ok, text) = try_run_in(
        &scene.world.node(),
        &[
            "snmpget",
            "-m",
            "",
            "-On",
            "-v2c",
            "-c",
            "wrong",
            "-r",
            "0",
            "-t",
            "1",
            AGENT,
            ".1.3.6.1.2.1.1.5.0",
        ],
        &[],
    );
    assert!(!ok, "a wrong community was answered: {text}");
}

#[test]
fn traps_tell_of_tunnels_and_restarts() {
    let Some(scene) = scene("snmp-traps") else { return };
    let peer = Strongswan::start(&scene.world, &scene.connection.swanctl(), "");
    peer.load();
    peer.initiate("net");
    trap(&scene, 164, &["10.10.0.1", "10.10.0.2"]);
    let (ok, text) = peer.swanctl(&["--terminate", "--ike", "gw"]);
    assert!(ok, "terminate: {text}");
    trap(&scene, 165, &["10.10.0.1"]);

    let certmgr = scene.node.pids("certmgr");
    assert_eq!(certmgr.len(), 1, "{}", scene.node.cli("show task table"));
    system_tests::process::kill(certmgr[0]);
    trap(&scene, 1099, &["certmgr"]);
    let history = scene.node.cli("show snmp trap history");
    assert!(
        history.contains("164 (IPSECDynTunUp)") && history.contains("1099 (ManagerRestart)"),
        "trap history:\n{history}"
    );
}

#[test]
fn a_restarted_agent_tells_what_happened_meanwhile_and_nothing_twice() {
    let Some(scene) = scene("snmp-restart") else {
        return;
    };
    let kill = |facility: &str| {
        let pids = scene.node.pids(facility);
        assert_eq!(pids.len(), 1, "{facility}: {}", scene.node.cli("show task table"));
        system_tests::process::kill(pids[0]);
    };
    kill("certmgr");
    trap(&scene, 1099, &["certmgr"]);
    // Nobody hears the next ones when they happen. All come from sit, in this order.
    kill("snmp");
    kill("rmctrl");
    trap(&scene, 1099, &["rmctrl"]);
    let count = |number: u32, word: &str| {
        let log = scene.trapd.log();
        log.lines()
            .filter(|line| is_trap(line, number) && line.contains(word))
            .count()
    };
    assert_eq!(
        (count(1099, "certmgr"), count(1099, "rmctrl"), count(151, "snmp")),
        (1, 1, 1),
        "{}",
        scene.trapd.log()
    );
}

fn is_trap(line: &str, number: u32) -> bool {
    line.contains(&format!(".1.3.6.1.4.1.8164.2.{number}\t")) || line.ends_with(&format!(".8164.2.{number}"))
}

/// Waits until snmptrapd has logged the STARENT trap with this number and these words.
fn trap(scene: &Scene, number: u32, words: &[&str]) {
    eventually(&format!("trap {number} with {words:?}"), || {
        scene
            .trapd
            .log()
            .lines()
            .any(|line| is_trap(line, number) && words.iter().all(|word| line.contains(word)))
            .then_some(())
    });
}

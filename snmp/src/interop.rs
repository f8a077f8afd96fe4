//! Real net-snmp against the agent, over the loopback interface.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use bus::messages::common::{Notice, Parameter};
use bus::{Address, Bus, Facility, Hub, Server};
use mibs::ServiceType;
use telemetry::counters::{session, wsg};
use telemetry::time::Zone;
use telemetry::{Counters, Reader, Scope};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::UdpSocket;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::manager;
use crate::outbox::{Target, WAIT};
use crate::protocol::{Access, Community, Form};
use crate::settings::Settings;
use crate::sockets::{self, Sockets};
use crate::state::State;

/// Whatever takes longer hangs; a slow machine does not.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running agent; it ends with the test's runtime.
struct Scene {
    hub: Hub,
    agent: SocketAddr,
    directory: PathBuf,
}

impl Scene {
    async fn new(name: &str, targets: Vec<Target>) -> Self {
        let directory = std::env::temp_dir().join(format!("snmp-interop-{name}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("snmp/cert_indexes")).unwrap();
        let counters = Counters::open(&directory, "sessmgr", 1).unwrap();
        counters.set(session::CURRENT_CALLS, 10);
        counters.add(session::TX_OCTETS, 5_000_000_000);
        counters
            .scoped(&Scope::wsg("isp", "enb"))
            .unwrap()
            .set(wsg::CURRENT_SESSIONS, 10);

        let hub = Hub::default();
        let (bus, _server) = Bus::in_process(&hub, Address::only(Facility::Snmp)).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let agent = socket.local_addr().unwrap();
        let mut state = State::new(Reader::open(&directory).unwrap(), Zone::utc());
        state.apply(Settings {
            port: agent.port(),
            authentication_failure_trap: true,
            host: "sgw1".into(),
            contact: "noc@example.org".into(),
            location: "lab".into(),
            communities: vec![Community {
                name: b"public".to_vec(),
                access: Access::ReadOnly,
            }],
            targets,
            suppressed: Vec::new(),
            services: vec![mibs::Service {
                context_number: 2,
                number: 1,
                context: "isp".into(),
                name: "enb".into(),
                kind: ServiceType::Wsg,
                limit: 8_000,
            }],
        });
        tokio::spawn(async move {
            let _server = _server;
            let mut sockets = Sockets::new(vec![socket]);
            let mut notices = bus.subscribe::<Notice>();
            manager::follow(&mut state, &bus, &mut notices);
            let mut tick = tokio::time::interval(Duration::from_millis(20));
            loop {
                tokio::select! {
                    request = sockets.next() => sockets::answer(&mut state, &request),
                    heard = notices.next() => manager::hear(&mut state, &heard),
                    _ = tick.tick() => manager::follow(&mut state, &bus, &mut notices),
                }
                sockets::send(&mut state, &sockets);
                state.report();
            }
        });
        Self {
            hub,
            agent,
            directory,
        }
    }

    /// Runs a net-snmp tool against the agent; success, and what it printed on both outputs.
    async fn tool(&self, tool: &str, community: &str, arguments: &[&str]) -> (bool, String) {
        let output = Command::new(tool)
            .args([
                "-m",
                "",
                "-On",
                "-v2c",
                "-c",
                community,
                "-r",
                "1",
                "-t",
                "1",
                &self.agent.to_string(),
            ])
            .args(arguments)
            .env("SNMP_PERSISTENT_DIR", self.directory.join("snmp"))
            .output();
        let output = output
            .await
            .unwrap_or_else(|error| panic!("{tool}: {error}: install the packages snmp and snmptrapd"));
        let text = [output.stdout, output.stderr].concat();
        (
            output.status.success(),
            String::from_utf8_lossy(&text).into_owned(),
        )
    }

    async fn get(&self, oid: &str) -> String {
        let (success, text) = self.tool("snmpget", "public", &[oid]).await;
        assert!(success, "{text}");
        text.trim_end().to_owned()
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

#[tokio::test]
async fn get_answers_scalars_and_tables() {
    let scene = Scene::new("get", Vec::new()).await;
    let starent = ".1.3.6.1.4.1.8164.1";
    assert_eq!(
        scene.get(".1.3.6.1.2.1.1.5.0").await,
        ".1.3.6.1.2.1.1.5.0 = STRING: \"sgw1\""
    );
    assert_eq!(
        scene.get(".1.3.6.1.2.1.1.4.0").await,
        ".1.3.6.1.2.1.1.4.0 = STRING: \"noc@example.org\""
    );
    assert_eq!(
        scene.get(".1.3.6.1.2.1.1.2.0").await,
        ".1.3.6.1.2.1.1.2.0 = OID: .1.3.6.1.4.1.8164"
    );
    assert!(scene.get(".1.3.6.1.2.1.1.3.0").await.contains("Timeticks: ("));
    assert!(
        scene
            .get(&format!("{starent}.12.1.0"))
            .await
            .ends_with("= Gauge32: 10")
    );
    assert!(
        scene
            .get(&format!("{starent}.13.23.0"))
            .await
            .ends_with("= Counter64: 5000000000")
    );
    assert!(
        scene
            .get(&format!("{starent}.13.15.0"))
            .await
            .ends_with("= Counter32: 705032704")
    );
    assert!(
        scene
            .get(&format!("{starent}.18.1.1.4.2.1"))
            .await
            .ends_with("= STRING: \"enb\"")
    );
    assert!(
        scene
            .get(&format!("{starent}.18.1.1.6.2.1"))
            .await
            .ends_with("= Gauge32: 10")
    );
    assert!(
        scene
            .get(&format!("{starent}.20.1.1.3.11.1"))
            .await
            .ends_with("= STRING: \"snmp\"")
    );
    assert!(scene.get(".1.3.6.1.2.1.1.5.1").await.contains("No Such Instance"));
    assert!(scene.get(".1.3.6.1.2.1.2.1.0").await.contains("No Such Object"));
}

#[tokio::test]
async fn walk_and_bulk_walk_see_the_same() {
    let scene = Scene::new("walk", Vec::new()).await;
    let root = ".1.3.6.1.4.1.8164";
    let identifiers = |text: &str| -> Vec<String> {
        text.lines()
            .filter_map(|line| line.split_once(" = "))
            .map(|(oid, _)| oid.to_owned())
            .collect()
    };
    let (success, walk) = scene.tool("snmpwalk", "public", &[root]).await;
    assert!(success, "{walk}");
    let (success, bulk) = scene.tool("snmpbulkwalk", "public", &["-Cr50", root]).await;
    assert!(success, "{bulk}");
    assert!(identifiers(&walk).len() > 35, "{walk}");
    assert_eq!(identifiers(&walk), identifiers(&bulk));
}

#[tokio::test]
async fn a_wrong_community_is_not_answered_and_nothing_is_set() {
    let scene = Scene::new("refuse", Vec::new()).await;
    let (success, text) = scene.tool("snmpget", "wrong", &[".1.3.6.1.2.1.1.5.0"]).await;
    assert!(!success && text.contains("Timeout"), "{text}");
    let (success, text) = scene
        .tool("snmpset", "public", &[".1.3.6.1.2.1.1.5.0", "s", "x"])
        .await;
    assert!(!success && text.contains("noAccess"), "{text}");
    assert!(
        scene.get(".1.3.6.1.2.1.11.4.0").await.ends_with("= Counter32: 2"),
        "the tool tries twice"
    );
}

/// snmptrapd on a free port; its lines.
async fn trapd(directory: &str) -> (Child, SocketAddr, Lines) {
    let folder = std::env::temp_dir().join(format!("snmp-trapd-{directory}-{}", std::process::id()));
    std::fs::create_dir_all(folder.join("cert_indexes")).unwrap();
    let conf = folder.join("snmptrapd.conf");
    std::fs::write(&conf, "authCommunity log public\n").unwrap();
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let mut child = Command::new("snmptrapd")
        .args(["-f", "-Lo", "-On", "-m", "", "-C", "-c"])
        .arg(&conf)
        .arg(format!("udp:{address}"))
        .env("SNMP_PERSISTENT_DIR", &folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap_or_else(|error| panic!("snmptrapd: {error}: install the package snmptrapd"));
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    // It says its version when it listens.
    let first = timeout(PATIENCE, lines.next_line())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert!(first.contains("NET-SNMP version"), "{first}");
    std::fs::remove_dir_all(&folder).unwrap();
    (child, address, lines)
}

/// Joins the bus as soon as the last life has left it.
async fn join(hub: &Hub, me: Address) -> (Bus, Server) {
    loop {
        match Bus::in_process(hub, me) {
            Ok(joined) => return joined,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
}

fn tunnel_up(number: u32) -> Notice {
    let field = |name: &str, value: &str| Parameter {
        name: name.into(),
        value: value.into(),
    };
    Notice {
        event: "IpsecTunnelUp".into(),
        time: 1_700_000_000_000,
        text: "tunnel up".into(),
        fields: vec![
            field("context", "isp"),
            field("policy", "enb"),
            field("peer", &format!("enb{number}@example.org")),
            field("local", "192.0.2.1"),
            field("remote", "198.51.100.9"),
        ],
    }
}

fn target(address: SocketAddr, form: Form) -> Target {
    Target {
        name: "nms".into(),
        address,
        community: b"public".to_vec(),
        form,
    }
}

type Lines = tokio::io::Lines<BufReader<tokio::process::ChildStdout>>;

/// The next line of snmptrapd that contains some text.
async fn logged(lines: &mut Lines, text: &str) -> String {
    loop {
        let line = lines.next_line().await.unwrap().expect("snmptrapd ended");
        if line.contains(text) {
            return line;
        }
    }
}

/// Publishes a notice, which the agent hears whether it follows this task already or not, and gives the line of snmptrapd.
async fn told(task: &Bus, number: u32, lines: &mut Lines, text: &str) -> String {
    task.publish(&tunnel_up(number));
    timeout(PATIENCE, logged(lines, text)).await.expect("no trap")
}

#[tokio::test]
async fn a_trap_reaches_snmptrapd_also_from_a_restarted_task() {
    let (_child, address, mut lines) = trapd("restart").await;
    let scene = Scene::new("trap", vec![target(address, Form::TrapV2c)]).await;
    for life in 1..=2 {
        // The task appears (again) on the bus, and tells something before it is followed.
        let (task, _server) = join(&scene.hub, Address::new(Facility::Ipsecmgr, 1)).await;
        let line = told(&task, life, &mut lines, ".1.3.6.1.4.1.8164.2.164").await;
        for part in [
            ".1.3.6.1.6.3.1.1.4.1.0 = OID: .1.3.6.1.4.1.8164.2.164",
            ".1.3.6.1.4.1.8164.1.36.1.0 = STRING: \"isp\"",
            ".1.3.6.1.4.1.8164.1.36.6.0 = INTEGER: 4",
            ".1.3.6.1.4.1.8164.1.36.8.0 = IpAddress: 192.0.2.1",
            ".1.3.6.1.4.1.8164.1.36.9.0 = IpAddress: 198.51.100.9",
        ] {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
}

#[tokio::test]
async fn a_version_1_trap_reaches_snmptrapd() {
    let (_child, address, mut lines) = trapd("v1").await;
    let scene = Scene::new("v1", vec![target(address, Form::TrapV1)]).await;
    let (task, _server) = join(&scene.hub, Address::new(Facility::Ipsecmgr, 1)).await;
    let line = told(&task, 1, &mut lines, "Enterprise Specific Trap").await;
    assert!(
        line.contains(".1.3.6.1.4.1.8164.2 Enterprise Specific Trap (164)"),
        "{line}"
    );
}

#[tokio::test]
async fn an_inform_is_acknowledged_by_snmptrapd() {
    let (_child, address, mut lines) = trapd("inform").await;
    let scene = Scene::new("inform", vec![target(address, Form::Inform)]).await;
    let (task, _server) = join(&scene.hub, Address::new(Facility::Ipsecmgr, 1)).await;
    told(&task, 1, &mut lines, ".1.3.6.1.4.1.8164.2.164").await;
    // What is not acknowledged would come again.
    let again = timeout(WAIT + Duration::from_secs(1), logged(&mut lines, "8164.2.164")).await;
    assert!(again.is_err(), "sent again: {again:?}");
}

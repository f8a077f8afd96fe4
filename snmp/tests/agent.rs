//! The whole process, with a `sct` and a `sit` played by the test, and real net-snmp as the manager.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::link::Links;
use bus::messages::common::{Execute, Notice, Output, Parameter};
use bus::messages::sct::{ConfigText, GetConfig, RevealSecret, Revealed};
use bus::messages::sit::{Closed, LinkOpened, OpenUdp, Opened, Ready};
use bus::{Address, Bus, Facility, Hub, Message};
use task::Channel;
use tokio::process::Command;
use tokio::task::JoinHandle;
use tokio::time::timeout;

const SNMP: Address = Address::only(Facility::Snmp);
const SCT: Address = Address::only(Facility::Sct);
/// Whatever takes longer hangs; a slow machine does not.
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = "\
system hostname sgw1
system contact noc@example.org
snmp community encrypted name sealed-public
context isp
  wsg-service enb
  #exit
#exit
";

type Failure = Box<dyn std::error::Error>;

struct Node {
    directory: PathBuf,
    hub: Hub,
    agent: SocketAddr,
    life: JoinHandle<Result<(), String>>,
}

impl Node {
    async fn start(name: &str) -> Result<Self, Failure> {
        let directory = std::env::temp_dir().join(format!("snmp-agent-{name}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("run/counters"))?;
        std::fs::create_dir_all(directory.join("run/snmp"))?;
        std::fs::create_dir_all(directory.join("snmp/cert_indexes"))?;
        let hub = Hub::new();
        play_sct(&hub)?;
        let (life, agent) = live(&hub, &directory, 0).await?;
        Ok(Self {
            directory,
            hub,
            agent,
            life,
        })
    }

    /// Ends the process, as SIGKILL would.
    async fn kill(&mut self) {
        self.life.abort();
        let _ = (&mut self.life).await;
    }

    /// Starts the next process.
    async fn revive(&mut self) -> Result<(), Failure> {
        (self.life, self.agent) = live(&self.hub, &self.directory, 1).await?;
        Ok(())
    }

    async fn get(&self, oid: &str) -> std::io::Result<String> {
        let output = Command::new("snmpget")
            .args(["-m", "", "-On", "-v2c", "-c", "public", "-r", "1", "-t", "2"])
            .args([&self.agent.to_string(), oid])
            .env("SNMP_PERSISTENT_DIR", self.directory.join("snmp"))
            .output()
            .await?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat())
            .trim_end()
            .to_owned())
    }

    async fn show(&self, command: &str) -> Result<Output, bus::BusError> {
        let shell = Bus::in_process_client(&self.hub, Address::new(Facility::Cli, 1));
        let request = Execute::new(command, &[]);
        shell.request(SNMP, &request, PATIENCE).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// One life of the process, until it says that it serves; and where the agent is.
async fn live(
    hub: &Hub,
    directory: &Path,
    lives: u32,
) -> Result<(JoinHandle<Result<(), String>>, SocketAddr), Failure> {
    let (mut task, sit) = loop {
        match task::testing::task(hub, SNMP, 1, directory) {
            Ok(life) => break life,
            // The last life has not left the bus yet.
            Err(task::Error::Bus(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => return Err(error.into()),
        }
    };
    task.lives = lives;
    link_sct(&sit).await?;
    let life = tokio::spawn(async { snmp::run(task).await.map_err(|error| error.to_string()) });
    let agent = play_sit(&sit).await?;
    // The control socket stays open as long as the task lives.
    tokio::spawn(async move { sit.receive().await });
    Ok((life, agent))
}

/// A `sct` that answers with the configuration on the bus.
fn play_sct(hub: &Hub) -> Result<(), Failure> {
    let (bus, mut server) = Bus::in_process(hub, SCT)?;
    tokio::spawn(async move {
        let _bus = bus;
        while let Some(incoming) = server.next().await {
            bus::dispatch!(incoming, {
                GetConfig => |_, responder| {
                    responder.reply(ConfigText { version: 1, text: CONFIGURATION.to_owned() });
                },
            });
        }
    });
    Ok(())
}

/// A `sct` that answers with secrets over a link.
async fn link_sct(sit: &Channel) -> Result<(), Failure> {
    let (ours, theirs) = bus::link::pair()?;
    let (links, mut server) = Links::new(SCT);
    links.install(SNMP, ours)?;
    tokio::spawn(async move {
        let _links = links;
        while let Some(incoming) = server.next().await {
            bus::dispatch!(incoming, {
                RevealSecret => |query, responder| {
                    let secret = query.sealed.strip_prefix("sealed-").unwrap_or_default().as_bytes().to_vec();
                    responder.reply(Revealed { secret, failure: String::new() });
                },
            });
        }
    });
    let header = Header {
        kind: Kind::Event,
        message: LinkOpened::TYPE,
        sender: Address::only(Facility::Sit),
        correlation: 0,
    };
    let opened = LinkOpened {
        facility: Facility::Sct as u32,
        instance: 1,
    };
    Ok(sit.send(header, &opened, &[theirs.as_fd()]).await?)
}

/// A `sit` that opens a socket on the loopback interface instead of port 161, until the task says that it serves.
async fn play_sit(sit: &Channel) -> Result<SocketAddr, Failure> {
    let mut agent = None;
    loop {
        let packet = timeout(PATIENCE, sit.receive()).await??.ok_or("the task ended")?;
        let header = Header {
            kind: Kind::Reply,
            sender: Address::only(Facility::Sit),
            ..packet.header
        };
        if packet.header.message == Ready::TYPE {
            sit.send(header, &Closed {}, &[]).await?;
            return Ok(agent.ok_or("no socket was opened")?);
        }
        assert_eq!(packet.header.message, OpenUdp::TYPE);
        let request: OpenUdp = packet.decode()?;
        assert_eq!((request.context.as_str(), request.port), ("local", 161));
        if request.address != "0.0.0.0" {
            let refused = Opened {
                failure: "no such address family".into(),
                ..Opened::default()
            };
            sit.send(header, &refused, &[]).await?;
            continue;
        }
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        agent = Some(socket.local_addr()?);
        let opened = Opened {
            names: vec!["udp".into()],
            ..Opened::default()
        };
        sit.send(header, &opened, &[socket.as_fd()]).await?;
    }
}

#[tokio::test]
async fn the_configured_community_is_answered() {
    let node = Node::start("get").await.unwrap();
    let value = node.get(".1.3.6.1.2.1.1.5.0").await.unwrap();
    assert_eq!(value, ".1.3.6.1.2.1.1.5.0 = STRING: \"sgw1\"");
    let service = node.get(".1.3.6.1.4.1.8164.1.18.1.1.4.2.1").await.unwrap();
    assert_eq!(service, ".1.3.6.1.4.1.8164.1.18.1.1.4.2.1 = STRING: \"enb\"");
    let communities = node.show("show snmp communities").await.unwrap().text;
    assert!(
        communities.ends_with("public                           read-only\n"),
        "{communities}"
    );
}

/// The notice that a certificate has expired.
fn expired(name: &str) -> Notice {
    let field = |name: &str, value: &str| Parameter {
        name: name.into(),
        value: value.into(),
    };
    Notice {
        event: "CertExpired".into(),
        time: 1_660_124_732_000,
        text: format!("certificate {name} (serial 0a) expired at 2022-08-10T09:45:32Z"),
        fields: vec![field("name", name), field("serial", "0a")],
    }
}

/// The history as soon as it has these words.
async fn history_with(node: &Node, words: &str) -> Result<String, Failure> {
    let shown = async {
        loop {
            let history = node.show("show snmp trap history").await?.text;
            if history.contains(words) {
                return Ok(history);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, shown).await?
}

#[tokio::test]
async fn a_next_life_tells_what_was_told_in_the_meantime_and_nothing_twice() {
    let mut node = Node::start("lives").await.unwrap();
    let (certmgr, _server) = Bus::in_process(&node.hub, Address::only(Facility::Certmgr)).unwrap();
    certmgr.publish(&expired("one"));
    history_with(&node, "name one ").await.unwrap();
    node.kill().await;
    certmgr.publish(&expired("two"));
    node.revive().await.unwrap();
    certmgr.publish(&expired("three"));
    let history = history_with(&node, "name three ").await.unwrap();
    let times = |words: &str| history.matches(words).count();
    assert_eq!(
        (times("name one "), times("name two "), times("name three ")),
        (0, 1, 1),
        "{history}"
    );
}

#[tokio::test]
async fn events_make_history() {
    let node = Node::start("history").await.unwrap();
    let (certmgr, _server) = Bus::in_process(&node.hub, Address::only(Facility::Certmgr)).unwrap();
    certmgr.publish(&expired("gw"));
    let history = history_with(&node, "CertExpired").await.unwrap();
    assert!(
        history.contains("Internal trap notification 1044 (CertExpired) name gw serial 0a\n"),
        "{history}"
    );
    node.show("clear snmp trap history").await.unwrap();
    let notifies = node.show("show snmp notifies").await.unwrap().text;
    assert!(
        notifies.contains("Notification sending is         : disabled, no target is configured"),
        "{notifies}"
    );
    assert!(
        notifies.lines().any(|line| line.starts_with("CertExpired ")),
        "{notifies}"
    );
    let foreign = node.show("show crash list").await.unwrap();
    assert_eq!(foreign.failure, "'show crash list' is not answered by snmp");
}

//! The whole process, with a `sct` and a `sit` played by the test.

use std::path::PathBuf;
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::common::{Execute, Output};
use bus::messages::sct::{ConfigChanged, ConfigText, GetConfig};
use bus::messages::sit::{Closed, Ready};
use bus::{Address, Bus, Facility, Hub, Message};
use task::Channel;
use telemetry::Counters;
use telemetry::counters::ikev2;
use tokio::sync::watch;
use tokio::time::timeout;

const BULKSTAT: Address = Address::only(Facility::Bulkstat);
const PATIENCE: Duration = Duration::from_secs(60);

const CONFIGURATION: &str = r#"
system hostname sgw1
bulkstats collection
bulkstats mode
  sample-interval 1
  transfer-interval 10
  file 1
    remotefile format "%host%_%date%.csv"
    footer format EndOfFile
    schema sysSch1 format "sysSch1,%host%,%ikev2-cursa%"
  #exit
#exit
"#;

/// A node of one task.
struct Node {
    directory: PathBuf,
    shell: Bus,
    counters: Counters,
    sct: Bus,
    configuration: watch::Sender<(u64, String)>,
}

impl Node {
    /// Starts the task, and waits until it serves.
    async fn start(name: &str) -> Result<Self, Box<dyn std::error::Error>> {
        let directory = std::env::temp_dir().join(format!("bulkstat-{name}-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("run/counters"))?;
        let counters = Counters::open(&directory.join("run/counters"), "ipsecmgr", 1)?;
        counters.set(ikev2::CURRENT_SAS, 10);
        let hub = Hub::new();
        let (sct, configuration) = play_sct(&hub)?;
        let (task, sit) = task::testing::task(&hub, BULKSTAT, 1, &directory)?;
        tokio::spawn(async { bulkstats::run(task).await.map_err(|error| error.to_string()) });
        play_sit(&sit).await?;
        // The control socket stays open as long as the task lives.
        tokio::spawn(async move { sit.receive().await });
        let shell = Bus::in_process_client(&hub, Address::new(Facility::Cli, 1));
        Ok(Self {
            directory,
            shell,
            counters,
            sct,
            configuration,
        })
    }

    async fn run(&self, command: &str, parameters: &[(&str, &str)]) -> Result<Output, bus::BusError> {
        let request = Execute::new(command, parameters);
        self.shell.request(BULKSTAT, &request, PATIENCE).await
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// A `sct` that answers with the configuration that was set last.
fn play_sct(hub: &Hub) -> Result<(Bus, watch::Sender<(u64, String)>), bus::BusError> {
    let (bus, mut server) = Bus::in_process(hub, Address::only(Facility::Sct))?;
    let (sender, receiver) = watch::channel((1, CONFIGURATION.to_owned()));
    tokio::spawn(async move {
        while let Some(incoming) = server.next().await {
            let (version, text) = receiver.borrow().clone();
            bus::dispatch!(incoming, {
                GetConfig => |_, responder| responder.reply(ConfigText { version, text }),
            });
        }
    });
    Ok((bus, sender))
}

/// A `sit` that waits until the task says that it serves.
async fn play_sit(sit: &Channel) -> Result<(), Box<dyn std::error::Error>> {
    let packet = timeout(PATIENCE, sit.receive()).await??.ok_or("the task ended")?;
    assert_eq!(packet.header.message, Ready::TYPE);
    let header = Header {
        kind: Kind::Reply,
        sender: Address::only(Facility::Sit),
        ..packet.header
    };
    Ok(sit.send(header, &Closed {}, &[]).await?)
}

#[tokio::test]
async fn records_are_gathered_and_transferred_on_demand() {
    let node = Node::start("force").await.unwrap();
    let gathered = node.run("bulkstats force gather", &[]).await.unwrap();
    assert_eq!((gathered.failure.as_str(), gathered.text.as_str()), ("", ""));
    node.counters.set(ikev2::CURRENT_SAS, 11);
    node.run("bulkstats force gather", &[]).await.unwrap();
    let data = node.run("show bulkstats data", &[]).await.unwrap();
    assert_eq!(data.text, "File 1: sysSch1,sgw1,10\nFile 1: sysSch1,sgw1,11\n");

    let transferred = node.run("bulkstats force transfer", &[]).await.unwrap();
    let path = transferred.text.trim_end();
    assert!(
        path.contains("hd-raid/sgw1_") && path.ends_with(".csv"),
        "{transferred:?}"
    );
    let content = std::fs::read_to_string(path).unwrap();
    assert_eq!(content, "sysSch1,sgw1,10\nsysSch1,sgw1,11\nEndOfFile\n");

    let shown = node.run("show bulkstats", &[]).await.unwrap().text;
    assert!(
        shown.contains("Sample Interval:               1 minutes"),
        "{shown}"
    );
    assert!(shown.contains("Total records transmitted:     2\n"), "{shown}");
}

#[tokio::test]
async fn a_new_configuration_is_followed() {
    let node = Node::start("follow").await.unwrap();
    let changed = CONFIGURATION.replace("sysSch1", "other");
    node.configuration.send_replace((2, changed));
    node.sct.publish(&ConfigChanged { version: 2 });
    let schemas = async {
        while !node
            .run("show bulkstats schemas", &[])
            .await
            .unwrap()
            .text
            .contains("system schema other")
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, schemas)
        .await
        .expect("the new schema is not shown");
}

#[tokio::test]
async fn variables_are_listed_and_errors_are_clear() {
    let node = Node::start("errors").await.unwrap();
    let variables = node
        .run("show bulkstats variables", &[("schema", "wsg")])
        .await
        .unwrap();
    assert!(variables.text.contains("%wsg-total-setup-attempts%"));
    let unknown = node
        .run("show bulkstats variables", &[("schema", "hnbgw")])
        .await
        .unwrap();
    assert_eq!(
        unknown.failure,
        "no such schema: 'show bulkstats variables' lists them all"
    );
    let foreign = node.run("show crash list", &[]).await.unwrap();
    assert_eq!(foreign.failure, "'show crash list' is not answered by bulkstat");
}

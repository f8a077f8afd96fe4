//! The resource manager on the bus.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::common::Execute;
use bus::messages::rmctrl::GetSlotMap;
use bus::messages::sit::{GetKeptSlotMap, KeptSlotMap, Ready, SetSlotMap};
use bus::{Address, Bus, Facility, Hub, Message};

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn it_gets_ready_serves_and_ends() {
    let hub = Hub::new();
    let (task, sit) = task::testing::task(&hub, RMCTRL, 3, Path::new("/nonexistent")).unwrap();
    let shutdown = task.shutdown.clone();
    let life = tokio::spawn(rmctrl::run(task));
    // The first map is kept before anybody hears of it.
    for expected in [GetKeptSlotMap::TYPE, SetSlotMap::TYPE, Ready::TYPE] {
        let asked = sit.receive().await.unwrap().unwrap();
        assert_eq!(asked.header.message, expected);
        let header = Header {
            kind: Kind::Reply,
            ..asked.header
        };
        sit.send(header, &KeptSlotMap::default(), &[]).await.unwrap();
    }

    let bus = Bus::in_process_client(&hub, Address::new(Facility::Cli, 1));
    let map = bus.request(RMCTRL, &GetSlotMap {}, PATIENCE).await.unwrap();
    assert_eq!(map.managers.len(), 255);
    assert_eq!(map.managers[..4], [1, 2, 3, 1]);

    let show = |instance: Option<&str>| {
        let instance: Vec<_> = instance.map(|value| ("instance", value)).into_iter().collect();
        Execute::new("show crypto managers", &instance)
    };
    let all = bus.request(RMCTRL, &show(None), PATIENCE).await.unwrap();
    assert!(all.text.contains("Total"), "{}", all.text);
    let one = bus.request(RMCTRL, &show(Some("3")), PATIENCE).await.unwrap();
    assert!(
        one.text.starts_with("IPSec Manager Instance: 3\n"),
        "{}",
        one.text
    );
    let none = bus.request(RMCTRL, &show(Some("4")), PATIENCE).await.unwrap();
    assert_eq!(none.failure, "there is no ipsecmgr 4; instances are 1 to 3");
    // Every task on the bus is found at once.
    let (_sct, _server) = Bus::in_process(&hub, Address::only(Facility::Sct)).unwrap();
    let resources = Execute::new("show task resources", &[]);
    let resources = loop {
        let output = bus.request(RMCTRL, &resources, PATIENCE).await.unwrap();
        if output.text.lines().any(|line| line.contains(" rmctrl ")) {
            break output;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(
        resources.heading.contains("cpu facility      inst"),
        "{}",
        resources.heading
    );
    assert!(resources.text.ends_with(" good\n"), "{}", resources.text);
    let unknown = Execute::new("show nothing", &[]);
    let unknown = bus.request(RMCTRL, &unknown, PATIENCE).await.unwrap();
    assert_eq!(unknown.failure, "'show nothing' is not answered by rmctrl");

    shutdown.request(PATIENCE);
    life.await.unwrap().unwrap();
}

//! The whole `vpnmgr` against the real kernel, in a network namespace of a thread's own; the test plays every other task.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::path::PathBuf;
use std::time::Duration;

use bus::messages::common::Execute;
use bus::messages::sessmgr::{Held, HeldBlock, HeldBlocks};
use bus::messages::sit::Opened;
use bus::messages::vpnmgr::{
    AddRoutes, Block, GetAddresses, LeaseAddress, LeaseBlock, RemoveRoutes, ReturnBlock, Route,
};
use bus::{Address, Bus, Facility, Hub, dispatch};
use task::testing;
use telemetry::counters::ippool;
use telemetry::{Counters, Scope};
use tokio::time::{sleep, timeout};

mod common;
use common::{in_namespace, ip, make_tunnels};

const CONFIGURATION: &str = "config
  context isp
    interface outside
      ip address 192.0.2.1 255.255.255.0
    exit
    interface loop loopback
      ip address 10.255.0.1 255.255.255.255
    exit
    ip pool v4 10.30.0.0 255.255.255.0 public 0
    ipv6 pool v6 prefix fd30::/48
    ip route 198.51.100.0 255.255.255.0 192.0.2.254 outside
  exit
  port ethernet 1/10
    device v0
    no shutdown
    bind interface outside isp
  exit
end
";
const VPNMGR: Address = Address::new(Facility::Vpnmgr, 2);
const DEADLINE: Duration = Duration::from_secs(60);

/// Runs `test` in a namespace and a runtime of its own.
fn served<F: Future<Output = ()>>(test: impl FnOnce() -> F + Send + 'static) {
    in_namespace(|| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { timeout(Duration::from_secs(30), test()).await.expect("in time") });
        let _ = std::fs::remove_dir_all(directory());
    });
}

/// The directory of the test that runs on this thread.
fn directory() -> PathBuf {
    let thread = format!("{:?}", std::thread::current().id());
    let number = thread.replace(|other: char| !other.is_ascii_digit(), "");
    std::env::temp_dir().join(format!("vpnmgr-{}-{number}", std::process::id()))
}

/// Where sessmgrs have their counter pages.
fn pages() -> PathBuf {
    directory().join("run/counters")
}

/// Starts a `vpnmgr` that has lived `lives` times before, and waits until it serves.
async fn start(hub: &Hub, lives: u32) -> (Bus, tokio::task::JoinHandle<()>, task::Shutdown) {
    std::fs::create_dir_all(pages()).unwrap();
    let (mut task, channel) = testing::task(hub, VPNMGR, 2, &directory()).unwrap();
    task.context = "isp".to_owned();
    task.lives = lives;
    let shutdown = task.shutdown.clone();
    tokio::spawn(testing::play_sit(channel, |_| {
        (
            Opened {
                interface: "tunnels".to_owned(),
                ..Opened::default()
            },
            Vec::new(),
        )
    }));
    let manager = tokio::spawn(async move { vpnmgr::run(task).await.unwrap() });
    let bus = Bus::in_process_client(hub, Address::new(Facility::Cli, std::process::id() + lives));
    while !routes().contains("198.51.100.0/24") {
        sleep(Duration::from_millis(10)).await;
    }
    (bus, manager, shutdown)
}

async fn show(bus: &Bus, command: &str, words: &[(&str, &str)]) -> String {
    show_in(bus, "isp", command, words).await
}

async fn show_in(bus: &Bus, context: &str, command: &str, words: &[(&str, &str)]) -> String {
    let request = Execute {
        context: context.to_owned(),
        ..Execute::new(command, words)
    };
    let output = bus.request(VPNMGR, &request, DEADLINE).await.unwrap();
    assert_eq!(output.failure, "");
    output.heading + &output.text
}

async fn lease_block(bus: &Bus, pool: &str, worker: u32) -> Result<Block, bus::BusError> {
    let request = LeaseBlock {
        pool: pool.to_owned(),
        worker,
    };
    bus.request(VPNMGR, &request, DEADLINE).await
}

/// A network behind a peer.
fn route() -> Route {
    Route {
        network: vec![10, 20, 1, 0],
        length: 24,
        spi: 0x0700_0001,
        tenure: 1,
    }
}

/// Adds routes for the `ipsecmgr` that has their slot by this tenure; returns why not.
async fn add_routes(bus: &Bus, routes: Vec<Route>, tenure: u64) -> String {
    let routes = routes.into_iter().map(|route| Route { tenure, ..route });
    let request = AddRoutes {
        routes: routes.collect(),
    };
    bus.request(VPNMGR, &request, DEADLINE).await.unwrap().failure
}

fn routes() -> String {
    ip("route show table all")
}

/// Sessmgr `worker`, which holds `blocks`.
fn play_sessmgr(hub: &Hub, worker: u32, blocks: Vec<HeldBlock>) {
    let (bus, mut server) = Bus::in_process(hub, Address::new(Facility::Sessmgr, worker)).unwrap();
    tokio::spawn(async move {
        let _bus = bus;
        while let Some(incoming) = server.next().await {
            dispatch!(incoming, {
                HeldBlocks => |question, responder| {
                    assert_eq!(question.context, "isp");
                    responder.reply(Held { blocks: blocks.clone() });
                },
            });
        }
    });
}

#[test]
fn a_context_is_served() {
    served(|| async {
        let hub = Hub::new();
        tokio::spawn(testing::play_sct(hub.clone(), CONFIGURATION.to_owned()));
        let (bus, manager, shutdown) = start(&hub, 0).await;
        assert!(ip("address show dev v0").contains("192.0.2.1/24"));
        assert!(routes().contains("10.30.0.0/24 dev tunnels") || routes().contains("10.30.0.1 dev tunnels"));

        let block = lease_block(&bus, "v4", 1).await.unwrap();
        assert_eq!(
            (block.failure.as_str(), block.first.as_slice(), block.count),
            ("", &[10, 30, 0, 1][..], 31)
        );
        let other = lease_block(&bus, "v4", 2).await.unwrap();
        assert_eq!(other.first, [10, 30, 0, 32]);
        let prefixes = lease_block(&bus, "v6", 1).await.unwrap();
        assert_eq!(
            (prefixes.prefix_length, prefixes.count, prefixes.first.len()),
            (64, 1024, 16)
        );
        let none = lease_block(&bus, "x", 1).await.unwrap();
        assert_eq!(none.failure, "there is no ip pool x");
        let returned = ReturnBlock {
            pool: "v4".into(),
            worker: 1,
            first: block.first,
        };
        bus.request(VPNMGR, &returned, DEADLINE).await.unwrap();

        let lease = |address: [u8; 4], release| LeaseAddress {
            address: address.to_vec(),
            worker: 1,
            release,
        };
        let inside = bus
            .request(VPNMGR, &lease([10, 30, 0, 77], false), DEADLINE)
            .await
            .unwrap();
        assert_eq!((inside.failure.as_str(), inside.pool.as_str()), ("", "v4"));
        let taken = bus
            .request(VPNMGR, &lease([10, 30, 0, 40], false), DEADLINE)
            .await
            .unwrap();
        assert!(taken.failure.contains("sessmgr 2"), "{}", taken.failure);
        let own = bus
            .request(VPNMGR, &lease([192, 0, 2, 1], false), DEADLINE)
            .await
            .unwrap();
        assert_eq!(own.failure, "192.0.2.1 is an address of this context itself");
        let outside = bus
            .request(VPNMGR, &lease([172, 16, 0, 9], false), DEADLINE)
            .await
            .unwrap();
        assert_eq!((outside.failure.as_str(), outside.pool.as_str()), ("", ""));
        assert!(routes().contains("172.16.0.9 dev tunnels"));
        bus.request(VPNMGR, &lease([172, 16, 0, 9], true), DEADLINE)
            .await
            .unwrap();
        assert!(!routes().contains("172.16.0.9"));

        assert_eq!(add_routes(&bus, vec![route()], 1).await, "");
        assert!(routes().contains("10.20.1.0/24 dev tunnels"));
        let bad = Route {
            length: 33,
            ..route()
        };
        assert_ne!(add_routes(&bus, vec![bad], 0).await, "");

        let pools = show(&bus, "show ip pool", &[]).await;
        assert!(pools.contains("PG00  v4") && !pools.contains("v6"), "{pools}");
        assert!(
            pools.contains("       1      253"),
            "a block that is leased and idle is available, an address of AAA is used:\n{pools}"
        );
        let interfaces = show(&bus, "show ip interface", &[("summary", "")]).await;
        assert!(
            interfaces.contains("outside") && interfaces.contains("192.0.2.1/24"),
            "{interfaces}"
        );
        let one = show(&bus, "show ip interface", &[("name", ""), ("name", "loop")]).await;
        assert!(
            one.contains("Intf Type:         Loopback") && !one.contains("outside"),
            "{one}"
        );
        let there = async || {
            let answer = bus.request(VPNMGR, &GetAddresses {}, DEADLINE).await.unwrap();
            answer.addresses.contains(&vec![192, 0, 2, 1])
        };
        assert!(there().await);
        ip("link set v1 down");
        while there().await {
            sleep(Duration::from_millis(20)).await;
        }
        ip("link set v1 up");
        while !there().await {
            sleep(Duration::from_millis(20)).await;
        }
        let shown = show(&bus, "show ip route", &[]).await;
        for part in ["198.51.100.0/24", "static", "connected", "SPI 0x07000001"] {
            assert!(shown.contains(part), "{part} is missing:\n{shown}");
        }
        for command in ["show ip pool", "show ip interface", "show ip route"] {
            assert_eq!(show_in(&bus, "local", command, &[]).await, "", "{command}");
        }
        let ports = show_in(&bus, "local", "show port table", &[]).await;
        assert!(
            ports.contains("1/10   v0") && ports.contains("Enabled"),
            "{ports}"
        );

        let remove = RemoveRoutes {
            routes: vec![route()],
            ..RemoveRoutes::default()
        };
        bus.request(VPNMGR, &remove, DEADLINE).await.unwrap();
        assert!(!routes().contains("10.20.1.0/24"));
        shutdown.request(DEADLINE);
        manager.await.unwrap();
    });
}

#[test]
fn a_restart_gives_no_address_twice_and_keeps_the_routes_of_tunnels() {
    served(|| async {
        let hub = Hub::new();
        tokio::spawn(testing::play_sct(hub.clone(), CONFIGURATION.to_owned()));
        let (bus, manager, shutdown) = start(&hub, 0).await;
        let block = lease_block(&bus, "v4", 1).await.unwrap();
        assert_eq!(add_routes(&bus, vec![route()], 1).await, "");
        shutdown.request(DEADLINE);
        manager.await.unwrap();
        assert!(routes().contains("10.20.1.0/24"), "the kernel keeps it");

        let (bus, manager, shutdown) = start(&hub, 1).await;
        assert!(routes().contains("10.20.1.0/24"), "the next life keeps it");
        let refused = lease_block(&bus, "v4", 2).await;
        assert!(
            refused.is_err(),
            "leased before the workers were heard: {refused:?}"
        );
        let held = HeldBlock {
            pool: "v4".into(),
            first: block.first.clone(),
            count: block.count,
            single: false,
        };
        play_sessmgr(&hub, 1, vec![held]);
        play_sessmgr(&hub, 2, Vec::new());
        let next = loop {
            match lease_block(&bus, "v4", 2).await {
                Ok(block) => break block,
                Err(_) => sleep(Duration::from_millis(50)).await,
            }
        };
        assert_ne!(next.first, block.first, "given twice");
        for worker in 1..=2 {
            let counters = Counters::open(&pages(), "sessmgr", worker).unwrap();
            let gauges = counters.scoped(&Scope::pool("isp", "v4")).unwrap();
            gauges.set(ippool::USED, 5);
            gauges.set(ippool::HOLD, 1);
        }
        let pools = show(&bus, "show ip pool", &[]).await;
        assert!(
            pools.contains("      10      242"),
            "what sessions have is used, what is held for its last user is not free:\n{pools}"
        );
        // One tunnel of the slot goes on with its next owner, the others do not; what is in other slots is no matter.
        let kept = Route {
            network: vec![10, 20, 2, 0],
            ..route()
        };
        let other = Route {
            network: vec![10, 20, 3, 0],
            spi: 0x0900_0001,
            ..route()
        };
        assert_eq!(add_routes(&bus, vec![kept.clone(), other], 1).await, "");
        assert_eq!(add_routes(&bus, vec![kept], 2).await, "");
        let older = RemoveRoutes {
            slots: vec![7],
            tenure: 2,
            ..RemoveRoutes::default()
        };
        bus.request(VPNMGR, &older, DEADLINE).await.unwrap();
        assert!(!routes().contains("10.20.1.0/24"));
        assert!(routes().contains("10.20.2.0/24") && routes().contains("10.20.3.0/24"));
        shutdown.request(DEADLINE);
        manager.await.unwrap();
    });
}

#[test]
fn a_device_that_was_made_again_gets_its_routes_back() {
    served(|| async {
        let hub = Hub::new();
        tokio::spawn(testing::play_sct(hub.clone(), CONFIGURATION.to_owned()));
        let (bus, manager, shutdown) = start(&hub, 0).await;
        assert_eq!(add_routes(&bus, vec![route()], 1).await, "");
        let is_whole = || {
            let routes = routes();
            let parts = [
                "10.20.1.0/24 dev tunnels",
                "10.30.0.0/24 dev tunnels",
                "198.51.100.0/24 via 192.0.2.254 dev v0",
            ];
            parts.iter().all(|part| routes.contains(part))
                && ip("address show dev v0").contains("192.0.2.1/24")
        };
        let until_whole = async || {
            while !is_whole() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        assert!(is_whole());
        ip("link delete tunnels");
        // Counters and questions look at the devices too; that must not hide what has changed.
        bus.request(VPNMGR, &GetAddresses {}, DEADLINE).await.unwrap();
        make_tunnels();
        bus.request(VPNMGR, &GetAddresses {}, DEADLINE).await.unwrap();
        timeout(DEADLINE, until_whole()).await.unwrap();
        // The same for a port that comes back, and one that somebody switched off.
        ip("link delete v0");
        ip("link add v0 type veth peer name v1");
        ip("link set v1 up");
        timeout(DEADLINE, until_whole()).await.unwrap();
        ip("link set tunnels down");
        timeout(DEADLINE, until_whole()).await.unwrap();
        shutdown.request(DEADLINE);
        manager.await.unwrap();
    });
}

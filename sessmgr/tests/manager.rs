//! The whole `sessmgr`; the test plays every other task.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::messages::aaamgr::{Account, Accounted, AccountingKind, AccountingRecord};
use bus::messages::common::Execute;
use bus::messages::ipsecmgr::{DeleteTunnels, Deleted};
use bus::messages::rmctrl::{GetSlotMap, SlotMap};
use bus::messages::sessmgr::{
    Admission, Admit, Connected, ConnectedSession, HeldBlocks, Release, Released, Verdict, WorkerRecovered,
};
use bus::messages::sit::Opened;
use bus::messages::vpnmgr::{Block, LeaseBlock, ReturnBlock, Returned};
use bus::{Address, Bus, Facility, Hub, dispatch};
use sadb::{Slot, SlotSegments};
use task::testing;
use tokio::time::{sleep, timeout};

const CONFIGURATION: &str = "config
  context isp
    interface outside loopback
      ip address 192.0.2.1 255.255.255.255
    exit
    ip pool v4 10.30.0.0 255.255.255.0 public 0
    aaa group default
      radius accounting server 127.0.0.1 encrypted key sealed port 1813
    exit
    crypto template t ikev2-dynamic
    exit
    wsg-service enb
      deployment-mode remote-access
      ip address pool name v4
      duplicate-session-detection
      bind address 192.0.2.1 crypto-template t
    exit
  exit
end
";
const DEADLINE: Duration = Duration::from_secs(60);

/// IKE SPIs and reasons.
type Deletions = Vec<(u64, String)>;

/// What the others were asked.
#[derive(Clone, Default)]
struct Asked {
    records: Arc<Mutex<Vec<AccountingRecord>>>,
    deleted: Arc<Mutex<HashMap<u32, Deletions>>>,
    returned: Arc<Mutex<Vec<Vec<u8>>>>,
}

struct World {
    bus: Bus,
    asked: Asked,
    shutdowns: Vec<task::Shutdown>,
    folder: PathBuf,
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Tests run at the same time in one process.
static WORLDS: AtomicU32 = AtomicU32::new(0);

fn sessmgr(worker: u32) -> Address {
    Address::new(Facility::Sessmgr, worker)
}

async fn world(workers: u32) -> World {
    let hub = Hub::new();
    let asked = Asked::default();
    tokio::spawn(testing::play_sct(hub.clone(), CONFIGURATION.to_owned()));
    play_others(&hub, workers, &asked);
    let number = WORLDS.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("sessmgr-manager-{}-{number}", std::process::id()));
    let mut shutdowns = Vec::new();
    for worker in 1..=workers {
        let (task, channel) = testing::task(&hub, sessmgr(worker), workers, &folder).unwrap();
        shutdowns.push(task.shutdown.clone());
        let segments = SlotSegments::with_capacity(Slot::new(7).unwrap(), 16).unwrap();
        tokio::spawn(testing::play_sit(channel, move |packet| {
            // Whichever slot it is: these tests have one segment.
            let request: bus::messages::sit::OpenSlots = packet.decode().unwrap();
            let names = request.slots.iter().map(|slot| format!("slot-{slot}-counters"));
            let opened = Opened {
                names: names.collect(),
                ..Opened::default()
            };
            let counters = request.slots.iter().map(|_| segments.reader_fd().unwrap());
            (opened, counters.collect())
        }));
        tokio::spawn(async move { sessmgr::run(task).await.unwrap() });
    }
    let bus = Bus::in_process_client(&hub, Address::new(Facility::Ipsecmgr, 99));
    World {
        bus,
        asked,
        shutdowns,
        folder,
    }
}

fn play_others(hub: &Hub, workers: u32, asked: &Asked) {
    let (all, worlds) = (hub.clone(), asked.clone());
    let mut addresses = vec![
        Address::new(Facility::Vpnmgr, 2),
        Address::only(Facility::Aaamgr),
        Address::only(Facility::Rmctrl),
    ];
    addresses.extend((1..=workers).map(|worker| Address::new(Facility::Ipsecmgr, worker)));
    for address in addresses {
        let (bus, mut server) = Bus::in_process(&all, address).unwrap();
        let asked = worlds.clone();
        tokio::spawn(async move {
            let _bus = bus;
            let mut next = 0u8;
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, {
                    LeaseBlock => |question, responder| {
                        assert_eq!(question.pool, "v4");
                        let first = vec![10, 30, 0, next];
                        next += 8;
                        responder.reply(Block { first, count: 8, prefix_length: 32, failure: String::new() });
                    },
                    ReturnBlock => |question, responder| {
                        asked.returned.lock().unwrap().push(question.first);
                        responder.reply(Returned {});
                    },
                    Account => |question, responder| {
                        asked.records.lock().unwrap().extend(question.records);
                        responder.reply(Accounted::default());
                    },
                    DeleteTunnels => |question, responder| {
                        let mut deleted = asked.deleted.lock().unwrap();
                        let of_worker = deleted.entry(address.instance).or_default();
                        of_worker.extend(question.ike_spis.iter().map(|ike_spi| (*ike_spi, question.reason.clone())));
                        responder.reply(Deleted::default());
                    },
                    GetSlotMap => |_, responder| {
                        let workers = (1..=255).map(|slot| u32::from(slot == 7)).collect();
                        responder.reply(SlotMap::of_workers(workers));
                    },
                });
            }
        });
    }
}

impl World {
    async fn admit(&self, worker: u32, ike_spis: &[u64], name: &str) -> Vec<Verdict> {
        let admissions = ike_spis.iter().map(|&ike_spi| Admission {
            ike_spi,
            context: "isp".to_owned(),
            service: "enb".to_owned(),
            identity_type: 2,
            identity: format!(
                "{name}{}",
                if ike_spis.len() > 1 {
                    ike_spi.to_string()
                } else {
                    String::new()
                }
            )
            .into(),
            peer: vec![198, 51, 100, 7],
            wants_ipv4: true,
            ..Admission::default()
        });
        let request = Admit {
            admissions: admissions.collect(),
        };
        // A service is unknown until the configuration has been read.
        for _ in 0..100 {
            let admitted = self
                .bus
                .request(sessmgr(worker), &request, DEADLINE)
                .await
                .unwrap();
            if admitted.verdicts.iter().all(|verdict| verdict.refusal.is_empty()) {
                return admitted.verdicts;
            }
            sleep(Duration::from_millis(20)).await;
        }
        panic!("nobody is admitted");
    }

    async fn connect(&self, worker: u32, ike_spi: u64) {
        let session = ConnectedSession {
            ike_spi,
            was: 0,
            spis: vec![0x0700_0001],
        };
        self.bus
            .request(
                sessmgr(worker),
                &Connected {
                    sessions: vec![session],
                },
                DEADLINE,
            )
            .await
            .unwrap();
    }

    async fn kinds(&self, count: usize) -> Vec<i32> {
        loop {
            let kinds: Vec<i32> = self
                .asked
                .records
                .lock()
                .unwrap()
                .iter()
                .map(|record| record.kind)
                .collect();
            if kinds.len() >= count {
                return kinds;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(Duration::from_secs(20), test).await.expect("in time") });
}

#[test]
fn sessions_from_admission_to_accounting_stop() {
    block_on(async {
        let world = world(1).await;
        let verdicts = world.admit(1, &(1..=20).collect::<Vec<u64>>(), "ue").await;
        let journal = std::fs::read(world.folder.join("run/sessions/sessmgr-1")).unwrap();
        for verdict in &verdicts {
            let entry = [&b"S"[..], &verdict.ike_spi.to_be_bytes()].concat();
            assert!(
                journal.windows(entry.len()).any(|octets| octets == entry),
                "a verdict has left before it was on file"
            );
        }
        let mut addresses: Vec<Vec<u8>> = verdicts.into_iter().map(|verdict| verdict.ipv4).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 20, "three blocks, no address twice");
        world.connect(1, 5).await;
        let released = Released {
            ike_spi: 5,
            reason: 2,
            packets_in: 10,
            bytes_in: 1000,
            ..Released::default()
        };
        world
            .bus
            .request(
                sessmgr(1),
                &Release {
                    sessions: vec![released],
                },
                DEADLINE,
            )
            .await
            .unwrap();
        assert_eq!(
            world.kinds(2).await,
            [AccountingKind::Start as i32, AccountingKind::Stop as i32]
        );
        assert_eq!(world.asked.records.lock().unwrap()[1].packets_in, 10);
        let request = Execute::new("show subscribers", &[]);
        let shown = world.bus.request(sessmgr(1), &request, DEADLINE).await.unwrap();
        assert_eq!((shown.text.lines().count(), shown.totals[0].value), (19, 19));
        let held = world
            .bus
            .request(
                sessmgr(1),
                &HeldBlocks {
                    context: "isp".into(),
                },
                DEADLINE,
            )
            .await
            .unwrap();
        assert!(
            held.blocks.len() >= 3
                && held
                    .blocks
                    .iter()
                    .all(|block| block.pool == "v4" && !block.single)
        );
        let recovered = WorkerRecovered {
            tenure: 1,
            slots: vec![0],
            ..WorkerRecovered::default()
        };
        world.bus.request(sessmgr(1), &recovered, DEADLINE).await.unwrap();
        let shown = world.bus.request(sessmgr(1), &request, DEADLINE).await.unwrap();
        assert_eq!(shown.text, "");
        // With nobody there, the blocks but one or two go back.
        while world.asked.returned.lock().unwrap().is_empty() {
            sleep(Duration::from_millis(20)).await;
        }
        world
            .shutdowns
            .iter()
            .for_each(|shutdown| shutdown.request(DEADLINE));
    });
}

#[test]
fn a_newer_session_on_another_worker_ends_the_older_one() {
    block_on(async {
        // Slot 7 is of worker 1, wherever its sessions are.
        const IN_SLOT_7: u64 = 7 << 56;
        let world = world(2).await;
        world.admit(1, &[IN_SLOT_7 | 1], "ue").await;
        world.admit(2, &[2], "other").await;
        // Let the workers find each other.
        sleep(Duration::from_millis(300)).await;
        world.admit(2, &[3], "ue").await;
        let deleted = loop {
            let deleted = world.asked.deleted.lock().unwrap().clone();
            if !deleted.is_empty() {
                break deleted;
            }
            sleep(Duration::from_millis(10)).await;
        };
        let expected = HashMap::from([(1, vec![(IN_SLOT_7 | 1, "duplicate-session-detected".to_owned())])]);
        assert_eq!(deleted, expected);
    });
}

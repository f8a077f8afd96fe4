//! Two `ipsecmgr`s that live and die as processes do, with the slots between them and a `rmctrl` that the test plays step by step.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bus::messages::ipsecmgr::{DeleteTunnels, Deleted};
use bus::messages::rmctrl::{
    GetCongestion, GetSlotMap, Leaving, MovePhase, SlotMap, SlotMapChanged, SlotPart,
};
use bus::messages::sessmgr::Verdict;
use bus::messages::sit::{OpenIke, OpenRings, OpenSlots, Opened};
use bus::messages::slots::{HandOverSlots, PrepareSlots, SlotsHeld, TakeSlots};
use bus::{Address, Bus, Facility, Hub, Message, dispatch};
use netio::steering::{SlotOwners, Steering};
use netio::{SocketOptions, UdpGroup};
use sadb::{
    ChildSa, Slot, SlotSegments, SlotWorker, Spi, StrayConsumer, StrayHeader, StrayOrigin, StrayProducer,
    StrayRing,
};
use task::{Packet, testing};
use telemetry::Counters;
use tokio::sync::oneshot;

use super::{Heard, PATIENCE, link_to_sct, play_sct, play_sessmgr, play_vpnmgr};

const WORKERS: u32 = 2;
const STEP: Duration = Duration::from_millis(2);

/// What every process of the node sees.
struct Shared {
    map: Mutex<SlotMap>,
    segments: BTreeMap<u8, SlotSegments>,
    /// By port.
    groups: BTreeMap<u16, UdpGroup>,
    /// Between the two processes of each worker: to the data plane, and from it.
    rings: BTreeMap<u32, [StrayRing; 2]>,
}

/// The node.
pub struct Node {
    pub heard: Arc<Mutex<Heard>>,
    hub: Hub,
    bus: Bus,
    rmctrl: Bus,
    shared: Arc<Shared>,
    processes: BTreeMap<u32, Process>,
}

/// One life of an `ipsecmgr`, with everything that it has begun.
struct Process {
    counters: Counters,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Node {
    /// Starts both. Slots 1 and 3 are worker 1's, 2 and 4 those of worker 2; what peers send comes to worker 1.
    pub async fn start(configuration: &str, gateway: &str, verdict: Verdict) -> Self {
        let hub = Hub::new();
        let heard = Arc::new(Mutex::new(Heard::default()));
        let mut owners = vec![0; 255];
        owners[..4].copy_from_slice(&[1, 2, 1, 2]);
        let segments =
            [1, 2, 3, 4].map(|slot| (slot, SlotSegments::create(Slot::new(slot).unwrap()).unwrap()));
        let address: IpAddr = gateway.parse().unwrap();
        let group = |port| {
            let options = SocketOptions::default();
            UdpGroup::open(SocketAddr::new(address, port), 2, options, &all_to_worker_1()).unwrap()
        };
        let ring = || StrayRing::create(0).unwrap();
        let shared = Arc::new(Shared {
            map: Mutex::new(SlotMap::of_workers(owners)),
            segments: segments.into(),
            groups: [500, 4500].map(|port| (port, group(port))).into(),
            rings: (1..=WORKERS).map(|worker| (worker, [ring(), ring()])).collect(),
        });
        let join = |facility, instance| Bus::in_process(&hub, Address::new(facility, instance)).unwrap();
        let (rmctrl, mut server) = join(Facility::Rmctrl, 1);
        let (maps, said) = (shared.clone(), heard.clone());
        tokio::task::spawn_local(async move {
            while let Some(incoming) = server.next().await {
                dispatch!(incoming, {
                    GetSlotMap => |_, responder| responder.reply(maps.map.lock().unwrap().clone()),
                    GetCongestion => |_, responder| responder.reply(said.lock().unwrap().congestion.clone()),
                });
            }
        });
        tokio::task::spawn_local(play_sct(join(Facility::Sct, 1), configuration.to_owned()));
        for worker in 1..=WORKERS {
            let server = join(Facility::Sessmgr, worker);
            tokio::task::spawn_local(play_sessmgr(worker, server, verdict.clone(), heard.clone()));
        }
        tokio::task::spawn_local(play_vpnmgr(join(Facility::Vpnmgr, 2), heard.clone()));
        tokio::task::spawn_local(play_data_planes(shared.clone()));
        let bus = Bus::in_process_client(&hub, Address::new(Facility::Cli, 1));
        let mut node = Self {
            heard,
            hub,
            bus,
            rmctrl,
            shared,
            processes: BTreeMap::new(),
        };
        for worker in 1..=WORKERS {
            node.run(worker, 0).await;
        }
        node
    }

    /// Begins a life of an `ipsecmgr`, after so many others, and waits until it serves.
    pub async fn run(&mut self, worker: u32, lives: u32) {
        self.heard.lock().unwrap().ready = false;
        let (end, ended) = oneshot::channel();
        let (ready, counters) = std::sync::mpsc::channel();
        let (hub, shared, heard) = (self.hub.clone(), self.shared.clone(), self.heard.clone());
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let me = Address::new(Facility::Ipsecmgr, worker);
                let (mut task, sit) = testing::task(&hub, me, WORKERS, &std::env::temp_dir()).unwrap();
                task.lives = lives;
                ready.send(task.counters.clone()).unwrap();
                link_to_sct(&task, heard.clone());
                tokio::spawn(testing::play_sit(sit, move |packet| shared.open(worker, packet)));
                tokio::select! {
                    result = ipsecmgr::run(task) => panic!("it ended by itself: {result:?}"),
                    _ = ended => {}
                }
            });
            // Everything that it has begun ends here.
            drop(runtime);
        });
        let process = Process {
            counters: counters.recv().unwrap(),
            end: Some(end),
            thread: Some(thread),
        };
        self.processes.insert(worker, process);
        let prepare = PrepareSlots::default();
        self.until("it serves", async |node| {
            let held: SlotsHeld = node.ask(worker, &prepare).await;
            held.failure.is_empty()
        })
        .await;
    }

    /// Kills an `ipsecmgr`.
    pub fn kill(&mut self, worker: u32) {
        drop(self.processes.remove(&worker));
    }

    /// Commits another version of the slot map; tells which it is.
    pub fn commit(&self, change: impl FnOnce(&mut SlotMap, u64)) -> u64 {
        let version = {
            let mut map = self.shared.map.lock().unwrap();
            map.version += 1;
            let version = map.version;
            change(&mut map, version);
            version
        };
        self.rmctrl.publish(&SlotMapChanged { version });
        version
    }

    /// Step 1 of a move: the map names the new manager. Gives the version of the move.
    pub fn prepare(&self, slot: u8, to: u32) -> u64 {
        self.commit(|map, version| {
            let owner = &mut map.managers[usize::from(slot) - 1];
            map.leaving.push(Leaving {
                slot: slot.into(),
                part: SlotPart::Manager as i32,
                from: *owner,
                phase: MovePhase::Preparing as i32,
                version,
            });
            *owner = to;
        })
    }

    /// The former manager has let go.
    pub fn release(&self) {
        self.commit(|map, _| map.leaving[0].phase = MovePhase::Released as i32);
    }

    /// The move is over.
    pub fn finish(&self) {
        self.commit(|map, _| map.leaving.clear());
    }

    /// From now on the former manager may have let go at any time, and nobody else opens the slot.
    pub fn ask_to_let_go(&self, version: u64) {
        self.commit(|map, _| {
            for leaving in map
                .leaving
                .iter_mut()
                .filter(|leaving| leaving.version == version)
            {
                leaving.phase = leaving.phase.max(MovePhase::Steered as i32);
            }
        });
    }

    /// Has a worker let a slot go; gives why it does not.
    pub async fn hand_over(&self, from: u32, slot: u8, version: u64) -> String {
        self.ask_to_let_go(version);
        let slots = vec![slot.into()];
        let request = HandOverSlots {
            slots,
            version,
            ..HandOverSlots::default()
        };
        let held = self.ask(from, &request).await;
        assert_eq!(
            held.slots.contains(&slot.into()),
            !held.failure.is_empty(),
            "{held:?}"
        );
        held.failure
    }

    /// Has a worker take a slot over; gives why it does not.
    pub async fn take(&self, to: u32, slot: u8, version: u64) -> String {
        let request = TakeSlots {
            slots: vec![slot.into()],
            version,
            ..TakeSlots::default()
        };
        let held = self.ask(to, &request).await;
        assert_eq!(
            held.slots.contains(&slot.into()),
            held.failure.is_empty(),
            "{held:?}"
        );
        held.failure
    }

    /// Moves a slot from one worker to the other.
    pub async fn move_slot(&self, slot: u8, from: u32, to: u32) {
        let version = self.prepare(slot, to);
        assert_eq!(self.hand_over(from, slot, version).await, "");
        self.release();
        assert_eq!(self.take(to, slot, version).await, "");
        self.finish();
    }

    /// Has a worker delete a tunnel.
    pub async fn delete(&self, worker: u32, ike_spi: u64) -> Deleted {
        let request = DeleteTunnels {
            ike_spis: vec![ike_spi],
            reason: "admin".to_owned(),
        };
        self.ask(worker, &request).await
    }

    async fn ask<R: bus::Request>(&self, worker: u32, request: &R) -> R::Reply {
        let to = Address::new(Facility::Ipsecmgr, worker);
        self.bus.request(to, request, PATIENCE).await.unwrap()
    }

    /// The counters of the present life of an `ipsecmgr`.
    pub fn counters(&self, worker: u32) -> &Counters {
        &self.processes[&worker].counters
    }

    /// Waits until something holds.
    pub async fn until(&self, what: &str, mut done: impl AsyncFnMut(&Self) -> bool) {
        let start = Instant::now();
        while !done(self).await {
            assert!(start.elapsed() < PATIENCE, "waited in vain: {what}");
            tokio::time::sleep(STEP).await;
        }
    }

    /// What the data plane would do with packets of this SPI.
    pub fn child(&self, spi: u32) -> Option<ChildSa> {
        let spi = Spi::from_u32(spi).unwrap();
        let segments = &self.shared.segments[&spi.slot().number()];
        let worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
        worker.find(spi).unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().is_none_or(|thread| thread.join().is_ok());
        assert!(ended || std::thread::panicking(), "an ipsecmgr panicked");
    }
}

impl Shared {
    /// What `sit` gives to the `ipsecmgr` of a worker.
    fn open(&self, worker: u32, packet: &Packet) -> (Opened, Vec<OwnedFd>) {
        let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
        let (mut opened, mut fds) = (Opened::default(), Vec::new());
        match packet.header.message {
            OpenSlots::TYPE => {
                let request: OpenSlots = packet.decode().unwrap();
                for number in request.slots {
                    let slot = u8::try_from(number).unwrap();
                    let map = self.map.lock().unwrap();
                    let moving = map.leaving_of(SlotPart::Manager, slot);
                    let asked = moving.is_some_and(|(_, phase)| phase == MovePhase::Steered);
                    if asked || map.steered_to(SlotPart::Manager, slot) != Some(worker) {
                        opened.failure = format!("slot {slot} is not of worker {worker}");
                        return (opened, Vec::new());
                    }
                    let of_slot = self.segments[&slot].owner_fds().unwrap();
                    let kinds = ["keys", "hot", "counters", "ike"];
                    opened
                        .names
                        .extend(kinds.map(|kind| format!("slot-{slot}-{kind}")));
                    fds.extend([of_slot.keys, of_slot.hot, of_slot.counters, of_slot.ike.unwrap()]);
                }
            }
            OpenRings::TYPE => {
                for (direction, ring) in ["to", "from"].into_iter().zip(&self.rings[&worker]) {
                    let (memory, event) = ring.fds();
                    opened
                        .names
                        .extend(["ring", "event"].map(|kind| format!("{kind}-{direction}-{worker}")));
                    fds.extend([copy(memory), copy(event)]);
                }
            }
            OpenIke::TYPE => {
                opened.names = vec!["udp500".to_owned(), "udp4500".to_owned()];
                let at = worker as usize - 1;
                let sockets = self.groups.values().map(|group| &group.members()[at]);
                fds.extend(sockets.map(|socket| socket.try_clone().unwrap()));
            }
            other => panic!("sit was asked for {other:#06x}"),
        }
        (opened, fds)
    }
}

/// The data planes of all workers: they pass IKE messages on to the manager of the slot.
async fn play_data_planes(shared: Arc<Shared>) {
    let copy = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().unwrap();
    let (mut from_managers, mut to_managers) = (Vec::new(), BTreeMap::new());
    for (worker, [from_manager, to_manager]) in &shared.rings {
        let (memory, event) = from_manager.fds();
        from_managers.push(StrayConsumer::map(copy(memory), copy(event)).unwrap());
        let (memory, event) = to_manager.fds();
        to_managers.insert(*worker, StrayProducer::map(copy(memory), copy(event)).unwrap());
    }
    let mut buffer = vec![0; StrayRing::MAX_PACKET];
    loop {
        for consumer in &mut from_managers {
            while let Some((header, length)) = consumer.pop(&mut buffer) {
                let (origin, message) = StrayOrigin::split(&mut buffer[..length]).unwrap();
                let slot = Slot::of_ike(message).filter(|_| header == StrayHeader::IKE);
                let map = shared.map.lock().unwrap();
                let manager = slot.and_then(|slot| map.owner(SlotPart::Manager, slot.number()));
                if let Some(producer) = manager.and_then(|manager| to_managers.get_mut(&manager)) {
                    assert!(producer.push(header, &[&origin.encode(), message]));
                }
            }
        }
        tokio::time::sleep(STEP / 2).await;
    }
}

/// A program that steers as on a node with one worker.
fn all_to_worker_1() -> netio::steering::Program {
    let owners = |_| SlotOwners {
        manager: Some(0),
        data: Some(0),
    };
    Steering::new(1, owners, [7; 16]).unwrap().program_500()
}

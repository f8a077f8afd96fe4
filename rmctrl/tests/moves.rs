//! Moves of slots: the test plays `sit`, which keeps the map, and the processes that have the slots, which watch over one another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::common::{Execute, Output};
use bus::messages::rmctrl::{GetSlotMap, Leaving, MovePhase, SlotMap, SlotMapChanged, SlotPart};
use bus::messages::sit::{Closed, EndLife, GetKeptSlotMap, KeptSlotMap, SetSlotMap};
use bus::messages::slots::{GetSlotLoads, HandOverSlots, PrepareSlots, SlotLoads, SlotsHeld, TakeSlots};
use bus::{Address, Bus, Facility, Hub, Message, dispatch};
use task::{Channel, Shutdown};
use tokio::task::JoinHandle;

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const PATIENCE: Duration = Duration::from_secs(60);
const SLOT: u32 = 7;

/// What a worker's process does not do, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Fault {
    RefusesPrepare,
    RefusesHandOver,
    IsSilentAtHandOver,
    /// It lets go, and its answer is lost.
    LosesHandOver,
    RefusesTake,
}

#[derive(Default)]
struct State {
    /// What `sit` keeps, and all it ever kept.
    kept: Option<SlotMap>,
    versions: Vec<SlotMap>,
    /// Versions that cannot be steered by.
    unsteerable: BTreeSet<u64>,
    ended: Vec<EndLife>,
    /// Who writes which slot.
    writers: HashMap<(i32, u32), BTreeSet<u32>>,
    faults: HashMap<Fault, u32>,
    lives: HashMap<Address, u32>,
    log: Vec<String>,
}

impl State {
    fn has(&mut self, fault: Fault) -> bool {
        let left = self.faults.get_mut(&fault).filter(|left| **left > 0);
        left.map(|left| *left -= 1).is_some()
    }
}

struct Node {
    hub: Hub,
    state: Arc<Mutex<State>>,
    shell: Bus,
}

type Life = (JoinHandle<()>, Shutdown);

impl Node {
    /// Two workers; everything is worker 1's.
    fn new() -> Self {
        let hub = Hub::new();
        let state = State {
            kept: Some(SlotMap::of_workers(vec![1; 255])),
            writers: HashMap::from([((0, SLOT), BTreeSet::from([1])), ((1, SLOT), BTreeSet::from([1]))]),
            ..State::default()
        };
        let node = Self {
            shell: Bus::in_process_client(&hub, Address::new(Facility::Cli, 1)),
            state: Arc::new(Mutex::new(state)),
            hub,
        };
        for worker in 1..=2 {
            for (part, facility) in [
                (SlotPart::Manager, Facility::Ipsecmgr),
                (SlotPart::Data, Facility::Iftask),
            ] {
                let (bus, server) = Bus::in_process(&node.hub, Address::new(facility, worker)).unwrap();
                tokio::spawn(keep_slots(bus, server, worker, part, node.state.clone()));
            }
        }
        node
    }

    /// A life of `rmctrl`.
    fn start(&self) -> Life {
        let (task, channel) = task::testing::task(&self.hub, RMCTRL, 2, Path::new("/nonexistent")).unwrap();
        let shutdown = task.shutdown.clone();
        tokio::spawn(keep_map(channel, self.state.clone()));
        let life = tokio::spawn(async move { rmctrl::run(task).await.unwrap() });
        (life, shutdown)
    }

    async fn order(&self, part: &str) -> Output {
        let command = Execute::new("crypto slot move", &[("slot", "7"), ("worker", "2"), (part, "")]);
        self.shell.request(RMCTRL, &command, PATIENCE).await.unwrap()
    }

    async fn map(&self) -> SlotMap {
        self.shell
            .request(RMCTRL, &GetSlotMap {}, PATIENCE)
            .await
            .unwrap()
    }

    /// Waits until no move is under way.
    async fn settled(&self) -> SlotMap {
        loop {
            let map = self.map().await;
            if map.leaving.is_empty() {
                return map;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn log(&self) -> Vec<String> {
        std::mem::take(&mut self.state.lock().unwrap().log)
    }

    fn writers(&self, part: SlotPart) -> Vec<u32> {
        let state = self.state.lock().unwrap();
        state.writers[&(part as i32, SLOT)].iter().copied().collect()
    }
}

async fn keep_map(channel: Channel, state: Arc<Mutex<State>>) {
    while let Ok(Some(packet)) = channel.receive().await {
        let header = Header {
            kind: Kind::Reply,
            ..packet.header
        };
        let sent = match packet.header.message {
            SetSlotMap::TYPE | GetKeptSlotMap::TYPE => {
                let kept = {
                    let mut state = state.lock().unwrap();
                    let mut failure = String::new();
                    if let Some(map) = packet.decode::<SetSlotMap>().unwrap().map {
                        let before = state.kept.as_ref().map_or(0, |kept| kept.version);
                        assert!(
                            map.version == before + 1,
                            "version {} after {before}",
                            map.version
                        );
                        if state.unsteerable.contains(&map.version) {
                            failure = "a socket is in the way".to_owned();
                        }
                        state.versions.push(map.clone());
                        state.kept = Some(map);
                    }
                    let map = state.kept.clone();
                    KeptSlotMap { map, failure }
                };
                channel.send(header, &kept, &[]).await
            }
            EndLife::TYPE => {
                let end = packet.decode::<EndLife>().unwrap();
                let facility = Facility::from_number(end.facility as u8).unwrap();
                end_life(&mut state.lock().unwrap(), facility, end);
                channel.send(header, &Closed {}, &[]).await
            }
            _ => channel.send(header, &Closed {}, &[]).await,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// The next life of a process has nothing.
fn end_life(state: &mut State, facility: Facility, end: EndLife) {
    let address = Address::new(facility, end.instance);
    *state.lives.entry(address).or_default() = end.lives + 1;
    for writers in state.writers.values_mut() {
        writers.remove(&end.instance);
    }
    state.ended.push(end);
}

async fn keep_slots(
    bus: Bus,
    mut server: bus::Server,
    worker: u32,
    part: SlotPart,
    state: Arc<Mutex<State>>,
) {
    let me = Address::new(
        match part {
            SlotPart::Manager => Facility::Ipsecmgr,
            SlotPart::Data | SlotPart::Output => Facility::Iftask,
        },
        worker,
    );
    let _bus = bus;
    let mut unanswered = Vec::new();
    while let Some(incoming) = server.next().await {
        let mut state = state.lock().unwrap();
        let lives = state.lives.get(&me).copied().unwrap_or(3);
        let held = |failure: &str| SlotsHeld {
            slots: Vec::new(),
            failure: failure.to_owned(),
            lives,
        };
        let phase = |state: &State| {
            let map = state.kept.clone().unwrap();
            map.leaving_of(part, SLOT as u8)
                .map(|(entry, phase)| (entry.version, phase))
        };
        dispatch!(incoming, {
            PrepareSlots => |prepare, responder| {
                if !prepare.slots.is_empty() {
                    assert_eq!(phase(&state), Some((prepare.version, MovePhase::Preparing)));
                    state.log.push(format!("{me} prepares"));
                }
                let refuses = !prepare.slots.is_empty() && state.has(Fault::RefusesPrepare);
                responder.reply(held(if refuses { "not yet" } else { "" }));
            },
            HandOverSlots => |hand_over, responder| {
                assert_eq!(phase(&state), Some((hand_over.version, MovePhase::Steered)));
                state.log.push(format!("{me} hands over"));
                if state.has(Fault::IsSilentAtHandOver) {
                    unanswered.push(responder);
                } else if state.has(Fault::RefusesHandOver) {
                    responder.reply(held("busy"));
                } else {
                    state.writers.get_mut(&(part as i32, SLOT)).unwrap().remove(&worker);
                    if state.has(Fault::LosesHandOver) {
                        unanswered.push(responder);
                    } else {
                        responder.reply(held(""));
                    }
                }
            },
            TakeSlots => |take, responder| {
                assert_eq!(phase(&state), Some((take.version, MovePhase::Released)));
                state.log.push(format!("{me} takes"));
                if state.has(Fault::RefusesTake) {
                    responder.reply(held("not yet"));
                } else {
                    let writers = state.writers.get_mut(&(part as i32, SLOT)).unwrap();
                    assert!(writers.is_empty() || *writers == BTreeSet::from([worker]), "two writers");
                    writers.insert(worker);
                    responder.reply(held(""));
                }
            },
            GetSlotLoads => |_, responder| responder.reply(SlotLoads {
                takes_output: part == SlotPart::Data,
                ..SlotLoads::default()
            }),
        });
    }
}

#[tokio::test]
async fn a_move_goes_through_its_phases_and_everybody_hears_of_it() {
    let node = Node::new();
    let _life = node.start();
    node.settled().await;
    let mut changes = node.shell.subscribe::<SlotMapChanged>();
    changes.follow(RMCTRL);
    let output = node.order("").await;
    assert_eq!((output.failure.as_str(), output.text.as_str()), ("", ""));
    assert_eq!(
        node.log(),
        [
            "iftask-2 prepares",
            "iftask-1 hands over",
            "iftask-2 takes",
            "ipsecmgr-2 prepares",
            "ipsecmgr-1 hands over",
            "ipsecmgr-2 takes"
        ]
    );
    let map = node.map().await;
    assert_eq!(
        (map.data[6], map.managers[6], map.data[5], map.leaving.len()),
        (2, 2, 1, 0)
    );
    let phases: Vec<Option<i32>> = {
        let state = node.state.lock().unwrap();
        let first = |map: &SlotMap| map.leaving.first().map(|entry| entry.phase);
        state.versions.iter().map(first).collect()
    };
    assert_eq!(
        phases,
        [Some(0), Some(1), Some(2), None, Some(0), Some(1), Some(2), None]
    );
    let version = loop {
        if let bus::Heard::Event(_, SlotMapChanged { version }) = changes.next().await {
            break version;
        }
    };
    assert!((2..=9).contains(&version));
    for (command, failure) in [
        ("data-plane", "worker 2 has the data-plane of slot 7 already"),
        ("", "worker 2 has slot 7 already"),
    ] {
        assert_eq!(node.order(command).await.failure, failure);
    }
    let nowhere = Execute::new("crypto slot move", &[("slot", "7"), ("worker", "3")]);
    let output = node.shell.request(RMCTRL, &nowhere, PATIENCE).await.unwrap();
    assert_eq!(output.failure, "there is no worker 3; workers are 1 to 2");
}

#[tokio::test]
async fn who_cannot_do_a_step_now_is_asked_again() {
    for fault in [Fault::RefusesPrepare, Fault::RefusesHandOver, Fault::RefusesTake] {
        let node = Node::new();
        node.state.lock().unwrap().faults.insert(fault, 2);
        let _life = node.start();
        let output = node.order("data-plane").await;
        assert_eq!(output.failure, "", "{fault:?}");
        assert_eq!(node.log().len(), 5, "{fault:?}");
        assert_eq!(node.writers(SlotPart::Data), [2]);
    }
}

#[tokio::test]
async fn a_move_that_cannot_be_is_taken_back() {
    for fault in [Fault::RefusesPrepare, Fault::RefusesHandOver] {
        let node = Node::new();
        node.state.lock().unwrap().faults.insert(fault, u32::MAX);
        let _life = node.start();
        let output = node.order("data-plane").await;
        // The shell does not wait for so long.
        assert!(output.text.contains("still under way"), "{fault:?}: {output:?}");
        assert_eq!(node.order("manager").await.failure, "slot 7 is being moved");
        assert_eq!(node.settled().await.data[6], 1, "{fault:?}");
        assert_eq!(node.writers(SlotPart::Data), [1]);
    }
    // The kernel cannot be steered.
    let node = Node::new();
    node.state.lock().unwrap().unsteerable.insert(3);
    let _life = node.start();
    assert!(
        node.order("data-plane")
            .await
            .failure
            .contains("a socket is in the way")
    );
    assert_eq!(node.map().await.data[6], 1);
    assert_eq!(node.log(), ["iftask-2 prepares"]);
}

#[tokio::test]
async fn who_does_not_answer_is_ended_before_the_slot_goes_on() {
    for fault in [Fault::IsSilentAtHandOver, Fault::LosesHandOver] {
        let node = Node::new();
        node.state.lock().unwrap().faults.insert(fault, 1);
        let _life = node.start();
        node.order("manager").await;
        assert_eq!(node.settled().await.managers[6], 2, "{fault:?}");
        assert_eq!(node.writers(SlotPart::Manager), [2]);
        let ended = node.state.lock().unwrap().ended.clone();
        let expected = EndLife {
            facility: Facility::Ipsecmgr as u32,
            instance: 1,
            lives: 3,
        };
        assert_eq!(ended, [expected], "{fault:?}");
    }
}

#[tokio::test]
async fn the_next_life_ends_what_one_began() {
    for part in [SlotPart::Manager, SlotPart::Data] {
        for phase in [MovePhase::Preparing, MovePhase::Steered, MovePhase::Released] {
            let node = Node::new();
            {
                let mut state = node.state.lock().unwrap();
                let map = state.kept.as_mut().unwrap();
                map.version = 9;
                map.give(part, SLOT as u8, 2);
                map.leaving.push(Leaving {
                    slot: SLOT,
                    part: part as i32,
                    from: 1,
                    phase: phase as i32,
                    version: 9,
                });
                if phase == MovePhase::Released {
                    state.writers.get_mut(&(part as i32, SLOT)).unwrap().clear();
                }
            }
            let (life, shutdown) = node.start();
            let map = node.settled().await;
            assert_eq!(map.owner(part, SLOT as u8), Some(2), "{part:?} {phase:?}");
            assert_eq!(node.writers(part), [2], "{part:?} {phase:?}");
            shutdown.request(PATIENCE);
            life.await.unwrap();
        }
    }
}

#[tokio::test]
async fn the_output_of_a_slot_moves_at_once_and_back_with_its_data() {
    let node = Node::new();
    let _life = node.start();
    // Until the data planes have said what they can.
    let outcome = loop {
        let output = node.order("output").await;
        if !output.failure.contains("has not said") {
            break output;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(outcome.failure, "");
    let map = node.map().await;
    assert_eq!(
        (map.handed_on(SLOT as u8), map.owner(SlotPart::Data, SLOT as u8)),
        (Some(2), Some(1))
    );
    assert_eq!(node.log(), [] as [&str; 0], "nobody is asked");
    assert_eq!(
        node.order("output").await.failure,
        "worker 2 has the output of slot 7 already"
    );
    assert_eq!(node.order("data-plane").await.failure, "");
    assert_eq!(node.map().await.outputs, [0; 255]);
}

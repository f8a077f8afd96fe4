//! Moves of slots between workers: what the operator or the policy orders, one after the other, each as a transaction that survives every death.
//!
//! ```text
//!   Preparing ──> the new owner gets ready ──> Steered ──> the old owner lets go ──> Released ──> the new owner takes over ──> over
//!       └── it cannot: taken back ──────────────────┘ (an answer that it did not let go)
//! ```
//!
//! The output of a slot, the last step for its packets, moves at once: nobody has to get ready for it, and the data plane that hands it on or takes it back keeps the order.
//!
//! Each arrow to a phase is a version of the map that `sit` keeps before anybody hears of it, so the next life of `rmctrl` goes on from there, and each step may be
//! asked again. After the old owner was asked to let go, only its answer decides, or that of its next life: who does not answer is killed by `sit`.

mod steps;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bus::messages::rmctrl::{Leaving, MovePhase, SlotMap, SlotMapChanged, SlotPart};
use bus::{Address, Bus, Facility};
use task::Sit;
use telemetry::Counters;
use telemetry::counters::slots;
use telemetry::events::{SlotMoveBegun, SlotMoveFailed, SlotMoved, emit};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::sleep;

/// Orders that wait.
const MOST_WAITING: usize = 64;
/// Until the next attempt to have a map kept.
const AGAIN: Duration = Duration::from_secs(1);

/// Who moves what where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    /// Slot numbers. All of them have the same owner.
    pub slots: Vec<u32>,
    pub part: SlotPart,
    /// The new owner.
    pub to: u32,
}

/// An order, and who hears of its end.
struct Waiting {
    order: Order,
    done: Option<oneshot::Sender<Result<(), String>>>,
}

/// The hand of the loop on the moves. Clones are the same.
#[derive(Clone)]
pub(crate) struct Moves {
    map: watch::Receiver<SlotMap>,
    orders: mpsc::Sender<Waiting>,
}

impl Moves {
    /// Begins to do what is ordered, and first ends what an earlier life began.
    pub fn start(map: SlotMap, workers: u32, bus: Bus, sit: Sit, counters: Counters) -> Self {
        let (sender, orders) = mpsc::channel(MOST_WAITING);
        let (publisher, receiver) = watch::channel(map.clone());
        let mover = Mover {
            map,
            workers,
            bus,
            sit,
            counters,
            publisher,
        };
        tokio::spawn(mover.run(orders));
        Self {
            map: receiver,
            orders: sender,
        }
    }

    /// The map as it was committed last.
    pub fn map(&self) -> SlotMap {
        self.map.borrow().clone()
    }

    /// For tests: this map, and nobody who would change it.
    #[cfg(test)]
    pub fn none(map: SlotMap) -> Self {
        Self {
            map: watch::channel(map).1,
            orders: mpsc::channel(1).0,
        }
    }

    /// Orders a move; nobody waits for it.
    pub fn order(&self, order: Order) {
        // There is no room while many moves wait: the policy finds out what is still to be done.
        let _ = self.orders.try_send(Waiting { order, done: None });
    }

    /// Orders a move. The answer comes when it is over, or has failed.
    pub fn order_and_hear(&self, order: Order) -> oneshot::Receiver<Result<(), String>> {
        let (done, outcome) = oneshot::channel();
        let waiting = Waiting {
            order,
            done: Some(done),
        };
        if let Err(error) = self.orders.try_send(waiting) {
            let (mpsc::error::TrySendError::Full(waiting) | mpsc::error::TrySendError::Closed(waiting)) =
                error;
            if let Some(done) = waiting.done {
                let _ = done.send(Err("too many moves wait already".to_owned()));
            }
        }
        outcome
    }
}

/// Has the map, and changes it.
struct Mover {
    map: SlotMap,
    workers: u32,
    bus: Bus,
    sit: Sit,
    counters: Counters,
    publisher: watch::Sender<SlotMap>,
}

/// A move under way: the same part of some slots, from one worker to another.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Moving {
    slots: Vec<u32>,
    part: SlotPart,
    from: u32,
    to: u32,
    version: u64,
}

/// The process that has a part of the slots of a worker.
fn keeper(part: SlotPart, worker: u32) -> Address {
    match part {
        SlotPart::Manager => Address::new(Facility::Ipsecmgr, worker),
        SlotPart::Data | SlotPart::Output => Address::new(Facility::Iftask, worker),
    }
}

/// The name of a part, as the command has it.
pub(crate) fn name(part: SlotPart) -> &'static str {
    match part {
        SlotPart::Manager => "manager",
        SlotPart::Data => "data-plane",
        SlotPart::Output => "output",
    }
}

impl Mover {
    async fn run(mut self, mut orders: mpsc::Receiver<Waiting>) {
        for (moving, phase) in self.unfinished() {
            tracing::info!("going on with a move of an earlier life: {moving:?} is {phase:?}");
            // Told as an event.
            let _ = self.carry_out(&moving, phase).await;
        }
        while let Some(Waiting { order, done }) = orders.recv().await {
            let outcome = match self.begin(&order).await {
                Ok(moving) if moving.part == SlotPart::Output => self.tell(&moving, Ok(())),
                Ok(moving) => self.carry_out(&moving, MovePhase::Preparing).await,
                Err(failure) => Err(failure),
            };
            if let Some(done) = done {
                // Who ordered it may have gone.
                let _ = done.send(outcome);
            }
        }
    }

    /// Moves in the map, each with how far it is.
    fn unfinished(&self) -> VecDeque<(Moving, MovePhase)> {
        let mut moves: BTreeMap<(u64, i32, u32, u32), (Moving, MovePhase)> = BTreeMap::new();
        for entry in &self.map.leaving {
            let slot = u8::try_from(entry.slot).unwrap_or(0);
            let (Ok(part), Ok(phase)) = (SlotPart::try_from(entry.part), MovePhase::try_from(entry.phase))
            else {
                continue;
            };
            let to = self.map.owner(part, slot).unwrap_or(0);
            let key = (entry.version, entry.part, entry.from, to);
            let (moving, _) = moves.entry(key).or_insert_with(|| {
                let moving = Moving {
                    slots: Vec::new(),
                    part,
                    from: entry.from,
                    to,
                    version: entry.version,
                };
                (moving, phase)
            });
            moving.slots.push(entry.slot);
        }
        moves.into_values().collect()
    }

    /// Notes a move in the map.
    async fn begin(&mut self, order: &Order) -> Result<Moving, String> {
        let Order { slots, part, to } = order;
        if !(1..=self.workers).contains(to) {
            return Err(format!(
                "there is no worker {to}; workers are 1 to {}",
                self.workers
            ));
        }
        let mut from = None;
        for number in slots {
            let slot = u8::try_from(*number).unwrap_or(0);
            let owner = self
                .map
                .owner(*part, slot)
                .ok_or(format!("there is no slot {number}"))?;
            if self.map.leaving.iter().any(|entry| entry.slot == *number) {
                return Err(format!("slot {number} is being moved"));
            }
            if owner == *to {
                return Err(format!(
                    "worker {to} has the {} of slot {number} already",
                    name(*part)
                ));
            }
            if *from.get_or_insert(owner) != owner {
                return Err("the slots have different owners".to_owned());
            }
        }
        let moving = Moving {
            slots: slots.clone(),
            part: *part,
            from: from.ok_or("no slot is named")?,
            to: *to,
            version: self.map.version + 1,
        };
        let mut map = self.map.clone();
        moving.give_to(&mut map, moving.to);
        if *part == SlotPart::Output {
            self.commit(map).await?;
            return Ok(moving);
        }
        map.leaving.extend(slots.iter().map(|slot| Leaving {
            slot: *slot,
            part: *part as i32,
            from: moving.from,
            phase: MovePhase::Preparing as i32,
            version: moving.version,
        }));
        if let Err(reason) = self.commit(map).await {
            // It may be kept all the same.
            if self.map.version >= moving.version {
                self.take_back(&moving).await;
            }
            return Err(reason);
        }
        emit(&SlotMoveBegun {
            slots: &moving.numbers(),
            part: name(*part),
            from: moving.from,
            to: moving.to,
        });
        Ok(moving)
    }

    /// Does what is left of a move, and tells its end.
    async fn carry_out(&mut self, moving: &Moving, phase: MovePhase) -> Result<(), String> {
        let outcome = self.steps(moving, phase).await;
        self.tell(moving, outcome)
    }

    /// Tells the end of a move.
    fn tell(&self, moving: &Moving, outcome: Result<(), String>) -> Result<(), String> {
        let slots = moving.numbers();
        let (part, from, to) = (name(moving.part), moving.from, moving.to);
        match &outcome {
            Ok(()) => {
                self.counters.add(slots::MOVED, moving.slots.len() as u64);
                emit(&SlotMoved {
                    slots: &slots,
                    part,
                    from,
                    to,
                });
            }
            Err(reason) => {
                self.counters.add(slots::MOVE_FAILED, moving.slots.len() as u64);
                emit(&SlotMoveFailed {
                    slots: &slots,
                    part,
                    from,
                    to,
                    reason,
                });
            }
        }
        outcome
    }

    /// Has `sit` keep the next version of the map and steer by it, then tells everybody.
    ///
    /// # Errors
    /// `sit` refuses it, or could not steer by it; then it is kept all the same, and the next one may put it right.
    async fn commit(&mut self, mut map: SlotMap) -> Result<(), String> {
        map.version = self.map.version + 1;
        let outcome = self
            .sit
            .set_slot_map(&map)
            .await
            .map_err(|error| error.to_string());
        let kept = match outcome {
            Ok(()) => Some(map),
            Err(_) => self.sit.kept_slot_map().await.ok().flatten(),
        };
        if let Some(kept) = kept.filter(|kept| kept.version > self.map.version) {
            let version = kept.version;
            self.map = kept.clone();
            self.publisher.send_replace(kept);
            self.bus.publish(&SlotMapChanged { version });
        }
        outcome
    }

    /// The same, again and again until it is kept: there is no way back. What could not be steered `sit` tries again with the next version.
    async fn insist(&mut self, change: impl Fn(&mut SlotMap)) {
        loop {
            let before = self.map.version;
            let mut map = self.map.clone();
            change(&mut map);
            map.version = before + 1;
            let outcome = self.commit(map.clone()).await;
            if let Err(error) = &outcome {
                tracing::error!("{error}");
            }
            // What is kept may also be an older wish that was thought to be lost.
            if outcome.is_ok() || self.map == map {
                return;
            }
            sleep(AGAIN).await;
        }
    }
}

impl Moving {
    /// Its slots as text.
    fn numbers(&self) -> String {
        let numbers: Vec<_> = self.slots.iter().map(u32::to_string).collect();
        numbers.join(" ")
    }

    fn is_in(&self, entry: &Leaving) -> bool {
        entry.version == self.version && entry.part == self.part as i32 && self.slots.contains(&entry.slot)
    }

    /// Names a worker as the owner of its slots.
    fn give_to(&self, map: &mut SlotMap, worker: u32) {
        for slot in self.slots.iter().filter_map(|slot| u8::try_from(*slot).ok()) {
            map.give(self.part, slot, worker);
        }
    }

    fn set_phase(&self, map: &mut SlotMap, phase: MovePhase) {
        for entry in map.leaving.iter_mut().filter(|entry| self.is_in(entry)) {
            entry.phase = phase as i32;
        }
    }

    fn end(&self, map: &mut SlotMap) {
        map.leaving.retain(|entry| !self.is_in(entry));
    }
}

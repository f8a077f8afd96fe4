//! Who has the slots of this data plane: gets their segments from `sit` by the slot map of `rmctrl`, and takes part in moves. Everything about slots goes through
//! here one after the other, so no segment that was asked for before a slot was let go is used after it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::messages::rmctrl::{MovePhase, SlotMap, SlotPart};
use bus::messages::slots::{HandOverSlots, PrepareSlots, SlotsHeld, TakeSlots};
use sadb::Slot;
use task::Sit;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::{oneshot, watch};
use tokio::time::sleep;

use crate::error::Error;
use crate::plane::{Command, PlaneHandle};
use crate::supplier::Supplied;

/// Until what was refused is asked for again.
const AGAIN: Duration = Duration::from_millis(200);

/// A step of a move, and the way back.
pub(crate) struct Ask {
    pub(crate) step: Step,
    pub(crate) reply: Box<dyn FnOnce(SlotsHeld) + Send>,
}

/// What `rmctrl` asks for.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Prepare(PrepareSlots),
    HandOver(HandOverSlots),
    Take(TakeSlots),
}

/// What the data plane has of slots.
pub(crate) struct Keeper {
    sit: Sit,
    plane: PlaneHandle,
    worker: u32,
    lives: u32,
    /// The newest map.
    map: SlotMap,
    /// Slots that are ours.
    own: BTreeSet<Slot>,
    /// Slots that will be ours, by the version of their move.
    expected: BTreeMap<Slot, u64>,
    /// Slots that we let go, likewise: until the move is over.
    left: BTreeMap<Slot, u64>,
    has_rings: bool,
    has_slots: watch::Sender<bool>,
}

/// What a map wants us to do with a slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wish {
    /// It is ours.
    Have,
    /// It will be ours: of which move, from which worker.
    Expect(u64, u32),
    /// It is none of our business.
    Leave,
}

impl Keeper {
    pub(crate) fn new(sit: Sit, plane: PlaneHandle, worker: u32, lives: u32) -> Self {
        Self {
            sit,
            plane,
            worker,
            lives,
            map: SlotMap::default(),
            own: BTreeSet::new(),
            expected: BTreeMap::new(),
            left: BTreeMap::new(),
            has_rings: false,
            has_slots: watch::Sender::new(false),
        }
    }

    /// Tells when the slots of the first map are there.
    pub(crate) fn has_slots(&self) -> watch::Receiver<bool> {
        self.has_slots.subscribe()
    }

    /// Follows the slot map and does the steps of moves.
    pub(crate) async fn run(
        mut self,
        mut maps: watch::Receiver<Option<SlotMap>>,
        mut asks: UnboundedReceiver<Ask>,
        supplied: watch::Receiver<Supplied>,
    ) {
        let mut trouble = String::new();
        let mut again = false;
        loop {
            tokio::select! {
                changed = maps.changed() => if changed.is_err() { return },
                Some(Ask { step, reply }) = asks.recv() => {
                    let now = *supplied.borrow();
                    let held = self.held(&step);
                    let failure = self.step(step, now).await.err().unwrap_or_default();
                    reply(SlotsHeld {
                        slots: held.into_iter().filter(|slot| self.has(*slot)).collect(),
                        failure,
                        lives: self.lives,
                    });
                    continue;
                }
                () = sleep(AGAIN), if again => {}
            }
            let map = maps.borrow_and_update().clone();
            let outcome = match map {
                // An old one may be late.
                Some(map) if map.version >= self.map.version => self.follow(map).await,
                _ => Ok(()),
            };
            again = outcome.is_err();
            match outcome {
                Ok(()) => trouble.clear(),
                Err(error) => {
                    // Once for as long as it lasts.
                    let error = error.to_string();
                    if trouble != error {
                        tracing::warn!("{error}; trying again");
                        trouble = error;
                    }
                }
            }
        }
    }

    /// Has what the map says.
    async fn follow(&mut self, map: SlotMap) -> Result<(), Error> {
        self.map = map;
        let owners = |part| -> Vec<u16> {
            let worker = |slot: Slot| self.map.steered_to(part, slot.number());
            let number = |worker: u32| u16::try_from(worker).ok();
            Slot::all()
                .map(|slot| worker(slot).and_then(number).unwrap_or(0))
                .collect()
        };
        let output = |slot: Slot| {
            let worker = self.map.handed_on(slot.number())?;
            u16::try_from(worker).ok()
        };
        self.plane.tell(Command::Owners {
            managers: owners(SlotPart::Manager),
            data: owners(SlotPart::Data),
            outputs: Slot::all().map(|slot| output(slot).unwrap_or(0)).collect(),
        });
        let (mut to_have, mut to_expect) = (Vec::new(), Vec::new());
        for slot in Slot::all() {
            match self.wish(slot) {
                Wish::Have if self.own.contains(&slot) => {}
                // A move has begun that this map knows nothing of yet.
                Wish::Have if self.is_later(slot) => {}
                Wish::Have if self.expected.contains_key(&slot) => self.take(slot),
                Wish::Have => to_have.push(slot),
                Wish::Expect(..) if self.own.contains(&slot) || self.expected.contains_key(&slot) => {}
                Wish::Expect(version, from) => to_expect.push((slot, version, from)),
                Wish::Leave => self.leave(slot),
            }
        }
        for (slot, fds) in self.sit.open_slots(&to_have).await? {
            self.left.remove(&slot);
            self.plane.tell(Command::AddSlot(fds));
            self.own.insert(slot);
        }
        for (slot, version, from) in to_expect {
            self.expect(&[slot], version, from).await?;
        }
        // What waits in the rings is for our slots: without them it would be dropped.
        self.rings().await?;
        self.has_slots.send_replace(true);
        Ok(())
    }

    /// What the present map wants of a slot.
    fn wish(&self, slot: Slot) -> Wish {
        let number = slot.number();
        let is_owner = self.map.owner(SlotPart::Data, number) == Some(self.worker);
        match self.map.leaving_of(SlotPart::Data, number) {
            Some((entry, phase)) if phase < MovePhase::Released => {
                // While the new owner prepares, a new life of the former one serves on.
                if entry.from == self.worker && phase == MovePhase::Preparing {
                    Wish::Have
                } else if is_owner {
                    Wish::Expect(entry.version, entry.from)
                } else {
                    Wish::Leave
                }
            }
            _ if is_owner => Wish::Have,
            _ => Wish::Leave,
        }
    }

    /// Whether a step of a move that began after the present map was done with a slot.
    fn is_later(&self, slot: Slot) -> bool {
        let steps = [self.expected.get(&slot), self.left.get(&slot)];
        steps.into_iter().flatten().any(|since| *since > self.map.version)
    }

    /// Ends what is left of a slot that the map does not give us. One that is ours is never dropped before we are asked to hand it over.
    fn leave(&mut self, slot: Slot) {
        let version = self.map.version;
        if self.expected.get(&slot).is_some_and(|since| *since <= version) {
            self.expected.remove(&slot);
            self.plane.tell(Command::ForgoSlot(slot));
        }
        let is_under_way = self.map.leaving_of(SlotPart::Data, slot.number()).is_some();
        if !is_under_way && self.left.get(&slot).is_some_and(|since| *since <= version) {
            self.left.remove(&slot);
            self.plane.tell(Command::DropSlot(slot));
        }
    }

    async fn expect(&mut self, slots: &[Slot], version: u64, from: u32) -> Result<(), Error> {
        let from = u16::try_from(from).unwrap_or(0);
        for (slot, fds) in self.sit.open_slots(slots).await? {
            self.plane.tell(Command::ExpectSlot(fds, from));
            self.left.remove(&slot);
            self.expected.insert(slot, version);
        }
        Ok(())
    }

    fn take(&mut self, slot: Slot) {
        self.expected.remove(&slot);
        self.own.insert(slot);
        self.plane.tell(Command::TakeSlot(slot));
    }

    async fn rings(&mut self) -> Result<(), Error> {
        if self.has_rings {
            return Ok(());
        }
        for ends in self.sit.open_rings().await? {
            let Ok(worker) = u16::try_from(ends.worker) else {
                continue;
            };
            self.plane.tell(Command::OpenRing {
                worker,
                to: ends.to,
                from: ends.from,
            });
        }
        self.has_rings = true;
        Ok(())
    }

    /// Numbers of the slots of a step.
    fn held(&self, step: &Step) -> Vec<u32> {
        match step {
            Step::Prepare(prepare) => prepare.slots.clone(),
            Step::HandOver(hand_over) => hand_over.slots.clone(),
            Step::Take(take) => take.slots.clone(),
        }
    }

    fn has(&self, number: u32) -> bool {
        slot(number).is_some_and(|slot| self.own.contains(&slot))
    }

    /// Does a step. Fails in words when it cannot be done now.
    async fn step(&mut self, step: Step, supplied: Supplied) -> Result<(), String> {
        match step {
            Step::Prepare(prepare) => {
                if !supplied.complete || supplied.version < prepare.configuration {
                    return Err(format!(
                        "not yet: the data plane has what version {} of the configuration wants{}",
                        supplied.version,
                        if supplied.complete {
                            ""
                        } else {
                            ", but not all of it"
                        }
                    ));
                }
                let slots = self.slots_of(&prepare.slots, prepare.version)?;
                let is_new = |slot: &Slot| !self.own.contains(slot) && !self.expected.contains_key(slot);
                let new: Vec<Slot> = slots.into_iter().filter(is_new).collect();
                let expected = self.expect(&new, prepare.version, prepare.from).await;
                expected.map_err(|error| error.to_string())?;
                self.plane_done().await
            }
            Step::HandOver(hand_over) => {
                let slots = self.slots_of(&hand_over.slots, hand_over.version)?;
                for slot in &slots {
                    self.left.insert(*slot, hand_over.version);
                }
                let own: Vec<Slot> = slots.into_iter().filter(|slot| self.own.contains(slot)).collect();
                if own.is_empty() {
                    // Of an earlier life: nothing to let go of. Or it was done before.
                    return Ok(());
                }
                let to = u16::try_from(hand_over.to).unwrap_or(0);
                let (done, outcome) = oneshot::channel();
                self.plane.tell(Command::HandOver {
                    slots: own.clone(),
                    to,
                    done,
                });
                outcome.await.map_err(|_| ENDED.to_owned())?;
                self.own.retain(|slot| !own.contains(slot));
                Ok(())
            }
            Step::Take(take) => {
                let slots = self.slots_of(&take.slots, take.version)?;
                let mut missing = Vec::new();
                for slot in slots {
                    if self.expected.contains_key(&slot) {
                        self.take(slot);
                    } else if !self.own.contains(&slot) {
                        missing.push(slot);
                    }
                }
                let opened = self.sit.open_slots(&missing).await;
                for (slot, fds) in opened.map_err(|error| error.to_string())? {
                    self.left.remove(&slot);
                    self.plane.tell(Command::AddSlot(fds));
                    self.own.insert(slot);
                }
                self.plane_done().await
            }
        }
    }

    /// The slots of a step of the move with this version, unless that move is over as far as the map says.
    fn slots_of(&self, numbers: &[u32], version: u64) -> Result<Vec<Slot>, String> {
        let is_known = |number: &u32| {
            let entry = u8::try_from(*number).ok();
            let entry = entry.and_then(|number| self.map.leaving_of(SlotPart::Data, number));
            entry.is_some_and(|(entry, _)| entry.version == version)
        };
        if self.map.version >= version && !numbers.iter().all(is_known) {
            return Err(format!(
                "there is no move of these slots that began with version {version}"
            ));
        }
        numbers
            .iter()
            .map(|number| slot(*number).ok_or_else(|| format!("there is no slot {number}")))
            .collect()
    }

    /// Waits until the data plane has done what it was told.
    async fn plane_done(&self) -> Result<(), String> {
        let (done, outcome) = oneshot::channel();
        self.plane.tell(Command::Report(done));
        outcome.await.map_err(|_| ENDED.to_owned())
    }
}

/// The data plane does not answer any more.
const ENDED: &str = "the data plane has ended";

fn slot(number: u32) -> Option<Slot> {
    Slot::new(u8::try_from(number).ok()?)
}

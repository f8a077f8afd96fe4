//! Slots come and go while everything else runs, as the slot map and `rmctrl` want it.
//!
//! A slot that comes is taken over as a later life takes over what an earlier one left: from its records. One that goes is forgotten, when everything of it is
//! committed and delivered, and nobody is told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use bus::messages::rmctrl::{GetSlotMap, MovePhase, SlotMap, SlotPart};
use bus::messages::slots::{HandOverSlots, SlotsHeld, tenure};
use bus::{Address, Bus, Facility, Responder};
use ikev2::IkeSaId;
use sadb::{SegmentFds, Slot};
use task::Sit;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::time::timeout;

use crate::Error;
use crate::questions::Found;
use crate::slots::{Slots, slot_of};
use crate::state::State;
use crate::waiting::Place;

const RMCTRL: Address = Address::only(Facility::Rmctrl);
const RMCTRL_DEADLINE: Duration = Duration::from_secs(2);
/// How long a slot that is to go waits for what others are to hear of it, before it goes and again after: together less than `rmctrl` waits for an answer.
const DELIVERY: Duration = Duration::from_secs(1);

/// Which slots are ours, and on their way.
pub(crate) struct Moves {
    worker: u32,
    /// Lives of this process before.
    life: u32,
    sit: Sit,
    /// The newest map that was heard of.
    map: SlotMap,
    /// Our slots.
    held: BTreeMap<u8, Held>,
    /// Slots that are being opened.
    opening: BTreeSet<u8>,
    /// Why slots could not be taken over at the last attempt.
    failures: BTreeMap<u8, String>,
}

impl Moves {
    /// No slots yet.
    pub(crate) fn new(worker: u32, life: u32, sit: Sit) -> Self {
        Self {
            worker,
            life,
            sit,
            map: SlotMap::default(),
            held: BTreeMap::new(),
            opening: BTreeSet::new(),
            failures: BTreeMap::new(),
        }
    }

    /// Opens all slots that are ours by the first map that is heard of, at once. There may be none.
    ///
    /// # Errors
    /// The map is not the newest any more, or a segment is damaged.
    pub(crate) async fn open_first(&mut self, map: &SlotMap) -> Result<Slots, Error> {
        let opened: BTreeMap<Slot, Opened> = Slot::all()
            .filter_map(|slot| Some((slot, Opened::by(map, slot.number(), self.worker)?)))
            .collect();
        let wanted: Vec<Slot> = opened.keys().copied().collect();
        let mut slots = Slots::new();
        for (slot, fds) in self.sit.open_slots(&wanted).await? {
            slots.add(slot, &fds)?;
        }
        for (slot, opened) in opened {
            self.add(slot.number(), opened);
        }
        Ok(slots)
    }

    /// A slot is ours from now on.
    pub(crate) fn add(&mut self, slot: u8, opened: Opened) {
        let held = Held {
            tenure: tenure(opened.version, self.life),
            opened,
        };
        self.held.insert(slot, held);
    }

    /// Our worker.
    pub(crate) fn worker(&self) -> u32 {
        self.worker
    }

    /// Our slots.
    pub(crate) fn ours(&self) -> Vec<u8> {
        self.held.keys().copied().collect()
    }

    /// Whether a slot is ours.
    pub(crate) fn is_ours(&self, slot: u8) -> bool {
        self.held.contains_key(&slot)
    }

    /// By which tenure we have a slot; 0 if we have not.
    pub(crate) fn tenure(&self, slot: u8) -> u64 {
        self.held.get(&slot).map_or(0, |held| held.tenure)
    }

    /// Those of these slots that are ours, by tenure.
    pub(crate) fn by_tenure(&self, slots: &[u8]) -> BTreeMap<u64, Vec<u8>> {
        let mut by_tenure: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        for slot in slots {
            if let Some(held) = self.held.get(slot) {
                by_tenure.entry(held.tenure).or_default().push(*slot);
            }
        }
        by_tenure
    }

    /// What `rmctrl` is told after a step.
    pub(crate) fn report(&self, failure: impl Into<String>) -> SlotsHeld {
        SlotsHeld {
            slots: self.held.keys().map(|slot| u32::from(*slot)).collect(),
            failure: failure.into(),
            lives: self.life,
        }
    }

    /// What has become of the take-over of these slots; `None` while it is under way.
    pub(crate) fn taken(&self, slots: &[u8]) -> Option<SlotsHeld> {
        if slots.iter().any(|slot| self.opening.contains(slot)) {
            return None;
        }
        let missing = slots.iter().find(|slot| !self.is_ours(**slot));
        Some(self.report(missing.map_or_else(String::new, |slot| {
            let reason = self.failures.get(slot).map(String::as_str);
            format!("slot {slot}: {}", reason.unwrap_or("it has gone again"))
        })))
    }

    /// Why a slot that we have must not be let go by an order of the move that began with this version of the map.
    fn refusal(&self, slot: u8, version: u64) -> Option<String> {
        if self.opening.contains(&slot) {
            return Some(format!("slot {slot} is just being taken over"));
        }
        let opened = self.held.get(&slot)?.opened;
        let is_older = version <= opened.version && opened.in_move != Some(version);
        is_older.then(|| format!("slot {slot} came here later than that"))
    }

    /// The slots that are ours by a map that is newer than they are here, but not any more.
    fn gone(&self, map: &SlotMap) -> Vec<u8> {
        let gone = |(slot, held): &(&u8, &Held)| {
            held.opened.version <= map.version
                && map.steered_to(SlotPart::Manager, **slot) != Some(self.worker)
        };
        self.held.iter().filter(gone).map(|(slot, _)| *slot).collect()
    }

    fn place(&self, slot: Slot) -> Place {
        let number = slot.number();
        if self.is_ours(number) {
            Place::Ours
        } else if self.map.owner(SlotPart::Manager, number) == Some(self.worker) {
            Place::Coming
        } else {
            Place::Others
        }
    }
}

/// A slot that is ours.
struct Held {
    /// Orders us among its owners.
    tenure: u64,
    opened: Opened,
}

/// By which map a slot was opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Opened {
    version: u64,
    /// It was to leave then already, by the move that began with this version.
    in_move: Option<u64>,
}

impl Opened {
    /// If a slot is free for this worker by a map: it owns it and nobody else has it, or it is to hand it over and was not asked to yet.
    pub(crate) fn by(map: &SlotMap, slot: u8, worker: u32) -> Option<Self> {
        let moving = map.leaving_of(SlotPart::Manager, slot);
        let is_asked = moving.is_some_and(|(_, phase)| phase == MovePhase::Steered);
        let is_free = map.steered_to(SlotPart::Manager, slot) == Some(worker) && !is_asked;
        let leaving = moving.filter(|(_, phase)| *phase == MovePhase::Preparing);
        is_free.then_some(Self {
            version: map.version,
            in_move: leaving.map(|(leaving, _)| leaving.version),
        })
    }
}

/// The slots of these numbers.
pub(crate) fn numbers(slots: &[u32]) -> Vec<u8> {
    let numbers = slots.iter().filter_map(|slot| u8::try_from(*slot).ok());
    numbers.filter(|slot| *slot != 0).collect()
}

impl State {
    /// Follows the slot map: what is ours by it is taken over, also where `rmctrl` does not come to ask for it.
    pub(crate) fn follow(&mut self, map: SlotMap) {
        if map.version < self.moves.map.version {
            return;
        }
        self.slots.follow(&map);
        self.moves.map = map;
        let gone = self.moves.gone(&self.moves.map);
        if !gone.is_empty() {
            tracing::error!("slots {gone:?} are another worker's: forgetting them");
            self.let_go(&gone);
        }
        self.take_what_is_ours();
        self.note_places();
    }

    /// Takes over all slots that the map says are ours.
    pub(crate) fn take_what_is_ours(&mut self) {
        let Moves { map, worker, .. } = &self.moves;
        let ours = |slot: &u8| Opened::by(map, *slot, *worker).is_some();
        let ours: Vec<u8> = (1..=u8::MAX).filter(ours).collect();
        self.take_slots(&ours);
    }

    /// Begins to take these slots over, as far as they are not ours: [`Found::Opened`] follows for each.
    pub(crate) fn take_slots(&mut self, slots: &[u8]) {
        let moves = &mut self.moves;
        let wanted: Vec<u8> = slots
            .iter()
            .copied()
            .filter(|slot| !moves.held.contains_key(slot) && !moves.opening.contains(slot))
            .collect();
        if wanted.is_empty() {
            return;
        }
        for slot in &wanted {
            moves.failures.remove(slot);
        }
        if !self.recovery.is_over() || self.draining {
            let reason = "ipsecmgr has no configuration yet, or is ending";
            moves
                .failures
                .extend(wanted.into_iter().map(|slot| (slot, reason.to_owned())));
            return;
        }
        moves.opening.extend(&wanted);
        let (bus, sit, worker) = (self.asker.bus.clone(), moves.sit.clone(), moves.worker);
        let found = self.asker.found.clone();
        tokio::spawn(async move {
            // One by one, so that everything else has its turn between them, and what cannot be had is in nobody's way.
            for slot in wanted {
                let opened = open(&bus, &sit, slot, worker).await;
                // The loop is gone only when the process ends.
                let _ = found.send(Found::Opened(slot, opened));
            }
        });
    }

    /// The segments of a slot are here: takes it over.
    pub(crate) fn opened(&mut self, now: Instant, slot: u8, result: Result<(Opened, SegmentFds), String>) {
        self.moves.opening.remove(&slot);
        let mapped = result.and_then(|(opened, fds)| {
            let number = Slot::new(slot).ok_or("there is no such slot")?;
            self.slots.add(number, &fds).map_err(|error| error.to_string())?;
            Ok(opened)
        });
        match mapped {
            Ok(opened) => {
                self.moves.add(slot, opened);
                self.engine.add_slots(&[slot]);
                self.take_over(now, slot);
                self.note_places();
                self.take_in(now, |sockets, take| sockets.take_waiting(take));
                if self.draining {
                    self.drain();
                }
            }
            Err(reason) => {
                tracing::warn!("cannot take over slot {slot}: {reason}");
                self.moves.failures.insert(slot, reason);
            }
        }
    }

    /// Begins to let slots go: first what others are to hear is delivered, while they are ours; [`Found::LetGo`] follows.
    pub(crate) fn begin_hand_over(&self, request: HandOverSlots, responder: Responder<HandOverSlots>) {
        let (delivered, held) = (self.delivered(), self.moves.report(BUSY));
        let found = self.asker.found.clone();
        tokio::spawn(async move {
            if wait(delivered).await {
                // The loop is gone only when the process ends.
                let _ = found.send(Found::LetGo(request, responder));
            } else {
                responder.reply(held);
            }
        });
    }

    /// Lets slots go, and answers when nothing of them is on its way any more.
    pub(crate) fn hand_over(
        &mut self,
        now: Instant,
        request: &HandOverSlots,
        responder: Responder<HandOverSlots>,
    ) {
        let slots = numbers(&request.slots);
        let mut refusals = slots
            .iter()
            .filter_map(|slot| self.moves.refusal(*slot, request.version));
        if let Some(refusal) = refusals.next() {
            return responder.reply(self.moves.report(refusal));
        }
        drop(refusals);
        self.pump(now);
        // This life ends: the next one does not have them.
        if self.failure.is_some() {
            return;
        }
        if let Some(refusal) = self.tied(&slots).or_else(|| self.unsaved(&slots)) {
            return responder.reply(self.moves.report(refusal));
        }
        self.let_go(&slots);
        self.note_places();
        let (delivered, held) = (self.delivered(), self.moves.report(""));
        tokio::spawn(async move {
            let failure = if wait(delivered).await { "" } else { BUSY };
            responder.reply(SlotsHeld {
                failure: failure.to_owned(),
                ..held
            });
        });
    }

    /// Why slots cannot be let go: an IKE SA that is more than half-open would be lost, for there is no room for its record.
    fn unsaved(&self, slots: &[u8]) -> Option<String> {
        let mut record = Vec::new();
        let mut saved = |ike| {
            let saved = self.slots.records.load(ike, &mut record);
            zeroize::Zeroize::zeroize(record.as_mut_slice());
            saved
        };
        slots.iter().find_map(|slot| {
            let lost = self
                .engine
                .proved_in(*slot)
                .into_iter()
                .find(|ike| !saved(*ike))?;
            Some(format!(
                "slot {slot}: IKE SA {lost} has no record, and would be lost"
            ))
        })
    }

    /// Why slots cannot be let go: an IKE SA has a child SA in another slot, for another data plane, and one process must have both.
    fn tied(&self, slots: &[u8]) -> Option<String> {
        let apart = |ike: IkeSaId, spi: u32| {
            let (own, other) = (ike.slot(), slot_of(spi));
            (own != other && (slots.contains(&own) || slots.contains(&other))).then_some((ike, spi))
        };
        let of_sessions = self
            .sessions
            .iter()
            .map(|(ike, session)| (ike, &session.children[..]));
        let (ike, spi) = of_sessions
            .chain(self.recovery.claims())
            .find_map(|(ike, spis)| spis.iter().find_map(|spi| apart(ike, *spi)))
            // One that is being made has its SPI already.
            .or_else(|| self.engine.reserved_apart(slots))?;
        let (own, other) = (ike.slot(), slot_of(spi));
        Some(format!(
            "per-resource child SA {spi:#010x} of IKE SA {ike} ties slot {other} to slot {own}"
        ))
    }

    /// Forgets slots; nobody is told. All of them is committed.
    fn let_go(&mut self, slots: &[u8]) {
        for slot in slots {
            self.slots.let_go(*slot);
            self.moves.held.remove(slot);
        }
        self.engine.remove_slots(slots);
        self.engine.mark_cookies_changed();
        self.sessions.let_go(slots);
        self.recovery.let_go(slots);
        self.routes.let_go(slots);
    }

    fn note_places(&mut self) {
        let Self { sockets, moves, .. } = self;
        sockets.set_places(|slot| moves.place(slot));
    }

    /// Ends when all that `sessmgr`s and `vpnmgr`s were told until now is delivered.
    pub(crate) fn delivered(&self) -> Receiver<()> {
        let (mark, marked) = channel(1);
        self.desks.mark(&mark);
        self.routes.mark(&mark);
        marked
    }
}

const BUSY: &str = "sessmgr or vpnmgr has not heard yet what became of its tunnels";

/// Whether all marks are dropped in time.
async fn wait(mut marked: Receiver<()>) -> bool {
    timeout(DELIVERY, marked.recv()).await.is_ok()
}

/// The segments of a slot, and by which map it is ours.
async fn open(bus: &Bus, sit: &Sit, slot: u8, worker: u32) -> Result<(Opened, SegmentFds), String> {
    let map = bus.request(RMCTRL, &GetSlotMap {}, RMCTRL_DEADLINE).await;
    let map = map.map_err(|error| error.to_string())?;
    let (Some(opened), Some(number)) = (Opened::by(&map, slot, worker), Slot::new(slot)) else {
        return Err(format!(
            "by version {} of the slot map it is not free for worker {worker}",
            map.version
        ));
    };
    let segments = sit.open_slots(&[number]).await;
    let mut segments = segments.map_err(|error| error.to_string())?;
    let (_, fds) = segments.pop().ok_or("sit gave no segments")?;
    Ok((opened, fds))
}

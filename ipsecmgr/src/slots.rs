//! The slots of this worker: SPIs and child SAs for the engine, in the segments that the data plane reads, and the records of IKE SAs.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bus::messages::rmctrl::SlotMap;
use ikev2::{IkeSaId, Path, Usage};
use sadb::{Activity, ChildSa, SaCounter, SaCounters, SegmentFds, Slot, SlotOwner, Spi};

use crate::beside::Beside;
use crate::records::Records;

/// All slots of this worker.
pub(crate) struct Slots {
    owners: HashMap<u8, SlotOwner>,
    /// What a later life of this process needs.
    pub(crate) records: Records,
    /// SPIs that were given back since the last commit: records may still list them.
    freed: Vec<u32>,
    clock: Clock,
    moves: RefCell<Moves>,
    beside: Beside,
}

/// Peers that the data plane found to have moved.
#[derive(Default)]
struct Moves {
    /// Where to, by inbound SPI, as far as it was noticed.
    learned: HashMap<u32, SocketAddr>,
    /// Moves noticed and not yet counted.
    fresh: u64,
}

/// One instant on both clocks: CLOCK_MONOTONIC as numbers, which the data plane writes, and as [`Instant`]s.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    nanoseconds: u64,
}

impl Slots {
    /// No slots yet.
    pub(crate) fn new() -> Self {
        let clock = Clock {
            instant: Instant::now(),
            nanoseconds: netio::task::monotonic_ns(),
        };
        Self {
            owners: HashMap::new(),
            records: Records::new(),
            freed: Vec::new(),
            clock,
            moves: RefCell::default(),
            beside: Beside::default(),
        }
    }

    /// Maps the segments of a slot, which is ours from now on. Peers that have moved already are no news.
    pub(crate) fn add(&mut self, slot: Slot, fds: &SegmentFds) -> Result<(), sadb::Error> {
        let owner = SlotOwner::map(fds)?;
        self.records.add(slot, fds)?;
        for spi in owner.spis() {
            let learned = owner.activity(spi).and_then(|activity| activity.learned_peer);
            self.moves
                .get_mut()
                .learned
                .extend(learned.map(|learned| (spi.to_u32(), learned)));
        }
        self.owners.insert(slot.number(), owner);
        Ok(())
    }

    /// Lets go of a slot: from now on nothing of it is written here.
    pub(crate) fn let_go(&mut self, slot: u8) {
        self.owners.remove(&slot);
        self.records.remove(slot);
        let of_slot = |spi: &u32| slot_of(*spi) == slot;
        self.freed.retain(|spi| !of_slot(spi));
        self.moves.get_mut().learned.retain(|spi, _| !of_slot(spi));
        self.beside.let_go(slot);
    }

    /// Follows the slot map: who works with what.
    pub(crate) fn follow(&mut self, map: &SlotMap) {
        let concerned = self.beside.follow(map);
        self.note_shared(&concerned);
    }

    /// Takes which child SAs of an IKE SA carry the same.
    pub(crate) fn note_groups(&mut self, ike: IkeSaId, groups: &[Vec<u32>]) {
        let concerned = self.beside.note(ike, groups);
        self.note_shared(&concerned);
    }

    fn note_shared(&mut self, spis: &[u32]) {
        for spi in spis {
            let shared = self.beside.is_shared(*spi);
            let Ok(id) = ours(*spi) else { continue };
            let known = self.owner(id).and_then(|owner| owner.read(id));
            if known.is_ok_and(|sa| sa.shared != shared)
                && let Err(error) = self.change(*spi, |sa| sa.shared = shared)
            {
                tracing::debug!("child SA {spi:#010x} has gone: {error}");
            }
        }
    }

    /// When records begin to count time: the same moment in each life.
    pub(crate) fn epoch(&self) -> Option<Instant> {
        let since = Duration::from_nanos(self.clock.nanoseconds);
        self.clock.instant.checked_sub(since)
    }

    /// Removes every child SA and every record, and returns how many child SAs there were.
    pub(crate) fn clear(&mut self) -> Result<usize, sadb::Error> {
        self.records.clear()?;
        Ok(self.owners.values_mut().map(SlotOwner::clear).sum())
    }

    /// Writes a child SA, which receives from now on. It sends when it is activated.
    pub(crate) fn install(&mut self, sa: &ChildSa) -> Result<(), sadb::Error> {
        let silent = ChildSa {
            outbound_active: false,
            ..sa.clone()
        };
        self.owner(sa.inbound_spi)?.install(&silent)
    }

    /// Sends with `spi` from now on, and with `replaces` no more.
    pub(crate) fn activate(&mut self, spi: u32, replaces: Option<u32>) -> Result<(), sadb::Error> {
        self.set_outbound(spi, true)?;
        replaces.map_or(Ok(()), |replaced| self.set_outbound(replaced, false))
    }

    /// Brings a child SA of an earlier life to what its IKE SA knows of it. False when it is not there.
    pub(crate) fn revive(&mut self, spi: u32, sends: bool, path: Path) -> Result<bool, sadb::Error> {
        let Some(id) = Spi::from_u32(spi) else {
            return Ok(false);
        };
        let sa = match self.owner(id)?.read(id) {
            Ok(sa) => sa,
            Err(sadb::Error::NoSuchSpi(_)) => return Ok(false),
            Err(error) => return Err(error),
        };
        if (sa.local, sa.peer) != (path.local, path.remote) {
            self.relocate(spi, path)?;
        }
        if sa.outbound_active != sends {
            self.set_outbound(spi, sends)?;
        }
        Ok(true)
    }

    /// Takes back a child SA that is not known to anybody: its SPI is only reserved.
    pub(crate) fn withdraw(&mut self, spi: u32) -> Result<(), sadb::Error> {
        let spi = ours(spi)?;
        self.owner(spi)?.withdraw(spi)
    }

    /// Removes the child SAs and gives back the SPIs of earlier owners of a slot that are not `known`; returns how many child SAs there were.
    pub(crate) fn remove_unknown(&mut self, slot: u8, known: &HashSet<u32>) -> usize {
        let mut removed = 0;
        if let Some(owner) = self.owners.get_mut(&slot) {
            let installed = owner.spis();
            removed += installed
                .iter()
                .filter(|spi| !known.contains(&spi.to_u32()))
                .count();
            for spi in installed.into_iter().chain(owner.reserved()) {
                // Cannot fail: it was read a line above.
                if !known.contains(&spi.to_u32()) {
                    let _ = owner.remove(spi);
                }
            }
        }
        removed
    }

    /// Gives back the SPIs that the engine freed: no record lists them any more.
    pub(crate) fn free(&mut self) {
        for spi in std::mem::take(&mut self.freed) {
            self.remove(spi);
        }
    }

    /// Has the peer at another address from now on.
    pub(crate) fn relocate(&mut self, spi: u32, path: Path) -> Result<(), sadb::Error> {
        self.change(spi, |sa| {
            sa.local = path.local;
            sa.peer = path.remote;
        })
    }

    /// Erases a child SA, or gives back an SPI.
    pub(crate) fn remove(&mut self, spi: u32) {
        self.moves.get_mut().learned.remove(&spi);
        let Some(id) = Spi::from_u32(spi) else { return };
        if let Err(error) = self.owner(id).and_then(|owner| owner.remove(id)) {
            tracing::debug!("nothing to remove: {error}");
        }
    }

    /// What a child SA counted so far.
    pub(crate) fn counters(&self, spi: u32) -> SaCounters {
        self.look(spi)
            .and_then(|(owner, spi)| owner.counters(spi))
            .unwrap_or_default()
    }

    /// How active a child SA is.
    pub(crate) fn activity(&self, spi: u32) -> Option<Activity> {
        self.look(spi).and_then(|(owner, spi)| owner.activity(spi))
    }

    /// How many peers the data plane saw move since the last call.
    pub(crate) fn take_moves(&mut self) -> u64 {
        std::mem::take(&mut self.moves.get_mut().fresh)
    }

    fn set_outbound(&mut self, spi: u32, active: bool) -> Result<(), sadb::Error> {
        let spi = ours(spi)?;
        self.owner(spi)?.set_outbound(spi, active)
    }

    fn change(&mut self, spi: u32, change: impl FnOnce(&mut ChildSa)) -> Result<(), sadb::Error> {
        let spi = ours(spi)?;
        let owner = self.owner(spi)?;
        let mut sa = owner.read(spi)?;
        change(&mut sa);
        owner.update(&sa)
    }

    fn owner(&mut self, spi: Spi) -> Result<&mut SlotOwner, sadb::Error> {
        self.owners
            .get_mut(&spi.slot().number())
            .ok_or(sadb::Error::NoSuchSpi(spi))
    }

    fn look(&self, spi: u32) -> Option<(&SlotOwner, Spi)> {
        let spi = Spi::from_u32(spi)?;
        Some((self.owners.get(&spi.slot().number())?, spi))
    }

    /// Notices once that the data plane learned another address of the peer.
    fn note_move(&self, spi: u32, learned: SocketAddr) {
        let mut moves = self.moves.borrow_mut();
        if moves.learned.insert(spi, learned) != Some(learned) {
            moves.fresh += 1;
        }
    }
}

/// The slot of a child SA.
pub(crate) fn slot_of(spi: u32) -> u8 {
    let [slot, ..] = spi.to_be_bytes();
    slot
}

fn ours(spi: u32) -> Result<Spi, sadb::Error> {
    Spi::from_u32(spi).ok_or(sadb::Error::Invalid {
        field: "SPI",
        expected: "one with a slot",
    })
}

impl ikev2::Sad for Slots {
    fn load(&self, ike: IkeSaId, into: &mut Vec<u8>) -> bool {
        self.records.load(ike, into)
    }

    fn allocate_spi(&mut self, slot: u8) -> Option<u32> {
        match self.owners.get_mut(&slot)?.allocate() {
            Ok(spi) => Some(spi.to_u32()),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        }
    }

    fn slot_beside(&self, of: u8, taken: &[u8]) -> u8 {
        self.beside.slot(self.owners.keys().copied(), of, taken)
    }

    fn free_spi(&mut self, spi: u32) {
        self.freed.push(spi);
    }

    fn usage(&self, spi: u32) -> Usage {
        let counters = self.counters(spi);
        let activity = self.activity(spi);
        let learned_peer = activity.and_then(|activity| activity.learned_peer);
        if let Some(learned) = learned_peer {
            self.note_move(spi, learned);
        }
        let last_inbound = activity.and_then(|activity| self.clock.instant(activity.last_in_ns));
        Usage {
            last_inbound,
            learned_peer,
            inbound_bytes: counters.get(SaCounter::BytesIn),
            inbound_packets: counters.get(SaCounter::PacketsIn),
            outbound_bytes: counters.get(SaCounter::BytesOut),
            outbound_packets: counters.get(SaCounter::PacketsOut),
        }
    }
}

impl Clock {
    /// The instant of a reading of CLOCK_MONOTONIC; `None` for 0, which stands for never.
    fn instant(self, nanoseconds: u64) -> Option<Instant> {
        if nanoseconds == 0 {
            return None;
        }
        match nanoseconds.checked_sub(self.nanoseconds) {
            Some(later) => self.instant.checked_add(Duration::from_nanos(later)),
            None => self
                .instant
                .checked_sub(Duration::from_nanos(self.nanoseconds - nanoseconds)),
        }
    }
}

#[cfg(test)]
mod tests;

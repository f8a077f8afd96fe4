//! What an earlier owner of our slots left, an earlier life of this process or another worker's: IKE SAs come back from their records, and all else that is left
//! is removed.

mod parked;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bus::messages::sessmgr::RecoveredSession;
use ikev2::{Action, IkeSaId, IkeState, Profile, RestoreError, Restored};
use services::DisconnectReason;
use telemetry::counters::recovery as counter;
use telemetry::events::{SessionRecoveryComplete, TunnelsLost, emit};

use crate::sessions::recorded_name;
use crate::slots::slot_of;
use crate::sockets::Sockets;
use crate::state::State;

use parked::Parked;

/// Turns of reading what came while nobody read, before timers run: about what the sockets hold.
const TURNS: usize = 64;

/// What is left to do of it.
pub(crate) struct Recovery {
    /// When this life began.
    begun: Instant,
    /// This is not the first life.
    reborn: bool,
    /// The first configuration has come.
    over: bool,
    /// IKE SAs that wait for their service.
    parked: HashMap<IkeSaId, Parked>,
    /// When the first of them is given up.
    soonest: Option<Instant>,
    /// Inbound SPIs of those that came back.
    known: HashSet<u32>,
    /// Slots that were taken over, where former owners may have routes that nobody needs.
    unclear: BTreeSet<u8>,
    tally: Tally,
}

/// What came back and is of no use.
enum Broken {
    Whole(IkeSaId),
    /// One child SA of several, by its inbound SPI.
    Child(IkeSaId, u32),
}

/// How it went.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Tally {
    found: u64,
    established: u64,
    recovered: u64,
    tunnels: u64,
    lost: u64,
}

impl Recovery {
    /// Nothing has been looked at.
    pub(crate) fn new(begun: Instant, reborn: bool) -> Self {
        Self {
            begun,
            reborn,
            over: false,
            parked: HashMap::new(),
            soonest: None,
            known: HashSet::new(),
            unclear: BTreeSet::new(),
            tally: Tally::default(),
        }
    }

    /// Whether the first configuration has come.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// When [`State::give_up_parked`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.soonest
    }

    /// IKE SAs that wait for their service, with the inbound SPIs that they lay claim to.
    pub(crate) fn claims(&self) -> impl Iterator<Item = (IkeSaId, &[u32])> {
        self.parked.iter().map(|(ike, parked)| (*ike, &parked.spis[..]))
    }

    fn note_soonest(&mut self) {
        self.soonest = self.parked.values().map(|parked| parked.until).min();
    }

    /// Slots are another's from now on.
    pub(crate) fn let_go(&mut self, slots: &[u8]) {
        self.parked.retain(|ike, _| !slots.contains(&ike.slot()));
        self.unclear.retain(|slot| !slots.contains(slot));
        self.note_soonest();
    }
}

impl State {
    /// Has the engine keep the SPIs of all IKE SAs that have a record. What they are called by peers with waits for the configuration.
    ///
    /// # Errors
    /// Records that cannot be read cannot be erased either.
    pub(crate) fn reserve_recorded(&mut self, now: Instant) -> Result<(), sadb::Error> {
        if let Some(cookies) = self.slots.records.own()
            && !self.engine.restore_cookies(&cookies)
        {
            tracing::warn!("the secrets of cookies cannot be read: cookies that were handed out are void");
        }
        for slot in self.moves.ours() {
            let (found, lost) = self.reserve_in(now, slot, false)?;
            self.recovery.tally.found += found;
            self.recovery.tally.lost += lost;
        }
        Ok(())
    }

    /// Goes on with what the former owner of a slot has left, which is ours now.
    pub(crate) fn take_over(&mut self, now: Instant, slot: u8) {
        // Its secrets of cookies are not ours, and ours may have to be kept in this slot now.
        self.slots.records.erase_own(slot);
        self.engine.mark_cookies_changed();
        let (found, lost) = match self.reserve_in(now, slot, true) {
            Ok(counts) => counts,
            Err(error) => {
                self.failure.get_or_insert(error);
                return;
            }
        };
        self.counters.add(counter::LOST, lost);
        let parked = self.parked_in(Some(slot));
        // Our configuration may be older than that of the former owner.
        let broken = self.restore_parked(now, parked, false);
        self.remove_unknown(&[slot]);
        self.engine.finish_restore(now, &mut self.slots);
        self.announce(&[slot]);
        self.recovery.unclear.insert(slot);
        self.clear_routes();
        self.end_broken(now, broken);
        tracing::info!("took over slot {slot} with {found} IKE SAs, {lost} of them lost");
    }

    /// Tells every `sessmgr` which sessions go on in these slots.
    fn announce(&self, slots: &[u8]) {
        for (tenure, slots) in self.moves.by_tenure(slots) {
            let sessions = self.outlived(&slots);
            self.desks.outlived(tenure, &slots, sessions);
        }
    }

    /// Takes back the routes that only former owners of slots asked for, where all that is to go on does.
    fn clear_routes(&mut self) {
        let parked = self.recovery.parked.values();
        let children = parked.flat_map(|parked| &parked.spis).map(|spi| slot_of(*spi));
        let ikes = self.recovery.parked.keys().map(|ike| ike.slot());
        let waits: HashSet<u8> = ikes.chain(children).collect();
        let (clear, later) = std::mem::take(&mut self.recovery.unclear)
            .into_iter()
            .partition(|slot| !waits.contains(slot));
        self.recovery.unclear = later;
        let clear: Vec<u8> = BTreeSet::into_iter(clear).collect();
        let contexts: HashSet<u32> = self.services.values().map(|wsg| wsg.data_path.context).collect();
        for (tenure, slots) in self.moves.by_tenure(&clear) {
            for context in &contexts {
                self.routes.clear(*context, tenure, &slots);
            }
        }
    }

    /// Brings back what can be brought back with the services that there are now. `wanted`: `require session recovery`; `complete`: no other services are
    /// configured.
    pub(crate) fn recover(&mut self, now: Instant, wanted: bool, complete: bool) {
        let first = !std::mem::replace(&mut self.recovery.over, true);
        if first && !wanted {
            return self.forget();
        }
        if !first && self.recovery.parked.is_empty() {
            return;
        }
        let before = self.recovery.tally;
        let broken = self.restore_parked(now, self.parked_in(None), complete);
        let ours = self.moves.ours();
        match first {
            true => self.remove_unknown(&ours),
            false => self.recovery.known.clear(),
        }
        self.engine.finish_restore(now, &mut self.slots);
        if first && self.recovery.reborn {
            self.announce(&ours);
        }
        self.clear_routes();
        self.end_broken(now, broken);
        // Answers and liveness checks that came meanwhile count before timers do.
        for _ in 0..TURNS {
            if !self.take_in(now, Sockets::receive_now) {
                break;
            }
            self.pump(now);
        }
        let tally = self.recovery.tally;
        self.counters
            .add(counter::RECOVERED, tally.recovered - before.recovered);
        self.counters.add(
            counter::LOST,
            if first {
                tally.lost
            } else {
                tally.lost - before.lost
            },
        );
        if (first && (self.recovery.reborn || tally.found > 0)) || tally != before {
            emit(&SessionRecoveryComplete {
                worker: self.moves.worker(),
                found: tally.found,
                established: tally.established,
                recovered: tally.recovered,
                tunnels: tally.tunnels,
                lost: tally.lost,
                milliseconds: self.recovery.begun.elapsed().as_millis() as u64,
            });
        }
    }

    /// Removes everything that an earlier life left.
    fn forget(&mut self) {
        for (ike, _) in std::mem::take(&mut self.recovery.parked) {
            self.engine.discard_parked(ike);
        }
        let lost = match self.slots.clear() {
            Ok(lost) => lost as u64,
            Err(error) => {
                self.failure.get_or_insert(error);
                return;
            }
        };
        if self.recovery.reborn || lost > 0 {
            self.counters.add(counter::LOST, self.recovery.tally.found);
            emit(&TunnelsLost {
                worker: self.moves.worker(),
                count: lost,
            });
            self.announce(&self.moves.ours());
        }
    }

    /// The sessions in these slots that go on, also those of IKE SAs that still wait for their service.
    fn outlived(&self, slots: &[u8]) -> Vec<(u32, RecoveredSession)> {
        let mut outlived = self.sessions.outlived(slots);
        let parked = self.recovery.parked.iter();
        let parked = parked.filter(|(ike, _)| slots.contains(&ike.slot()));
        outlived.extend(parked.filter_map(|(ike, parked)| {
            let record = self.slots.records.read(*ike)?;
            let (sessmgr, known_as) = recorded_name(record.ours(), self.moves.worker())?;
            let session = RecoveredSession {
                ike_spi: ike.0,
                known_as,
                spis: parked.spis.clone(),
            };
            Some((sessmgr, session))
        }));
        outlived
    }

    /// Restores those of these whose services are there; gives up those whose records are damaged, and if the configuration is `complete`, those whose services
    /// are gone for good. Returns what cannot carry packets any more.
    fn restore_parked(&mut self, now: Instant, ikes: Vec<IkeSaId>, complete: bool) -> Vec<Broken> {
        let profiles: HashMap<String, Arc<Profile>> = self
            .services
            .values()
            .map(|wsg| (wsg.profile.service.clone(), wsg.profile.clone()))
            .collect();
        let mut broken = Vec::new();
        for ike in ikes {
            let Some(parked) = self.recovery.parked.remove(&ike) else {
                continue;
            };
            let restored = match self.slots.records.read(ike) {
                Some(record) => self
                    .engine
                    .restore(
                        now,
                        ike,
                        record.engines(),
                        &|service| profiles.get(service).cloned(),
                        &mut self.slots,
                    )
                    .map(|restored| (restored, record)),
                None => Err(RestoreError::Corrupt),
            };
            match restored {
                Ok((restored, record)) => {
                    broken.extend(self.revive(&restored, record.ours(), parked.moved));
                }
                Err(RestoreError::NoProfile { .. }) if !complete => {
                    self.recovery.parked.insert(ike, parked);
                }
                Err(error) => {
                    match parked.moved {
                        true => self.counters.inc(counter::LOST),
                        false => self.recovery.tally.lost += 1,
                    }
                    self.lose(ike, &parked, &error.to_string());
                }
            }
        }
        self.recovery.note_soonest();
        broken
    }

    /// Deletes what cannot carry packets, telling the peers.
    fn end_broken(&mut self, now: Instant, broken: Vec<Broken>) {
        let mut whole = Vec::new();
        for broken in broken {
            match broken {
                Broken::Whole(ike) => whole.push(ike),
                Broken::Child(ike, spi) => {
                    let action = Action::DeleteChild(spi);
                    if let Err(error) = self.engine.action(now, ike, action, &mut self.slots) {
                        tracing::debug!("child SA {spi:#010x}: {error}");
                    }
                }
            }
        }
        self.delete(now, &whole, DisconnectReason::Internal);
    }

    /// Takes up everything outside of the engine that belongs to an IKE SA. Returns what is broken because its session or a child SA is not there.
    fn revive(&mut self, restored: &Restored, ours: &[u8], moved: bool) -> Vec<Broken> {
        let view = &restored.view;
        let spis: Vec<u32> = restored.children.iter().map(|child| child.inbound_spi).collect();
        if !moved {
            let established = view.state == IkeState::Established;
            let tally = &mut self.recovery.tally;
            tally.recovered += 1;
            tally.established += u64::from(established);
            tally.tunnels += u64::from(established && !spis.is_empty());
        }
        self.recovery.known.extend(spis.iter().chain(&restored.reserved));
        // An IKE SA that was replaced has no session any more.
        let mut whole = self
            .sessions
            .restore(restored.ike, view.profile.tag, view.path, &spis, ours)
            || view.state != IkeState::Established;
        if let Some(spi) = restored.reserved {
            let result = self.slots.withdraw(spi);
            self.flow(result, "take back", spi);
        }
        let mut astray = Vec::new();
        for child in &restored.children {
            // The former owner of its slot died while it was asked to let go of that.
            if !self.moves.is_ours(slot_of(child.inbound_spi)) && restored.children.len() > 1 {
                astray.push(Broken::Child(restored.ike, child.inbound_spi));
                continue;
            }
            match self
                .slots
                .revive(child.inbound_spi, child.outbound_active, view.path)
            {
                Ok(there) => whole &= there,
                Err(error) => {
                    whole = false;
                    self.flow(Err(error), "go on with", child.inbound_spi);
                }
            }
        }
        if let Some(wsg) = self
            .services
            .get(&view.profile.tag)
            .filter(|wsg| wsg.routes_selectors)
        {
            let context = wsg.data_path.context;
            for child in &view.children {
                let tenure = self.moves.tenure(slot_of(child.inbound_spi));
                self.routes
                    .add(context, tenure, child.inbound_spi, &child.remote_selectors);
            }
        }
        self.slots.note_groups(restored.ike, &restored.groups);
        match whole {
            true => astray,
            false => vec![Broken::Whole(restored.ike)],
        }
    }

    /// Removes child SAs in these slots that no IKE SA has, and gives back SPIs that none asks for.
    fn remove_unknown(&mut self, slots: &[u8]) {
        let mut known = std::mem::take(&mut self.recovery.known);
        known.extend(self.recovery.parked.values().flat_map(|parked| &parked.spis));
        let removed: usize = slots
            .iter()
            .map(|slot| self.slots.remove_unknown(*slot, &known))
            .sum();
        if removed > 0 {
            tracing::info!("removed {removed} child SAs of a former owner that no IKE SA has");
        }
    }
}

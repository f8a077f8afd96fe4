//! What an earlier life left: IKE SAs come back from their records, and all else that is left is removed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use bus::messages::sessmgr::RecoveredSession;
use ikev2::{IkeSaId, IkeState, Profile, RestoreError, Restored};
use services::DisconnectReason;
use telemetry::counters::recovery as counter;
use telemetry::events::{SessionRecoveryComplete, TunnelsLost, emit};

use crate::session_desk::News;
use crate::sessions::recorded_name;
use crate::sockets::Sockets;
use crate::state::State;

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
    /// IKE SAs that wait for their service, and the inbound SPIs that they lay claim to.
    parked: HashMap<IkeSaId, Vec<u32>>,
    /// Inbound SPIs of those that came back.
    known: HashSet<u32>,
    tally: Tally,
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
            known: HashSet::new(),
            tally: Tally::default(),
        }
    }
}

impl State {
    /// Has the engine keep the SPIs of all IKE SAs that have a record. What they are called by peers with waits for the configuration.
    ///
    /// # Errors
    /// Records that cannot be read cannot be erased either.
    pub(crate) fn reserve_recorded(&mut self) -> Result<(), sadb::Error> {
        let records = &mut self.slots.records;
        let tally = &mut self.recovery.tally;
        if let Some(cookies) = records.own()
            && !self.engine.restore_cookies(&cookies)
        {
            tracing::warn!("the secrets of cookies cannot be read: cookies that were handed out are void");
        }
        tally.lost = records.lost() as u64;
        for ike in records.all() {
            tally.found += 1;
            let claim = records
                .read(ike)
                .ok_or(RestoreError::Corrupt)
                .and_then(|record| self.engine.reserve_restored(ike, record.engines()));
            match claim {
                Ok(claim) => drop(self.recovery.parked.insert(ike, claim.spis)),
                Err(error) => {
                    tracing::error!("IKE SA {ike} is lost: {error}");
                    tally.lost += 1;
                    records.erase(ike);
                }
            }
        }
        tally.found += records.lost() as u64;
        records.commit()
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
        let broken = self.restore_parked(now, complete);
        if first {
            self.remove_unknown();
        }
        self.engine.finish_restore(now, &mut self.slots);
        if first && self.recovery.reborn {
            self.desk.tell(News::Recovered(self.outlived()));
        }
        self.delete(now, &broken, DisconnectReason::Internal);
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
                worker: self.worker,
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
        for ike in std::mem::take(&mut self.recovery.parked).into_keys() {
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
                worker: self.worker,
                count: lost,
            });
            self.desk.tell(News::Recovered(Vec::new()));
        }
    }

    /// The sessions that go on, also those of IKE SAs that still wait for their service.
    fn outlived(&self) -> Vec<RecoveredSession> {
        let mut outlived = self.sessions.outlived();
        outlived.extend(self.recovery.parked.iter().filter_map(|(ike, spis)| {
            let record = self.slots.records.read(*ike)?;
            Some(RecoveredSession {
                ike_spi: ike.0,
                known_as: recorded_name(record.ours())?,
                spis: spis.clone(),
            })
        }));
        outlived
    }

    /// Restores those whose services are there; gives up those whose records are damaged, and those whose services are gone for good. Returns those that cannot
    /// carry packets any more.
    fn restore_parked(&mut self, now: Instant, complete: bool) -> Vec<IkeSaId> {
        let profiles: HashMap<String, Arc<Profile>> = self
            .services
            .values()
            .map(|wsg| (wsg.profile.service.clone(), wsg.profile.clone()))
            .collect();
        let mut broken = Vec::new();
        for (ike, spis) in std::mem::take(&mut self.recovery.parked) {
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
                    if !self.revive(&restored, record.ours()) {
                        broken.push(ike);
                    }
                }
                Err(RestoreError::NoProfile { .. }) if !complete => {
                    self.recovery.parked.insert(ike, spis);
                }
                Err(error) => {
                    tracing::error!("IKE SA {ike} is lost: {error}");
                    self.recovery.tally.lost += 1;
                    // `sessmgr` has been told that it goes on, or will be told that it does not.
                    self.release(ike, DisconnectReason::Internal);
                    self.engine.discard_parked(ike);
                    self.slots.records.erase(ike);
                    spis.into_iter().for_each(|spi| self.slots.remove(spi));
                }
            }
        }
        broken
    }

    /// Takes up everything outside of the engine that belongs to an IKE SA. False if its session or a child SA of it is not there.
    fn revive(&mut self, restored: &Restored, ours: &[u8]) -> bool {
        let view = &restored.view;
        let tally = &mut self.recovery.tally;
        tally.recovered += 1;
        let spis: Vec<u32> = restored.children.iter().map(|child| child.inbound_spi).collect();
        if view.state == IkeState::Established {
            tally.established += 1;
            tally.tunnels += u64::from(!spis.is_empty());
        }
        self.recovery.known.extend(spis.iter().chain(&restored.reserved));
        // An IKE SA that was replaced has no session any more.
        let mut whole = self
            .sessions
            .restore(restored.ike, view.profile.tag, view.path, spis, ours)
            || view.state != IkeState::Established;
        if let Some(spi) = restored.reserved {
            let result = self.slots.withdraw(spi);
            self.flow(result, "take back", spi);
        }
        for child in &restored.children {
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
            for child in &view.children {
                self.routes
                    .add(wsg.data_path.context, child.inbound_spi, &child.remote_selectors);
            }
        }
        whole
    }

    /// Removes child SAs that no IKE SA has, and gives back SPIs that none asks for.
    fn remove_unknown(&mut self) {
        let mut known = std::mem::take(&mut self.recovery.known);
        known.extend(self.recovery.parked.values().flatten());
        let removed = self.slots.remove_unknown(&known);
        if removed > 0 {
            tracing::info!("removed {removed} child SAs of the last life that no IKE SA has");
        }
    }
}

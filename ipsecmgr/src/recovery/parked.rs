//! IKE SAs of an earlier owner that wait for their services.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ikev2::{IkeSaId, RestoreError};
use services::DisconnectReason;
use telemetry::counters::recovery as counter;
use telemetry::events::{TunnelsWithoutService, emit};

use crate::sessions::recorded_name;
use crate::state::State;

/// How long IKE SAs are kept whose service is not there. Their peers hear nothing meanwhile, and give them up.
const PATIENCE: Duration = Duration::from_secs(120);

/// An IKE SA that waits for its service.
pub(super) struct Parked {
    pub(super) service: String,
    /// Inbound SPIs that it lays claim to.
    pub(super) spis: Vec<u32>,
    /// It is given up then.
    pub(super) until: Instant,
    /// Its slot came from another owner: it is no matter of this process's lives.
    pub(super) moved: bool,
}

impl State {
    /// Has the engine keep the SPIs of all IKE SAs that have a record in a slot. Returns how many records there were, and how many of them are lost.
    pub(super) fn reserve_in(
        &mut self,
        now: Instant,
        slot: u8,
        moved: bool,
    ) -> Result<(u64, u64), sadb::Error> {
        let records = &mut self.slots.records;
        let mut lost = records.lost(slot) as u64;
        let mut found = lost;
        for ike in records.in_slot(slot) {
            found += 1;
            let claim = records
                .read(ike)
                .ok_or(RestoreError::Corrupt)
                .and_then(|record| self.engine.reserve_restored(ike, record.engines()));
            match claim {
                Ok(claim) => {
                    let parked = Parked {
                        service: claim.service,
                        spis: claim.spis,
                        until: now + PATIENCE,
                        moved,
                    };
                    self.recovery.parked.insert(ike, parked);
                }
                Err(error) => {
                    tracing::error!("IKE SA {ike} is lost: {error}");
                    lost += 1;
                    records.erase(ike);
                }
            }
        }
        records.commit()?;
        self.recovery.note_soonest();
        Ok((found, lost))
    }

    /// The IKE SAs that wait, of one slot or of all.
    pub(super) fn parked_in(&self, slot: Option<u8>) -> Vec<IkeSaId> {
        let parked = self.recovery.parked.keys().copied();
        parked
            .filter(|ike| slot.is_none_or(|slot| ike.slot() == slot))
            .collect()
    }

    /// Gives up IKE SAs whose services have not come for too long: their peers have given them up, too.
    pub(crate) fn give_up_parked(&mut self, now: Instant) {
        if self.recovery.soonest.is_none_or(|soonest| soonest > now) {
            return;
        }
        let given_up: Vec<(IkeSaId, Parked)> = self
            .recovery
            .parked
            .extract_if(|_, parked| parked.until <= now)
            .collect();
        self.recovery.note_soonest();
        let mut by_service: BTreeMap<String, u64> = BTreeMap::new();
        for (ike, parked) in given_up {
            self.counters.inc(counter::LOST);
            *by_service.entry(parked.service.clone()).or_default() += 1;
            self.lose(ike, &parked, "its service is not there");
        }
        for (service, count) in by_service {
            emit(&TunnelsWithoutService {
                worker: self.moves.worker(),
                service: &service,
                count,
            });
        }
        self.clear_routes();
    }

    /// An IKE SA does not come back.
    pub(super) fn lose(&mut self, ike: IkeSaId, parked: &Parked, reason: &str) {
        tracing::error!("IKE SA {ike} of {} is lost: {reason}", parked.service);
        // `sessmgr` has been told that it goes on, or will be told that it does not.
        let recorded = self.slots.records.read(ike);
        let name = recorded.and_then(|record| recorded_name(record.ours(), self.moves.worker()));
        self.release_at(
            name.map_or(self.moves.worker(), |(sessmgr, _)| sessmgr),
            ike,
            DisconnectReason::Internal,
        );
        self.engine.discard_parked(ike);
        self.slots.records.erase(ike);
        for spi in &parked.spis {
            self.slots.remove(*spi);
        }
    }
}

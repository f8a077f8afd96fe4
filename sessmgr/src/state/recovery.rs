//! What a death of an `ipsecmgr`, or the move of a slot to another, does to sessions: the next owner may ask again for what was answered, and then says which
//! sessions go on.

use std::collections::BTreeSet;
use std::time::Instant;

use bus::messages::sessmgr::{ConnectedSession, RecoveredSession, Released, WorkerRecovered};
use services::DisconnectReason as Reason;

use super::{Errand, State};
use crate::session::{Phase, Session};

/// The slot of an IKE SPI.
pub fn slot(ike_spi: u64) -> u8 {
    let [slot, ..] = ike_spi.to_be_bytes();
    slot
}

impl State {
    /// An `ipsecmgr` that has the slot of an IKE SPI by this tenure speaks. False if a later one has been heard already.
    pub fn hear(&mut self, ike_spi: u64, tenure: u64) -> bool {
        self.hear_slot(slot(ike_spi), tenure)
    }

    fn hear_slot(&mut self, slot: u8, tenure: u64) -> bool {
        let Some(latest) = self.tenures.get_mut(usize::from(slot)) else {
            return false;
        };
        *latest = tenure.max(*latest);
        *latest == tenure
    }

    /// By which tenure the `ipsecmgr` has the slot of an IKE SPI that was heard last.
    pub fn tenure(&self, ike_spi: u64) -> u64 {
        self.tenures.get(usize::from(slot(ike_spi))).copied().unwrap_or(0)
    }

    /// The session of an IKE SPI that asks for admission again.
    pub fn repeat(&mut self, ike_spi: u64, only_one: bool) -> Option<&Session> {
        let tenure = self.tenure(ike_spi);
        let session = self.sessions.get_mut(ike_spi)?;
        if session.tenure != tenure {
            session.tenure = tenure;
            self.changed.sessions.insert(ike_spi);
        }
        // What came of the first time may have died with us or with `ipsecmgr`.
        match session.phase {
            Phase::Arrived => {
                self.errands.extend(Errand::newer(session, only_one));
                if only_one {
                    self.end_older_elsewhere(ike_spi);
                }
            }
            Phase::Connected => {}
            Phase::Disconnecting => self.end_again(vec![ike_spi]),
        }
        self.sessions.get(ike_spi)
    }

    /// An `ipsecmgr` has slots from now on, with these sessions. Those in these slots that only earlier owners named and that it has not listed, when it has
    /// listed all, are over. Returns the IKE SPIs that are not known here.
    pub fn recovered(&mut self, recovered: &WorkerRecovered, now: Instant) -> Vec<u64> {
        let numbers = recovered.slots.iter().filter_map(|slot| u8::try_from(*slot).ok());
        let slots: BTreeSet<u8> = numbers
            .filter(|slot| self.hear_slot(*slot, recovered.tenure))
            .collect();
        let (mut unknown, mut ending) = (Vec::new(), Vec::new());
        for listed in &recovered.sessions {
            if !slots.contains(&slot(listed.ike_spi)) {
                continue;
            }
            match self.outlived(listed, now) {
                None => unknown.push(listed.ike_spi),
                Some(Phase::Disconnecting) => ending.push(listed.ike_spi),
                Some(Phase::Arrived | Phase::Connected) => {}
            }
        }
        self.end_again(ending);
        if recovered.more {
            return unknown;
        }
        let sessions = slots.iter().flat_map(|slot| self.sessions.in_slot(*slot));
        let older: Vec<u64> = sessions
            .filter(|(_, session)| session.tenure < recovered.tenure)
            .map(|(ike_spi, _)| ike_spi)
            .collect();
        for ike_spi in older {
            let released = Released {
                ike_spi,
                reason: Reason::IpsecmgrDeath.number(),
                ..Released::default()
            };
            self.released(&released, now);
        }
        unknown
    }

    /// A session goes on under a later owner of its slot; none if it is not known here.
    fn outlived(&mut self, listed: &RecoveredSession, now: Instant) -> Option<Phase> {
        let known_as = match self.sessions.get(listed.ike_spi) {
            Some(_) => listed.ike_spi,
            None => listed.known_as,
        };
        let tenure = self.tenure(known_as);
        let session = self.sessions.get_mut(known_as)?;
        session.tenure = tenure;
        let phase = session.phase;
        // What is listed has been established: news of it may have been on the way here.
        let connected = ConnectedSession {
            ike_spi: listed.ike_spi,
            was: known_as,
            spis: listed.spis.clone(),
        };
        self.connected(&connected, now);
        Some(phase)
    }
}

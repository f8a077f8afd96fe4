//! What a death of `ipsecmgr` does to sessions: it may ask again for what it was answered, and then says which sessions outlived it.

use std::time::Instant;

use bus::messages::sessmgr::{ConnectedSession, RecoveredSession, Released, WorkerRecovered};
use services::DisconnectReason as Reason;

use super::{Errand, State};
use crate::session::{Phase, Session};

impl State {
    /// The life of `ipsecmgr` that was heard last.
    pub fn life(&self) -> u32 {
        self.life
    }

    /// A life of `ipsecmgr` speaks. False if a later one has been heard already.
    pub fn hear_life(&mut self, life: u32) -> bool {
        self.life = self.life.max(life);
        self.life == life
    }

    /// The session of an IKE SPI that asks for admission again.
    pub fn repeat(&mut self, ike_spi: u64, only_one: bool) -> Option<&Session> {
        let life = self.life;
        let session = self.sessions.get_mut(ike_spi)?;
        if session.life != life {
            session.life = life;
            self.changed.sessions.insert(ike_spi);
        }
        // What came of the first time may have died with us or with `ipsecmgr`.
        match session.phase {
            Phase::Arrived => self.errands.extend(Errand::newer(session, only_one)),
            Phase::Connected => {}
            Phase::Disconnecting => self.end_again(vec![ike_spi]),
        }
        self.sessions.get(ike_spi)
    }

    /// `ipsecmgr` has begun a new life with these sessions. Those of its earlier lives that it has not listed, when it has listed all, are
    /// over. Returns the IKE SPIs that are not known here.
    pub fn recovered(&mut self, recovered: &WorkerRecovered, now: Instant) -> Vec<u64> {
        if !self.hear_life(recovered.life) {
            return Vec::new();
        }
        let (mut unknown, mut ending) = (Vec::new(), Vec::new());
        for listed in &recovered.sessions {
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
        let older = self
            .sessions
            .after(None)
            .filter(|(_, session)| session.life < self.life);
        let older: Vec<u64> = older.map(|(ike_spi, _)| ike_spi).collect();
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

    /// A session goes on under a later `ipsecmgr`; none if it is not known here.
    fn outlived(&mut self, listed: &RecoveredSession, now: Instant) -> Option<Phase> {
        let known_as = match self.sessions.get(listed.ike_spi) {
            Some(_) => listed.ike_spi,
            None => listed.known_as,
        };
        let life = self.life;
        let session = self.sessions.get_mut(known_as)?;
        session.life = life;
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

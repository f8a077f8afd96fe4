//! The desks to all `sessmgr`s: a session stays where it was admitted, whoever has its slot.

use std::collections::BTreeMap;

use bus::messages::sessmgr::{Admission, RecoveredSession};
use bus::{Address, Bus, Facility};
use tokio::sync::mpsc::{Sender, UnboundedSender};

use crate::questions::Found;
use crate::session_desk::{Asked, News, Outlived, SessionDesk};

/// One desk for each instance, so that none waits for another.
pub(crate) struct SessionDesks {
    /// That of our worker.
    own: u32,
    /// Of instance 1, 2, ...
    desks: Vec<SessionDesk>,
}

impl SessionDesks {
    /// Starts the desks to the `sessmgr`s of all `workers`; `own` is ours. Verdicts go to `found`.
    pub(crate) fn start(bus: &Bus, own: u32, workers: u32, found: &UnboundedSender<Found>) -> Self {
        let desk = |instance| {
            let sessmgr = Address::new(Facility::Sessmgr, instance);
            SessionDesk::start(bus, sessmgr, found.clone())
        };
        Self {
            own,
            desks: (1..=workers.max(own)).map(desk).collect(),
        }
    }

    /// Asks a `sessmgr` for admission; a [`Found::Verdict`] follows.
    pub(crate) fn admit(&self, sessmgr: u32, asked: Asked, admission: Admission) {
        if let Some(desk) = self.of(sessmgr) {
            desk.admit(asked, admission);
        }
    }

    /// Tells a `sessmgr`, as soon as it is there.
    pub(crate) fn tell(&self, sessmgr: u32, news: News) {
        if let Some(desk) = self.of(sessmgr) {
            desk.tell(news);
        }
    }

    /// Tells every `sessmgr` which of its sessions go on in these slots, which we have by this tenure: it may have others, and they are over.
    pub(crate) fn outlived(&self, tenure: u64, slots: &[u8], sessions: Vec<(u32, RecoveredSession)>) {
        let mut by_desk: BTreeMap<u32, Vec<RecoveredSession>> = BTreeMap::new();
        for (sessmgr, session) in sessions {
            let known = sessmgr as usize <= self.desks.len();
            let sessmgr = if known { sessmgr } else { self.own };
            by_desk.entry(sessmgr).or_default().push(session);
        }
        for (instance, desk) in (1..).zip(&self.desks) {
            desk.tell(News::Recovered(Outlived {
                tenure,
                slots: slots.iter().map(|slot| u32::from(*slot)).collect(),
                sessions: by_desk.remove(&instance).unwrap_or_default(),
            }));
        }
    }

    /// `mark` is dropped everywhere when all that was told before has been delivered.
    pub(crate) fn mark(&self, mark: &Sender<()>) {
        for desk in &self.desks {
            desk.tell(News::Mark(mark.clone()));
        }
    }

    /// The desk of an instance; ours for one that this node does not have.
    fn of(&self, sessmgr: u32) -> Option<&SessionDesk> {
        let at = |instance: u32| self.desks.get((instance as usize).checked_sub(1)?);
        at(sessmgr).or_else(|| at(self.own))
    }
}

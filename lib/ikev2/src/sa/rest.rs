//! An established IKE SA where nothing is going on rests: the shell keeps its record, and here stands what changes without being saved.

use std::sync::Arc;
use std::time::{Duration, Instant};

use zeroize::Zeroize;

use super::child::Phase;
use super::record::IV_GAP;
use super::{Class, IkeSa, State, bump};
use crate::env::{Core, Env};
use crate::event::Event;
use crate::output::IkeSaId;
use crate::profile::Profile;
use crate::sad::Sad;
use crate::table::Table;

/// Whoever must do something sooner than this does not rest.
const SOON: Duration = Duration::from_secs(10);
/// Unit of a [`Moment`].
const UNIT: Duration = Duration::from_millis(100);

/// What is known of an IKE SA besides its record. How many: one for each that rests.
pub(crate) struct Rest {
    profile: Arc<Profile>,
    /// See [`IkeSa`].
    armed: Option<Instant>,
    last_heard: Moment,
    responded: Moment,
    /// Since when, and how often, the last response was sent again: whoever has a record of the request does not get more by letting us rest.
    repeats: (Moment, u8),
    liveness: Option<Moment>,
    /// When the first of its child SAs is to be looked at.
    check: Option<Moment>,
    children: u32,
    initiator: bool,
    resumed: bool,
}

/// A time to the tenth of a second, from the epoch of the engine on; enough for 13 years.
#[derive(Debug, Clone, Copy)]
struct Moment(u32);

impl Moment {
    fn of(at: Instant, epoch: Instant) -> Self {
        let since = at.saturating_duration_since(epoch).as_millis() / UNIT.as_millis();
        Self(u32::try_from(since).unwrap_or(u32::MAX))
    }

    fn instant(self, epoch: Instant) -> Instant {
        epoch.checked_add(UNIT * self.0).unwrap_or(epoch)
    }
}

impl Core {
    /// Drops an IKE SA whose record is saved if it may rest.
    pub fn rest(&mut self, now: Instant, id: IkeSaId) {
        let (true, Some(epoch), Some(sa)) = (self.config.rests, self.config.epoch, self.table.get(id)) else {
            return;
        };
        if sa.may_rest(now, &self.table) {
            let rest = Rest::of(sa, epoch);
            self.table.rest(id, rest);
        }
    }
}

impl IkeSa {
    fn may_rest(&self, now: Instant, table: &Table) -> bool {
        let idle = matches!(self.state, State::Established)
            && !self.touched
            && self.outstanding.is_none()
            && self.reassembly.is_none()
            && self.tasks.is_empty()
            && self.contested_by.is_none();
        let settled = |child: &super::Child| child.phase == Phase::Active && child.replaced_by.is_none();
        idle && self.children.iter().all(settled)
            && self.deadlines.keepalive.is_none()
            && self.next_deadline().is_none_or(|at| at > now + SOON)
            && !self.predecessor.is_some_and(|before| table.exists(before))
    }
}

impl Rest {
    fn of(sa: &IkeSa, epoch: Instant) -> Self {
        let moment = |at| Moment::of(at, epoch);
        Self {
            profile: Arc::clone(&sa.profile),
            armed: sa.armed,
            last_heard: moment(sa.last_heard),
            responded: moment(sa.responded),
            repeats: (moment(sa.repeats.0), sa.repeats.1),
            liveness: sa.deadlines.liveness.map(moment),
            check: sa
                .children
                .iter()
                .filter_map(|child| child.check)
                .min()
                .map(moment),
            children: u32::try_from(sa.children.len()).unwrap_or(u32::MAX),
            initiator: sa.initiator,
            resumed: sa.resumed,
        }
    }

    /// False if a timer entry for `at` is stale.
    pub fn is_armed_for(&self, at: Instant) -> bool {
        self.armed == Some(at)
    }

    /// The IKE SA as it was saved, to be looked at.
    pub fn read(&self, id: IkeSaId, epoch: Instant, sad: &dyn Sad) -> Option<Box<IkeSa>> {
        self.read_into(id, epoch, sad, &mut Vec::new())
    }

    fn read_into(
        &self,
        id: IkeSaId,
        epoch: Instant,
        sad: &dyn Sad,
        record: &mut Vec<u8>,
    ) -> Option<Box<IkeSa>> {
        record.clear();
        let found = sad.load(id, record);
        let sa = IkeSa::load(id, record, epoch, &self.profile).filter(|_| found);
        record.as_mut_slice().zeroize();
        sa
    }

    /// The IKE SA goes on. `None`: its record is lost, and it with it.
    pub fn wake(&self, env: &mut Env<'_>, id: IkeSaId) -> Option<Box<IkeSa>> {
        let mut record = std::mem::take(&mut env.core.loaded);
        let epoch = env.core.config.epoch;
        let sa = epoch.and_then(|epoch| self.read_into(id, epoch, env.sad, &mut record));
        env.core.loaded = record;
        let (Some(mut sa), Some(epoch)) = (sa, epoch) else {
            self.mourn(env, id);
            return None;
        };
        sa.armed = self.armed;
        sa.last_heard = self.last_heard.instant(epoch);
        sa.responded = self.responded.instant(epoch);
        sa.repeats = (self.repeats.0.instant(epoch), self.repeats.1);
        sa.deadlines.liveness = self.liveness.map(|at| at.instant(epoch));
        for child in &mut sa.children {
            child.check = self.check.map(|at| at.instant(epoch));
            child.look(env.sad);
        }
        if self.resumed {
            sa.next_iv += IV_GAP;
            sa.resumed = true;
        }
        Some(sa)
    }

    /// It goes on in another engine, or not at all: the totals forget it.
    pub fn leave(&self, core: &mut Core) {
        core.totals.children = core.totals.children.saturating_sub(self.children);
        bump(&mut core.totals, Class::Established, self.initiator, -1);
    }

    fn mourn(&self, env: &mut Env<'_>, id: IkeSaId) {
        let core = &mut *env.core;
        core.table.release(id);
        core.peers.retain(|(_, of)| *of != id);
        self.leave(core);
        if core.sink.is_some() {
            core.changed.push(id);
        }
        env.event(Event::RecordLost { ike: id });
    }
}

//! An established IKE SA where nothing is going on rests: the shell keeps its record, and here stands what changes without being saved.

use std::num::{NonZeroU32, NonZeroU64};
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

/// What is known of an IKE SA besides its record. How many: one for each that rests, which may be a million, so each octet counts.
pub(crate) struct Rest {
    profile: Arc<Profile>,
    /// See [`IkeSa`]; nanoseconds after the epoch, and one.
    armed: Option<NonZeroU64>,
    last_heard: Moment,
    responded: Moment,
    /// Since when the last response was sent again: whoever has a record of the request does not get more by letting us rest.
    repeated: Moment,
    liveness: Option<Moment>,
    /// When the first of its child SAs is to be looked at.
    check: Option<Moment>,
    children: u16,
    /// How often the last response was sent again.
    repeats: u8,
    role: Role,
}

/// What one octet says.
#[derive(Clone, Copy)]
struct Role(u8);

impl Role {
    const INITIATOR: u8 = 1;
    const RESUMED: u8 = 2;

    fn of(sa: &IkeSa) -> Self {
        let initiator = if sa.initiator { Self::INITIATOR } else { 0 };
        let resumed = if sa.resumed { Self::RESUMED } else { 0 };
        Self(initiator | resumed)
    }

    fn has(self, flag: u8) -> bool {
        self.0 & flag != 0
    }
}

/// A time to the tenth of a second, from the epoch of the engine on, and one; enough for 13 years.
#[derive(Debug, Clone, Copy)]
struct Moment(NonZeroU32);

impl Moment {
    fn of(at: Instant, epoch: Instant) -> Self {
        let since = at.saturating_duration_since(epoch).as_millis() / UNIT.as_millis();
        let since = u32::try_from(since).unwrap_or(u32::MAX);
        Self(NonZeroU32::MIN.saturating_add(since))
    }

    fn instant(self, epoch: Instant) -> Instant {
        epoch.checked_add(UNIT * (self.0.get() - 1)).unwrap_or(epoch)
    }
}

/// When an IKE SA is due, to the nanosecond: the entry among the timers is known by it.
fn exactly(at: Instant, epoch: Instant) -> NonZeroU64 {
    let since = u64::try_from(at.saturating_duration_since(epoch).as_nanos()).unwrap_or(u64::MAX);
    NonZeroU64::MIN.saturating_add(since)
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
            armed: sa.armed.map(|at| exactly(at, epoch)),
            last_heard: moment(sa.last_heard),
            responded: moment(sa.responded),
            repeated: moment(sa.repeats.0),
            liveness: sa.deadlines.liveness.map(moment),
            check: sa
                .children
                .iter()
                .filter_map(|child| child.check)
                .min()
                .map(moment),
            children: u16::try_from(sa.children.len()).unwrap_or(u16::MAX),
            repeats: sa.repeats.1,
            role: Role::of(sa),
        }
    }

    /// False if a timer entry for `at` is stale.
    pub fn is_armed_for(&self, at: Instant, epoch: Instant) -> bool {
        self.armed == Some(exactly(at, epoch))
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
        sa.armed = self
            .armed
            .and_then(|at| epoch.checked_add(Duration::from_nanos(at.get() - 1)));
        sa.last_heard = self.last_heard.instant(epoch);
        sa.responded = self.responded.instant(epoch);
        sa.repeats = (self.repeated.instant(epoch), self.repeats);
        sa.deadlines.liveness = self.liveness.map(|at| at.instant(epoch));
        for child in &mut sa.children {
            child.check = self.check.map(|at| at.instant(epoch));
            child.look(env.sad);
        }
        if self.role.has(Role::RESUMED) {
            sa.next_iv += IV_GAP;
            sa.resumed = true;
        }
        Some(sa)
    }

    /// It goes on in another engine, or not at all: the totals forget it.
    pub fn leave(&self, core: &mut Core) {
        core.totals.children = core.totals.children.saturating_sub(self.children.into());
        bump(
            &mut core.totals,
            Class::Established,
            self.role.has(Role::INITIATOR),
            -1,
        );
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_rests_is_small_and_its_times_are_kept() {
        assert_eq!(size_of::<Rest>(), 40);
        let epoch = Instant::now();
        for (after, kept) in [(0, 0), (99, 0), (100, 100), (86_400_123, 86_400_100)] {
            let at = epoch + Duration::from_millis(after);
            let moment = Moment::of(at, epoch).instant(epoch);
            assert_eq!(moment, epoch + Duration::from_millis(kept));
            let exact = exactly(at + Duration::from_nanos(1), epoch).get();
            assert_eq!(exact, after * 1_000_000 + 2);
        }
    }
}

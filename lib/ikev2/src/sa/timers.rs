//! Deadlines of an IKE SA.

use std::time::{Duration, Instant};

use super::tasks::Task;
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, RemoveReason, SetupFailure};
use crate::record::stored;

/// A dead IKE SA answers retransmissions of the last request this long.
const LINGER: Duration = Duration::from_secs(10);
/// An IKE SA that was replaced by the peer waits this long for its delete, then we delete it.
const REPLACED_WAIT: Duration = Duration::from_secs(30);

/// What is due when, apart from the outstanding request and the child SAs.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    /// End of set-up; later: end of lingering, or of waiting to be deleted.
    pub phase: Option<Instant>,
    pub rekey: Option<Instant>,
    pub expire: Option<Instant>,
    pub liveness: Option<Instant>,
    pub keepalive: Option<Instant>,
    /// Tasks wait until then, after a TEMPORARY_FAILURE.
    pub retry: Option<Instant>,
}

// Those for the signs of life begin anew.
stored!(Deadlines { phase, rekey, expire, retry } without {
    liveness: None,
    keepalive: None,
});

impl IkeSa {
    /// Sees to it that the engine wakes it for its earliest deadline.
    pub fn arm(&mut self, env: &mut Env<'_>) {
        let Some(next) = self.next_deadline() else { return };
        if self.armed.is_none_or(|armed| next < armed) {
            self.armed = Some(next);
            env.core.timers.push(next, self.id);
        }
    }

    /// A timer entry for `at` came up. False if it is stale.
    pub fn disarm(&mut self, at: Instant) -> bool {
        let current = self.armed == Some(at);
        if current {
            self.armed = None;
        }
        current
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let Deadlines {
            phase,
            rekey,
            expire,
            liveness,
            keepalive,
            retry,
        } = self.deadlines;
        let children = self.children.iter().filter_map(|child| child.next_deadline());
        let request = self
            .outstanding
            .as_ref()
            .map(|outstanding| outstanding.deadline());
        [phase, rekey, expire, liveness, keepalive, retry, request]
            .into_iter()
            .flatten()
            .chain(children)
            .min()
    }

    /// Does what is due.
    pub fn on_timer(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        if self.deadlines.phase.is_some_and(|at| at <= now) {
            self.deadlines.phase = None;
            self.on_phase_end(env);
        }
        if self
            .outstanding
            .as_ref()
            .is_some_and(|outstanding| outstanding.deadline() <= now)
        {
            self.retransmit(env);
        }
        if self.is_dead() {
            return;
        }
        if self.deadlines.expire.is_some_and(|at| at <= now) {
            self.deadlines.expire = None;
            env.count(Count::IkeHardLifetime);
            self.start_delete(env, RemoveReason::Lifetime);
        }
        if self.deadlines.rekey.is_some_and(|at| at <= now) {
            self.deadlines.rekey = None;
            env.count(Count::IkeSoftLifetime);
            self.add_task(Task::RekeyIke);
        }
        if self.deadlines.liveness.is_some_and(|at| at <= now) {
            self.on_liveness_timer(env);
        }
        if self.deadlines.keepalive.is_some_and(|at| at <= now) {
            env.transmit_keepalive(self.path);
            env.count(Count::KeepaliveSent);
            self.deadlines.keepalive = self.profile.nat_keepalive.map(|interval| now + interval);
        }
        if self.deadlines.retry.is_some_and(|at| at <= now) {
            self.deadlines.retry = None;
        }
        self.on_child_timers(env);
        self.run_tasks(env);
    }

    fn on_phase_end(&mut self, env: &mut Env<'_>) {
        match self.state {
            State::InitReplied(_) => self.fail(env, SetupFailure::Timeout { half_open: true }, false),
            State::InitSent(_) | State::AuthSent(_) | State::AuthReceived(_) => {
                self.fail(env, SetupFailure::Timeout { half_open: false }, false);
            }
            State::Lingering | State::Closing(_) => {
                self.give_up(env, RemoveReason::Local, SetupFailure::Cancelled)
            }
            State::Replaced { .. } => self.add_task(Task::DeleteIke(RemoveReason::Rekeyed)),
            State::Established | State::Dead => {}
        }
    }

    /// Timers of an IKE SA that has just come into use.
    pub(super) fn start_lifetime(&mut self, env: &mut Env<'_>) {
        let lifetime = self.profile.lifetime;
        self.created = env.now;
        self.deadlines = Deadlines {
            expire: lifetime.time.map(|time| env.now + time),
            liveness: self.profile.liveness.map(|liveness| env.now + liveness.interval),
            ..Deadlines::default()
        };
        if let (Some(time), true) = (lifetime.time, lifetime.rekey) {
            self.deadlines.rekey = Some(env.now + env.jitter(time, SOFT_LOW, SOFT_HIGH));
        }
        if self.nat.local {
            self.deadlines.keepalive = self.profile.nat_keepalive.map(|interval| env.now + interval);
        }
    }

    pub(super) fn linger(&mut self, env: &mut Env<'_>) {
        self.deadlines.phase = Some(env.now + LINGER);
    }

    pub(super) fn wait_for_delete(&mut self, env: &mut Env<'_>) {
        self.deadlines = Deadlines {
            phase: Some(env.now + REPLACED_WAIT),
            ..Deadlines::default()
        };
    }

    /// RFC 7296 2.4: silence alone proves nothing; ESP counts as a sign of life too.
    fn on_liveness_timer(&mut self, env: &mut Env<'_>) {
        let Some(liveness) = self.profile.liveness else {
            self.deadlines.liveness = None;
            return;
        };
        self.follow_data(env);
        let heard = self
            .children
            .iter()
            .filter_map(|child| env.sad.usage(child.inbound_spi).last_inbound)
            .fold(self.last_heard, Instant::max);
        let due = heard + liveness.interval;
        if due > env.now {
            self.deadlines.liveness = Some(due);
            return;
        }
        self.deadlines.liveness = Some(env.now + liveness.interval);
        // A request under way finds out as well.
        if matches!(self.state, State::Established) && self.outstanding.is_none() {
            self.add_task(Task::Liveness);
        }
    }
}

/// What should have happened while nobody was there happens soon, but not all at once, and well before `end`.
pub(super) fn spread_overdue(env: &mut Env<'_>, deadline: &mut Option<Instant>, end: Option<Instant>) {
    if deadline.is_some_and(|at| at <= env.now) {
        let room = end.map_or(SPREAD, |end| end.saturating_duration_since(env.now) / 4);
        *deadline = Some(env.now + env.jitter(room.min(SPREAD), 0, 1000));
    }
}

/// See [`spread_overdue`].
const SPREAD: Duration = Duration::from_secs(5);

/// Rekeying begins between these parts of the lifetime, in thousandths. Spreading it makes collisions, and a storm after a
/// storm of set-ups, unlikely.
pub(super) const SOFT_LOW: u32 = 850;
/// See [`SOFT_LOW`].
pub(super) const SOFT_HIGH: u32 = 950;

//! Child SAs: installing, timers, removal.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::accept::Accepted;
use super::tasks::Task;
use super::timers::{SOFT_HIGH, SOFT_LOW, spread_overdue};
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, Event, RemoveReason};
use crate::negotiate::EspAlgorithms;
use crate::output::{ChildKeys, ChildSa, Output};
use crate::profile::{ChildLifetime, ChildProfile, SelectorPolicy};
use crate::record::{stored, stored_enum};
use crate::recovery::RestoredChild;
use crate::sad::{Sad, Usage};
use crate::selectors::TrafficSelector;

/// Sequence numbers are looked at this often.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// The same until this many packets went out: at 10 million packets in a second the rest lasts for longer.
const EARLY_PACKETS: u64 = SOFT_PACKETS / 3;
/// See [`EARLY_PACKETS`].
const EARLY_CHECK_INTERVAL: Duration = Duration::from_secs(180);
/// With a kilobyte lifetime more often: at 10 Gbit/s this is 1.25 GB.
const KILOBYTE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Without ESN a child SA is rekeyed when this many packets went out (RFC 4303 3.3.3), well before 2^32.
const SOFT_PACKETS: u64 = 3 << 30;

/// A child SA of an IKE SA.
pub(crate) struct Child {
    pub profile: Arc<ChildProfile>,
    pub inbound_spi: u32,
    pub outbound_spi: u32,
    pub algorithms: EspAlgorithms,
    pub local: Arc<[TrafficSelector]>,
    pub remote: Arc<[TrafficSelector]>,
    pub phase: Phase,
    /// Our SPI of the one that replaces it.
    pub replaced_by: Option<u32>,
    /// The data plane sends with it.
    pub sends: bool,
    /// It was made beside another with the same traffic selectors (RFC 9611).
    pub per_resource: bool,
    /// So many we have made beside it.
    pub made_beside: u8,
    pub created: Instant,
    pub rekey: Option<Instant>,
    pub expire: Option<Instant>,
    pub(super) check: Option<Instant>,
    /// Where ESP last said that the peer is.
    pub learned: Option<SocketAddr>,
    /// The soft limit has been reported.
    soft_reached: bool,
    /// What it had carried in one direction when it was looked at last.
    checked_bytes: u64,
}

stored!(Child {
    profile,
    inbound_spi,
    outbound_spi,
    algorithms,
    local,
    remote,
    phase,
    replaced_by,
    sends,
    created,
    rekey,
    expire,
    learned,
    soft_reached,
} without {
    per_resource: false,
    made_beside: 0,
    check: None,
    checked_bytes: 0,
});

stored_enum!(Phase { 1 => Active, 2 => Pending(old), 3 => Deleting(reason), 4 => Draining });

/// How far a child SA is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// In use.
    Active,
    /// Receives; sends when the one with this SPI of ours goes (made by a rekey of the peer).
    Pending(u32),
    /// Our delete is under way or waits for its turn.
    Deleting(RemoveReason),
    /// Deleted with the peer; still receives what is on the way.
    Draining,
}

/// A child SA to be installed.
pub(super) struct NewChild {
    pub accepted: Accepted,
    pub inbound_spi: u32,
    pub outbound_spi: u32,
    pub inbound_keys: ChildKeys,
    pub outbound_keys: ChildKeys,
    /// Our SPI of the one whose place it takes once that one goes.
    pub replaces: Option<u32>,
    /// It stands beside another with the same traffic selectors. One that takes another's place does if that did.
    pub per_resource: bool,
    pub initiator: bool,
}

impl Child {
    pub fn next_deadline(&self) -> Option<Instant> {
        [self.rekey, self.expire, self.check].into_iter().flatten().min()
    }

    /// What a later life must know of it.
    pub fn restored(&self) -> RestoredChild {
        RestoredChild {
            inbound_spi: self.inbound_spi,
            outbound_spi: self.outbound_spi,
            outbound_active: self.sends,
            replaces: match self.phase {
                Phase::Pending(old) => Some(old),
                _ => None,
            },
        }
    }

    /// Goes on in a later life: what is overdue is spread over some time.
    pub fn resume(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        spread_overdue(env, &mut self.expire, None);
        spread_overdue(env, &mut self.rekey, self.expire);
        let usage = env.sad.usage(self.inbound_spi);
        if self.is_live() {
            let interval = check_interval(&self.profile.lifetime, &self.algorithms, usage.outbound_packets);
            self.check = interval.map(|interval| now + env.jitter(interval, 0, 1000));
        }
        self.look(env.sad);
    }

    /// If its profile has gone from the configuration, it goes on as it is.
    pub fn complete_profile(&mut self) {
        if self.profile.proposals.is_empty() {
            self.profile = Arc::new(ChildProfile::new(
                &self.profile.name,
                vec![self.algorithms.into()],
                SelectorPolicy::Ranges(self.local.to_vec()),
                SelectorPolicy::Ranges(self.remote.to_vec()),
            ));
        }
    }

    /// Takes what it carries now for what it had carried when it was looked at last.
    pub fn look(&mut self, sad: &dyn Sad) {
        let usage = sad.usage(self.inbound_spi);
        self.checked_bytes = usage.inbound_bytes.max(usage.outbound_bytes);
    }

    /// In use or about to be.
    pub fn is_live(&self) -> bool {
        matches!(self.phase, Phase::Active | Phase::Pending(_))
    }

    /// Packets leave with it.
    pub fn carries(&self) -> bool {
        self.is_live() && self.sends
    }

    /// Live and not replaced.
    pub fn is_current(&self) -> bool {
        self.is_live() && self.replaced_by.is_none()
    }
}

impl IkeSa {
    pub(super) fn child(&self, inbound_spi: u32) -> Option<&Child> {
        self.children
            .iter()
            .find(|child| child.inbound_spi == inbound_spi)
    }

    pub(super) fn child_mut(&mut self, inbound_spi: u32) -> Option<&mut Child> {
        self.children
            .iter_mut()
            .find(|child| child.inbound_spi == inbound_spi)
    }

    /// Installs a child SA, before the message that tells the peer.
    pub(super) fn install_child(&mut self, env: &mut Env<'_>, new: NewChild) {
        let Accepted {
            profile,
            chosen,
            local,
            remote,
            ..
        } = new.accepted;
        let algorithms = chosen.algorithms;
        let (local, remote): (Arc<[_]>, Arc<[_]>) = (local.into(), remote.into());
        let lifetime = profile.lifetime;
        let bytes = lifetime.kilobytes.map(|kilobytes| kilobytes.saturating_mul(1000));
        env.core.outputs.push_back(Output::Install(Box::new(ChildSa {
            ike: self.id,
            profile: Arc::clone(&self.profile),
            child: Arc::clone(&profile),
            inbound_spi: new.inbound_spi,
            outbound_spi: new.outbound_spi,
            outbound_active: new.replaces.is_none(),
            replaces: new.replaces,
            cipher: algorithms.cipher,
            integrity: algorithms.integrity,
            esn: algorithms.esn,
            inbound_keys: new.inbound_keys,
            outbound_keys: new.outbound_keys,
            udp_encapsulation: self.nat.any(),
            path: self.path,
            local_selectors: Arc::clone(&local),
            remote_selectors: Arc::clone(&remote),
            configuration: self
                .parties
                .as_ref()
                .and_then(|parties| parties.configuration.clone()),
            lifetime: lifetime.time,
            lifetime_bytes: bytes,
        })));
        let replaced = new.replaces.and_then(|spi| self.child(spi));
        let per_resource = new.per_resource || replaced.is_some_and(|child| child.per_resource);
        let rekey = match (lifetime.time, lifetime.rekey) {
            (Some(time), true) => Some(env.now + env.jitter(time, SOFT_LOW, SOFT_HIGH)),
            _ => None,
        };
        self.children.push(Child {
            profile,
            inbound_spi: new.inbound_spi,
            outbound_spi: new.outbound_spi,
            algorithms,
            local,
            remote,
            phase: new.replaces.map_or(Phase::Active, Phase::Pending),
            replaced_by: None,
            sends: new.replaces.is_none(),
            per_resource,
            made_beside: 0,
            created: env.now,
            rekey,
            expire: lifetime.time.map(|time| env.now + time),
            check: check_interval(&lifetime, &algorithms, 0).map(|interval| env.now + interval),
            learned: None,
            soft_reached: false,
            checked_bytes: 0,
        });
        env.core.totals.children += 1;
        if let Some(old) = new.replaces.and_then(|spi| self.child_mut(spi)) {
            old.replaced_by = Some(new.inbound_spi);
            old.rekey = None;
        }
        env.event(Event::ChildCreated {
            ike: self.id,
            inbound_spi: new.inbound_spi,
            replaces: new.replaces,
            initiator: new.initiator,
        });
        if new.per_resource {
            env.count(Count::PerResourceCreated(new.initiator));
        }
        self.want_beside_new(env, new.inbound_spi);
    }

    /// Sends with this child SA from now on, and not with the one it replaces.
    pub(super) fn activate_child(&mut self, env: &mut Env<'_>, inbound_spi: u32, replaces: u32) {
        let Some(child) = self.child_mut(inbound_spi) else {
            return;
        };
        child.phase = Phase::Active;
        child.sends = true;
        if let Some(old) = self.child_mut(replaces) {
            old.sends = false;
        }
        env.core.outputs.push_back(Output::Activate {
            inbound_spi,
            replaces,
        });
    }

    /// A child SA is deleted with the peer. One that was replaced drains first, any other goes at once.
    pub(super) fn child_deleted(&mut self, env: &mut Env<'_>, inbound_spi: u32, reason: RemoveReason) {
        let Some(child) = self.child(inbound_spi) else {
            return;
        };
        let successor = child.replaced_by;
        if let Some(successor) = successor.and_then(|spi| self.child(spi))
            && successor.phase == Phase::Pending(inbound_spi)
        {
            let successor = successor.inbound_spi;
            self.activate_child(env, successor, inbound_spi);
        }
        let linger = env.core.config.rekeyed_child_linger;
        if successor.is_some() && !linger.is_zero() {
            let until = env.now + linger;
            if let Some(child) = self.child_mut(inbound_spi) {
                child.phase = Phase::Draining;
                child.rekey = None;
                child.check = None;
                child.expire = Some(until);
            }
            return;
        }
        self.remove_child(env, inbound_spi, reason);
    }

    /// Forgets a child SA and has it erased.
    pub(super) fn remove_child(&mut self, env: &mut Env<'_>, inbound_spi: u32, reason: RemoveReason) {
        self.promote_beside(inbound_spi);
        let before = self.children.len();
        self.children.retain(|child| child.inbound_spi != inbound_spi);
        if self.children.len() == before {
            return;
        }
        env.core.totals.children = env.core.totals.children.saturating_sub(1);
        env.core.outputs.push_back(Output::Remove {
            ike: self.id,
            inbound_spi,
            reason,
        });
    }

    /// Without child SAs an IKE SA goes too, unless it may be empty.
    pub(super) fn check_empty(&mut self, env: &mut Env<'_>) {
        let live = self
            .children
            .iter()
            .any(|child| !matches!(child.phase, Phase::Draining));
        let creating = self.is_creating_child();
        if !live && !creating && !self.profile.allow_empty && matches!(self.state, State::Established) {
            self.start_delete(env, RemoveReason::Empty);
        }
    }

    pub(super) fn on_child_timers(&mut self, env: &mut Env<'_>) {
        let now = env.now;
        let due: Vec<u32> = self
            .children
            .iter()
            .filter(|child| child.next_deadline().is_some_and(|at| at <= now))
            .map(|child| child.inbound_spi)
            .collect();
        for spi in due {
            self.on_child_timer(env, spi);
        }
    }

    fn on_child_timer(&mut self, env: &mut Env<'_>, spi: u32) {
        let now = env.now;
        let usage = env.sad.usage(spi);
        let Some(child) = self.child_mut(spi) else { return };
        if child.expire.is_some_and(|at| at <= now) {
            child.expire = None;
            if child.phase == Phase::Draining {
                return self.remove_child(env, spi, RemoveReason::Rekeyed);
            }
            env.count(Count::ChildHardLifetime);
            return self.start_child_delete(spi, RemoveReason::Lifetime);
        }
        let (mut soft, mut hard) = (false, false);
        if child.rekey.is_some_and(|at| at <= now) {
            child.rekey = None;
            soft = true;
        }
        if child.check.is_some_and(|at| at <= now) {
            let interval = check_interval(&child.profile.lifetime, &child.algorithms, usage.outbound_packets);
            child.check = interval.map(|interval| now + interval);
            let reached = volume(child, &usage);
            hard = reached == Volume::Hard;
            soft |= reached == Volume::Soft && !child.soft_reached;
        }
        if hard {
            env.count(Count::ChildHardLifetime);
            return self.start_child_delete(spi, RemoveReason::Lifetime);
        }
        if soft && child.is_current() {
            child.soft_reached = true;
            let idle = usage.inbound_packets == 0 && usage.outbound_packets == 0;
            let lifetime = child.profile.lifetime;
            env.count(Count::ChildSoftLifetime);
            if lifetime.rekey && (!idle || lifetime.rekey_idle) {
                self.add_task(Task::RekeyChild(spi));
            }
        }
    }

    /// The child SA is to be deleted, when our turn comes.
    pub(super) fn start_child_delete(&mut self, spi: u32, reason: RemoveReason) {
        let Some(child) = self.child_mut(spi) else { return };
        if child.is_live() {
            child.phase = Phase::Deleting(reason);
            child.rekey = None;
            child.expire = None;
            child.check = None;
            self.add_task(Task::DeleteChild(spi));
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Volume {
    Below,
    Soft,
    Hard,
}

/// Looks at what a child SA has carried. One that passed both limits since the last look gets its rekey first, and the time until the next look for it.
fn volume(child: &mut Child, usage: &Usage) -> Volume {
    let bytes = usage.inbound_bytes.max(usage.outbound_bytes);
    let growth = bytes.saturating_sub(std::mem::replace(&mut child.checked_bytes, bytes));
    if let Some(kilobytes) = child.profile.lifetime.kilobytes {
        let hard = kilobytes.saturating_mul(1000);
        let may_rekey = child.profile.lifetime.rekey && child.is_current() && !child.soft_reached;
        if bytes >= hard && !may_rekey {
            return Volume::Hard;
        }
        // Before the next look, if it goes on like this.
        if bytes.saturating_add(growth) >= hard / 10 * 9 {
            return Volume::Soft;
        }
    }
    if !child.algorithms.esn && usage.outbound_packets >= SOFT_PACKETS {
        return Volume::Soft;
    }
    Volume::Below
}

/// How often to look at what a child SA carries that has sent so many packets; `None`: it may carry as much as it likes.
fn check_interval(lifetime: &ChildLifetime, algorithms: &EspAlgorithms, packets: u64) -> Option<Duration> {
    match lifetime.kilobytes {
        Some(_) => Some(KILOBYTE_CHECK_INTERVAL),
        None if algorithms.esn => None,
        None if packets < EARLY_PACKETS => Some(EARLY_CHECK_INTERVAL),
        None => Some(CHECK_INTERVAL),
    }
}

//! The tunnels of a load, and what became of them.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Display;
use std::time::{Duration, Instant};

use ikev2::{ChildSa, Count, Event, IkeSaId, RemoveReason};
use serde_json::{Value, json};

use crate::fleet::Crew;
use crate::histogram::{Histogram, line};

/// Causes that are told apart.
const MOST_CAUSES: usize = 20;
const OTHER: &str = "other causes";

/// How often something happened for each cause.
#[derive(Debug, Clone, Default)]
pub(crate) struct Causes(BTreeMap<String, u64>);

/// What a load has done so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub requested: u64,
    pub set_up: u64,
    /// Set-ups that failed.
    pub failed: Causes,
    /// Tunnels that were up and that nobody here deleted.
    pub lost: Causes,
    pub deleted: u64,
    pub rekeyed: u64,
    pub rekey_failed: Causes,
    /// IKE requests that had to be sent again.
    pub retransmissions: u64,
    /// From the first request to the end of the last set-up.
    pub setup_seconds: f64,
    pub rekey_seconds: f64,
    /// From when a set-up was due to the tunnel.
    setup: Histogram,
    rekey: Histogram,
}

/// The tunnels.
pub(super) struct Tunnels {
    pub outcome: Outcome,
    /// Number of the first peer.
    first: u64,
    tunnels: Vec<Tunnel>,
    by_ike: HashMap<IkeSaId, usize>,
    setting_up: usize,
    /// Other things under way.
    busy: usize,
    hold: Option<Duration>,
    /// When a tunnel is to be deleted; all are held equally long, so this is in order.
    held: VecDeque<(Instant, usize)>,
}

#[derive(Debug, Clone, Copy)]
struct Tunnel {
    ike: IkeSaId,
    inbound_spi: u32,
    phase: Phase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Not begun, failed, lost or deleted.
    Down,
    /// Since it was due.
    SettingUp(Instant),
    Up,
    Rekeying(Instant),
    Deleting,
}

impl Tunnels {
    pub(super) fn new(first: u32, count: u32, hold: Option<Duration>) -> Self {
        let tunnel = Tunnel {
            ike: IkeSaId(0),
            inbound_spi: 0,
            phase: Phase::Down,
        };
        Self {
            outcome: Outcome {
                requested: u64::from(count),
                ..Outcome::default()
            },
            first: u64::from(first),
            tunnels: vec![tunnel; usize::try_from(count).unwrap_or_default()],
            by_ike: HashMap::new(),
            setting_up: 0,
            busy: 0,
            hold,
            held: VecDeque::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.tunnels.len()
    }

    /// Set-ups under way.
    pub(super) fn setting_up(&self) -> usize {
        self.setting_up
    }

    /// Other things under way.
    pub(super) fn busy(&self) -> usize {
        self.busy
    }

    /// Whether a tunnel is there that is to be deleted when its time is over.
    pub(super) fn is_holding(&self) -> bool {
        self.hold.is_some() && (!self.held.is_empty() || self.busy > 0)
    }

    /// Notes that a set-up begins, which was due then; gives the number of its peer.
    pub(super) fn begin(&mut self, index: usize, due: Instant) -> usize {
        if let Some(tunnel) = self.tunnels.get_mut(index) {
            tunnel.phase = Phase::SettingUp(due);
            self.setting_up += 1;
        }
        index + usize::try_from(self.first).unwrap_or_default()
    }

    /// A tunnel whose time is over, to be deleted.
    pub(super) fn take_held(&mut self, now: Instant) -> Option<IkeSaId> {
        loop {
            let (_, index) = self.held.pop_front_if(|(due, _)| *due <= now)?;
            if let Some(ike) = self.deleting(index) {
                return Some(ike);
            }
        }
    }

    /// Notes that a tunnel gets new keys, if it is up; gives its IKE SA and its inbound SPI.
    pub(super) fn rekeying(&mut self, index: usize) -> Option<(IkeSaId, u32)> {
        let tunnel = self.begin_other(index, Phase::Rekeying(Instant::now()))?;
        Some((tunnel.ike, tunnel.inbound_spi))
    }

    /// Notes that a tunnel is deleted, if it is up.
    pub(super) fn deleting(&mut self, index: usize) -> Option<IkeSaId> {
        Some(self.begin_other(index, Phase::Deleting)?.ike)
    }

    /// Notes that the gateway is asked for a tunnel, if it is up.
    pub(super) fn checking(&mut self, index: usize) -> Option<IkeSaId> {
        Some(self.begin_other(index, Phase::Up)?.ike)
    }

    /// Nothing more will come of what is under way.
    pub(super) fn give_up(&mut self) {
        for tunnel in &mut self.tunnels {
            match std::mem::replace(&mut tunnel.phase, Phase::Down) {
                Phase::Rekeying(_) => self.outcome.rekey_failed.add("no answer"),
                Phase::Deleting | Phase::SettingUp(_) | Phase::Down => {}
                Phase::Up => tunnel.phase = Phase::Up,
            }
        }
        self.busy = 0;
    }

    fn begin_other(&mut self, index: usize, phase: Phase) -> Option<Tunnel> {
        let tunnel = self.tunnels.get_mut(index)?;
        if tunnel.phase != Phase::Up {
            return None;
        }
        tunnel.phase = phase;
        self.busy += 1;
        Some(*tunnel)
    }

    fn index(&self, tag: u64) -> Option<usize> {
        usize::try_from(tag.checked_sub(self.first)?).ok()
    }

    fn of(&mut self, ike: IkeSaId) -> Option<&mut Tunnel> {
        let index = self.by_ike.get(&ike)?;
        self.tunnels.get_mut(*index)
    }

    /// The set-up of a tunnel is over: since when it was due.
    fn settle(&mut self, tag: u64, phase: Phase) -> Option<(usize, Instant)> {
        let index = self.index(tag)?;
        let tunnel = self.tunnels.get_mut(index)?;
        let Phase::SettingUp(due) = tunnel.phase else {
            return None;
        };
        tunnel.phase = phase;
        self.setting_up -= 1;
        Some((index, due))
    }

    /// New keys are there, or not.
    fn rekeyed(&mut self, ike: IkeSaId, failure: Option<&dyn Display>) {
        let Some(tunnel) = self.of(ike) else { return };
        let Phase::Rekeying(since) = tunnel.phase else {
            return;
        };
        tunnel.phase = Phase::Up;
        self.busy = self.busy.saturating_sub(1);
        match failure {
            Some(cause) => self.outcome.rekey_failed.add(cause),
            None => {
                self.outcome.rekeyed += 1;
                self.outcome.rekey.record(since.elapsed());
            }
        }
    }

    fn removed(&mut self, ike: IkeSaId, reason: RemoveReason) {
        let Some(index) = self.by_ike.remove(&ike) else {
            return;
        };
        let Some(tunnel) = self.tunnels.get_mut(index) else {
            return;
        };
        match std::mem::replace(&mut tunnel.phase, Phase::Down) {
            Phase::Deleting => {
                self.outcome.deleted += 1;
                self.busy = self.busy.saturating_sub(1);
            }
            Phase::Rekeying(_) => {
                self.outcome.lost.add(reason);
                self.busy = self.busy.saturating_sub(1);
            }
            Phase::Up => self.outcome.lost.add(reason),
            Phase::Down | Phase::SettingUp(_) => {}
        }
    }
}

impl Crew for Tunnels {
    fn install(&mut self, child: &ChildSa) {
        let index = self.index(child.profile.tag);
        if let Some(tunnel) = index.and_then(|index| self.tunnels.get_mut(index)) {
            tunnel.inbound_spi = child.inbound_spi;
        }
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Established(established) => {
                let tag = established.profile.tag;
                if established.child.is_none() {
                    self.settle(tag, Phase::Down);
                    self.outcome.failed.add("IKE SA without child SA");
                } else if let Some((index, due)) = self.settle(tag, Phase::Up) {
                    self.outcome.set_up += 1;
                    self.outcome.setup.record(due.elapsed());
                    self.by_ike.insert(established.ike, index);
                    if let Some(tunnel) = self.tunnels.get_mut(index) {
                        tunnel.ike = established.ike;
                    }
                    if let Some(hold) = self.hold {
                        self.held.push_back((Instant::now() + hold, index));
                    }
                }
            }
            Event::SetupFailed { profile, reason, .. } if self.settle(profile.tag, Phase::Down).is_some() => {
                self.outcome.failed.add(reason);
            }
            Event::Deleted { ike, reason, .. } => self.removed(*ike, *reason),
            Event::IkeRekeyed { old, new, .. } => {
                if let Some(index) = self.by_ike.remove(old) {
                    self.by_ike.insert(*new, index);
                    if let Some(tunnel) = self.tunnels.get_mut(index) {
                        tunnel.ike = *new;
                    }
                }
                self.rekeyed(*new, None);
            }
            Event::ChildCreated {
                ike,
                replaces: Some(_),
                initiator: true,
                ..
            } => self.rekeyed(*ike, None),
            Event::ChildFailed {
                ike,
                initiator: true,
                reason,
            } => self.rekeyed(*ike, Some(reason)),
            Event::Count(Count::Retransmitted) => self.outcome.retransmissions += 1,
            Event::Count(Count::LivenessAnswered | Count::LivenessTimeout) => {
                self.busy = self.busy.saturating_sub(1);
            }
            _ => {}
        }
    }
}

impl Outcome {
    /// Whether everything asked for was done.
    pub(crate) fn is_fine(&self) -> bool {
        self.set_up == self.requested && self.lost.total() == 0 && self.rekey_failed.total() == 0
    }

    /// Set-ups in a second.
    fn rate(&self) -> f64 {
        per_second(self.set_up, self.setup_seconds)
    }

    /// For machines.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "requested": self.requested,
            "set_up": self.set_up,
            "failed": self.failed.0,
            "lost": self.lost.0,
            "deleted": self.deleted,
            "rekeyed": self.rekeyed,
            "rekey_failed": self.rekey_failed.0,
            "retransmissions": self.retransmissions,
            "setup_seconds": self.setup_seconds,
            "setup_rate_per_s": self.rate(),
            "setup_us": self.setup.to_json(),
            "rekey_seconds": self.rekey_seconds,
            "rekey_rate_per_s": per_second(self.rekeyed, self.rekey_seconds),
            "rekey_us": self.rekey.to_json(),
        })
    }

    /// For people.
    pub(crate) fn lines(&self) -> Vec<String> {
        let mut lines = vec![
            format!(
                "{} of {} tunnels set up in {:.2} s: {:.0}/s, {} retransmissions",
                self.set_up,
                self.requested,
                self.setup_seconds,
                self.rate(),
                self.retransmissions
            ),
            format!("time of a set-up: {}", line(&self.setup.to_json())),
        ];
        if self.rekeyed + self.rekey_failed.total() > 0 {
            lines.push(format!(
                "{} rekeyings in {:.2} s: {:.0}/s",
                self.rekeyed,
                self.rekey_seconds,
                per_second(self.rekeyed, self.rekey_seconds)
            ));
            lines.push(format!("time of a rekeying: {}", line(&self.rekey.to_json())));
        }
        let causes = [
            ("failed", &self.failed),
            ("lost", &self.lost),
            ("not rekeyed", &self.rekey_failed),
        ];
        for (what, causes) in causes {
            lines.extend(
                causes
                    .0
                    .iter()
                    .map(|(cause, count)| format!("{what}: {count}: {cause}")),
            );
        }
        lines
    }
}

impl Causes {
    fn add(&mut self, cause: impl Display) {
        let cause = cause.to_string();
        let known = self.0.len() < MOST_CAUSES || self.0.contains_key(&cause);
        let cause = if known { cause } else { OTHER.to_owned() };
        *self.0.entry(cause).or_default() += 1;
    }

    /// Of all causes.
    pub(crate) fn total(&self) -> u64 {
        self.0.values().sum()
    }
}

fn per_second(count: u64, seconds: f64) -> f64 {
    if seconds > 0.0 {
        count as f64 / seconds
    } else {
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_bounded() {
        let mut causes = Causes::default();
        for number in 0..100 {
            causes.add(number % 30);
        }
        causes.add(0);
        assert_eq!((causes.total(), causes.0.len()), (101, MOST_CAUSES + 1));
        assert_eq!(causes.0["0"], 5);
        assert_eq!(causes.0[OTHER], 100 - 70);
    }
}

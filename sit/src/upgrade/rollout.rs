//! One task after the other gets the new executable.

use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::sit::HandOver;
use bus::{Address, Facility, Message};
use telemetry::events::{self, SoftwareUpgradeCompleted};
use tokio::time::Instant;

use super::Upgrade;
use crate::manager::{Happening, Manager, SIT};
use crate::state::{Entry, Phase};

/// For a task to end; then it is killed, which costs no more: the next life goes on from the same state.
const GRACE: Duration = Duration::from_secs(3);
/// A new process that is not ready by then is none.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// Between one task and the next: connections of the bus are made again.
const PAUSE: Duration = Duration::from_millis(200);

/// Who is replaced first: those without tunnels, so that a broken executable shows before it matters.
const ORDER: [Facility; 10] = [
    Facility::Bulkstat,
    Facility::Snmp,
    Facility::Sct,
    Facility::Rmctrl,
    Facility::Certmgr,
    Facility::Aaamgr,
    Facility::Vpnmgr,
    Facility::Sessmgr,
    Facility::Ipsecmgr,
    Facility::Iftask,
];

/// The replacement of tasks.
#[derive(Debug)]
pub(crate) struct Rollout {
    /// Key of the executable that all are to run.
    target: u32,
    /// Tasks that run it now.
    pub done: u32,
    step: Option<Step>,
}

/// The task that is being replaced.
#[derive(Debug)]
struct Step {
    address: Address,
    /// Tells steps apart.
    began: Instant,
    /// Key of the executable it had.
    before: u32,
}

impl Rollout {
    /// The task that is being replaced.
    pub fn at(&self) -> Option<Address> {
        self.step.as_ref().map(|step| step.address)
    }
}

impl Manager {
    /// Has every task run the executable `target`, one after the other.
    pub(crate) fn begin_rollout(&mut self, target: u32) {
        self.upgrade = Upgrade::Rolling(Rollout {
            target,
            done: 0,
            step: None,
        });
        self.later(PAUSE, Happening::Roll);
    }

    /// Begins the next step, unless one is being done.
    pub(crate) fn roll(&mut self) {
        let Upgrade::Rolling(rollout) = &mut self.upgrade else {
            return;
        };
        if rollout.step.is_some() || self.stopping {
            return;
        }
        let target = rollout.target;
        let lags = |entry: &&mut Entry| entry.executable != target && entry.phase != Phase::Stopping;
        let next = self
            .tasks
            .values_mut()
            .filter(lags)
            .min_by_key(|entry| (rank(entry.address.facility), entry.address));
        let Some(entry) = next else {
            return self.complete_upgrade();
        };
        let address = entry.address;
        let began = Instant::now();
        rollout.step = Some(Step {
            address,
            began,
            before: std::mem::replace(&mut entry.executable, target),
        });
        if let Some(life) = &entry.life {
            let life = life.number;
            entry.replacing = true;
            send_hand_over(entry);
            self.later(GRACE, Happening::Overdue { address, life });
        }
        self.later(READY_WITHIN, Happening::Late { began });
    }

    /// A task serves: if its step waited for that, the next one can be done.
    pub(crate) fn rolled(&mut self, address: Address) {
        let Upgrade::Rolling(rollout) = &mut self.upgrade else {
            return;
        };
        let replaced = self.tasks.get(&address).is_some_and(|entry| !entry.replacing);
        if rollout.at() == Some(address) && replaced {
            rollout.step = None;
            rollout.done += 1;
            tracing::info!("{address} runs the new executable");
            self.later(PAUSE, Happening::Roll);
        }
    }

    /// The time of a step is over.
    pub(crate) fn late(&mut self, began: Instant) {
        let Upgrade::Rolling(rollout) = &mut self.upgrade else {
            return;
        };
        let step = rollout.step.as_ref().filter(|step| step.began == began);
        let Some(address) = step.map(|step| step.address) else {
            return;
        };
        if !self.tasks.contains_key(&address) {
            // Its context is gone.
            rollout.step = None;
            return self.roll();
        }
        let why = format!("it was not ready within {} s", READY_WITHIN.as_secs());
        self.stop_rollout(address, &why);
        let Some(entry) = self.tasks.get_mut(&address) else {
            return;
        };
        if let Some(life) = &entry.life {
            let life = life.number;
            entry.replacing = true;
            self.kill(address, life, "the executable before takes its place again");
        }
    }

    /// The process of a task died. If that was its new one, which never served, no other task gets the new executable, and this one has the one before again.
    pub(crate) fn rollout_died(&mut self, address: Address, cause: &str) {
        if let Upgrade::Rolling(rollout) = &self.upgrade
            && rollout.at() == Some(address)
        {
            self.stop_rollout(address, cause);
        }
    }

    fn stop_rollout(&mut self, address: Address, why: &str) {
        let Upgrade::Rolling(rollout) = &mut self.upgrade else {
            return;
        };
        let Some(step) = rollout.step.take() else { return };
        if let Some(entry) = self.tasks.get_mut(&address) {
            entry.executable = step.before;
        }
        let version = self.executables.get(rollout.target);
        let version = version.map_or("?", |executable| &executable.version);
        self.fail_upgrade(format!(
            "{address} with version {version}: {why}; it runs the executable it had before"
        ));
    }

    fn complete_upgrade(&mut self) {
        let tasks = u32::try_from(self.tasks.len()).unwrap_or(u32::MAX);
        self.upgrade = Upgrade::Complete;
        self.forget_executables();
        if let Some(executable) = self.executables.get(self.executables.running) {
            events::emit(&SoftwareUpgradeCompleted {
                version: &executable.version,
                executable: &executable.path.to_string_lossy(),
                tasks,
            });
        }
    }
}

fn rank(facility: Facility) -> usize {
    let place = ORDER.iter().position(|one| *one == facility);
    place.unwrap_or(ORDER.len())
}

/// Asks the process of a task to leave everything as it is for its successor, and to end.
fn send_hand_over(entry: &Entry) {
    let Some(life) = &entry.life else { return };
    let hand_over = HandOver {
        grace: u32::try_from(GRACE.as_millis()).unwrap_or(u32::MAX),
    };
    let header = Header {
        kind: Kind::Event,
        message: HandOver::TYPE,
        sender: SIT,
        correlation: 0,
    };
    if let Err(error) = life.channel.try_send(header, &hand_over, &[]) {
        tracing::warn!("cannot tell {} to end: {error}", entry.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_facility_with_processes_has_its_place() {
        for facility in Facility::ALL {
            let has_none = matches!(facility, Facility::Sit | Facility::Cli);
            assert_eq!(rank(*facility) == ORDER.len(), has_none, "{facility}");
        }
    }
}

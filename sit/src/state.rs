//! The task table.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bus::{Address, Facility};
use netio::Child;
use task::Channel;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;

/// Every task there is to be, whether it lives at the moment or not.
pub(crate) type TaskTable = BTreeMap<Address, Entry>;

/// A task of the node. Made when the plan or the configuration asks for it; removed when the configuration no longer does and its process is dead.
pub(crate) struct Entry {
    pub address: Address,
    /// The context it belongs to, for tasks that are one per context; otherwise empty.
    pub context: String,
    pub phase: Phase,
    /// The process, while there is one.
    pub life: Option<Life>,
    /// Processes started so far.
    pub lives: u32,
    pub backoff: Backoff,
    /// Processes in a row that ended by themselves before they served.
    pub failed_starts: u32,
    /// Heartbeats missed in a row.
    pub missed: u32,
}

/// Where a task is in its life.
///
/// | from | to | when |
/// |---|---|---|
/// | `Waiting` | `Starting` | the time of the next start has come |
/// | `Starting` | `Ready` | it says that it serves |
/// | `Starting`, `Ready` | `Waiting` | its process died |
/// | any | `Stopping` | it is told to end |
/// | `Stopping` | (removed) | its process died |
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    Starting,
    Ready,
    Stopping,
}

/// One process.
pub(crate) struct Life {
    /// Tells the lives of a task apart: 0 for the first.
    pub number: u32,
    pub child: Child,
    pub channel: Arc<Channel>,
    pub since: Instant,
    /// Version of the kernel's interface that confines it to its files, as it says; 0 if nothing does.
    pub confined: u32,
    /// The tasks that read its channel and await its death.
    pub watchers: [AbortHandle; 2],
}

impl Entry {
    pub fn new(address: Address, context: String) -> Self {
        Self {
            address,
            context,
            phase: Phase::Waiting,
            life: None,
            lives: 0,
            backoff: Backoff::default(),
            failed_starts: 0,
            missed: 0,
        }
    }

    /// The process id, while there is a process.
    pub fn pid(&self) -> Option<u32> {
        self.life.as_ref().map(Life::pid)
    }

    /// How long its process has lived.
    pub fn uptime(&self) -> Duration {
        self.life
            .as_ref()
            .map_or(Duration::ZERO, |life| life.since.elapsed())
    }

    /// Is this life the present one?
    pub fn is_living(&self, number: u32) -> bool {
        self.life.as_ref().is_some_and(|life| life.number == number)
    }
}

impl Life {
    pub fn pid(&self) -> u32 {
        self.child.pid().as_raw().cast_unsigned()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        for watcher in &self.watchers {
            watcher.abort();
        }
    }
}

/// The tasks that a node of `workers` workers has from the beginning. `vpnmgr` 1 is that of the context `local`; the others come with the configuration.
pub(crate) fn static_tasks(workers: u32) -> Vec<Address> {
    let once = [
        Facility::Sct,
        Facility::Rmctrl,
        Facility::Vpnmgr,
        Facility::Certmgr,
        Facility::Aaamgr,
        Facility::Bulkstat,
        Facility::Snmp,
    ];
    let each = [Facility::Sessmgr, Facility::Iftask, Facility::Ipsecmgr];
    let of_workers = each
        .into_iter()
        .flat_map(|facility| (1..=workers).map(move |worker| Address::new(facility, worker)));
    once.into_iter().map(Address::only).chain(of_workers).collect()
}

/// The order in which a stopping node ends its tasks: whoever uses another ends before it.
pub(crate) const STOP_ORDER: [&[Facility]; 5] = [
    &[Facility::Ipsecmgr],
    &[Facility::Sessmgr],
    &[Facility::Aaamgr, Facility::Iftask],
    &[
        Facility::Vpnmgr,
        Facility::Certmgr,
        Facility::Bulkstat,
        Facility::Snmp,
    ],
    &[Facility::Rmctrl, Facility::Sct],
];

/// Does a failure of this facility count as that of a manager (trap ManagerFailure) or of another task (TaskFailed)?
pub(crate) fn is_manager(facility: Facility) -> bool {
    !matches!(
        facility,
        Facility::Iftask | Facility::Bulkstat | Facility::Snmp | Facility::Cli
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_static_task_has_its_place_in_the_stop_order() {
        let tasks = static_tasks(3);
        assert_eq!(tasks.len(), 7 + 3 * 3);
        for task in tasks {
            let places = STOP_ORDER
                .iter()
                .filter(|group| group.contains(&task.facility))
                .count();
            assert_eq!(places, 1, "{task}");
        }
    }
}

//! The task table.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bus::{Address, Facility};
use netio::Child;
use task::{Channel, async_fd};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::manager::Happening;

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
    /// Key of the executable that its next process runs, and its present one but while that is replaced.
    pub executable: u32,
    /// Its process is to end, for one with another executable.
    pub replacing: bool,
    /// How often that was done.
    pub replaced: u32,
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
    /// Readable once it is dead.
    death: Arc<AsyncFd<OwnedFd>>,
    /// The tasks that read its channel and await its death.
    watchers: Vec<AbortHandle>,
}

impl Entry {
    pub fn new(address: Address, context: String, executable: u32) -> Self {
        Self {
            address,
            context,
            phase: Phase::Waiting,
            life: None,
            lives: 0,
            backoff: Backoff::default(),
            failed_starts: 0,
            missed: 0,
            executable,
            replacing: false,
            replaced: 0,
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
    /// That of a process that was just started, or taken over. Not watched yet.
    ///
    /// # Errors
    /// Why its death could not be noticed, with the process.
    pub fn new(number: u32, child: Child, channel: Arc<Channel>) -> Result<Self, (Child, io::Error)> {
        let death = match child.as_fd().try_clone_to_owned().and_then(async_fd) {
            Ok(death) => Arc::new(death),
            Err(error) => return Err((child, error)),
        };
        Ok(Self {
            number,
            child,
            channel,
            since: Instant::now(),
            confined: 0,
            death,
            watchers: Vec::new(),
        })
    }

    /// Tells `happenings` from now on what it says and when it is dead.
    pub fn watch(&mut self, address: Address, happenings: &mpsc::Sender<Happening>) {
        let (life, death, told) = (self.number, self.death.clone(), happenings.clone());
        let died = async move {
            // Readable means dead, and nothing else does; an error would be one of epoll itself.
            let _ = death.readable().await;
            let _ = told.send(Happening::Died { address, life }).await;
        };
        let said = read(self.channel.clone(), address, life, happenings.clone());
        self.watchers = vec![
            tokio::spawn(said).abort_handle(),
            tokio::spawn(died).abort_handle(),
        ];
    }

    /// Tells nothing from now on. What it says waits in its socket, and dead it stays.
    pub fn unwatch(&mut self) {
        for watcher in self.watchers.drain(..) {
            watcher.abort();
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.pid().as_raw().cast_unsigned()
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.unwatch();
    }
}

async fn read(channel: Arc<Channel>, address: Address, life: u32, happenings: mpsc::Sender<Happening>) {
    // Nothing is taken out of the socket before there is room for it: who stops this loses nothing.
    while let Ok(room) = happenings.reserve().await {
        let packet = match channel.receive().await {
            Ok(Some(packet)) => packet,
            Ok(None) => return,
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                tracing::warn!("dropped a control message of {address}: {error}");
                continue;
            }
            Err(error) => return tracing::warn!("the control socket of {address} failed: {error}"),
        };
        room.send(Happening::Said {
            address,
            life,
            packet,
        });
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

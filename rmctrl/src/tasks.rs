//! What every task of the node uses: found on the bus, asked for its process by heartbeat, measured in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::messages::common::Ping;
use bus::{Address, Bus};
use netio::Pid;
use tokio::task::JoinSet;

use crate::usage::Usage;

const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(2);
/// A task that has been silent for this many samples is gone for good.
const GONE: u32 = 12;

/// A task and what it uses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Task {
    /// The process of the last answer.
    pub pid: u32,
    /// Heartbeats missed in a row.
    pub missed: u32,
    pub usage: Usage,
}

/// The tasks of the node, by address.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<Address, Task>,
    /// Heartbeats under way.
    heartbeats: JoinSet<(Address, Option<u32>)>,
    /// Where to.
    asked: BTreeSet<Address>,
}

impl Tasks {
    /// The tasks, sorted by facility and instance.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Task)> {
        self.tasks.iter().map(|(address, task)| (*address, task))
    }

    /// Sends a heartbeat to every task there seems to be; [`next`](Self::next) takes the answers.
    pub fn ask(&mut self, bus: &Bus) {
        self.ask_those(bus, |_| true);
    }

    /// The same for those that are new: an operator who looks right after the start sees all.
    pub fn discover(&mut self, bus: &Bus) {
        self.ask_those(bus, |new| new);
    }

    fn ask_those(&mut self, bus: &Bus, wanted: impl Fn(bool) -> bool) {
        for address in bus.addresses() {
            if wanted(!self.tasks.contains_key(&address)) && self.asked.insert(address) {
                let bus = bus.clone();
                self.heartbeats.spawn(async move {
                    let pong = bus.request(address, &Ping {}, HEARTBEAT_DEADLINE).await;
                    (address, pong.ok().map(|pong| pong.pid))
                });
            }
        }
    }

    /// Waits for the end of a heartbeat and measures the task. Waits for ever when none is under way; cancelling loses nothing.
    pub async fn next(&mut self) {
        match self.heartbeats.join_next().await {
            Some(Ok((address, pid))) => {
                self.asked.remove(&address);
                self.heard(address, pid);
            }
            // A heartbeat does not panic, and is not aborted.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    fn heard(&mut self, address: Address, pid: Option<u32>) {
        match pid {
            Some(pid) => {
                let task = self.tasks.entry(address).or_default();
                if task.pid != pid {
                    *task = Task {
                        pid,
                        ..Task::default()
                    };
                }
                task.missed = 0;
            }
            None => {
                if let Some(task) = self.tasks.get_mut(&address) {
                    task.missed += 1;
                }
            }
        }
        let Some(task) = self.tasks.get_mut(&address) else {
            return;
        };
        if task.missed > GONE {
            self.tasks.remove(&address);
        } else if let Ok(pid) = i32::try_from(task.pid) {
            task.usage.sample(Pid::from_raw(pid));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::{Facility, Hub};

    #[tokio::test]
    async fn tasks_are_found_measured_and_forgotten() {
        let hub = Hub::new();
        let sct = Address::only(Facility::Sct);
        let (bus, _server) = Bus::in_process(&hub, Address::only(Facility::Rmctrl)).unwrap();
        let peer = Bus::in_process(&hub, sct).unwrap();
        let mut tasks = Tasks::default();
        tasks.ask(&bus);
        tasks.next().await;
        tasks.next().await;
        let found: Vec<_> = tasks
            .iter()
            .map(|(address, task)| (address, task.pid, task.missed))
            .collect();
        let pid = std::process::id();
        assert_eq!(found, [(sct, pid, 0), (Address::only(Facility::Rmctrl), pid, 0)]);
        assert!(
            tasks
                .iter()
                .all(|(_, task)| task.usage.memory > 0 && task.usage.files > 0)
        );
        let certmgr = Address::only(Facility::Certmgr);
        let _new = Bus::in_process(&hub, certmgr).unwrap();
        tasks.discover(&bus);
        tasks.discover(&bus);
        assert_eq!(tasks.heartbeats.len(), 1, "the new one, once");
        tasks.next().await;
        assert!(tasks.iter().any(|(address, _)| address == certmgr));
        tasks.tasks.remove(&certmgr);
        drop(peer);
        for missed in 1..=GONE {
            tasks.heard(sct, None);
            assert_eq!(tasks.iter().next().map(|(_, task)| task.missed), Some(missed));
        }
        tasks.heard(sct, None);
        assert_eq!(tasks.iter().count(), 1);
    }
}

//! What every task of the node uses: found on the bus, asked for its process by heartbeat, measured in the kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bus::messages::common::Ping;
use bus::{Address, Bus, Facility};
use netio::Pid;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::processors::allowed_processors;
use crate::usage::Usage;

/// How often [`Tasks::ask`] is to be called.
pub(crate) const HEARTBEAT_INTERVAL: Duration = Duration::from_secs(5);
const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(2);
/// A task that has been silent for this many samples is gone for good.
const GONE: u32 = 12;

/// A task and what it uses.
#[derive(Debug, Clone, Default)]
pub(crate) struct Task {
    /// The process of the last answer.
    pub pid: u32,
    /// Heartbeats missed in a row.
    pub missed: u32,
    /// From the latest heartbeat that was answered to its answer.
    pub delay: Duration,
    /// The processors it may run on.
    pub processors: BTreeSet<u32>,
    pub usage: Usage,
}

impl Task {
    /// How long a message to it waits for its turn; of one that does not answer, how long at least.
    pub fn wait(&self) -> Duration {
        match self.missed.checked_sub(1) {
            None => self.delay,
            Some(more) => HEARTBEAT_DEADLINE + HEARTBEAT_INTERVAL * more,
        }
    }
}

/// The answer to a heartbeat.
#[derive(Debug, Clone, Copy)]
struct Answer {
    pid: u32,
    delay: Duration,
}

/// The tasks of the node, by address.
#[derive(Default)]
pub(crate) struct Tasks {
    tasks: BTreeMap<Address, Task>,
    /// Heartbeats under way.
    heartbeats: JoinSet<(Address, Option<Answer>)>,
    /// Where to.
    asked: BTreeSet<Address>,
}

impl Tasks {
    /// The tasks, sorted by facility and instance.
    pub fn iter(&self) -> impl Iterator<Item = (Address, &Task)> {
        self.tasks.iter().map(|(address, task)| (*address, task))
    }

    /// The processors that the data plane may run on.
    pub fn data_plane(&self) -> BTreeSet<u32> {
        let workers = self
            .iter()
            .filter(|(address, _)| address.facility == Facility::Iftask);
        workers
            .flat_map(|(_, task)| task.processors.iter().copied())
            .collect()
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
                    let asked = Instant::now();
                    let pong = bus.request(address, &Ping {}, HEARTBEAT_DEADLINE).await;
                    let answer = pong.ok().map(|pong| Answer {
                        pid: pong.pid,
                        delay: asked.elapsed(),
                    });
                    (address, answer)
                });
            }
        }
    }

    /// Waits for the end of a heartbeat and measures the task. Waits for ever when none is under way; cancelling loses nothing.
    pub async fn next(&mut self) {
        match self.heartbeats.join_next().await {
            Some(Ok((address, answer))) => {
                self.asked.remove(&address);
                self.heard(address, answer);
            }
            // A heartbeat does not panic, and is not aborted.
            Some(Err(_)) => {}
            None => std::future::pending().await,
        }
    }

    fn heard(&mut self, address: Address, answer: Option<Answer>) {
        match answer {
            Some(Answer { pid, delay }) => {
                let task = self.tasks.entry(address).or_default();
                if task.pid != pid {
                    *task = Task {
                        pid,
                        ..Task::default()
                    };
                }
                task.missed = 0;
                task.delay = delay;
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
            let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            task.processors = allowed_processors(&status);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Hub;

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
            tasks.iter().all(|(_, task)| task.usage.memory > 0
                && task.usage.files > 0
                && !task.processors.is_empty())
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

    #[test]
    fn who_does_not_answer_has_messages_waiting() {
        let task = |missed| Task {
            missed,
            delay: Duration::from_millis(3),
            ..Task::default()
        };
        assert_eq!(task(0).wait(), Duration::from_millis(3));
        assert_eq!(task(1).wait(), Duration::from_secs(2));
        assert_eq!(task(3).wait(), Duration::from_secs(12));
    }
}

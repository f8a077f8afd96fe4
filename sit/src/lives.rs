//! The lives of tasks: start, death, the next start, the end.

use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::{Duration, SystemTime};

use bus::frame::{Header, Kind};
use bus::messages::common::Ping;
use bus::messages::sit::{CONTROL_VERSION, Shutdown, TaskStarted, Welcome};
use bus::{Address, Facility, Message, Sockets};
use netio::Signal;
use telemetry::events::{self, ManagerFailure, ManagerRestart, TaskFailed, TaskRestart};

use crate::contexts::LOCAL;
use crate::crashes::Crash;
use crate::error::Error;
use crate::manager::{Happening, Manager, SIT, VERSION};
use crate::state::{Entry, Phase, is_manager};
use crate::{launch, links};

const HEARTBEAT_DEADLINE: Duration = Duration::from_secs(5);
/// Until a task that is starting has to answer heartbeats, too. That it is not ready yet is no fault: it may wait for others.
const START_UP: Duration = Duration::from_secs(30);
/// A task that misses this many in a row is killed.
const HEARTBEATS_MISSED: u32 = 6;
/// A node that has never been ready gives up when a task has tried in vain so often: what keeps it from starting will not go away by itself.
const FAILED_STARTS: u32 = 5;
/// The executable of this process, whatever its file is called by now.
const OWN_PROGRAM: &str = "/proc/self/exe";
/// A task that leaves with its context is killed when it has not ended by then.
pub(crate) const LEAVE_GRACE: Duration = Duration::from_secs(2);

impl Manager {
    /// Starts a process for a task of the table that has none, and tells of it if it is not the first.
    pub(crate) fn launch(&mut self, address: Address) {
        let before = self.tasks.get(&address).map_or(0, |entry| entry.lives);
        self.start_process(address);
        let pid = self.tasks.get(&address).and_then(Entry::pid);
        if let Some(pid) = pid.filter(|_| before > 0) {
            tell_restart(address, pid);
        }
    }

    fn start_process(&mut self, address: Address) {
        let Some(entry) = self.tasks.get_mut(&address) else {
            return;
        };
        let namespace = match entry.context.as_str() {
            "" | LOCAL => None,
            name => self.contexts.get(name).map(|context| &context.namespace),
        };
        let executable = self.executables.get(entry.executable);
        let welcome = Welcome {
            control_version: executable.map_or(CONTROL_VERSION, |one| one.control.min(CONTROL_VERSION)),
            run_dir: self.options.run_dir.to_string_lossy().into_owned(),
            state_dir: self.options.state_dir.to_string_lossy().into_owned(),
            workers: self.workers,
            lives: entry.lives,
            context: entry.context.clone(),
            processor: self.environment.processors.own(address, self.workers),
            near_processors: self.environment.processors.near(address).to_vec(),
            // Reported by ourselves already.
            unprotected: Vec::new(),
            boot_config: self.options.config.to_string_lossy().into_owned(),
        };
        let program = match executable {
            Some(other) if entry.executable != self.executables.running => other.program(),
            _ => OWN_PROGRAM.into(),
        };
        let mut spawn = (self.options.spawn)(&program, address);
        let users = self.environment.users.as_ref();
        if let Some(identity) = users.and_then(|users| users.identity(address.facility)) {
            spawn = spawn.identity(identity);
        }
        let number = entry.lives;
        let launched = Sockets::bind(&self.options.run_dir, address)
            .map_err(|error| error.to_string())
            .and_then(|sockets| {
                launch::launch(
                    spawn,
                    address,
                    number,
                    namespace,
                    &welcome,
                    &sockets,
                    &self.happenings,
                )
            });
        match launched {
            Ok(life) => {
                let pid = life.pid();
                entry.life = Some(life);
                entry.lives += 1;
                entry.phase = Phase::Starting;
                entry.missed = 0;
                tracing::debug!("{address} is process {pid}");
                links::join(&self.tasks, address, &self.errands);
                self.publish_start(address);
            }
            Err(error) => {
                tracing::error!("cannot start {address}: {error}");
                let wait = entry
                    .backoff
                    .after(Duration::ZERO, false)
                    .max(Duration::from_millis(100));
                entry.phase = Phase::Waiting;
                self.later(wait, Happening::Restart { address });
            }
        }
    }

    pub(crate) fn publish_start(&self, address: Address) {
        let Some(entry) = self.tasks.get(&address) else {
            return;
        };
        self.bus.note_started(address);
        self.bus.publish(&TaskStarted {
            facility: u32::from(address.facility as u8),
            instance: address.instance,
            pid: entry.pid().unwrap_or(0),
            lives: entry.lives.saturating_sub(1),
            context: entry.context.clone(),
        });
    }

    pub(crate) fn died(&mut self, address: Address, life: u32) {
        let stopping = self.stopping;
        let Some(entry) = self.tasks.get_mut(&address).filter(|entry| entry.is_living(life)) else {
            return;
        };
        let Some(mut dead) = entry.life.take() else { return };
        let (pid, age) = (dead.pid(), dead.since.elapsed());
        let status = dead.child.wait();
        let replaced = std::mem::take(&mut entry.replacing) && status.as_ref().is_ok_and(ended_as_told);
        let by_itself = status.as_ref().is_ok_and(|status| status.code().is_some());
        let cause = match status {
            Ok(status) => describe(status),
            Err(error) => error.to_string(),
        };
        if stopping || entry.phase == Phase::Stopping {
            tracing::debug!("{address} (pid {pid}) ended: {cause}");
            self.tasks.remove(&address);
            Sockets::remove(&self.options.run_dir, address);
            // The context may have come back in the meantime.
            if !stopping && address.facility == Facility::Vpnmgr {
                self.restore_vpnmgr(address);
            }
            return;
        }
        if replaced {
            entry.replaced += 1;
            entry.phase = Phase::Waiting;
            return self.start_process(address);
        }
        let served = entry.phase == Phase::Ready;
        if by_itself && entry.phase == Phase::Starting {
            entry.failed_starts += 1;
        } else {
            entry.failed_starts = 0;
        }
        if entry.failed_starts >= FAILED_STARTS && !self.ready {
            let cause = cause.clone();
            self.failure = Some(Error::Task { address, cause });
        }
        let wait = entry.backoff.after(age, served);
        entry.phase = Phase::Waiting;
        tell_failure(address, pid, &cause);
        let version = self.executables.get(entry.executable);
        let version = version
            .map_or(VERSION, |executable| &executable.version)
            .to_owned();
        let crash = Crash {
            time: SystemTime::now(),
            facility: address.facility.name().to_owned(),
            instance: address.instance,
            pid,
            version,
            cause: cause.clone(),
        };
        if !served {
            self.rollout_died(address, &cause);
        }
        if wait.is_zero() {
            self.launch(address);
        } else {
            tracing::warn!("{address} will be started again in {} ms", wait.as_millis());
            self.later(wait, Happening::Restart { address });
        }
        // After the start, which is not to wait for the disk.
        if let Err(error) = self.crashes.add(crash) {
            tracing::error!(
                "cannot save the crash list in {}: {error}",
                self.options.state_dir.display()
            );
        }
    }

    /// Starts the `vpnmgr` with this address if there is none and its context is (still) wanted.
    pub(crate) fn restore_vpnmgr(&mut self, address: Address) {
        let context = self
            .contexts
            .iter()
            .find(|(_, id)| *id == address.instance)
            .map(|(name, _)| name.to_owned());
        // That of `local` is static.
        let Some(context) = context.filter(|name| name != LOCAL) else {
            return;
        };
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.tasks.entry(address) {
            vacant.insert(Entry::new(address, context, self.executables.running));
            self.launch(address);
        }
    }

    /// Tells a task to end for good.
    pub(crate) fn leave(&mut self, address: Address) {
        let Some(entry) = self.tasks.get_mut(&address) else {
            return;
        };
        entry.phase = Phase::Stopping;
        match &entry.life {
            Some(life) => {
                let number = life.number;
                send_shutdown(entry, LEAVE_GRACE);
                self.later(
                    LEAVE_GRACE,
                    Happening::Overdue {
                        address,
                        life: number,
                    },
                );
            }
            None => {
                self.tasks.remove(&address);
                Sockets::remove(&self.options.run_dir, address);
            }
        }
    }

    pub(crate) fn kill(&mut self, address: Address, life: u32, why: &str) {
        let Some(entry) = self.tasks.get_mut(&address).filter(|entry| entry.is_living(life)) else {
            return;
        };
        if let Some(life) = &mut entry.life {
            tracing::warn!("{address} (pid {}) is killed: {why}", life.pid());
            if let Err(error) = life.child.signal(Signal::SIGKILL) {
                tracing::error!("{error}");
            }
        }
    }

    pub(crate) fn send_heartbeats(&self) {
        for entry in self.tasks.values() {
            if !must_answer(entry.phase, entry.uptime()) {
                continue;
            }
            let Some(life) = entry.life.as_ref().map(|life| life.number) else {
                continue;
            };
            let (address, bus, happenings) = (entry.address, self.bus.clone(), self.happenings.clone());
            tokio::spawn(async move {
                let answered = bus.request(address, &Ping {}, HEARTBEAT_DEADLINE).await.is_ok();
                let _ = happenings
                    .send(Happening::Heartbeat {
                        address,
                        life,
                        answered,
                    })
                    .await;
            });
        }
    }

    pub(crate) fn heartbeat(&mut self, address: Address, life: u32, answered: bool) {
        let Some(entry) = self.tasks.get_mut(&address).filter(|entry| entry.is_living(life)) else {
            return;
        };
        entry.missed = if answered { 0 } else { entry.missed + 1 };
        if entry.missed >= HEARTBEATS_MISSED {
            self.kill(address, life, "it does not answer heartbeats");
        }
    }
}

/// Whether a task in this phase, with a process of this age, has to answer heartbeats.
fn must_answer(phase: Phase, age: Duration) -> bool {
    match phase {
        Phase::Ready => true,
        Phase::Starting => age >= START_UP,
        Phase::Waiting | Phase::Stopping => false,
    }
}

/// Asks the process of a task to end within `grace`.
pub(crate) fn send_shutdown(entry: &Entry, grace: Duration) {
    let Some(life) = &entry.life else { return };
    let shutdown = Shutdown {
        grace: u32::try_from(grace.as_millis()).unwrap_or(u32::MAX),
    };
    let header = Header {
        kind: Kind::Event,
        message: Shutdown::TYPE,
        sender: SIT,
        correlation: 0,
    };
    if let Err(error) = life.channel.try_send(header, &shutdown, &[]) {
        tracing::warn!("cannot tell {} to end: {error}", entry.address);
    }
}

fn tell_failure(address: Address, pid: u32, cause: &str) {
    let (facility, facility_number, instance) = parts(address);
    if is_manager(address.facility) {
        events::emit(&ManagerFailure {
            facility,
            facility_number,
            instance,
            pid,
            cause,
        });
    } else {
        events::emit(&TaskFailed {
            facility,
            facility_number,
            instance,
            pid,
            cause,
        });
    }
}

fn tell_restart(address: Address, pid: u32) {
    let (facility, facility_number, instance) = parts(address);
    if is_manager(address.facility) {
        events::emit(&ManagerRestart {
            facility,
            facility_number,
            instance,
            pid,
        });
    } else {
        events::emit(&TaskRestart {
            facility,
            facility_number,
            instance,
            pid,
        });
    }
}

fn parts(address: Address) -> (&'static str, u32, u32) {
    (
        address.facility.name(),
        u32::from(address.facility as u8),
        address.instance,
    )
}

/// Whether a process that was told to end did so, by itself or at our hands.
fn ended_as_told(status: &ExitStatus) -> bool {
    status.success() || status.signal() == Some(Signal::SIGKILL as i32)
}

/// How a process ended, in words.
fn describe(status: ExitStatus) -> String {
    match (status.signal(), status.code()) {
        (Some(number), _) => match Signal::try_from(number) {
            Ok(Signal::SIGSYS) => format!("killed by signal {number} (SIGSYS): a forbidden system call"),
            Ok(signal) => format!("killed by signal {number} ({signal})"),
            Err(_) => format!("killed by signal {number}"),
        },
        (None, Some(101)) => "panic (exit status 101)".to_owned(),
        (None, code) => format!("exit status {}", code.unwrap_or(0)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_described() {
        assert_eq!(describe(ExitStatus::from_raw(9)), "killed by signal 9 (SIGKILL)");
        assert_eq!(
            describe(ExitStatus::from_raw(31)),
            "killed by signal 31 (SIGSYS): a forbidden system call"
        );
        assert_eq!(describe(ExitStatus::from_raw(0x6500)), "panic (exit status 101)");
        assert_eq!(describe(ExitStatus::from_raw(0x0100)), "exit status 1");
    }

    #[test]
    fn a_task_that_hangs_while_it_starts_is_found_out() {
        assert!(must_answer(Phase::Ready, Duration::ZERO));
        assert!(!must_answer(Phase::Starting, Duration::from_secs(5)));
        assert!(must_answer(Phase::Starting, START_UP));
        assert!(!must_answer(Phase::Stopping, 2 * START_UP));
    }
}

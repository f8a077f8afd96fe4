//! Replacing the software of a running node.
//!
//! ```text
//!  'upgrade online', SIGUSR2 ──> check: NEW upgrade-check, with a copy of the state ── no ──> refused, nothing has changed
//!                                  │ yes
//!                                  v
//!  nothing under way ──> state and descriptors into a sealed memfd ──> execve NEW in place ── fails ──> goes on as before
//!                                  │ same process, same children
//!                                  v
//!  the new sit takes duplicates of everything ── cannot ──> execve OLD in place, which finds the originals
//!                                  │ has everything: drops the originals
//!                                  v
//!  rollout: HandOver to one task after the other, each when the one before is ready ── one is not ──> that one runs OLD again, the rest stays as it is
//! ```
//!
//! Children notice nothing of the exec: their parent is the same process, and what they say meanwhile waits in their control sockets.

pub(crate) mod executable;
mod restore;
mod rollout;
mod show;
pub(crate) mod state;

use std::ffi::OsString;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::Responder;
use bus::messages::common::{Execute, Output};
use netio::{Luggage, Signal};
use telemetry::events::{self, SoftwareUpgradeFailed, SoftwareUpgradeStarted};
use tokio::task::spawn_blocking;
use tokio::time::Instant;

use crate::manager::{Happening, Manager, VERSION, notify_service_manager};
use crate::state::Phase;
use executable::{Executable, is_same};
pub(crate) use restore::take_over;
use rollout::Rollout;
pub(crate) use show::status;
use state::{KeptLife, KeptRequest, KeptTask, NodeState};

/// For the answer to whoever asked for the upgrade to leave.
const GOODBYE: Duration = Duration::from_millis(200);
/// Until it is looked again whether something is still under way, and how often that is done.
const AGAIN: Duration = Duration::from_millis(100);
const LOOKS: u32 = 100;
const NO_RECOVERY: &str = "tunnels would be lost: 'require session recovery' is needed";
/// What would end this process while another program begins in it.
pub(crate) const HELD: [Signal; 4] = [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGUSR2];
/// The options by which a program is told that it takes over.
const TAKE_OVER: &str = "--take-over";
const PREDECESSOR: &str = "--predecessor";
const REFUSED: &str = "--refused";

/// This program takes over a running node.
#[derive(Debug, Clone)]
pub struct TakeOver {
    /// Number of the descriptor of the state.
    pub state: u32,
    /// Number of the descriptor of the executable that wrote it, which comes back if this one cannot read it.
    pub predecessor: Option<u32>,
    /// Why the successor that the state was written for did not: the writer has it back.
    pub refused: Option<String>,
}

/// How far the latest upgrade is.
#[derive(Debug, Default)]
pub(crate) enum Upgrade {
    /// There was none.
    #[default]
    None,
    /// The executable is being asked.
    Checking,
    /// This executable takes over as soon as nothing is under way.
    Leaving { next: u32, looks: u32 },
    /// Tasks are being replaced.
    Rolling(Rollout),
    /// All of it is done.
    Complete,
    /// It was refused, or stopped.
    Failed { why: String },
}

impl Manager {
    /// Begins an upgrade to the executable at `path`, or to the one that lies now where ours was found. Whoever asked is answered once it is certain.
    pub(crate) fn begin_upgrade(&mut self, path: Option<&str>, asked: Option<Responder<Execute>>) {
        match self.prepare_upgrade(path) {
            Ok(Some((executable, state))) => {
                self.upgrade = Upgrade::Checking;
                let (happenings, more) = (self.happenings.clone(), self.options.formats.clone());
                tokio::spawn(async move {
                    let checked = spawn_blocking(move || executable.check(state, &more)).await;
                    let checked = checked.unwrap_or_else(|error| Err(error.to_string()));
                    let _ = happenings.send(Happening::Checked { checked, asked }).await;
                });
            }
            Ok(None) => {
                if let Some(own) = self.executables.get(self.executables.running) {
                    events::emit(&SoftwareUpgradeStarted {
                        version: &own.version,
                        executable: &own.path.to_string_lossy(),
                    });
                }
                self.begin_rollout(self.executables.running);
                answer(
                    asked,
                    Ok("The tasks that run another executable are being replaced.\n"),
                );
            }
            Err(why) => self.refuse_upgrade(why, asked),
        }
    }

    /// The executable and a state to try it with; nothing when it is ours already, and only other tasks lag behind.
    fn prepare_upgrade(&self, path: Option<&str>) -> Result<Option<(Executable, std::fs::File)>, String> {
        if self.stopping {
            return Err("the node stops".to_owned());
        }
        if self.is_upgrading() {
            return Err("an upgrade is under way".to_owned());
        }
        if !self.ready {
            return Err("the node is not ready yet".to_owned());
        }
        if !self.recovery {
            return Err(NO_RECOVERY.to_owned());
        }
        if let Some(entry) = self.tasks.values().find(|entry| entry.phase != Phase::Ready) {
            return Err(format!("{} does not serve at the moment", entry.address));
        }
        let running = self.executables.running;
        let own = self.executables.get(running).ok_or("our executable is unknown")?;
        let path = path.map_or_else(|| own.path.clone(), PathBuf::from);
        let new = Executable::open(&path, own, self.environment.users.is_some())?;
        if is_same(&new.file, &own.file) {
            if self.tasks.values().all(|entry| entry.executable == running) {
                return Err(format!("{} is what runs already", path.display()));
            }
            return Ok(None);
        }
        // Its numbers mean nothing: the descriptors are closed again at once.
        let state = self
            .save(&mut Luggage::default(), running)
            .map_err(|error| error.to_string())?;
        let file = state.write().map_err(|error| error.to_string())?;
        Ok(Some((new, file)))
    }

    pub(crate) fn checked(&mut self, checked: Result<Executable, String>, asked: Option<Responder<Execute>>) {
        match checked {
            Ok(executable) => {
                let said = format!(
                    "Version {} of {} takes over; 'show upgrade' tells how far it is.\n",
                    executable.version,
                    executable.path.display()
                );
                events::emit(&SoftwareUpgradeStarted {
                    version: &executable.version,
                    executable: &executable.path.to_string_lossy(),
                });
                let next = self.executables.add(executable);
                self.upgrade = Upgrade::Leaving { next, looks: 0 };
                answer(asked, Ok(&said));
                self.later(GOODBYE, Happening::Replace);
            }
            Err(why) => {
                answer(asked, Err(&why));
                self.fail_upgrade(why);
            }
        }
    }

    fn is_upgrading(&self) -> bool {
        matches!(
            self.upgrade,
            Upgrade::Checking | Upgrade::Leaving { .. } | Upgrade::Rolling(_)
        )
    }

    fn refuse_upgrade(&mut self, why: String, asked: Option<Responder<Execute>>) {
        answer(asked, Err(&why));
        // One that is under way is not touched by what is asked meanwhile.
        if !self.is_upgrading() {
            self.fail_upgrade(why);
        }
    }

    pub(crate) fn fail_upgrade(&mut self, why: String) {
        events::emit(&SoftwareUpgradeFailed { reason: &why });
        self.upgrade = Upgrade::Failed { why };
        self.forget_executables();
    }

    /// Closes the executables that nobody runs.
    pub(crate) fn forget_executables(&mut self) {
        let tasks = &self.tasks;
        self.executables
            .keep(|key| tasks.values().any(|entry| entry.executable == key));
    }

    /// Has the next executable take over, as soon as nothing is under way that it would not know of.
    pub(crate) fn replace(&mut self) {
        let Upgrade::Leaving { next, looks } = self.upgrade else {
            return;
        };
        if self.stopping {
            return;
        }
        if !self.recovery {
            return self.fail_upgrade(NO_RECOVERY.to_owned());
        }
        // What was said before counts, also what is to be done for it.
        self.hear_all();
        for life in self.tasks.values_mut().filter_map(|entry| entry.life.as_mut()) {
            life.unwatch();
        }
        self.hear_all();
        if Arc::strong_count(&self.errands) > 1 {
            self.watch_all();
            if looks == LOOKS {
                return self.fail_upgrade("a file or a link is being opened for too long".to_owned());
            }
            self.upgrade = Upgrade::Leaving {
                next,
                looks: looks + 1,
            };
            return self.later(AGAIN, Happening::Replace);
        }
        let why = match netio::hold_signals(&HELD) {
            Ok(()) => self.leave_to(next),
            Err(error) => error.to_string(),
        };
        if let Err(error) = netio::release_signals(&HELD) {
            tracing::error!("{error}");
        }
        self.watch_all();
        self.fail_upgrade(why);
        notify_service_manager("READY=1");
    }

    fn hear_all(&mut self) {
        while let Ok(happening) = self.queue.try_recv() {
            self.happened(happening);
        }
    }

    fn watch_all(&mut self) {
        for entry in self.tasks.values_mut() {
            if let Some(life) = &mut entry.life {
                life.watch(entry.address, &self.happenings);
            }
        }
    }

    /// Ends this program in favour of the next one. Returns only if that cannot be done, and says why.
    fn leave_to(&mut self, next: u32) -> String {
        self.crashes.flush();
        let mut luggage = Luggage::new();
        let mut leave = || -> Result<netio::Error, String> {
            let text = |error: &dyn std::fmt::Display| error.to_string();
            let state = self.save(&mut luggage, next).map_err(|error| text(&error))?;
            let file = state.write().map_err(|error| text(&error))?;
            let number = luggage.pack(&file).map_err(|error| text(&error))?;
            let executable = self.executables.get(next).ok_or("there is no executable")?;
            let mut arguments = own_arguments();
            let own = self.executables.get(self.executables.running);
            let own = own.ok_or("our executable is unknown")?;
            let own = luggage.pack(&own.file).map_err(|error| text(&error))?;
            let numbers = [number, own].map(|number| number.to_string());
            let [number, own] = numbers.each_ref().map(String::as_str);
            arguments.extend([TAKE_OVER, number, PREDECESSOR, own].map(OsString::from));
            tracing::info!("{} takes over", executable.path.display());
            let now = netio::task::monotonic_ns() / 1_000;
            notify_service_manager(&format!("RELOADING=1\nMONOTONIC_USEC={now}"));
            let file = executable.file.as_fd();
            Ok(netio::replace_with(file, &arguments, &luggage))
        };
        leave().map_or_else(|why| why, |error| error.to_string())
    }

    /// Packs everything there is, for the executable `next`.
    fn save(&self, luggage: &mut Luggage, next: u32) -> Result<NodeState, netio::Error> {
        let milliseconds = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let mut tasks = Vec::new();
        for entry in self.tasks.values() {
            let life = match &entry.life {
                None => None,
                Some(life) => Some(KeptLife {
                    number: life.number,
                    pid: life.pid(),
                    pidfd: luggage.pack(&life.child)?,
                    control: luggage.pack(&*life.channel)?,
                    age: milliseconds(life.since.elapsed()),
                    confined: life.confined,
                }),
            };
            tasks.push(KeptTask {
                address: Some(entry.address.into()),
                context: entry.context.clone(),
                phase: entry.phase as u32,
                lives: entry.lives,
                replaced: entry.replaced,
                backoff: milliseconds(entry.backoff.next()),
                failed_starts: entry.failed_starts,
                executable: entry.executable,
                life,
            });
        }
        let [run, state] = &self.environment.locks;
        let deferred = self.deferred.iter().map(|request| KeptRequest {
            address: Some(request.address.into()),
            life: request.life,
            frame: request.packet.frame(),
            patience: milliseconds(request.until.saturating_duration_since(Instant::now())),
        });
        Ok(NodeState {
            version: VERSION.to_owned(),
            workers: self.workers,
            locks: vec![luggage.pack(run)?, luggage.pack(state)?],
            users: self.environment.users.as_ref().map(|users| users.save()),
            bus: vec![
                luggage.pack(&self.sockets.requests)?,
                luggage.pack(&self.sockets.events)?,
            ],
            history: Some(self.bus.history()),
            contexts: self.contexts.save(luggage)?,
            descriptors: Some(self.descriptors.save(luggage)?),
            tasks,
            deferred: deferred.collect(),
            executables: self.executables.save(luggage)?,
            running: self.executables.running,
            next,
            configuration: self.configuration.clone(),
            crashes: self.crashes.text(),
            uptime: milliseconds(self.since.elapsed()),
            unprotected: self.unprotected().map(str::to_owned).collect(),
        })
    }
}

/// The arguments of this process, without those by which it took over.
fn own_arguments() -> Vec<OsString> {
    let mut arguments = Vec::new();
    let mut given = std::env::args_os();
    while let Some(argument) = given.next() {
        if [TAKE_OVER, PREDECESSOR, REFUSED]
            .iter()
            .any(|option| argument == *option)
        {
            given.next();
        } else {
            arguments.push(argument);
        }
    }
    arguments
}

fn answer(asked: Option<Responder<Execute>>, said: Result<&str, &str>) {
    if let Some(asked) = asked {
        asked.reply(match said {
            Ok(text) => Output::from(text.to_owned()),
            Err(why) => Output::failed(why),
        });
    }
}

//! The loop: everything that happens, one at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bus::messages::common::Execute;
use bus::{Address, Bus, Facility, Responder, Server, Sockets};
use task::{ConfigFollower, Packet};
use telemetry::events::{self, ProtectionMissing, SystemStartup};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::Options;
use crate::configuration::{bound_devices, contexts_of, wants_recovery, xdp_devices};
use crate::contexts::{Contexts, LOCAL};
use crate::crashes::CrashList;
use crate::descriptors::{Descriptors, MOST_WORKERS};
use crate::environment::Environment;
use crate::error::Error;
use crate::files::files_of;
use crate::requests::Deferred;
use crate::state::{Entry, Phase, TaskTable, static_tasks};
use crate::stop::StopSignals;
use crate::upgrade::executable::{Executable, Executables};
use crate::upgrade::{HELD, Upgrade};

pub(crate) const SIT: Address = Address::only(Facility::Sit);
/// Version of the software, in the crash list and in events.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

pub(crate) const QUEUE: usize = 4_096;
/// For the deletes of the tunnels of a context to leave, before its network goes.
pub(crate) const GOODBYE: Duration = Duration::from_secs(1);
/// What was put aside is looked at this often.
const TICK: Duration = Duration::from_secs(5);
/// A heartbeat every second tick.
const HEARTBEAT_TICKS: u64 = 2;

/// What can happen to `sit`.
pub(crate) enum Happening {
    /// A child sent a control message.
    Said {
        address: Address,
        life: u32,
        packet: Packet,
    },
    /// A child is dead.
    Died { address: Address, life: u32 },
    /// The time of the next start has come.
    Restart { address: Address },
    /// Contexts that are gone from the configuration have had the time to say goodbye.
    Sweep,
    /// A task was told to end and has had the time for it.
    Overdue { address: Address, life: u32 },
    /// A heartbeat was answered, or not.
    Heartbeat {
        address: Address,
        life: u32,
        answered: bool,
    },
    /// An executable was asked whether it can take over.
    Checked {
        checked: Result<Executable, String>,
        asked: Option<Responder<Execute>>,
    },
    /// The next executable is to take over.
    Replace,
    /// The next task is to get it.
    Roll,
    /// A step of that has had its time.
    Late { began: Instant },
}

/// How many workers the node has while it runs: as the option says, or as the boot configuration does.
fn workers(options: &Options, environment: &Environment) -> Result<u32, Error> {
    let processors = u32::try_from(environment.processors.count()).unwrap_or(u32::MAX);
    let configured = environment.tasks.workers(processors);
    match options.workers {
        Some(asked) if !(1..=MOST_WORKERS).contains(&asked) => Err(Error::Workers {
            asked,
            most: MOST_WORKERS,
        }),
        Some(asked) => Ok(asked),
        None => {
            if configured > MOST_WORKERS {
                tracing::warn!("{configured} workers are asked for, {MOST_WORKERS} are possible");
            }
            Ok(configured.min(MOST_WORKERS))
        }
    }
}

/// The state of the node.
pub(crate) struct Manager {
    pub(crate) options: Options,
    pub(crate) environment: Environment,
    pub(crate) workers: u32,
    pub(crate) bus: Bus,
    pub(crate) server: Server,
    /// The listening sockets of the bus, for the next executable.
    pub(crate) sockets: Sockets,
    pub(crate) tasks: TaskTable,
    pub(crate) contexts: Contexts,
    /// The contexts of the configuration, with their numbers.
    pub(crate) wanted: BTreeMap<String, u32>,
    /// The context of each device that a port is bound with.
    pub(crate) bound: BTreeMap<String, String>,
    /// `require session recovery`.
    pub(crate) recovery: bool,
    /// The files that the configuration names.
    pub(crate) files: BTreeSet<String>,
    /// The running configuration itself, as it was last read.
    pub(crate) configuration: String,
    pub(crate) descriptors: Descriptors,
    pub(crate) crashes: CrashList,
    pub(crate) since: Instant,
    /// Requests that wait for something to become known.
    pub(crate) deferred: Vec<Deferred>,
    pub(crate) happenings: mpsc::Sender<Happening>,
    pub(crate) queue: mpsc::Receiver<Happening>,
    pub(crate) unprotected: BTreeSet<String>,
    pub(crate) configured: bool,
    pub(crate) ready: bool,
    /// Why the node cannot go on.
    pub(crate) failure: Option<Error>,
    pub(crate) stopping: bool,
    pub(crate) ticks: u64,
    pub(crate) executables: Executables,
    pub(crate) upgrade: Upgrade,
    /// Held by whatever is under way outside the loop and would be lost with this program.
    pub(crate) errands: Arc<()>,
}

impl Manager {
    /// Opens the bus and starts the static tasks.
    pub async fn start(options: Options, environment: Environment) -> Result<Self, Error> {
        let workers = workers(&options, &environment)?;
        let sockets = Sockets::bind(&options.run_dir, SIT).map_err(Error::Bus)?;
        let listening = sockets.try_clone().map_err(Error::Runtime)?;
        let (bus, server) = Bus::open_on(&options.run_dir, SIT, listening)
            .await
            .map_err(Error::Bus)?;
        task::publish_events(&bus);
        let (happenings, queue) = mpsc::channel(QUEUE);
        let mut manager = Self {
            contexts: Contexts::new(options.run_dir.join("netns"))?,
            wanted: BTreeMap::new(),
            bound: BTreeMap::new(),
            recovery: true,
            files: BTreeSet::new(),
            configuration: String::new(),
            descriptors: Descriptors::new(workers).map_err(Error::Runtime)?,
            crashes: CrashList::load(&options.state_dir),
            options,
            environment,
            workers,
            bus,
            server,
            sockets,
            tasks: TaskTable::new(),
            since: Instant::now(),
            deferred: Vec::new(),
            happenings,
            queue,
            unprotected: BTreeSet::new(),
            configured: false,
            ready: false,
            failure: None,
            stopping: false,
            ticks: 0,
            executables: Executables::new().map_err(Error::Runtime)?,
            upgrade: Upgrade::None,
            errands: Arc::new(()),
        };
        let missing = manager.environment.missing.clone();
        manager.note_unprotected(missing);
        tracing::info!(
            "node {VERSION} starts in {} with {workers} workers",
            manager.options.run_dir.display()
        );
        for address in manager
            .options
            .tasks
            .clone()
            .unwrap_or_else(|| static_tasks(workers))
        {
            let context = if address.facility == Facility::Vpnmgr {
                LOCAL
            } else {
                ""
            };
            manager.tasks.insert(
                address,
                Entry::new(address, context.to_owned(), manager.executables.running),
            );
            manager.launch(address);
        }
        Ok(manager)
    }

    /// Runs until the node is told to stop or cannot go on, then stops it.
    pub async fn run(mut self) -> Result<(), Error> {
        let mut signals = StopSignals::new().map_err(Error::Runtime)?;
        let mut upgrade = signal(SignalKind::user_defined2()).map_err(Error::Runtime)?;
        // A program that takes over finds them held back.
        netio::release_signals(&HELD)?;
        if self.ready {
            self.tell_service_manager();
        }
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut configuration = ConfigFollower::new(&self.bus);
        while self.failure.is_none() {
            tokio::select! {
                Some(happening) = self.queue.recv() => self.happened(happening),
                config = configuration.next() => self.configure(&config.text),
                Some(incoming) = self.server.next() => self.serve(incoming),
                _ = tick.tick() => self.tick(),
                Some(()) = upgrade.recv() => self.begin_upgrade(None, None),
                () = signals.next() => break,
            }
        }
        self.stop(&mut signals).await;
        self.failure.map_or(Ok(()), Err)
    }

    pub(crate) fn happened(&mut self, happening: Happening) {
        match happening {
            Happening::Said {
                address,
                life,
                packet,
            } => self.said(address, life, packet),
            Happening::Died { address, life } => self.died(address, life),
            Happening::Restart { address } => {
                if self
                    .tasks
                    .get(&address)
                    .is_some_and(|entry| entry.phase == Phase::Waiting)
                    && !self.stopping
                {
                    self.launch(address);
                }
            }
            // A stopping node removes all of them anyway.
            Happening::Sweep if self.stopping => {}
            Happening::Sweep => {
                self.remove_contexts(self.unwanted());
                self.make_contexts();
            }
            Happening::Overdue { address, life } => self.kill(address, life, "it did not end in time"),
            Happening::Heartbeat {
                address,
                life,
                answered,
            } => self.heartbeat(address, life, answered),
            Happening::Checked { checked, asked } => self.checked(checked, asked),
            Happening::Replace => self.replace(),
            Happening::Roll => self.roll(),
            Happening::Late { began } => self.late(began),
        }
    }

    /// Sends a happening to ourselves after `wait`.
    pub(crate) fn later(&self, wait: Duration, happening: Happening) {
        let happenings = self.happenings.clone();
        tokio::spawn(async move {
            tokio::time::sleep(wait).await;
            // The receiver is gone when the node is.
            let _ = happenings.send(happening).await;
        });
    }

    /// Takes over a configuration. Contexts that are gone from it are removed a little later: `ipsecmgr` tells their peers first.
    fn configure(&mut self, text: &str) {
        self.wanted = contexts_of(text);
        self.bound = bound_devices(text);
        // Before a device leaves its context.
        self.descriptors.xdp.configure(xdp_devices(text));
        self.recovery = wants_recovery(text);
        self.files = files_of(text);
        self.configuration = text.to_owned();
        let (replaced, gone): (Vec<_>, Vec<_>) = self
            .unwanted()
            .into_iter()
            .partition(|(name, _)| self.wanted.contains_key(name));
        self.remove_contexts(replaced);
        if !gone.is_empty() {
            self.later(GOODBYE, Happening::Sweep);
        }
        self.make_contexts();
        self.configured = true;
        self.check_ready();
    }

    /// Makes the contexts that are wanted, and brings their devices into them before anybody looks for them there.
    fn make_contexts(&mut self) {
        for (name, &id) in &self.wanted {
            if let Err(error) = self.contexts.add(name, id) {
                tracing::error!("cannot make context {name}: {error}");
            }
        }
        self.contexts.place(&self.bound);
        let ids: Vec<u32> = self.wanted.values().copied().collect();
        for id in ids {
            self.restore_vpnmgr(Address::new(Facility::Vpnmgr, id));
        }
        self.retry_deferred();
    }

    /// Contexts that are gone from the configuration, or have another number there.
    fn unwanted(&self) -> Vec<(String, u32)> {
        self.contexts
            .iter()
            .filter(|(name, id)| *name != LOCAL && self.wanted.get(*name) != Some(id))
            .map(|(name, id)| (name.to_owned(), id))
            .collect()
    }

    fn remove_contexts(&mut self, contexts: Vec<(String, u32)>) {
        for (name, id) in contexts {
            tracing::info!("context {name} is removed");
            self.leave(Address::new(Facility::Vpnmgr, id));
            self.descriptors.close_context(&name);
            self.contexts.remove(&name);
        }
    }

    fn tick(&mut self) {
        self.ticks += 1;
        if self.ticks.is_multiple_of(HEARTBEAT_TICKS) {
            self.send_heartbeats();
        }
        self.contexts.place(&self.bound);
        self.retry_deferred();
        if !self.ready && self.since.elapsed() > 3 * TICK {
            let late: Vec<_> = self.not_ready().map(|entry| entry.address.to_string()).collect();
            tracing::warn!("the node is not ready yet: waiting for {}", late.join(", "));
        }
    }

    fn not_ready(&self) -> impl Iterator<Item = &Entry> {
        self.tasks.values().filter(|entry| entry.phase != Phase::Ready)
    }

    /// Says once that all services are up.
    pub(crate) fn check_ready(&mut self) {
        let needs_map = self.tasks.contains_key(&Address::only(Facility::Rmctrl));
        let needs_configuration = self.tasks.contains_key(&Address::only(Facility::Sct));
        let known = (self.descriptors.slot_map().is_some() || !needs_map)
            && (self.configured || !needs_configuration);
        if self.ready || !known || self.not_ready().next().is_some() {
            return;
        }
        self.ready = true;
        let tasks = self.tasks.len();
        tracing::info!(
            "node is ready: {tasks} tasks after {} ms",
            self.since.elapsed().as_millis()
        );
        events::emit(&SystemStartup {
            description: "Starward security gateway",
            version: VERSION,
        });
        self.tell_service_manager();
    }

    fn tell_service_manager(&self) {
        let tasks = self.tasks.len();
        notify_service_manager(&format!("READY=1\nSTATUS={tasks} tasks are running"));
    }

    pub(crate) fn note_unprotected(&mut self, protections: Vec<String>) {
        for protection in protections {
            if !self.unprotected.contains(&protection) {
                events::emit(&ProtectionMissing {
                    protection: &protection,
                });
                self.unprotected.insert(protection);
            }
        }
    }

    /// The protections that are missing here, in words.
    pub(crate) fn unprotected(&self) -> impl Iterator<Item = &str> {
        self.unprotected.iter().map(String::as_str)
    }

    /// Gives up everything that outlives the process.
    pub(crate) fn release(&mut self) {
        self.contexts.clear();
    }
}

pub(crate) fn notify_service_manager(state: &str) {
    if let Err(error) = netio::task::notify_service_manager(state) {
        tracing::warn!("{error}");
    }
}

//! System initiation: the parent of every process of the node. It opens what must not die, starts the others, watches them, and starts them again.
//!
//! ```text
//!  signals ──────────────┐
//!  tick ─────────────────┤            ┌─ launch: Spawn, Welcome on descriptor 3
//!  bus: Execute ─────────┤            ├─ Descriptors: UDP groups, ESP, TUN, segments, rings
//!  follow sct, rmctrl ───┼─> Manager ─┼─ Contexts: namespaces, devices
//!  of each child (2):    │  (1 loop)  ├─ links: a pair for every two tasks of bus::link::LINKS
//!    control messages ───┤            ├─ CrashList: on disk
//!    death (pidfd) ──────┤            ├─ TaskTable: one Entry a task, one Life a process
//!  SIGUSR2 ──────────────┘            └─ upgrade: all of it, to the next executable in this process
//! ```
//!
//! One thread, one runtime; a second thread writes the crash list to disk. Nothing here reads what came from the network, and nothing waits for another process: a request that cannot be fulfilled yet
//! is put aside.

mod backoff;
mod bus_api;
mod configuration;
mod contexts;
mod crashes;
mod descriptors;
mod environment;
mod error;
mod files;
mod folders;
mod launch;
mod links;
mod lives;
mod manager;
mod processors;
mod requests;
mod security;
mod show;
mod slot_map;
mod state;
mod stop;
mod upgrade;
mod users;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bus::Address;
use netio::Spawn;

pub use error::Error;
pub use upgrade::TakeOver;
pub use upgrade::executable::{Format, report as upgrade_report};

/// The first of the numbers of users, unless the operator names another: neither accounts that people make (up to 60000) nor the ranges of systemd and
/// of containers are there.
pub const FIRST_USER: u32 = 60_700;

/// How the process of a task is started with a program.
pub type SpawnOf = dyn Fn(&Path, Address) -> Spawn;

/// How the node is to run.
#[derive(Clone)]
pub struct Options {
    /// Boot configuration file.
    pub config: PathBuf,
    /// What is to survive the node: crash list, saved configurations, accounting, statistics.
    pub state_dir: PathBuf,
    /// What lives as long as the node: lock, bus, counters, names of namespaces.
    pub run_dir: PathBuf,
    /// Number of workers; `None`: as the boot configuration says, which without a word on it is one for each processor the node may use.
    pub workers: Option<u32>,
    /// The first of the numbers of the processes' users and groups, where the system has no accounts for them.
    pub first_user: u32,
    /// How the process of a task is started, with this program.
    pub spawn: Arc<SpawnOf>,
    /// The tasks to start instead of the static ones; for tests.
    pub tasks: Option<Vec<Address>>,
    /// What an executable that takes this one's place must understand beside what `sit` leaves it.
    pub formats: Vec<Format>,
    /// The node runs already, and this program takes it over.
    pub take_over: Option<TakeOver>,
}

impl Options {
    /// The usual node, whose children are this executable with the arguments `FACILITY --instance N`.
    pub fn new(config: PathBuf, state_dir: PathBuf, run_dir: PathBuf) -> Self {
        let spawn = |program: &Path, address: Address| {
            Spawn::new(program)
                .argument(address.facility.name())
                .argument("--instance")
                .argument(address.instance.to_string())
        };
        Self {
            config,
            state_dir,
            run_dir,
            workers: None,
            first_user: FIRST_USER,
            spawn: Arc::new(spawn),
            tasks: None,
            formats: Vec::new(),
            take_over: None,
        }
    }
}

/// Runs the node until it is told to stop (SIGTERM, SIGINT, SIGHUP), and stops it in order. The process must have one thread only.
pub fn run(options: Options) -> Result<(), Error> {
    if let Some(given) = options.take_over.clone() {
        return upgrade::take_over(options, &given);
    }
    let mut environment = environment::prepare(&options)?;
    task::start_log(manager::SIT.to_string());
    environment.harden();
    netio::task::set_name("sit");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Error::Runtime)?;
    runtime.block_on(async { manager::Manager::start(options, environment).await?.run().await })
}

//! What every child process of the node is made of.
//!
//! ```text
//!                    main: hardening, log, one current-thread runtime, Welcome, confinement
//!                      │
//!   sit ══ control ══> Channel ──> reader ──┬─ answers ──> Sit::open_... (descriptors)
//!       socket 3                            ├─ LinkOpened ──> Links::install
//!                                           └─ Shutdown ──> Shutdown::requested
//!   bus ROUTER, PUB ── Bus, Server          SIGTERM ──────┘
//!   events of telemetry ──> Notice, published on the bus
//!   TaskStarted of sit ──> Bus::note_started
//! ```
//!
//! A manager is `pub async fn run(task: Task)`; the executable calls [`main`] with it. It asks [`Sit`] for descriptors, says
//! [`Sit::ready`] when it serves, and ends when [`Shutdown::requested`] is answered.

mod channel;
mod configuration;
mod error;
mod follow;
mod hardening;
mod logging;
mod protection;
mod shutdown;
mod sit;
mod start;
mod system_calls;
pub mod testing;
mod tunnels;

use std::path::PathBuf;

use bus::link::{LinkServer, Links};
use bus::{Address, Bus, Server};
use telemetry::Counters;

pub use channel::{Channel, Packet, async_fd};
pub use configuration::ConfigFollower;
pub use error::Error;
pub use follow::{Follow, follow};
pub use logging::{set_level, start as start_log};
pub use protection::{Directories, Place, Protection};
pub use shutdown::Shutdown;
pub use sit::{EspSockets, IkeSockets, RingEnds, Sit, Tun};
pub use start::{Outcome, main, publish_events};
pub use tunnels::delete_tunnels;

/// `sit` sets it on the sockets, and the rules of `vpnmgr` keep packets that have it out of tunnels, whatever a peer says is behind it.
pub use netio::NODE_MARK;

/// One life of one child process. Managers take it apart.
pub struct Task {
    /// Facility and instance.
    pub address: Address,
    /// How many workers the node has.
    pub workers: u32,
    /// The run directory of the node.
    pub run_dir: PathBuf,
    /// The state directory of the node.
    pub state_dir: PathBuf,
    /// The boot configuration file (for `sct`).
    pub boot_config: PathBuf,
    /// The context this task belongs to, for tasks that are one per context; otherwise empty.
    pub context: String,
    /// Lives of this task before this one since the node started.
    pub lives: u32,
    /// The bus.
    pub bus: Bus,
    /// Requests to this task over the bus.
    pub server: Server,
    /// Links for secrets.
    pub links: Links,
    /// Requests to this task over links.
    pub link_server: LinkServer,
    /// Requests to `sit`, mostly for descriptors.
    pub sit: Sit,
    /// The counter page of this task.
    pub counters: Counters,
    /// Tells when to end.
    pub shutdown: Shutdown,
}

impl Task {
    /// The worker this task belongs to: its instance, for facilities that every worker has one of.
    pub fn worker(&self) -> u32 {
        self.address.instance
    }
}

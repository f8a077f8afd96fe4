//! IKEv2 for the slots of one worker: the shell around [`ikev2::Engine`].
//!
//! ```text
//!                          sct ── configuration ──> Configurator (task) ── certificates ── certmgr
//!                                                        │ services, sockets (from sit)
//!                                                        v
//!   UDP 500, 4500 ══ Sockets ══ datagrams ═══════════> Manager (one loop) ──> slot segments: child SAs
//!                                                      │  Engine  │
//!   answers <── questions (a task each) <── Ask ───────┘          └──> counters, events, log
//!      │  keys: sct (link)   EAP: aaamgr (link)
//!      ├─ signatures, chains: CertificateDesk (task) ── certmgr
//!      │                                    rmctrl ── congestion, slot map, moves of slots ──> Manager
//!      └─ admission: SessionDesks (tasks) ── sessmgrs       routes: RouteDesk (task) ── vpnmgr of the clear context
//! ```
//!
//! How many: one loop, one configurator, one teller of service states, one certificate desk, one session desk for each `sessmgr`, one route desk per process;
//! one task per open question. All on one thread. The loop waits for
//! nobody: whatever needs another process goes through a task, and its answer comes back as a message.
//!
//! State that outlives the process: child SAs and the records of IKE SAs, in the slot segments. Whatever a peer may have seen is in the records before it is sent
//! ([`State::pump`](state::State::pump)), so the next life goes on where this one ends, and so does another worker's `ipsecmgr` that a slot moves to ([`moves`]).

mod answers;
mod batches;
mod beside;
mod bus_api;
mod certificate_desk;
mod child;
mod configurator;
mod congestion;
mod counters;
mod error;
mod happenings;
mod held;
mod later;
mod manager;
mod moves;
mod notify;
mod questions;
mod records;
mod recovery;
mod refusals;
mod report;
mod routes;
mod secrets;
mod service_states;
mod session_desk;
mod session_desks;
mod sessions;
mod show;
mod slots;
mod sockets;
mod state;
mod strays;
mod waiting;

pub use error::Error;
pub use ikev2::{OLDEST_RECORD_VERSION, RECORD_VERSION};

use task::Task;

/// One life of an `ipsecmgr`.
///
/// # Errors
/// Something without which it cannot work at all: its slots, or its end of the bus.
pub async fn run(task: Task) -> Result<(), Error> {
    manager::run(task).await
}

//! `sessmgr`: the sessions of one worker.
//!
//! ```text
//!   ipsecmgr ── Admit ──> Desk ──(Draft::step)──> State ── Sessions
//!              <─ Admitted ┘  │                     ├───── Blocks (addresses leased from vpnmgr)
//!                             │ Need                ├───── Outbox ──> aaamgr (Account)
//!   vpnmgr <── Lease… ────────┘                     └───── Errand ──> vpnmgr, ipsecmgr, other sessmgrs
//!   ipsecmgr ── Connected, Release, WorkerRecovered ──> State ──> Journal (what a restart goes on with)
//!   counter segments (written by iftask) ──> Meter ──> sweep: traffic, time limits, interim records
//! ```
//!
//! One loop on one thread. Whatever has to be asked of another task is asked by a short-lived helper that brings the answer back to the
//! loop, so nobody ever waits behind a slow task. A batch of admissions is answered in the same turn of the loop unless it needs
//! addresses that this worker has not leased yet; those are fetched before they run out. No answer leaves before the journal has what it tells.

mod accounting;
mod admission;
mod blocks;
mod bus_api;
mod counters;
mod desk;
mod error;
mod journal;
mod manager;
mod policy;
mod reason;
mod replies;
mod session;
mod show;
mod state;
mod usage;

pub use error::Error;
pub use manager::run;

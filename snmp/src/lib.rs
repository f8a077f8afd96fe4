//! `snmp`: the SNMP agent. Answers SNMPv2c requests in the management context and sends notifications.
//!
//! ```text
//!   UDP 161 ──> Sockets ──> State::answer ──> Agent (protocol) over a View (mibs) of counters, tasks, services
//!   every task ── notices on the bus ──> State::take ──> Traps ──> queue ──> UDP to each target
//!                                   └──> Journal (RUN/snmp/heard): where the next life goes on
//!   sct ── ConfigChanged ──> Loader ── GetConfig, RevealSecret (link), sockets from sit ──> State::apply
//!   shell ── Execute ──> show
//! ```
//!
//! One process a node, one thread, one loop ([`run`]); a receiver for each socket feeds it through a bounded channel. What waits for others
//! (configuration, secrets, sockets) runs beside the loop, so that requests are answered meanwhile. The history and the counts of
//! notifications are in memory and begin anew with the process. Notices are retained by the tasks that told them, so none is lost that was told
//! before this process listened or while there was none, and the journal keeps it from telling again what an earlier life told.

mod bus_api;
mod error;
pub mod fuzz;
#[cfg(test)]
mod interop;
mod journal;
mod loader;
mod manager;
mod outbox;
mod protocol;
mod settings;
mod show;
mod sockets;
mod state;
mod traps;

pub use error::Error;
pub use manager::run;

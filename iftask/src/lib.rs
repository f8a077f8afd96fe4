//! The data plane of one worker: ESP from the network to the clear side and back.
//!
//! ```text
//!   sct ── configuration ──┐                  ┌─ Plan ──> Supplier (task) ── asks sit for sockets, TUN queues
//!   rmctrl ── slot map ────┼─> Manager (loop) ┴─ map, ──> Keeper (task) ──── asks sit for segments, rings
//!   cli ── show iftask ────┘                     moves         │ commands, with descriptors
//!                                                              v
//!                                                      plane (one thread, of its own)
//! ```
//!
//! How many: one loop, one supplier, one keeper of slots, one plane thread per process. The loop, the supplier and the keeper share a current-thread runtime and never touch a packet; the
//! plane never touches the bus. State that outlives the process: sequence numbers, replay windows, learned addresses and counters lie in the slot segments, so a
//! restarted `iftask` goes on where the last one stopped.

mod bus_api;
mod busy;
mod counters;
mod error;
mod manager;
pub mod pipeline;
mod plan;
mod plane;
mod show;
mod slots;
mod supplier;

pub use error::Error;

use task::Task;

/// One life of an `iftask`.
///
/// # Errors
/// The data plane's thread cannot be started, or has ended.
pub async fn run(task: Task) -> Result<(), Error> {
    manager::run(task).await
}

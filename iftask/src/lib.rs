//! The data plane of one worker: ESP from the network to the clear side and back.
//!
//! ```text
//!   sct ── configuration ──┐
//!   rmctrl ── slot map ────┼─> Manager (loop) ── Plan ──> Supplier (task) ── asks sit for sockets, TUN queues, segments, rings
//!   cli ── show iftask ────┘                                 │ commands, with descriptors
//!                                                            v
//!                                                    plane (one thread, of its own)
//! ```
//!
//! How many: one loop, one supplier, one plane thread per process. The loop and the supplier share a current-thread runtime and never touch a packet; the
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

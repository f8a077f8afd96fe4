//! Resource manager: which worker has which slot, how busy the workers are, and what every task uses.
//!
//! ```text
//!   bus: GetSlotMap, Execute ──> manager (1 loop) ─┬─> SlotMap: fixed while the number of workers is
//!   timer, 5 s ────────────────────┘               ├─> Loads: counter pages of every ipsecmgr, sampled
//!                                                  └─> Tasks: heartbeats (1 task each), /proc of their processes
//! ```
//!
//! The map depends on the number of workers alone, so a restarted `rmctrl` answers as the one before, and nobody has to be told anything.

mod bus_api;
mod load;
mod manager;
mod show;
mod slots;
mod tasks;
mod usage;

pub use manager::run;

//! Resource manager: which worker has which slot, and how busy the workers are.
//!
//! ```text
//!   bus: GetSlotMap, Execute ──> manager (1 loop) ──> SlotMap: fixed while the number of workers is
//!   timer, 5 s ────────────────────┘            └──> Load: counter pages of every ipsecmgr, sampled
//! ```
//!
//! The map depends on the number of workers alone, so a restarted `rmctrl` answers as the one before, and nobody has to be told anything.

mod bus_api;
mod load;
mod manager;
mod show;
mod slots;

pub use manager::run;

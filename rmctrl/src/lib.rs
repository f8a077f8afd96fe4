//! Resource manager: which worker has which slot, how busy the workers are, and what every task uses.
//!
//! ```text
//!   bus: GetSlotMap, GetCongestion, Execute ──> manager (1 loop) ─┬─> Moves (1 task): the slot map, kept by sit; moves, one at a time
//!   timer, 5 s ─────────────────────────────────┘                 ├─> Loads: counter pages of every ipsecmgr, sampled
//!     ├─> what slots carry, of each iftask and ipsecmgr (1 task each): Carried ─> Policy: what should move; Lanes: what each manager needs
//!     ├─> heartbeats (1 task each)                                ├─> Tasks: answers to heartbeats, /proc of their processes
//!     └─> traffic of ports, from each vpnmgr (1 task each)        ├─> Ports: their answers
//!   timer, 1 s: Congestion <── measure                            ├─> Processors: /proc/stat and memory, 15 minutes of it
//!     └─> CongestionChanged                                       └─> CoreAlarms: thresholds of the data plane's processors
//!   sct: configuration ──> thresholds and policy
//! ```
//!
//! The first map of a node deals the slots out to the workers in turn. Every version is kept by `sit`, so a restarted `rmctrl` answers as the one before and goes on with
//! the moves that it finds in it. What it measures it measures anew: a restarted one knows of no congestion until it has looked, which it does at once.

mod alarms;
mod bus_api;
mod carried;
mod congestion;
mod lanes;
mod load;
mod manager;
mod measure;
mod moves;
mod ports;
mod processors;
mod rebalancing;
mod show;
mod slots;
mod tasks;
mod usage;

pub use manager::run;

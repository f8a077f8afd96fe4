//! Resource manager: which worker has which slot, how busy the workers are, and what every task uses.
//!
//! ```text
//!   bus: GetSlotMap, GetCongestion, Execute ──> manager (1 loop) ─┬─> SlotMap: fixed while the number of workers is
//!   timer, 5 s ─────────────────────────────────┘                 ├─> Loads: counter pages of every ipsecmgr, sampled
//!     ├─> heartbeats (1 task each)                                ├─> Tasks: answers to heartbeats, /proc of their processes
//!     └─> traffic of ports, from each vpnmgr (1 task each)        ├─> Ports: their answers
//!   timer, 1 s: Congestion <── measure                            ├─> Processors: /proc/stat and memory, 15 minutes of it
//!     └─> CongestionChanged                                       └─> CoreAlarms: thresholds of the data plane's processors
//!   sct: configuration ──> thresholds and policy
//! ```
//!
//! The map depends on the number of workers alone, so a restarted `rmctrl` answers as the one before, and nobody has to be told anything. What it
//! measures it measures anew: a restarted one knows of no congestion until it has looked, which it does at once.

mod alarms;
mod bus_api;
mod congestion;
mod load;
mod manager;
mod measure;
mod moves;
mod ports;
mod processors;
mod show;
mod slots;
mod tasks;
mod usage;

pub use manager::run;

//! `bulkstat`: bulk statistics. Samples the counters at an interval and writes files of one line an object.
//!
//! ```text
//!   sample timer ──> State::gather: Reader (counter pages), /proc, services ──> lines (sample, format) ──> Spool (on disk)
//!   transfer timer ──> State::transfer: header, records, footer ──> STATE/hd-raid/NAME, whole or not at all
//!   rmctrl ── GetDataPlaneCores, every 5 s ──> CardMeter
//!   sct ── ConfigChanged ──> GetConfig ──> State::apply
//!   shell ── Execute ──> show, force, clear
//! ```
//!
//! One process a node, one thread, one loop ([`run`]). What awaits transfer is on disk and survives the process; the counts of `show
//! bulkstats` do not.

mod bus_api;
mod card;
mod configuration;
mod data_plane;
mod error;
mod manager;
mod sample;
mod settings;
mod show;
mod spool;
mod state;
mod variables;

pub use error::Error;
pub use manager::run;

//! The shared configuration task: the one place where the configuration of the node lives.
//!
//! ```text
//!   boot file ──────────────┐
//!   Configure (shells) ─────┼──> Running (config::Config, version) ──> GetConfig, ConfigChanged (every manager)
//!   SaveConfig, show ───────┘        │ master key
//!                                    └──> RevealSecret over links (ipsecmgr, aaamgr, certmgr, snmp)
//! ```
//!
//! One thread. The running configuration is in memory; what survives the process is the last one applied, kept in the run directory after each
//! change, and what survives the node is what was saved. Plain secrets exist only while a line is applied and while a link asks for one.

mod access;
mod boot;
mod bus_api;
mod error;
mod files;
mod manager;
mod secrets;
mod sessions;
mod show;
mod state;

pub use error::Error;

/// The body of the process.
///
/// # Errors
/// When there is no master key and none can be made, or the bus is closed.
pub async fn run(task: task::Task) -> Result<(), Error> {
    manager::Manager::start(task)?.serve().await
}

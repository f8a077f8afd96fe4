//! `vpnmgr`: the network of one context. One process for each context, in the network namespace where `sit` has put it.
//!
//! ```text
//!   sct ── GetConfig ──────────> Plan ──────────┐
//!   sessmgr ── LeaseBlock/Address ──> Pools     ├──> Network ──> netlink (addresses, routes, devices), /proc/sys/net
//!   ipsecmgr ─ Add/RemoveRoutes ──> TunnelRoutes┘
//!   kernel ─── a device came or went: the plan is applied again
//!   cli ────── Execute ──> show
//! ```
//!
//! One loop on one thread; nothing in it waits for another task, and the kernel answers netlink requests at once. Small
//! helpers run beside it: at a restart one for each worker that asks what the worker holds.
//!
//! | what | after a restart comes from |
//! |---|---|
//! | addresses, devices, configured routes | the configuration; what the kernel has of ours and should not is removed |
//! | routes of tunnels | the kernel: our protocol number, the metric is the tunnel's SPI |
//! | leases | the workers; until all have answered nothing is leased |

mod bus_api;
mod error;
mod kernel;
mod manager;
mod netlink;
mod network;
mod plan;
mod pool;
mod pools;
mod routes;
mod rules;
mod show;
mod state;
mod traffic;
mod watch;

pub use error::Error;
pub use manager::run;

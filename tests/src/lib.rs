//! What the system tests are made of: namespaces, the node under test, real peers, numbered streams of packets.
//!
//! Each scenario builds its own world and takes it down again, also when it fails. World numbers keep parallel scenarios apart.
//!
//! ```text
//!   peer namespace            node namespace             host namespace
//!   strongSwan                starward run               an ordinary kernel
//!   10.10.0.1/24 ── vran ── 10.10.0.2/24
//!   fd10::1/64              fd10::2/64
//!   lo 10.20.1.1            10.20.2.254/24 ── vcore ── 10.20.2.1/24
//!   lo fd20:1::1            fd20:2::fe/64              fd20:2::1/64
//! ```

#![expect(
    clippy::expect_used,
    reason = "a harness of tests: a failure here is a failed test"
)]

pub mod capture;
pub mod connection;
pub mod freeradius;
pub mod node;
pub mod pki;
pub mod process;
pub mod scenario;
pub mod simulator;
pub mod strongswan;
pub mod tool;
pub mod traffic;
pub mod world;

pub use connection::Connection;
pub use node::Node;
pub use process::{Running, run, run_in, try_run_in};
pub use scenario::real_peer;
pub use simulator::Simulator;
pub use strongswan::Strongswan;
pub use traffic::{Report, both_ways};
pub use world::World;

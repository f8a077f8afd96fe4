//! `aaamgr`: authentication and accounting by RADIUS. It alone knows the shared secrets and owns the RADIUS sockets.
//!
//! ```text
//!   ipsecmgr ══ EapRound (link) ══> Conversations ──> Channel (radius::Client) ──> Sockets ~~> RADIUS servers
//!            <═ EapAnswer, MSK ════                       ^
//!   sessmgr ── Account (bus) ──> Spool ───────────────────┘
//!   sct ── GetConfig ──> Settings        sct ══ RevealSecret (link) ══> Secrets
//! ```
//!
//! One loop on one thread, one [`radius::Client`] for each AAA group and service, one helper for each socket that reads it, and a
//! short-lived helper that asks for secrets. MSKs exist here from the Access-Accept until the answer has left over the link.

mod attributes;
mod bus_api;
mod channel;
mod conversations;
mod error;
mod manager;
mod repeats;
mod settings;
mod show;
mod sockets;
mod spool;
mod state;

pub use error::Error;
pub use manager::run;

//! The certificate manager: the only process that holds private keys. It signs for `ipsecmgr` and judges the certificates
//! of peers; nobody else opens a key file.
//!
//! ```text
//!   sct ── GetConfig, ConfigChanged ──> follow (1) ── Store (1 waiting) ──> manager (1)
//!       ══ RevealSecret (link) ═══════>   │                                  │  ^
//!                                   load (blocking thread)                   │  └── Execute (show)
//!                                                                            │
//!   ipsecmgr ── GetCertificate, GetTrust ──────────────────────────────── answers
//!            ── Prove (signatures, peers) ────────────────────────────────> │ jobs (bounded)
//!            <──────────── replies ── crypto threads (1 per processor, 1 to 4) <─┘
//! ```
//!
//! | file | contents |
//! |---|---|
//! | `manager` | the loop |
//! | `follow` | the configuration and its changes |
//! | `load` | reading certificates and keys |
//! | `state` | [`state::Store`]: what was loaded, and what could not be |
//! | `bus_api` | the requests |
//! | `batch` | a request for many signatures and verdicts |
//! | `pool` | the threads that sign and verify |
//! | `watch` | certificates that expire |
//! | `show` | `show certificate`, `show ca-certificate` |
//!
//! Nothing survives this process, and nothing needs to: a new one reads the files again.

mod batch;
mod bus_api;
mod error;
mod follow;
mod load;
mod manager;
mod pool;
mod show;
mod state;
#[cfg(test)]
mod test_pki;
mod watch;

pub use error::Error;
pub use manager::run;

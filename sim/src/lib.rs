//! The simulator: eNodeBs that really run our IKEv2 initiator and ESP, a host behind the gateway, and the demo made of them.
//!
//! ```text
//!   starward demo                    builds the world below, shows it live, ends with the gateway's own show output
//!     │
//!     ├─ namespace "ran"    starward sim enodebs    N tunnels, numbered packets up, echoes counted
//!     │      veth
//!     ├─ namespace "gw"     starward run            the node under demonstration
//!     │      veth
//!     └─ namespace "core"   starward sim host       an ordinary kernel socket: counts what arrives, echoes it
//! ```
//!
//! Beside it stand the tools that measurements are made with: `load` (set-ups, rekeyings), `traffic`, `stream` and `far` (packets, counted and timed at both ends),
//! `flood` (spoofed requests), `pki`. All of them, `enodebs` and `tunnel` work against any IKEv2 gateway, so peers are measured under the same rules.
//! Nothing here is part of the node.

mod authority;
mod credentials;
mod demo;
mod device;
mod enodebs;
mod fleet;
mod flood;
mod histogram;
mod host;
mod initiator;
mod lane;
mod load;
mod offer;
mod pace;
mod packets;
mod peers;
mod plane;
mod processors;
mod progress;
mod rates;
mod screen;
mod sockets;
mod traffic;
mod tunnel;
mod world;

use std::process::ExitCode;

pub use demo::Demo;

/// `starward sim ...`
#[derive(Debug, clap::Subcommand)]
pub enum Simulate {
    /// Simulated eNodeBs: set tunnels up, send numbered packets through them, count the echoes
    Enodebs(enodebs::Enodebs),
    /// One tunnel with a TUN device at its end, for ordinary programs to send through
    Tunnel(device::Device),
    /// A host behind the gateway: counts the packets it gets and sends them back
    Host(host::Host),
    /// Set-ups, rekeyings and deletes at a rate, with their times
    Load(load::Load),
    /// Set-ups beside a flood of requests from spoofed addresses
    Flood(flood::Flood),
    /// Numbered packets through simulated tunnels, counted and timed at both ends
    Traffic(traffic::Traffic),
    /// The same on ordinary sockets, through whatever tunnel the system routes them to
    Stream(traffic::Plain),
    /// The far end of both, behind the gateway
    Far(traffic::Far),
    /// An authority and certificates for measurements
    Pki(authority::Pki),
}

impl Simulate {
    /// Runs it to its end; prints its result as one JSON object on the last line of standard output.
    pub fn run(self) -> ExitCode {
        let result = match self {
            Simulate::Enodebs(enodebs) => enodebs.run(),
            Simulate::Tunnel(device) => device.run(),
            Simulate::Host(host) => host.run(),
            Simulate::Load(load) => load.run(),
            Simulate::Flood(flood) => flood.run(),
            Simulate::Traffic(traffic) => traffic.run(),
            Simulate::Stream(plain) => plain.run(),
            Simulate::Far(far) => far.run(),
            Simulate::Pki(pki) => pki.run(),
        };
        match result {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                progress::complain(&format!("starward sim: {error}"));
                ExitCode::FAILURE
            }
        }
    }
}

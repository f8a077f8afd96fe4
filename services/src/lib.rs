//! The policy of each type of service: what the configuration of a service means to IKE and to the data plane.
//!
//! Nothing here has state. A manager gives the running configuration and the names of a service, and gets what its peers may do
//! ([`ikev2::Profile`]), which secrets speak for whom ([`wsg::Secrets`]) and how their packets are treated ([`wsg::DataPath`]).

mod disconnect;
mod proposals;
pub mod wsg;

use std::fmt;

pub use disconnect::DisconnectReason;

/// Why a service cannot run as configured, or not exactly so. One line for the operator, naming the object at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem(pub String);

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Problem {}

//! A gateway under measurement.

use std::fmt;

use crate::account::Cost;
use crate::process::Running;
use crate::world::{Ground, World};
use crate::{starward, strongswan};

/// The pre-shared key of every tunnel, that of `examples/secgw.cfg`.
pub const SECRET: &str = "demo-only-not-a-secret";

/// Whose gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Ours,
    Peer,
}

impl Kind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ours, Self::Peer];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "starward",
            Self::Peer => "strongSwan",
        })
    }
}

/// The Diffie-Hellman group of the IKE SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group {
    /// 31
    Curve25519,
    /// 19
    Ecp256,
}

impl Group {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Curve25519, Self::Ecp256];

    /// Its transform id.
    pub fn number(self) -> u16 {
        match self {
            Self::Curve25519 => 31,
            Self::Ecp256 => 19,
        }
    }
}

/// A running gateway in a world of its own.
pub struct Gateway {
    // Dropped in this order: the processes before their namespaces.
    process: Running,
    pub world: World,
}

impl Gateway {
    /// Builds a world and starts the gateway in it; returns when it answers.
    pub fn start(ground: &Ground, kind: Kind, group: Group, routes: bool) -> Result<Self, String> {
        let world = ground.world()?;
        let process = match kind {
            Kind::Ours => starward::start(&world, group)?,
            Kind::Peer => strongswan::start_responder(&world, group, routes)?,
        };
        Ok(Self { process, world })
    }

    /// What it costs so far.
    pub fn cost(&self) -> Result<Cost, String> {
        Cost::of(self.process.pid())
    }
}

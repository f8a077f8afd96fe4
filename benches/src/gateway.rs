//! A gateway under measurement.

use std::fmt;
use std::path::PathBuf;

use crate::account::Cost;
use crate::process::Running;
use crate::world::{Ground, World};
use crate::{starward, strongswan, wireguard};

/// The pre-shared key of every tunnel, that of `examples/secgw.cfg`.
pub const SECRET: &str = "demo-only-not-a-secret";

/// Whose gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    Ours,
    Strongswan,
    WireguardGo,
    Boringtun,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Ours, Self::Strongswan, Self::WireguardGo, Self::Boringtun];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "starward",
            Self::Strongswan => "strongSwan",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
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
    /// Its transform id.
    pub fn number(self) -> u16 {
        match self {
            Self::Curve25519 => 31,
            Self::Ecp256 => 19,
        }
    }
}

/// How a gateway is set up.
#[derive(Debug, Clone)]
pub struct Setting {
    pub group: Group,
    /// Folder made by `starward sim pki`; without one both sides have the pre-shared key.
    pub certificates: Option<PathBuf>,
    /// Routes for the selectors, which traffic needs; thousands of them only hold strongSwan's set-ups up.
    pub routes: bool,
    /// The processor that it has; without it all of them.
    pub cpu: Option<usize>,
    /// More lines of the context in our configuration.
    pub context: &'static str,
}

impl Default for Setting {
    /// Pre-shared key, group 31, no routes.
    fn default() -> Self {
        Self {
            group: Group::Curve25519,
            certificates: None,
            routes: false,
            cpu: None,
            context: "",
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
    pub fn start(ground: &Ground, kind: Kind, setting: &Setting) -> Result<Self, String> {
        let world = ground.world()?;
        let process = match kind {
            Kind::Ours => starward::start(&world, setting)?,
            Kind::Strongswan => strongswan::start_responder(&world, setting)?,
            Kind::WireguardGo | Kind::Boringtun => wireguard::start_responder(&world, kind, setting)?,
        };
        Ok(Self { process, world })
    }

    /// What it costs so far.
    pub fn cost(&self) -> Result<Cost, String> {
        Cost::of(self.process.pid())
    }
}

/// Ours first and the peers first by turns, so that what changes with time does not favour anybody.
pub fn in_turn<T>(run: usize, all: impl DoubleEndedIterator<Item = T>) -> Vec<T> {
    if run.is_multiple_of(2) {
        all.collect()
    } else {
        all.rev().collect()
    }
}

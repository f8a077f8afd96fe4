//! How a client behaves and whom it asks.

use std::net::SocketAddr;
use std::time::Duration;

use crate::secret::Secret;

/// What is asked of the servers of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// Access-Request.
    Authentication,
    /// Accounting-Request.
    Accounting,
}

/// Which server gets a new request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Algorithm {
    /// The live one of the best priority.
    #[default]
    FirstServer,
    /// The live ones in turn, in order of priority.
    RoundRobin,
}

/// A server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// The shared secret.
    pub secret: Secret,
    /// Smaller is better; servers of the same priority are asked in the order of the list.
    pub priority: u32,
}

/// When a server counts as dead. When both conditions are set, both must be met; when none is, no server is ever dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeadServer {
    /// Requests in a row that got no answer after all their retries.
    pub consecutive_failures: Option<u32>,
    /// Time without any answer while requests wait.
    pub response_timeout: Option<Duration>,
}

impl Default for DeadServer {
    fn default() -> Self {
        Self {
            consecutive_failures: Some(4),
            response_timeout: None,
        }
    }
}

/// Settings of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The servers.
    pub servers: Vec<Server>,
    /// Which of them gets a new request.
    pub algorithm: Algorithm,
    /// How long to wait for an answer before the request is sent again.
    pub timeout: Duration,
    /// How often a request is sent again to the same server.
    pub max_retries: u32,
    /// How often a request is sent at most, over all servers.
    pub max_transmissions: Option<u32>,
    /// Requests that may wait for an answer at a time, 1 to [`MAX_OUTSTANDING`]; more of them wait in the queue.
    pub max_outstanding: u16,
    /// Requests that may wait in the queue.
    pub queue_limit: usize,
    /// When a server counts as dead.
    pub dead_server: DeadServer,
    /// How long a dead server gets no new requests as long as another one lives.
    pub deadtime: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            servers: Vec::new(),
            algorithm: Algorithm::default(),
            timeout: Duration::from_secs(3),
            max_retries: 5,
            max_transmissions: None,
            max_outstanding: 256,
            queue_limit: 10_000,
            dead_server: DeadServer::default(),
            deadtime: Duration::from_secs(600),
        }
    }
}

impl Config {
    /// Source ports a client of these settings needs: a port carries 256 identifiers to each server.
    pub fn ports(&self) -> u16 {
        self.outstanding().div_ceil(IDENTIFIERS)
    }

    pub(super) fn outstanding(&self) -> u16 {
        self.max_outstanding.clamp(1, MAX_OUTSTANDING)
    }
}

/// Identifiers of one source port (RFC 2865 section 3).
pub(super) const IDENTIFIERS: u16 = 256;
/// Most requests that may wait for an answer at a time.
pub const MAX_OUTSTANDING: u16 = 4_000;

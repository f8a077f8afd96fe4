//! Authentication, authorization, accounting.

use std::net::IpAddr;

use crate::SecretText;

/// `aaa group NAME`: RADIUS servers and how they are used.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AaaGroup {
    /// `radius attribute nas-ip-address address`: NAS-IP-Address (or NAS-IPv6-Address) and source address.
    pub nas_ip_address: Option<IpAddr>,
    /// `radius attribute nas-identifier`: NAS-Identifier.
    pub nas_identifier: Option<String>,
    /// `radius server`, best priority first.
    pub servers: Vec<RadiusServer>,
    /// `radius algorithm`, `max-retries`, ... for authentication.
    pub authentication: RadiusPolicy,
    /// `radius accounting server`, best priority first.
    pub accounting_servers: Vec<RadiusServer>,
    /// `radius accounting algorithm`, `max-retries`, ...
    pub accounting: RadiusPolicy,
    /// `radius accounting interim interval`: 50 to 40000000 seconds, `None` for no interim records.
    pub interim_interval: Option<u32>,
}

/// A RADIUS server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadiusServer {
    /// Its address.
    pub address: IpAddr,
    /// Its port, default 1812, or 1813 for accounting.
    pub port: u16,
    /// The shared secret.
    pub secret: SecretText,
    /// `priority`: 1 (best) to 1000, default 1000.
    pub priority: u16,
    /// `max`: most requests under way, 0 to 4000, default 256.
    pub max_outstanding: u16,
}

/// How the servers of a group are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RadiusPolicy {
    /// `algorithm`.
    pub algorithm: RadiusAlgorithm,
    /// `timeout`: seconds to wait for an answer, 1 to 65535.
    pub timeout: u32,
    /// `max-retries`: 0 to 65535 per server.
    pub max_retries: u32,
    /// `deadtime`: minutes a dead server is left alone, 0 to 65535.
    pub deadtime: u32,
    /// `detect-dead-server consecutive-failures`: 1 to 1000.
    pub consecutive_failures: u32,
}

command::keywords! {
    /// Which server is asked.
    pub enum RadiusAlgorithm {
        FirstServer = "first-server", "The active server with the best priority";
        RoundRobin = "round-robin", "The active servers in turn";
    }
}

/// `radius server ... port` when nothing is configured.
pub const DEFAULT_RADIUS_PORT: u16 = 1_812;
/// `radius accounting server ... port` when nothing is configured.
pub const DEFAULT_ACCOUNTING_PORT: u16 = 1_813;
/// `priority` of a server when nothing is configured.
pub const DEFAULT_RADIUS_PRIORITY: u16 = 1_000;
/// `max` of a server when nothing is configured: RFC 2865 identifiers are one octet.
pub const DEFAULT_RADIUS_OUTSTANDING: u16 = 256;

impl Default for RadiusPolicy {
    fn default() -> Self {
        Self {
            algorithm: RadiusAlgorithm::FirstServer,
            timeout: 3,
            max_retries: 5,
            deadtime: 10,
            consecutive_failures: 4,
        }
    }
}

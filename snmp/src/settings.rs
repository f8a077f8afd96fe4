//! What the configuration asks for.

use std::net::SocketAddr;

use config::{Config, SecretText, SnmpVersion};

use crate::outbox::Target;
use crate::protocol::{Access, Community, Form};

/// The `snmp ...` and `system ...` lines of the configuration, and the services that the service table shows.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    /// `snmp server port`; 0: nobody may ask, any port does for sending.
    pub port: u16,
    /// `system hostname`.
    pub host: String,
    /// `system contact`.
    pub contact: String,
    /// `system location`.
    pub location: String,
    /// `snmp community`.
    pub communities: Vec<Community>,
    /// `snmp target`.
    pub targets: Vec<Target>,
    /// `snmp trap suppress`.
    pub suppressed: Vec<String>,
    /// `snmp authentication-failure-trap`.
    pub authentication_failure_trap: bool,
    /// The configured services.
    pub services: Vec<mibs::Service>,
}

impl Settings {
    /// What a configuration asks for. `reveal` opens a sealed community; one that it cannot open is left out, for nobody could use it.
    pub fn of(config: &Config, reveal: impl Fn(&SecretText) -> Option<Vec<u8>>) -> Self {
        let access = |read_write: bool| {
            if read_write {
                Access::ReadWrite
            } else {
                Access::ReadOnly
            }
        };
        let communities: Vec<_> = config
            .snmp
            .communities
            .iter()
            .filter_map(|community| {
                Some(Community {
                    name: reveal(&community.name)?,
                    access: access(community.read_write),
                })
            })
            .collect();
        let targets = config.snmp.targets.iter().filter_map(|(name, target)| {
            let community = match &target.community {
                None => DEFAULT_COMMUNITY.to_vec(),
                Some(sealed) => reveal(sealed)?,
            };
            Some(Target {
                name: name.clone(),
                address: SocketAddr::new(target.address, target.port),
                community,
                form: match (target.version, target.informs) {
                    // A version 1 manager has no informs.
                    (SnmpVersion::V1, _) => Form::TrapV1,
                    (SnmpVersion::V2c, false) => Form::TrapV2c,
                    (SnmpVersion::V2c, true) => Form::Inform,
                },
            })
        });
        Self {
            port: if communities.is_empty() {
                0
            } else {
                config.snmp.port
            },
            host: config.system.hostname.clone(),
            contact: config.system.contact.clone(),
            location: config.system.location.clone(),
            targets: targets.collect(),
            communities,
            suppressed: config.snmp.suppressed.iter().cloned().collect(),
            authentication_failure_trap: config.snmp.authentication_failure_trap,
            services: services(config),
        }
    }

    /// The secrets of a configuration that [`Self::of`] asks for.
    pub fn secrets(config: &Config) -> Vec<SecretText> {
        let communities = config.snmp.communities.iter().map(|community| &community.name);
        let targets = config
            .snmp
            .targets
            .values()
            .filter_map(|target| target.community.as_ref());
        communities.chain(targets).cloned().collect()
    }

    /// The port of the socket that is needed, if any.
    pub fn socket(&self) -> Option<u16> {
        let needed = !self.communities.is_empty() || !self.targets.is_empty();
        needed.then_some(self.port)
    }
}

/// The community in notifications to a target without `security-name`.
const DEFAULT_COMMUNITY: &[u8] = b"public";

/// Services are numbered in the order of context identifiers, then by name.
fn services(config: &Config) -> Vec<mibs::Service> {
    config
        .wsg_services()
        .zip(1..)
        .map(|((context_name, context, name, _), number)| mibs::Service {
            context_number: context.id,
            number,
            context: context_name.to_owned(),
            name: name.to_owned(),
            kind: mibs::ServiceType::Wsg,
            // No limit is configured.
            limit: 0,
        })
        .collect()
}

//! What the configuration says about AAA groups.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use config::{Config, DEFAULT_AAA_GROUP, RadiusAlgorithm, RadiusPolicy, RadiusServer, SecretText};
use radius::{Algorithm, DeadServer, Secret, Server, Service};

/// A group: context and name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupKey {
    /// Context.
    pub context: String,
    /// Name.
    pub name: String,
}

/// The servers of a group for one service.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelKey {
    /// The group.
    pub group: GroupKey,
    /// Authentication before accounting.
    pub accounting: bool,
}

/// Who we are to the servers of a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Nas {
    /// NAS-IP-Address or NAS-IPv6-Address, and the source address of requests.
    pub address: Option<IpAddr>,
    /// NAS-Identifier.
    pub identifier: String,
}

/// Servers with their policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelSettings {
    servers: Vec<RadiusServer>,
    policy: RadiusPolicy,
}

/// All groups.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Settings {
    /// Who we are, by group.
    pub groups: BTreeMap<GroupKey, Nas>,
    /// Servers, where there are any.
    pub channels: BTreeMap<ChannelKey, ChannelSettings>,
    /// Name of the group that the sessions of a context use.
    group_of: HashMap<String, String>,
}

/// Revealed secrets.
pub type Secrets = HashMap<SecretText, Secret>;

impl Settings {
    /// Looks everything up.
    pub fn new(config: &Config) -> Self {
        let mut settings = Self::default();
        for (context_name, context) in &config.contexts {
            let chosen = context.subscriber.aaa_group.clone();
            settings.group_of.insert(
                context_name.clone(),
                chosen.unwrap_or_else(|| DEFAULT_AAA_GROUP.to_owned()),
            );
            for (name, group) in &context.aaa_groups {
                let key = GroupKey {
                    context: context_name.clone(),
                    name: name.clone(),
                };
                let identifier = group
                    .nas_identifier
                    .clone()
                    .unwrap_or_else(|| config.system.hostname.clone());
                settings.groups.insert(
                    key.clone(),
                    Nas {
                        address: group.nas_ip_address,
                        identifier,
                    },
                );
                let kinds = [
                    (false, &group.servers, &group.authentication),
                    (true, &group.accounting_servers, &group.accounting),
                ];
                for (accounting, servers, policy) in kinds {
                    if servers.is_empty() {
                        continue;
                    }
                    let channel = ChannelKey {
                        group: key.clone(),
                        accounting,
                    };
                    let value = ChannelSettings {
                        servers: servers.clone(),
                        policy: policy.clone(),
                    };
                    settings.channels.insert(channel, value);
                }
            }
        }
        settings
    }

    /// The group that the sessions of a context use.
    pub fn group_of(&self, context: &str) -> Option<GroupKey> {
        let name = self.group_of.get(context)?.clone();
        Some(GroupKey {
            context: context.to_owned(),
            name,
        })
    }

    /// Every secret that is needed.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretText> {
        self.channels
            .values()
            .flat_map(|channel| &channel.servers)
            .map(|server| &server.secret)
    }
}

impl ChannelKey {
    /// What is asked of its servers.
    pub fn service(&self) -> Service {
        if self.accounting {
            Service::Accounting
        } else {
            Service::Authentication
        }
    }
}

impl ChannelSettings {
    /// The settings of a client. Servers whose secret is not known are left out.
    pub fn client(&self, secrets: &Secrets) -> radius::Config {
        let server = |server: &RadiusServer| {
            Some(Server {
                address: SocketAddr::new(server.address, server.port),
                secret: secrets.get(&server.secret)?.clone(),
                priority: server.priority.into(),
            })
        };
        let algorithm = match self.policy.algorithm {
            RadiusAlgorithm::FirstServer => Algorithm::FirstServer,
            RadiusAlgorithm::RoundRobin => Algorithm::RoundRobin,
        };
        let outstanding = self.servers.iter().map(|server| server.max_outstanding).max();
        radius::Config {
            servers: self.servers.iter().filter_map(server).collect(),
            algorithm,
            timeout: Duration::from_secs(self.policy.timeout.into()),
            max_retries: self.policy.max_retries,
            max_outstanding: outstanding.unwrap_or(1).max(1),
            dead_server: DeadServer {
                consecutive_failures: Some(self.policy.consecutive_failures),
                response_timeout: None,
            },
            deadtime: Duration::from_secs(u64::from(self.policy.deadtime) * 60),
            ..radius::Config::default()
        }
    }
}

//! The whole node.

use std::collections::BTreeMap;

use super::{
    Bulkstats, CaCertificate, Certificate, Congestion, Context, Logging, Port, PortId, PrivateKey,
    Rebalancing, RemoteSecretList, Snmp, Thresholds, WsgService,
};

/// Name of the management context, which always exists.
pub const LOCAL: &str = "local";
/// Identifier of the management context.
pub const LOCAL_ID: u32 = 1;

/// The configuration of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `system ...`.
    pub system: System,
    /// Contexts by name. [`LOCAL`] is always there.
    pub contexts: BTreeMap<String, Context>,
    /// `port ethernet SLOT/PORT`.
    pub ports: BTreeMap<PortId, Port>,
    /// `certificate name NAME`.
    pub certificates: BTreeMap<String, Certificate>,
    /// `private-key ...` without a certificate's name: the key of certificates that name none.
    pub private_key: Option<PrivateKey>,
    /// `ca-certificate name NAME`.
    pub ca_certificates: BTreeMap<String, CaCertificate>,
    /// `crypto remote-secret-list NAME`.
    pub remote_secret_lists: BTreeMap<String, RemoteSecretList>,
    /// `logging filter ...`.
    pub logging: Logging,
    /// `snmp ...`.
    pub snmp: Snmp,
    /// `bulkstats ...`.
    pub bulkstats: Bulkstats,
    /// `task facility ...` and `require ...`.
    pub tasks: Tasks,
    /// `require session recovery`: a process that dies costs no tunnel.
    pub session_recovery: bool,
    /// `congestion-control ...`.
    pub congestion: Congestion,
    /// `crypto slot-rebalancing ...`.
    pub rebalancing: Rebalancing,
    /// `threshold ...`.
    pub thresholds: Thresholds,
}

/// `system ...`: who and where this node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct System {
    /// `system hostname`: 1 to 63 characters.
    pub hostname: String,
    /// `system contact`: 0 to 255 characters.
    pub contact: String,
    /// `system location`: 0 to 255 characters.
    pub location: String,
}

/// What the node starts with: how many tasks of a kind there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tasks {
    /// `task facility ipsecmgr task-count`: number of workers.
    pub ipsecmgr: TaskCount,
    /// `require ipsec-large`: two workers per processor unless `task-count` says otherwise. Default off.
    pub ipsec_large: bool,
}

impl Tasks {
    /// What an operator is told who changes them.
    pub const WAIT_FOR_START: &str = "the number of workers stays as it is while the node runs: save the configuration and start the node again";

    /// How many workers a node of this configuration starts with on a machine with so many processors, 1 to 255.
    pub fn workers(&self, processors: u32) -> u32 {
        let count = match (self.ipsecmgr, self.ipsec_large) {
            (TaskCount::Normal, true) => TaskCount::Increased,
            (count, _) => count,
        };
        count.on(processors)
    }
}

/// A number of tasks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TaskCount {
    /// `normal`: one per processor.
    #[default]
    Normal,
    /// `increased`: two per processor.
    Increased,
    /// Exactly so many (our own form).
    Exactly(u32),
}

impl TaskCount {
    /// The number on a machine with so many processors, 1 to 255 (a worker needs at least one slot).
    pub fn on(self, processors: u32) -> u32 {
        let count = match self {
            Self::Normal => processors,
            Self::Increased => processors.saturating_mul(2),
            Self::Exactly(count) => count,
        };
        count.clamp(1, 255)
    }
}

impl Default for System {
    fn default() -> Self {
        Self {
            hostname: "starward".to_owned(),
            contact: String::new(),
            location: String::new(),
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            system: System::default(),
            contexts: BTreeMap::from([(LOCAL.to_owned(), Context::new(LOCAL_ID))]),
            ports: BTreeMap::new(),
            certificates: BTreeMap::new(),
            private_key: None,
            ca_certificates: BTreeMap::new(),
            remote_secret_lists: BTreeMap::new(),
            logging: Logging::default(),
            snmp: Snmp::default(),
            bulkstats: Bulkstats::default(),
            tasks: Tasks::default(),
            session_recovery: true,
            congestion: Congestion::default(),
            rebalancing: Rebalancing::default(),
            thresholds: Thresholds::default(),
        }
    }
}

impl Config {
    /// The contexts with their names, in the order of their identifiers.
    pub fn contexts_by_id(&self) -> Vec<(&str, &Context)> {
        let mut contexts: Vec<(&str, &Context)> = self
            .contexts
            .iter()
            .map(|(name, context)| (name.as_str(), context))
            .collect();
        contexts.sort_by_key(|(_, context)| context.id);
        contexts
    }

    /// The name and the context with this identifier.
    pub fn context_by_id(&self, id: u32) -> Option<(&str, &Context)> {
        self.contexts
            .iter()
            .find(|(_, context)| context.id == id)
            .map(|(name, context)| (name.as_str(), context))
    }

    /// Every wsg-service: context name, context, service name, service; in the order of context identifiers, then by name.
    pub fn wsg_services(&self) -> impl Iterator<Item = (&str, &Context, &str, &WsgService)> {
        self.contexts_by_id()
            .into_iter()
            .flat_map(|(context_name, context)| {
                context
                    .wsg_services
                    .iter()
                    .map(move |(name, service)| (context_name, context, name.as_str(), service))
            })
    }

    /// The list that a template's `remote-secret-list` means: the named one, or without a name the only one.
    pub fn remote_secrets(&self, template: &super::CryptoTemplate) -> Option<&RemoteSecretList> {
        match template.remote_secret_list.as_deref()? {
            "" if self.remote_secret_lists.len() == 1 => self.remote_secret_lists.values().next(),
            name => self.remote_secret_lists.get(name),
        }
    }
}

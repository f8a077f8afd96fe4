//! What the configuration says about sessions, with everything looked up once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use config::{Config, Context, DEFAULT_AAA_GROUP, DeploymentMode, PoolAccess, WsgService};

/// A pool: the context of its `vpnmgr`, and its name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolKey {
    /// Number of the context, and instance of its `vpnmgr`.
    pub context: u32,
    /// Name.
    pub name: Arc<str>,
}

/// What the sessions of a service get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Context of the service.
    pub context: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// Number of the context of the clear side, where addresses come from.
    pub clear_context: u32,
    /// It has an address and a template.
    pub bound: bool,
    /// Its peers are hosts that are given addresses.
    pub remote_access: bool,
    /// Pools for IPv4 addresses, in order.
    pub ipv4_pools: Vec<PoolKey>,
    /// Pools for IPv6 prefixes, in order.
    pub ipv6_pools: Vec<PoolKey>,
    /// Name servers for IPv4 and IPv6 peers.
    pub dns: Vec<IpAddr>,
    /// A new session of the same identity ends the old one.
    pub duplicate_session_detection: bool,
    /// Longest session in seconds.
    pub absolute_timeout: Option<u32>,
    /// Longest silence in seconds.
    pub idle_timeout: Option<u32>,
    /// Somebody wants accounting records.
    pub accounting: bool,
    /// Seconds between interim records.
    pub interim_interval: Option<u32>,
}

/// All services and pools.
#[derive(Debug, Default)]
pub struct Policy {
    services: HashMap<Arc<str>, HashMap<Arc<str>, Arc<Service>>>,
    /// Pools by context, in order of preference, with their groups and the seconds an address is held.
    pools: HashMap<u32, Vec<Pool>>,
    contexts: HashMap<String, u32>,
}

#[derive(Debug, Clone)]
struct Pool {
    key: PoolKey,
    group: Option<String>,
    access: PoolAccess,
    ipv6: bool,
    hold: u32,
}

impl Policy {
    /// Looks everything up.
    pub fn new(config: &Config) -> Self {
        let mut policy = Self::default();
        for (name, context) in &config.contexts {
            policy.contexts.insert(name.clone(), context.id);
            policy.pools.insert(context.id, pools(context));
        }
        for (context_name, context, name, service) in config.wsg_services() {
            let service = Arc::new(policy.service(context_name, context, name, service));
            let services = policy.services.entry(service.context.clone()).or_default();
            services.insert(service.name.clone(), service);
        }
        policy
    }

    /// A service by its names.
    pub fn find(&self, context: &str, service: &str) -> Option<&Arc<Service>> {
        self.services.get(context)?.get(service)
    }

    /// All services.
    pub fn services(&self) -> impl Iterator<Item = &Arc<Service>> {
        self.services.values().flat_map(HashMap::values)
    }

    /// Number of a context.
    pub fn context(&self, name: &str) -> Option<u32> {
        self.contexts.get(name).copied()
    }

    /// The pools that a name means: the pool itself, or those of a group in order of their priority.
    pub fn pools_named(&self, context: u32, name: &str, ipv6: bool) -> Vec<PoolKey> {
        let pools = || {
            self.pools
                .get(&context)
                .into_iter()
                .flatten()
                .filter(|pool| pool.ipv6 == ipv6)
        };
        if let Some(pool) = pools().find(|pool| *pool.key.name == *name) {
            return vec![pool.key.clone()];
        }
        pools()
            .filter(|pool| pool.group.as_deref() == Some(name))
            .map(|pool| pool.key.clone())
            .collect()
    }

    /// Seconds for which a released address of a pool stays with its last user.
    pub fn hold(&self, key: &PoolKey) -> u32 {
        let pools = self.pools.get(&key.context).into_iter().flatten();
        pools
            .filter(|pool| pool.key == *key)
            .map(|pool| pool.hold)
            .next()
            .unwrap_or(0)
    }

    /// Whether a pool is (still) configured and addresses may be handed out of it.
    pub fn is_dynamic(&self, key: &PoolKey) -> bool {
        let mut pools = self.pools.get(&key.context).into_iter().flatten();
        pools.any(|pool| pool.key == *key && pool.access != PoolAccess::Static)
    }

    fn service(&self, context_name: &str, context: &Context, name: &str, own: &WsgService) -> Service {
        let subscriber = &context.subscriber;
        let clear_context = subscriber
            .context_name
            .as_deref()
            .and_then(|name| self.context(name))
            .unwrap_or(context.id);
        let named = |names: &[String], ipv6| {
            names
                .iter()
                .flat_map(|name| self.pools_named(clear_context, name, ipv6))
                .collect::<Vec<_>>()
        };
        let ipv4_names = if own.ip_pools.is_empty() {
            &subscriber.ip_pools
        } else {
            &own.ip_pools
        };
        let mut ipv4_pools = named(ipv4_names, false);
        let mut ipv6_pools = named(&own.ipv6_pools, true);
        if ipv4_names.is_empty() {
            ipv4_pools = self.public(clear_context, false);
        }
        if own.ipv6_pools.is_empty() {
            ipv6_pools = self.public(clear_context, true);
        }
        let group_name = subscriber.aaa_group.as_deref().unwrap_or(DEFAULT_AAA_GROUP);
        let group = context.aaa_groups.get(group_name);
        let group = group.filter(|group| !group.accounting_servers.is_empty());
        let dns = subscriber
            .dns
            .iter()
            .map(IpAddr::from)
            .chain(subscriber.ipv6_dns.iter().map(IpAddr::from));
        Service {
            context: context_name.into(),
            name: name.into(),
            clear_context,
            bound: own.bind.is_some(),
            remote_access: own.deployment_mode == DeploymentMode::RemoteAccess,
            ipv4_pools,
            ipv6_pools,
            dns: dns.collect(),
            duplicate_session_detection: own.duplicate_session_detection,
            absolute_timeout: subscriber.absolute_timeout,
            idle_timeout: subscriber.idle_timeout,
            accounting: group.is_some(),
            interim_interval: group.and_then(|group| group.interim_interval),
        }
    }

    /// The pools for whoever asks for no certain one.
    fn public(&self, context: u32, ipv6: bool) -> Vec<PoolKey> {
        let pools = self.pools.get(&context).into_iter().flatten();
        let public = pools.filter(|pool| pool.ipv6 == ipv6 && matches!(pool.access, PoolAccess::Public(_)));
        public.map(|pool| pool.key.clone()).collect()
    }
}

impl Service {
    /// A service that is no longer configured.
    pub fn gone(context: &str, name: &str) -> Self {
        Self {
            context: context.into(),
            name: name.into(),
            clear_context: 0,
            bound: false,
            remote_access: true,
            ipv4_pools: Vec::new(),
            ipv6_pools: Vec::new(),
            dns: Vec::new(),
            duplicate_session_detection: false,
            absolute_timeout: None,
            idle_timeout: None,
            accounting: false,
            interim_interval: None,
        }
    }
}

/// The pools of a context in order of preference.
fn pools(context: &Context) -> Vec<Pool> {
    let key = |name: &String| PoolKey {
        context: context.id,
        name: name.as_str().into(),
    };
    let ipv4 = context.ipv4_pools.iter().map(|(name, pool)| Pool {
        key: key(name),
        group: pool.group.clone(),
        access: pool.access,
        ipv6: false,
        hold: pool.hold_timer,
    });
    let ipv6 = context.ipv6_pools.iter().map(|(name, pool)| Pool {
        key: key(name),
        group: pool.group.clone(),
        access: pool.access,
        ipv6: true,
        hold: 0,
    });
    let mut pools: Vec<Pool> = ipv4.chain(ipv6).collect();
    let priority = |pool: &Pool| match pool.access {
        PoolAccess::Public(priority) | PoolAccess::Private(priority) => priority,
        PoolAccess::Static => u8::MAX,
    };
    pools.sort_by_key(priority);
    pools
}

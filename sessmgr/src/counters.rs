//! The counters of each service and of each pool, in pages of their own.

use std::collections::HashMap;
use std::sync::Arc;

use services::DisconnectReason;
use telemetry::counters::{ippool, wsg};
use telemetry::{Counters, Scope};

use crate::blocks::Occupancy;
use crate::policy::{PoolKey, Service};
use crate::reason;
use crate::session::Usage;

/// Pages by context and service.
pub struct ServiceCounters {
    all: Counters,
    services: HashMap<(Arc<str>, Arc<str>), ServicePage>,
}

/// The page of one service.
pub struct ServicePage(Counters);

impl ServiceCounters {
    /// No pages yet.
    pub fn new(all: Counters) -> Self {
        Self {
            all,
            services: HashMap::new(),
        }
    }

    /// The page of a service, made when it is first needed. When it cannot be made the service counts in memory, which is told once.
    pub fn of(&mut self, service: &Service) -> &ServicePage {
        let key = (service.context.clone(), service.name.clone());
        self.services.entry(key).or_insert_with(|| {
            let page = self.all.scoped(&Scope::wsg(&service.context, &service.name));
            ServicePage(page.unwrap_or_else(|error| {
                tracing::error!("counters of wsg-service {} are lost: {error}", service.name);
                Counters::in_memory()
            }))
        })
    }

    /// Forgets the pages of services that are no longer configured.
    pub fn keep(&mut self, configured: impl Fn(&str, &str) -> bool) {
        let all = self.all.clone();
        self.services.retain(|(context, service), _| {
            let stays = configured(context, service);
            if !stays && let Err(error) = all.remove_scope(&Scope::wsg(context, service)) {
                tracing::warn!("counters of wsg-service {service} stay: {error}");
            }
            stays
        });
    }
}

/// What this worker uses of each pool, for whoever adds the workers up.
pub struct PoolGauges {
    all: Counters,
    /// A pool of a context that is gone has none.
    pages: HashMap<PoolKey, (Scope, Counters)>,
}

impl PoolGauges {
    /// No pages yet.
    pub fn new(all: Counters) -> Self {
        Self {
            all,
            pages: HashMap::new(),
        }
    }

    /// Sets the gauges of these pools and forgets those of others. `context` gives the name of a context.
    pub fn set<'a>(
        &mut self,
        pools: impl Iterator<Item = (&'a PoolKey, Occupancy)>,
        context: impl Fn(u32) -> Option<String>,
    ) {
        let mut past = std::mem::take(&mut self.pages);
        for (key, occupancy) in pools {
            let page = past
                .remove(key)
                .or_else(|| self.page(&context(key.context)?, key));
            let Some((scope, counters)) = page else { continue };
            counters.set(ippool::USED, occupancy.used as u64);
            counters.set(ippool::HOLD, occupancy.held as u64);
            self.pages.insert(key.clone(), (scope, counters));
        }
        for (scope, _) in past.values() {
            if let Err(error) = self.all.remove_scope(scope) {
                tracing::warn!("gauges of ip pool {} stay: {error}", scope.name);
            }
        }
    }

    fn page(&self, context: &str, key: &PoolKey) -> Option<(Scope, Counters)> {
        let scope = Scope::pool(context, &key.name);
        match self.all.scoped(&scope) {
            Ok(counters) => Some((scope, counters)),
            Err(error) => {
                tracing::error!("ip pool {} has no gauges: {error}", key.name);
                None
            }
        }
    }
}

impl ServicePage {
    /// Counts one.
    pub fn inc(&self, counter: telemetry::Counter) {
        self.0.inc(counter);
    }

    /// A session is up.
    pub fn connected(&self, ipv4: bool, ipv6: bool) {
        self.0.inc(wsg::SETUP_SUCCESSES);
        self.0.inc(wsg::SIMPLE_IP_SUCCESSES);
        self.0.inc(wsg::CURRENT_ACTIVE);
        gauges(ipv4, ipv6).for_each(|gauge| self.0.inc(gauge));
    }

    /// A session is up, as it was in an earlier life of this task.
    pub fn restored(&self, ipv4: bool, ipv6: bool) {
        self.0.inc(wsg::CURRENT_ACTIVE);
        gauges(ipv4, ipv6).for_each(|gauge| self.0.inc(gauge));
    }

    /// A session is gone.
    pub fn released(&self, connected: bool, ipv4: bool, ipv6: bool, reason: DisconnectReason) {
        self.0.dec(wsg::CURRENT_SESSIONS);
        if connected {
            self.0.dec(wsg::CURRENT_ACTIVE);
            gauges(ipv4, ipv6).for_each(|gauge| self.0.dec(gauge));
        } else {
            self.0.inc(wsg::ATTEMPTS_FAILED);
            self.0.inc(wsg::SIMPLE_IP_FAILURES);
        }
        self.0.inc(wsg::DISCONNECTED);
        reason::counters(reason)
            .iter()
            .for_each(|counter| self.0.inc(*counter));
    }

    /// Traffic was carried.
    pub fn carried(&self, usage: Usage) {
        self.0.add(wsg::RX_OCTETS, usage.bytes_in);
        self.0.add(wsg::TX_OCTETS, usage.bytes_out);
        self.0.add(wsg::RX_PACKETS, usage.packets_in);
        self.0.add(wsg::TX_PACKETS, usage.packets_out);
    }
}

/// What a session counts as while it is up; one without an address of ours is an IPv4 session.
fn gauges(ipv4: bool, ipv6: bool) -> impl Iterator<Item = telemetry::Counter> {
    let of_ipv4 = [wsg::CURRENT_ACTIVE_IPV4, wsg::CURRENT_SIMPLE_IPV4];
    let of_ipv6 = [wsg::CURRENT_ACTIVE_IPV6, wsg::CURRENT_SIMPLE_IPV6];
    let ipv4 = of_ipv4.into_iter().filter(move |_| ipv4 || !ipv6);
    ipv4.chain(of_ipv6.into_iter().filter(move |_| ipv6))
}

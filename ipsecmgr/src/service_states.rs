//! The state of every service, as this worker knows it: a gauge in a counter page for each service, which every `show` and every bulkstats file reads.
//!
//! A service serves while it is configured without a gap, its sockets are open, and its address is there. The last is asked of the `vpnmgr` of its
//! context again and again, because devices come and go without us; as long as that does not answer, what it said last holds.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::time::Duration;

use bus::messages::vpnmgr::GetAddresses;
use bus::{Address, Bus, Facility};
use telemetry::counters::wsg_state::SERVING;
use telemetry::{Counters, Scope};
use tokio::sync::watch;
use tokio::time::sleep;

/// Between two looks.
const LOOK: Duration = Duration::from_secs(2);
const DEADLINE: Duration = Duration::from_secs(2);

/// A service of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Configured {
    pub(crate) scope: Scope,
    /// Number of its context.
    pub(crate) context: u32,
    /// Where it listens, when nothing that it refers to is missing and its sockets are open.
    pub(crate) open: Option<IpAddr>,
}

/// The task.
pub(crate) struct ServiceStates {
    bus: Bus,
    counters: Counters,
    pages: HashMap<Scope, Counters>,
    /// By number of the context.
    present: HashMap<u32, HashSet<IpAddr>>,
}

impl ServiceStates {
    pub(crate) fn new(bus: &Bus, counters: &Counters) -> Self {
        Self {
            bus: bus.clone(),
            counters: counters.clone(),
            pages: HashMap::new(),
            present: HashMap::new(),
        }
    }

    /// Keeps the gauges of these services up to date until nobody changes them any more.
    pub(crate) async fn run(mut self, mut services: watch::Receiver<Vec<Configured>>) {
        loop {
            let configured = services.borrow_and_update().clone();
            self.look(&configured).await;
            self.tell(&configured);
            tokio::select! {
                changed = services.changed() => if changed.is_err() {
                    return;
                },
                () = sleep(LOOK) => {}
            }
        }
    }

    async fn look(&mut self, services: &[Configured]) {
        let open = services.iter().filter(|service| service.open.is_some());
        let contexts: BTreeSet<u32> = open.map(|service| service.context).collect();
        self.present.retain(|context, _| contexts.contains(context));
        for context in contexts {
            let vpnmgr = Address::new(Facility::Vpnmgr, context);
            match self.bus.request(vpnmgr, &GetAddresses {}, DEADLINE).await {
                Ok(answer) => {
                    let addresses = answer.addresses.iter().filter_map(|octets| address(octets));
                    self.present.insert(context, addresses.collect());
                }
                Err(error) => tracing::debug!("which addresses are there is not known: {error}"),
            }
        }
    }

    fn tell(&mut self, services: &[Configured]) {
        let counters = &self.counters;
        self.pages.retain(|scope, _| {
            let stays = services.iter().any(|service| service.scope == *scope);
            if !stays && let Err(error) = counters.remove_scope(scope) {
                tracing::warn!("the state of wsg-service {} stays: {error}", scope.name);
            }
            stays
        });
        for service in services {
            // One that does not serve has a page too: an earlier life may have left one that says it does.
            if !self.pages.contains_key(&service.scope) {
                match counters.scoped(&service.scope) {
                    Ok(page) => drop(self.pages.insert(service.scope.clone(), page)),
                    Err(error) => tracing::error!("wsg-service {} has no state: {error}", service.scope.name),
                }
            }
            let present = self.present.get(&service.context);
            let there = |address| present.is_some_and(|addresses| addresses.contains(&address));
            let serves = service.open.is_some_and(there);
            if let Some(page) = self.pages.get(&service.scope) {
                page.set(SERVING, u64::from(serves));
            }
        }
    }
}

/// An address of 4 or 16 octets.
fn address(octets: &[u8]) -> Option<IpAddr> {
    let ipv4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    ipv4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from))
        .ok()
}

//! Everything `vpnmgr` knows: the plan, the pools, the routes of tunnels, who still has to say what it holds.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;

use bus::messages::sessmgr::Held;
use config::Config;
use telemetry::events::{self, NetworkFailed, PoolAvailable, PoolExhausted};

use crate::error::Error;
use crate::network::{Network, is_own};
use crate::plan::Plan;
use crate::pool::Lease;
use crate::pools::{Block, Pools, Refusal};
use crate::routes::{NO_SPI, TunnelRoute, TunnelRoutes};

/// The state of one context.
pub struct State {
    /// Name of the context.
    pub context: String,
    /// The configuration, for `show`.
    pub config: Config,
    /// What it asks for.
    pub plan: Plan,
    /// The pools and who holds what of them.
    pub pools: Pools,
    /// Routes of tunnels.
    pub tunnels: TunnelRoutes,
    /// The kernel.
    pub network: Network,
    /// Directory of the counter pages of all tasks.
    pub pages: PathBuf,
    /// Workers that have not said yet what they hold. Nothing is leased before they have.
    unheard: BTreeSet<u32>,
    /// Devices that were missing at the last attempt: told at the next one, for they may be on their way into this context.
    missing: HashSet<String>,
    /// Failures that have been told, so that they are told once.
    told: HashSet<String>,
}

impl State {
    /// The state of a fresh process. In a later life the routes in the kernel are taken over, and every worker must be heard first.
    pub fn new(
        context: String,
        workers: u32,
        lives: u32,
        mut network: Network,
        pages: PathBuf,
    ) -> Result<Self, Error> {
        let mut tunnels = TunnelRoutes::default();
        tunnels.recover(network.found_tunnel_routes()?);
        Ok(Self {
            context,
            config: Config::default(),
            plan: Plan::default(),
            pools: Pools::new(workers),
            tunnels,
            network,
            pages,
            unheard: if lives == 0 {
                BTreeSet::new()
            } else {
                (1..=workers).collect()
            },
            missing: HashSet::new(),
            told: HashSet::new(),
        })
    }

    /// Takes a new configuration. `tun` is the device of the context's tunnels.
    pub fn configure(&mut self, config: Config, tun: Option<String>) {
        self.plan = Plan::of(&config, &self.context, tun.as_deref());
        self.config = config;
        self.network.set_tun(tun);
        for name in self.pools.configure(self.plan.pools.clone()) {
            let reason = "its addresses overlap those of another pool of this context; choose others";
            self.tell(&format!("ip pool {name}"), reason);
        }
    }

    /// Brings the kernel to what the plan wants. False when something could not be done and is worth another attempt.
    pub fn apply(&mut self) -> bool {
        let failures = match self.network.apply(&self.plan, &self.tunnels) {
            Ok(failures) => failures,
            Err(error) => vec![error],
        };
        let done = failures.is_empty();
        if done {
            self.missing.clear();
            self.told.clear();
        }
        self.report(failures);
        done
    }

    /// Whether the plan has to be applied again because of what became of its devices.
    pub fn has_changed(&mut self) -> bool {
        // What cannot be read is told when the plan is applied.
        self.network.has_changed(&self.plan).unwrap_or(true)
    }

    /// Takes away what this process must not leave behind. Routes of tunnels stay for a next life, or go with their device.
    pub fn leave(&mut self) {
        let failures = self.network.leave().unwrap_or_else(|error| vec![error]);
        self.report(failures);
    }

    /// Leases a block.
    pub fn lease_block(&mut self, pool: &str, worker: u32) -> Result<Block, Refusal> {
        let before = self.pools.get(pool).is_some_and(|pool| pool.exhausted);
        let block = self.pools.lease_block(pool, worker);
        if !before && matches!(block, Err(Refusal::Exhausted(_))) {
            events::emit(&PoolExhausted {
                context: &self.context,
                pool,
            });
        }
        block
    }

    /// Leases an address that AAA chose. The answer is the pool it lies in; an address in no pool gets a route of its own.
    pub fn lease_address(&mut self, address: IpAddr, worker: u32) -> Result<Option<String>, String> {
        if is_own(&self.plan, address) {
            return Err(format!("{address} is an address of this context itself"));
        }
        let pool = self
            .pools
            .lease_address(address, worker)
            .map_err(|refusal| refusal.to_string())?;
        if pool.is_none() {
            self.add_routes([(TunnelRoute::of_address(address), 0)])?;
        }
        Ok(pool)
    }

    /// Takes back a block or a single address.
    pub fn give_back(&mut self, worker: u32, first: IpAddr) {
        let exhausted: Vec<String> = self.exhausted().collect();
        if !self.pools.give_back(worker, first) {
            tracing::warn!("worker {worker} returned {first}, which it did not hold");
            return;
        }
        let still: HashSet<String> = self.exhausted().collect();
        for pool in exhausted.iter().filter(|pool| !still.contains(*pool)) {
            events::emit(&PoolAvailable {
                context: &self.context,
                pool,
            });
        }
        // Has an effect only on addresses outside every pool.
        self.remove_routes([TunnelRoute::of_address(first)]);
    }

    /// Adds routes of tunnels, each with the tenure of who asks for it.
    pub fn add_routes(&mut self, routes: impl IntoIterator<Item = (TunnelRoute, u64)>) -> Result<(), String> {
        let new = self.tunnels.add(routes);
        if new.is_empty() {
            return Ok(());
        }
        let failures = self
            .network
            .add_tunnel_routes(&new)
            .unwrap_or_else(|error| vec![error]);
        // What failed stays wanted: the next attempt to apply the plan adds it.
        let first = failures.first().map(ToString::to_string);
        self.report(failures);
        first.map_or(Ok(()), Err)
    }

    /// Removes routes of tunnels.
    pub fn remove_routes(&mut self, routes: impl IntoIterator<Item = TunnelRoute>) {
        let gone = self.tunnels.remove(routes);
        self.drop_from_kernel(&gone);
    }

    /// Removes the routes of tunnels in these slots that were asked for by an earlier tenure only.
    pub fn remove_older_routes(&mut self, slots: &[u8], tenure: u64) {
        let gone = self.tunnels.remove_older(slots, tenure);
        self.drop_from_kernel(&gone);
    }

    /// Workers that must still say what they hold.
    pub fn unheard(&self) -> impl Iterator<Item = u32> + '_ {
        self.unheard.iter().copied()
    }

    /// Whether every worker has been heard.
    pub fn may_lease(&self) -> bool {
        self.unheard.is_empty()
    }

    /// Takes what a worker says it holds.
    pub fn hear(&mut self, worker: u32, held: &Held) {
        for block in &held.blocks {
            let Some(first) = address(&block.first) else {
                continue;
            };
            let lease = Lease {
                worker,
                count: block.count,
                single: block.single,
            };
            if !self.pools.restore(&block.pool, first, lease) {
                let reason = format!("worker {worker} and another one both say that they hold it");
                self.tell(&format!("ip pool {} block {first}", block.pool), &reason);
            }
        }
        if self.unheard.remove(&worker) && self.unheard.is_empty() {
            self.forget_addresses();
        }
    }

    /// Routes of single addresses were found in the kernel; those that no worker holds any more go.
    fn forget_addresses(&mut self) {
        let held: HashSet<IpAddr> = self.pools.outside().collect();
        let single = |route: &TunnelRoute| route.spi == NO_SPI && !held.contains(&route.network.addr());
        let gone: Vec<TunnelRoute> = self.tunnels.after(None).filter(single).collect();
        self.remove_routes(gone);
    }

    /// What is told of a failure is told once, until all is well again.
    fn report(&mut self, failures: Vec<Error>) {
        for failure in failures {
            match &failure {
                Error::NoDevice(name) if self.missing.insert(name.clone()) => {}
                Error::Refused { what, source } => self.tell(what, &source.to_string()),
                other => self.tell("network", &other.to_string()),
            }
        }
    }

    fn tell(&mut self, what: &str, reason: &str) {
        if self.told.len() < MAX_TOLD && self.told.insert(format!("{what}: {reason}")) {
            events::emit(&NetworkFailed {
                context: &self.context,
                what,
                reason,
            });
        }
    }

    fn drop_from_kernel(&mut self, gone: &[TunnelRoute]) {
        if !gone.is_empty() {
            let failures = self
                .network
                .remove_tunnel_routes(gone)
                .unwrap_or_else(|error| vec![error]);
            self.report(failures);
        }
    }

    fn exhausted(&self) -> impl Iterator<Item = String> + '_ {
        self.pools
            .iter()
            .filter(|pool| pool.exhausted)
            .map(|pool| pool.config.name.clone())
    }
}

/// An address of 4 or 16 octets.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Octets of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Failures remembered as told.
const MAX_TOLD: usize = 1_000;

//! The pools of a context.
//!
//! A pool whose definition changes while workers hold units of it is *retired*: nothing more is given out of it, what comes back is taken
//! back, and until then the addresses are free in no other pool.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::pool::{Allocator, Lease, MAX_UNITS, Units};

/// Who may be given units of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Anybody; smaller priorities first.
    Public(u8),
    /// Only those who ask for this pool or its group.
    Private(u8),
    /// Only addresses that AAA has chosen.
    Static,
}

/// The definition of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolConfig {
    /// Name.
    pub name: String,
    /// Who may be given units.
    pub kind: Kind,
    /// Group, if any.
    pub group: Option<String>,
    /// The units.
    pub units: Units,
}

/// A pool with its leases.
#[derive(Debug, Clone)]
pub struct Pool {
    /// Its definition.
    pub config: PoolConfig,
    /// Its leases.
    pub allocator: Allocator,
    /// A worker was turned away and nothing has come back since.
    pub exhausted: bool,
}

/// Why a request for addresses is not granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// There is no pool of this name.
    Unknown(String),
    /// The pool gives addresses only to those for whom AAA has chosen one.
    OnlyStatic(String),
    /// The pool has no free unit.
    Exhausted(String),
    /// The address belongs to a worker.
    Taken {
        /// The worker that holds it.
        worker: u32,
        /// Inside a block, rather than by itself.
        block: bool,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "there is no ip pool {name}"),
            Self::OnlyStatic(name) => write!(f, "ip pool {name} is static: AAA must choose the address"),
            Self::Exhausted(name) => write!(f, "ip pool {name} has no free address"),
            Self::Taken { worker, block: true } => {
                write!(
                    f,
                    "the address is in a block of sessmgr {worker}; use a static pool for addresses of AAA"
                )
            }
            Self::Taken { worker, block: false } => write!(f, "the address is in use (sessmgr {worker})"),
        }
    }
}

/// What became of a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// First address.
    pub first: IpAddr,
    /// Units.
    pub count: u32,
    /// Prefix length of a unit.
    pub prefix_length: u8,
}

impl Pool {
    /// Single addresses that AAA chose. They are in use for as long as they are leased.
    pub fn singles(&self) -> u64 {
        let leases = self.allocator.leases();
        leases.filter(|(_, lease)| lease.single).count() as u64
    }

    /// Units that nobody may have until those who hold them under an older definition give them back.
    pub fn withheld(&self) -> u64 {
        let idle = self
            .allocator
            .leases()
            .filter(|(_, lease)| lease.worker == NOBODY);
        idle.map(|(_, lease)| u64::from(lease.count)).sum()
    }
}

/// All pools of a context, and single addresses outside every pool.
#[derive(Debug, Default)]
pub struct Pools {
    pools: BTreeMap<String, Pool>,
    retired: Vec<Pool>,
    /// Addresses chosen by AAA that lie in no pool.
    outside: BTreeMap<IpAddr, u32>,
    workers: u32,
}

impl Pools {
    /// No pools, for so many workers.
    pub fn new(workers: u32) -> Self {
        Self {
            workers: workers.max(1),
            ..Self::default()
        }
    }

    /// Takes the definitions of a new configuration. Returns the names of those that overlap an earlier one and are left out.
    pub fn configure(&mut self, configs: Vec<PoolConfig>) -> Vec<String> {
        let mut old = std::mem::take(&mut self.pools);
        let mut refused = Vec::new();
        for config in configs {
            if self
                .pools
                .values()
                .any(|pool| pool.config.units.overlaps(&config.units))
            {
                refused.push(config.name);
                continue;
            }
            let name = config.name.clone();
            let pool = match old.remove(&name) {
                Some(pool) if pool.config.units == config.units => Pool { config, ..pool },
                Some(pool) => {
                    self.retire(pool);
                    Pool {
                        allocator: Allocator::new(config.units),
                        config,
                        exhausted: false,
                    }
                }
                None => Pool {
                    allocator: Allocator::new(config.units),
                    config,
                    exhausted: false,
                },
            };
            self.pools.insert(name, pool);
        }
        for pool in old.into_values() {
            self.retire(pool);
        }
        self.revive();
        refused
    }

    /// Leases a block out of a pool.
    pub fn lease_block(&mut self, name: &str, worker: u32) -> Result<Block, Refusal> {
        let workers = self.workers;
        let pool = self
            .pools
            .get_mut(name)
            .ok_or_else(|| Refusal::Unknown(name.to_owned()))?;
        if pool.config.kind == Kind::Static {
            return Err(Refusal::OnlyStatic(name.to_owned()));
        }
        let units = *pool.allocator.units();
        loop {
            let Some((first, count)) = pool.allocator.lease(worker, block_size(units.count(), workers))
            else {
                pool.exhausted = true;
                return Err(Refusal::Exhausted(name.to_owned()));
            };
            let (address, last) = (units.address(first), units.address(first + count - 1));
            let busy = |pool: &Pool| {
                pool.allocator.leases().any(|(held, lease)| {
                    let held_units = pool.allocator.units();
                    let (from, to) = (
                        held_units.address(held),
                        held_units.address(held + lease.count - 1),
                    );
                    from <= last && address <= to
                })
            };
            let outside = self.outside.range(address..=last).next().is_some();
            if !outside && !self.retired.iter().any(busy) {
                return Ok(Block {
                    first: address,
                    count,
                    prefix_length: units.prefix_length(),
                });
            }
            // Part of it is still held under an older definition: keep it out of circulation until the next configuration.
            pool.allocator.give_back(worker, first);
            pool.allocator.restore(
                first,
                Lease {
                    worker: NOBODY,
                    count,
                    single: false,
                },
            );
        }
    }

    /// Leases one address chosen by AAA. Returns the pool it lies in, if any.
    pub fn lease_address(&mut self, address: IpAddr, worker: u32) -> Result<Option<String>, Refusal> {
        for pool in self.retired.iter().chain(self.pools.values()) {
            let unit = pool.allocator.units().unit(address);
            if let Some((_, lease)) = unit.and_then(|unit| pool.allocator.holder(unit))
                && !(lease.single && lease.worker == worker)
            {
                return Err(Refusal::Taken {
                    worker: lease.worker,
                    block: !lease.single,
                });
            }
        }
        for (name, pool) in &mut self.pools {
            if let Some(unit) = pool.allocator.units().unit(address) {
                let taken = |lease: Lease| Refusal::Taken {
                    worker: lease.worker,
                    block: !lease.single,
                };
                return pool
                    .allocator
                    .lease_single(worker, unit)
                    .map(|()| Some(name.clone()))
                    .map_err(taken);
            }
        }
        match self.outside.get(&address) {
            Some(&holder) if holder != worker => Err(Refusal::Taken {
                worker: holder,
                block: false,
            }),
            _ => {
                self.outside.insert(address, worker);
                Ok(None)
            }
        }
    }

    /// Takes back what a worker leased at an address, block or single. Returns whether it held anything there.
    pub fn give_back(&mut self, worker: u32, first: IpAddr) -> bool {
        if self.outside.get(&first) == Some(&worker) {
            self.outside.remove(&first);
            return true;
        }
        let mut given = 0;
        for pool in self.pools.values_mut().chain(&mut self.retired) {
            let Some(unit) = pool.allocator.units().unit(first) else {
                continue;
            };
            // A pool leases whole units: an address inside a unit names no lease.
            if pool.allocator.units().address(unit) != first {
                continue;
            }
            let count = pool.allocator.give_back(worker, unit);
            pool.exhausted &= count == 0;
            given += count;
        }
        self.retired.retain(|pool| pool.allocator.used() > 0);
        self.revive();
        given > 0
    }

    /// Notes what a worker says it holds, after a restart. False when it cannot be: then the worker must not use it.
    pub fn restore(&mut self, name: &str, first: IpAddr, lease: Lease) -> bool {
        let known = self.pools.get_mut(name).and_then(|pool| {
            let unit = pool.allocator.units().unit(first)?;
            Some(pool.allocator.restore(unit, lease))
        });
        match known {
            Some(restored) => restored,
            None if lease.single => self
                .outside
                .insert(first, lease.worker)
                .is_none_or(|old| old == lease.worker),
            None if lease.count > MAX_UNITS => false,
            None => {
                // Of a pool that was removed or redefined while we were away.
                let units = match first {
                    IpAddr::V4(first) => Units::V4 {
                        first,
                        count: lease.count,
                    },
                    IpAddr::V6(first) => Units::V6 {
                        first,
                        count: lease.count,
                        prefix_length: 64,
                    },
                };
                let config = PoolConfig {
                    name: name.to_owned(),
                    kind: Kind::Static,
                    group: None,
                    units,
                };
                let mut pool = Pool {
                    allocator: Allocator::new(units),
                    config,
                    exhausted: false,
                };
                let restored = pool.allocator.restore(0, lease);
                if restored {
                    self.retired.push(pool);
                }
                restored
            }
        }
    }

    /// The pools by name.
    pub fn iter(&self) -> impl Iterator<Item = &Pool> {
        self.pools.values()
    }

    /// A pool by its name.
    pub fn get(&self, name: &str) -> Option<&Pool> {
        self.pools.get(name)
    }

    /// The single addresses that lie in no pool.
    pub fn outside(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.outside.keys().copied()
    }

    fn retire(&mut self, mut pool: Pool) {
        // Parts that nobody held were only kept out of circulation.
        let idle: Vec<u32> = pool
            .allocator
            .leases()
            .filter(|(_, lease)| lease.worker == NOBODY)
            .map(|(first, _)| first)
            .collect();
        for first in idle {
            pool.allocator.give_back(NOBODY, first);
        }
        if pool.allocator.used() > 0 {
            self.retired.push(pool);
        }
    }

    /// Puts back into circulation what was kept out of it, to be looked at anew.
    fn revive(&mut self) {
        for pool in self.pools.values_mut() {
            let kept: Vec<u32> = pool
                .allocator
                .leases()
                .filter(|(_, lease)| lease.worker == NOBODY)
                .map(|(first, _)| first)
                .collect();
            for first in kept {
                pool.allocator.give_back(NOBODY, first);
            }
        }
    }
}

/// Units in a block: small enough that every worker gets some of a small pool, large enough that a burst needs few requests.
pub fn block_size(units: u32, workers: u32) -> u32 {
    (units / (workers.max(1) * BLOCKS_PER_WORKER)).clamp(1, MAX_BLOCK)
}

/// Holder of units that are kept out of circulation.
const NOBODY: u32 = 0;
/// Into how many blocks a pool is cut for each worker, at least.
const BLOCKS_PER_WORKER: u32 = 4;
/// Most units in a block.
pub const MAX_BLOCK: u32 = 1024;

#[cfg(test)]
mod tests;

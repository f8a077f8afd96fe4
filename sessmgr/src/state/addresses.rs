//! Blocks of pools and single addresses: what is held, what is wanted, what goes back.

use std::time::{Duration, Instant};

use bus::messages::sessmgr::HeldBlock;
use ikev2::Identity;

use super::{Errand, State};
use crate::admission::octets;
use crate::blocks::Lease;
use crate::policy::PoolKey;
use crate::session::{Assigned, Source};

impl State {
    /// The blocks and single addresses held of a context, for its restarted `vpnmgr`.
    pub fn held(&self, context: u32) -> Vec<HeldBlock> {
        let blocks = self
            .blocks
            .iter()
            .filter(|(key, _)| key.context == context)
            .map(|(key, lease)| HeldBlock {
                pool: key.name.to_string(),
                first: octets(lease.first),
                count: lease.count,
                single: false,
            });
        let singles = self
            .singles
            .iter()
            .filter(|(of, _)| *of == context)
            .map(|(_, address)| HeldBlock {
                pool: String::new(),
                first: octets(*address),
                count: 1,
                single: true,
            });
        blocks.chain(singles).collect()
    }

    /// A pool has no block for us: it is not asked again for a while, unless a peer waits.
    pub fn pool_is_dry(&mut self, key: &PoolKey, now: Instant) {
        self.dry.insert(key.clone(), now + DRY_SPELL);
    }

    /// A block came from `vpnmgr`.
    pub fn add_block(&mut self, key: &PoolKey, lease: Lease) {
        self.blocks.add(key, lease);
        self.changed.blocks = true;
    }

    /// Pools of services that will soon run out here.
    pub fn low_pools(&mut self, now: Instant) -> Vec<PoolKey> {
        self.dry.retain(|_, until| *until > now);
        let services = self
            .policy
            .services()
            .filter(|service| service.bound && service.remote_access);
        let first = |pools: &[PoolKey]| pools.iter().find(|key| self.policy.is_dynamic(key)).cloned();
        let mut low: Vec<PoolKey> = services
            .flat_map(|service| [first(&service.ipv4_pools), first(&service.ipv6_pools)])
            .flatten()
            .filter(|key| !self.dry.contains_key(key))
            .filter(|key| self.blocks.free(key) * 2 <= self.blocks.size(key).min(PREFETCH))
            .collect();
        low.sort();
        low.dedup();
        low
    }

    pub(super) fn release_address(&mut self, assigned: &Assigned, user: Option<&Identity>, now: Instant) {
        match &assigned.source {
            Source::Block(key) => {
                let hold = user.map_or(0, |_| self.policy.hold(key));
                let nobody = Identity::ip(assigned.address);
                let hold = Duration::from_secs(hold.into());
                self.blocks
                    .give_back(key, assigned.address, hold, user.unwrap_or(&nobody), now);
            }
            Source::Single(context) => {
                self.singles.remove(&(*context, assigned.address));
                let (context, first) = (*context, assigned.address);
                self.errands.push(Errand::GiveBack {
                    context,
                    pool: String::new(),
                    first,
                });
            }
        }
    }

    pub(super) fn return_spare_blocks(&mut self) {
        while let Some((key, lease)) = self.blocks.spare(|key| !self.policy.is_dynamic(key)) {
            self.changed.blocks = true;
            let pool = key.name.to_string();
            self.errands.push(Errand::GiveBack {
                context: key.context,
                pool,
                first: lease.first,
            });
        }
    }
}

/// With fewer than half of so many addresses free, the next block is fetched.
const PREFETCH: usize = 512;
/// How long a pool that had no block is left alone.
const DRY_SPELL: Duration = Duration::from_secs(5);

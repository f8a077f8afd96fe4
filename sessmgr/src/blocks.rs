//! The addresses of this worker: blocks leased from `vpnmgr`, handed out unit by unit.
//!
//! Released units go to the end of the line, so an address rests as long as possible before somebody else gets it. With a hold timer a
//! released unit stays reserved for its last user until the timer runs out.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use ikev2::Identity;

use crate::policy::PoolKey;

/// A block as `vpnmgr` leased it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// First address.
    pub first: IpAddr,
    /// Units.
    pub count: u32,
    /// Prefix length of a unit.
    pub prefix_length: u8,
}

/// The blocks of all pools.
#[derive(Debug, Default)]
pub struct Blocks {
    pools: HashMap<PoolKey, Pool>,
}

#[derive(Debug, Default)]
struct Pool {
    /// By first address.
    blocks: BTreeMap<IpAddr, Block>,
    /// Units over all blocks.
    size: usize,
    /// Free ones of them.
    free: usize,
    held: HashMap<Identity, Held>,
    /// When holds end, in the order in which they began.
    ends: VecDeque<(Instant, Identity)>,
}

/// Where the units of a pool are that we have blocks of; the others are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Occupancy {
    /// With sessions.
    pub used: usize,
    /// Kept for their last users.
    pub held: usize,
}

#[derive(Debug)]
struct Block {
    lease: Lease,
    free: VecDeque<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Held {
    address: IpAddr,
    until: Instant,
}

impl Blocks {
    /// Adds a block, all units free.
    pub fn add(&mut self, key: &PoolKey, lease: Lease) {
        let pool = self.pools.entry(key.clone()).or_default();
        let free: VecDeque<u32> = (0..lease.count).collect();
        pool.free += free.len();
        pool.size += free.len();
        if let Some(old) = pool.blocks.insert(lease.first, Block { lease, free }) {
            pool.free -= old.free.len();
            pool.size -= old.lease.count as usize;
        }
    }

    /// Takes the unit that is held for `user`, or else the free one that has rested longest.
    pub fn take(&mut self, key: &PoolKey, user: &Identity) -> Option<(IpAddr, u8)> {
        let pool = self.pools.get_mut(key)?;
        if let Some(held) = pool.held.remove(user) {
            return Some((held.address, pool.block(held.address)?.lease.prefix_length));
        }
        let block = pool.blocks.values_mut().find(|block| !block.free.is_empty())?;
        let unit = block.free.pop_front()?;
        pool.free -= 1;
        Some((block.lease.address(unit), block.lease.prefix_length))
    }

    /// Takes this very address, if it is in a block of ours and free, or held for `user`. None if it is in no block of ours.
    pub fn take_exactly(
        &mut self,
        context: u32,
        address: IpAddr,
        user: &Identity,
    ) -> Option<Result<PoolKey, ()>> {
        let of_context = self.pools.iter_mut().filter(|(key, _)| key.context == context);
        for (key, pool) in of_context {
            if pool.block(address).is_none() {
                continue;
            }
            if pool.held.get(user).is_some_and(|held| held.address == address) {
                pool.held.remove(user);
                return Some(Ok(key.clone()));
            }
            let block = pool.block(address)?;
            let unit = block.lease.unit(address)?;
            let Some(place) = block.free.iter().position(|&free| free == unit) else {
                return Some(Err(()));
            };
            block.free.remove(place);
            pool.free -= 1;
            return Some(Ok(key.clone()));
        }
        None
    }

    /// Gives a unit back, to be held for its user for a while if there is a hold timer.
    pub fn give_back(
        &mut self,
        key: &PoolKey,
        address: IpAddr,
        hold: Duration,
        user: &Identity,
        now: Instant,
    ) {
        let Some(pool) = self.pools.get_mut(key) else {
            return;
        };
        if hold > Duration::ZERO {
            let until = now + hold;
            let before = pool.held.insert(user.clone(), Held { address, until });
            pool.ends.push_back((until, user.clone()));
            // Two sessions of one user: only the last address is held.
            if let Some(before) = before {
                pool.free_unit(before.address);
            }
            return;
        }
        pool.free_unit(address);
    }

    /// Ends holds that are over.
    pub fn end_holds(&mut self, now: Instant) {
        for pool in self.pools.values_mut() {
            while pool.ends.front().is_some_and(|(until, _)| *until <= now) {
                let Some((_, user)) = pool.ends.pop_front() else {
                    break;
                };
                if pool.held.get(&user).is_some_and(|held| held.until <= now)
                    && let Some(held) = pool.held.remove(&user)
                {
                    pool.free_unit(held.address);
                }
            }
        }
    }

    /// Free units of a pool.
    pub fn free(&self, key: &PoolKey) -> usize {
        self.pools.get(key).map_or(0, |pool| pool.free)
    }

    /// Units of a pool in the blocks we have.
    pub fn size(&self, key: &PoolKey) -> usize {
        self.pools.get(key).map_or(0, |pool| pool.size)
    }

    /// The pools that we have blocks of.
    pub fn occupancy(&self) -> impl Iterator<Item = (&PoolKey, Occupancy)> {
        let present = self.pools.iter().filter(|(_, pool)| pool.size > 0);
        present.map(|(key, pool)| {
            let held = pool.held.len();
            let used = pool.size.saturating_sub(pool.free + held);
            (key, Occupancy { used, held })
        })
    }

    /// Removes a block that nobody uses while its pool has as many free units besides, or whose pool is `gone`. Call again until
    /// there is none.
    pub fn spare(&mut self, gone: impl Fn(&PoolKey) -> bool) -> Option<(PoolKey, Lease)> {
        for (key, pool) in &mut self.pools {
            let gone = gone(key);
            let (free, held) = (pool.free, !pool.held.is_empty());
            let idle = pool.blocks.values().find(|block| {
                let unused = block.free.len() == block.lease.count as usize;
                unused && (gone || !held && free > 2 * block.free.len() && pool.blocks.len() > 1)
            });
            let Some(first) = idle.map(|block| block.lease.first) else {
                continue;
            };
            let block = pool.blocks.remove(&first)?;
            pool.free -= block.free.len();
            pool.size -= block.lease.count as usize;
            return Some((key.clone(), block.lease));
        }
        None
    }

    /// All blocks.
    pub fn iter(&self) -> impl Iterator<Item = (&PoolKey, &Lease)> {
        self.pools
            .iter()
            .flat_map(|(key, pool)| pool.blocks.values().map(move |block| (key, &block.lease)))
    }
}

impl Pool {
    fn block(&mut self, address: IpAddr) -> Option<&mut Block> {
        let (_, block) = self.blocks.range_mut(..=address).next_back()?;
        block.lease.unit(address).is_some().then_some(block)
    }

    fn free_unit(&mut self, address: IpAddr) {
        let Some(block) = self.block(address) else { return };
        if let Some(unit) = block.lease.unit(address)
            && !block.free.contains(&unit)
        {
            block.free.push_back(unit);
            self.free += 1;
        }
    }
}

impl Lease {
    /// The address of a unit.
    pub fn address(&self, unit: u32) -> IpAddr {
        match self.first {
            IpAddr::V4(first) => Ipv4Addr::from(u32::from(first).wrapping_add(unit)).into(),
            IpAddr::V6(first) => {
                let step = u128::from(unit)
                    .checked_shl(128 - u32::from(self.prefix_length))
                    .unwrap_or(0);
                Ipv6Addr::from(u128::from(first).wrapping_add(step)).into()
            }
        }
    }

    /// The unit that an address lies in.
    pub fn unit(&self, address: IpAddr) -> Option<u32> {
        let distance = match (self.first, address) {
            (IpAddr::V4(first), IpAddr::V4(address)) => {
                u128::from(u32::from(address).checked_sub(u32::from(first))?)
            }
            (IpAddr::V6(first), IpAddr::V6(address)) => {
                let distance = u128::from(address).checked_sub(u128::from(first))?;
                distance
                    .checked_shr(128 - u32::from(self.prefix_length))
                    .unwrap_or(0)
            }
            _ => return None,
        };
        u32::try_from(distance).ok().filter(|&unit| unit < self.count)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn key() -> PoolKey {
        PoolKey {
            context: 2,
            name: "p".into(),
        }
    }

    fn user(name: &str) -> Identity {
        Identity::fqdn(name).unwrap()
    }

    fn lease(first: &str, count: u32) -> Lease {
        Lease {
            first: first.parse().unwrap(),
            count,
            prefix_length: 32,
        }
    }

    #[test]
    fn held_address_returns_to_its_user_and_to_nobody_else() {
        let now = Instant::now();
        let hold = Duration::from_secs(60);
        let mut blocks = Blocks::default();
        blocks.add(&key(), lease("10.0.0.0", 2));
        let (address, _) = blocks.take(&key(), &user("a")).unwrap();
        blocks.give_back(&key(), address, hold, &user("a"), now);
        let (other, _) = blocks.take(&key(), &user("b")).unwrap();
        assert_ne!(other, address);
        assert_eq!(blocks.take(&key(), &user("c")), None, "the last one is held");
        assert_eq!(blocks.take(&key(), &user("a")), Some((address, 32)));
        blocks.give_back(&key(), address, hold, &user("a"), now);
        blocks.end_holds(now + hold - Duration::from_secs(1));
        assert_eq!(blocks.free(&key()), 0);
        blocks.end_holds(now + hold);
        assert_eq!(blocks.take(&key(), &user("c")), Some((address, 32)));
    }

    #[test]
    fn chosen_address_of_a_block_is_taken_once() {
        let mut blocks = Blocks::default();
        blocks.add(&key(), lease("10.0.0.0", 8));
        let address = "10.0.0.5".parse().unwrap();
        assert_eq!(blocks.take_exactly(2, address, &user("a")), Some(Ok(key())));
        assert_eq!(blocks.take_exactly(2, address, &user("b")), Some(Err(())));
        assert_eq!(
            blocks.take_exactly(3, address, &user("b")),
            None,
            "another context"
        );
        assert_eq!(
            blocks.take_exactly(2, "10.0.0.8".parse().unwrap(), &user("b")),
            None
        );
        let rest: HashSet<IpAddr> = std::iter::from_fn(|| blocks.take(&key(), &user("c")))
            .map(|unit| unit.0)
            .collect();
        assert_eq!(rest.len(), 7);
        assert!(!rest.contains(&address));
    }

    #[test]
    fn prefixes_are_units() {
        let mut blocks = Blocks::default();
        let first = "2001:db8::".parse().unwrap();
        blocks.add(
            &key(),
            Lease {
                first,
                count: 2,
                prefix_length: 64,
            },
        );
        assert_eq!(blocks.take(&key(), &user("a")), Some((first, 64)));
        let second = "2001:db8:0:1::".parse().unwrap();
        assert_eq!(blocks.take(&key(), &user("a")), Some((second, 64)));
        blocks.give_back(
            &key(),
            "2001:db8:0:1::1".parse().unwrap(),
            Duration::ZERO,
            &user("a"),
            Instant::now(),
        );
        assert_eq!(
            blocks.take(&key(), &user("a")),
            Some((second, 64)),
            "an address in a prefix names it"
        );
    }

    #[test]
    fn spare_blocks_go_back() {
        let mut blocks = Blocks::default();
        blocks.add(&key(), lease("10.0.0.0", 4));
        assert_eq!(blocks.spare(|_| false), None, "the last block stays");
        blocks.add(&key(), lease("10.0.0.8", 4));
        let (used, _) = blocks.take(&key(), &user("a")).unwrap();
        assert_eq!(blocks.spare(|_| false), None, "not many are free besides");
        blocks.add(&key(), lease("10.0.0.16", 4));
        assert_eq!(
            blocks.spare(|_| false).map(|(_, lease)| lease.first),
            Some("10.0.0.8".parse().unwrap())
        );
        assert_eq!(
            blocks.spare(|_| true).map(|(_, lease)| lease.first),
            Some("10.0.0.16".parse().unwrap())
        );
        assert_eq!(blocks.spare(|_| true), None, "in use");
        blocks.give_back(&key(), used, Duration::ZERO, &user("a"), Instant::now());
        assert!(blocks.spare(|_| true).is_some());
        assert_eq!(blocks.free(&key()), 0);
    }

    proptest! {
        /// No address ever has two users, and none is lost.
        #[test]
        fn every_address_has_one_user(steps in prop::collection::vec((0u8..4, 0u8..12, 0u64..40), 1..300)) {
            let mut now = Instant::now();
            let hold = Duration::from_secs(30);
            let mut blocks = Blocks::default();
            blocks.add(&key(), lease("10.0.0.0", 5));
            blocks.add(&key(), lease("10.0.0.5", 3));
            let mut used: HashMap<IpAddr, u8> = HashMap::new();
            for (step, who, seconds) in steps {
                let name = user(&format!("u{who}"));
                match step {
                    0 => if let Some((address, _)) = blocks.take(&key(), &name) {
                        prop_assert!(used.insert(address, who).is_none());
                    },
                    1 => {
                        let address = IpAddr::from([10, 0, 0, (seconds % 8) as u8]);
                        if let Some(Ok(_)) = blocks.take_exactly(2, address, &name) {
                            prop_assert!(used.insert(address, who).is_none());
                        }
                    }
                    _ => {
                        let mine = used.iter().find(|(_, user)| **user == who).map(|(address, _)| *address);
                        if let Some(address) = mine {
                            used.remove(&address);
                            let hold = if step == 2 { hold } else { Duration::ZERO };
                            blocks.give_back(&key(), address, hold, &name, now);
                        }
                    }
                }
                now += Duration::from_secs(seconds);
                blocks.end_holds(now);
                let (_, occupancy) = blocks.occupancy().next().unwrap();
                prop_assert_eq!(occupancy.used, used.len());
                prop_assert_eq!(blocks.free(&key()) + occupancy.used + occupancy.held, 8);
            }
            blocks.end_holds(now + hold);
            prop_assert_eq!(blocks.free(&key()) + used.len(), 8);
        }
    }
}

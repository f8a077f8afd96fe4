//! One IP pool: which of its addresses (IPv4) or prefixes (IPv6) are given to whom.
//!
//! A pool is a row of *units* numbered from 0: single IPv4 addresses, or IPv6 prefixes of one length. Workers lease *blocks* of units
//! that follow each other and hand them out by themselves; single units are leased when AAA has chosen an address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The units of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Units {
    /// IPv4 addresses.
    V4 {
        /// The first.
        first: Ipv4Addr,
        /// How many.
        count: u32,
    },
    /// IPv6 prefixes.
    V6 {
        /// The first.
        first: Ipv6Addr,
        /// How many.
        count: u32,
        /// Length of each.
        prefix_length: u8,
    },
}

impl Units {
    /// The addresses from `start` to `end`, both included; empty when `end` is before `start`.
    pub fn range(start: Ipv4Addr, end: Ipv4Addr) -> Self {
        let count = u64::from(u32::from(end))
            .wrapping_sub(u64::from(u32::from(start)))
            .wrapping_add(1);
        let count = if end < start {
            0
        } else {
            count.min(u64::from(MAX_UNITS)) as u32
        };
        Self::V4 { first: start, count }
    }

    /// The prefixes of `prefix_length` bits in an IPv6 network.
    pub fn prefixes(address: Ipv6Addr, length: u8, prefix_length: u8) -> Self {
        let prefix_length = prefix_length.clamp(length.min(128), 128);
        let bits = u32::from(prefix_length - length.min(128));
        let count = 1u32.checked_shl(bits).unwrap_or(MAX_UNITS).min(MAX_UNITS);
        let mask = u128::MAX
            .checked_shl(128 - u32::from(length.min(128)))
            .unwrap_or(0);
        Self::V6 {
            first: Ipv6Addr::from(u128::from(address) & mask),
            count,
            prefix_length,
        }
    }

    /// How many.
    pub fn count(&self) -> u32 {
        match self {
            Self::V4 { count, .. } | Self::V6 { count, .. } => *count,
        }
    }

    /// Prefix length of one unit.
    pub fn prefix_length(&self) -> u8 {
        match self {
            Self::V4 { .. } => 32,
            Self::V6 { prefix_length, .. } => *prefix_length,
        }
    }

    /// The address of a unit.
    pub fn address(&self, unit: u32) -> IpAddr {
        match *self {
            Self::V4 { first, .. } => Ipv4Addr::from(u32::from(first).wrapping_add(unit)).into(),
            Self::V6 {
                first, prefix_length, ..
            } => {
                let step = u128::from(unit)
                    .checked_shl(128 - u32::from(prefix_length))
                    .unwrap_or(0);
                Ipv6Addr::from(u128::from(first).wrapping_add(step)).into()
            }
        }
    }

    /// The unit that an address lies in.
    pub fn unit(&self, address: IpAddr) -> Option<u32> {
        let distance = match (*self, address) {
            (Self::V4 { first, .. }, IpAddr::V4(address)) => {
                u128::from(u32::from(address).checked_sub(u32::from(first))?)
            }
            (
                Self::V6 {
                    first, prefix_length, ..
                },
                IpAddr::V6(address),
            ) => {
                let distance = u128::from(address).checked_sub(u128::from(first))?;
                distance.checked_shr(128 - u32::from(prefix_length)).unwrap_or(0)
            }
            _ => return None,
        };
        u32::try_from(distance).ok().filter(|&unit| unit < self.count())
    }

    /// The smallest list of (address, prefix length) that covers all units: the routes of the pool.
    pub fn networks(&self) -> Vec<(IpAddr, u8)> {
        let mut networks = Vec::new();
        let (mut unit, end) = (0u64, u64::from(self.count()));
        while unit < end {
            let address = self.address(unit as u32);
            let alignment = match address {
                IpAddr::V4(address) => u32::from(address).trailing_zeros(),
                IpAddr::V6(address) => {
                    u128::from(address).trailing_zeros() - (128 - u32::from(self.prefix_length()))
                }
            };
            let bits = alignment.min((end - unit).ilog2());
            networks.push((address, self.prefix_length() - bits as u8));
            unit += 1u64 << bits;
        }
        networks
    }

    /// Whether two pools share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        let inside = |a: &Self, b: &Self| a.count() > 0 && b.unit(a.address(0)).is_some();
        inside(self, other) || inside(other, self)
    }
}

/// Who holds units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lease {
    /// The worker.
    pub worker: u32,
    /// How many units from the first on.
    pub count: u32,
    /// An address chosen by AAA.
    pub single: bool,
}

/// The units of a pool and who holds them.
#[derive(Debug, Clone)]
pub struct Allocator {
    units: Units,
    taken: Bitmap,
    leases: BTreeMap<u32, Lease>,
    cursor: u32,
}

impl Allocator {
    /// All units free.
    pub fn new(units: Units) -> Self {
        Self {
            units,
            taken: Bitmap::new(units.count()),
            leases: BTreeMap::new(),
            cursor: 0,
        }
    }

    /// The units.
    pub fn units(&self) -> &Units {
        &self.units
    }

    /// Leases up to `wanted` units that follow each other. None when there is no free one.
    pub fn lease(&mut self, worker: u32, wanted: u32) -> Option<(u32, u32)> {
        let first = self
            .taken
            .next_free(self.cursor)
            .or_else(|| self.taken.next_free(0))?;
        let count = self.taken.free_run(first, wanted.max(1));
        self.taken.set(first, count, true);
        self.leases.insert(
            first,
            Lease {
                worker,
                count,
                single: false,
            },
        );
        self.cursor = first + count;
        Some((first, count))
    }

    /// Leases one unit of its own. Fails with the holder if it is leased already; asking twice is no failure.
    pub fn lease_single(&mut self, worker: u32, unit: u32) -> Result<(), Lease> {
        match self.holder(unit) {
            Some((first, lease)) if first == unit && lease.single && lease.worker == worker => Ok(()),
            Some((_, lease)) => Err(lease),
            None => {
                self.taken.set(unit, 1, true);
                self.leases.insert(
                    unit,
                    Lease {
                        worker,
                        count: 1,
                        single: true,
                    },
                );
                Ok(())
            }
        }
    }

    /// Notes a lease that was made before: by an earlier life of this process. False when others hold part of it.
    pub fn restore(&mut self, first: u32, lease: Lease) -> bool {
        if self.leases.get(&first) == Some(&lease) {
            return true;
        }
        let end = first.saturating_add(lease.count);
        if lease.count == 0
            || end > self.units.count()
            || self.taken.free_run(first, lease.count) != lease.count
        {
            return false;
        }
        self.taken.set(first, lease.count, true);
        self.leases.insert(first, lease);
        true
    }

    /// Takes back what `worker` leased at `first`. Returns how many units; 0 if it holds nothing there.
    pub fn give_back(&mut self, worker: u32, first: u32) -> u32 {
        match self.leases.get(&first).copied() {
            Some(lease) if lease.worker == worker => {
                self.leases.remove(&first);
                self.taken.set(first, lease.count, false);
                lease.count
            }
            _ => 0,
        }
    }

    /// The lease a unit belongs to, with its first unit.
    pub fn holder(&self, unit: u32) -> Option<(u32, Lease)> {
        let (&first, &lease) = self.leases.range(..=unit).next_back()?;
        (unit - first < lease.count).then_some((first, lease))
    }

    /// All leases.
    pub fn leases(&self) -> impl Iterator<Item = (u32, Lease)> + '_ {
        self.leases.iter().map(|(&first, &lease)| (first, lease))
    }

    /// Units leased.
    pub fn used(&self) -> u32 {
        self.taken.used
    }
}

/// One bit a unit, set while it is leased.
#[derive(Debug, Clone)]
struct Bitmap {
    words: Vec<u64>,
    length: u32,
    used: u32,
}

impl Bitmap {
    fn new(length: u32) -> Self {
        Self {
            words: vec![0; length.div_ceil(64) as usize],
            length,
            used: 0,
        }
    }

    /// Whether a unit is taken; what lies outside counts as taken.
    fn get(&self, unit: u32) -> bool {
        let word = self
            .words
            .get((unit / 64) as usize)
            .filter(|_| unit < self.length);
        word.is_none_or(|word| word >> (unit % 64) & 1 == 1)
    }

    fn set(&mut self, first: u32, count: u32, taken: bool) {
        for unit in first..first.saturating_add(count).min(self.length) {
            let Some(word) = self.words.get_mut((unit / 64) as usize) else {
                return;
            };
            let bit = 1u64 << (unit % 64);
            match (taken, *word & bit != 0) {
                (true, false) => self.used += 1,
                (false, true) => self.used -= 1,
                _ => continue,
            }
            *word ^= bit;
        }
    }

    fn next_free(&self, from: u32) -> Option<u32> {
        let mut unit = from;
        while unit < self.length {
            let word = self.words.get((unit / 64) as usize)?;
            let free = !word >> (unit % 64);
            if free != 0 {
                return Some(unit + free.trailing_zeros()).filter(|&unit| unit < self.length);
            }
            unit = (unit / 64 + 1) * 64;
        }
        None
    }

    /// Free units from `first` on, at most `limit`.
    fn free_run(&self, first: u32, limit: u32) -> u32 {
        (0..limit)
            .find(|&step| first.checked_add(step).is_none_or(|unit| self.get(unit)))
            .unwrap_or(limit)
    }
}

/// Most units of a pool. What a larger network has beyond is not used.
pub const MAX_UNITS: u32 = 1 << 24;

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    fn v4(text: &str) -> Ipv4Addr {
        text.parse().unwrap()
    }

    #[test]
    fn units_of_networks() {
        assert_eq!(Units::range(v4("10.0.0.5"), v4("10.0.0.5")).count(), 1);
        assert_eq!(Units::range(v4("10.0.0.5"), v4("10.0.0.4")).count(), 0);
        let units = Units::prefixes("2001:db8::1".parse().unwrap(), 48, 64);
        assert_eq!(units.count(), 65_536);
        assert_eq!(units.address(1), "2001:db8:0:1::".parse::<IpAddr>().unwrap());
        assert_eq!(units.unit("2001:db8:0:1::77".parse().unwrap()), Some(1));
        assert_eq!(units.unit("2001:db9::".parse().unwrap()), None);
        assert_eq!(units.unit("10.0.0.1".parse().unwrap()), None);
        assert_eq!(units.networks(), [("2001:db8::".parse().unwrap(), 48)]);
    }

    #[test]
    fn routes_of_a_range() {
        let units = Units::range(v4("10.0.0.1"), v4("10.0.0.6"));
        let expected = [
            ("10.0.0.1", 32),
            ("10.0.0.2", 31),
            ("10.0.0.4", 31),
            ("10.0.0.6", 32),
        ];
        let expected: Vec<(IpAddr, u8)> = expected
            .iter()
            .map(|(address, length)| (address.parse().unwrap(), *length))
            .collect();
        assert_eq!(units.networks(), expected);
        assert!(units.overlaps(&Units::range(v4("10.0.0.0"), v4("10.255.255.255"))));
        assert!(Units::range(v4("10.0.0.0"), v4("10.255.255.255")).overlaps(&units));
        assert!(!units.overlaps(&Units::range(v4("10.0.0.7"), v4("10.0.0.9"))));
    }

    #[test]
    fn singles_and_blocks_exclude_each_other() {
        let mut pool = Allocator::new(Units::range(v4("10.0.0.0"), v4("10.0.0.9")));
        assert_eq!(pool.lease_single(1, 5), Ok(()));
        assert_eq!(pool.lease_single(1, 5), Ok(()));
        assert_eq!(
            pool.lease_single(2, 5),
            Err(Lease {
                worker: 1,
                count: 1,
                single: true
            })
        );
        assert_eq!(pool.lease(2, 8), Some((0, 5)), "up to the single one");
        assert_eq!(pool.lease(2, 8), Some((6, 4)));
        assert_eq!(pool.lease(2, 8), None);
        assert_eq!(
            pool.lease_single(1, 3),
            Err(Lease {
                worker: 2,
                count: 5,
                single: false
            })
        );
        assert_eq!(pool.give_back(1, 0), 0, "not its own");
        assert_eq!(pool.give_back(2, 0), 5);
        assert_eq!(pool.used(), 5);
        assert_eq!(pool.lease(3, 3), Some((0, 3)));
    }

    #[test]
    fn restored_leases_are_not_given_again() {
        let mut pool = Allocator::new(Units::range(v4("10.0.0.0"), v4("10.0.0.9")));
        let lease = Lease {
            worker: 1,
            count: 4,
            single: false,
        };
        assert!(pool.restore(2, lease));
        assert!(pool.restore(2, lease), "twice is the same");
        assert!(!pool.restore(5, lease), "overlaps");
        assert!(!pool.restore(8, lease), "outside");
        assert!(!pool.restore(u32::MAX, lease));
        assert_eq!(pool.lease(2, 9), Some((0, 2)));
        assert_eq!(pool.lease(2, 9), Some((6, 4)));
        assert_eq!(pool.lease(2, 9), None);
    }

    proptest! {
        /// No unit ever has two holders, and none is lost.
        #[test]
        fn every_unit_has_at_most_one_holder(
            count in 1u32..200,
            steps in prop::collection::vec((0u8..4, 0u32..200, 1u32..4, 1u32..40), 1..200),
        ) {
            let mut pool = Allocator::new(Units::V4 { first: v4("10.0.0.0"), count });
            let mut holders: HashMap<u32, (u32, u32)> = HashMap::new();
            for (step, unit, worker, wanted) in steps {
                match step {
                    0 | 1 => match pool.lease(worker, wanted) {
                        Some((first, length)) => {
                            prop_assert!(length >= 1 && length <= wanted && first + length <= count);
                            for unit in first..first + length {
                                prop_assert!(holders.insert(unit, (worker, first)).is_none());
                            }
                        }
                        None => prop_assert_eq!(holders.len(), count as usize),
                    },
                    2 => if unit < count && pool.lease_single(worker, unit).is_ok() {
                        let before = holders.insert(unit, (worker, unit));
                        prop_assert!(before.is_none_or(|holder| holder == (worker, unit)));
                    },
                    _ => {
                        let given = pool.give_back(worker, unit);
                        for unit in unit..unit + given {
                            prop_assert_eq!(holders.remove(&unit).map(|holder| holder.0), Some(worker));
                        }
                    }
                }
                prop_assert_eq!(pool.used() as usize, holders.len());
            }
        }

        #[test]
        fn networks_cover_exactly(first: u32, count in 0u32..5_000) {
            let first = first.min(u32::MAX - 5_000);
            let units = Units::V4 { first: first.into(), count };
            let mut next = first;
            for (address, length) in units.networks() {
                prop_assert_eq!(address, IpAddr::from(Ipv4Addr::from(next)));
                prop_assert_eq!(u64::from(next) % (1u64 << (32 - length)), 0, "aligned");
                next += 1 << (32 - length);
            }
            prop_assert_eq!(next, first + count);
        }
    }
}

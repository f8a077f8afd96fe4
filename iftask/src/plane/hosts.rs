//! Single addresses and who has them: the part of the lookup that most packets need, in one cache line each.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use sadb::{Spi, prefetch_line};

/// Places of an empty table; always a power of two.
const LEAST_PLACES: usize = 16;

/// The newest SA of each address in an open table with linear probing, at most half full; older ones, which nearly no address has, beside it.
pub(crate) struct Hosts<K, H> {
    /// Number of the SPI, 0 = free.
    places: Vec<(K, u32)>,
    count: usize,
    /// Newest first.
    older: HashMap<K, Vec<Spi>, H>,
    hasher: H,
}

impl<K: Copy + Default + Eq + Hash, H: BuildHasher + Clone + Default> Hosts<K, H> {
    /// Makes an SA the newest of an address.
    pub(crate) fn insert(&mut self, host: K, spi: Spi) {
        self.remove(host, spi);
        if (self.count + 1) * 2 > self.places.len() {
            self.grow();
        }
        let place = self.place(host);
        let Some(entry) = self.places.get_mut(place) else {
            return;
        };
        let (_, before) = std::mem::replace(entry, (host, spi.to_u32()));
        match Spi::from_u32(before) {
            Some(second) => self.older.entry(host).or_default().insert(0, second),
            None => self.count += 1,
        }
    }

    /// Takes an SA from an address.
    pub(crate) fn remove(&mut self, host: K, spi: Spi) {
        let next = self.older.get_mut(&host).and_then(|older| {
            older.retain(|other| *other != spi);
            older.first().copied()
        });
        if self.newest(host) == Some(spi) {
            let place = self.place(host);
            match next {
                Some(next) => {
                    if let Some(entry) = self.places.get_mut(place) {
                        *entry = (host, next.to_u32());
                    }
                    if let Some(older) = self.older.get_mut(&host) {
                        older.remove(0);
                    }
                }
                None => self.vacate(place),
            }
        }
        if self.older.get(&host).is_some_and(Vec::is_empty) {
            self.older.remove(&host);
        }
    }

    /// The newest SA of an address.
    pub(crate) fn newest(&self, host: K) -> Option<Spi> {
        let (_, spi) = self.places.get(self.place(host))?;
        Spi::from_u32(*spi)
    }

    /// The SAs of an address before the newest, newest first.
    pub(crate) fn older(&self, host: K) -> &[Spi] {
        if self.older.is_empty() {
            return &[];
        }
        self.older.get(&host).map_or(&[], Vec::as_slice)
    }

    /// Begins to load what [`newest`](Self::newest) will look at.
    pub(crate) fn prefetch(&self, host: K) {
        if let Some(place) = self.places.get(self.home(host)) {
            prefetch_line(place);
        }
    }

    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.count == 0 && self.older.is_empty() && self.places.iter().all(|(_, spi)| *spi == 0)
    }

    /// Where an address is looked for first.
    fn home(&self, host: K) -> usize {
        self.hasher.hash_one(host) as usize & self.places.len().wrapping_sub(1)
    }

    /// Where an address is, or the free place where it would be.
    fn place(&self, host: K) -> usize {
        let mut place = self.home(host);
        while let Some((found, spi)) = self.places.get(place)
            && *spi != 0
            && *found != host
        {
            place = (place + 1) & (self.places.len() - 1);
        }
        place
    }

    /// Empties a place and moves up what stands behind it, so that it is still found.
    fn vacate(&mut self, mut hole: usize) {
        let last = self.places.len().wrapping_sub(1);
        let mut place = hole;
        loop {
            place = (place + 1) & last;
            let Some((host, spi)) = self.places.get(place).copied().filter(|(_, spi)| *spi != 0) else {
                break;
            };
            // What would be found before the hole is reached may stay.
            let distance = |from: usize, to: usize| to.wrapping_sub(from) & last;
            if distance(self.home(host), place) >= distance(hole, place) {
                if let Some(entry) = self.places.get_mut(hole) {
                    *entry = (host, spi);
                }
                hole = place;
            }
        }
        if let Some(entry) = self.places.get_mut(hole)
            && std::mem::take(&mut entry.1) != 0
        {
            self.count -= 1;
        }
    }

    fn grow(&mut self) {
        let places = (self.places.len() * 2).max(LEAST_PLACES);
        let old = std::mem::replace(&mut self.places, vec![(K::default(), 0); places]);
        for (host, spi) in old.into_iter().filter(|(_, spi)| *spi != 0) {
            let place = self.place(host);
            if let Some(entry) = self.places.get_mut(place) {
                *entry = (host, spi);
            }
        }
    }
}

impl<K, H: Clone + Default> Default for Hosts<K, H> {
    fn default() -> Self {
        let hasher = H::default();
        Self {
            places: Vec::new(),
            count: 0,
            older: HashMap::with_hasher(hasher.clone()),
            hasher,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sadb::{SaIndex, Slot};
    use std::hash::BuildHasherDefault;

    /// Puts many addresses at the same place.
    #[derive(Clone, Copy, Default)]
    struct Few(u64);

    impl std::hash::Hasher for Few {
        fn finish(&self) -> u64 {
            self.0 / 3 * 5
        }

        fn write(&mut self, bytes: &[u8]) {
            self.0 = u64::from(bytes[0]);
        }
    }

    fn spi(n: u16) -> Spi {
        Spi::new(Slot::MIN, 0, SaIndex::new(n).unwrap())
    }

    proptest! {
        /// Against the definition: lists of SAs, newest first.
        #[test]
        fn hosts_follow_the_definition(steps in proptest::collection::vec((0u32..60, 1u16..6, any::<bool>()), 1..400)) {
            let mut hosts = Hosts::<u32, BuildHasherDefault<Few>>::default();
            let mut lists: HashMap<u32, Vec<Spi>> = HashMap::new();
            for (host, number, is_new) in steps {
                let list = lists.entry(host).or_default();
                list.retain(|other| *other != spi(number));
                if is_new {
                    list.insert(0, spi(number));
                    hosts.insert(host, spi(number));
                } else {
                    hosts.remove(host, spi(number));
                }
                for (host, list) in &lists {
                    let found: Vec<Spi> = hosts.newest(*host).into_iter().chain(hosts.older(*host).iter().copied()).collect();
                    prop_assert_eq!(&found, list);
                }
            }
            for (host, list) in lists {
                list.into_iter().for_each(|spi| hosts.remove(host, spi));
            }
            prop_assert!(hosts.is_empty());
        }
    }
}

//! Which child SA a clear packet belongs to: by context and destination.
//!
//! Single addresses are found by hash (most tunnels have one), networks in a trie; among SAs with the same destination the newest that may carry the
//! packet wins, among networks the narrowest.

use std::hash::{BuildHasher, Hasher};
use std::net::IpAddr;

use esp::{Addresses, Packet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use prefix_trie::PrefixMap;
use sadb::Spi;

use super::hosts::Hosts;

/// SAs tried for one destination. Beyond that somebody gave thousands of tunnels the same selectors.
const MOST_CANDIDATES: usize = 256;

/// Routes of all contexts into tunnels. Changed by the change log, read for every packet.
#[derive(Default)]
pub(crate) struct Lookup {
    contexts: Vec<(u32, Routes)>,
}

#[derive(Default)]
struct Routes {
    hosts_v4: Hosts<u32, Mixer>,
    hosts_v6: Hosts<u128, Mixer>,
    networks_v4: PrefixMap<Ipv4Net, Candidates>,
    networks_v6: PrefixMap<Ipv6Net, Candidates>,
}

/// SAs with the same network behind them, newest first. Nearly always one.
#[derive(Default)]
struct Candidates(Vec<Spi>);

impl Lookup {
    /// Adds an SA as the newest of each of its networks.
    pub(crate) fn insert(&mut self, context: u32, routes: &[IpNet], spi: Spi) {
        let known = self.contexts.iter().position(|(id, _)| *id == context);
        let place = known.unwrap_or_else(|| {
            self.contexts.push((context, Routes::default()));
            self.contexts.len() - 1
        });
        let Some((_, table)) = self.contexts.get_mut(place) else {
            return;
        };
        for route in routes {
            table.insert(route, spi);
        }
    }

    /// Takes an SA out again.
    pub(crate) fn remove(&mut self, context: u32, routes: &[IpNet], spi: Spi) {
        let Some((_, table)) = self.contexts.iter_mut().find(|(id, _)| *id == context) else {
            return;
        };
        for route in routes {
            table.remove(route, spi);
        }
    }

    /// The SA for a packet: the first that `may_carry` it.
    pub(crate) fn find(&self, context: u32, packet: &Packet, may_carry: impl Fn(Spi) -> bool) -> Option<Spi> {
        let routes = self.routes(context)?;
        match packet.addresses {
            Addresses::V4 { destination, .. } => {
                let newest = routes.hosts_v4.newest(destination);
                let host = newest.filter(|spi| may_carry(*spi));
                let host = host.or_else(|| first(routes.hosts_v4.older(destination), &may_carry));
                host.or_else(|| {
                    let host = Ipv4Net::from(std::net::Ipv4Addr::from(destination));
                    let wider = routes.networks_v4.cover_values(&host);
                    wider
                        .filter_map(|candidates| first(&candidates.0, &may_carry))
                        .last()
                })
            }
            Addresses::V6 { destination, .. } => {
                let newest = routes.hosts_v6.newest(destination);
                let host = newest.filter(|spi| may_carry(*spi));
                let host = host.or_else(|| first(routes.hosts_v6.older(destination), &may_carry));
                host.or_else(|| {
                    let host = Ipv6Net::from(std::net::Ipv6Addr::from(destination));
                    let wider = routes.networks_v6.cover_values(&host);
                    wider
                        .filter_map(|candidates| first(&candidates.0, &may_carry))
                        .last()
                })
            }
        }
    }

    /// Begins to load what [`likely`](Self::likely) will look at.
    pub(crate) fn prefetch(&self, context: u32, destination: IpAddr) {
        let Some(routes) = self.routes(context) else {
            return;
        };
        match destination {
            IpAddr::V4(host) => routes.hosts_v4.prefetch(host.into()),
            IpAddr::V6(host) => routes.hosts_v6.prefetch(host.into()),
        }
    }

    /// The SA that will probably carry packets to there, if it is one of those that have a single address behind them.
    pub(crate) fn likely(&self, context: u32, destination: IpAddr) -> Option<Spi> {
        let routes = self.routes(context)?;
        match destination {
            IpAddr::V4(host) => routes.hosts_v4.newest(host.into()),
            IpAddr::V6(host) => routes.hosts_v6.newest(host.into()),
        }
    }

    fn routes(&self, context: u32) -> Option<&Routes> {
        let found = self.contexts.iter().find(|(id, _)| *id == context);
        found.map(|(_, routes)| routes)
    }
}

/// The first of several SAs that may carry a packet.
fn first(candidates: &[Spi], may_carry: &impl Fn(Spi) -> bool) -> Option<Spi> {
    candidates
        .iter()
        .take(MOST_CANDIDATES)
        .copied()
        .find(|spi| may_carry(*spi))
}

impl Routes {
    /// Makes an SA the newest of a network.
    fn insert(&mut self, route: &IpNet, spi: Spi) {
        match route {
            IpNet::V4(net) if net.prefix_len() == 32 => self.hosts_v4.insert(net.addr().into(), spi),
            IpNet::V6(net) if net.prefix_len() == 128 => self.hosts_v6.insert(net.addr().into(), spi),
            IpNet::V4(net) => self.networks_v4.entry(*net).or_default().insert(spi),
            IpNet::V6(net) => self.networks_v6.entry(*net).or_default().insert(spi),
        }
    }

    /// Takes an SA from a network.
    fn remove(&mut self, route: &IpNet, spi: Spi) {
        match route {
            IpNet::V4(net) if net.prefix_len() == 32 => self.hosts_v4.remove(net.addr().into(), spi),
            IpNet::V6(net) if net.prefix_len() == 128 => self.hosts_v6.remove(net.addr().into(), spi),
            IpNet::V4(net) => {
                if self.networks_v4.get_mut(net).is_some_and(|all| all.remove(spi)) {
                    self.networks_v4.remove(net);
                }
            }
            IpNet::V6(net) => {
                if self.networks_v6.get_mut(net).is_some_and(|all| all.remove(spi)) {
                    self.networks_v6.remove(net);
                }
            }
        }
    }
}

impl Candidates {
    fn insert(&mut self, spi: Spi) {
        self.remove(spi);
        self.0.insert(0, spi);
    }

    /// True when none is left.
    fn remove(&mut self, spi: Spi) -> bool {
        self.0.retain(|other| *other != spi);
        self.0.is_empty()
    }
}

/// Hashes addresses with two multiplications, keyed so that nobody outside can choose addresses that collide.
#[derive(Clone)]
pub(super) struct Mixer {
    key: u64,
}

impl Default for Mixer {
    fn default() -> Self {
        // The standard library's source of random keys.
        let random = std::hash::RandomState::new();
        Self {
            key: random.hash_one(0u8) | 1,
        }
    }
}

impl BuildHasher for Mixer {
    type Hasher = Mixed;

    fn build_hasher(&self) -> Mixed {
        Mixed {
            key: self.key,
            state: self.key.rotate_left(32),
        }
    }
}

pub(super) struct Mixed {
    key: u64,
    state: u64,
}

impl Hasher for Mixed {
    fn finish(&self) -> u64 {
        self.state
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word.iter_mut().zip(chunk).for_each(|(to, from)| *to = *from);
            self.write_u64(u64::from_ne_bytes(word));
        }
    }

    fn write_u32(&mut self, word: u32) {
        self.write_u64(word.into());
    }

    fn write_u64(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.key);
        self.state = (product >> 64) as u64 ^ product as u64;
    }

    fn write_u128(&mut self, word: u128) {
        self.write_u64((word >> 64) as u64);
        self.write_u64(word as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sadb::{SaIndex, Slot};

    fn spi(n: u16) -> Spi {
        Spi::new(Slot::MIN, 0, SaIndex::new(n).unwrap())
    }

    fn to(destination: &str) -> Packet {
        let addresses = match destination.parse().unwrap() {
            std::net::IpAddr::V4(address) => Addresses::V4 {
                source: 0,
                destination: address.into(),
            },
            std::net::IpAddr::V6(address) => Addresses::V6 {
                source: 0,
                destination: address.into(),
            },
        };
        Packet {
            addresses,
            length: 40,
            upper: 40,
            protocol: 17,
            ports: None,
            traffic_class: 0,
            dont_fragment: false,
            is_fragment: false,
        }
    }

    fn nets(text: &[&str]) -> Vec<IpNet> {
        text.iter().map(|net| net.parse().unwrap()).collect()
    }

    #[test]
    fn hosts_before_networks_and_narrow_before_wide() {
        let mut lookup = Lookup::default();
        lookup.insert(1, &nets(&["0.0.0.0/0", "::/0"]), spi(1));
        lookup.insert(1, &nets(&["10.0.0.0/8", "2001:db8::/32"]), spi(2));
        lookup.insert(1, &nets(&["10.1.0.0/16"]), spi(3));
        lookup.insert(1, &nets(&["10.1.0.7/32", "2001:db8::7/128"]), spi(4));
        let find = |address| lookup.find(1, &to(address), |_| true);
        assert_eq!(find("10.1.0.7"), Some(spi(4)));
        assert_eq!(find("10.1.0.8"), Some(spi(3)));
        assert_eq!(find("10.2.0.8"), Some(spi(2)));
        assert_eq!(find("192.0.2.1"), Some(spi(1)));
        assert_eq!(find("2001:db8::7"), Some(spi(4)));
        assert_eq!(find("2001:db8::8"), Some(spi(2)));
        assert_eq!(find("fd00::1"), Some(spi(1)));
        // What the narrow one does not carry goes to the wider.
        assert_eq!(
            lookup.find(1, &to("10.1.0.7"), |s| s != spi(4) && s != spi(3)),
            Some(spi(2))
        );
        assert_eq!(lookup.find(2, &to("10.1.0.7"), |_| true), None, "another context");
    }

    #[test]
    fn the_newest_wins_and_removal_leaves_nothing() {
        let mut lookup = Lookup::default();
        let host = nets(&["10.1.0.7/32", "10.2.0.0/24"]);
        for n in 1..=3 {
            lookup.insert(1, &host, spi(n));
        }
        let find = |lookup: &Lookup, may: fn(Spi) -> bool| {
            ["10.1.0.7", "10.2.0.9"].map(|address| lookup.find(1, &to(address), may))
        };
        assert_eq!(find(&lookup, |_| true), [Some(spi(3)); 2]);
        assert_eq!(find(&lookup, |s| s != spi(3)), [Some(spi(2)); 2]);
        lookup.insert(1, &host, spi(1));
        assert_eq!(find(&lookup, |_| true), [Some(spi(1)); 2], "changed last");
        lookup.remove(1, &host, spi(1));
        assert_eq!(find(&lookup, |_| true), [Some(spi(3)); 2]);
        for n in 1..=3 {
            lookup.remove(1, &host, spi(n));
        }
        assert_eq!(find(&lookup, |_| true), [None; 2]);
        let (_, routes) = &lookup.contexts[0];
        assert!(routes.hosts_v4.is_empty() && routes.networks_v4.iter().next().is_none());
    }
}

//! Routes of tunnels: the networks behind peers, and single addresses that AAA chose outside every pool.
//!
//! Several tunnels may have the same network behind them (a rekey has two child SAs for a while). Each gets a kernel route of its own:
//! the metric is the inbound SPI of the child SA. So the kernel counts the references, adding and removing is idempotent, and a
//! restarted `vpnmgr` finds every route with its tunnel where it left it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use ipnet::IpNet;

/// A network and the tunnel it is behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TunnelRoute {
    /// The network.
    pub network: IpNet,
    /// Inbound SPI of the child SA, or [`NO_SPI`].
    pub spi: u32,
}

impl TunnelRoute {
    /// The route of a single address that AAA chose.
    pub fn of_address(address: std::net::IpAddr) -> Self {
        Self {
            network: address.into(),
            spi: NO_SPI,
        }
    }

    /// The slot of its tunnel.
    pub fn slot(&self) -> u8 {
        (self.spi >> 24) as u8
    }
}

/// All routes of tunnels, with the tenure of the `ipsecmgr` that asked for each last; 0: nobody, it was found in the kernel after a restart.
#[derive(Debug, Default)]
pub struct TunnelRoutes(BTreeMap<TunnelRoute, u64>);

impl TunnelRoutes {
    /// Notes routes, each with the tenure by which its slot is had by the one who asks. Returns those that are new: to be added to the kernel.
    pub fn add(&mut self, routes: impl IntoIterator<Item = (TunnelRoute, u64)>) -> Vec<TunnelRoute> {
        let mut new = Vec::new();
        for (route, tenure) in routes {
            match self.0.entry(route) {
                Entry::Vacant(entry) => {
                    entry.insert(tenure);
                    new.push(route);
                }
                // What a former owner of the slot asked for may come late.
                Entry::Occupied(mut entry) => *entry.get_mut() = tenure.max(*entry.get()),
            }
        }
        new
    }

    /// Forgets routes. Returns those that were there: to be removed from the kernel.
    pub fn remove(&mut self, routes: impl IntoIterator<Item = TunnelRoute>) -> Vec<TunnelRoute> {
        routes
            .into_iter()
            .filter(|route| self.0.remove(route).is_some())
            .collect()
    }

    /// Forgets the routes of tunnels in these slots that were not asked for by this tenure, nor by a later one.
    pub fn remove_older(&mut self, slots: &[u8], tenure: u64) -> Vec<TunnelRoute> {
        let older = |(route, asked): &(&TunnelRoute, &u64)| {
            route.spi != NO_SPI && slots.contains(&route.slot()) && **asked < tenure
        };
        let routes: Vec<TunnelRoute> = self.0.iter().filter(older).map(|(route, _)| *route).collect();
        self.remove(routes)
    }

    /// Notes routes found in the kernel.
    pub fn recover(&mut self, routes: impl IntoIterator<Item = TunnelRoute>) {
        for route in routes {
            self.0.entry(route).or_insert(0);
        }
    }

    /// All of them, in order, from after `cursor` on.
    pub fn after(&self, cursor: Option<TunnelRoute>) -> impl Iterator<Item = TunnelRoute> + '_ {
        use std::ops::Bound::{Excluded, Unbounded};
        self.0
            .range((cursor.map_or(Unbounded, Excluded), Unbounded))
            .map(|(route, _)| *route)
    }
}

/// The metric of routes that belong to no child SA. No SPI of ours is that small.
pub const NO_SPI: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str, spi: u32) -> TunnelRoute {
        TunnelRoute {
            network: network.parse().unwrap(),
            spi,
        }
    }

    #[test]
    fn same_network_behind_two_tunnels_stays_until_both_are_gone() {
        let mut routes = TunnelRoutes::default();
        let (old, new) = (
            route("10.1.0.0/24", 0x0700_0001),
            route("10.1.0.0/24", 0x0700_0002),
        );
        assert_eq!(routes.add([(old, 1)]), [old]);
        assert_eq!(routes.add([(old, 1), (new, 1)]), [new], "adding again is nothing");
        assert_eq!(routes.remove([old]), [old]);
        assert_eq!(routes.remove([old]), [], "removing again is nothing");
        assert_eq!(routes.after(None).collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn routes_that_a_former_owner_of_a_slot_left_go_also_when_found_in_the_kernel() {
        let mut routes = TunnelRoutes::default();
        let mine = route("10.1.0.0/24", 0x0100_0001);
        let found = route("10.2.0.0/24", 0x0100_0002);
        let other = route("10.3.0.0/24", 0x0200_0001);
        let address = TunnelRoute::of_address("10.9.0.1".parse().unwrap());
        routes.recover([found, other, address]);
        routes.add([(mine, 1)]);
        routes.recover([mine]);
        assert_eq!(routes.remove_older(&[3], 2), [], "another slot");
        assert_eq!(routes.remove_older(&[1], 1), [found], "what is new stays");
        routes.recover([found]);
        assert_eq!(routes.remove_older(&[0, 1], 2), [mine, found]);
        assert_eq!(routes.after(Some(other)).collect::<Vec<_>>(), [address]);
    }

    #[test]
    fn routes_that_the_next_owner_asks_for_again_stay_and_are_not_new() {
        let mut routes = TunnelRoutes::default();
        let [kept, found, gone, lost] =
            [1, 2, 3, 4].map(|number| route(&format!("10.{number}.0.0/24"), 0x0100_0000 + number));
        let other = route("10.1.0.0/24", 0x0200_0001);
        routes.recover([found, lost]);
        routes.add([(kept, 1), (gone, 1), (other, 1)]);
        let fresh = route("10.5.0.0/24", 0x0100_0005);
        assert_eq!(routes.add([(kept, 2), (found, 2), (fresh, 2)]), [fresh]);
        // The former owner's word comes late.
        assert_eq!(routes.add([(kept, 1)]), []);
        assert_eq!(routes.remove_older(&[1], 1), [lost], "and so does this");
        assert_eq!(routes.remove_older(&[1], 2), [gone]);
        assert_eq!(routes.remove_older(&[1], 2), []);
        assert_eq!(
            routes.after(None).collect::<Vec<_>>(),
            [kept, other, found, fresh]
        );
    }
}

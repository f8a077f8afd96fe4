//! Routes of tunnels: the networks behind peers, and single addresses that AAA chose outside every pool.
//!
//! Several tunnels may have the same network behind them (a rekey has two child SAs for a while). Each gets a kernel route of its own:
//! the metric is the inbound SPI of the child SA. So the kernel counts the references, adding and removing is idempotent, and a
//! restarted `vpnmgr` finds every route with its tunnel where it left it.

use std::collections::BTreeMap;

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

/// All routes of tunnels, with who asked for them.
#[derive(Debug, Default)]
pub struct TunnelRoutes(BTreeMap<TunnelRoute, Holder>);

/// Who asked for a route last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holder {
    /// The worker; 0: nobody, it was found in the kernel after a restart.
    pub worker: u32,
    /// Which life of its `ipsecmgr`.
    pub life: u32,
}

impl TunnelRoutes {
    /// Notes routes. Returns those that are new: to be added to the kernel.
    pub fn add(&mut self, holder: Holder, routes: impl IntoIterator<Item = TunnelRoute>) -> Vec<TunnelRoute> {
        let new = |route: &TunnelRoute| self.0.insert(*route, holder).is_none();
        routes.into_iter().filter(new).collect()
    }

    /// Forgets routes. Returns those that were there: to be removed from the kernel.
    pub fn remove(&mut self, routes: impl IntoIterator<Item = TunnelRoute>) -> Vec<TunnelRoute> {
        routes
            .into_iter()
            .filter(|route| self.0.remove(route).is_some())
            .collect()
    }

    /// Forgets the routes of the tunnels of a worker that the present life of its `ipsecmgr` has not asked for. `owner` tells the worker of a
    /// slot, for routes found after a restart.
    pub fn remove_older(&mut self, present: Holder, owner: impl Fn(u8) -> Option<u32>) -> Vec<TunnelRoute> {
        let theirs = |(route, holder): (&TunnelRoute, &Holder)| match *holder {
            _ if route.spi == NO_SPI => None,
            FOUND if owner(route.slot()) == Some(present.worker) => Some(*route),
            holder if holder.worker == present.worker && holder.life < present.life => Some(*route),
            _ => None,
        };
        let routes: Vec<TunnelRoute> = self.0.iter().filter_map(theirs).collect();
        self.remove(routes)
    }

    /// Forgets routes found after a restart that are in slots of a worker which has said since which tunnels it has, and not these.
    pub fn remove_found(&mut self, worker: u32, owner: impl Fn(u8) -> Option<u32>) -> Vec<TunnelRoute> {
        let theirs = |(route, holder): (&TunnelRoute, &Holder)| {
            let stale = *holder == FOUND && route.spi != NO_SPI && owner(route.slot()) == Some(worker);
            stale.then_some(*route)
        };
        let routes: Vec<TunnelRoute> = self.0.iter().filter_map(theirs).collect();
        self.remove(routes)
    }

    /// Notes routes found in the kernel.
    pub fn recover(&mut self, routes: impl IntoIterator<Item = TunnelRoute>) {
        for route in routes {
            self.0.entry(route).or_insert(FOUND);
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
/// Of routes found in the kernel.
const FOUND: Holder = Holder { worker: 0, life: 0 };

#[cfg(test)]
mod tests {
    use super::*;

    fn route(network: &str, spi: u32) -> TunnelRoute {
        TunnelRoute {
            network: network.parse().unwrap(),
            spi,
        }
    }

    const fn life(life: u32) -> Holder {
        Holder { worker: 1, life }
    }

    #[test]
    fn same_network_behind_two_tunnels_stays_until_both_are_gone() {
        let mut routes = TunnelRoutes::default();
        let (old, new) = (
            route("10.1.0.0/24", 0x0700_0001),
            route("10.1.0.0/24", 0x0700_0002),
        );
        assert_eq!(routes.add(life(0), [old]), [old]);
        assert_eq!(routes.add(life(0), [old, new]), [new], "adding again is nothing");
        assert_eq!(routes.remove([old]), [old]);
        assert_eq!(routes.remove([old]), [], "removing again is nothing");
        assert_eq!(routes.after(None).collect::<Vec<_>>(), [new]);
    }

    #[test]
    fn routes_of_a_restarted_worker_go_also_when_found_in_the_kernel() {
        let mut routes = TunnelRoutes::default();
        let mine = route("10.1.0.0/24", 0x0100_0001);
        let found = route("10.2.0.0/24", 0x0100_0002);
        let other = route("10.3.0.0/24", 0x0200_0001);
        let address = TunnelRoute::of_address("10.9.0.1".parse().unwrap());
        routes.recover([found, other, address]);
        routes.add(life(0), [mine]);
        routes.recover([mine]);
        let owner = |slot: u8| Some(u32::from(slot));
        assert_eq!(routes.remove_older(life(1), |_| None), [mine], "whose is it?");
        routes.add(life(0), [mine]);
        assert_eq!(routes.remove_found(1, owner), [found], "what is new stays");
        routes.recover([found]);
        assert_eq!(routes.remove_older(life(1), owner), [mine, found]);
        assert_eq!(routes.after(Some(other)).collect::<Vec<_>>(), [address]);
    }

    #[test]
    fn routes_that_the_next_life_asks_for_again_stay_and_are_not_new() {
        let mut routes = TunnelRoutes::default();
        let [kept, found, gone, lost] =
            [1, 2, 3, 4].map(|number| route(&format!("10.{number}.0.0/24"), 0x0100_0000 + number));
        let other = route("10.1.0.0/24", 0x0200_0001);
        routes.recover([found, lost]);
        routes.add(life(0), [kept, gone]);
        routes.add(Holder { worker: 2, life: 0 }, [other]);
        let fresh = route("10.5.0.0/24", 0x0100_0005);
        assert_eq!(routes.add(life(1), [kept, found, fresh]), [fresh]);
        let owner = |slot: u8| Some(u32::from(slot));
        assert_eq!(routes.remove_older(life(1), owner), [gone, lost]);
        assert_eq!(routes.remove_older(life(1), owner), []);
        assert_eq!(
            routes.after(None).collect::<Vec<_>>(),
            [kept, other, found, fresh]
        );
    }
}

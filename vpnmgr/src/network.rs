//! Makes the kernel's network what the plan wants, and changes nothing that is right already or not ours.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

use crate::error::Error;
use crate::kernel::{self, Address, Kernel, Link, Origin, Route, Table};
use crate::plan::{LOOPBACK, OWN_METRIC, Plan, PlannedRoute};
use crate::routes::{TunnelRoute, TunnelRoutes};

/// The network of one context's namespace.
pub struct Network {
    kernel: Kernel,
    /// `local` is the machine's own namespace, where not everything is ours to set.
    shared: bool,
    tun: Option<String>,
    links: BTreeMap<String, Link>,
    /// Devices of the plan as they were when it was applied last.
    applied: BTreeMap<String, Applied>,
}

/// What has to be restored when it changes: the kernel takes addresses and routes away with a device, and routes when it is switched off.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Applied {
    index: u32,
    enabled: bool,
}

impl Network {
    /// Opens the network of the namespace of this process.
    pub fn open(shared: bool) -> Result<Self, Error> {
        Ok(Self {
            kernel: Kernel::open()?,
            shared,
            tun: None,
            links: BTreeMap::new(),
            applied: BTreeMap::new(),
        })
    }

    /// The device of the context's tunnels, once there is one.
    pub fn set_tun(&mut self, tun: Option<String>) {
        self.tun = tun;
    }

    /// Brings devices, addresses, routes and settings to what the plan wants. Returns what could not be done; the rest is done.
    pub fn apply(&mut self, plan: &Plan, tunnels: &TunnelRoutes) -> Result<Vec<Error>, Error> {
        self.refresh()?;
        let mut failures = if plan.forwards {
            self.settings(plan)
        } else {
            Vec::new()
        };
        failures.extend(self.devices(plan));
        // What becomes of them from here on has changed since.
        self.refresh()?;
        self.applied = self.present(plan);
        failures.extend(self.addresses(plan)?);
        failures.extend(self.routes(plan)?);
        failures.extend(match plan.forwards {
            // What leads to tunnels is complete before it is looked at.
            true => {
                let mut failures = self.own_routes()?;
                failures.extend(self.tunnel_routes(tunnels)?);
                failures.extend(self.kernel.add_rules()?);
                failures
            }
            false => self.leave()?,
        });
        Ok(failures)
    }

    /// Whether a device of the plan has come, gone, been replaced or switched since the plan was applied.
    pub fn has_changed(&mut self, plan: &Plan) -> Result<bool, Error> {
        self.refresh()?;
        Ok(self.present(plan) != self.applied)
    }

    fn present(&self, plan: &Plan) -> BTreeMap<String, Applied> {
        let names = plan.devices.keys().chain(&self.tun);
        let present = names.filter_map(|name| {
            let Link { index, enabled, .. } = *self.links.get(name)?;
            Some((name.clone(), Applied { index, enabled }))
        });
        present.collect()
    }

    /// Takes away what would stay without the device of the tunnels: the rules, and what keeps our own networks out of tunnels.
    pub fn leave(&mut self) -> Result<Vec<Error>, Error> {
        let mut failures = self.kernel.remove_rules()?;
        let own: Vec<Route> = self.kernel.routes()?.into_iter().filter(is_own_route).collect();
        failures.extend(self.kernel.remove_routes(&own)?);
        Ok(failures)
    }

    /// The routes of tunnels that the kernel has.
    pub fn found_tunnel_routes(&mut self) -> Result<Vec<TunnelRoute>, Error> {
        let tunnel = |route: Route| {
            (route.origin == Origin::Tunnel).then_some(TunnelRoute {
                network: route.destination,
                spi: route.metric,
            })
        };
        Ok(self.kernel.routes()?.into_iter().filter_map(tunnel).collect())
    }

    /// Adds routes of tunnels.
    pub fn add_tunnel_routes(&mut self, routes: &[TunnelRoute]) -> Result<Vec<Error>, Error> {
        match self.tun_index() {
            Some(index) => self.kernel.add_routes(&kernel_routes(routes, index)),
            None => Err(Error::NoDevice(
                self.tun.clone().unwrap_or_else(|| "tun".to_owned()),
            )),
        }
    }

    /// Removes routes of tunnels.
    pub fn remove_tunnel_routes(&mut self, routes: &[TunnelRoute]) -> Result<Vec<Error>, Error> {
        match self.tun_index() {
            Some(index) => self.kernel.remove_routes(&kernel_routes(routes, index)),
            // They went with the device.
            None => Ok(Vec::new()),
        }
    }

    /// The devices by name, as of the last [`Self::apply`] or [`Self::refresh`].
    pub fn links(&self) -> &BTreeMap<String, Link> {
        &self.links
    }

    /// Reads the devices anew.
    pub fn refresh(&mut self) -> Result<(), Error> {
        self.links = self
            .kernel
            .links()?
            .into_iter()
            .map(|link| (link.name.clone(), link))
            .collect();
        Ok(())
    }

    /// The addresses that packets can be sent to now.
    pub fn reachable(&mut self) -> Result<Vec<IpAddr>, Error> {
        self.refresh()?;
        let up: BTreeSet<u32> = self
            .links
            .values()
            .filter(|link| link.enabled && link.running)
            .map(|link| link.index)
            .collect();
        let addresses = self.kernel.addresses()?.into_iter();
        let on = addresses.filter(|address| up.contains(&address.device));
        Ok(on.map(|address| address.address.addr()).collect())
    }

    /// Routes that tunnels have nothing to do with, for `show ip route`.
    pub fn other_routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = self.kernel.routes()?;
        routes.retain(|route| !matches!(route.origin, Origin::Tunnel | Origin::Own));
        routes.sort();
        Ok(routes)
    }

    fn devices(&mut self, plan: &Plan) -> Vec<Error> {
        let mut failures = Vec::new();
        for (name, wish) in &plan.devices {
            let Some(link) = self.links.get(name) else {
                failures.push(Error::NoDevice(name.clone()));
                continue;
            };
            let mtu = wish.mtu.filter(|&mtu| mtu != link.mtu);
            if link.enabled == wish.up && mtu.is_none() {
                continue;
            }
            failures.extend(self.kernel.set_link(link, wish.up, mtu).err());
        }
        failures
    }

    fn addresses(&mut self, plan: &Plan) -> Result<Vec<Error>, Error> {
        let wished: BTreeSet<(u32, IpNet)> = plan
            .addresses
            .iter()
            .filter_map(|(device, address)| Some((self.links.get(device)?.index, *address)))
            .collect();
        let (ours, others): (Vec<Address>, Vec<Address>) = self
            .kernel
            .addresses()?
            .into_iter()
            .partition(|address| address.ours);
        let present: BTreeSet<(u32, IpNet)> = ours
            .iter()
            .chain(&others)
            .map(|address| (address.device, address.address))
            .collect();
        let stale: Vec<Address> = ours
            .into_iter()
            .filter(|old| !wished.contains(&(old.device, old.address)))
            .collect();
        let new: Vec<Address> = wished
            .difference(&present)
            .map(|&(device, address)| Address {
                device,
                address,
                ours: true,
            })
            .collect();
        let mut failures = self.kernel.remove_addresses(&stale)?;
        failures.extend(self.kernel.add_addresses(&new)?);
        Ok(failures)
    }

    fn routes(&mut self, plan: &Plan) -> Result<Vec<Error>, Error> {
        let present: Vec<Route> = self.kernel.routes()?;
        let connected = |gateway: IpAddr| {
            let leads = present.iter().filter(|route| {
                route.table == Table::Main && route.gateway.is_none() && route.destination.contains(&gateway)
            });
            leads.max_by_key(|route| route.destination.prefix_len())
        };
        let mut stale = present.clone();
        stale.retain(|route| route.origin == Origin::Configured);
        let mut new = Vec::new();
        for wish in &plan.routes {
            let Some(mut route) = self.route(wish) else {
                continue;
            };
            // The kernel would look among the tunnels as well.
            if let (0, Some(gateway)) = (route.device, route.gateway) {
                route.device = connected(gateway).map_or(0, |route| route.device);
            }
            let same = |old: &Route| {
                old.destination == route.destination
                    && old.gateway == route.gateway
                    && old.metric == route.metric
                    && old.table == route.table
                    && (route.device == 0 || old.device == route.device)
            };
            match stale.iter().position(same) {
                Some(place) => drop(stale.swap_remove(place)),
                None => new.push(route),
            }
        }
        let mut failures = self.kernel.remove_routes(&stale)?;
        failures.extend(self.kernel.add_routes(&new)?);
        Ok(failures)
    }

    /// A wish in the kernel's terms; none while its device is missing, which has been reported with the device.
    fn route(&self, wish: &PlannedRoute) -> Option<Route> {
        let device = match &wish.device {
            Some(name) => self.links.get(name)?.index,
            None => 0,
        };
        Some(Route {
            destination: wish.destination,
            gateway: wish.gateway,
            device,
            metric: wish.metric,
            origin: Origin::Configured,
            table: match &wish.device {
                Some(name) if self.tun.as_ref() == Some(name) => Table::Tunnels,
                _ => Table::Main,
            },
        })
    }

    /// Keeps connected networks and those of configured routes out of shorter prefixes behind peers. What other programs have in the main
    /// table does not count: it may be the whole Internet. Link-local networks come and go with devices: all of them are one network here.
    fn own_routes(&mut self) -> Result<Vec<Error>, Error> {
        let tun = self.tun_index();
        let (present, others): (BTreeSet<Route>, BTreeSet<Route>) =
            self.kernel.routes()?.into_iter().partition(is_own_route);
        let wished: BTreeSet<Route> = others
            .into_iter()
            .filter(|route| {
                let ours = route.gateway.is_none() || route.origin == Origin::Configured;
                ours && route.table == Table::Main
                    && Some(route.device) != tun
                    && route.destination.prefix_len() > 0
                    && !LINK_LOCAL.contains(&route.destination)
            })
            .map(|route| route.destination)
            .chain([LINK_LOCAL])
            .map(|destination| Route {
                destination,
                gateway: None,
                device: 0,
                metric: OWN_METRIC,
                origin: Origin::Own,
                table: Table::Tunnels,
            })
            .collect();
        let new: Vec<Route> = wished.difference(&present).cloned().collect();
        let stale: Vec<Route> = present.difference(&wished).cloned().collect();
        let mut failures = self.kernel.add_routes(&new)?;
        failures.extend(self.kernel.remove_routes(&stale)?);
        Ok(failures)
    }

    /// Puts back what went with a device, removes what no tunnel has any more.
    fn tunnel_routes(&mut self, tunnels: &TunnelRoutes) -> Result<Vec<Error>, Error> {
        if self.tun_index().is_none() {
            return Ok(Vec::new());
        }
        let present: BTreeSet<TunnelRoute> = self.found_tunnel_routes()?.into_iter().collect();
        let wished: BTreeSet<TunnelRoute> = tunnels.after(None).collect();
        let stale: Vec<TunnelRoute> = present.difference(&wished).copied().collect();
        let new: Vec<TunnelRoute> = wished.difference(&present).copied().collect();
        let mut failures = self.remove_tunnel_routes(&stale)?;
        failures.extend(self.add_tunnel_routes(&new)?);
        Ok(failures)
    }

    /// Packets between peers and the networks behind us are forwarded by the kernel.
    fn settings(&self, plan: &Plan) -> Vec<Error> {
        let mut settings = vec![
            ("ipv4/ip_forward".to_owned(), "1"),
            ("ipv6/conf/all/forwarding".to_owned(), "1"),
        ];
        if !self.shared {
            settings.push(("ipv4/conf/all/send_redirects".to_owned(), "0"));
        }
        if let Some(tun) = self.tun.as_ref().filter(|tun| self.links.contains_key(*tun)) {
            // The data plane has checked source addresses against the SA; packets from peer to peer come in and go out here.
            settings.push((format!("ipv6/conf/{tun}/addr_gen_mode"), NO_LINK_LOCAL));
            settings.push((format!("ipv4/conf/{tun}/rp_filter"), "0"));
            settings.push((format!("ipv4/conf/{tun}/send_redirects"), "0"));
        }
        // What comes from an address that a peer says is behind it need not come out of its tunnel: the tunnel itself does not.
        let strict = |name: &str| kernel::get(name).is_ok_and(|value| value == STRICT);
        let everywhere = strict("ipv4/conf/all/rp_filter");
        for device in plan.devices.keys() {
            let name = format!("ipv4/conf/{device}/rp_filter");
            let is_port = device != LOOPBACK && self.tun.as_ref() != Some(device);
            if is_port && self.links.contains_key(device) && (everywhere || strict(&name)) {
                settings.push((name, LOOSE));
            }
        }
        settings
            .iter()
            .filter_map(|(name, value)| kernel::set(name, value).err())
            .collect()
    }

    fn tun_index(&self) -> Option<u32> {
        self.links.get(self.tun.as_ref()?).map(|link| link.index)
    }
}

/// Never behind a peer.
const LINK_LOCAL: IpNet = IpNet::V6(Ipv6Net::new_assert(
    Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0),
    10,
));
/// The device gets no link-local address: nobody behind it would answer its router solicitations.
const NO_LINK_LOCAL: &str = "1";
/// `rp_filter`: sources must be reachable through the device they come from, or through any. The kernel takes the larger of a device's and
/// the general one.
const STRICT: &str = "1";
const LOOSE: &str = "2";

/// Whether an address is one of the context's own.
pub fn is_own(plan: &Plan, address: IpAddr) -> bool {
    plan.addresses.iter().any(|(_, own)| own.addr() == address)
}

fn is_own_route(route: &Route) -> bool {
    route.origin == Origin::Own
}

fn kernel_routes(routes: &[TunnelRoute], device: u32) -> Vec<Route> {
    routes
        .iter()
        .map(|route| Route {
            destination: route.network,
            gateway: None,
            device,
            metric: route.spi,
            origin: Origin::Tunnel,
            table: Table::Tunnels,
        })
        .collect()
}

#[cfg(test)]
mod tests;

//! What the configuration wants from the network of a context, in the kernel's terms.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use config::{
    Config, Context, Ipv4Pool, Ipv4Range, Ipv6Pool, PEER_PREFIX_LENGTH, PoolAccess, Port, PortDevice, PortId,
};
use ipnet::IpNet;

use crate::pool::Units;
use crate::pools::{Kind, PoolConfig};

/// The wishes of one context.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Devices to be switched on or off, with the MTU to be set if any.
    pub devices: BTreeMap<String, Device>,
    /// Addresses by device.
    pub addresses: BTreeSet<(String, IpNet)>,
    /// Routes.
    pub routes: BTreeSet<PlannedRoute>,
    /// Pools.
    pub pools: Vec<PoolConfig>,
    /// Interfaces, for `show ip interface`.
    pub interfaces: BTreeMap<String, Interface>,
    /// Packets are forwarded: the context has a TUN.
    pub forwards: bool,
}

/// A wish for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Switched on.
    pub up: bool,
    /// MTU, if not the device's own.
    pub mtu: Option<u32>,
}

/// A wish for a route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlannedRoute {
    /// Where to.
    pub destination: IpNet,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Device; none leaves it to the kernel to find the one the gateway is on.
    pub device: Option<String>,
    /// Lower wins.
    pub metric: u32,
    /// It leads to peers with addresses of a pool.
    pub pool: bool,
}

/// An interface of the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// Its device: that of its port, or the loopback device.
    pub device: Option<String>,
    /// Its port, if it is bound to one.
    pub port: Option<PortId>,
    /// The port is shut down.
    pub shutdown: bool,
    /// Addresses, primary first.
    pub addresses: Vec<IpNet>,
    /// Description.
    pub description: String,
}

impl Plan {
    /// The wishes of context `name`. `tun` is the device of the context's tunnels, if it has one.
    pub fn of(config: &Config, name: &str, tun: Option<&str>) -> Self {
        let mut plan = Self {
            forwards: tun.is_some(),
            ..Self::default()
        };
        let Some(context) = config.contexts.get(name) else {
            return plan;
        };
        let on = Device { up: true, mtu: None };
        plan.devices.insert(LOOPBACK.to_owned(), on);
        if let Some(tun) = tun {
            plan.devices.insert(tun.to_owned(), on);
        }
        plan.interfaces(config, name, context, tun);
        plan.static_routes(context);
        plan.pools = pools(context);
        if let Some(tun) = tun {
            plan.pool_routes(context, tun);
        }
        plan
    }

    fn interfaces(&mut self, config: &Config, name: &str, context: &Context, tun: Option<&str>) {
        for (interface_name, interface) in &context.interfaces {
            let bound = config.ports.iter().find(|(_, port)| {
                port.bind
                    .as_ref()
                    .is_some_and(|bind| bind.context == name && bind.interface == *interface_name)
            });
            let device = match bound {
                _ if interface.loopback => Some(LOOPBACK.to_owned()),
                Some((_, port)) => device_of(port, tun),
                None => None,
            };
            let shutdown = bound.is_some_and(|(_, port)| port.shutdown) && !interface.loopback;
            let view = Interface {
                device: device.clone(),
                port: bound.filter(|_| !interface.loopback).map(|(id, _)| *id),
                shutdown,
                addresses: interface.addresses().collect(),
                description: interface.description.clone(),
            };
            self.interfaces.insert(interface_name.clone(), view);
            let Some(device) = device else { continue };
            if bound.is_some() && !interface.loopback {
                self.devices.insert(
                    device.clone(),
                    Device {
                        up: !shutdown,
                        mtu: interface.mtu,
                    },
                );
            }
            if !shutdown {
                self.addresses
                    .extend(interface.addresses().map(|address| (device.clone(), address)));
            }
        }
    }

    fn static_routes(&mut self, context: &Context) {
        for route in &context.routes {
            let interface = self.interfaces.get(&route.interface);
            // A route through an interface that is not up waits until it is.
            if !route.interface.is_empty()
                && interface.is_none_or(|view| view.device.is_none() || view.shutdown)
            {
                continue;
            }
            self.routes.insert(PlannedRoute {
                destination: route.destination.trunc(),
                gateway: route.gateway,
                device: interface.and_then(|view| view.device.clone()),
                metric: metric(route.precedence, route.cost),
                pool: false,
            });
        }
    }

    fn pool_routes(&mut self, context: &Context, tun: &str) {
        let route = |destination| PlannedRoute {
            destination,
            gateway: None,
            device: Some(tun.to_owned()),
            metric: POOL_METRIC,
            pool: true,
        };
        let ipv4 = context.ipv4_pools.values().flat_map(|pool| match pool.addresses {
            Ipv4Range::Network(network) => vec![IpNet::V4(network.trunc())],
            Ipv4Range::Range(first, last) => networks(&Units::range(first, last)),
        });
        let ipv6 = context
            .ipv6_pools
            .values()
            .map(|pool| IpNet::V6(pool.prefix.trunc()));
        self.routes.extend(ipv4.chain(ipv6).map(route));
    }
}

fn networks(units: &Units) -> Vec<IpNet> {
    units
        .networks()
        .into_iter()
        .filter_map(|(address, length)| IpNet::new(address, length).ok())
        .collect()
}

/// Whether a context needs a TUN: it is the clear side of a service, or has pools whose addresses are routed to peers, or a port that is one.
pub fn needs_tun(config: &Config, name: &str) -> bool {
    let Some(context) = config.contexts.get(name) else {
        return false;
    };
    let own_port = |port: &Port| {
        port.device == PortDevice::Tun && port.bind.as_ref().is_some_and(|bind| bind.context == name)
    };
    let clear_side = |own: &str, of: &Context| of.subscriber.context_name.as_deref().unwrap_or(own) == name;
    config
        .wsg_services()
        .any(|(own, context, ..)| clear_side(own, context))
        || !context.ipv4_pools.is_empty()
        || !context.ipv6_pools.is_empty()
        || config.ports.values().any(own_port)
}

fn device_of(port: &Port, tun: Option<&str>) -> Option<String> {
    match &port.device {
        PortDevice::None => None,
        PortDevice::Device(name) => Some(name.clone()),
        PortDevice::Tun => tun.map(str::to_owned),
    }
}

fn pools(context: &Context) -> Vec<PoolConfig> {
    let kind = |access: PoolAccess| match access {
        PoolAccess::Public(priority) => Kind::Public(priority),
        PoolAccess::Private(priority) => Kind::Private(priority),
        PoolAccess::Static => Kind::Static,
    };
    let ipv4 = |(name, pool): (&String, &Ipv4Pool)| {
        let (first, last) = pool.bounds()?;
        let units = Units::range(first, last);
        Some(PoolConfig {
            name: name.clone(),
            kind: kind(pool.access),
            group: pool.group.clone(),
            units,
        })
    };
    let ipv6 = |(name, pool): (&String, &Ipv6Pool)| {
        let units = Units::prefixes(
            pool.prefix.network(),
            pool.prefix.prefix_len(),
            PEER_PREFIX_LENGTH,
        );
        PoolConfig {
            name: name.clone(),
            kind: kind(pool.access),
            group: pool.group.clone(),
            units,
        }
    };
    let ipv6 = context.ipv6_pools.iter().map(ipv6);
    context.ipv4_pools.iter().filter_map(ipv4).chain(ipv6).collect()
}

/// Kernel metric of a configured route: precedence first, then cost. Never 0, which IPv6 would not take for what it is.
fn metric(precedence: u8, cost: u8) -> u32 {
    (u32::from(precedence) << 8 | u32::from(cost)) + FIRST_METRIC
}

/// The loopback device.
pub const LOOPBACK: &str = "lo";
/// Metric of our own networks in the table of the tunnels: before everything else.
pub const OWN_METRIC: u32 = 1;
/// Metric of routes to pools.
const POOL_METRIC: u32 = 2;
/// Metric of a configured route of precedence and cost 0.
pub const FIRST_METRIC: u32 = 3;

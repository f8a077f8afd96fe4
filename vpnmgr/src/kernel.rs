//! The network of our namespace as the kernel has it: devices, addresses, routes, rules. What we make is marked as ours, and only that is
//! ever removed: addresses by their protocol number (`ip address ... proto`), routes by theirs.

use std::io;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_route::address::{
    AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkMessage, State};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use crate::error::Error;
use crate::netlink::{Mode, Netlink};
use crate::rules;

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Switched on.
    pub enabled: bool,
    /// Has a carrier, as far as it knows.
    pub running: bool,
    /// Largest packet.
    pub mtu: u32,
    /// Hardware address; empty where there is none.
    pub hardware: Vec<u8>,
    /// Packets and octets received, then sent.
    pub traffic: [u64; 4],
}

/// An address on a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    /// The device's number.
    pub device: u32,
    /// Address and prefix length.
    pub address: IpNet,
    /// We made it.
    pub ours: bool,
}

/// Who made a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// We, because of the configuration.
    Configured,
    /// We, because of a tunnel.
    Tunnel,
    /// We, to end the search among tunnels: the main table has a route for this network, which a tunnel's must be longer than to win.
    Own,
    /// Another program or the kernel, with its protocol number.
    Other(u8),
}

/// The tables we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// The kernel's main one.
    Main,
    /// That of the tunnels ([`rules`]).
    Tunnels,
}

/// A route.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Number of the device; 0 for those of [`Origin::Own`].
    pub device: u32,
    /// Lower wins.
    pub metric: u32,
    /// Who made it.
    pub origin: Origin,
    /// Where it is.
    pub table: Table,
}

/// The kernel's network of this namespace.
pub struct Kernel(Netlink);

impl Kernel {
    /// Opens the way to the kernel.
    pub fn open() -> Result<Self, Error> {
        Netlink::open().map(Self)
    }

    /// All devices.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let dump = self
            .0
            .dump(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
        Ok(dump.into_iter().filter_map(link).collect())
    }

    /// All addresses.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let dump = self
            .0
            .dump(RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
        Ok(dump.into_iter().filter_map(address).collect())
    }

    /// All routes of the two tables that lead through one device, and those of [`Origin::Own`].
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            let mut question = RouteMessage::default();
            question.header.address_family = family;
            routes.extend(
                self.0
                    .dump(RouteNetlinkMessage::GetRoute(question))?
                    .into_iter()
                    .filter_map(route),
            );
        }
        Ok(routes)
    }

    /// Makes the rules that lead to the table of the tunnels, where they are not there yet.
    pub fn add_rules(&mut self) -> Result<Vec<Error>, Error> {
        let rules = rules::all();
        let add = |rule: &_| (RouteNetlinkMessage::NewRule(rules::message(rule)), Mode::Add);
        let results = self.0.change(rules.iter().map(add))?;
        Ok(failures(results, &rules, Errno::EEXIST, |rule| {
            format!("ip rule add {rule}")
        }))
    }

    /// Takes those rules away.
    pub fn remove_rules(&mut self) -> Result<Vec<Error>, Error> {
        let rules = rules::all();
        let remove = |rule: &_| (RouteNetlinkMessage::DelRule(rules::message(rule)), Mode::Existing);
        let results = self.0.change(rules.iter().map(remove))?;
        Ok(failures(results, &rules, Errno::ENOENT, |rule| {
            format!("ip rule del {rule}")
        }))
    }

    /// Switches a device on or off, and sets its MTU if one is given.
    pub fn set_link(&mut self, link: &Link, up: bool, mtu: Option<u32>) -> Result<(), Error> {
        let mut message = LinkMessage::default();
        message.header.index = link.index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        if let Some(mtu) = mtu {
            message.attributes.push(LinkAttribute::Mtu(mtu));
        }
        let results = self
            .0
            .change([(RouteNetlinkMessage::SetLink(message), Mode::Existing)])?;
        let what = || format!("ip link set {} {}", link.name, if up { "up" } else { "down" });
        results
            .into_iter()
            .try_for_each(|result| result.map_err(|source| Error::Refused { what: what(), source }))
    }

    /// Adds addresses, marked as ours. Those that exist already stay whose they are. Returns the failures.
    pub fn add_addresses(&mut self, addresses: &[Address]) -> Result<Vec<Error>, Error> {
        let changes = addresses
            .iter()
            .map(|new| (RouteNetlinkMessage::NewAddress(address_message(new)), Mode::Add));
        let results = self.0.change(changes)?;
        Ok(failures(results, addresses, Errno::EEXIST, |new| {
            format!("ip address add {} dev {}", new.address, new.device)
        }))
    }

    /// Removes addresses. Those that are gone already are no failure.
    pub fn remove_addresses(&mut self, addresses: &[Address]) -> Result<Vec<Error>, Error> {
        let changes = addresses.iter().map(|old| {
            (
                RouteNetlinkMessage::DelAddress(address_message(old)),
                Mode::Existing,
            )
        });
        let results = self.0.change(changes)?;
        Ok(failures(results, addresses, Errno::EADDRNOTAVAIL, |old| {
            format!("ip address del {} dev {}", old.address, old.device)
        }))
    }

    /// Adds routes. Those that exist already are no failure.
    pub fn add_routes(&mut self, routes: &[Route]) -> Result<Vec<Error>, Error> {
        let changes = routes
            .iter()
            .map(|new| (RouteNetlinkMessage::NewRoute(route_message(new)), Mode::Add));
        let results = self.0.change(changes)?;
        Ok(failures(results, routes, Errno::EEXIST, |new| words("add", new)))
    }

    /// Removes routes. Those that are gone already are no failure.
    pub fn remove_routes(&mut self, routes: &[Route]) -> Result<Vec<Error>, Error> {
        let changes = routes
            .iter()
            .map(|old| (RouteNetlinkMessage::DelRoute(route_message(old)), Mode::Existing));
        let results = self.0.change(changes)?;
        Ok(failures(results, routes, Errno::ESRCH, |old| words("del", old)))
    }
}

/// Writes a setting below `/proc/sys/net` of this namespace, unless it is set so already.
pub fn set(name: &str, value: &str) -> Result<(), Error> {
    if get(name)? == value {
        return Ok(());
    }
    let path = Path::new(SETTINGS).join(name);
    std::fs::write(&path, value).map_err(|source| failed(&path, source))
}

/// A setting below `/proc/sys/net` of this namespace.
pub fn get(name: &str) -> Result<String, Error> {
    let path = Path::new(SETTINGS).join(name);
    let text = std::fs::read_to_string(&path).map_err(|source| failed(&path, source))?;
    Ok(text.trim().to_owned())
}

fn failed(path: &Path, source: io::Error) -> Error {
    Error::Setting {
        path: path.display().to_string(),
        source,
    }
}

fn link(message: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        enabled: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Running),
        mtu: 0,
        hardware: Vec::new(),
        traffic: [0; 4],
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::Address(hardware) => link.hardware = hardware,
            LinkAttribute::OperState(State::Down | State::LowerLayerDown) => link.running = false,
            LinkAttribute::Stats64(stats) => {
                link.traffic = [stats.rx_packets, stats.rx_bytes, stats.tx_packets, stats.tx_bytes];
            }
            _ => {}
        }
    }
    Some(link)
}

fn address(message: RouteNetlinkMessage) -> Option<Address> {
    let RouteNetlinkMessage::NewAddress(message) = message else {
        return None;
    };
    let (mut local, mut other, mut ours) = (None, None, false);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => local = Some(address),
            AddressAttribute::Address(address) => other = Some(address),
            AddressAttribute::Protocol(protocol) => ours = u8::from(protocol) == PROTOCOL_CONFIGURED,
            _ => {}
        }
    }
    let address = IpNet::new(local.or(other)?, message.header.prefix_len).ok()?;
    Some(Address {
        device: message.header.index,
        address,
        ours,
    })
}

fn address_message(address: &Address) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = address.device;
    message.header.prefix_len = address.address.prefix_len();
    message.header.family = family(address.address.addr());
    let ip = address.address.addr();
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    if let IpNet::V4(network) = address.address
        && network.prefix_len() < 31
    {
        message
            .attributes
            .push(AddressAttribute::Broadcast(network.broadcast()));
    }
    if ip.is_ipv6() {
        // Services bind to it at once; a duplicate address is an operator's mistake, not one of autoconfiguration.
        message.header.flags = AddressHeaderFlags::Nodad;
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Nodad));
    }
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::from(
            PROTOCOL_CONFIGURED,
        )));
    message
}

fn route(message: RouteNetlinkMessage) -> Option<Route> {
    let RouteNetlinkMessage::NewRoute(message) = message else {
        return None;
    };
    let header = &message.header;
    let mut table = u32::from(header.table);
    let (mut destination, mut gateway, mut device, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Destination(address) => destination = ip(address),
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::Oif(index) => device = Some(*index),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let table = match table {
        MAIN => Table::Main,
        rules::TABLE => Table::Tunnels,
        _ => return None,
    };
    let any = match header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    let destination = IpNet::new(destination.unwrap_or(any), header.destination_prefix_length).ok()?;
    let origin = match (header.kind, u8::from(header.protocol)) {
        (RouteType::Throw, PROTOCOL_CONFIGURED) => Origin::Own,
        (RouteType::Unicast, PROTOCOL_CONFIGURED) => Origin::Configured,
        (RouteType::Unicast, PROTOCOL_TUNNEL) => Origin::Tunnel,
        (RouteType::Unicast, other) => Origin::Other(other),
        _ => return None,
    };
    Some(Route {
        destination,
        gateway,
        // The kernel says that an IPv6 route that leads nowhere is one of the loopback device.
        device: if origin == Origin::Own { 0 } else { device? },
        metric,
        origin,
        table,
    })
}

fn route_message(route: &Route) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(route.destination.addr());
    message.header.destination_prefix_length = route.destination.prefix_len();
    message.attributes.push(RouteAttribute::Table(match route.table {
        Table::Main => MAIN,
        Table::Tunnels => rules::TABLE,
    }));
    message.header.kind = match route.origin {
        Origin::Own => RouteType::Throw,
        _ => RouteType::Unicast,
    };
    message.header.protocol = RouteProtocol::from(match route.origin {
        Origin::Configured | Origin::Own => PROTOCOL_CONFIGURED,
        Origin::Tunnel => PROTOCOL_TUNNEL,
        Origin::Other(protocol) => protocol,
    });
    message.header.scope = match route.gateway {
        // Also of those that lead nowhere: when the kernel looks for the device of a gateway, it sees no wider ones.
        None if route.destination.addr().is_ipv4() => RouteScope::Link,
        _ => RouteScope::Universe,
    };
    let raw = |address| match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    };
    message
        .attributes
        .push(RouteAttribute::Destination(raw(route.destination.network())));
    if let Some(gateway) = route.gateway {
        message.attributes.push(RouteAttribute::Gateway(raw(gateway)));
    }
    if route.device != 0 {
        message.attributes.push(RouteAttribute::Oif(route.device));
    }
    message.attributes.push(RouteAttribute::Priority(route.metric));
    message
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

/// The changes that failed, but for those that found what they wanted already.
fn failures<T>(
    results: Vec<io::Result<()>>,
    changes: &[T],
    fine: Errno,
    words: impl Fn(&T) -> String,
) -> Vec<Error> {
    let failed = |(result, change): (io::Result<()>, &T)| {
        let source = result
            .err()
            .filter(|error| error.raw_os_error() != Some(fine as i32))?;
        Some(Error::Refused {
            what: words(change),
            source,
        })
    };
    results.into_iter().zip(changes).filter_map(failed).collect()
}

fn words(verb: &str, route: &Route) -> String {
    let via = route
        .gateway
        .map_or_else(String::new, |gateway| format!(" via {gateway}"));
    let device = if route.device == 0 {
        String::new()
    } else {
        format!(" dev {}", route.device)
    };
    let throw = if route.origin == Origin::Own { "throw " } else { "" };
    let table = match route.table {
        Table::Main => String::new(),
        Table::Tunnels => format!(" table {}", rules::TABLE),
    };
    format!(
        "ip route {verb} {throw}{}{via}{device} metric {}{table}",
        route.destination, route.metric
    )
}

/// Where the kernel has its settings.
const SETTINGS: &str = "/proc/sys/net";
/// Number of the main table.
const MAIN: u32 = RouteHeader::RT_TABLE_MAIN as u32;
/// Protocol number of addresses and routes of the configuration.
pub const PROTOCOL_CONFIGURED: u8 = 0xb5;
/// Protocol number of routes of tunnels.
pub const PROTOCOL_TUNNEL: u8 = 0xb6;

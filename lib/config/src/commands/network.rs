//! Interfaces and routes.

use std::net::{IpAddr, Ipv4Addr};

use command::{Args, Command, Error, Tree, lens};
use ipnet::{IpNet, Ipv4Net};

use super::{find_or_make, mode, remove};
use crate::{Config, Context, DEFAULT_PRECEDENCE, Interface, Route};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.context_mode()
        .add(interface())
        .add(ipv4_route())
        .add(ipv6_route());
    tree.mode::<Interface>(mode::INTERFACE, "Interface configuration mode", |_| {
        "config-if-eth".to_owned()
    })
    .explain("ip", "Internet protocol version 4")
    .explain("ipv6", "Internet protocol version 6")
    .add(Command::value(
        "description <value:text(79)'Text'>",
        "Describes the interface",
        lens!(description),
        String::new(),
    ))
    .add(ipv4_address())
    .add(ipv6_address())
    .add(Command::optional(
        "ip mtu <value:576-2048'Octets'>",
        "Limits the size of packets",
        lens!(mtu),
    ))
    .unsupported(&[
        "bfd",
        "crypto-map",
        "ip access-group",
        "ip arp",
        "ip ospf",
        "ip igmp",
        "ip pool",
        "ip vrf",
        "ipv6 access-group",
        "ipv6 ospf",
        "ipv6 router",
        "logical-port-statistics",
        "mpls",
        "policy-forward",
        "pool-share-protocol",
        "port-switch-on-l3-fail",
        "tunnel-mode",
        "vlan-map",
    ]);
}

/// Access to the context mode for the files that add commands to it.
pub(super) trait ContextMode {
    fn context_mode(&mut self) -> command::ModeBuilder<'_, Context>;
}

impl ContextMode for Tree<Config> {
    fn context_mode(&mut self) -> command::ModeBuilder<'_, Context> {
        self.existing::<Context>(mode::CONTEXT)
    }
}

/// `ADDRESS MASK` or `ADDRESS/LENGTH`, with the host part kept.
pub(super) const IPV4_NETWORK: &str =
    "{<address:ipv4'Address'> <mask:mask'Netmask'> | <prefix:prefix4'Address and prefix length'>}";

/// The network that [`IPV4_NETWORK`] took.
pub(super) fn ipv4_network(args: &Args<'_>) -> Result<Ipv4Net, Error> {
    if let Some(network) = args.get("prefix")? {
        return Ok(network);
    }
    let (address, mask): (Ipv4Addr, Ipv4Addr) = (args.need("address")?, args.need("mask")?);
    Ipv4Net::with_netmask(address, mask).map_err(|_| args.refuse("mask", "this is not a netmask"))
}

fn interface() -> Command<Context> {
    Command::<Context>::new(
        "interface <interface:name(79)'Interface name'> [loopback'Always up, bound to no port']",
        "Goes to an interface and creates it",
    )
    .enter(
        mode::INTERFACE,
        lens!(interfaces),
        |context, args| {
            let known = context
                .interfaces
                .contains_key(args.text("interface").unwrap_or_default());
            let name = find_or_make(&mut context.interfaces, args, "interface")?;
            if let Some(interface) = context.interfaces.get_mut(&name)
                && args.has("loopback") != interface.loopback
            {
                match (known, args.has("loopback")) {
                    (true, true) => {
                        return Err(
                            args.refuse("interface", format!("interface {name} exists and is no loopback"))
                        );
                    }
                    (true, false) => {}
                    (false, loopback) => interface.loopback = loopback,
                }
            }
            Ok(name)
        },
        |name, interface| {
            let kind = if interface.loopback { " loopback" } else { "" };
            format!("interface {name}{kind}")
        },
    )
    .no("interface <interface:name(79)>")
    .unset(|context, args| remove(&mut context.interfaces, args, "interface"))
}

fn ipv4_address() -> Command<Interface> {
    Command::<Interface>::new(
        format!("ip address {IPV4_NETWORK} [secondary'One more address']"),
        "Sets an IPv4 address",
    )
    .no("ip address [<address:ipv4'Address'> [<mask:mask>] | <prefix:prefix4>]")
    .set(|interface, args| {
        let network = IpNet::V4(ipv4_network(args)?);
        set_address(interface, args, network)
    })
    .unset(|interface, args| {
        let address = match args.get::<Ipv4Net>("prefix")? {
            Some(network) => Some(IpAddr::V4(network.addr())),
            None => args.get("address")?,
        };
        remove_addresses(interface, args, "address", address, |network| {
            network.addr().is_ipv4()
        })
    })
    .show(|interface, out| {
        for (network, more) in addresses(interface) {
            match network {
                IpNet::V4(network) => {
                    out.line(format!(
                        "ip address {} {}{more}",
                        network.addr(),
                        network.netmask()
                    ));
                }
                IpNet::V6(network) => out.line(format!("ipv6 address {network}{more}")),
            }
        }
    })
}

fn ipv6_address() -> Command<Interface> {
    Command::<Interface>::new(
        "ipv6 address <prefix:prefix6'Address and prefix length'> [secondary'One more address']",
        "Sets an IPv6 address",
    )
    .no("ipv6 address [<address:ipv6'Address'> | <prefix:prefix6>]")
    .set(|interface, args| {
        let network = IpNet::V6(args.need("prefix")?);
        set_address(interface, args, network)
    })
    .unset(|interface, args| {
        let address = match args.get::<IpNet>("prefix")? {
            Some(network) => Some(network.addr()),
            None => args.get("address")?,
        };
        remove_addresses(interface, args, "address", address, |network| {
            network.addr().is_ipv6()
        })
    })
}

fn addresses(interface: &Interface) -> impl Iterator<Item = (IpNet, &'static str)> {
    let primary = interface.primary.iter().map(|network| (*network, ""));
    primary.chain(interface.secondary.iter().map(|network| (*network, " secondary")))
}

fn set_address(interface: &mut Interface, args: &Args<'_>, network: IpNet) -> Result<(), Error> {
    let secondary = args.has("secondary");
    let same = |other: &IpNet| other.addr() == network.addr();
    match (secondary, &interface.primary) {
        (true, Some(primary)) if same(primary) => {
            return Err(Error::refused(format!(
                "{} is the primary address already",
                network.addr()
            )));
        }
        (true, _) => {
            interface.secondary.retain(|other| !same(other));
            interface.secondary.push(network);
        }
        (false, Some(primary)) if primary.addr().is_ipv4() != network.addr().is_ipv4() => {
            return Err(Error::refused(format!(
                "{} is the primary address: add \"secondary\" for another family",
                primary.addr()
            )));
        }
        (false, _) => {
            interface.secondary.retain(|other| !same(other));
            interface.primary = Some(network);
        }
    }
    Ok(())
}

fn remove_addresses(
    interface: &mut Interface,
    args: &Args<'_>,
    name: &str,
    address: Option<IpAddr>,
    family: impl Fn(&IpNet) -> bool,
) -> Result<(), Error> {
    let goes = |network: &IpNet| family(network) && address.is_none_or(|address| network.addr() == address);
    let before = interface.addresses().count();
    interface.primary = interface.primary.filter(|network| !goes(network));
    interface.secondary.retain(|network| !goes(network));
    if interface.addresses().count() == before {
        return Err(args.refuse(name, "there is no such address"));
    }
    Ok(())
}

const ROUTE_OPTIONS: &str = "[cost'Cost' <cost:0-255>] [precedence'The lowest wins' <precedence:0-254>]";

fn ipv4_route() -> Command<Context> {
    let target = "{<gateway:ipv4'Next hop'> | next-hop'Next hop' <gateway:ipv4> | point-to-point'On the link' | !tunnel} \
                  [<interface:name(79)'Interface to send through'>]";
    Command::<Context>::new(
        format!("ip route {IPV4_NETWORK} {target} {ROUTE_OPTIONS}"),
        "Adds an IPv4 route",
    )
    .no(format!(
        "ip route {IPV4_NETWORK} [{{<gateway:ipv4> | next-hop <gateway:ipv4> | point-to-point}} [<interface:name(79)>]] {ROUTE_OPTIONS}"
    ))
    .set(|context, args| {
        let destination = IpNet::V4(ipv4_network(args)?);
        add_route(context, args, destination)
    })
    .unset(|context, args| {
        let destination = IpNet::V4(ipv4_network(args)?);
        remove_routes(context, args, destination)
    })
    .show(|context, out| {
        for route in &context.routes {
            out.line(route_line(route));
        }
    })
}

fn ipv6_route() -> Command<Context> {
    let target = "next-hop'Next hop' <gateway:ipv6> [interface'Interface' <interface:name(79)>]";
    Command::<Context>::new(
        format!(
            "ipv6 route <prefix:prefix6'Destination'> {{interface'On the link of' <interface:name(79)'Interface name'> | {target}}} {ROUTE_OPTIONS}"
        ),
        "Adds an IPv6 route",
    )
    .no(format!(
        "ipv6 route <prefix:prefix6'Destination'> [interface <interface:name(79)> | {target}] {ROUTE_OPTIONS}"
    ))
    .set(|context, args| {
        let destination = IpNet::V6(args.need("prefix")?);
        add_route(context, args, destination)
    })
    .unset(|context, args| {
        let destination = IpNet::V6(args.need("prefix")?);
        remove_routes(context, args, destination)
    })
}

fn add_route(context: &mut Context, args: &Args<'_>, destination: IpNet) -> Result<(), Error> {
    let route = Route {
        destination: destination.trunc(),
        gateway: args.get("gateway")?,
        interface: args.get("interface")?.unwrap_or_default(),
        precedence: args.get("precedence")?.unwrap_or(DEFAULT_PRECEDENCE),
        cost: args.get("cost")?.unwrap_or(0),
    };
    if route.gateway.is_none() && route.interface.is_empty() {
        return Err(Error::refused("a route on the link needs an interface"));
    }
    let same = |other: &Route| {
        (other.destination, other.gateway, &other.interface)
            == (route.destination, route.gateway, &route.interface)
    };
    context.routes.retain(|other| !same(other));
    context.routes.push(route);
    context.routes.sort();
    Ok(())
}

fn remove_routes(context: &mut Context, args: &Args<'_>, destination: IpNet) -> Result<(), Error> {
    let gateway: Option<IpAddr> = args.get("gateway")?;
    let interface = args.text("interface");
    let before = context.routes.len();
    let fits = |route: &Route| {
        route.destination == destination.trunc()
            && gateway.is_none_or(|gateway| route.gateway == Some(gateway))
            && interface.is_none_or(|interface| route.interface == interface)
    };
    // A line as it is printed means this route alone; one that says less, every route that fits.
    let is_printed = |route: &Route| {
        fits(route) && route.gateway == gateway && route.interface == interface.unwrap_or_default()
    };
    let exactly = context.routes.iter().any(is_printed);
    context
        .routes
        .retain(|route| if exactly { !is_printed(route) } else { !fits(route) });
    if context.routes.len() == before {
        return Err(Error::refused(format!("there is no such route to {destination}")));
    }
    Ok(())
}

fn route_line(route: &Route) -> String {
    let mut line = match route.destination {
        IpNet::V4(network) => {
            let target = match route.gateway {
                Some(gateway) => gateway.to_string(),
                None => "point-to-point".to_owned(),
            };
            format!("ip route {} {} {target}", network.network(), network.netmask())
        }
        IpNet::V6(network) => match route.gateway {
            Some(gateway) => format!("ipv6 route {network} next-hop {gateway}"),
            None => format!("ipv6 route {network}"),
        },
    };
    if !route.interface.is_empty() {
        let word = if route.destination.addr().is_ipv6() {
            " interface"
        } else {
            ""
        };
        line.push_str(&format!("{word} {}", route.interface));
    }
    if route.cost != 0 {
        line.push_str(&format!(" cost {}", route.cost));
    }
    if route.precedence != DEFAULT_PRECEDENCE {
        line.push_str(&format!(" precedence {}", route.precedence));
    }
    line
}

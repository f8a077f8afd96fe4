//! Access lists.

use std::net::{IpAddr, Ipv4Addr};

use command::{Args, Command, Error, Keyword, Tree, lens};
use ipnet::{IpNet, Ipv4Net};

use super::network::ContextMode;
use super::{find_or_make, mode, remove};
use crate::{AccessAction, AccessList, AccessProtocol, AccessRule, Config, PortMatch};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.context_mode()
        .add(
            Command::<crate::Context>::new(
                "ip access-list <list:name(47)'Access list name'>",
                "Goes to an IPv4 access list and creates it",
            )
            .enter(
                mode::IPV4_ACCESS_LIST,
                lens!(ipv4_access_lists),
                |context, args| find_or_make(&mut context.ipv4_access_lists, args, "list"),
                |name, _| format!("ip access-list {name}"),
            )
            .no("ip access-list <list:name(47)>")
            .unset(|context, args| remove(&mut context.ipv4_access_lists, args, "list")),
        )
        .add(
            Command::<crate::Context>::new(
                "ipv6 access-list <list:name(47)'Access list name'>",
                "Goes to an IPv6 access list and creates it",
            )
            .enter(
                mode::IPV6_ACCESS_LIST,
                lens!(ipv6_access_lists),
                |context, args| find_or_make(&mut context.ipv6_access_lists, args, "list"),
                |name, _| format!("ipv6 access-list {name}"),
            )
            .no("ipv6 access-list <list:name(47)>")
            .unset(|context, args| remove(&mut context.ipv6_access_lists, args, "list")),
        );
    let names = [
        (
            mode::IPV4_ACCESS_LIST,
            "IPv4 access list configuration mode",
            "config-acl",
            Family::V4,
        ),
        (
            mode::IPV6_ACCESS_LIST,
            "IPv6 access list configuration mode",
            "config-ipv6-acl",
            Family::V6,
        ),
    ];
    for (name, title, prompt, family) in names {
        let mut list = tree.mode::<AccessList>(name, title, move |_| prompt.to_owned());
        for action in AccessAction::ALL {
            list.add(rule(*action, family));
        }
        // Printed here and not by either command: the order of permissions and denials matters.
        list.print(move |list, out| {
            for rule in &list.rules {
                out.line(line(rule, family));
            }
        });
        list.unsupported(&["after", "before", "readdress", "redirect"]);
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    V4,
    V6,
}

fn rule(action: AccessAction, family: Family) -> Command<AccessList> {
    let syntax = format!("{}'{}' {}", action.keyword(), action.help(), match_syntax(family));
    Command::<AccessList>::new(syntax.clone(), action.help())
        .no(syntax)
        .set(move |list, args| {
            let rule = parse_rule(action, args)?;
            if list.rules.contains(&rule) {
                return Err(Error::refused("the list has this rule already"));
            }
            if list.rules.len() == MAX_RULES {
                return Err(Error::refused(format!("the list has {MAX_RULES} rules already")));
            }
            list.rules.push(rule);
            Ok(())
        })
        .unset(move |list, args| {
            let rule = parse_rule(action, args)?;
            let place = list.rules.iter().position(|other| *other == rule);
            let place = place.ok_or_else(|| Error::refused("the list has no such rule"))?;
            list.rules.remove(place);
            Ok(())
        })
}

/// Most rules of a list.
const MAX_RULES: usize = 512;

fn match_syntax(family: Family) -> String {
    let address = |name: &str, what: &str| match family {
        Family::V4 => format!(
            "{{any'Any {what}' | host'One {what}' <{name}:ipv4'Address'> | <{name}:ipv4'{what}'> <{name}-wildcard:wildcard'Its free bits'> | \
             <{name}-prefix:prefix4'{what} network'>}}"
        ),
        Family::V6 => format!(
            "{{any'Any {what}' | host'One {what}' <{name}:ipv6'Address'> | <{name}-prefix:prefix6'{what} network'>}}"
        ),
    };
    let ports = |name: &str| {
        format!(
            "[eq'This port' <{name}-eq:0-65535> | neq'Any other port' <{name}-neq:0-65535> | lt'Lower ports' <{name}-lt:0-65535> | \
             gt'Higher ports' <{name}-gt:0-65535> | range'From first to last' <{name}-first:0-65535> <{name}-last:0-65535>]"
        )
    };
    let (source, destination) = (address("source", "source"), address("destination", "destination"));
    let (source_ports, destination_ports) = (ports("source"), ports("destination"));
    let icmp = match family {
        Family::V4 => "icmp'ICMP'",
        Family::V6 => "icmpv6'ICMPv6'|~icmp",
    };
    format!(
        "[log'Matches are logged'] {{{source} | ip'Any protocol' {source} {destination} | \
         {{{icmp}}} {source} {destination} [<type:0-255'ICMP type'> [<code:0-255'ICMP code'>]] | \
         {{tcp'TCP'|udp'UDP'}} {source} {source_ports} {destination} {destination_ports}}}"
    )
}

fn parse_rule(action: AccessAction, args: &Args<'_>) -> Result<AccessRule, Error> {
    let protocol = if args.has("tcp") {
        AccessProtocol::Tcp
    } else if args.has("udp") {
        AccessProtocol::Udp
    } else if args.has("icmp") || args.has("icmpv6") {
        AccessProtocol::Icmp {
            kind: args.get("type")?,
            code: args.get("code")?,
        }
    } else if args.has("ip") {
        AccessProtocol::Ip
    } else {
        AccessProtocol::Any
    };
    Ok(AccessRule {
        action,
        log: args.has("log"),
        protocol,
        source: network(args, "source")?,
        source_ports: ports(args, "source")?,
        destination: network(args, "destination")?,
        destination_ports: ports(args, "destination")?,
    })
}

fn network(args: &Args<'_>, name: &str) -> Result<Option<IpNet>, Error> {
    if let Some(network) = args.get::<IpNet>(&format!("{name}-prefix"))? {
        return Ok(Some(network.trunc()));
    }
    let Some(address) = args.get::<IpAddr>(name)? else {
        return Ok(None);
    };
    let wildcard = format!("{name}-wildcard");
    match (address, args.get::<Ipv4Addr>(&wildcard)?) {
        (IpAddr::V4(address), Some(free)) => Ipv4Net::with_netmask(address, Ipv4Addr::from(!u32::from(free)))
            .map(|network| Some(IpNet::V4(network.trunc())))
            .map_err(|_| args.refuse(&wildcard, "this is not a wildcard mask")),
        (address, _) => Ok(Some(IpNet::from(address))),
    }
}

fn ports(args: &Args<'_>, name: &str) -> Result<PortMatch, Error> {
    let port = |what: &str| args.get::<u16>(&format!("{name}-{what}"));
    if let Some(port) = port("eq")? {
        return Ok(PortMatch::Equal(port));
    }
    if let Some(port) = port("neq")? {
        return Ok(PortMatch::NotEqual(port));
    }
    if let Some(port) = port("lt")? {
        return Ok(PortMatch::Below(port));
    }
    if let Some(port) = port("gt")? {
        return Ok(PortMatch::Above(port));
    }
    match (port("first")?, port("last")?) {
        (Some(first), Some(last)) if first <= last => Ok(PortMatch::Range(first, last)),
        (Some(_), Some(_)) => Err(args.refuse(&format!("{name}-last"), "the range ends before it begins")),
        _ => Ok(PortMatch::Any),
    }
}

/// A rule as it is configured, in an IPv4 or an IPv6 list.
pub(crate) fn rule_line(rule: &AccessRule, ipv6: bool) -> String {
    line(rule, if ipv6 { Family::V6 } else { Family::V4 })
}

fn line(rule: &AccessRule, family: Family) -> String {
    let mut words = vec![rule.action.keyword().to_owned()];
    if rule.log {
        words.push("log".to_owned());
    }
    let protocol = match (rule.protocol, family) {
        (AccessProtocol::Any, _) => None,
        (AccessProtocol::Ip, _) => Some("ip"),
        (AccessProtocol::Icmp { .. }, Family::V4) => Some("icmp"),
        (AccessProtocol::Icmp { .. }, Family::V6) => Some("icmpv6"),
        (AccessProtocol::Tcp, _) => Some("tcp"),
        (AccessProtocol::Udp, _) => Some("udp"),
    };
    words.extend(protocol.map(str::to_owned));
    words.push(address_words(rule.source));
    words.extend(port_words(rule.source_ports));
    if protocol.is_some() {
        words.push(address_words(rule.destination));
        words.extend(port_words(rule.destination_ports));
    }
    if let AccessProtocol::Icmp { kind, code } = rule.protocol {
        words.extend(kind.map(|kind| kind.to_string()));
        words.extend(code.map(|code| code.to_string()));
    }
    words.join(" ")
}

fn address_words(network: Option<IpNet>) -> String {
    match network {
        None => "any".to_owned(),
        Some(network) if network.prefix_len() == network.max_prefix_len() => {
            format!("host {}", network.addr())
        }
        Some(IpNet::V4(network)) => format!("{} {}", network.network(), network.hostmask()),
        Some(IpNet::V6(network)) => network.to_string(),
    }
}

fn port_words(ports: PortMatch) -> Option<String> {
    Some(match ports {
        PortMatch::Any => return None,
        PortMatch::Equal(port) => format!("eq {port}"),
        PortMatch::NotEqual(port) => format!("neq {port}"),
        PortMatch::Below(port) => format!("lt {port}"),
        PortMatch::Above(port) => format!("gt {port}"),
        PortMatch::Range(first, last) => format!("range {first} {last}"),
    })
}

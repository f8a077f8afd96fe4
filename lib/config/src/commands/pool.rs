//! Address pools.

use std::net::Ipv4Addr;

use command::{Args, Command, Error, Tree};
use ipnet::Ipv6Net;

use super::network::{ContextMode, IPV4_NETWORK, ipv4_network};
use super::remove;
use crate::{Config, Context, Ipv4Pool, Ipv4Range, Ipv6Pool, PEER_PREFIX_LENGTH, PoolAccess};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.context_mode().add(ipv4_pool()).add(ipv6_pool());
}

const COMMON_OPTIONS: &str = "[private'Only for users who ask for this pool' [<private:0-10'Priority, 0 first'>] | public'For all users' \
     [<public:0-10'Priority, 0 first'>] | static'Only addresses chosen by AAA' | !resource] \
     [group-name'Group' <group:name(31)'Name of a group of pools'>] \
     [policy'Policy' allow-static-allocation'AAA may choose addresses of this pool'] \
     [!address-quarantine-timer] [!advertise-if-used] [!alert-threshold] [!explicit-route-advertise] [!framed-route-vrf-list] [!napt-users-per-ip-address] \
     [!nat] [!nat-one-to-one] [!nat-realm] [!nexthop-forwarding-address] [!nw-reachability] [!pool-route] [!send-icmp-dest-unreachable] [!srp-activate] [!tag] [!vrf]";

fn ipv4_pool() -> Command<Context> {
    Command::<Context>::new(
        format!(
            "ip pool <pool:name(31)'Pool name'> {{{} | range'First and last address' <start:ipv4'First address'> <end:ipv4'Last address'>}} \
             [address-hold-timer'Time for which the last user keeps an address' <hold:0-31556926'Seconds'>] \
             [include-nw-bcast'Network and broadcast address too'] {COMMON_OPTIONS}",
            IPV4_NETWORK.trim_matches(['{', '}'])
        ),
        "Defines a pool of IPv4 addresses",
    )
    .no("ip pool <pool:name(31)>")
    .set(|context, args| {
        let pool = Ipv4Pool {
            addresses: ipv4_range(args)?,
            access: access(args)?,
            group: args.get("group")?,
            hold_timer: args.get("hold")?.unwrap_or(0),
            include_network_and_broadcast: args.has("include-nw-bcast"),
            allow_static: args.has("allow-static-allocation"),
        };
        if pool.bounds().is_none() {
            return Err(args.refuse("end", "the range ends before it begins"));
        }
        let name: String = args.need("pool")?;
        let bounds = |pool: &Ipv4Pool| pool.bounds();
        overlap(args, &name, &pool, &context.ipv4_pools, bounds)?;
        context.ipv4_pools.insert(name, pool);
        Ok(())
    })
    .unset(|context, args| remove(&mut context.ipv4_pools, args, "pool"))
    .show(|context, out| {
        for (name, pool) in &context.ipv4_pools {
            let addresses = match pool.addresses {
                Ipv4Range::Network(network) => format!("{} {}", network.network(), network.netmask()),
                Ipv4Range::Range(first, last) => format!("range {first} {last}"),
            };
            let mut line = format!("ip pool {name} {addresses}");
            if pool.hold_timer != 0 {
                line.push_str(&format!(" address-hold-timer {}", pool.hold_timer));
            }
            if pool.include_network_and_broadcast {
                line.push_str(" include-nw-bcast");
            }
            line.push_str(&common(pool.access, pool.group.as_deref(), pool.allow_static));
            out.line(line);
        }
    })
}

fn ipv6_pool() -> Command<Context> {
    Command::<Context>::new(
        format!(
            "ipv6 pool <pool:name(31)'Pool name'> {{prefix'Prefixes of 64 bits out of this one' <prefix:prefix6'Prefix'> | !range | !suffix | !6to4}} {COMMON_OPTIONS}"
        ),
        "Defines a pool of IPv6 prefixes",
    )
    .no("ipv6 pool <pool:name(31)>")
    .set(|context, args| {
        let prefix: Ipv6Net = args.need("prefix")?;
        if prefix.prefix_len() > PEER_PREFIX_LENGTH {
            return Err(args.refuse(
                "prefix",
                format!("a pool of /{PEER_PREFIX_LENGTH} prefixes needs a prefix of at most {PEER_PREFIX_LENGTH} bits"),
            ));
        }
        let pool = Ipv6Pool {
            prefix: prefix.trunc(),
            access: access(args)?,
            group: args.get("group")?,
            allow_static: args.has("allow-static-allocation"),
        };
        let name: String = args.need("pool")?;
        let bounds = |pool: &Ipv6Pool| Some((pool.prefix.network(), pool.prefix.broadcast()));
        overlap(args, &name, &pool, &context.ipv6_pools, bounds)?;
        context.ipv6_pools.insert(name, pool);
        Ok(())
    })
    .unset(|context, args| remove(&mut context.ipv6_pools, args, "pool"))
    .show(|context, out| {
        for (name, pool) in &context.ipv6_pools {
            let options = common(pool.access, pool.group.as_deref(), pool.allow_static);
            out.line(format!("ipv6 pool {name} prefix {}{options}", pool.prefix));
        }
    })
}

fn ipv4_range(args: &Args<'_>) -> Result<Ipv4Range, Error> {
    match (args.get::<Ipv4Addr>("start")?, args.get::<Ipv4Addr>("end")?) {
        (Some(start), Some(end)) => Ok(Ipv4Range::Range(start, end)),
        _ => Ok(Ipv4Range::Network(ipv4_network(args)?.trunc())),
    }
}

fn access(args: &Args<'_>) -> Result<PoolAccess, Error> {
    Ok(if args.has("private") {
        PoolAccess::Private(args.get("private")?.unwrap_or(0))
    } else if args.has("static") {
        PoolAccess::Static
    } else {
        PoolAccess::Public(args.get("public")?.unwrap_or(0))
    })
}

fn common(access: PoolAccess, group: Option<&str>, allow_static: bool) -> String {
    let mut text = match access {
        PoolAccess::Public(0) => String::new(),
        PoolAccess::Public(priority) => format!(" public {priority}"),
        PoolAccess::Private(priority) => format!(" private {priority}"),
        PoolAccess::Static => " static".to_owned(),
    };
    if let Some(group) = group {
        text.push_str(&format!(" group-name {group}"));
    }
    if allow_static {
        text.push_str(" policy allow-static-allocation");
    }
    text
}

/// Pools of a context share no address.
fn overlap<P, A: Ord>(
    args: &Args<'_>,
    name: &str,
    pool: &P,
    others: &std::collections::BTreeMap<String, P>,
    bounds: impl Fn(&P) -> Option<(A, A)>,
) -> Result<(), Error> {
    let Some((first, last)) = bounds(pool) else {
        return Ok(());
    };
    for (other_name, other) in others {
        if other_name != name
            && let Some((other_first, other_last)) = bounds(other)
            && first <= other_last
            && other_first <= last
        {
            return Err(args.refuse("pool", format!("pool {name} overlaps with pool {other_name}")));
        }
    }
    Ok(())
}

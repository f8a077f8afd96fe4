//! `subscriber default`.

use command::{Command, Tree, lens};

use super::network::ContextMode;
use super::{absent, mode};
use crate::{Config, Context, Subscriber};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.context_mode().explain("subscriber", "Sessions").add(
        Command::<Context>::new(
            "subscriber default",
            "Goes to what sessions get when nobody says otherwise",
        )
        .enter_field(
            mode::SUBSCRIBER,
            lens!(subscriber),
            |_| Some("subscriber default".to_owned()),
            |subscriber| *subscriber != Subscriber::default(),
        )
        .no("subscriber default")
        .unset(|context, _| {
            context.subscriber = Subscriber::default();
            Ok(())
        }),
    );
    tree.mode::<Subscriber>(mode::SUBSCRIBER, "Subscriber configuration mode", |_| {
        "config-subscriber".to_owned()
    })
    .explain("aaa", "Authentication, authorization, accounting")
    .explain("dns", "Name servers for IPv4 peers")
    .explain("ip", "Internet protocol version 4")
    .explain("ipv6", "Internet protocol version 6")
    .explain("address", "Addresses for peers")
    .explain("pool", "Address pool")
    .explain("name", "Its name")
    .explain("timeout", "Limits of sessions")
    .add(Command::optional(
        "aaa group <value:name(63)'Name of an AAA group'>",
        "Says who authenticates and accounts",
        lens!(aaa_group),
    ))
    .add(Command::optional(
        "dns primary <value:ipv4'Name server'>",
        "Sets the first name server for peers",
        lens!(dns.primary),
    ))
    .add(Command::optional(
        "dns secondary <value:ipv4'Name server'>",
        "Sets the second name server for peers",
        lens!(dns.secondary),
    ))
    .add(Command::optional(
        "ipv6 dns'Name servers for IPv6 peers' primary <value:ipv6'Name server'>",
        "Sets the first name server for peers",
        lens!(ipv6_dns.primary),
    ))
    .add(Command::optional(
        "ipv6 dns'Name servers for IPv6 peers' secondary <value:ipv6'Name server'>",
        "Sets the second name server for peers",
        lens!(ipv6_dns.secondary),
    ))
    .add(Command::optional(
        "ip context-name <value:name(79)'Context name'>",
        "Names the context of the clear side",
        lens!(context_name),
    ))
    .add(pool())
    .add(Command::optional(
        "timeout absolute <value:1-4294967295'Seconds'>",
        "Limits the length of sessions",
        lens!(absolute_timeout),
    ))
    .add(Command::optional(
        "timeout idle <value:1-4294967295'Seconds'>",
        "Limits the silence of sessions",
        lens!(idle_timeout),
    ))
    .unsupported(UNSUPPORTED);
}

fn pool() -> Command<Subscriber> {
    Command::<Subscriber>::new(
        "ip address pool name <pool:name(31)'Pool name'>",
        "Adds a pool of addresses for peers",
    )
    .no("ip address pool [name <pool:name(31)>]")
    .set(|subscriber, args| {
        let name: String = args.need("pool")?;
        if !subscriber.ip_pools.contains(&name) {
            if subscriber.ip_pools.len() == crate::MAX_SERVICE_POOLS {
                let full = format!("there are {} pools already", crate::MAX_SERVICE_POOLS);
                return Err(args.refuse("pool", full));
            }
            subscriber.ip_pools.push(name);
        }
        Ok(())
    })
    .unset(|subscriber, args| {
        let before = subscriber.ip_pools.len();
        subscriber
            .ip_pools
            .retain(|name| args.text("pool").is_some_and(|pool| pool != name));
        if subscriber.ip_pools.len() == before {
            Err(absent(args, "pool"))
        } else {
            Ok(())
        }
    })
    .show(|subscriber, out| {
        for name in &subscriber.ip_pools {
            out.line(format!("ip address pool name {name}"));
        }
    })
}

/// Subscriber commands of StarOS that later versions will have.
const UNSUPPORTED: &[&str] = &[
    "accounting-mode",
    "active-charging",
    "associate",
    "content-filtering",
    "credit-control-client",
    "dhcp",
    "encrypted",
    "eap",
    "external-inline-server",
    "firewall",
    "ims",
    "ims-auth-service",
    "ip access-group",
    "ip address secondary-pool",
    "ip header-compression",
    "ip qos-dscp",
    "ip source-violation",
    "ip user-datagram-tos",
    "ipv6 access-group",
    "ipv6 address",
    "ipv6 secondary-address",
    "l2tp",
    "long-duration-action",
    "mediation-device",
    "mobile-ip",
    "mobile-ipv6",
    "nai-construction-domain",
    "nat",
    "npu",
    "nw-reachability-server",
    "outbound",
    "password",
    "pdif",
    "permission",
    "policy",
    "policy-group",
    "ppp",
    "prepaid",
    "proxy-dns",
    "proxy-mip",
    "qos",
    "radius",
    "rohc-profile-name",
    "secondary",
    "timeout long-duration",
    "tpo",
    "tunnel",
    "w-apn",
];

//! Contexts.

use command::{Command, Tree, lens};

use super::{mode, remove};
use crate::{Config, Context, LOCAL};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.root().add(
        Command::<Config>::new(
            "context <name:name(79)'Context name'> [context-id'Identifier to keep' <id:2-65535>] [-noconfirm'Does not ask']",
            "Goes to a context and creates it",
        )
        .enter(
            mode::CONTEXT,
            lens!(contexts),
            |config, args| {
                let name: String = args.need("name")?;
                if name.starts_with('.') || name.contains('/') {
                    return Err(args.refuse(
                        "name",
                        "a context name is a file name: no \"/\", and no \".\" at the start",
                    ));
                }
                let id: Option<u32> = args.get("id")?;
                let known = config.contexts.get(&name).map(|context| context.id);
                let taken = |id| config.context_by_id(id).is_some_and(|(other, _)| other != name);
                match (known, id) {
                    (Some(known), Some(id)) if known != id => {
                        return Err(args.refuse("id", format!("context {name} has identifier {known}")));
                    }
                    (None, Some(id)) if taken(id) => {
                        return Err(args.refuse("id", format!("another context has identifier {id}")));
                    }
                    (None, None) => {
                        let last = config
                            .contexts
                            .values()
                            .map(|context| context.id)
                            .max()
                            .unwrap_or(0);
                        config
                            .contexts
                            .insert(name.clone(), Context::new(last.saturating_add(1)));
                    }
                    (None, Some(id)) => {
                        config.contexts.insert(name.clone(), Context::new(id));
                    }
                    (Some(_), _) => {}
                }
                Ok(name)
            },
            |name, _| format!("context {name}"),
        )
        .sorted_by(|config, name| config.contexts.get(name).map(|context| context.id))
        .relabeled(|config, name, line| {
            // Identifiers follow from the order, unless a context was removed.
            let place = config
                .contexts_by_id()
                .iter()
                .position(|(other, _)| *other == name);
            match config.contexts.get(name) {
                Some(context)
                    if place.and_then(|place| u32::try_from(place + 1).ok()) != Some(context.id) =>
                {
                    format!("{line} context-id {}", context.id)
                }
                _ => line,
            }
        })
        .no("context <name:name(79)> [-noconfirm'Does not ask']")
        .unset(|config, args| {
            if args.text("name") == Some(LOCAL) {
                return Err(args.refuse("name", "context local cannot be removed"));
            }
            remove(&mut config.contexts, args, "name")
        }),
    );
    tree.mode::<Context>(mode::CONTEXT, "Context configuration mode", |_| {
        "config-ctx".to_owned()
    })
    .explain("ip", "Internet protocol version 4")
    .explain("ipv6", "Internet protocol version 6")
    .explain("ipsec", "IPsec")
    .explain("ikev2-ikesa", "IKE SAs")
    .explain("crypto", "IPsec policy")
    .explain("aaa", "Authentication, authorization, accounting")
    .explain("radius", "RADIUS, as in aaa group default")
    .explain("logging", "Logging")
    .unsupported_modes(UNSUPPORTED_MODES)
    .unsupported(UNSUPPORTED);
}

/// Context commands of StarOS that later versions will have, and that lead to modes: with the commands of each that lead on to another.
const UNSUPPORTED_MODES: &[(&str, &[&str])] = &[
    ("!apn", &[]),
    ("!bfd-protocol", &[]),
    ("!bmsc-profile", &[]),
    ("!camel-service", &[]),
    ("!cipher-suite", &[]),
    ("!class-map", &[]),
    ("crypto !group", &[]),
    ("crypto !ipsec !transform-set", &[]),
    ("crypto !map", &["payload"]),
    ("crypto !peer-list", &[]),
    ("crypto !vendor-policy", &[]),
    ("!crypto-group", &[]),
    ("!dhcp-client-profile", &[]),
    ("!dhcp-server-profile", &[]),
    ("!dhcp-service", &[]),
    ("!dhcpv6-service", &["dhcpv6-server", "dhcpv6-client"]),
    ("!diameter !endpoint", &[]),
    ("!dns-client", &[]),
    ("!edr-module", &[]),
    ("!egtp-service", &[]),
    ("!epdg-service", &[]),
    ("!event-notif-collection", &[]),
    ("!external-inline-server", &[]),
    ("!fa-service", &[]),
    ("!fng-service", &[]),
    ("!ggsn-service", &[]),
    ("!gprs-service", &[]),
    ("!gs-service", &[]),
    ("!gtpp !group", &[]),
    ("!gtpu-service", &[]),
    ("!ha-service", &[]),
    ("!hexdump-module", &[]),
    ("!hnbgw-service", &[]),
    ("!hsgw-service", &[]),
    ("!ikev1 !policy", &[]),
    ("!ims-auth-service", &["policy-control"]),
    ("ip !igmp !profile", &[]),
    ("ip !vrf", &[]),
    ("!ipne-service", &[]),
    ("!isakmp !policy", &[]),
    ("!iups-service", &[]),
    ("!lac-service", &[]),
    ("!lma-service", &[]),
    ("!lns-service", &[]),
    ("!location-service", &[]),
    ("!mag-service", &[]),
    ("!map-service", &[]),
    ("!mipv6ha-service", &[]),
    ("!mme-service", &[]),
    ("!pcc-af-service", &[]),
    ("!pcc-policy-service", &[]),
    ("!pcc-service", &[]),
    ("!pdg-service", &[]),
    ("!pdif-service", &[]),
    ("!pdsn-service", &[]),
    ("!pgw-service", &[]),
    ("!policy-group", &[]),
    ("!policy-map", &[]),
    ("!proxy-dns !intercept-list", &[]),
    ("!route-map", &[]),
    ("!router", &["address-family"]),
    ("!s102-service", &[]),
    ("!saegw-service", &[]),
    ("!samog-service", &[]),
    ("!sbc-service", &[]),
    ("!server", &[]),
    ("!service-redundancy-protocol", &[]),
    ("!session-event-module", &[]),
    ("!sgs-service", &[]),
    ("!sgsn-service", &[]),
    ("!sgw-service", &[]),
    ("!sls-service", &[]),
    ("!ssl", &[]),
    ("subscriber !name", &[]),
    ("!twan-profile", &[]),
    ("!udr-module", &[]),
    ("!user-plane-service", &[]),
    ("!wsg-lookup", &[]),
];

/// Context commands of StarOS that later versions will have.
const UNSUPPORTED: &[&str] = &[
    "aaa accounting",
    "aaa authentication",
    "aaa nai-policy",
    "access-list",
    "asn-qos-descriptor",
    "associate",
    "bulkstats",
    "busyout",
    "closedrp-rp",
    "crypto ca",
    "crypto ipsec",
    "crypto isakmp",
    "css",
    "description",
    "diameter",
    "end-of",
    "firewall",
    "ftpd",
    "gtpc-system-param-poll",
    "gtpp",
    "gtpu",
    "ikesa",
    "ikev1",
    "imsa-service",
    "ip arp",
    "ip as-path",
    "ip community-list",
    "ip dns-proxy",
    "ip domain-lookup",
    "ip domain-name",
    "ip extcommunity-list",
    "ip forward",
    "ip guarantee",
    "ip identification",
    "ip igmp",
    "ip localhost",
    "ip name-servers",
    "ip nat",
    "ip prefix-list",
    "ip routing",
    "ip rri",
    "ip vrf-list",
    "ipms",
    "ipv6 dns-proxy",
    "ipv6 nd",
    "ipv6 neighbor",
    "ipv6 pd-pool",
    "ipv6 prefix-list",
    "ipv6 rri",
    "isakmp",
    "iups",
    "l2tp",
    "lawful-intercept",
    "limit",
    "max-sessions",
    "mobile-access-gateway",
    "mobile-ip",
    "monitor-protocols",
    "mpls",
    "multicast-proxy",
    "nw-reachability",
    "optimize",
    "password",
    "policy",
    "ppp",
    "proxy-dns",
    "route-access-list",
    "ssh",
    "threshold",
    "uidh-server",
    "web-portal",
];

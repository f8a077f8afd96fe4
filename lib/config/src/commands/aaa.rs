//! AAA groups and RADIUS.

use command::{Args, Command, Error, Keyword, ModeBuilder, Tree, lens};

use super::network::ContextMode;
use super::{absent, find_or_make, mode, put, remove, secret, secret_syntax};
use crate::{
    AaaGroup, Config, Context, DEFAULT_AAA_GROUP, DEFAULT_ACCOUNTING_PORT, DEFAULT_RADIUS_OUTSTANDING,
    DEFAULT_RADIUS_PORT, DEFAULT_RADIUS_PRIORITY, RadiusAlgorithm, RadiusPolicy, RadiusServer,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    let mut context = tree.context_mode();
    context.add(
        Command::<Context>::new(
            "aaa group <group:name(63)'Name of the group'>",
            "Goes to an AAA group and creates it",
        )
        .enter(
            mode::AAA_GROUP,
            lens!(aaa_groups),
            |context, args| find_or_make(&mut context.aaa_groups, args, "group"),
            |name, _| format!("aaa group {name}"),
        )
        .no("aaa group <group:name(63)>")
        .unset(|context, args| remove(&mut context.aaa_groups, args, "group")),
    );
    // Outside a group, the same commands mean the default group; they are printed there.
    radius(&mut context, |context| {
        context
            .aaa_groups
            .entry(DEFAULT_AAA_GROUP.to_owned())
            .or_default()
    });
    let mut group = tree.mode::<AaaGroup>(mode::AAA_GROUP, "AAA group configuration mode", |_| {
        "config-aaa-group".to_owned()
    });
    group.explain("radius", "RADIUS");
    radius(&mut group, |group| group);
    group.print(print);
    group.unsupported(&["diameter"]);
}

/// Authentication or accounting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Authentication,
    Accounting,
}

impl Side {
    /// The keywords before every command of this side.
    fn words(self) -> &'static str {
        match self {
            Self::Authentication => "radius",
            Self::Accounting => "radius accounting",
        }
    }

    fn syntax(self) -> &'static str {
        match self {
            Self::Authentication => "radius",
            Self::Accounting => "radius accounting'Accounting'",
        }
    }

    fn port(self) -> u16 {
        match self {
            Self::Authentication => DEFAULT_RADIUS_PORT,
            Self::Accounting => DEFAULT_ACCOUNTING_PORT,
        }
    }

    fn servers(self, group: &AaaGroup) -> &Vec<RadiusServer> {
        match self {
            Self::Authentication => &group.servers,
            Self::Accounting => &group.accounting_servers,
        }
    }

    fn servers_mut(self, group: &mut AaaGroup) -> &mut Vec<RadiusServer> {
        match self {
            Self::Authentication => &mut group.servers,
            Self::Accounting => &mut group.accounting_servers,
        }
    }

    fn policy(self, group: &AaaGroup) -> &RadiusPolicy {
        match self {
            Self::Authentication => &group.authentication,
            Self::Accounting => &group.accounting,
        }
    }

    fn policy_mut(self, group: &mut AaaGroup) -> &mut RadiusPolicy {
        match self {
            Self::Authentication => &mut group.authentication,
            Self::Accounting => &mut group.accounting,
        }
    }
}

/// Most servers of a kind in a group.
const MAX_SERVERS: usize = 128;

fn radius<T: 'static>(mode: &mut ModeBuilder<'_, T>, group: fn(&mut T) -> &mut AaaGroup) {
    mode.explain("attribute", "Attributes of requests")
        .explain("nas-ip-address", "Address of this node");
    mode.add(
        Command::<T>::new(
            "radius attribute nas-ip-address address <address:ip'Address of this node'>",
            "Sets NAS-IP-Address and the source address",
        )
        .undo("radius attribute nas-ip-address")
        .set(move |object, args| {
            group(object).nas_ip_address = Some(args.need("address")?);
            Ok(())
        })
        .unset(move |object, _| {
            group(object).nas_ip_address = None;
            Ok(())
        }),
    );
    mode.add(
        Command::<T>::new(
            "radius attribute nas-identifier <value:text(32)'Name of this node'>",
            "Sets NAS-Identifier",
        )
        .undo("radius attribute nas-identifier")
        .set(move |object, args| {
            group(object).nas_identifier = args.get("value")?;
            Ok(())
        })
        .unset(move |object, _| {
            group(object).nas_identifier = None;
            Ok(())
        }),
    );
    for side in [Side::Authentication, Side::Accounting] {
        mode.add(server(side, group));
        policy(mode, side, group);
    }
    mode.add(
        Command::<T>::new(
            "radius accounting interim'Interim records' interval <value:50-40000000'Seconds'>",
            "Sends interim accounting records",
        )
        .undo("radius accounting interim interval")
        .set(move |object, args| {
            group(object).interim_interval = args.get("value")?;
            Ok(())
        })
        .unset(move |object, _| {
            group(object).interim_interval = None;
            Ok(())
        }),
    );
    mode.unsupported(&[
        "radius accounting apn-to-be-included",
        "radius accounting archive",
        "radius accounting billing-version",
        "radius accounting fire-and-forget",
        "radius accounting gtp",
        "radius accounting ha",
        "radius accounting keepalive",
        "radius accounting max-outstanding",
        "radius accounting max-pdu-size",
        "radius accounting max-transmissions",
        "radius accounting pdif",
        "radius accounting remote-address",
        "radius accounting rp",
        "radius allow",
        "radius authenticate",
        "radius authenticator-validation",
        "radius change-authorize-nas-ip",
        "radius charging",
        "radius dictionary",
        "radius group",
        "radius ip",
        "radius keepalive",
        "radius max-outstanding",
        "radius max-transmissions",
        "radius mediation-device",
        "radius probe-interval",
        "radius probe-max-retries",
        "radius probe-message",
        "radius probe-timeout",
        "radius strip-domain",
        "radius trigger",
    ]);
}

fn server<T: 'static>(side: Side, group: fn(&mut T) -> &mut AaaGroup) -> Command<T> {
    let words = side.syntax();
    Command::<T>::new(
        format!(
            "{words} server <address:ip'Server address'> {} [port'UDP port' <port:1-65535>] [priority'1 first' <priority:1-1000>] \
             [max'Most requests under way' <max:1-4000>] [~oldports]",
            secret_syntax("key", "key", 127)
        ),
        "Adds a RADIUS server",
    )
    .no(format!("{} server <address:ip> [port <port:1-65535>]", side.words()))
    .set(move |object, args| {
        let oldports = args.has("oldports");
        let server = RadiusServer {
            address: args.need("address")?,
            // RFC 2865, 3: early deployments used 1645, and 1646 for accounting.
            port: args.get("port")?.unwrap_or(match (oldports, side) {
                (false, side) => side.port(),
                (true, Side::Authentication) => 1_645,
                (true, Side::Accounting) => 1_646,
            }),
            secret: secret(args, "key")?,
            priority: args.get("priority")?.unwrap_or(DEFAULT_RADIUS_PRIORITY),
            max_outstanding: args.get("max")?.unwrap_or(DEFAULT_RADIUS_OUTSTANDING),
        };
        let servers = side.servers_mut(group(object));
        put(servers, server, MAX_SERVERS, |one, other| (one.address, one.port) == (other.address, other.port))
            .map_err(|message| args.refuse("address", message))?;
        servers.sort_by_key(|server| server.priority);
        Ok(())
    })
    .unset(move |object, args| {
        let address: std::net::IpAddr = args.need("address")?;
        let port: Option<u16> = args.get("port")?;
        let servers = side.servers_mut(group(object));
        let before = servers.len();
        servers.retain(|server| server.address != address || port.is_some_and(|port| server.port != port));
        if servers.len() == before { Err(absent(args, "address")) } else { Ok(()) }
    })
}

/// A number of a policy: its keywords, its range, its help, and the field.
type Number = (
    &'static str,
    &'static str,
    &'static str,
    fn(&mut RadiusPolicy) -> &mut u32,
    fn(&RadiusPolicy) -> u32,
);

const NUMBERS: &[Number] = &[
    (
        "timeout",
        "1-65535'Seconds'",
        "Sets the time to wait for an answer",
        |policy| &mut policy.timeout,
        |policy| policy.timeout,
    ),
    (
        "max-retries",
        "0-65535'Retries'",
        "Sets how often a request is repeated",
        |policy| &mut policy.max_retries,
        |policy| policy.max_retries,
    ),
    (
        "deadtime",
        "0-65535'Minutes'",
        "Sets for how long a dead server is left alone",
        |policy| &mut policy.deadtime,
        |policy| policy.deadtime,
    ),
    (
        "detect-dead-server consecutive-failures",
        "1-1000'Failures'",
        "Sets after how many failures a server is dead",
        |policy| &mut policy.consecutive_failures,
        |policy| policy.consecutive_failures,
    ),
];

fn policy<T: 'static>(mode: &mut ModeBuilder<'_, T>, side: Side, group: fn(&mut T) -> &mut AaaGroup) {
    mode.explain("detect-dead-server", "When a server is dead");
    let words = side.words();
    mode.add(
        Command::<T>::new(
            format!(
                "{} algorithm {{{}|!first-n}}",
                side.syntax(),
                RadiusAlgorithm::alternatives()
            ),
            "Says which server is asked",
        )
        .undo(&format!("{words} algorithm"))
        .set(move |object, args| {
            side.policy_mut(group(object)).algorithm = args.need_keyword()?;
            Ok(())
        })
        .unset(move |object, _| {
            side.policy_mut(group(object)).algorithm = RadiusPolicy::default().algorithm;
            Ok(())
        }),
    );
    for (name, range, help, field, value) in NUMBERS.iter().copied() {
        mode.add(
            Command::<T>::new(format!("{} {name} <value:{range}>", side.syntax()), help)
                .undo(&format!("{words} {name}"))
                .set(move |object, args: &Args<'_>| -> Result<(), Error> {
                    *field(side.policy_mut(group(object))) = args.need("value")?;
                    Ok(())
                })
                .unset(move |object, _| {
                    *field(side.policy_mut(group(object))) = value(&RadiusPolicy::default());
                    Ok(())
                }),
        );
    }
}

fn print(group: &AaaGroup, out: &mut command::Lines) {
    if let Some(address) = group.nas_ip_address {
        out.line(format!("radius attribute nas-ip-address address {address}"));
    }
    if let Some(name) = &group.nas_identifier {
        out.quoted("radius attribute nas-identifier", name);
    }
    for side in [Side::Authentication, Side::Accounting] {
        let (words, initial, policy) = (side.words(), RadiusPolicy::default(), side.policy(group));
        if policy.algorithm != initial.algorithm {
            out.line(format!("{words} algorithm {}", policy.algorithm));
        }
        for (name, _, _, _, value) in NUMBERS {
            if value(policy) != value(&initial) {
                out.line(format!("{words} {name} {}", value(policy)));
            }
        }
        for server in side.servers(group) {
            // Always with its port: without one, `no` takes every server of this address.
            let mut line = format!(
                "{words} server {} encrypted key {} port {}",
                server.address,
                server.secret.sealed(),
                server.port
            );
            if server.priority != DEFAULT_RADIUS_PRIORITY {
                line.push_str(&format!(" priority {}", server.priority));
            }
            if server.max_outstanding != DEFAULT_RADIUS_OUTSTANDING {
                line.push_str(&format!(" max {}", server.max_outstanding));
            }
            out.line(line);
        }
    }
    if let Some(seconds) = group.interim_interval {
        out.line(format!("radius accounting interim interval {seconds}"));
    }
}

//! wsg-service.

use command::{Command, Keyword, Tree, lens};

use super::network::ContextMode;
use super::{absent, find_or_make, mode, put, remove};
use crate::{
    Config, Context, DEFAULT_OVERLOAD_WEIGHT, DEFAULT_PRE_FRAGMENT_MTU, DeploymentMode,
    MAX_OVERLOAD_GATEWAYS, MAX_SERVICE_POOLS, OverloadGateway, ServiceBinding, WsgService,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    tree.context_mode().add(
        Command::<Context>::new(
            "wsg-service <service:name(63)'Service name'>",
            "Goes to a security gateway service and creates it",
        )
        .enter(
            mode::WSG_SERVICE,
            lens!(wsg_services),
            |context, args| find_or_make(&mut context.wsg_services, args, "service"),
            |name, _| format!("wsg-service {name}"),
        )
        .no("wsg-service <service:name(63)>")
        .unset(|context, args| remove(&mut context.wsg_services, args, "service")),
    );
    tree.mode::<WsgService>(mode::WSG_SERVICE, "WSG service configuration mode", |_| {
        "config-wsg-service".to_owned()
    })
    .explain("ip", "Internet protocol version 4")
    .explain("ipv6", "Internet protocol version 6")
    .explain("address", "Addresses for peers")
    .explain("pool", "Address pool")
    .explain("bind", "Starts the service")
    .add(deployment_mode())
    .add(Command::optional(
        "ip access-group <value:name(47)'Access list name'>",
        "Applies an IPv4 access list to the clear side",
        lens!(ip_access_group),
    ))
    .add(Command::optional(
        "ipv6 access-group <value:name(47)'Access list name'>",
        "Applies an IPv6 access list to the clear side",
        lens!(ipv6_access_group),
    ))
    .add(pools(
        "ip address pool name",
        "Adds a pool of addresses for peers",
        |service| &service.ip_pools,
        |service| &mut service.ip_pools,
    ))
    .add(pools(
        "ipv6 address prefix-pool",
        "Adds a pool of prefixes for peers",
        |service| &service.ipv6_pools,
        |service| &mut service.ipv6_pools,
    ))
    .add(Command::value(
        "pre_fragment'Fragmentation before encryption' mtu <value:576-2048'Octets'>",
        "Sets the size above which packets are fragmented before encryption",
        lens!(pre_fragment_mtu),
        DEFAULT_PRE_FRAGMENT_MTU,
    ))
    .add(Command::flag(
        "duplicate-session-detection",
        "Ends the old session when the same identity comes again",
        lens!(duplicate_session_detection),
        false,
    ))
    .add(Command::optional(
        "max-sessions <value:1-1000000'Sessions'>",
        "Sets how many sessions the service is meant for, which congestion-control acts on",
        lens!(max_sessions),
    ))
    .add(overload())
    .add(bind())
    .unsupported(&[
        "associate",
        "initiator-mode-duration",
        "ip address alloc-method",
        "peer-list",
        "responder-mode-duration",
    ]);
}

fn deployment_mode() -> Command<WsgService> {
    let initial = DeploymentMode::RemoteAccess;
    Command::<WsgService>::new(
        format!("deployment-mode {{{}}}", DeploymentMode::alternatives()),
        "Says how the service is used",
    )
    .undo("deployment-mode")
    .set(|service, args| {
        service.deployment_mode = args.need_keyword()?;
        Ok(())
    })
    .unset(move |service, _| {
        service.deployment_mode = initial;
        Ok(())
    })
    // Always printed: the two modes are different worlds.
    .show(|service, out| out.line(format!("deployment-mode {}", service.deployment_mode)))
}

fn overload() -> Command<WsgService> {
    let words = "policy overload redirect";
    Command::<WsgService>::new(
        "policy'What is done when' overload'New peers come in congestion' redirect'Sends them to another gateway' <address:ip'Address of the gateway'> \
         [weight'How many it gets in proportion to the others' <weight:1-10'1 without it'>]",
        "Adds a gateway that takes new peers in congestion, if they can be redirected (RFC 5685)",
    )
    .no(format!("{words} <address:ip>"))
    .set(|service, args| {
        let gateway = OverloadGateway {
            address: args.need("address")?,
            weight: args.get("weight")?.unwrap_or(DEFAULT_OVERLOAD_WEIGHT),
        };
        let gateways = &mut service.overload_gateways;
        put(gateways, gateway, MAX_OVERLOAD_GATEWAYS, |one, other| one.address == other.address)
            .map_err(|message| args.refuse("address", message))
    })
    .unset(|service, args| {
        let address: std::net::IpAddr = args.need("address")?;
        let before = service.overload_gateways.len();
        service.overload_gateways.retain(|gateway| gateway.address != address);
        if service.overload_gateways.len() == before {
            Err(absent(args, "address"))
        } else {
            Ok(())
        }
    })
    .show(move |service, out| {
        for gateway in &service.overload_gateways {
            let weight = match gateway.weight {
                DEFAULT_OVERLOAD_WEIGHT => String::new(),
                weight => format!(" weight {weight}"),
            };
            out.line(format!("{words} {}{weight}", gateway.address));
        }
    })
}

fn bind() -> Command<WsgService> {
    Command::<WsgService>::new(
        "bind address <address:ip'Local address'> crypto-template'Policy' <template:name(127)'Crypto template name'>",
        "Starts the service on an address",
    )
    .no("bind [address [<address:ip>]]")
    .set(|service, args| {
        service.bind = Some(ServiceBinding {
            address: args.need("address")?,
            template: args.need("template")?,
        });
        Ok(())
    })
    .unset(|service, _| {
        service.bind = None;
        Ok(())
    })
    .show(|service, out| {
        if let Some(bind) = &service.bind {
            out.line(format!("bind address {} crypto-template {}", bind.address, bind.template));
        }
    })
}

/// A command that adds one name to a list each time.
fn pools(
    words: &'static str,
    help: &'static str,
    get: fn(&WsgService) -> &Vec<String>,
    get_mut: fn(&mut WsgService) -> &mut Vec<String>,
) -> Command<WsgService> {
    Command::<WsgService>::new(format!("{words} <pool:name(31)'Pool name'>"), help)
        .no(format!("{words} <pool:name(31)>"))
        .set(move |service, args| {
            let (pools, name): (_, String) = (get_mut(service), args.need("pool")?);
            if pools.contains(&name) {
                return Ok(());
            }
            if pools.len() == MAX_SERVICE_POOLS {
                return Err(args.refuse(
                    "pool",
                    format!("the service has {MAX_SERVICE_POOLS} pools already"),
                ));
            }
            pools.push(name);
            Ok(())
        })
        .unset(move |service, args| {
            let pools = get_mut(service);
            let before = pools.len();
            pools.retain(|name| Some(name.as_str()) != args.text("pool"));
            if pools.len() == before {
                Err(absent(args, "pool"))
            } else {
                Ok(())
            }
        })
        .show(move |service, out| {
            for pool in get(service) {
                out.line(format!("{words} {pool}"));
            }
        })
}

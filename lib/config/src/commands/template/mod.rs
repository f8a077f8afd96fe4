//! Crypto templates.

mod authentication;
mod ikesa;
mod payload;

use command::{Args, Command, Error, Keyword, ModeBuilder, Tree, lens};
use ipnet::IpNet;

use super::network::ContextMode;
use super::pki::identity;
use super::{absent, find_or_make, mode, optional_secret, put, remove};
use crate::{
    Config, Context, CookieChallenge, CryptoTemplate, DontFragment, EapMode, EapProfile, IdType, Keepalive,
    MaxChildSa, Nai, NatKeepalive, Natt, OverloadAction, PeerNetwork,
};

pub(super) fn declare(tree: &mut Tree<Config>) {
    eap_profile(tree);
    authentication::declare_sets(tree);
    tree.context_mode().explain("crypto", "IPsec policy").add(
        Command::<Context>::new(
            "crypto template <template:name(127)'Name of the template'> [ikev2-dynamic'IKEv2'|~ikev2-subscriber|!ikev2-vendor|!ikev2-pdif]",
            "Goes to a crypto template and creates it",
        )
        .enter(
            mode::TEMPLATE,
            lens!(crypto_templates),
            |context, args| find_or_make(&mut context.crypto_templates, args, "template"),
            |name, _| format!("crypto template {name} ikev2-dynamic"),
        )
        .no("crypto template <template:name(127)>")
        .unset(|context, args| {
            let user = context
                .wsg_services
                .iter()
                .find(|(_, service)| service.bind.as_ref().is_some_and(|bind| Some(bind.template.as_str()) == args.text("template")));
            match user {
                Some((service, _)) => Err(args.refuse("template", format!("wsg-service {service} uses this template"))),
                None => remove(&mut context.crypto_templates, args, "template"),
            }
        }),
    );
    let initial = CryptoTemplate::default();
    let mut template =
        tree.mode::<CryptoTemplate>(mode::TEMPLATE, "Crypto template configuration mode", |name| {
            format!("crf-crypto-{name}-ikev2-tunnel")
        });
    template
        .explain("ip", "Internet protocol version 4")
        .explain("ipv6", "Internet protocol version 6")
        .explain("ikev2-ikesa", "IKE SAs")
        .explain("identity", "Who we are")
        .explain("peer", "Peers")
        .explain("dos", "Protection against denial of service")
        .explain("id-type", "Type of the identity")
        .explain("id", "The identity")
        .explain("ca-certificate", "Authorities")
        .explain("list", "Names, preferred first")
        .explain("notify-payload", "By a notify payload")
        .explain("auth-method-set", "Sets of authentication methods");
    authentication::add(&mut template, lens!(authentication));
    template
        .add(Command::optional(
            "certificate <value:name(129)'Name of our certificate'>",
            "Chooses our certificate",
            lens!(certificate),
        ))
        .add(ca_certificates())
        .add(Command::choice::<DontFragment>(
            "control-dont-fragment",
            "",
            "Sets the DF bit of outer headers",
            lens!(dont_fragment),
            initial.dont_fragment,
        ))
        .add(cookie_challenge())
        .add(local_identity())
        .add(nai());
    ikesa::add(&mut template);
    sizes(&mut template, &initial);
    template
        .add(keepalive())
        .add(max_child_sa())
        .add(natt())
        .add(peer_network())
        .add(
            Command::<CryptoTemplate>::new(
                "remote-secret-list [<list:name(127)'Name of the list'>]",
                "Takes pre-shared keys from a remote secret list",
            )
            .undo("remote-secret-list")
            .set(|template, args| {
                template.remote_secret_list = Some(args.text("list").unwrap_or_default().to_owned());
                Ok(())
            })
            .unset(|template, _| {
                template.remote_secret_list = None;
                Ok(())
            })
            .show(|template, out| {
                if let Some(list) = &template.remote_secret_list {
                    out.line(format!("remote-secret-list {list}").trim_end());
                }
            }),
        )
        .add(payload::enter())
        .unsupported(UNSUPPORTED);
    payload::declare(tree);
}

fn eap_profile(tree: &mut Tree<Config>) {
    tree.context_mode().add(
        Command::<Context>::new(
            "eap-profile <profile:name(127)'Profile name'>",
            "Goes to an EAP profile and creates it",
        )
        .enter(
            mode::EAP_PROFILE,
            lens!(eap_profiles),
            |context, args| find_or_make(&mut context.eap_profiles, args, "profile"),
            |name, _| format!("eap-profile {name}"),
        )
        .no("eap-profile <profile:name(127)>")
        .unset(|context, args| remove(&mut context.eap_profiles, args, "profile")),
    );
    tree.mode::<EapProfile>(mode::EAP_PROFILE, "EAP profile configuration mode", |_| {
        "config-ctx-eap-profile".to_owned()
    })
    .add(
        Command::<EapProfile>::new(
            format!(
                "mode {{{}|~authentication-pass-through|!authenticator-terminate}}",
                EapMode::alternatives()
            ),
            "Says what happens to EAP messages",
        )
        .undo("mode")
        .set(|profile, _| {
            profile.mode = Some(EapMode::AuthenticatorPassThrough);
            Ok(())
        })
        .unset(|profile, _| {
            profile.mode = None;
            Ok(())
        })
        .show(|profile, out| {
            if let Some(mode) = profile.mode {
                out.line(format!("mode {mode}"));
            }
        }),
    )
    .unsupported(&[
        "max-packet-retransmissions",
        "method",
        "packet-timeout",
        "security-gateway",
    ]);
}

fn sizes(template: &mut ModeBuilder<'_, CryptoTemplate>, initial: &CryptoTemplate) {
    template
        .add(Command::value(
            "ip ikev2-mtu <value:460-1932'Octets'>",
            "Limits the size of IKE messages over IPv4",
            lens!(ipv4_ikev2_mtu),
            initial.ipv4_ikev2_mtu,
        ))
        .add(Command::value(
            "ipv6 ikev2-mtu <value:1144-1912'Octets'>",
            "Limits the size of IKE messages over IPv6",
            lens!(ipv6_ikev2_mtu),
            initial.ipv6_ikev2_mtu,
        ))
        .add(Command::value(
            "ip mtu <value:576-2048'Octets'>",
            "Limits the size of packets inside IPv4 tunnels",
            lens!(ipv4_mtu),
            initial.ipv4_mtu,
        ))
        .add(Command::value(
            "ipv6 mtu <value:1280-2048'Octets'>",
            "Limits the size of packets inside IPv6 tunnels",
            lens!(ipv6_mtu),
            initial.ipv6_mtu,
        ));
}

fn ca_certificates() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "ca-certificate list {ca-cert-name'An authority' <ca:name(129)'Name of its certificate'>}*4",
        "Chooses the authorities that peers' certificates may come from",
    )
    .no("ca-certificate [list]")
    .set(|template, args| {
        template.ca_certificates = unique(args, "ca")?;
        Ok(())
    })
    .unset(|template, _| {
        template.ca_certificates.clear();
        Ok(())
    })
    .show(|template, out| {
        if !template.ca_certificates.is_empty() {
            let names: Vec<String> = template
                .ca_certificates
                .iter()
                .map(|name| format!("ca-cert-name {name}"))
                .collect();
            out.line(format!("ca-certificate list {}", names.join(" ")));
        }
    })
}

fn cookie_challenge() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "dos cookie-challenge'Cookies of IKE_SA_INIT' notify-payload [half-open-sess-count'By the number of half-open SAs' \
         [start'Cookies from this number on' <start:0-100000'SAs'>] [stop'No cookies below this number' <stop:0-100000'SAs'>]]",
        "Asks for cookies while there are many half-open SAs",
    )
    .no("{dos cookie-challenge notify-payload | cookie-challenge'Cookies of IKE_SA_INIT' detect-dos-attack'While there are many half-open SAs'}")
    .default("{dos cookie-challenge notify-payload | cookie-challenge'Cookies of IKE_SA_INIT' detect-dos-attack'While there are many half-open SAs'}")
    .set(|template, args| {
        let initial = template.cookie_challenge.unwrap_or_default();
        let start = args.get("start")?.unwrap_or(initial.start);
        let challenge = CookieChallenge {
            start,
            stop: args.get("stop")?.unwrap_or(initial.stop.min(start)),
        };
        if challenge.stop > challenge.start {
            return Err(args.refuse("stop", "stop must not be above start"));
        }
        template.cookie_challenge = Some(challenge);
        Ok(())
    })
    .unset(|template, _| {
        template.cookie_challenge = None;
        Ok(())
    })
    .show(|template, out| {
        if let Some(challenge) = template.cookie_challenge {
            out.line(format!(
                "dos cookie-challenge notify-payload half-open-sess-count start {} stop {}",
                challenge.start, challenge.stop
            ));
        }
    })
}

fn local_identity() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        format!(
            "identity local id-type {{{}}} id <id:text(255)'Identity'>",
            IdType::alternatives()
        ),
        "Says who we are",
    )
    .undo("identity local")
    .set(|template, args| {
        template.identity = Some(identity(args)?);
        Ok(())
    })
    .unset(|template, _| {
        template.identity = None;
        Ok(())
    })
    .show(|template, out| {
        if let Some(identity) = &template.identity {
            out.quoted(
                &format!("identity local id-type {} id", identity.kind),
                &identity.value,
            );
        }
    })
}

fn nai() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        format!(
            "nai {{idr'This identity' <id:text(79)'Identity'> [id-type'Its type (default: rfc822-addr)' {{{}|!der-asn1-gn}}] | \
             !use-received-idr}}",
            IdType::alternatives()
        ),
        "Says who we are to peers (IDr)",
    )
    .undo("nai [idr]")
    .set(|template, args| {
        template.nai = Some(Nai::Idr(match args.has("id-type") {
            true => identity(args)?,
            false => crate::Identity {
                kind: IdType::Rfc822Addr,
                value: args.need("id")?,
            },
        }));
        Ok(())
    })
    .unset(|template, _| {
        template.nai = None;
        Ok(())
    })
    .show(|template, out| match &template.nai {
        Some(Nai::Idr(identity)) => {
            out.line(format!("nai idr {} id-type {}", command::quote(&identity.value), identity.kind));
        }
        Some(Nai::UseReceivedIdr) => out.line("nai use-received-idr"),
        None => {}
    })
}

fn keepalive() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "keepalive [interval'Silence before a probe' <interval:1-65535'Seconds'>] [timeout'Time to wait for an answer' <timeout:1-65535'Seconds'>] \
         [num-retry'Probes before the peer is dead' <retries:0-65535'Retries'>]",
        "Detects dead peers",
    )
    .undo("keepalive")
    .set(|template, args| {
        let initial = Keepalive::default();
        template.keepalive = Some(Keepalive {
            interval: args.get("interval")?.unwrap_or(initial.interval),
            timeout: args.get("timeout")?.unwrap_or(initial.timeout),
            num_retry: args.get("retries")?.unwrap_or(initial.num_retry),
        });
        Ok(())
    })
    .unset(|template, _| {
        template.keepalive = None;
        Ok(())
    })
    .show(|template, out| {
        if let Some(keepalive) = template.keepalive {
            out.line(format!(
                "keepalive interval {} timeout {} num-retry {}",
                keepalive.interval, keepalive.timeout, keepalive.num_retry
            ));
        }
    })
}

fn max_child_sa() -> Command<CryptoTemplate> {
    let actions = OverloadAction::alternatives();
    Command::<CryptoTemplate>::new(
        format!(
            "max-childsa <number:1-5'Child SAs of an IKE SA'> [overload-action'When there are more' {{{actions}}} | ~overload ~action {{{actions}}}]"
        ),
        "Limits the child SAs of an IKE SA",
    )
    .undo("max-childsa")
    .set(|template, args| {
        template.max_child_sa = MaxChildSa {
            number: args.need("number")?,
            overload: args.keyword().unwrap_or(MaxChildSa::default().overload),
        };
        Ok(())
    })
    .unset(|template, _| {
        template.max_child_sa = MaxChildSa::default();
        Ok(())
    })
    .show(|template, out| {
        let limit = template.max_child_sa;
        if limit != MaxChildSa::default() {
            out.line(format!("max-childsa {} overload-action {}", limit.number, limit.overload));
        }
    })
}

fn natt() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        "natt [include-header'Packet sizes count the UDP header'] [send-keepalive'NAT keepalives are sent' \
         [idle-interval'Silence before the first' <idle:20-86400'Seconds'>]] [interval'NAT keepalives are sent, so often' <interval:20-86400'Seconds'>]",
        "Keepalives towards NATs on the way; peers behind a NAT are always served",
    )
    .undo("natt")
    .set(|template, args| {
        let initial = NatKeepalive::default();
        // An interval has no meaning but that of keepalives.
        let send_keepalive = match args.has("send-keepalive") || args.has("interval") {
            true => Some(NatKeepalive {
                idle_interval: args.get("idle")?.unwrap_or(initial.idle_interval),
                interval: args.get("interval")?.unwrap_or(initial.interval),
            }),
            false => None,
        };
        template.natt = Some(Natt {
            include_header: args.has("include-header"),
            send_keepalive,
        });
        Ok(())
    })
    .unset(|template, _| {
        template.natt = None;
        Ok(())
    })
    .show(|template, out| {
        if let Some(natt) = template.natt {
            let mut line = "natt".to_owned();
            if natt.include_header {
                line.push_str(" include-header");
            }
            if let Some(times) = natt.send_keepalive {
                line.push_str(&format!(
                    " send-keepalive idle-interval {} interval {}",
                    times.idle_interval, times.interval
                ));
            }
            out.line(line);
        }
    })
}

/// Most `peer network` lines of a template.
const MAX_PEER_NETWORKS: usize = 1_000;

fn peer_network() -> Command<CryptoTemplate> {
    let network = "{<prefix:prefix'Address and prefix length'> | <address:ipv4'Address'> [mask'Netmask'] <mask:mask'Netmask'>}";
    Command::<CryptoTemplate>::new(
        format!(
            "peer network {network} [pre-shared-key'Their secret' <key:secret(255)> | encrypted'As printed by show configuration' \
             pre-shared-key'Encrypted form' <key:sealed>]"
        ),
        "Accepts peers with these addresses only",
    )
    .no(format!("peer network {network}"))
    .set(|template, args| {
        let peer = PeerNetwork {
            network: peer_prefix(args)?,
            secret: optional_secret(args, "key"),
        };
        put(&mut template.peer_networks, peer, MAX_PEER_NETWORKS, |one, other| one.network == other.network)
            .map_err(Error::refused)
    })
    .unset(|template, args| {
        let network = peer_prefix(args)?;
        let before = template.peer_networks.len();
        template.peer_networks.retain(|peer| peer.network != network);
        if template.peer_networks.len() == before { Err(absent(args, "prefix")) } else { Ok(()) }
    })
    .show(|template, out| {
        for peer in &template.peer_networks {
            let secret = peer.secret.as_ref().map(|sealed| format!(" encrypted pre-shared-key {}", sealed.sealed()));
            out.line(format!("peer network {}{}", peer.network, secret.unwrap_or_default()));
        }
    })
}

fn peer_prefix(args: &Args<'_>) -> Result<IpNet, Error> {
    match args.get::<IpNet>("prefix")? {
        Some(network) => Ok(network.trunc()),
        None => Ok(IpNet::V4(super::network::ipv4_network(args)?.trunc())),
    }
}

/// The names of a list, each once, in order.
fn unique(args: &Args<'_>, name: &str) -> Result<Vec<String>, Error> {
    let mut names: Vec<String> = Vec::new();
    for value in args.all(name) {
        if names.iter().any(|other| other == value) {
            return Err(Error::refused(format!("\"{value}\" is in the list twice")));
        }
        names.push(value.to_owned());
    }
    Ok(names)
}

/// Template commands of StarOS that later versions will have.
const UNSUPPORTED: &[&str] = &[
    "allow-cert-enc",
    "allow-custom-fqdn-idr",
    "blacklist",
    "ca-crl",
    "configuration-payload",
    "dns-handling",
    "ecn",
    "identity peer-auth",
    "notify-payload",
    "ocsp",
    "server-certificate",
    "timeout",
    "vendor-policy",
    "whitelist",
];

//! `payload ...` of a crypto template.

use std::net::IpAddr;

use command::{Command, Error, Keyword, Tree, lens};

use super::super::{absent, find_or_make, mode, remove};
use super::unique;
use crate::{
    AddressAllocation, AddressRange, Config, CryptoTemplate, DEFAULT_LIFETIME, Payload, PayloadFamily,
    PayloadRekey, PayloadTsi, PerResourceSa,
};

/// Most `tsr` lines of a payload.
const MAX_TSR: usize = 4;

pub(super) fn enter() -> Command<CryptoTemplate> {
    Command::<CryptoTemplate>::new(
        format!(
            "payload <payload:name(127)'Name of the payload'> match childsa'Child SAs' [match'Of one family' {{{}}}]",
            PayloadFamily::alternatives()
        ),
        "Goes to the policy of child SAs and creates it",
    )
    .enter(
        mode::PAYLOAD,
        lens!(payloads),
        |template, args| {
            let name = find_or_make(&mut template.payloads, args, "payload")?;
            if let (Some(payload), Some(family)) = (template.payloads.get_mut(&name), args.keyword()) {
                payload.family = family;
            }
            Ok(name)
        },
        |name, payload| format!("payload {name} match childsa match {}", payload.family),
    )
    .no("payload <payload:name(127)>")
    .unset(|template, args| remove(&mut template.payloads, args, "payload"))
}

pub(super) fn declare(tree: &mut Tree<Config>) {
    let initial = Payload::default();
    tree.mode::<Payload>(
        mode::PAYLOAD,
        "Crypto template payload configuration mode",
        |name| format!("crf-crypto-tmpl-payload-{name}"),
    )
    .explain("ipsec", "IPsec")
    .explain("start-address", "First address")
    .explain("end-address", "Last address")
    .explain("match", "Which child SAs")
    .explain("list", "Names, preferred first")
    .explain("tsi", "The peer's traffic selector")
    .explain("tsr", "Our traffic selectors")
    .add(Command::flag(
        "ignore-rekeying-requests",
        "Refuses peers' rekeying of child SAs",
        lens!(ignore_rekeying_requests),
        initial.ignore_rekeying_requests,
    ))
    .add(
        Command::<Payload>::new(
            format!(
                "{{ip-address-allocation'Inner addresses' | ~ip-address-alloc}} {{{}}}",
                AddressAllocation::alternatives()
            ),
            "Says where peers' inner addresses come from",
        )
        .undo("ip-address-allocation")
        .set(|payload, args| {
            payload.allocation = args.need_keyword()?;
            Ok(())
        })
        .unset(|payload, _| {
            payload.allocation = Payload::default().allocation;
            Ok(())
        })
        .show(|payload, out| {
            if payload.allocation != Payload::default().allocation {
                out.line(format!("ip-address-allocation {}", payload.allocation));
            }
        }),
    )
    .add(transform_sets())
    .add(lifetime())
    .add(Command::value(
        "maximum-child-sa <value:1-4'Child SAs'>",
        "Limits the child SAs of this payload in an IKE SA",
        lens!(maximum_child_sa),
        initial.maximum_child_sa,
    ))
    .add(per_resource())
    .add(rekey())
    .add(tsi())
    .add(tsr());
}

fn transform_sets() -> Command<Payload> {
    Command::<Payload>::new(
        "ipsec {transform-set'Proposals' list | ~transform-setlist} <set:name(127)'Name of a transform set'>*4",
        "Lists the proposals for child SAs, preferred first",
    )
    .undo("ipsec transform-set list")
    .set(|payload, args| {
        payload.transform_sets = unique(args, "set")?;
        Ok(())
    })
    .unset(|payload, _| {
        payload.transform_sets.clear();
        Ok(())
    })
    .show(|payload, out| {
        if !payload.transform_sets.is_empty() {
            out.line(format!("ipsec transform-set list {}", payload.transform_sets.join(" ")));
        }
    })
}

fn lifetime() -> Command<Payload> {
    Command::<Payload>::new(
        "lifetime {<seconds:60-604800'Seconds'> [kilo-bytes'By volume too' <kilobytes:1-2147483647'Kilobytes'>] | \
         kilo-bytes'By volume' <kilobytes:1-2147483647'Kilobytes'>}",
        "Limits the life of child SAs",
    )
    .undo("lifetime")
    .set(|payload, args| {
        payload.lifetime = args.get("seconds")?.unwrap_or(DEFAULT_LIFETIME);
        payload.lifetime_kilobytes = args.get("kilobytes")?;
        Ok(())
    })
    .unset(|payload, _| {
        payload.lifetime = DEFAULT_LIFETIME;
        payload.lifetime_kilobytes = None;
        Ok(())
    })
    .show(|payload, out| match (payload.lifetime, payload.lifetime_kilobytes) {
        (DEFAULT_LIFETIME, None) => {}
        (seconds, None) => out.line(format!("lifetime {seconds}")),
        (seconds, Some(kilobytes)) => out.line(format!("lifetime {seconds} kilo-bytes {kilobytes}")),
    })
}

fn per_resource() -> Command<Payload> {
    Command::<Payload>::new(
        "per-resource-sa [max'How many peers may have' <max:1-15'Beside the first'>] [initiate'We make them, too' <initiate:1-15'Beside the first'>]",
        "Allows child SAs with the same traffic selectors, and spreads them over the workers (RFC 9611)",
    )
    .undo("per-resource-sa")
    .set(|payload, args| {
        let initial = PerResourceSa::default();
        payload.per_resource = Some(PerResourceSa {
            max: args.get("max")?.unwrap_or(initial.max),
            initiate: args.get("initiate")?.unwrap_or(initial.initiate),
        });
        Ok(())
    })
    .unset(|payload, _| {
        payload.per_resource = None;
        Ok(())
    })
    .show(|payload, out| {
        let Some(wanted) = payload.per_resource else { return };
        let initial = PerResourceSa::default();
        let mut line = "per-resource-sa".to_owned();
        if wanted.max != initial.max {
            line.push_str(&format!(" max {}", wanted.max));
        }
        if wanted.initiate != initial.initiate {
            line.push_str(&format!(" initiate {}", wanted.initiate));
        }
        out.line(line);
    })
}

fn rekey() -> Command<Payload> {
    Command::<Payload>::new(
        "rekey [keepalive'Also without traffic'] [!disallow-param-change]",
        "Rekeys child SAs before their lifetime ends",
    )
    .undo("rekey [keepalive]")
    .set(|payload, args| {
        payload.rekey = Some(PayloadRekey {
            keepalive: args.has("keepalive"),
        });
        Ok(())
    })
    .unset(|payload, args| {
        payload.rekey = match (payload.rekey, args.has("keepalive")) {
            (Some(_), true) => Some(PayloadRekey { keepalive: false }),
            _ => None,
        };
        Ok(())
    })
    .show(|payload, out| match payload.rekey {
        Some(PayloadRekey { keepalive: true }) => out.line("rekey keepalive"),
        Some(_) => out.line("rekey"),
        None => {}
    })
}

fn tsi() -> Command<Payload> {
    Command::<Payload>::new(
        "tsi start-address {any'Whatever the peer asks for' end-address any | endpoint'The address given to the peer' end-address endpoint}",
        "Sets the peer's traffic selector",
    )
    .undo("tsi")
    .set(|payload, args| {
        payload.tsi = args.need_keyword()?;
        Ok(())
    })
    .unset(|payload, _| {
        payload.tsi = PayloadTsi::Endpoint;
        Ok(())
    })
    .show(|payload, out| {
        if payload.tsi != PayloadTsi::Endpoint {
            let tsi = payload.tsi.keyword();
            out.line(format!("tsi start-address {tsi} end-address {tsi}"));
        }
    })
}

fn tsr() -> Command<Payload> {
    Command::<Payload>::new(
        "tsr start-address <start:ip'First address'> end-address <end:ip'Last address'>",
        "Adds to our traffic selectors",
    )
    .no("tsr [start-address <start:ip> end-address <end:ip>]")
    .default("tsr")
    .set(|payload, args| {
        let range = AddressRange {
            start: args.need("start")?,
            end: args.need("end")?,
        };
        if range.start.is_ipv4() != range.end.is_ipv4() || range.start > range.end {
            return Err(args.refuse(
                "end",
                "this is not a range: the end must be of the same family and not below the start",
            ));
        }
        let allowed = match payload.family {
            PayloadFamily::Any => true,
            PayloadFamily::Ipv4 => range.start.is_ipv4(),
            PayloadFamily::Ipv6 => range.start.is_ipv6(),
        };
        if !allowed {
            let message = format!("the payload is for {} child SAs", payload.family);
            return Err(args.refuse("start", message));
        }
        if payload.tsr.contains(&range) {
            return Ok(());
        }
        if payload.tsr.iter().any(|other| overlaps(other, &range)) {
            return Err(args.refuse("start", "this overlaps with another range of the payload"));
        }
        if payload.tsr.len() == MAX_TSR {
            return Err(Error::refused(format!(
                "the payload has {MAX_TSR} ranges already"
            )));
        }
        payload.tsr.push(range);
        Ok(())
    })
    .unset(|payload, args| {
        let (start, end): (Option<IpAddr>, Option<IpAddr>) = (args.get("start")?, args.get("end")?);
        let before = payload.tsr.len();
        payload
            .tsr
            .retain(|range| start.is_some_and(|start| (range.start, Some(range.end)) != (start, end)));
        if payload.tsr.len() == before && start.is_some() {
            Err(absent(args, "start"))
        } else {
            Ok(())
        }
    })
    .show(|payload, out| {
        for range in &payload.tsr {
            out.line(format!(
                "tsr start-address {} end-address {}",
                range.start, range.end
            ));
        }
    })
}

fn overlaps(one: &AddressRange, other: &AddressRange) -> bool {
    one.start.is_ipv4() == other.start.is_ipv4() && one.start <= other.end && other.start <= one.end
}

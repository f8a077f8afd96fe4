//! `show ip route`, `show ipv6 route`.

use bus::messages::common::{Output, Total};

use crate::kernel::Origin;
use crate::plan::FIRST_METRIC;
use crate::routes::TunnelRoute;
use crate::state::State;

/// First the routes that tunnels have nothing to do with, then those of tunnels in pieces.
pub fn routes(state: &mut State, ipv6: bool, cursor: &[u8]) -> Output {
    let heading = format!(
        "\"*\" indicates the Best or Used route.\n\n {:<28} {:<28} {:<10} {:>4} {:>4} Interface\n",
        "Destination", "Nexthop", "Protocol", "Prec", "Cost"
    );
    let mut text = String::new();
    let mut count = 0;
    if cursor.is_empty() {
        let known = match state.network.other_routes() {
            Ok(routes) => routes,
            Err(error) => return Output::failed(error),
        };
        for route in known
            .iter()
            .filter(|route| route.destination.addr().is_ipv6() == ipv6)
        {
            let link = state
                .network
                .links()
                .values()
                .find(|link| link.index == route.device);
            let wish = state
                .plan
                .routes
                .iter()
                .find(|wish| wish.destination == route.destination && wish.metric == route.metric);
            let (protocol, precedence, cost) = match (route.origin, wish) {
                (Origin::Configured, Some(wish)) if wish.pool => ("pool", 0, 0),
                (Origin::Configured, _) => (
                    "static",
                    route.metric.saturating_sub(FIRST_METRIC) >> 8,
                    route.metric.saturating_sub(FIRST_METRIC) & 0xff,
                ),
                (Origin::Other(KERNEL), _) => ("connected", 0, 0),
                _ => ("other", 0, 0),
            };
            let nexthop = route
                .gateway
                .map_or_else(|| any(ipv6), |gateway| gateway.to_string());
            let best = known
                .iter()
                .all(|other| other.destination != route.destination || other.metric >= route.metric);
            text.push_str(&format!(
                "{}{:<28} {nexthop:<28} {protocol:<10} {precedence:>4} {cost:>4} {}\n",
                if best { '*' } else { ' ' },
                route.destination.to_string(),
                link.map_or("", |link| link.name.as_str()),
            ));
            count += 1;
        }
    }
    let mut last = decode_cursor(cursor);
    let mut more = false;
    for (seen, route) in state.tunnels.after(last).enumerate() {
        if seen == PIECE {
            more = true;
            break;
        }
        last = Some(route);
        if route.network.addr().is_ipv6() != ipv6 {
            continue;
        }
        text.push_str(&format!(
            "*{:<28} {:<28} {:<10} {:>4} {:>4} {}\n",
            route.network.to_string(),
            any(ipv6),
            "tunnel",
            0,
            0,
            format_args!("SPI {:#010x}", route.spi),
        ));
        count += 1;
    }
    let cursor = last.filter(|_| more).map(encode_cursor).unwrap_or_default();
    let totals = Total::all([("Total route count", count)]);
    Output {
        heading,
        text,
        cursor,
        more,
        totals,
        ..Output::default()
    }
}

fn any(ipv6: bool) -> String {
    if ipv6 {
        "::".to_owned()
    } else {
        "0.0.0.0".to_owned()
    }
}

fn encode_cursor(route: TunnelRoute) -> Vec<u8> {
    format!("{} {}", route.network, route.spi).into_bytes()
}

fn decode_cursor(cursor: &[u8]) -> Option<TunnelRoute> {
    let (network, spi) = std::str::from_utf8(cursor).ok()?.split_once(' ')?;
    Some(TunnelRoute {
        network: network.parse().ok()?,
        spi: spi.parse().ok()?,
    })
}

/// Protocol number of routes that the kernel makes for addresses.
const KERNEL: u8 = 2;
/// Routes of tunnels in one piece of output.
const PIECE: usize = 500;

//! `show ip pool`, `show ipv6 pool`.

use bus::messages::common::{Output, Total};
use telemetry::counters::ippool;
use telemetry::{Reader, Scope};

use crate::pool::Units;
use crate::pools::{Kind, Pool};
use crate::state::State;

/// Where the addresses of a pool are. Workers lease them in blocks and say in gauges what they use of them; the rest is as available as what
/// nobody has leased. The gauges outlive us, so a restarted `vpnmgr` tells the same.
struct Occupancy {
    used: u64,
    held: u64,
    free: u64,
}

impl Occupancy {
    fn of(pool: &Pool, context: &str, gauges: &Reader) -> Self {
        let scope = Scope::pool(context, &pool.config.name);
        let used = gauges.scoped_sum(&scope, ippool::USED) + pool.singles();
        let held = gauges.scoped_sum(&scope, ippool::HOLD);
        let size = u64::from(pool.allocator.units().count());
        Self {
            used,
            held,
            free: size.saturating_sub(used + held + pool.withheld()),
        }
    }
}

/// One line a pool, or only the totals.
pub fn pools(state: &State, name: Option<&str>, summary: bool, ipv6: bool) -> Output {
    let heading = format!(
        "context : {}\n\
         +-----Type:      (P) - Public    (R) - Private    (S) - Static\n\
         |\n\
         |+----State:     (G) - Good      (F) - No free address\n\
         ||\n\
         ||++--Priority:  0..10 (Highest (0) .. Lowest (10))\n\
         ||||\n\
         vvvv  {:<24} {:<28} {:<20} {:>8} {:>8}\n\
         ----- {:-<24} {:-<28} {:-<20} {:->8} {:->8}\n",
        state.context, "Pool Name", "Start Address", "Mask/End Address", "Used", "Avail", "", "", "", "", ""
    );
    let of_family = |pool: &&Pool| pool.allocator.units().address(0).is_ipv6() == ipv6;
    let wanted = |pool: &&Pool| name.is_none_or(|name| name == pool.config.name);
    let gauges = match Reader::open(&state.pages) {
        Ok(gauges) => gauges,
        Err(error) => return Output::failed(error),
    };
    let pools: Vec<(&Pool, Occupancy)> = state
        .pools
        .iter()
        .filter(of_family)
        .filter(wanted)
        .map(|pool| (pool, Occupancy::of(pool, &state.context, &gauges)))
        .collect();
    if let (Some(name), true) = (name, pools.is_empty()) {
        return Output::failed(format!("there is no pool {name} in context {}", state.context));
    }
    let sum = |count: fn(&Occupancy) -> u64| pools.iter().map(|(_, of)| count(of)).sum();
    let totals = [
        ("Total Pool Count", pools.len() as u64),
        ("Total Addresses Used", sum(|of| of.used)),
        ("Total Addresses Held", sum(|of| of.held)),
        ("Total Addresses Free", sum(|of| of.free)),
    ];
    if summary {
        return Output::of_totals(totals);
    }
    let text = pools.iter().map(|(pool, of)| pool_line(pool, of)).collect();
    Output {
        heading,
        text,
        totals: Total::all(totals),
        ..Output::default()
    }
}

fn pool_line(pool: &Pool, of: &Occupancy) -> String {
    let (kind, priority) = match pool.config.kind {
        Kind::Public(priority) => ('P', priority),
        Kind::Private(priority) => ('R', priority),
        Kind::Static => ('S', 0),
    };
    let units = pool.allocator.units();
    let end = match units {
        Units::V4 { count, .. } => units.address(count.saturating_sub(1)).to_string(),
        Units::V6 { prefix_length, .. } => format!("/{prefix_length} prefixes"),
    };
    format!(
        "{kind}{}{priority:02}  {:<24} {:<28} {end:<20} {:>8} {:>8}\n",
        if pool.exhausted { 'F' } else { 'G' },
        pool.config.name,
        units.address(0).to_string(),
        of.used,
        of.free,
    )
}

//! `show ip pool`, `show ipv6 pool`.

use bus::messages::common::{Output, Total};

use super::failed;
use crate::pool::Units;
use crate::pools::{Kind, Pool};
use crate::state::State;

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
    let pools: Vec<&Pool> = state.pools.iter().filter(of_family).filter(wanted).collect();
    if let (Some(name), true) = (name, pools.is_empty()) {
        return failed(format!("there is no pool {name} in context {}", state.context));
    }
    let sum = |count: fn(&Pool) -> u32| pools.iter().map(|pool| u64::from(count(pool))).sum();
    let total = |label: &str, value| Total {
        label: label.to_owned(),
        value,
    };
    let totals = vec![
        total("Total Pool Count", pools.len() as u64),
        total("Total Addresses Used", sum(|pool| pool.allocator.used())),
        total("Total Addresses Free", sum(|pool| pool.allocator.free())),
    ];
    if summary {
        return Output {
            totals,
            ..Output::default()
        };
    }
    let text = pools.iter().map(|pool| pool_line(pool)).collect();
    Output {
        heading,
        text,
        totals,
        ..Output::default()
    }
}

fn pool_line(pool: &Pool) -> String {
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
        "{kind}{}{priority:02}  {:<24} {:<28} {end:<16} {:>8} {:>8}\n",
        if pool.exhausted { 'F' } else { 'G' },
        pool.config.name,
        units.address(0).to_string(),
        pool.allocator.used(),
        pool.allocator.free(),
    )
}

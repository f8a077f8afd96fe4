//! Set-ups a second, their processor time, and the memory of the tunnels.

use std::thread::sleep;
use std::time::Duration;

use crate::gateway::{Gateway, Group, Kind};
use crate::starward::enodebs;
use crate::summary::{Measured, Row};
use crate::world::Ground;

/// A gateway has done its work for the last tunnel within this time.
const SETTLE: Duration = Duration::from_millis(300);

/// Sets `tunnels` up, `runs` times with each group, each time on a fresh gateway.
pub fn measure(ground: &Ground, kind: Kind, tunnels: u32, runs: usize, measured: &mut Measured) {
    for group in Group::ALL {
        let (rate, cpu) = match group {
            Group::Curve25519 => (Row::SetupRateGroup31, Row::SetupCpuGroup31),
            Group::Ecp256 => (Row::SetupRateGroup19, Row::SetupCpuGroup19),
        };
        for number in 1..=runs {
            eprintln!(
                "{kind}: {tunnels} set-ups with group {}, run {number}",
                group.number()
            );
            match once(ground, kind, group, tunnels) {
                Ok(result) => {
                    eprintln!(
                        "  {:.0}/s, {:.3} ms, {:.1} KiB, {} retransmissions",
                        result.rate, result.cpu_ms, result.memory_kib, result.retransmissions
                    );
                    measured.add(kind, rate, result.rate);
                    measured.add(kind, cpu, result.cpu_ms);
                    // The same tunnels whatever the group.
                    measured.add(kind, Row::MemoryPerTunnel, result.memory_kib);
                }
                Err(error) => {
                    eprintln!("  {error}");
                    for row in [rate, cpu, Row::MemoryPerTunnel] {
                        measured.fail(kind, row, &error);
                    }
                    break;
                }
            }
        }
    }
}

struct Outcome {
    /// Tunnels a second.
    rate: f64,
    /// Of one tunnel.
    cpu_ms: f64,
    /// Of one tunnel.
    memory_kib: f64,
    retransmissions: u64,
}

fn once(ground: &Ground, kind: Kind, group: Group, tunnels: u32) -> Result<Outcome, String> {
    let gateway = Gateway::start(ground, kind, group, false)?;
    sleep(SETTLE);
    let before = gateway.cost()?;
    let report = enodebs(&gateway.world, group, tunnels)?;
    sleep(SETTLE);
    let after = gateway.cost()?;
    if before.pids != after.pids {
        return Err("a process of the gateway died or was started during the measurement".to_owned());
    }
    let up = report["tunnels_up"].as_u64().unwrap_or_default();
    if up != u64::from(tunnels) {
        return Err(format!("{up} of {tunnels} tunnels came up: {}", report["errors"]));
    }
    let tunnels = f64::from(tunnels);
    Ok(Outcome {
        rate: report["setup_rate_per_s"].as_f64().unwrap_or_default(),
        cpu_ms: (after.cpu_ms - before.cpu_ms) / tunnels,
        memory_kib: (after.memory_kib - before.memory_kib) / tunnels,
        retransmissions: report["retransmissions"].as_u64().unwrap_or_default(),
    })
}

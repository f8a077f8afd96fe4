//! Set-ups a second, their processor time, and the memory of the tunnels.

use std::path::PathBuf;
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Gateway, Group, Kind, Setting, in_turn};
use crate::rows::Row;
use crate::starward::{authority, load};
use crate::summary::Measured;
use crate::world::Ground;

/// A gateway has done its work for the last tunnel within this time.
const SETTLE: Duration = Duration::from_millis(300);
/// Certificates that peers use in turn.
const PEERS: u32 = 100;

/// Kinds of keys that `starward sim pki` makes.
const RSA: &str = "rsa-2048";
const ECDSA: &str = "ecdsa-p256";

/// Sets `tunnels` up, `runs` times in each way, each time on a fresh gateway.
pub fn rates(ground: &Ground, tunnels: u32, runs: usize, measured: &mut Measured) {
    let ways: [(Group, Option<&str>, Row, Row); 4] = [
        (
            Group::Curve25519,
            None,
            Row::SetupRateGroup31,
            Row::SetupCpuGroup31,
        ),
        (Group::Ecp256, None, Row::SetupRateGroup19, Row::SetupCpuGroup19),
        (Group::Curve25519, Some(RSA), Row::SetupRateRsa, Row::SetupCpuRsa),
        (
            Group::Curve25519,
            Some(ECDSA),
            Row::SetupRateEcdsa,
            Row::SetupCpuEcdsa,
        ),
    ];
    for (group, key, rate, cpu) in ways {
        let certificates = key.map(|key| authority(ground.folder(), key, PEERS)).transpose();
        let setting = certificates.map(|certificates: Option<PathBuf>| Setting {
            group,
            certificates,
            ..Setting::default()
        });
        for run in 0..runs {
            for kind in in_turn(run, [Kind::Ours, Kind::Strongswan].into_iter()) {
                if measured.has_failed(kind, rate) {
                    continue;
                }
                eprintln!("{}: run {} of {runs}", rate.title(), run + 1);
                match setting
                    .clone()
                    .and_then(|setting| once(ground, kind, &setting, tunnels))
                {
                    Ok(outcome) => {
                        measured.add(kind, rate, outcome.rate);
                        measured.add(kind, cpu, outcome.cpu_ms);
                        measured.disturbed(kind, rate, "retransmissions", outcome.retransmissions);
                    }
                    Err(error) => measured.fail(kind, &[rate, cpu], &error),
                }
            }
        }
    }
}

/// Tunnels of peers, at most: of one process whose memory grows evenly so many tell enough, and strongSwan needs minutes for more.
const MOST_OF_PEERS: u32 = 5_000;

/// Sets many tunnels up, once: so many that the rounding up to pages of 255 slots does not count.
pub fn memory(ground: &Ground, tunnels: u32, measured: &mut Measured) {
    for (kind, most) in [(Kind::Ours, u32::MAX), (Kind::Strongswan, MOST_OF_PEERS)] {
        let tunnels = tunnels.min(most);
        eprintln!("{}: {tunnels} tunnels", Row::MemoryPerTunnel.title());
        let result = once(ground, kind, &Setting::default(), tunnels).map(|outcome| outcome.memory_kib);
        measured.add_or_fail(kind, Row::MemoryPerTunnel, result);
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

fn once(ground: &Ground, kind: Kind, setting: &Setting, tunnels: u32) -> Result<Outcome, String> {
    let gateway = Gateway::start(ground, kind, setting)?;
    sleep(SETTLE);
    let before = gateway.cost()?;
    let report = load(&gateway.world, setting, tunnels)?;
    sleep(SETTLE);
    let after = gateway.cost()?;
    if before.pids != after.pids {
        return Err("a process of the gateway died or was started during the measurement".to_owned());
    }
    let up = count(&report, "set_up");
    if up != u64::from(tunnels) {
        return Err(format!("{up} of {tunnels} tunnels came up: {}", report["failed"]));
    }
    let tunnels = f64::from(tunnels);
    Ok(Outcome {
        rate: report["setup_rate_per_s"].as_f64().unwrap_or_default(),
        cpu_ms: (after.cpu_ms - before.cpu_ms) / tunnels,
        memory_kib: (after.memory_kib - before.memory_kib) / tunnels,
        retransmissions: count(&report, "retransmissions"),
    })
}

/// A number of a report; zero if it is not there.
pub fn count(report: &Value, name: &str) -> u64 {
    report[name].as_u64().unwrap_or_default()
}

//! Our gateway under a flood of IKE_SA_INIT from spoofed addresses, honest peers among them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Gateway, Kind, Setting};
use crate::process::run;
use crate::rows::Row;
use crate::setup::count;
use crate::starward::{peers, show, simulate_outside};
use crate::summary::Measured;
use crate::world::{Ground, INITIATORS, World};

/// Where both spoofed and honest peers are, behind a router: the namespace of the initiators.
const PREFIX: &str = "10.99.0.0/16";
const HONEST: [&str; 4] = ["10.99.1.1", "10.99.77.1", "10.99.130.1", "10.99.254.1"];
const ROUTE: &str = "    ip route 10.99.0.0 255.255.0.0 10.10.0.101 ran\n";
const RATE: f64 = 100_000.0;
const SECONDS: &str = "20";
/// Honest set-ups, and how many a second.
const SETUPS: &str = "300";
const SETUP_RATE: &str = "50";
/// What the gateway says of the IKE packets that came.
const STATISTICS: &str = "show crypto statistics ikev2";
const PACKETS_IN: &str = "Total Packets In";
/// What of the flood came to the gateway, at least: less is another, smaller flood.
const ARRIVED: f64 = 0.5;
const LOOK: Duration = Duration::from_millis(500);

/// Floods a fresh gateway `runs` times.
pub fn measure(ground: &Ground, runs: usize, measured: &mut Measured) {
    for number in 0..runs {
        eprintln!("flood, run {} of {runs}", number + 1);
        match once(ground) {
            Ok((report, memory_mib)) => {
                let honest = &report["honest"];
                eprintln!(
                    "  {:.0} spoofed requests a second, honest: {} of {}, {}",
                    report["flood"]["rate_per_s"].as_f64().unwrap_or_default(),
                    honest["set_up"],
                    honest["requested"],
                    honest["failed"]
                );
                let share = count(honest, "set_up") as f64 / count(honest, "requested").max(1) as f64;
                measured.add(Kind::Ours, Row::FloodHonest, share * 100.0);
                measured.add(Kind::Ours, Row::FloodMemory, memory_mib);
                let again = count(honest, "retransmissions");
                measured.disturbed(Kind::Ours, Row::FloodHonest, "retransmissions", again);
                // On a machine that could not send so many the row says less.
                let missing = (RATE - report["flood"]["rate_per_s"].as_f64().unwrap_or_default()).max(0.0);
                let what = "spoofed requests a second fewer than wanted";
                measured.disturbed(Kind::Ours, Row::FloodHonest, what, missing as u64);
            }
            Err(error) => return measured.fail(Kind::Ours, &[Row::FloodHonest, Row::FloodMemory], &error),
        }
    }
}

/// The report of the simulator, and the memory that the gateway took meanwhile, in MiB.
fn once(ground: &Ground) -> Result<(Value, f64), String> {
    let setting = Setting {
        context: ROUTE,
        ..Setting::default()
    };
    let gateway = Gateway::start(ground, Kind::Ours, &setting)?;
    let world = &gateway.world;
    for address in HONEST {
        world.address(&world.ran(), "lo", &format!("{address}/32"))?;
    }
    // Answers to peers that nobody has end here.
    run(&["ip", "-n", &world.ran(), "route", "add", "blackhole", PREFIX])?;
    let mut arguments = vec!["flood".to_owned()];
    arguments.extend(peers(&setting).into_iter().map(|word| {
        if word == INITIATORS.join(",") {
            HONEST.join(",")
        } else {
            word
        }
    }));
    let more = [
        "--namespace",
        &world.ran(),
        "--from",
        PREFIX,
        "--flood-rate",
        &RATE.to_string(),
        "--flood-seconds",
        SECONDS,
        "--count",
        SETUPS,
        "--rate",
        SETUP_RATE,
    ];
    arguments.extend(more.map(str::to_owned));
    let came_before = packets_in(world)?;
    let before = gateway.cost()?.memory_kib;
    let ended = AtomicBool::new(false);
    let (report, most) = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let report = simulate_outside(&arguments);
            ended.store(true, Ordering::Relaxed);
            report
        });
        let mut most = before;
        while !ended.load(Ordering::Relaxed) {
            sleep(LOOK);
            // A process that ends meanwhile is no reason to stop looking.
            most = gateway.cost().map_or(most, |cost| cost.memory_kib.max(most));
        }
        (flood.join(), most)
    });
    let report = report.map_err(|_| "the flood failed".to_owned())??;
    arrived(
        packets_in(world)?.saturating_sub(came_before),
        count(&report["flood"], "packets"),
    )?;
    Ok((report, (most - before) / 1024.0))
}

/// IKE packets that the gateway received since its start.
fn packets_in(world: &World) -> Result<u64, String> {
    let text = show(world, &[STATISTICS])?;
    number(&text, PACKETS_IN).ok_or_else(|| format!("'{STATISTICS}' tells no '{PACKETS_IN}'"))
}

/// The number behind a label. A line has two of them.
fn number(text: &str, label: &str) -> Option<u64> {
    let (_, rest) = text.split_once(&format!(" {label}:"))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// An error if of the flood less came to the gateway than makes it one.
fn arrived(came: u64, sent: u64) -> Result<(), String> {
    eprintln!("  {came} IKE packets came of {sent} spoofed requests");
    if sent == 0 || (came as f64) < sent as f64 * ARRIVED {
        return Err(format!(
            "the flood did not arrive: {came} IKE packets came of {sent} spoofed requests"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_that_did_not_arrive_is_none() {
        assert_eq!(arrived(1_000_000, 2_000_000), Ok(()));
        for (came, sent) in [(0, 0), (600, 0), (999_999, 2_000_000)] {
            assert!(arrived(came, sent).is_err(), "{came} of {sent}");
        }
    }

    #[test]
    fn numbers_are_found_behind_their_labels() {
        let text = "Detailed IKE Statistics:\n  Total Attempts Responded:  3  Total Packets In:  12\n  Total Packets Out:  9\n";
        assert_eq!(number(text, PACKETS_IN), Some(12));
        assert_eq!(number(text, "Total Packets Out"), Some(9));
        assert_eq!(number(text, "Packets"), None);
    }
}

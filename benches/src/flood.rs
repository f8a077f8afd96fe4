//! Our gateway under a flood of IKE_SA_INIT from spoofed addresses, honest peers among them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Gateway, Kind, Setting};
use crate::process::run;
use crate::rows::Row;
use crate::setup::count;
use crate::starward::{peers, simulate_outside};
use crate::summary::Measured;
use crate::world::{Ground, INITIATORS};

/// Where both spoofed and honest peers are, behind a router: the namespace of the initiators.
const PREFIX: &str = "10.99.0.0/16";
const HONEST: [&str; 4] = ["10.99.1.1", "10.99.77.1", "10.99.130.1", "10.99.254.1"];
const ROUTE: &str = "    ip route 10.99.0.0 255.255.0.0 10.10.0.101 ran\n";
const RATE: f64 = 100_000.0;
const SECONDS: &str = "20";
/// Honest set-ups, and how many a second.
const SETUPS: &str = "300";
const SETUP_RATE: &str = "50";
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
    Ok((report, (most - before) / 1024.0))
}

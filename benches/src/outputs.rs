//! One tunnel and two processors: what is left of the work of the data plane that has it when another takes the last step for its packets.

use crate::account::thread_ms;
use crate::gateway::{Gateway, Kind, Setting};
use crate::moves::{owners, slots};
use crate::rows::Row;
use crate::starward::{self, show};
use crate::summary::Measured;
use crate::traffic::{serve_streams, stream};
use crate::world::Ground;

const ROWS: [(Row, &[&str]); 2] = [(Row::OutputUp, &[]), (Row::OutputDown, &["-R"])];
/// Of a stream: far below what the processors can do, so that it costs what it must.
const RATE: &str = "1G";
const SECONDS: &str = "3";

/// Measures both directions on a fresh gateway, `runs` times each.
pub fn measure(ground: &Ground, runs: usize, measured: &mut Measured) {
    eprintln!("the output of a tunnel's slot handed on: {runs} runs");
    if let Err(error) = all(ground, runs, measured) {
        measured.fail(Kind::Ours, &ROWS.map(|(row, _)| row), &error);
    }
}

fn all(ground: &Ground, runs: usize, measured: &mut Measured) -> Result<(), String> {
    let setting = Setting {
        routes: true,
        ..Setting::default()
    };
    let gateway = Gateway::start(ground, Kind::Ours, &setting)?;
    let world = &gateway.world;
    show(world, &["configure", "no crypto slot-rebalancing", "end"])?;
    let _near = starward::tunnel(world, None)?;
    let _server = serve_streams(world, None)?;
    let slot = *slots(&show(world, &["show crypto ipsec security-associations"])?)
        .first()
        .ok_or("there is no tunnel")?;
    let owners = owners(&show(world, &["show crypto slots verbose"])?);
    let owner = *owners.get(&slot).ok_or("the slot has no owner")?;
    if owners.values().max() < Some(&2) {
        return Err("two workers are needed".to_owned());
    }
    for _ in 0..runs {
        for (row, direction) in ROWS {
            let own = cost(&gateway, owner, direction)?;
            show(
                world,
                &[&format!("crypto slot move {slot} to {} output", 3 - owner)],
            )?;
            let handed_on = cost(&gateway, owner, direction);
            show(world, &[&format!("crypto slot move {slot} to {owner} output")])?;
            measured.add(Kind::Ours, row, handed_on? / own);
        }
    }
    Ok(())
}

/// Processor time of a worker's data plane for an octet of a stream, in milliseconds.
fn cost(gateway: &Gateway, worker: u32, direction: &[&str]) -> Result<f64, String> {
    let name = format!("plane-{worker}");
    let before = thread_ms(&gateway.cost()?.pids, &name)?;
    let more = [&["-t", SECONDS, "-b", RATE], direction].concat();
    let report = stream(&gateway.world, None, &more)?;
    match report["end"]["sum_received"]["bytes"].as_f64() {
        Some(octets) if octets > 0.0 => Ok((thread_ms(&gateway.cost()?.pids, &name)? - before) / octets),
        _ => Err(format!("nothing came: {}", report["error"])),
    }
}

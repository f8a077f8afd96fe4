//! `make bench`: our gateway side by side with its peers, in one run on one machine, under the same load.
//!
//! ```text
//!   namespace "…r"                          namespace "…g"            namespace "…h"
//!   set-ups:  starward sim load     ──────  the gateway
//!   traffic:  far end of one tunnel ──────  the gateway  ───────────  host: iperf3, starward sim far
//! ```
//!
//! Both IKE gateways are loaded by the same initiators with the same proposals. The far end of the tunnel is the same program as the gateway, for ours
//! `starward sim tunnel`, so a figure of traffic is one of both ends on the processors of this machine.
//! A table goes to standard output, a summary for machines to `target/bench/summary.json`. A row that could not be measured says why,
//! and the program fails; a row that is worse than its goal or its peers is shown as such, and the program does not fail.

mod account;
mod crowd;
mod flood;
mod gateway;
mod janitor;
mod kills;
mod moves;
mod outputs;
mod pipeline;
mod process;
mod rows;
mod setup;
mod starward;
mod strongswan;
mod summary;
mod traffic;
mod wireguard;
mod world;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};

use crate::gateway::Kind;
use crate::janitor::Janitor;
use crate::summary::{Measured, Summary};
use crate::world::Ground;

/// Side by side with its peers.
#[derive(Parser)]
#[command(name = "starward-bench", disable_help_subcommand = true)]
struct Arguments {
    /// Measure only these parts [default: all of them]
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Tunnels of a set-up run
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    tunnels: u32,
    /// Tunnels of which the memory is measured
    #[arg(long, default_value_t = 20_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    memory_tunnels: u32,
    /// Tunnels beside which a hundred are measured, and that are shown
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(101..=1_000_000))]
    many: u32,
    /// Tunnels that are there when a process is killed
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    kill_tunnels: u32,
    /// Runs of short measurements, of which the median is taken
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=99))]
    runs: u8,
    /// Runs of long ones
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=99))]
    long_runs: u8,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Set-ups a second and their CPU time
    Setup,
    /// Memory of a tunnel
    Memory,
    /// Throughput and packet rates of a tunnel, CPU of a packet
    Traffic,
    /// Very many tunnels, and show of them
    Crowd,
    /// Processes killed under load
    Kill,
    /// Slots moved under load
    Move,
    /// One tunnel whose last step another data plane takes
    Output,
    /// A flood of spoofed requests
    Flood,
    /// The data plane in memory
    Pipeline,
}

/// What the program starts of itself.
#[derive(Subcommand)]
enum Inner {
    #[command(hide = true)]
    Janitor(janitor::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.inner {
        Some(Inner::Janitor(options)) => {
            options.run();
            Ok(true)
        }
        None => bench(&arguments),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("starward-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything asked for; true when every row has the values of everybody.
fn bench(arguments: &Arguments) -> Result<bool, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces and strongSwan need root: run it as root".to_owned());
    }
    for program in ["ip", "sysctl", "charon-systemd", "swanctl", "iperf3", "taskset"] {
        process::find(program)?;
    }
    let start = Instant::now();
    let ground = Ground::new()?;
    // Dropped last: it takes down whatever is left, also when this process is killed.
    let _janitor = Janitor::start(&ground)?;
    let wanted = |part| arguments.only.is_empty() || arguments.only.contains(&part);
    let (runs, long) = (arguments.runs.into(), arguments.long_runs.into());
    let mut measured = Measured::default();
    let names = peers(&mut measured);
    if wanted(Part::Setup) {
        setup::rates(&ground, arguments.tunnels, runs, &mut measured);
    }
    if wanted(Part::Memory) {
        setup::memory(&ground, arguments.memory_tunnels, &mut measured);
    }
    if wanted(Part::Traffic) {
        let kinds: Vec<Kind> = Kind::ALL
            .into_iter()
            .filter(|kind| *kind == Kind::Ours || names.contains_key(kind))
            .collect();
        traffic::measure(&ground, &kinds, runs, &mut measured);
    }
    if wanted(Part::Crowd) {
        crowd::measure(&ground, arguments.many, runs, &mut measured);
    }
    if wanted(Part::Kill) {
        kills::measure(&ground, arguments.kill_tunnels, long, &mut measured);
    }
    if wanted(Part::Move) {
        moves::measure(&ground, long, &mut measured);
    }
    if wanted(Part::Output) {
        outputs::measure(&ground, runs, &mut measured);
    }
    if wanted(Part::Flood) {
        flood::measure(&ground, long, &mut measured);
    }
    let target = target_dir();
    let more = if wanted(Part::Pipeline) {
        pipeline::measure(&target)
    } else {
        Vec::new()
    };
    let summary = Summary::new(&measured, names, more);
    println!("{summary}");
    let file = target.join("bench/summary.json");
    summary.write(&file)?;
    println!(
        "{} processors, {:.0} s, {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        start.elapsed().as_secs_f64(),
        file.display()
    );
    Ok(summary.is_complete())
}

/// The peers that are here, with their versions; notes those that are not.
fn peers(measured: &mut Measured) -> HashMap<Kind, String> {
    let mut names = HashMap::from([(Kind::Strongswan, strongswan::name())]);
    for kind in [Kind::WireguardGo, Kind::Boringtun] {
        match wireguard::name(kind) {
            Ok(name) => drop(names.insert(kind, name)),
            Err(reason) => measured.absent(kind, &reason),
        }
    }
    names
}

/// Cargo's target directory: the program lies in `TARGET/release`.
fn target_dir() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.to_owned()))
        .unwrap_or_else(|| PathBuf::from("target"))
}

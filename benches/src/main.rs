//! `make bench`: our gateway side by side with strongSwan, in one run on one machine, under the same load.
//!
//! ```text
//!   namespace "…r"                          namespace "…g"            namespace "…h"
//!   set-ups:  starward sim enodebs  ──────  the gateway
//!   traffic:  far end of one tunnel ──────  the gateway  ───────────  host: iperf3, counter of datagrams
//! ```
//!
//! Both gateways are loaded by the same initiators with the same proposals. The far end of the tunnel is strongSwan for strongSwan and
//! `starward sim tunnel` for ours, so a figure of traffic is one of both ends on the processors of this machine.
//! A table goes to standard output, a summary for machines to `target/bench/summary.json`. A row that could not be measured says why,
//! and the program fails; a row that is worse than its goal or its peer is shown as such, and the program does not fail.

mod account;
mod blast;
mod gateway;
mod janitor;
mod process;
mod setup;
mod starward;
mod strongswan;
mod summary;
mod traffic;
mod world;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, Subcommand, ValueEnum};

use crate::gateway::Kind;
use crate::janitor::Janitor;
use crate::summary::{Measured, Summary};
use crate::world::Ground;

/// Side by side with strongSwan.
#[derive(Parser)]
#[command(name = "starward-bench", disable_help_subcommand = true)]
struct Arguments {
    /// Measure only this part [default: all of them]
    #[arg(long, value_enum)]
    only: Option<Part>,
    /// Tunnels of a set-up run
    #[arg(long, default_value_t = 2000)]
    tunnels: u32,
    /// Runs of which the median is taken
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(subcommand)]
    inner: Option<Inner>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Set-ups a second, their CPU time, memory of a tunnel
    Setup,
    /// Throughput and packet rate of a tunnel
    Traffic,
}

/// What the program starts of itself in other namespaces.
#[derive(Subcommand)]
enum Inner {
    #[command(hide = true)]
    Janitor(janitor::Options),
    #[command(hide = true, subcommand)]
    Blast(blast::Blast),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match &arguments.inner {
        Some(Inner::Janitor(options)) => {
            options.run();
            Ok(true)
        }
        Some(Inner::Blast(blast)) => blast.run().map(|()| true),
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

/// Measures everything asked for; true when every row has both values.
fn bench(arguments: &Arguments) -> Result<bool, String> {
    if !nix::unistd::geteuid().is_root() {
        return Err("network namespaces and strongSwan need root: run it as root".to_owned());
    }
    for program in ["ip", "sysctl", "charon-systemd", "swanctl", "iperf3"] {
        process::find(program)?;
    }
    let start = Instant::now();
    let ground = Ground::new()?;
    // Dropped last: it takes down whatever is left, also when this process is killed.
    let _janitor = Janitor::start(&ground)?;
    let wanted = |part| arguments.only.is_none_or(|only| only == part);
    let mut measured = Measured::default();
    for kind in Kind::ALL {
        if wanted(Part::Setup) {
            setup::measure(&ground, kind, arguments.tunnels, arguments.runs, &mut measured);
        }
        if wanted(Part::Traffic) {
            traffic::measure(&ground, kind, arguments.runs, &mut measured);
        }
    }
    let summary = Summary::new(&measured, &strongswan::name());
    println!("{summary}");
    let file = target_dir().join("bench/summary.json");
    summary.write(&file)?;
    println!(
        "{} processors, {:.0} s, {}",
        std::thread::available_parallelism().map_or(0, usize::from),
        start.elapsed().as_secs_f64(),
        file.display()
    );
    Ok(summary.is_complete())
}

/// Cargo's target directory: the program lies in `TARGET/release`.
fn target_dir() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.to_owned()))
        .unwrap_or_else(|| PathBuf::from("target"))
}

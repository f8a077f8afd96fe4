//! The data plane's pipeline in memory: what a worker's code costs per packet, without the kernel.
//!
//! ```text
//!   ESP packets ──> Pipeline::open ──> nowhere        begin, read, end: a round of the data plane, 64 packets each
//!   IP packets  ──> Pipeline::seal ──> nowhere
//! ```
//!
//! It drives the code that carries packets in an `iftask` over real slot segments: SPI lookup, replay window, integrity, selectors, coalescing; route lookup,
//! sequence numbers, encryption, bursts; counters. Packets belong to tunnels at random. Preparing them is not measured.
//!
//! Beside it [`bare`] carries packets of the same sizes through as many SAs with nothing but the cipher: the yardstick.
//!
//! Packets of AES-CBC are sealed in runs of one SA; [`runs`] says what that gains.
//!
//! Without a command it prints a table, and writes it to `target/bench/pipeline.json`. Times are medians over batches, so that a batch during which others had the
//! processor does not count. `guard` counts instructions instead, which repeat on a busy machine, and compares them with those that were written down.

mod bare;
mod guard;
mod measure;
mod packets;
mod report;
mod runs;
mod tunnels;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::packets::Sizes;

/// The data plane's pipeline in memory.
#[derive(Parser)]
#[command(name = "starward-pipeline", disable_help_subcommand = true)]
struct Arguments {
    /// Batches of a measurement
    #[arg(long, default_value_t = 8000)]
    batches: usize,
    /// Measure only these packets
    #[arg(long, value_enum)]
    only: Option<Sizes>,
    /// Measure only with so many tunnels
    #[arg(long)]
    tunnels: Option<usize>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Compares instructions per packet with those written down
    Guard {
        /// Write the new ones down instead
        #[arg(long)]
        update: bool,
    },
    #[command(hide = true)]
    Count { path: guard::Path, packets: u64 },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let result = match arguments.command {
        None => measure::all(arguments.batches, arguments.only, arguments.tunnels)
            .and_then(|rows| report::tell(&rows, &runs::measure(arguments.batches)?)),
        Some(Command::Guard { update }) => guard::run(update),
        Some(Command::Count { path, packets }) => guard::count(path, packets),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("starward-pipeline: {error}");
            ExitCode::FAILURE
        }
    }
}

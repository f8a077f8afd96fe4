//! The shell of the node: `starward cli`.
//!
//! ```text
//!   terminal ── Editor (history, ?, Tab) ──┐            ┌─ Local: the shell itself (terminal, clock, counters)
//!   -c COMMAND, standard input ────────────┴─> Session ─┼─ Tasks: Execute to each task that answers, piece by piece
//!                                                 │     └─ Configuration: lines to sct, with the path of modes
//!                                                 v
//!                                    pipes (grep, more) ──> Pager ──> terminal
//! ```
//!
//! One process for each operator, one thread. It has no state worth keeping: what it shows is asked for each time. A task that does not
//! answer in time costs its part of the output and one line that says so.

mod check;
mod configuration;
mod editor;
mod failure;
mod help;
mod lines;
mod local;
mod output;
mod session;
mod tasks;
mod terminal;

use std::path::PathBuf;
use std::process::ExitCode;

pub use check::Check;
use session::Session;

/// `starward cli`
#[derive(Debug, clap::Args)]
pub struct Shell {
    /// Run directory of the node
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Run this command and end; may be given several times
    #[arg(short = 'c', value_name = "COMMAND")]
    pub commands: Vec<String>,
}

impl Shell {
    /// Runs the shell on the node of `usual`, if no other run directory was given; the exit status is 1 if a command of `-c` or of standard input
    /// failed.
    pub fn run(self, usual: PathBuf) -> ExitCode {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return fail(&error.to_string()),
        };
        let session = match runtime.block_on(Session::open(&self.run_dir.unwrap_or(usual))) {
            Ok(session) => session,
            Err(error) => return fail(&error),
        };
        if !self.commands.is_empty() {
            return batch(&runtime, session, self.commands.into_iter());
        }
        if terminal::is_interactive() {
            return editor::converse(&runtime, session);
        }
        batch(&runtime, session, lines::lines(std::io::stdin().lock()))
    }
}

/// Runs lines one after the other.
fn batch(
    runtime: &tokio::runtime::Runtime,
    mut session: Session,
    lines: impl Iterator<Item = String>,
) -> ExitCode {
    let mut fine = true;
    for line in lines {
        fine &= runtime.block_on(session.run(&line));
        if session.ended() {
            break;
        }
    }
    runtime.block_on(session.close());
    if fine {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn fail(error: &str) -> ExitCode {
    failure::say(error);
    ExitCode::FAILURE
}

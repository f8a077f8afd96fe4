//! The shell as an operator has it: on a terminal or with a script, in front of a configuration task.
//!
//! The shell is a process of its own (this program again, as the test `the_shell_itself`), the terminal a pseudo terminal, and the
//! configuration task answers from the real table of commands.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod conversation;
mod node;
mod scripts;
mod terminal;

use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(60);
const RUN_DIR: &str = "STARWARD_TEST_RUN_DIR";
/// What the shell's process says at its end, with whether all went well.
const DONE: &str = "the shell has ended well: ";

/// Not a test: the shell that the tests start. Without their variable it has nothing to do.
#[test]
#[ignore = "the process that the other tests start"]
fn the_shell_itself() {
    if let Some(run_dir) = std::env::var_os(RUN_DIR) {
        let shell = cli::Shell {
            run_dir: Some(run_dir.into()),
            commands: Vec::new(),
        };
        let status = shell.run(PathBuf::new());
        println!("{DONE}{}", status == ExitCode::SUCCESS);
    }
}

/// That process, on this run directory.
fn shell(run_dir: &std::path::Path) -> Command {
    let mut shell = Command::new(std::env::current_exe().unwrap());
    shell
        .args(["the_shell_itself", "--exact", "--ignored", "--nocapture"])
        .env(RUN_DIR, run_dir);
    shell
}

//! Takes down what a run leaves behind, however it ended.
//!
//! The janitor is a process of its own, out of reach of the terminal's Ctrl-C, that waits for the end of its standard input. The kernel
//! closes that when the benchmark ends, also when it is killed.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::world::{self, Ground};

/// What is to be taken down.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Namespaces whose names begin so, with the processes in them
    #[arg(long)]
    prefix: String,
    /// Scratch folder
    #[arg(long)]
    folder: PathBuf,
}

/// The janitor of this run.
pub struct Janitor(Child);

impl Janitor {
    /// Starts it for the namespaces and the scratch folder of `ground`.
    pub fn start(ground: &Ground) -> Result<Self, String> {
        let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
        Command::new(program)
            .args(["janitor", "--prefix", ground.prefix(), "--folder"])
            .arg(ground.folder())
            .stdin(Stdio::piped())
            .process_group(0)
            .spawn()
            .map(Self)
            .map_err(|error| format!("start the janitor: {error}"))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        // Nothing more can be done about one that fails.
        let _ = self.0.wait();
    }
}

impl Options {
    /// Waits for the end of the run, then cleans up.
    pub fn run(&self) {
        let mut rest = Vec::new();
        // Any end will do, an error too.
        let _ = std::io::stdin().lock().read_to_end(&mut rest);
        for namespace in world::namespaces(&self.prefix) {
            world::remove(&namespace);
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

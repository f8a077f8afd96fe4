//! A running node of the real executable with the example configuration, and the means to look into it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bus::messages::common::Execute;
use bus::{Address, Bus, Facility};
use netio::Namespace;

use crate::common::{PATIENCE, STARWARD, eventually};

pub const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/secgw.cfg");

/// Killed when dropped.
pub struct Node {
    pub process: Child,
    pub folder: PathBuf,
    bus: Bus,
    runtime: tokio::runtime::Runtime,
}

/// A line of the task table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub facility: String,
    pub instance: String,
    pub state: String,
    pub pid: Option<i32>,
}

impl Node {
    pub fn start(name: &str) -> Self {
        Self::start_with(name, &["--workers", "2", "--config", EXAMPLE])
    }

    /// With these options of `starward run`.
    pub fn start_with(name: &str, options: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("starward-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        own_network();
        let process = Command::new(STARWARD)
            .arg("run")
            .args(options)
            .arg("--run-dir")
            .arg(folder.join("run"))
            .arg("--state-dir")
            .arg(folder.join("state"))
            .stdin(Stdio::null())
            .stderr(File::create(folder.join("log")).unwrap())
            .spawn()
            .unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let run_dir = folder.join("run");
        eventually("the bus", || run_dir.join("bus/sit-1").exists());
        let me = Address::new(Facility::Cli, std::process::id());
        let bus = runtime.block_on(async { Bus::client(&run_dir, me).unwrap() });
        Self {
            process,
            folder,
            bus,
            runtime,
        }
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap()
    }

    /// Waits until every process serves.
    pub fn is_ready(&self) {
        eventually("the node to be ready", || self.log().contains("node is ready"));
    }

    pub fn show(&self, command: &str) -> String {
        self.execute(command, &[])
    }

    pub fn execute(&self, command: &str, parameters: &[(&str, &str)]) -> String {
        let request = Execute::new(command, parameters);
        let sit = Address::only(Facility::Sit);
        let output = self
            .runtime
            .block_on(self.bus.request(sit, &request, PATIENCE))
            .unwrap();
        assert_eq!(output.failure, "");
        output.text
    }

    pub fn tasks(&self) -> Vec<Line> {
        self.show("show task table")
            .lines()
            .map(|line| {
                let words: Vec<_> = line.split_whitespace().collect();
                Line {
                    facility: words[1].into(),
                    instance: words[2].into(),
                    state: words[3].into(),
                    pid: words.last().unwrap().parse().ok(),
                }
            })
            .filter(|line| line.facility != "sit")
            .collect()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Its children die with it.
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// As root in a network of its own; otherwise the node makes one itself.
pub fn own_network() {
    if let Ok(namespace) = Namespace::create() {
        namespace.enter().unwrap();
    }
}

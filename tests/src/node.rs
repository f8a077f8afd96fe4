//! The node under test.

use std::path::PathBuf;
use std::time::Duration;

use crate::process::{Running, eventually, try_run_in};
use crate::world::World;

/// `starward run`, and the shell to look inside.
pub struct Node {
    process: Running,
    namespace: String,
    run_dir: PathBuf,
}

impl Node {
    /// Starts a node with this configuration and waits until it says that it is ready.
    pub fn start(world: &World, configuration: &str) -> Self {
        let file = world.file("node.cfg", configuration);
        let run_dir = world.folder().join("run");
        let state_dir = world.folder().join("state");
        let process = Running::start(
            &world.node(),
            &[
                &binary(),
                "run",
                "--config",
                &file.to_string_lossy(),
                "--run-dir",
                &run_dir.to_string_lossy(),
                "--state-dir",
                &state_dir.to_string_lossy(),
            ],
            &[],
            &world.folder().join("node.log"),
        );
        let mut node = Self {
            process,
            namespace: world.node(),
            run_dir,
        };
        node.wait_ready();
        node
    }

    /// Runs one command in the shell and returns what it printed; fails the scenario when the command fails.
    pub fn cli(&self, command: &str) -> String {
        let (ok, text) = self.try_cli(&[command]);
        assert!(ok, "'{command}' failed:\n{text}");
        text
    }

    /// Runs commands in one shell and returns whether all succeeded and what they printed.
    pub fn try_cli(&self, commands: &[&str]) -> (bool, String) {
        let program = binary();
        let run_dir = self.run_dir.to_string_lossy().into_owned();
        let mut arguments = vec![program.as_str(), "cli", "--run-dir", &run_dir];
        for command in commands {
            arguments.extend(["-c", command]);
        }
        try_run_in(&self.namespace, &arguments, &[])
    }

    /// ESP SPIs of its child SAs: (inbound, outbound) as eight hexadecimal digits.
    pub fn spis(&self) -> Vec<(String, String)> {
        let text = self.cli("show crypto ipsec security-associations");
        let value = |line: &str, label: &str| {
            line.trim().strip_prefix(label).map(|rest| {
                rest.trim_start_matches([':', ' '])
                    .trim_start_matches("0x")
                    .split_whitespace()
                    .next()
                    .unwrap_or("")
                    .to_lowercase()
            })
        };
        let mut pairs = Vec::new();
        let mut inbound = None;
        for line in text.lines() {
            if let Some(spi) = value(line, "Inbound SPI") {
                inbound = Some(spi);
            } else if let Some(spi) = value(line, "Outbound SPI")
                && let Some(inbound) = inbound.take()
            {
                pairs.push((inbound, spi));
            }
        }
        pairs
    }

    /// The number behind a label of a `show` output (which may print two counters a line).
    pub fn number(&self, command: &str, label: &str) -> u64 {
        let text = self.cli(command);
        number(&text, label).unwrap_or_else(|| panic!("'{command}' has no number '{label}':\n{text}"))
    }

    /// What the node logged so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// Waits until `show` output satisfies `condition` and returns it.
    pub fn eventually(&self, command: &str, what: &str, condition: impl Fn(&str) -> bool) -> String {
        let mut last = String::new();
        eventually(&format!("{what} in '{command}'"), Duration::from_secs(20), || {
            last = self.try_cli(&[command]).1;
            condition(&last).then(|| last.clone())
        })
    }

    /// Waits until a log line contains all of `words`.
    pub fn logged(&self, words: &[&str]) -> String {
        eventually(
            &format!("a log line with {words:?}"),
            Duration::from_secs(10),
            || {
                self.log()
                    .lines()
                    .find(|line| words.iter().all(|word| line.contains(word)))
                    .map(str::to_owned)
            },
        )
    }

    /// Process ids of the tasks called `facility`, in instance order, from `show task table`.
    pub fn pids(&self, facility: &str) -> Vec<u32> {
        let table = self.cli("show task table");
        table
            .lines()
            .filter(|line| line.split_whitespace().any(|word| word == facility))
            .filter_map(|line| {
                line.split_whitespace()
                    .filter_map(|word| word.parse::<u32>().ok())
                    .next_back()
            })
            .collect()
    }

    /// Run directory.
    pub fn run_dir(&self) -> &std::path::Path {
        &self.run_dir
    }

    /// The process `starward run`.
    pub fn process(&mut self) -> &mut Running {
        &mut self.process
    }

    fn wait_ready(&mut self) {
        for _ in 0..400 {
            assert!(
                !self.process.ended(),
                "the node ended while starting:\n{}",
                self.log()
            );
            if self.log().contains("node is ready") {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the node was not ready within 20 seconds:\n{}", self.log());
    }
}

/// The release binary: `STARWARD` names another.
pub fn binary() -> String {
    std::env::var("STARWARD")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/starward").to_owned())
}

/// The number behind `label:` in a text.
pub fn number(text: &str, label: &str) -> Option<u64> {
    let rest = text.split_once(&format!(" {label}:"))?.1;
    rest.split_whitespace().next()?.parse().ok()
}

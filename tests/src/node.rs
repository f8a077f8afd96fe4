//! The node under test.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::process::{PATIENCE, Running, eventually, kill, run, try_run_in};
use crate::world::World;

/// User and group of the ordinary user.
const NOBODY: &str = "65534";

/// `starward run`, and the shell to look inside.
pub struct Node {
    process: Running,
    program: Vec<String>,
    namespace: String,
    run_dir: PathBuf,
}

impl Node {
    /// Starts a node with this configuration and waits until it says that it is ready.
    pub fn start(world: &World, configuration: &str) -> Self {
        Self::start_by(world, configuration, &[&binary()])
    }

    /// Starts a node as an ordinary user (`nobody`), who may have user namespaces, and waits until it says that it is ready.
    pub fn start_as_nobody(world: &World, configuration: &str) -> Self {
        // Where the binary was built, that user may have no business.
        let copy = world.folder().join("starward");
        std::fs::copy(binary(), &copy).expect("a copy of the binary");
        run(&["chown", "-R", NOBODY, &world.folder().to_string_lossy()]);
        let (user, group) = (format!("--reuid={NOBODY}"), format!("--regid={NOBODY}"));
        Self::start_by(
            world,
            configuration,
            &[
                "setpriv",
                &user,
                &group,
                "--clear-groups",
                &copy.to_string_lossy(),
            ],
        )
    }

    /// `program` is the binary, after whatever is to start it.
    fn start_by(world: &World, configuration: &str, program: &[&str]) -> Self {
        let file = world.file("node.cfg", configuration);
        let run_dir = world.folder().join("run");
        let state_dir = world.folder().join("state");
        let (file, run_path, state_path) = (
            file.to_string_lossy(),
            run_dir.to_string_lossy(),
            state_dir.to_string_lossy(),
        );
        let mut arguments = program.to_vec();
        arguments.extend(["run", "--config", &file]);
        arguments.extend(["--run-dir", &run_path, "--state-dir", &state_path]);
        let log = world.folder().join("node.log");
        let mut node = Self {
            process: Running::start(&world.node(), &arguments, &[], &log),
            program: program.iter().map(|&word| word.to_owned()).collect(),
            namespace: world.node(),
            run_dir: run_dir.clone(),
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
        let run_dir = self.run_dir.to_string_lossy();
        let mut arguments: Vec<&str> = self.program.iter().map(String::as_str).collect();
        arguments.extend(["cli", "--run-dir", &run_dir]);
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

    /// The slot of its only child SA: the first octet of the SPI.
    pub fn slot(&self) -> u8 {
        let spis = self.spis();
        let (inbound, _) = spis.first().expect("a child SA");
        u8::from_str_radix(&inbound[..2], 16).expect("an SPI")
    }

    /// The workers that have manager, data plane and output of a slot.
    pub fn owners(&self, slot: u8) -> [u32; 3] {
        let text = self.cli("show crypto slots verbose");
        let numbers = |line: &str| -> Vec<u32> {
            line.split_whitespace()
                .map_while(|word| word.parse().ok())
                .collect()
        };
        let line = text
            .lines()
            .map(numbers)
            .find(|line| line.first() == Some(&slot.into()));
        match line.as_deref() {
            Some([_, manager, data, output, ..]) => [*manager, *data, *output],
            _ => panic!("no slot {slot}:\n{text}"),
        }
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
        self.eventually_in("local", command, what, condition)
    }

    /// Waits until the output of a command given in a context satisfies `condition` and returns it.
    pub fn eventually_in(
        &self,
        context: &str,
        command: &str,
        what: &str,
        condition: impl Fn(&str) -> bool,
    ) -> String {
        let enter = format!("context {context}");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = self.try_cli(&[&enter, command]).1;
            if condition(&text) {
                return text;
            }
            assert!(
                Instant::now() < deadline,
                "waited in vain for {what} in '{command}' of context {context}, which says:\n{text}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until a log line contains all of `words`.
    pub fn logged(&self, words: &[&str]) -> String {
        eventually(&format!("a log line with {words:?}"), || {
            self.log()
                .lines()
                .find(|line| words.iter().all(|word| line.contains(word)))
                .map(str::to_owned)
        })
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

    /// Kills all tasks of these facilities at once and waits until others have taken their places.
    pub fn kill(&self, facilities: &[&str]) {
        let running = || -> Vec<u32> { facilities.iter().flat_map(|one| self.running(one)).collect() };
        let before = eventually(&format!("{facilities:?} to serve"), || {
            Some(running()).filter(|pids| !pids.is_empty())
        });
        before.iter().copied().for_each(kill);
        eventually(&format!("{facilities:?} to come back"), || {
            let now = running();
            (now.len() == before.len() && now.iter().all(|pid| !before.contains(pid))).then_some(())
        });
    }

    /// Process ids of the tasks called `facility` that serve; none while the table cannot be read.
    fn running(&self, facility: &str) -> Vec<u32> {
        let (ok, table) = self.try_cli(&[&format!("show task table facility {facility}")]);
        let lines = table.lines().filter(|line| ok && line.contains(" running "));
        lines
            .filter_map(|line| line.split_whitespace().last()?.parse().ok())
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
        eventually("the node to be ready", || {
            assert!(
                !self.process.ended(),
                "the node ended while starting:\n{}",
                self.log()
            );
            self.log().contains("node is ready").then_some(())
        });
    }
}

/// The release binary: `STARWARD` names another.
pub fn binary() -> String {
    std::env::var("STARWARD")
        .unwrap_or_else(|_| concat!(env!("CARGO_MANIFEST_DIR"), "/../target/release/starward").to_owned())
}

/// The number in the line that begins with `label`, behind a colon.
pub fn number_of(text: &str, label: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.trim().split_once(':'));
    let (_, value) = lines.find(|(found, _)| found.trim_end() == label)?;
    value.trim().parse().ok()
}

/// The number behind `label:` in a text.
pub fn number(text: &str, label: &str) -> Option<u64> {
    let rest = text.split_once(&format!(" {label}:"))?.1;
    rest.split_whitespace().next()?.parse().ok()
}

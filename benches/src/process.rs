//! Programs started for a measurement.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// How many lines of a log an error quotes.
const QUOTED: usize = 2;
const POLL: Duration = Duration::from_millis(20);

/// A process that runs beside the measurement; ended when dropped, politely first.
pub struct Running {
    child: Child,
    name: String,
    log: PathBuf,
    patience: Duration,
}

impl Running {
    /// Starts `command` in a namespace, with standard output and error in the file `log`; it has `patience` to end on SIGTERM.
    pub fn start(
        namespace: &str,
        command: &[&str],
        environment: &[(&str, &str)],
        log: PathBuf,
        patience: Duration,
    ) -> Result<Self, String> {
        let program = Path::new(command.first().copied().unwrap_or_default());
        let name = program
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let file = || File::create(&log).map_err(|error| format!("{}: {error}", log.display()));
        let out = file()?;
        let err = out
            .try_clone()
            .map_err(|error| format!("{}: {error}", log.display()))?;
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(command)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .map_err(|error| format!("start {name}: {error}"))?;
        Ok(Self {
            child,
            name,
            log,
            patience,
        })
    }

    /// Process id. `ip netns exec` replaces itself, so this is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for its end, at most `limit`, and gives the JSON object on the last line that it printed.
    pub fn result(mut self, limit: Duration) -> Result<serde_json::Value, String> {
        let start = Instant::now();
        while !self.ended() {
            if start.elapsed() > limit {
                return Err(format!("{} did not end within {} s", self.name, limit.as_secs()));
            }
            sleep(POLL);
        }
        last_object(&self.log()).map_err(|_| format!("{} failed: {}", self.name, self.last_words()))
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Waits until `condition` holds, at most `limit`; an error quotes the log.
    pub fn wait_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut condition: impl FnMut(&Self) -> bool,
    ) -> Result<(), String> {
        let start = Instant::now();
        while !condition(self) {
            if self.ended() {
                return Err(format!("{} ended by itself: {}", self.name, self.last_words()));
            }
            if start.elapsed() > limit {
                return Err(format!(
                    "{} was not {what} within {} s: {}",
                    self.name,
                    limit.as_secs(),
                    self.last_words()
                ));
            }
            sleep(POLL);
        }
        Ok(())
    }

    fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
        lines
            .get(lines.len().saturating_sub(QUOTED)..)
            .unwrap_or(&[])
            .join(" | ")
    }

    fn ended(&mut self) -> bool {
        !matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.pid().cast_signed()), Signal::SIGTERM);
        let start = Instant::now();
        while !self.ended() && start.elapsed() < self.patience {
            sleep(POLL);
        }
        if !self.ended() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// The JSON object on the last line of a text.
pub fn last_object(text: &str) -> Result<serde_json::Value, String> {
    let last = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(last)
        .ok()
        .filter(serde_json::Value::is_object)
        .ok_or_else(|| format!("the last line '{last}' is no result"))
}

/// Runs a command to its end; an error says what it printed.
pub fn run(command: &[&str]) -> Result<(), String> {
    output(command).map(|_| ())
}

/// Runs a command in a namespace and returns its standard output; an error says what it printed.
pub fn output_in(namespace: &str, command: &[&str]) -> Result<String, String> {
    output(&[&["ip", "netns", "exec", namespace], command].concat())
}

/// Runs a command and returns its standard output; an error says what it printed.
pub fn output(command: &[&str]) -> Result<String, String> {
    output_with(command, &[])
}

/// Runs a command with additions to its environment and returns its standard output.
pub fn output_with(command: &[&str], environment: &[(&str, &str)]) -> Result<String, String> {
    let (program, arguments) = command.split_first().ok_or("an empty command")?;
    let output = Command::new(program)
        .args(arguments)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run {program}: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(text);
    }
    let words = format!("{text} {}", String::from_utf8_lossy(&output.stderr));
    let words: Vec<&str> = words
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    Err(format!("'{}' failed: {}", command.join(" "), words.join(" | ")))
}

/// What goes before a command that is to have one processor and no other.
pub fn pinned(cpu: Option<usize>) -> Vec<String> {
    cpu.map_or_else(Vec::new, |cpu| {
        ["taskset", "-c"]
            .map(str::to_owned)
            .into_iter()
            .chain([cpu.to_string()])
            .collect()
    })
}

/// Where a program is, in PATH.
pub fn find(program: &str) -> Result<PathBuf, String> {
    std::env::var_os("PATH")
        .iter()
        .flat_map(std::env::split_paths)
        .map(|folder| folder.join(program))
        .find(|path| Path::is_file(path))
        .ok_or_else(|| format!("{program} is missing: 'make deps' installs what is needed"))
}

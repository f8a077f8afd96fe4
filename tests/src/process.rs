//! Child processes that end with their scenario.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Nothing is measured by this: it is how long a scenario waits on a busy machine before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(120);
/// What a process gets to end by itself when its scenario is over.
const FAREWELL: Duration = Duration::from_secs(8);

/// A process started by a scenario; ended when dropped, politely first.
pub struct Running {
    child: Child,
    name: String,
    log: PathBuf,
}

impl Running {
    /// Starts `arguments` in namespace `namespace`, with standard output and error in `log`.
    pub fn start(namespace: &str, arguments: &[&str], environment: &[(&str, &str)], log: &Path) -> Self {
        let out = File::create(log).expect("log file");
        let child = Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(out.try_clone().expect("log file"))
            .stderr(out)
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {arguments:?}: {error}"));
        Self {
            child,
            name: arguments.first().copied().unwrap_or_default().to_owned(),
            log: log.to_owned(),
        }
    }

    /// Process id. `ip netns exec` replaces itself, so this is the program's own.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it printed so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Whether it has ended by itself.
    pub fn ended(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(Some(_)))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.pid().cast_signed()), signal);
    }

    /// Waits for its end; kills it when that does not come. Returns the exit status if it ended by itself.
    pub fn wait(&mut self) -> Option<std::process::ExitStatus> {
        self.wait_at_most(PATIENCE)
    }

    fn wait_at_most(&mut self, limit: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Some(status);
            }
            sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
        None
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended() {
            self.signal(nix::sys::signal::Signal::SIGTERM);
            if self.wait_at_most(FAREWELL).is_none() {
                eprintln!("{} did not end on SIGTERM and was killed", self.name);
            }
        }
        if std::thread::panicking() {
            let log = self.log();
            let tail: Vec<&str> = log.lines().rev().take(60).collect();
            eprintln!("---- last lines of {} ----", self.log.display());
            for line in tail.iter().rev() {
                eprintln!("{line}");
            }
        }
    }
}

/// Runs a command to its end and returns what it printed; fails the scenario when the command fails.
pub fn run(arguments: &[&str]) -> String {
    let (ok, text) = output(Command::new(arguments[0]).args(&arguments[1..]));
    assert!(ok, "{arguments:?} failed:\n{text}");
    text
}

/// Runs a command in a namespace; fails the scenario when the command fails.
pub fn run_in(namespace: &str, arguments: &[&str]) -> String {
    let (ok, text) = try_run_in(namespace, arguments, &[]);
    assert!(ok, "{arguments:?} in {namespace} failed:\n{text}");
    text
}

/// Runs a command in a namespace and returns whether it succeeded and what it printed.
pub fn try_run_in(namespace: &str, arguments: &[&str], environment: &[(&str, &str)]) -> (bool, String) {
    output(
        Command::new("ip")
            .args(["netns", "exec", namespace])
            .args(arguments)
            .envs(environment.iter().copied()),
    )
}

/// Polls `condition` until it gives something; fails the scenario with `what` when that does not come.
pub fn eventually<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        sleep(Duration::from_millis(50));
    }
}

fn output(command: &mut Command) -> (bool, String) {
    let output = command
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|error| panic!("cannot run {command:?}: {error}"));
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    (output.status.success(), text)
}

/// Whether a process has this file open (or mapped) now.
pub fn holds_open(pid: u32, file: &Path) -> bool {
    let name = file.to_string_lossy();
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let open = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|target| target == file));
    open || maps.contains(&*name)
}

/// Kills a process with signal 9.
pub fn kill(pid: u32) {
    let _ = nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(pid.cast_signed()),
        nix::sys::signal::Signal::SIGKILL,
    );
}

/// A program of this crate.
pub fn beside(name: &str) -> std::path::PathBuf {
    let mut path = std::env::current_exe().expect("own path");
    path.pop();
    if path.ends_with("deps") {
        path.pop();
    }
    path.join(name)
}

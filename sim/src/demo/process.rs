//! The processes of the demo. None outlives it, however it ends.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use netio::{Namespace, Signal};
use serde_json::Value;

use super::folder::Folder;
use super::interrupt::Interrupts;
use super::{Ended, News};

/// What the demo's gateway is configured with.
const CONFIGURATION: &str = include_str!("../../../examples/secgw.cfg");
const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);
/// How often it is looked whether something happened.
const GLANCE: Duration = Duration::from_millis(50);
/// What the demo shows of the gateway at its end.
const SHOWN: [&str; 5] = [
    "show version",
    "show task table",
    "show crypto managers",
    "show crypto ikev2-ikesa security-associations summary",
    "show crypto statistics ikev2",
];

/// Which part of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Name {
    Enodebs,
    Host,
}

/// A process of the simulator.
pub(super) struct Part {
    child: Child,
    input: Option<ChildStdin>,
}

impl Part {
    pub(super) fn start(
        namespace: &Namespace,
        name: Name,
        arguments: &[&str],
        news: &Sender<News>,
    ) -> Result<Self, String> {
        let mut command = own()?;
        command
            .arg("sim")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(namespace, command, Signal::SIGKILL)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let news = news.clone();
        std::thread::spawn(move || read(name, output, &news));
        Ok(Self { child, input })
    }

    /// Closes its standard input, which ends it.
    pub(super) fn tell_to_end(mut self) {
        self.input = None;
        self.reap();
    }

    /// Waits for its end.
    pub(super) fn reap(&mut self) {
        let _ = self.child.wait();
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn read(name: Name, output: Option<ChildStdout>, news: &Sender<News>) {
    for line in output
        .into_iter()
        .flat_map(|output| BufReader::new(output).lines())
        .map_while(Result::ok)
    {
        if let Ok(value) = serde_json::from_str::<Value>(&line) {
            let _ = news.send(News::Line(name, value));
        }
    }
    let _ = news.send(News::End(name));
}

/// The node under demonstration.
pub(super) struct Node {
    child: Child,
    interrupts: Interrupts,
}

impl Node {
    /// Starts it and waits until it says that it is ready, as a service manager would.
    pub(super) fn start(
        namespace: &Namespace,
        folder: &Folder,
        interrupts: &Interrupts,
    ) -> Result<Self, Ended> {
        let (configuration, socket) = (folder.configuration(), folder.notify());
        let wrong = |error| format!("{}: {error}", configuration.display());
        std::fs::write(&configuration, CONFIGURATION).map_err(wrong)?;
        let ready = UnixDatagram::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        ready
            .set_read_timeout(Some(GLANCE))
            .map_err(|error| error.to_string())?;
        let log = std::fs::File::create(folder.log()).map_err(|error| error.to_string())?;
        let mut command = own()?;
        command
            .arg("run")
            .arg("--config")
            .arg(&configuration)
            .arg("--run-dir")
            .arg(folder.run_dir())
            .arg("--state-dir")
            .arg(folder.state_dir())
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log);
        let mut node = Self {
            // Without the demo it stops in order.
            child: spawn(namespace, command, Signal::SIGTERM)?,
            interrupts: interrupts.clone(),
        };
        let deadline = Instant::now() + READY;
        let mut message = [0; 512];
        loop {
            if let Ok(length) = ready.recv(&mut message)
                && String::from_utf8_lossy(&message[..length])
                    .lines()
                    .any(|line| line == "READY=1")
            {
                return Ok(node);
            }
            if let Some(signal) = interrupts.first() {
                return Err(Ended::Interrupted(signal));
            }
            if matches!(node.child.try_wait(), Ok(Some(_))) {
                return Err(folder.last_words().into());
            }
            if Instant::now() > deadline {
                let text = format!(
                    "the gateway was not ready within {READY:?}\n{}",
                    folder.log_tail()
                );
                return Err(text.into());
            }
        }
    }

    /// Prints what the gateway itself shows.
    pub(super) fn show(&self, namespace: &Namespace, folder: &Folder) {
        let Ok(mut command) = own() else { return };
        command.arg("cli").arg("--run-dir").arg(folder.run_dir());
        for shown in SHOWN {
            command.args(["-c", shown]);
        }
        // Not a conversation: nobody is asked for the next page, and the terminal is not read from the background.
        command.stdin(Stdio::null());
        let Ok(mut child) = spawn(namespace, command, Signal::SIGKILL) else {
            return;
        };
        while matches!(child.try_wait(), Ok(None)) {
            if self.interrupts.first().is_some() {
                let _ = child.kill();
            }
            std::thread::sleep(GLANCE);
        }
    }

    /// Stops it in order; at once when the operator insists.
    pub(super) fn stop(&mut self) {
        self.terminate();
        let deadline = Instant::now() + STOP;
        let mut heard = self.interrupts.count();
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            if self.interrupts.count() > heard {
                heard = self.interrupts.count();
                self.terminate();
            }
            std::thread::sleep(GLANCE);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn terminate(&self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, Signal::SIGTERM);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.stop();
        }
    }
}

/// This very program.
fn own() -> Result<Command, String> {
    std::env::current_exe()
        .map(Command::new)
        .map_err(|error| format!("own executable: {error}"))
}

/// Starts a command in a namespace. It gets `signal` when the demo dies; Ctrl-C on the terminal is for the demo alone, which ends the others in order.
fn spawn(namespace: &Namespace, mut command: Command, signal: Signal) -> Result<Child, String> {
    command.process_group(0);
    netio::spawn_inside(command, namespace, signal).map_err(|error| error.to_string())
}

//! `starward demo`: the main job, from nothing, on one machine.

use std::io::{BufRead as _, BufReader};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitCode, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use clap::value_parser;
use netio::Namespace;
use serde_json::{Value, json};

use crate::packets::LENGTHS;
use crate::progress::{Counted, Tally};
use crate::screen::Screen;
use crate::world::{GATEWAY, HOST, PROTECTED, World};

/// What the demo's gateway is configured with.
const CONFIGURATION: &str = include_str!("../../examples/secgw.cfg");
/// The pre-shared key in that configuration: obviously not a secret.
const SHARED_KEY: &str = "demo-only-not-a-secret";
const READY: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(15);
/// Outer addresses of eNodeBs; more tunnels share them.
const MOST_ADDRESSES: usize = 100;
/// Inner addresses that the configuration of the demo leads to.
const MOST_TUNNELS: i64 = 100_000;
/// What the demo shows of the gateway at its end.
const SHOWN: [&str; 5] = [
    "show version",
    "show task table",
    "show crypto managers",
    "show crypto ikev2-ikesa security-associations summary",
    "show crypto statistics ikev2",
];

/// Ten simulated eNodeBs, a gateway, a host behind it, and live figures.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Number of tunnels
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=MOST_TUNNELS))]
    pub tunnels: u32,
    /// Seconds of traffic
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..))]
    pub duration: u64,
    /// Octets of an inner packet, with its headers
    #[arg(long, default_value_t = 1400, value_parser = value_parser!(u16).range(LENGTHS))]
    pub length: u16,
    /// Packets a second in all; without it as many as the windows allow
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Print nothing but one JSON object at the end
    #[arg(long)]
    pub json: bool,
    /// Run directory of the node; kept afterwards (default: a temporary one)
    #[arg(long)]
    pub run_dir: Option<PathBuf>,
}

impl Demo {
    /// Runs it. Must be called before any thread is started: an ordinary user gets a user namespace first.
    pub fn run(self) -> ExitCode {
        match self.play() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("starward demo: {error}");
                ExitCode::FAILURE
            }
        }
    }

    fn play(&self) -> Result<bool, String> {
        let mut screen = Screen::new(!self.json);
        if !netio::task::is_privileged() {
            netio::enter_user_namespace().map_err(|error| error.to_string())?;
            screen.say("no privilege: the demo runs in a user namespace");
        }
        netio::check_tun().map_err(|error| error.to_string())?;
        let folder = Folder::new(self.run_dir.clone())?;
        let world = World::build((self.tunnels as usize).min(MOST_ADDRESSES))?;
        screen.say("starting the gateway, one process for each job");
        let mut node = Node::start(&world.gateway, &folder)?;
        let result = self.traffic(&world, &mut screen);
        if result.is_ok() && !self.json {
            node.show(&world.gateway, &folder, &screen);
        }
        node.stop();
        let (tally, counted, elapsed) = result.map_err(|error| format!("{error}\n{}", folder.log_tail()))?;
        let lost = tally.packets_sent.saturating_sub(counted.packets)
            + counted.packets.saturating_sub(tally.packets_echoed);
        let fine = tally.tunnels_up == tally.tunnels_requested
            && tally.packets_sent == counted.packets
            && tally.packets_echoed == counted.packets
            && tally.errors.is_empty();
        let throughput = if tally.traffic_seconds > 0.0 {
            tally.bytes as f64 * 8.0 / tally.traffic_seconds / 1e6
        } else {
            0.0
        };
        if self.json {
            let object = json!({
                "tunnels_requested": tally.tunnels_requested,
                "tunnels_up": tally.tunnels_up,
                "setup_rate_per_s": tally.setup_rate(),
                "packets_sent": tally.packets_sent,
                "packets_received": counted.packets,
                "packets_echoed": tally.packets_echoed,
                "packets_lost": lost,
                "bytes": tally.bytes,
                "throughput_mbps": throughput,
                "elapsed_s": elapsed.as_secs_f64(),
                "errors": tally.errors,
            });
            println!("{object}");
        } else {
            screen.say(&format!(
                "\n{} of {} tunnels up, {:.0} set-ups/s, {:.2} Gbit/s",
                tally.tunnels_up,
                tally.tunnels_requested,
                tally.setup_rate(),
                throughput / 1e3
            ));
            screen.say(&format!(
                "packets: {} sent, {} at the host, {} echoed\npackets lost: {lost}",
                tally.packets_sent, counted.packets, tally.packets_echoed
            ));
            for error in &tally.errors {
                screen.say(&format!("error: {error}"));
            }
        }
        Ok(fine)
    }

    /// Runs host and eNodeBs; gives what they counted at the end.
    fn traffic(&self, world: &World, screen: &mut Screen) -> Result<(Tally, Counted, Duration), String> {
        let (lines, news) = channel();
        let listen = HOST.to_string();
        let host = Part::start(
            &world.core,
            Name::Host,
            &["host", "--listen", &listen, "--progress"],
            &lines,
        )?;
        let addresses: Vec<String> = world.enodebs.iter().map(ToString::to_string).collect();
        let mut arguments: Vec<String> = [
            ("gateway", GATEWAY.to_string()),
            ("local", addresses.join(",")),
            ("tunnels", self.tunnels.to_string()),
            ("psk", SHARED_KEY.to_owned()),
            ("protected", PROTECTED.to_owned()),
            ("host", HOST.to_string()),
            ("duration", self.duration.to_string()),
            ("length", self.length.to_string()),
        ]
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect();
        arguments.extend(self.rate.map(|rate| format!("--rate={rate}")));
        arguments.extend(["--progress".to_owned(), "--keep".to_owned()]);
        let mut all = vec!["enodebs"];
        all.extend(arguments.iter().map(String::as_str));
        let start = Instant::now();
        let mut enodebs = Part::start(&world.ran, Name::Enodebs, &all, &lines)?;
        drop(lines);
        let mut tally = Tally {
            tunnels_requested: u64::from(self.tunnels),
            ..Tally::default()
        };
        let mut counted = Counted::default();
        // Each part says its last word when it ends; the host ends when it is told to.
        let mut host = Some(host);
        while let Ok(news) = news.recv() {
            match news {
                News::Line(Name::Enodebs, value) => tally = Tally::from_json(&value),
                News::Line(Name::Host, value) => counted = Counted::from_json(&value),
                News::End(Name::Enodebs) => drop(host.take().map(Part::tell_to_end)),
                News::End(Name::Host) => break,
            }
            screen.show(&tally, counted);
        }
        screen.finish(&tally, counted);
        enodebs.reap();
        if tally.tunnels_up == 0 && tally.errors.is_empty() {
            return Err("the eNodeBs ended without a result".to_owned());
        }
        Ok((tally, counted, start.elapsed()))
    }
}

/// Which part of the demo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Name {
    Enodebs,
    Host,
}

/// What a part says.
enum News {
    Line(Name, Value),
    End(Name),
}

/// A process of the simulator.
struct Part {
    child: Child,
    input: Option<ChildStdin>,
}

impl Part {
    fn start(
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
        let mut child = spawn(namespace, command)?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let news = news.clone();
        std::thread::spawn(move || read(name, output, &news));
        Ok(Self { child, input })
    }

    /// Closes its standard input, which ends it.
    fn tell_to_end(mut self) {
        self.input = None;
        self.reap();
    }

    fn reap(&mut self) {
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
        if let Ok(value) = serde_json::from_str(&line) {
            let _ = news.send(News::Line(name, value));
        }
    }
    let _ = news.send(News::End(name));
}

/// The node under demonstration.
struct Node {
    child: Child,
}

impl Node {
    /// Starts it and waits until it says that it is ready, as a service manager would.
    fn start(namespace: &Namespace, folder: &Folder) -> Result<Self, String> {
        let configuration = folder.path.join("secgw.cfg");
        std::fs::write(&configuration, CONFIGURATION)
            .map_err(|error| format!("{}: {error}", configuration.display()))?;
        let socket = folder.path.join("notify");
        let ready = UnixDatagram::bind(&socket).map_err(|error| format!("{}: {error}", socket.display()))?;
        ready
            .set_read_timeout(Some(Duration::from_millis(200)))
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
            .arg(folder.path.join("state"))
            .env("NOTIFY_SOCKET", &socket)
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log);
        let mut node = Self {
            child: spawn(namespace, command)?,
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
            if matches!(node.child.try_wait(), Ok(Some(_))) {
                return Err(folder.last_words());
            }
            if Instant::now() > deadline {
                return Err(format!(
                    "the gateway was not ready within {READY:?}\n{}",
                    folder.log_tail()
                ));
            }
        }
    }

    /// Prints what the gateway itself shows.
    fn show(&self, namespace: &Namespace, folder: &Folder, screen: &Screen) {
        let Ok(mut command) = own() else { return };
        command.arg("cli").arg("--run-dir").arg(folder.run_dir());
        for shown in SHOWN {
            command.args(["-c", shown]);
        }
        screen.say("\nwhat the gateway says (starward cli):");
        if let Ok(mut child) = spawn(namespace, command) {
            let _ = child.wait();
        }
    }

    fn stop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().cast_signed());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let deadline = Instant::now() + STOP;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.stop();
        }
    }
}

/// Where the node of the demo keeps its things.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Folder {
    fn new(wanted: Option<PathBuf>) -> Result<Self, String> {
        let keep = wanted.is_some();
        let path = wanted
            .unwrap_or_else(|| std::env::temp_dir().join(format!("starward-demo-{}", std::process::id())));
        std::fs::create_dir_all(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(Self { path, keep })
    }

    fn run_dir(&self) -> PathBuf {
        self.path.join("run")
    }

    fn log(&self) -> PathBuf {
        self.path.join("node.log")
    }

    /// Why the node ended: its last line.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        let line = log.lines().rev().find(|line| !line.trim().is_empty());
        format!("the gateway did not start: {}", line.unwrap_or("it said nothing"))
    }

    /// The last lines of the node's log.
    fn log_tail(&self) -> String {
        tail(&self.log())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

fn tail(log: &Path) -> String {
    const LINES: usize = 20;
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

/// This very program.
fn own() -> Result<Command, String> {
    std::env::current_exe()
        .map(Command::new)
        .map_err(|error| format!("own executable: {error}"))
}

/// Starts a command in a namespace.
fn spawn(namespace: &Namespace, mut command: Command) -> Result<Child, String> {
    namespace
        .run(move || command.spawn())
        .map_err(|error| error.to_string())?
        .map_err(|error| format!("cannot start a process: {error}"))
}

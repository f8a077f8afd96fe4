//! `starward demo`: the main job, from nothing, on one machine.

mod folder;
mod interrupt;
mod process;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Instant;

use clap::value_parser;
use netio::Signal;
use serde_json::Value;

use self::folder::Folder;
pub(crate) use self::interrupt::Interrupts;
use self::process::{Name, Node, Part};
use self::report::Report;
use crate::packets::LENGTHS;
use crate::progress::{Counted, LONGEST, Tally, complain};
use crate::screen::{Screen, wrap};
use crate::world::{GATEWAY, HOST, PROTECTED, World};

/// The pre-shared key in that configuration: obviously not a secret.
const SHARED_KEY: &str = "demo-only-not-a-secret";
/// Outer addresses of eNodeBs; more tunnels share them.
const MOST_ADDRESSES: usize = 100;
/// Inner addresses that the configuration of the demo leads to.
const MOST_TUNNELS: i64 = 100_000;
/// Open files that the gateway needs at least.
const OPEN_FILES: u64 = 1024;

/// Ten simulated eNodeBs, a gateway, a host behind it, and live figures.
#[derive(Debug, clap::Args)]
pub struct Demo {
    /// Number of tunnels
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=MOST_TUNNELS))]
    pub tunnels: u32,
    /// Seconds of traffic
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u64).range(1..=LONGEST))]
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
    /// Run directory of the node; kept afterwards [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
}

impl Demo {
    /// Runs it. Must be called before any thread is started: an ordinary user gets a user namespace first.
    pub fn run(self) -> ExitCode {
        match self.play() {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(Ended::Failed(error)) => {
                complain(&format!("starward demo: {error}"));
                ExitCode::FAILURE
            }
            Err(Ended::Interrupted(signal)) => {
                // As any program whose reader has seen enough: nothing is left to say.
                if signal != Signal::SIGPIPE {
                    complain(&format!("starward demo: interrupted by {signal}"));
                }
                ExitCode::from(128_u8.saturating_add(signal as u8))
            }
        }
    }

    fn play(&self) -> Result<bool, Ended> {
        let is_privileged = netio::task::is_privileged();
        if !is_privileged {
            netio::enter_user_namespace().map_err(|error| error.to_string())?;
        }
        netio::check_tun().map_err(|error| error.to_string())?;
        let files = netio::task::raise_open_files(OPEN_FILES).map_err(|error| error.to_string())?;
        if files < OPEN_FILES {
            return Err(
                format!("only {files} open files allowed, {OPEN_FILES} are needed (ulimit -n)").into(),
            );
        }
        let (tell, news) = channel();
        let interrupts = Interrupts::default();
        let teller = tell.clone();
        interrupts.listen(move || drop(teller.send(News::Interrupt)))?;
        let mut screen = Screen::new(!self.json, interrupts.clone());
        if !is_privileged {
            screen.say("no privilege: the demo runs in a user namespace");
        }
        let folder = Folder::new(self.run_dir.as_deref())?;
        let world = World::build((self.tunnels as usize).min(MOST_ADDRESSES))?;
        screen.say("starting the gateway, one process for each job");
        screen.note(&format!("run directory: {}", folder.run_dir().display()));
        let mut node = Node::start(&world.gateway, &folder, &interrupts)?;
        for missing in folder.missing() {
            screen.note(&wrap(&missing));
        }
        screen.say("ready; meanwhile its shell is: starward cli --run-dir DIRECTORY");
        let result = self.traffic(&world, &mut screen, &tell, &news);
        if result.is_ok() && !self.json && !screen.is_over() {
            screen.say("\nwhat the gateway says (starward cli):");
            node.show(&world.gateway, &folder);
        }
        node.stop();
        if let Some(signal) = interrupts.first() {
            return Err(Ended::Interrupted(signal));
        }
        let report = result.map_err(|error| format!("{error}\n{}", folder.log_tail()))?;
        if self.json {
            screen.result(&report.to_json())?;
        } else {
            screen.say("");
            report.lines().iter().for_each(|line| screen.say(line));
        }
        // The reader may have gone before the last line.
        match interrupts.first() {
            Some(signal) => Err(Ended::Interrupted(signal)),
            None => Ok(report.is_fine()),
        }
    }

    /// Runs host and eNodeBs; gives what they counted at the end, or so far when the demo is interrupted.
    fn traffic(
        &self,
        world: &World,
        screen: &mut Screen,
        tell: &Sender<News>,
        news: &Receiver<News>,
    ) -> Result<Report, String> {
        let listen = HOST.to_string();
        let arguments = ["host", "--listen", &listen, "--progress"];
        let mut host = Some(Part::start(&world.core, Name::Host, &arguments, tell)?);
        let arguments = self.enodebs(world);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let start = Instant::now();
        let mut enodebs = Part::start(&world.ran, Name::Enodebs, &arguments, tell)?;
        let mut report = Report::default();
        // Each part says its last word when it ends; the host ends when it is told to.
        while let Ok(news) = news.recv()
            && !screen.is_over()
        {
            match news {
                News::Line(Name::Enodebs, value) => report.tally = Tally::from_json(&value),
                News::Line(Name::Host, value) => report.counted = Counted::from_json(&value),
                News::End(Name::Enodebs) => drop(host.take().map(Part::tell_to_end)),
                News::End(Name::Host) if host.is_some() => return Err("the host ended by itself".to_owned()),
                News::End(Name::Host) => {
                    enodebs.reap();
                    break;
                }
                News::Interrupt => {}
            }
            screen.show(&report.tally, report.counted);
        }
        if report.tally.tunnels_requested == 0 && !screen.is_over() {
            return Err("the eNodeBs ended without a result".to_owned());
        }
        screen.finish(&report.tally, report.counted);
        report.elapsed = start.elapsed();
        Ok(report)
    }

    /// Arguments of the eNodeBs.
    fn enodebs(&self, world: &World) -> Vec<String> {
        let addresses: Vec<String> = world.enodebs.iter().map(ToString::to_string).collect();
        let named = [
            ("gateway", GATEWAY.to_string()),
            ("local", addresses.join(",")),
            ("tunnels", self.tunnels.to_string()),
            ("psk", SHARED_KEY.to_owned()),
            ("protected", PROTECTED.to_owned()),
            ("host", HOST.to_string()),
            ("duration", self.duration.to_string()),
            ("length", self.length.to_string()),
        ];
        let mut arguments = vec!["enodebs".to_owned()];
        arguments.extend(named.iter().map(|(name, value)| format!("--{name}={value}")));
        arguments.extend(self.rate.map(|rate| format!("--rate={rate}")));
        arguments.extend(["--progress".to_owned(), "--keep".to_owned()]);
        arguments
    }
}

/// What a part says, or the operator.
enum News {
    Line(Name, Value),
    End(Name),
    Interrupt,
}

/// Why there is no result.
enum Ended {
    Failed(String),
    Interrupted(Signal),
}

impl From<String> for Ended {
    fn from(error: String) -> Self {
        Self::Failed(error)
    }
}

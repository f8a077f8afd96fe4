//! The start of a child process.

use std::fmt::Display;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bus::frame::Kind;
use bus::link::Links;
use bus::messages::common::{Notice, Parameter};
use bus::messages::sit::{CONTROL_VERSION, OLDEST_CONTROL_VERSION, TaskStarted, Welcome};
use bus::{Address, Bus, Facility, Heard, Message, Sockets};
use netio::ControlSocket;
use telemetry::Counters;
use telemetry::events::Record;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::channel::{Channel, found};
use crate::error::Error;
use crate::hardening::{Confinement, confine, harden};
use crate::protection::{COUNTERS, Directories};
use crate::shutdown::Shutdown;
use crate::sit::Sit;
use crate::{Task, logging};

const WELCOME_DEADLINE: Duration = Duration::from_secs(5);
/// Grace of a SIGTERM, which does not say any.
const TERM_GRACE: Duration = Duration::from_secs(5);
/// For what a task has said on the bus to leave, before its successor takes its place.
const LAST_WORDS: Duration = Duration::from_millis(10);
/// Exit status of a task that could not start, or whose `run` failed.
const FAILED: u8 = 1;
/// Exit status of a task that panicked, as Rust has it.
const PANICKED: u8 = 101;

/// What the body of a task may return.
pub trait Outcome {
    /// Why it failed, if it did.
    fn failure(self) -> Option<String>;
}

impl Outcome for () {
    fn failure(self) -> Option<String> {
        None
    }
}

impl<E: Display> Outcome for Result<(), E> {
    fn failure(self) -> Option<String> {
        self.err().map(|error| error.to_string())
    }
}

/// The whole life of a child process: gives up privileges, meets `sit` on descriptor 3, gives up what its facility does not need, opens bus and counters, and runs `run` until it
/// returns. Everything runs on one thread. A panic or a failure is one line in the log and an exit status other than 0.
pub fn main<R, F>(facility: Facility, instance: u32, run: R) -> ExitCode
where
    R: FnOnce(Task) -> F,
    F: Future<Output: Outcome>,
{
    let address = Address::new(facility, instance);
    logging::start(address.to_string());
    log_panics();
    netio::task::set_name(&address.to_string());
    let unprotected = harden(facility);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return ExitCode::from(FAILED);
        }
    };
    let life: Result<(), String> = runtime.block_on(async {
        let task = start(address, unprotected)
            .await
            .map_err(|error| format!("cannot start: {error}"))?;
        let shutdown = task.shutdown.clone();
        let failure = run(task).await.failure();
        if shutdown.hands_over() {
            // Answers and events are on their way out.
            sleep(LAST_WORDS).await;
        }
        failure.map_or(Ok(()), Err)
    });
    // What runs on other threads does not hold up the end.
    runtime.shutdown_background();
    match life {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            tracing::error!("{failure}");
            ExitCode::from(FAILED)
        }
    }
}

/// A panic is one line of the log. One in a tokio task, which tokio would swallow, ends the process as well: half a manager is worse than a
/// fresh one.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload
            .downcast_ref::<&str>()
            .copied()
            .or_else(|| payload.downcast_ref::<String>().map(String::as_str))
            .unwrap_or("(no text)");
        let place = panic
            .location()
            .map_or_else(String::new, |place| format!(" at {place}"));
        tracing::error!("panic{place}: {}", text.replace('\n', " "));
        std::process::exit(PANICKED.into());
    }));
}

async fn start(address: Address, unprotected: Vec<String>) -> Result<Task, Error> {
    let channel = Channel::new(ControlSocket::inherited().map_err(Error::Control)?)?;
    let (welcome, sockets) =
        timeout(WELCOME_DEADLINE, welcome(&channel))
            .await
            .map_err(|_| Error::Timeout {
                request: Welcome::NAME,
            })??;
    let own = welcome.processor.as_slice();
    let processors = if own.is_empty() {
        &welcome.near_processors
    } else {
        own
    };
    let processors: Vec<usize> = processors.iter().map(|cpu| *cpu as usize).collect();
    if !processors.is_empty()
        && let Err(error) = netio::task::stay_on_cpus(&processors)
    {
        tracing::warn!("{error}");
    }
    let run_dir = PathBuf::from(&welcome.run_dir);
    let directories = Directories {
        run: &run_dir,
        state: Path::new(&welcome.state_dir),
        boot_config: Path::new(&welcome.boot_config),
    };
    let mut confinement = confine(address.facility, directories);
    confinement.missing.splice(..0, unprotected);
    let (bus, server) = Bus::open_on(&run_dir, address, sockets)
        .await
        .map_err(Error::Bus)?;
    let directory = directories.path(COUNTERS);
    let counters = Counters::open(&directory, address.facility.name(), address.instance)
        .map_err(|source| Error::Counters { directory, source })?;
    let shutdown = Shutdown::new();
    watch_signals(&shutdown)?;
    publish_events(&bus);
    tokio::spawn(follow_starts(bus.clone()));
    Ok(assemble(
        address,
        welcome,
        channel,
        confinement,
        (bus, server),
        counters,
        shutdown,
    ))
}

/// Puts a task together and starts to read the control socket.
pub(crate) fn assemble(
    address: Address,
    welcome: Welcome,
    channel: Channel,
    mut confinement: Confinement,
    (bus, server): (Bus, bus::Server),
    counters: Counters,
    shutdown: Shutdown,
) -> Task {
    let (links, link_server) = Links::new(address);
    confinement.missing.extend(welcome.unprotected);
    let sit = Sit::new(address, channel, confinement);
    tokio::spawn(sit.clone().listen(links.clone(), shutdown.clone(), bus.leaving()));
    Task {
        address,
        workers: welcome.workers,
        run_dir: welcome.run_dir.into(),
        state_dir: welcome.state_dir.into(),
        boot_config: welcome.boot_config.into(),
        context: welcome.context,
        lives: welcome.lives,
        bus,
        server,
        links,
        link_server,
        sit,
        counters,
        shutdown,
    }
}

/// The first message, with the listening sockets of the bus.
async fn welcome(channel: &Channel) -> Result<(Welcome, Sockets), Error> {
    let packet = channel.receive().await?.ok_or(Error::Closed)?;
    let protocol = |found: String| Error::Protocol {
        expected: Welcome::NAME,
        found,
    };
    if packet.header.kind != Kind::Event || packet.header.message != Welcome::TYPE {
        return Err(protocol(found(&packet)));
    }
    let welcome = packet.decode::<Welcome>().map_err(protocol)?;
    if !(OLDEST_CONTROL_VERSION..=CONTROL_VERSION).contains(&welcome.control_version) {
        let found = format!(
            "version {} of the control protocol, ours are {OLDEST_CONTROL_VERSION} to {CONTROL_VERSION}",
            welcome.control_version
        );
        return Err(protocol(found));
    }
    let count = packet.fds.len();
    let [requests, events] = <[OwnedFd; 2]>::try_from(packet.fds)
        .map_err(|_| protocol(format!("{count} sockets of the bus instead of 2")))?;
    let sockets = Sockets {
        requests: requests.into(),
        events: events.into(),
    };
    Ok((welcome, sockets))
}

/// SIGTERM ends the task. SIGINT is for `sit` (a terminal sends it to all of us), which then tells us.
fn watch_signals(shutdown: &Shutdown) -> Result<(), Error> {
    let mut term = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = term.recv() => shutdown.request(TERM_GRACE),
                _ = interrupt.recv() => {}
                _ = hangup.recv() => {}
            }
        }
    });
    Ok(())
}

/// Publishes the events that this process emits as notices. ([`main`] does it for children; `sit` calls it itself.)
pub fn publish_events(bus: &Bus) {
    let bus = bus.clone();
    telemetry::events::install(Arc::new(move |record: Record| {
        let time = record
            .time
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_millis();
        bus.publish(&Notice {
            event: record.event.id.to_owned(),
            time: u64::try_from(time).unwrap_or(u64::MAX),
            text: record.text,
            fields: record
                .fields
                .into_iter()
                .map(|(name, value)| Parameter {
                    name: name.to_owned(),
                    value,
                })
                .collect(),
        });
    }));
}

/// Connections that back off hear from `sit` when their other end is back.
async fn follow_starts(bus: Bus) {
    let mut starts = bus.subscribe::<TaskStarted>();
    starts.follow(Address::only(Facility::Sit));
    loop {
        if let Heard::Event(_, started) = starts.next().await
            && let Some(address) = started.address()
        {
            bus.note_started(address);
        }
    }
}

//! Small UDP packets at a given rate: source, sink, and the search for the highest rate that gets through.

use std::net::{Ipv4Addr, SocketAddr};
use std::thread::sleep;
use std::time::{Duration, Instant};

use netio::{Datagram, DatagramSocket, Poller, ReceiveBatch, SendBatch, SocketOptions};

use crate::process::{Running, output_in};
use crate::world::{FIRST_INNER, HOST, World};

const PORT: u16 = 5401;
/// Octets of UDP payload.
const PAYLOAD: usize = 64;
/// Datagrams handed to the kernel at once: a burst of a tenth of a millisecond at 320 kpps.
const BURST: usize = 32;
const BATCH: usize = 64;
const SECONDS: u32 = 1;
/// The sink stops when nothing came for so long.
const QUIET: Duration = Duration::from_millis(300);
/// What may be lost.
const LOSS: f64 = 0.01;
/// The rates tried are LOWEST * STEP^n for n below STEPS: 10 to 400 kpps, 5 % apart.
const LOWEST: f64 = 10_000.0;
const STEP: f64 = 1.05;
const STEPS: u32 = 76;

/// One end of the stream.
#[derive(Debug, clap::Subcommand)]
pub enum Blast {
    /// Sends at `rate` packets a second and prints how many were sent
    Send { rate: u64 },
    /// Prints how many packets came
    Receive,
}

impl Blast {
    /// Runs it to its end.
    pub fn run(&self) -> Result<(), String> {
        let count = match self {
            Self::Send { rate } => send(*rate)?,
            Self::Receive => receive()?,
        };
        println!("{count}");
        Ok(())
    }
}

/// The highest rate of 64-octet datagrams, in packets a second, of which no more than 1 % is lost between the far end of the tunnel and
/// the host: as counted by the host, while the source really kept that rate.
pub fn highest_rate(world: &World) -> Result<f64, String> {
    let mut best = None;
    let (mut passes, mut fails) = (0, STEPS);
    // Invariant of the bisection: lower than `passes` is known to pass (or not tried), `fails` and higher is known to fail.
    while passes < fails {
        let middle = passes.midpoint(fails);
        let rate = LOWEST * STEP.powf(f64::from(middle));
        // Other work on the machine may spoil one attempt: a rate fails when it fails twice.
        let arrived = match attempt(world, rate)? {
            None => attempt(world, rate)?,
            arrived => arrived,
        };
        match arrived {
            Some(arrived) => {
                best = Some(arrived);
                passes = middle + 1;
            }
            None => fails = middle,
        }
    }
    best.ok_or_else(|| format!("more than 1 % is lost at {LOWEST} packets a second already"))
}

/// The rate at which packets arrived, if enough did.
fn attempt(world: &World, rate: f64) -> Result<Option<f64>, String> {
    let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let program = program.display().to_string();
    let mut sink = Running::start(
        &world.host(),
        &[&program, "blast", "receive"],
        &[],
        world.folder().join("sink.log"),
        QUIET,
    )?;
    sink.wait_until("listening", Duration::from_secs(5), |sink| {
        sink.log().contains("listening")
    })?;
    let rate_text = format!("{rate:.0}");
    let sent = output_in(&world.ran(), &[&program, "blast", "send", &rate_text])?;
    let sent: f64 = sent
        .trim()
        .parse()
        .map_err(|_| format!("the source said '{sent}'"))?;
    let mut arrived = None;
    sink.wait_until("finished", Duration::from_secs(10), |sink| {
        arrived = sink
            .log()
            .lines()
            .nth(1)
            .and_then(|line| line.parse::<f64>().ok());
        arrived.is_some()
    })?;
    let (arrived, wanted) = (arrived.unwrap_or_default(), rate * f64::from(SECONDS));
    Ok((sent >= wanted * (1.0 - LOSS) && arrived >= sent * (1.0 - LOSS))
        .then_some(arrived / f64::from(SECONDS)))
}

fn send(rate: u64) -> Result<u64, String> {
    let source = SocketAddr::new(address(FIRST_INNER)?.into(), 0);
    let destination = SocketAddr::new(address(HOST)?.into(), PORT);
    let socket =
        DatagramSocket::bind_udp(source, SocketOptions::default()).map_err(|error| error.to_string())?;
    let payload = [0; PAYLOAD];
    let burst = [Datagram::to(destination, &payload); BURST];
    let mut batch = SendBatch::new(BURST);
    let (mut sent, start) = (0u64, Instant::now());
    loop {
        let elapsed = start.elapsed().as_secs_f64();
        if elapsed >= f64::from(SECONDS) {
            return Ok(sent);
        }
        let due = (elapsed * rate as f64) as u64;
        let count = usize::try_from(due.saturating_sub(sent))
            .unwrap_or(BURST)
            .min(BURST);
        if count == 0 {
            sleep(Duration::from_micros(20));
            continue;
        }
        sent += match batch.send(&socket, burst.get(..count).unwrap_or(&burst)) {
            Ok(()) => count as u64,
            // No room in the kernel: the network has lost the rest of this burst.
            Err(stopped) => stopped.sent as u64,
        };
    }
}

fn receive() -> Result<u64, String> {
    let local = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), PORT);
    let socket =
        DatagramSocket::bind_udp(local, SocketOptions::default()).map_err(|error| error.to_string())?;
    let mut poller = Poller::new(1).map_err(|error| error.to_string())?;
    poller.add(&socket, 0).map_err(|error| error.to_string())?;
    println!("listening");
    let mut batch = ReceiveBatch::new(BATCH, 2048);
    let (mut count, mut last) = (0, Instant::now());
    let patience = |count| if count == 0 { Duration::from_secs(3) } else { QUIET };
    while last.elapsed() < patience(count) {
        // An interrupted wait is a short one.
        let _ = poller.wait(Some(QUIET)).map(Iterator::count);
        while let Ok(received) = batch.receive(&socket) {
            count += received as u64;
            last = Instant::now();
        }
    }
    Ok(count)
}

fn address(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| format!("'{text}' is no IPv4 address"))
}

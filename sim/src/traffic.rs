//! `starward sim traffic`, `starward sim stream` and `starward sim far`: packets through tunnels, counted and timed at both ends.
//!
//! ```text
//!   sim traffic: tunnels of the simulator's own ──┐
//!   sim stream: ordinary sockets ── any tunnel ───┴──  the gateway  ──  sim far: ordinary sockets
//! ```
//!
//! Every packet has a number within its flow and the time it was sent, so the receiving end knows what is missing, late, double, and how long it took.

mod account;
mod far;
mod mix;
mod near;
mod ports;
mod search;
mod sender;
mod tunnels;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use clap::value_parser;
use serde_json::{Value, json};

pub use self::far::Far;
pub use self::mix::Mix;
pub use self::near::Direction;
use self::near::{Arrived, Near, greet, measure};
use self::ports::Ports;
use self::search::highest;
use self::sender::{Size, Stream};
use self::tunnels::Tunnels;
use self::wire::{MARK, read};
use crate::fleet::MOST_PEERS;
use crate::histogram::line;
use crate::packets::HEADERS;
use crate::peers::Peers;
use crate::progress::{print, tell};

/// The first port of both ends.
const PORT: u16 = 5400;
/// Flows of a measurement at most.
const MOST_FLOWS: usize = 1 << 20;
/// Octets of inner packets: room for the mark, and sealed with AES-GCM and in UDP not longer than 1500.
const LENGTHS: std::ops::RangeInclusive<i64> = (HEADERS + MARK) as i64..=1438;

/// Traffic through simulated tunnels.
#[derive(Debug, clap::Args)]
pub struct Traffic {
    /// Who the peers are
    #[command(flatten)]
    pub peers: Peers,
    /// Number of tunnels
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u32).range(1..MOST_PEERS))]
    pub tunnels: u32,
    /// Flows of each tunnel
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=1024))]
    pub flows: u16,
    /// What is sent
    #[command(flatten)]
    pub shape: Shape,
    /// Leave the tunnels up at the end
    #[arg(long)]
    pub keep: bool,
}

/// Traffic of ordinary sockets, to wherever the system routes it: through a tunnel of somebody else.
#[derive(Debug, clap::Args)]
pub struct Plain {
    /// Local address
    #[arg(long)]
    pub local: IpAddr,
    /// Number of flows
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=1024))]
    pub flows: u16,
    /// What is sent
    #[command(flatten)]
    pub shape: Shape,
}

/// What is sent, and how fast.
#[derive(Debug, Clone, clap::Args)]
pub struct Shape {
    /// Address of the far end
    #[arg(long)]
    pub far: IpAddr,
    /// First port of the far end
    #[arg(long, default_value_t = PORT)]
    pub far_port: u16,
    /// Octets of an inner packet, with its headers
    #[arg(long, default_value_t = 1400, value_parser = value_parser!(u16).range(LENGTHS))]
    pub length: u16,
    /// Lengths of this mobile mix instead
    #[arg(long, value_enum, conflicts_with = "length")]
    pub mix: Option<Mix>,
    /// Packets of one flow and one length that are sent in one piece (GSO)
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u16).range(1..=44))]
    pub burst: u16,
    /// Packets a second in each direction; without it as many as go
    #[arg(long, value_parser = value_parser!(u64).range(1..=100_000_000))]
    pub rate: Option<u64>,
    /// Find the highest rate at which no larger part than this is lost, e.g. 0.01
    #[arg(long, value_parser = part, conflicts_with = "rate")]
    pub loss: Option<f64>,
    /// Where to begin to search
    #[arg(long, requires = "loss", value_parser = value_parser!(u64).range(1..=100_000_000))]
    pub around: Option<u64>,
    /// Which way
    #[arg(long, value_enum, default_value_t = Direction::Up)]
    pub direction: Direction,
    /// Milliseconds of traffic, of each attempt of a search
    #[arg(long, default_value_t = 5000, value_parser = value_parser!(u64).range(10..=3_600_000))]
    pub ms: u64,
}

impl Traffic {
    /// Runs to the end; true if there is a result.
    pub(crate) fn run(self) -> Result<bool, String> {
        let (SocketAddr::V4(far), IpAddr::V4(_)) = (
            SocketAddr::new(self.shape.far, self.shape.far_port),
            self.shape.far,
        ) else {
            return Err("inner addresses are IPv4: so must the far end's be".to_owned());
        };
        let tunnels = usize::try_from(self.tunnels).unwrap_or(usize::MAX);
        let flows = tunnels.saturating_mul(self.flows.into());
        if flows > MOST_FLOWS {
            return Err(format!("{flows} flows are too many: at most {MOST_FLOWS}"));
        }
        let mut near = Tunnels::open(self.peers, tunnels, flows, far)?;
        tell(&format!("{tunnels} tunnels up"));
        let result = self.shape.measure(&mut near);
        let lost = near.lost();
        if !self.keep {
            near.farewell()?;
        }
        let mut result = result?;
        result["tunnels"] = json!(tunnels);
        result["tunnels_lost"] = json!(lost);
        print(&result);
        Ok(true)
    }
}

impl Plain {
    /// Runs to the end; true if there is a result.
    pub(crate) fn run(self) -> Result<bool, String> {
        let mut near = Ports::bind(self.local, PORT, self.flows)?;
        near.destinations = (0..self.flows)
            .map(|flow| {
                Some(SocketAddr::new(
                    self.shape.far,
                    self.shape.far_port.wrapping_add(flow),
                ))
            })
            .collect();
        let result = self.shape.measure(&mut near)?;
        print(&result);
        Ok(true)
    }
}

impl Shape {
    fn measure(&self, near: &mut impl Near) -> Result<Value, String> {
        greet(near)?;
        tell("flowing");
        let mut run = std::process::id();
        let mut attempt = |rate: Option<u64>| {
            run = run.wrapping_add(1);
            let stream = Stream {
                run,
                flows: u32::try_from(near.flows()).unwrap_or(u32::MAX),
                size: self.mix.map_or(Size::Fixed(self.length), Size::Mixed),
                burst: self.burst,
                rate,
                time: Duration::from_millis(self.ms),
            };
            let mut result = measure(near, stream, self.direction)?;
            result["offered_per_s"] = json!(rate);
            Ok(result)
        };
        let result = match self.loss {
            None => attempt(self.rate)?,
            Some(loss) => highest(loss, self.around, Duration::from_millis(self.ms), |rate| {
                attempt(Some(rate))
            })?,
        };
        for direction in ["up", "down"] {
            if let Some(one) = result.get(direction) {
                describe(direction, one).iter().for_each(|text| tell(text));
            }
        }
        Ok(result)
    }
}

impl Near for Ports {
    fn flows(&self) -> usize {
        self.destinations.len()
    }

    fn say(&mut self, flow: usize, payload: &[u8]) -> Result<(), String> {
        if let Some(destination) = self.destinations.get(flow).copied().flatten() {
            Ports::say(self, payload, destination, flow);
        }
        Ok(())
    }

    fn receive(&mut self, timeout: Duration, take: &mut dyn FnMut(Arrived)) -> Result<(), String> {
        Ports::receive(self, timeout, |payload, _, _, time| {
            if let Some(message) = read(payload) {
                take(Arrived {
                    message,
                    length: payload.len() + HEADERS,
                    time,
                });
            }
        })
    }
}

/// A direction for people.
fn describe(direction: &str, one: &Value) -> Vec<String> {
    let number = |name: &str| one[name].as_f64().unwrap_or_default();
    if one["received"].is_null() {
        return vec![format!(
            "{direction}: {} sent; the other end could not be asked",
            one["sent"]
        )];
    }
    vec![
        format!(
            "{direction}: {:.0} packets/s, {:.1} Mbit/s, {} of {} lost ({:.3} %), {} late, {} double, longest gap {:.1} ms",
            number("packets_per_s"),
            number("bits_per_s") / 1e6,
            one["lost"],
            one["sent"],
            number("loss") * 100.0,
            one["reordered"],
            one["duplicates"],
            number("longest_gap_us") / 1000.0,
        ),
        format!("{direction}: one way: {}", line(&one["latency_us"])),
    ]
}

/// A part of a whole.
fn part(text: &str) -> Result<f64, String> {
    let part = text.parse().ok().filter(|part| (0.0..1.0).contains(part));
    part.ok_or_else(|| "not between 0 and 1".to_owned())
}

//! `starward sim enodebs`: many eNodeBs in one process.

mod outputs;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use clap::value_parser;
use crypto::{Secret, SystemRandom};
use ikev2::{Action, Engine, EngineConfig, IkeSaId};
use ipnet::IpNet;

use crate::initiator::{Common, Memory, profile};
use crate::offer::Offer;
use crate::packets::LENGTHS;
use crate::progress::{LONGEST, Reporter, Tally, print};
use crate::sockets::{Arrived, Sockets};
use crate::tunnel::Tunnel;

/// Packets may be on their way for so long after the last one was sent.
const LINGER: Duration = Duration::from_millis(1500);
/// Checks whether tunnels are up are over within this time, even when the gateway is gone and other requests are under way.
const SILENCE: Duration = Duration::from_secs(40);
/// Deletes are answered within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(3);

/// Simulated eNodeBs.
#[derive(Debug, clap::Args)]
pub struct Enodebs {
    /// Address of the gateway
    #[arg(long)]
    pub gateway: IpAddr,
    /// Local outer addresses; tunnels are spread over them
    #[arg(long, required = true, value_delimiter = ',')]
    pub local: Vec<IpAddr>,
    /// Number of tunnels
    #[arg(long, default_value_t = 10)]
    pub tunnels: usize,
    /// Pre-shared key of every tunnel
    #[arg(long)]
    pub psk: String,
    /// Algorithms
    #[command(flatten)]
    pub offer: Offer,
    /// Set-ups under way at a time
    #[arg(long, default_value_t = 50)]
    pub concurrent: usize,
    /// Identities are PREFIXn.sim.test
    #[arg(long, default_value = "enb")]
    pub identity_prefix: String,
    /// Ask for an inner address instead of bringing one
    #[arg(long)]
    pub ask_for_address: bool,
    /// First inner address
    #[arg(long, default_value = "10.64.0.1")]
    pub inner: Ipv4Addr,
    /// Network behind the gateway
    #[arg(long, default_value = "172.16.0.0/24")]
    pub protected: IpNet,
    /// Echo host behind the gateway; without one only tunnels are set up
    #[arg(long)]
    pub host: Option<Ipv4Addr>,
    /// Seconds of traffic, or to hold the tunnels
    #[arg(long, default_value_t = 5, value_parser = value_parser!(u64).range(0..=LONGEST))]
    pub duration: u64,
    /// Octets of an inner packet, with its headers
    #[arg(long, default_value_t = 1400, value_parser = value_parser!(u16).range(LENGTHS))]
    pub length: u16,
    /// Packets a second in all; without it as many as the windows allow
    #[arg(long, value_parser = value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Packets of a tunnel that may await their echo
    #[arg(long, default_value_t = 64, value_parser = value_parser!(u64).range(1..))]
    pub window: u64,
    /// Packets of all tunnels together that may await their echo: what queues on the way have room for
    #[arg(long, default_value_t = 1024, value_parser = value_parser!(u64).range(1..))]
    pub total_window: u64,
    /// Leave the tunnels up at the end
    #[arg(long)]
    pub keep: bool,
    /// Print progress as JSON lines
    #[arg(long)]
    pub progress: bool,
}

impl Enodebs {
    /// Runs to the end; true if nothing failed and nothing was lost.
    pub(crate) fn run(self) -> Result<bool, String> {
        let common = Common {
            secret: Secret::new(self.psk.clone().into_bytes()),
            offer: self.offer.clone(),
            protected: self.protected,
            asks_for_address: self.ask_for_address,
            fakes_nat: true,
            identity_prefix: self.identity_prefix.clone(),
        };
        let sockets = Sockets::bind(&self.local).map_err(|error| error.to_string())?;
        let mut world = World {
            engine: Engine::new(
                EngineConfig {
                    slots: vec![1],
                    max_ike_sas: 1 << 22,
                    ..EngineConfig::default()
                },
                Box::new(SystemRandom),
            ),
            memory: Memory::default(),
            sockets,
            tunnels: Vec::new(),
            turn: 0,
            by_spi: HashMap::new(),
            by_ike: HashMap::new(),
            checked: 0,
            tally: Tally {
                tunnels_requested: self.tunnels as u64,
                ..Tally::default()
            },
            common,
            options: self,
        };
        let mut reporter = Reporter::new(world.options.progress);
        world.set_up(&mut reporter)?;
        world.flow(&mut reporter)?;
        // Without time in between none can have been lost, and a measurement of set-ups is not to count checks.
        if world.options.duration > 0 {
            world.check()?;
        }
        if !world.options.keep {
            world.farewell()?;
        }
        print(&world.tally.to_json());
        let tally = &world.tally;
        Ok(tally.tunnels_up == tally.tunnels_requested
            && tally.packets_sent == tally.packets_echoed
            && tally.errors.is_empty())
    }
}

struct World {
    options: Enodebs,
    common: Common,
    engine: Engine,
    memory: Memory,
    sockets: Sockets,
    tunnels: Vec<Tunnel>,
    /// The tunnel that sends first in the next round, so that all get their share.
    turn: usize,
    /// Inbound SPI to tunnel.
    by_spi: HashMap<u32, usize>,
    /// IKE SA to the number of the eNodeB, while it is set up and afterwards.
    by_ike: HashMap<IkeSaId, usize>,
    /// Liveness checks that are over.
    checked: usize,
    tally: Tally,
}

impl World {
    /// Sets up every tunnel, or finds out that it cannot be.
    fn set_up(&mut self, reporter: &mut Reporter) -> Result<(), String> {
        let start = Instant::now();
        let mut next = 0;
        while self.done() < self.options.tunnels {
            while next < self.options.tunnels && next - self.done() < self.options.concurrent.max(1) {
                self.initiate(next)?;
                next += 1;
            }
            self.step(Duration::from_millis(20))?;
            self.tally.setup_seconds = start.elapsed().as_secs_f64();
            reporter.report(Instant::now(), || self.tally.to_json());
        }
        Ok(())
    }

    fn done(&self) -> usize {
        usize::try_from(self.tally.tunnels_set_up + self.tally.tunnels_failed).unwrap_or(usize::MAX)
    }

    fn initiate(&mut self, number: usize) -> Result<(), String> {
        let inner = self.inner(number);
        let local = self.options.local[number % self.options.local.len()];
        let path = Sockets::path(local, self.options.gateway);
        let profile = profile(&self.common, number, inner);
        let ike = self
            .engine
            .initiate(Instant::now(), profile, path, &mut self.memory)
            .map_err(|error| format!("eNodeB {number}: {error}"))?;
        self.by_ike.insert(ike, number);
        self.carry_out()
    }

    fn inner(&self, number: usize) -> Ipv4Addr {
        Ipv4Addr::from_bits(
            self.options
                .inner
                .to_bits()
                .wrapping_add(u32::try_from(number).unwrap_or(u32::MAX)),
        )
    }

    /// Sends numbered packets through every tunnel and counts the echoes.
    fn flow(&mut self, reporter: &mut Reporter) -> Result<(), String> {
        let start = Instant::now();
        let end = start + Duration::from_secs(self.options.duration);
        self.tally.flowing = true;
        if self.options.host.is_none() {
            while Instant::now() < end {
                self.step(Duration::from_millis(100))?;
                reporter.report(Instant::now(), || self.tally.to_json());
            }
            return Ok(());
        }
        while Instant::now() < end && !self.tunnels.is_empty() {
            let busy = self.send_round(start)?;
            self.step(if busy {
                Duration::ZERO
            } else {
                Duration::from_millis(1)
            })?;
            self.tally.traffic_seconds = start.elapsed().as_secs_f64();
            reporter.report(Instant::now(), || self.tally.to_json());
        }
        let mut quiet = Instant::now();
        while self.tally.packets_echoed < self.tally.packets_sent && quiet.elapsed() < LINGER {
            let before = self.tally.packets_echoed;
            self.step(Duration::from_millis(5))?;
            if self.tally.packets_echoed != before {
                quiet = Instant::now();
            }
        }
        let idle = self.tunnels.iter().filter(|tunnel| tunnel.sent == 0).count();
        if idle > 0 {
            self.error(format!(
                "{idle} tunnels carried nothing: the time or the rate was too small"
            ));
        }
        Ok(())
    }

    /// One burst of each tunnel; false when nothing could be sent.
    fn send_round(&mut self, start: Instant) -> Result<bool, String> {
        let now = Instant::now();
        let mut allowance = match self.options.rate {
            None => u64::MAX,
            Some(rate) => {
                let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
                due.saturating_sub(self.tally.packets_sent)
            }
        };
        let outstanding = self.tunnels.iter().map(Tunnel::outstanding).sum();
        allowance = allowance.min(self.options.total_window.saturating_sub(outstanding));
        let mut busy = false;
        for _ in 0..self.tunnels.len() {
            let Some(tunnel) = self.tunnels.get_mut(self.turn) else {
                break;
            };
            let path = tunnel.path;
            if let Some((data, segment)) = tunnel.burst(self.options.window, allowance, now) {
                match self.sockets.send(path, data, Some(segment)) {
                    Ok(true) => {
                        let count = tunnel.confirm();
                        allowance = allowance.saturating_sub(count);
                        busy = true;
                        self.tally.packets_sent += count;
                    }
                    // No room in the kernel: this tunnel is the first in the next round.
                    Ok(false) => break,
                    Err(error) => return Err(format!("send: {error}")),
                }
            }
            self.turn = (self.turn + 1) % self.tunnels.len();
            if allowance == 0 {
                break;
            }
        }
        Ok(busy)
    }

    /// Takes in what came and does what is due.
    fn step(&mut self, timeout: Duration) -> Result<(), String> {
        let timeout = self.engine.next_timeout().map_or(timeout, |at| {
            at.saturating_duration_since(Instant::now()).min(timeout)
        });
        let now = Instant::now();
        let (engine, memory, tunnels, by_spi, tally) = (
            &mut self.engine,
            &mut self.memory,
            &mut self.tunnels,
            &self.by_spi,
            &mut self.tally,
        );
        self.sockets
            .receive(timeout, |arrived| match arrived {
                Arrived::Ike(path, message) => engine.receive(now, path, message, memory),
                Arrived::Esp(packet) => {
                    let Some(spi) = esp::spi_of(packet) else { return };
                    let Some(tunnel) = by_spi.get(&spi).and_then(|index| tunnels.get_mut(*index)) else {
                        return;
                    };
                    let length = tunnel.inner_len() as u64;
                    if tunnel.receive(spi, packet, now) {
                        tally.packets_echoed += 1;
                        // It was delivered to the host and came back.
                        tally.bytes += 2 * length;
                        if let Some(usage) = memory.usage_mut(spi) {
                            usage.last_inbound = Some(now);
                            usage.inbound_packets += 1;
                            usage.inbound_bytes += length;
                        }
                    }
                }
            })
            .map_err(|error| format!("receive: {error}"))?;
        self.engine.expire(Instant::now(), &mut self.memory);
        self.carry_out()
    }

    /// Asks for every tunnel whether the gateway still has it: one that it lost without a word is not up.
    fn check(&mut self) -> Result<(), String> {
        self.checked = 0;
        let (mut next, mut asked) = (0, 0);
        let mut heard = (0, Instant::now());
        while next < self.tunnels.len() || self.checked < asked {
            while asked - self.checked.min(asked) < self.options.concurrent.max(1)
                && let Some(tunnel) = self.tunnels.get(next)
            {
                next += 1;
                let ike = tunnel.ike;
                let action = Action::CheckLiveness;
                // One that is gone already is known to be.
                let sent = self.engine.action(Instant::now(), ike, action, &mut self.memory);
                asked += usize::from(sent.is_ok());
                self.carry_out()?;
            }
            self.step(Duration::from_millis(20))?;
            if self.checked > heard.0 {
                heard = (self.checked, Instant::now());
            } else if heard.1.elapsed() > SILENCE {
                break;
            }
        }
        Ok(())
    }

    /// Deletes every tunnel and waits a little for the answers.
    fn farewell(&mut self) -> Result<(), String> {
        let now = Instant::now();
        for tunnel in &self.tunnels {
            // One that is gone already needs no farewell.
            let _ = self
                .engine
                .action(now, tunnel.ike, Action::Delete, &mut self.memory);
        }
        while self.engine.totals().ike_sas > 0 && now.elapsed() < FAREWELL {
            self.step(Duration::from_millis(20))?;
        }
        Ok(())
    }
}

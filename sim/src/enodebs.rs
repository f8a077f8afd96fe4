//! `starward sim enodebs`: many eNodeBs in one process.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use clap::value_parser;
use crypto::{Secret, SystemRandom};
use ikev2::{Action, Engine, EngineConfig, Event, IkeSaId, Output};
use ipnet::IpNet;

use crate::initiator::{Common, Memory, answer, profile};
use crate::offer::Offer;
use crate::packets::LENGTHS;
use crate::progress::{Reporter, Tally, print};
use crate::sockets::{Arrived, Sockets};
use crate::tunnel::{Flow, Tunnel};

/// Packets may be on their way for so long after the last one was sent.
const LINGER: Duration = Duration::from_millis(1500);
/// Deletes are answered within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(3);
/// UDP port of the eNodeBs' inner addresses.
const INNER_PORT: u16 = 4000;
/// Echo port of the host.
const ECHO_PORT: u16 = 7;
const MOST_ERRORS: usize = 20;

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
    #[arg(long, default_value_t = 5)]
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
        usize::try_from(self.tally.tunnels_up + self.tally.tunnels_failed).unwrap_or(usize::MAX)
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

    fn carry_out(&mut self) -> Result<(), String> {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Transmit { path, bytes } => {
                    // No room in the kernel: it will be sent again, as if the network had lost it.
                    self.sockets
                        .send(path, &bytes, None)
                        .map_err(|error| format!("send: {error}"))?;
                }
                Output::Ask { ticket, question, .. } => {
                    let answer = answer(&self.common, &question);
                    self.engine
                        .answer(Instant::now(), ticket, answer, &mut self.memory);
                }
                Output::Install(child) => self.install(&child),
                Output::Remove { inbound_spi, .. } => {
                    self.memory.remove(inbound_spi);
                    if let Some(tunnel) = self
                        .by_spi
                        .remove(&inbound_spi)
                        .and_then(|index| self.tunnels.get_mut(index))
                    {
                        tunnel.forget(inbound_spi);
                    }
                }
                Output::Move { ike, path, .. } => {
                    self.tunnels
                        .iter_mut()
                        .filter(|tunnel| tunnel.ike == ike)
                        .for_each(|tunnel| tunnel.path = path);
                }
                Output::Activate { inbound_spi, .. } => {
                    if let Some(tunnel) = self
                        .by_spi
                        .get(&inbound_spi)
                        .and_then(|index| self.tunnels.get_mut(*index))
                    {
                        tunnel.activate(inbound_spi);
                    }
                }
                Output::Event(event) => self.event(event),
            }
        }
        Ok(())
    }

    fn install(&mut self, child: &ikev2::ChildSa) {
        if let Some(index) = child.replaces.and_then(|old| self.by_spi.get(&old).copied()) {
            if let Some(Err(error)) = self.tunnels.get_mut(index).map(|tunnel| tunnel.rekey(child)) {
                return self.error(error);
            }
            self.by_spi.insert(child.inbound_spi, index);
            return;
        }
        let Some(number) = self.by_ike.get(&child.ike).copied() else {
            return;
        };
        let assigned = child
            .configuration
            .as_ref()
            .and_then(|configuration| configuration.ipv4);
        let flow = Flow {
            source: SocketAddrV4::new(assigned.unwrap_or_else(|| self.inner(number)), INNER_PORT),
            destination: SocketAddrV4::new(self.options.host.unwrap_or(Ipv4Addr::UNSPECIFIED), ECHO_PORT),
            length: usize::from(self.options.length),
        };
        let index = self.tunnels.len();
        match Tunnel::new(
            child,
            u32::try_from(index).unwrap_or(u32::MAX),
            flow,
            Instant::now(),
        ) {
            Ok(tunnel) => {
                self.tunnels.push(tunnel);
                self.by_spi.insert(child.inbound_spi, index);
            }
            Err(error) => self.error(error),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Established(established) => {
                if established.child.is_some() {
                    self.tally.tunnels_up += 1;
                } else {
                    self.tally.tunnels_failed += 1;
                    self.error(format!("{}: IKE SA without child SA", established.profile.name));
                }
            }
            Event::SetupFailed { profile, reason, .. } => {
                self.tally.tunnels_failed += 1;
                self.error(format!("{}: {reason}", profile.name));
            }
            Event::Deleted { profile, reason, .. } if reason != ikev2::RemoveReason::Local => {
                self.error(format!("{}: tunnel lost: {reason}", profile.name));
            }
            Event::IkeRekeyed { old, new, .. } => {
                if let Some(number) = self.by_ike.remove(&old) {
                    self.by_ike.insert(new, number);
                }
                self.tunnels
                    .iter_mut()
                    .filter(|tunnel| tunnel.ike == old)
                    .for_each(|tunnel| tunnel.ike = new);
            }
            Event::Count(ikev2::Count::Retransmitted) => self.tally.retransmissions += 1,
            _ => {}
        }
    }

    fn error(&mut self, error: String) {
        if self.tally.errors.len() < MOST_ERRORS {
            self.tally.errors.push(error);
        }
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

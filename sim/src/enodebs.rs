//! `starward sim enodebs`: many eNodeBs in one process.

mod outputs;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use clap::value_parser;
use ikev2::Action;

use self::outputs::Crowd;
use crate::fleet::Fleet;
use crate::packets::LENGTHS;
use crate::peers::Peers;
use crate::progress::{LONGEST, Reporter, Tally, print};
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
    /// Who they are
    #[command(flatten)]
    pub peers: Peers,
    /// Number of tunnels
    #[arg(long, default_value_t = 10)]
    pub tunnels: usize,
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
        let mut world = World {
            fleet: Fleet::open(self.peers.common()?, &self.peers.local)?,
            crowd: Crowd {
                tunnels: Vec::new(),
                by_spi: HashMap::new(),
                checked: 0,
                tally: Tally {
                    tunnels_requested: self.tunnels as u64,
                    ..Tally::default()
                },
                options: self,
            },
            turn: 0,
        };
        let mut reporter = Reporter::new(world.crowd.options.progress);
        world.set_up(&mut reporter)?;
        world.flow(&mut reporter)?;
        // Without time in between none can have been lost, and a measurement of set-ups is not to count checks.
        if world.crowd.options.duration > 0 {
            world.check()?;
        }
        if !world.crowd.options.keep {
            world.farewell()?;
        }
        let tally = &world.crowd.tally;
        print(&tally.to_json());
        Ok(tally.tunnels_up == tally.tunnels_requested
            && tally.packets_sent == tally.packets_echoed
            && tally.errors.is_empty())
    }
}

struct World {
    fleet: Fleet,
    crowd: Crowd,
    /// The tunnel that sends first in the next round, so that all get their share.
    turn: usize,
}

impl World {
    /// Sets up every tunnel, or finds out that it cannot be.
    fn set_up(&mut self, reporter: &mut Reporter) -> Result<(), String> {
        let start = Instant::now();
        let (wanted, concurrent) = (self.crowd.options.tunnels, self.crowd.options.peers.concurrent());
        let mut next = 0;
        while self.crowd.done() < wanted {
            while next < wanted && next - self.crowd.done() < concurrent {
                let peers = &self.crowd.options.peers;
                let (profile, outer) = (peers.profile(&self.fleet.common, next), peers.outer(next));
                let gateway = peers.gateway;
                self.fleet.initiate(profile, outer, gateway, &mut self.crowd)?;
                next += 1;
            }
            self.step(Duration::from_millis(20))?;
            self.crowd.tally.setup_seconds = start.elapsed().as_secs_f64();
            reporter.report(Instant::now(), || self.crowd.tally.to_json());
        }
        Ok(())
    }

    /// Sends numbered packets through every tunnel and counts the echoes.
    fn flow(&mut self, reporter: &mut Reporter) -> Result<(), String> {
        let start = Instant::now();
        let end = start + Duration::from_secs(self.crowd.options.duration);
        self.crowd.tally.flowing = true;
        if self.crowd.options.host.is_none() {
            while Instant::now() < end {
                self.step(Duration::from_millis(100))?;
                reporter.report(Instant::now(), || self.crowd.tally.to_json());
            }
            return Ok(());
        }
        while Instant::now() < end && !self.crowd.tunnels.is_empty() {
            let busy = self.send_round(start)?;
            self.step(if busy {
                Duration::ZERO
            } else {
                Duration::from_millis(1)
            })?;
            self.crowd.tally.traffic_seconds = start.elapsed().as_secs_f64();
            reporter.report(Instant::now(), || self.crowd.tally.to_json());
        }
        let mut quiet = Instant::now();
        while self.crowd.tally.packets_echoed < self.crowd.tally.packets_sent && quiet.elapsed() < LINGER {
            let before = self.crowd.tally.packets_echoed;
            self.step(Duration::from_millis(5))?;
            if self.crowd.tally.packets_echoed != before {
                quiet = Instant::now();
            }
        }
        let tunnels = &self.crowd.tunnels;
        let idle = tunnels.iter().filter(|tunnel| tunnel.sent == 0).count();
        if idle > 0 {
            self.crowd.error(format!(
                "{idle} tunnels carried nothing: the time or the rate was too small"
            ));
        }
        Ok(())
    }

    /// One burst of each tunnel; false when nothing could be sent.
    fn send_round(&mut self, start: Instant) -> Result<bool, String> {
        let now = Instant::now();
        let Crowd {
            options,
            tunnels,
            tally,
            ..
        } = &mut self.crowd;
        let mut allowance = match options.rate {
            None => u64::MAX,
            Some(rate) => {
                let due = (start.elapsed().as_secs_f64() * rate as f64) as u64;
                due.saturating_sub(tally.packets_sent)
            }
        };
        let outstanding = tunnels.iter().map(Tunnel::outstanding).sum();
        allowance = allowance.min(options.total_window.saturating_sub(outstanding));
        let mut busy = false;
        for _ in 0..tunnels.len() {
            let Some(tunnel) = tunnels.get_mut(self.turn) else {
                break;
            };
            let path = tunnel.path;
            if let Some((data, segment)) = tunnel.burst(options.window, allowance, now) {
                if !self.fleet.send(path, data, Some(segment))? {
                    // No room in the kernel: this tunnel is the first in the next round.
                    break;
                }
                let count = tunnel.confirm();
                allowance = allowance.saturating_sub(count);
                busy = true;
                tally.packets_sent += count;
            }
            self.turn = (self.turn + 1) % tunnels.len();
            if allowance == 0 {
                break;
            }
        }
        Ok(busy)
    }

    /// Takes in what came and does what is due.
    fn step(&mut self, timeout: Duration) -> Result<(), String> {
        self.fleet.step(timeout, &mut self.crowd)
    }

    /// Asks for every tunnel whether the gateway still has it: one that it lost without a word is not up.
    fn check(&mut self) -> Result<(), String> {
        self.crowd.checked = 0;
        let concurrent = self.crowd.options.peers.concurrent();
        let (mut next, mut asked) = (0, 0);
        let mut heard = (0, Instant::now());
        while next < self.crowd.tunnels.len() || self.crowd.checked < asked {
            while asked - self.crowd.checked.min(asked) < concurrent
                && let Some(tunnel) = self.crowd.tunnels.get(next)
            {
                next += 1;
                let ike = tunnel.ike;
                // One that is gone already is known to be.
                let action = Action::CheckLiveness;
                asked += usize::from(self.fleet.act(ike, action, &mut self.crowd)?);
            }
            self.step(Duration::from_millis(20))?;
            if self.crowd.checked > heard.0 {
                heard = (self.crowd.checked, Instant::now());
            } else if heard.1.elapsed() > SILENCE {
                break;
            }
        }
        Ok(())
    }

    /// Deletes every tunnel and waits a little for the answers.
    fn farewell(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let ikes: Vec<_> = self.crowd.tunnels.iter().map(|tunnel| tunnel.ike).collect();
        for ike in ikes {
            // One that is gone already needs no farewell.
            self.fleet.act(ike, Action::Delete, &mut self.crowd)?;
        }
        while self.fleet.ike_sas() > 0 && start.elapsed() < FAREWELL {
            self.step(Duration::from_millis(20))?;
        }
        Ok(())
    }
}

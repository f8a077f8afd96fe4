//! `starward sim load`: IKEv2 set-ups, rekeyings and deletes at a rate, against any gateway.
//!
//! ```text
//!   set-ups, at --rate or as fast as --concurrent lets them   ──►  each up tunnel is deleted after --hold, if that is given
//!        │ the last is over
//!   rekey rounds of every tunnel  ──►  --stay, then every tunnel is asked whether it is still there  ──►  deletes, unless --keep
//! ```

mod outcome;

use std::time::{Duration, Instant};

use clap::value_parser;
use ikev2::{Action, IkeSaId};

pub(crate) use self::outcome::Outcome;
use self::outcome::Tunnels;
use crate::fleet::{Fleet, MOST_PEERS};
use crate::peers::Peers;
use crate::progress::{LONGEST, Reporter, print, tell};

/// The longest that is waited for anything without looking at the clock.
const TICK: Duration = Duration::from_millis(20);
/// Without any news for so long, after the last retransmission of a peer, whatever is still under way is given up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Load on the IKE side of a gateway.
#[derive(Debug, Clone, clap::Args)]
pub struct Load {
    /// Who the peers are
    #[command(flatten)]
    pub peers: Peers,
    /// Number of set-ups
    #[arg(long, default_value_t = 1000, value_parser = value_parser!(u32).range(1..MOST_PEERS))]
    pub count: u32,
    /// Number of the first peer: tools side by side have different peers
    #[arg(long, default_value_t = 0)]
    pub first: u32,
    /// Set-ups begun in a second; without it the next begins when one is over
    #[arg(long, value_parser = value_parser!(u32).range(1..=1_000_000))]
    pub rate: Option<u32>,
    /// Milliseconds that a tunnel stays before it is deleted: tunnels come and go; without it they stay to the end
    #[arg(long, value_parser = value_parser!(u64).range(0..=LONGEST))]
    pub hold_ms: Option<u64>,
    /// Then new keys for every tunnel, of this kind
    #[arg(long, value_enum)]
    pub rekey: Option<Rekey>,
    /// So many times
    #[arg(long, default_value_t = 1, requires = "rekey", value_parser = value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Then seconds of silence, after which every tunnel is asked whether it is still there
    #[arg(long, value_parser = value_parser!(u64).range(1..=LONGEST))]
    pub stay: Option<u64>,
    /// Leave the tunnels up at the end
    #[arg(long)]
    pub keep: bool,
    /// Print progress as JSON lines
    #[arg(long)]
    pub progress: bool,
}

/// What gets new keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Rekey {
    /// The child SAs
    Child,
    /// The IKE SAs
    Ike,
}

impl Load {
    /// Runs to the end, prints the outcome; true if nothing failed.
    pub(crate) fn run(self) -> Result<bool, String> {
        let outcome = self.measure()?;
        outcome.lines().iter().for_each(|line| tell(line));
        print(&outcome.to_json());
        Ok(outcome.is_fine())
    }

    /// Runs to the end.
    pub(crate) fn measure(&self) -> Result<Outcome, String> {
        let fleet = Fleet::open(self.peers.common()?, &self.peers.local)?;
        let mut run = Run {
            load: self,
            fleet,
            tunnels: Tunnels::new(self.first, self.count, self.hold_ms.map(Duration::from_millis)),
            reporter: Reporter::new(self.progress),
        };
        run.set_up()?;
        tell("set-ups are over");
        if let Some(rekey) = self.rekey {
            for _ in 0..self.rounds {
                run.rekey(rekey)?;
            }
        }
        if let Some(seconds) = self.stay {
            run.wait(Duration::from_secs(seconds))?;
            run.check()?;
        }
        if !self.keep {
            run.delete()?;
        }
        Ok(run.tunnels.outcome)
    }
}

struct Run<'l> {
    load: &'l Load,
    fleet: Fleet,
    tunnels: Tunnels,
    reporter: Reporter,
}

impl Run<'_> {
    /// Begins every set-up when it is due, and deletes tunnels whose time is over.
    fn set_up(&mut self) -> Result<(), String> {
        let start = Instant::now();
        let load = self.load;
        let count = self.tunnels.len();
        // Waiting for others counts: a peer does not care why it has to wait.
        let due = |index: usize| {
            load.rate.map_or_else(Instant::now, |rate| {
                start + Duration::from_secs_f64(index as f64 / f64::from(rate))
            })
        };
        let mut next = 0;
        while self.tunnels.setting_up() > 0 || next < count || self.tunnels.is_holding() {
            while next < count && self.tunnels.setting_up() < load.peers.concurrent() {
                let begins = due(next);
                if begins > Instant::now() {
                    break;
                }
                let number = self.tunnels.begin(next, begins);
                let profile = load.peers.profile(&self.fleet.common, number);
                let (outer, gateway) = (load.peers.outer(number), load.peers.gateway);
                self.fleet.initiate(profile, outer, gateway, &mut self.tunnels)?;
                next += 1;
            }
            let now = Instant::now();
            while let Some(ike) = self.tunnels.take_held(now) {
                self.fleet.act(ike, Action::Delete, &mut self.tunnels)?;
            }
            let timeout = if next < count && load.rate.is_some() {
                due(next).saturating_duration_since(now).min(TICK)
            } else {
                TICK
            };
            self.step(timeout)?;
            if next < count || self.tunnels.setting_up() > 0 {
                self.tunnels.outcome.setup_seconds = start.elapsed().as_secs_f64();
            }
        }
        Ok(())
    }

    /// New keys for every tunnel that is up, some at a time.
    fn rekey(&mut self, rekey: Rekey) -> Result<(), String> {
        let start = Instant::now();
        self.for_each(|tunnels, index| {
            let (ike, spi) = tunnels.rekeying(index)?;
            Some((
                ike,
                match rekey {
                    Rekey::Child => Action::RekeyChild(spi),
                    Rekey::Ike => Action::RekeyIke,
                },
            ))
        })?;
        self.tunnels.outcome.rekey_seconds += start.elapsed().as_secs_f64();
        Ok(())
    }

    /// Asks for every tunnel whether the gateway still has it.
    fn check(&mut self) -> Result<(), String> {
        self.for_each(|tunnels, index| Some((tunnels.checking(index)?, Action::CheckLiveness)))
    }

    /// Deletes every tunnel, some at a time.
    fn delete(&mut self) -> Result<(), String> {
        self.for_each(|tunnels, index| Some((tunnels.deleting(index)?, Action::Delete)))
    }

    /// Does something with every tunnel, `concurrent` at a time, and waits until it is done or nothing more is heard.
    fn for_each(
        &mut self,
        what: impl Fn(&mut Tunnels, usize) -> Option<(IkeSaId, Action)>,
    ) -> Result<(), String> {
        let concurrent = self.load.peers.concurrent();
        let patience = PATIENCE + self.load.peers.silence();
        let mut next = 0;
        let mut heard = Instant::now();
        while next < self.tunnels.len() || self.tunnels.busy() > 0 {
            while next < self.tunnels.len() && self.tunnels.busy() < concurrent {
                if let Some((ike, action)) = what(&mut self.tunnels, next) {
                    self.fleet.act(ike, action, &mut self.tunnels)?;
                    heard = Instant::now();
                }
                next += 1;
            }
            let before = self.tunnels.busy();
            self.step(TICK)?;
            if self.tunnels.busy() != before {
                heard = Instant::now();
            } else if heard.elapsed() > patience {
                self.tunnels.give_up();
                break;
            }
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) -> Result<(), String> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step(TICK)?;
        }
        Ok(())
    }

    fn step(&mut self, timeout: Duration) -> Result<(), String> {
        self.fleet.step(timeout, &mut self.tunnels)?;
        self.reporter
            .report(Instant::now(), || self.tunnels.outcome.to_json());
        Ok(())
    }
}

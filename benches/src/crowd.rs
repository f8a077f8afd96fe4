//! Our gateway with very many tunnels: throughput beside that of a hundred, and `show` of them all beside set-ups.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Gateway, Kind, Setting};
use crate::process::Running;
use crate::rows::Row;
use crate::setup::count;
use crate::starward::{peers, show, simulate};
use crate::summary::Measured;
use crate::world::{Ground, HOST};

/// Setting many tunnels up takes less.
const LIMIT: Duration = Duration::from_secs(600);
const FEW: u32 = 100;
/// Packets a second: what two ends on two processors can do with room to spare.
const RATE: &str = "40000";
/// Set-ups of one look at their times, and how many a second.
const SETUPS: &str = "2000";
const SETUP_RATE: &str = "1000";
/// Milliseconds: set-ups that take so long without `show` wait for each other, and tell nothing of it.
const SATURATED: f64 = 200.0;
/// Inner addresses and identities of peers that come and go beside the crowd.
pub const VISITORS: [&str; 4] = ["--inner", "10.127.0.1", "--identity-prefix", "visitor"];

/// Measures with a hundred and with `tunnels`, then shows those while others are set up.
pub fn measure(ground: &Ground, tunnels: u32, runs: usize, measured: &mut Measured) {
    const ROWS: [Row; 2] = [Row::ManyTunnels, Row::ShowTime];
    let crowd = match Crowd::start(ground) {
        Ok(crowd) => crowd,
        Err(error) => return measured.fail(Kind::Ours, &ROWS, &error),
    };
    eprintln!("{}: {FEW} and {tunnels} tunnels", Row::ManyTunnels.title());
    let few = crowd.packets_per_cpu(FEW, measured);
    // The tunnels stay: they are shown afterwards.
    let many = few.and_then(|few| Ok(crowd.packets_per_cpu(tunnels, measured)? / few));
    if measured.add_or_fail(Kind::Ours, Row::ManyTunnels, many).is_none() {
        return measured.fail(Kind::Ours, &[Row::ShowTime], "there are no tunnels to show");
    }
    for _ in 0..runs {
        let added = crowd.added_time(tunnels, measured);
        if measured.add_or_fail(Kind::Ours, Row::ShowTime, added).is_none() {
            return;
        }
    }
}

struct Crowd {
    // Dropped in this order.
    _far: Running,
    gateway: Gateway,
    setting: Setting,
}

impl Crowd {
    fn start(ground: &Ground) -> Result<Self, String> {
        let setting = Setting::default();
        let gateway = Gateway::start(ground, Kind::Ours, &setting)?;
        Ok(Self {
            _far: far(&gateway)?,
            gateway,
            setting,
        })
    }

    /// Packets of mobile mix 1, spread over the tunnels, for each millisecond of the gateway's processor time. What the simulator needs for its many tunnels
    /// does not count.
    fn packets_per_cpu(&self, tunnels: u32, measured: &mut Measured) -> Result<f64, String> {
        let mut arguments = peers(&self.setting);
        let more = [
            "--tunnels",
            &tunnels.to_string(),
            "--far",
            HOST,
            "--mix",
            "1",
            "--rate",
            RATE,
            "--ms",
            "5000",
        ];
        arguments.extend(more.map(str::to_owned));
        if tunnels > FEW {
            arguments.push("--keep".to_owned());
        }
        let world = &self.gateway.world;
        let mut traffic = simulate(world, &world.ran(), None, "traffic", &arguments)?;
        traffic.wait_until("flowing", LIMIT, |traffic| traffic.log().contains("flowing"))?;
        let before = self.gateway.cost()?;
        traffic.wait_until("over", LIMIT, |traffic| traffic.log().contains("up: one way"))?;
        let cpu_ms = self.gateway.cost()?.cpu_ms - before.cpu_ms;
        let report = traffic.result(LIMIT)?;
        let received = count(&report["up"], "received");
        measured.disturbed(
            Kind::Ours,
            Row::ManyTunnels,
            "packets lost",
            count(&report["up"], "lost"),
        );
        eprintln!("  {tunnels} tunnels: {received} packets in {cpu_ms:.0} ms of CPU");
        if received == 0 || cpu_ms <= 0.0 {
            return Err("no packet came".to_owned());
        }
        Ok(received as f64 / cpu_ms)
    }

    /// By how much `show` of every tunnel, of which there are so many at least, again and again, lengthens the 99th percentile of set-ups, in milliseconds.
    fn added_time(&self, tunnels: u32, measured: &mut Measured) -> Result<f64, String> {
        let alone = self.set_ups(measured)?;
        if alone > SATURATED {
            return Err(format!(
                "{SETUP_RATE} set-ups a second are too many for this machine: p99 alone is {alone:.0} ms"
            ));
        }
        let ended = AtomicBool::new(false);
        let (beside, shown) = std::thread::scope(|scope| {
            let shows = scope.spawn(|| {
                let mut shown = Shown::default();
                while !ended.load(Ordering::Relaxed) {
                    shown.note(
                        show(&self.gateway.world, &["show crypto ipsec security-associations"]),
                        tunnels,
                    );
                }
                shown
            });
            let beside = self.set_ups(measured);
            ended.store(true, Ordering::Relaxed);
            (beside, shows.join())
        });
        let (beside, shown) = (beside?, shown.map_err(|_| "show failed".to_owned())?);
        // One that does not answer in time delays nobody; if none does, nothing was measured.
        let shows = shown.times()?;
        eprintln!("  p99 of set-ups: {alone:.1} ms alone, {beside:.1} ms beside {shows} times show");
        Ok((beside - alone).max(0.0))
    }

    /// The 99th percentile of set-ups, in milliseconds.
    fn set_ups(&self, measured: &mut Measured) -> Result<f64, String> {
        let mut arguments = peers(&self.setting);
        let more = ["--count", SETUPS, "--rate", SETUP_RATE, "--concurrent", "200"];
        arguments.extend(more.iter().chain(&VISITORS).map(|word| (*word).to_owned()));
        let world = &self.gateway.world;
        let report = simulate(world, &world.ran(), None, "load", &arguments)?.result(LIMIT)?;
        measured.disturbed(
            Kind::Ours,
            Row::ShowTime,
            "retransmissions",
            count(&report, "retransmissions"),
        );
        p99(&report)
    }
}

/// What became of `show`, again and again.
#[derive(Debug, Default)]
struct Shown {
    /// Those that showed every tunnel.
    whole: usize,
    /// What was wrong with the latest other one.
    wrong: String,
}

impl Shown {
    /// Notes what one printed. Every tunnel has a line of its own at least.
    fn note(&mut self, printed: Result<String, String>, tunnels: u32) {
        match printed.map(|text| text.lines().count()) {
            Ok(lines) if lines as u64 >= u64::from(tunnels) => self.whole += 1,
            Ok(lines) => self.wrong = format!("{lines} lines of {tunnels} tunnels"),
            Err(error) => self.wrong = error,
        }
    }

    /// How many showed every tunnel; an error if none did.
    fn times(self) -> Result<usize, String> {
        (self.whole > 0)
            .then_some(self.whole)
            .ok_or_else(|| format!("show beside set-ups never showed every tunnel: {}", self.wrong))
    }
}

/// The far end of traffic, in the host's namespace.
pub fn far(gateway: &Gateway) -> Result<Running, String> {
    const START: Duration = Duration::from_secs(10);
    let world = &gateway.world;
    let arguments = ["--listen", HOST].map(str::to_owned);
    let mut far = simulate(world, &world.host(), None, "far", &arguments)?;
    far.wait_until("listening", START, |far| far.log().contains("listening"))?;
    Ok(far)
}

/// The 99th percentile of set-ups in milliseconds, none of which failed: those have no time, and would be left out.
fn p99(report: &Value) -> Result<f64, String> {
    let (up, requested) = (count(report, "set_up"), count(report, "requested"));
    let us = report["setup_us"]["p99"].as_f64();
    us.filter(|us| *us > 0.0 && up == requested)
        .map(|us| us / 1000.0)
        .ok_or_else(|| format!("{up} of {requested} tunnels came up: {}", report["failed"]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn set_ups_that_failed_are_not_left_out() {
        let report = |up| json!({ "requested": 2000, "set_up": up, "failed": { "no answer": 2000 - up }, "setup_us": { "p99": 2500.0 } });
        assert_eq!(p99(&report(2000)), Ok(2.5));
        let reason = p99(&report(1999)).unwrap_err();
        assert_eq!(reason, r#"1999 of 2000 tunnels came up: {"no answer":1}"#);
        assert!(p99(&json!({})).is_err());
    }

    #[test]
    fn a_show_counts_when_it_shows_every_tunnel() {
        let mut shown = Shown::default();
        shown.note(Err("no answer".to_owned()), 2);
        shown.note(Ok("one\n".to_owned()), 2);
        assert_eq!(
            shown.times().unwrap_err(),
            "show beside set-ups never showed every tunnel: 1 lines of 2 tunnels"
        );
        let mut shown = Shown::default();
        shown.note(Ok("one\ntwo\n".to_owned()), 2);
        shown.note(Err("no answer".to_owned()), 2);
        assert_eq!(shown.times(), Ok(1));
    }
}

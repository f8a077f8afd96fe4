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
        let added = crowd.added_time(measured);
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

    /// By how much `show` of every tunnel, again and again, lengthens the 99th percentile of set-ups, in milliseconds.
    fn added_time(&self, measured: &mut Measured) -> Result<f64, String> {
        let alone = self.set_ups(measured)?;
        if alone > SATURATED {
            return Err(format!(
                "{SETUP_RATE} set-ups a second are too many for this machine: p99 alone is {alone:.0} ms"
            ));
        }
        let ended = AtomicBool::new(false);
        let beside = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    // One that does not answer in time delays nobody.
                    let _ = show(&self.gateway.world, &["show crypto ipsec security-associations"]);
                }
            });
            let beside = self.set_ups(measured);
            ended.store(true, Ordering::Relaxed);
            beside
        })?;
        eprintln!("  p99 of set-ups: {alone:.1} ms alone, {beside:.1} ms beside show");
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

/// The far end of traffic, in the host's namespace.
pub fn far(gateway: &Gateway) -> Result<Running, String> {
    const START: Duration = Duration::from_secs(10);
    let world = &gateway.world;
    let arguments = ["--listen", HOST].map(str::to_owned);
    let mut far = simulate(world, &world.host(), None, "far", &arguments)?;
    far.wait_until("listening", START, |far| far.log().contains("listening"))?;
    Ok(far)
}

fn p99(report: &Value) -> Result<f64, String> {
    let us = report["setup_us"]["p99"].as_f64();
    us.filter(|us| *us > 0.0)
        .map(|us| us / 1000.0)
        .ok_or_else(|| format!("no tunnel came up: {}", report["failed"]))
}

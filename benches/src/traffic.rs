//! Throughput, packet rates and CPU of a packet, through one tunnel.
//!
//! One end of the tunnel and its application have the first processor, the other end and the host the second. While anything is measured, our gateway is
//! asked for its counters all the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{Gateway, Kind, Setting, in_turn};
use crate::process::{Running, output_in, pinned};
use crate::rows::Row;
use crate::setup::count;
use crate::starward::{show, simulate};
use crate::summary::Measured;
use crate::world::{FIRST_INNER, Ground, HOST, World};
use crate::{starward, strongswan, wireguard};

const SECONDS: &str = "2";
/// More than a fast machine needs to set up one tunnel.
const PING_LIMIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(1);
/// A search takes less.
const SEARCH_LIMIT: Duration = Duration::from_secs(300);
/// An inner packet with 64 octets of UDP payload.
const LENGTH: &str = "92";
/// An attempt of a search: so long that what fits into buffers does not count.
const ATTEMPT_MS: &str = "2000";
/// Runs of a search, which takes long, at most.
const SEARCHES: usize = 3;
/// Part of the highest rate at which CPU is measured: nothing is lost there.
const COMFORTABLE: f64 = 0.8;
/// Ways of sending: flows, packets in one piece.
const SHAPES: [(Row, &str, &str); 3] = [
    (Row::PacketRate, "1", "1"),
    (Row::PacketRateFlows, "60", "1"),
    (Row::PacketRateGso, "1", "44"),
];
/// Between two looks at the counters.
const LOOK: Duration = Duration::from_millis(500);

/// Sets one tunnel up for each kind and measures everything through it.
pub fn measure(ground: &Ground, kinds: &[Kind], runs: usize, measured: &mut Measured) {
    let mut scenes = Vec::new();
    for kind in kinds {
        eprintln!("{kind}: one tunnel");
        match Scene::start(ground, *kind) {
            Ok(scene) => scenes.push(scene),
            Err(error) => measured.fail(*kind, &all_rows(), &error),
        }
    }
    for run in 0..runs {
        for scene in in_turn(run, scenes.iter()) {
            for (row, more) in [
                (Row::ThroughputUp, &[] as &[&str]),
                (Row::ThroughputDown, &["-R"]),
            ] {
                if !measured.has_failed(scene.kind, row) {
                    measured.add_or_fail(scene.kind, row, scene.tcp(more));
                }
            }
        }
    }
    for (row, flows, burst) in SHAPES {
        for run in 0..runs.min(SEARCHES) {
            for scene in in_turn(run, scenes.iter()) {
                if !measured.has_failed(scene.kind, row) {
                    let around = measured.median(scene.kind, row);
                    measured.add_or_fail(scene.kind, row, scene.highest_rate(flows, burst, around));
                }
            }
        }
    }
    for (row, direction) in [(Row::CpuReceive, "up"), (Row::CpuSend, "down")] {
        for run in 0..runs {
            for scene in in_turn(run, scenes.iter()) {
                // Without the row before there is no rate to measure at.
                let rate = measured.median(scene.kind, Row::PacketRateFlows);
                if let Some(rate) = rate.filter(|_| !measured.has_failed(scene.kind, row)) {
                    scene.cpu(row, direction, rate * COMFORTABLE, measured);
                }
            }
        }
    }
}

fn all_rows() -> Vec<Row> {
    let others = [
        Row::ThroughputUp,
        Row::ThroughputDown,
        Row::CpuReceive,
        Row::CpuSend,
    ];
    SHAPES.map(|(row, ..)| row).into_iter().chain(others).collect()
}

/// A tunnel with a host behind it.
struct Scene {
    kind: Kind,
    // Dropped in this order.
    _looks: Option<Looks>,
    _servers: [Running; 2],
    _near: Running,
    gateway: Gateway,
    near_cpu: Option<usize>,
}

impl Scene {
    fn start(ground: &Ground, kind: Kind) -> Result<Self, String> {
        // With one processor there is nothing to divide.
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let (near_cpu, far_cpu) = if cpus > 1 {
            (Some(0), Some(1))
        } else {
            (None, None)
        };
        let setting = Setting {
            routes: true,
            cpu: far_cpu,
            ..Setting::default()
        };
        let gateway = Gateway::start(ground, kind, &setting)?;
        let world = &gateway.world;
        let mut near = match kind {
            Kind::Ours => starward::tunnel(world, near_cpu)?,
            Kind::Strongswan => strongswan::tunnel(world, near_cpu)?,
            Kind::WireguardGo | Kind::Boringtun => wireguard::tunnel(world, kind, near_cpu)?,
        };
        let ping = ["ping", "-c1", "-W1", "-I", FIRST_INNER, HOST];
        near.wait_until("able to reach the host through its tunnel", PING_LIMIT, |_| {
            output_in(&world.ran(), &ping).is_ok()
        })?;
        let far = ["--listen", HOST].map(str::to_owned);
        let far = simulate(world, &world.host(), far_cpu, "far", &far)?;
        let mut servers = [far, serve_streams(world, far_cpu)?];
        let [far, _] = &mut servers;
        far.wait_until("listening", PING_LIMIT, |far| far.log().contains("listening"))?;
        sleep(PATIENCE);
        Ok(Self {
            kind,
            _looks: (kind == Kind::Ours).then(|| Looks::start(world)),
            _servers: servers,
            _near: near,
            gateway,
            near_cpu,
        })
    }

    fn world(&self) -> &World {
        &self.gateway.world
    }

    /// Mbit/s of one TCP stream, as received.
    fn tcp(&self, more: &[&str]) -> Result<f64, String> {
        let more = [&["-t", SECONDS, "-O", "1"], more].concat();
        let report = stream(self.world(), self.near_cpu, &more)?;
        report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .map(|bits| bits / 1e6)
            .ok_or_else(|| format!("the report of iperf3 has no rate: {}", report["error"]))
    }

    /// The highest rate of 64-octet datagrams, in packets a second, of which no more than 1 % is lost.
    fn highest_rate(&self, flows: &str, burst: &str, around: Option<f64>) -> Result<f64, String> {
        let mut more = [
            "--flows", flows, "--burst", burst, "--loss", "0.01", "--ms", ATTEMPT_MS,
        ]
        .map(str::to_owned)
        .to_vec();
        if let Some(around) = around {
            more.extend(["--around".to_owned(), format!("{around:.0}")]);
        }
        let report = self.stream(&more)?;
        report["up"]["packets_per_s"]
            .as_f64()
            .ok_or_else(|| "the stream has no rate".to_owned())
    }

    /// Notes the CPU time of the gateway for a packet, in microseconds.
    fn cpu(&self, row: Row, direction: &str, rate: f64, measured: &mut Measured) {
        let rate = format!("{rate:.0}");
        let more = [
            "--flows",
            "60",
            "--rate",
            &rate,
            "--ms",
            "1000",
            "--direction",
            direction,
        ];
        let result = self.gateway.cost().and_then(|before| {
            let report = self.stream(&more.map(str::to_owned))?;
            Ok((self.gateway.cost()?.cpu_ms - before.cpu_ms, report))
        });
        let value = result.and_then(|(cpu_ms, report)| {
            measured.disturbed(self.kind, row, "packets lost", count(&report[direction], "lost"));
            match count(&report[direction], "received") {
                0 => Err("no packet came".to_owned()),
                packets => Ok(cpu_ms * 1000.0 / packets as f64),
            }
        });
        measured.add_or_fail(self.kind, row, value);
    }

    fn stream(&self, more: &[String]) -> Result<Value, String> {
        let arguments: Vec<String> = ["--local", FIRST_INNER, "--far", HOST, "--length", LENGTH]
            .map(str::to_owned)
            .into_iter()
            .chain(more.iter().cloned())
            .collect();
        let world = self.world();
        simulate(world, &world.ran(), self.near_cpu, "stream", &arguments)?.result(SEARCH_LIMIT)
    }
}

/// Sends one TCP stream to the host, as further options of iperf3 say; its report.
pub fn stream(world: &World, cpu: Option<usize>, more: &[&str]) -> Result<Value, String> {
    let pins = pinned(cpu);
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    let command = ["iperf3", "-c", HOST, "-B", FIRST_INNER, "-J"];
    let text = output_in(&world.ran(), &[&pins, &command[..], more].concat())?;
    serde_json::from_str(&text).map_err(|error| format!("the report of iperf3: {error}"))
}

/// Has the host take TCP streams.
pub fn serve_streams(world: &World, cpu: Option<usize>) -> Result<Running, String> {
    let pins = pinned(cpu);
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    let command = [&*pins, &["iperf3", "-s", "--forceflush"]].concat();
    let log = world.folder().join("iperf3.log");
    let mut server = Running::start(&world.host(), &command, &[], log, PATIENCE)?;
    server.wait_until("listening", PING_LIMIT, |server| {
        server.log().contains("listening")
    })?;
    Ok(server)
}

/// Somebody who looks at the counters of our gateway all the time.
struct Looks {
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Looks {
    fn start(world: &World) -> Self {
        let ended = Arc::new(AtomicBool::new(false));
        let (end, world) = (Arc::clone(&ended), world.reference());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // A node that does not answer is not what is measured here.
                let _ = show(
                    &world,
                    &[
                        "show iftask statistics",
                        "show crypto ipsec security-associations",
                    ],
                );
                sleep(LOOK);
            }
        });
        Self {
            ended,
            thread: Some(thread),
        }
    }
}

impl Drop for Looks {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to say.
            let _ = thread.join();
        }
    }
}

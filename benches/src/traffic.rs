//! Throughput and packet rate through one tunnel.

use std::thread::sleep;
use std::time::Duration;

use crate::gateway::{Gateway, Group, Kind};
use crate::process::{Running, output_in};
use crate::summary::{Measured, Row};
use crate::world::{FIRST_INNER, Ground, HOST, World};
use crate::{blast, starward, strongswan};

const SECONDS: &str = "3";
/// More than a fast machine needs to set up one tunnel.
const PING_LIMIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(1);

/// Sets one tunnel up and measures everything through it.
pub fn measure(ground: &Ground, kind: Kind, runs: usize, measured: &mut Measured) {
    const ROWS: [Row; 3] = [Row::ThroughputUp, Row::ThroughputDown, Row::PacketRate];
    eprintln!("{kind}: traffic through one tunnel");
    let scene = match Scene::start(ground, kind) {
        Ok(scene) => scene,
        Err(error) => {
            eprintln!("  {error}");
            ROWS.iter().for_each(|row| measured.fail(kind, *row, &error));
            return;
        }
    };
    for row in ROWS {
        for _ in 0..runs {
            let result = match row {
                Row::ThroughputUp => scene.tcp(&[]),
                Row::ThroughputDown => scene.tcp(&["-R"]),
                _ => blast::highest_rate(scene.world()),
            };
            match result {
                Ok(value) => {
                    eprintln!("  {}: {value:.0} {}", row.title(), row.unit());
                    measured.add(kind, row, value);
                }
                Err(error) => {
                    eprintln!("  {}: {error}", row.title());
                    measured.fail(kind, row, &error);
                    break;
                }
            }
        }
    }
}

/// A tunnel with an iperf3 server behind it.
struct Scene {
    // Dropped in this order.
    _server: Running,
    _far: Running,
    gateway: Gateway,
}

impl Scene {
    fn start(ground: &Ground, kind: Kind) -> Result<Self, String> {
        let gateway = Gateway::start(ground, kind, Group::Curve25519, true)?;
        let world = &gateway.world;
        let mut far = match kind {
            Kind::Ours => starward::tunnel(world)?,
            Kind::Peer => strongswan::tunnel(world)?,
        };
        let ping = ["ping", "-c1", "-W1", "-I", FIRST_INNER, HOST];
        far.wait_until("able to reach the host through its tunnel", PING_LIMIT, |_| {
            output_in(&world.ran(), &ping).is_ok()
        })?;
        let mut server = Running::start(
            &world.host(),
            &["iperf3", "-s", "--forceflush"],
            &[],
            world.folder().join("iperf3.log"),
            PATIENCE,
        )?;
        server.wait_until("listening", PING_LIMIT, |server| {
            server.log().contains("listening")
        })?;
        sleep(PATIENCE);
        Ok(Self {
            _server: server,
            _far: far,
            gateway,
        })
    }

    fn world(&self) -> &World {
        &self.gateway.world
    }

    /// Mbit/s of one TCP stream, as received.
    fn tcp(&self, more: &[&str]) -> Result<f64, String> {
        let command = [
            "iperf3",
            "-c",
            HOST,
            "-B",
            FIRST_INNER,
            "-t",
            SECONDS,
            "-O",
            "1",
            "-J",
        ];
        let text = output_in(&self.world().ran(), &[&command, more].concat())?;
        let report: serde_json::Value =
            serde_json::from_str(&text).map_err(|error| format!("the report of iperf3: {error}"))?;
        report["end"]["sum_received"]["bits_per_second"]
            .as_f64()
            .map(|bits| bits / 1e6)
            .ok_or_else(|| format!("the report of iperf3 has no rate: {}", report["error"]))
    }
}

//! Our gateway, and our programs at the other end.

use std::path::PathBuf;
use std::time::Duration;

use crate::gateway::{Group, SECRET};
use crate::process::{Running, output_in};
use crate::world::{FIRST_INNER, GATEWAY, INITIATORS, PROTECTED, World};

/// The gateway's configuration, with group 31.
const EXAMPLE: &str = include_str!("../../examples/secgw.cfg");
const START_LIMIT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);
const DEVICE: &str = "tunnel0";

/// Starts the node with the example's configuration and the given group.
pub fn start(world: &World, group: Group) -> Result<Running, String> {
    let configuration = world.folder().join("node.cfg");
    let text = EXAMPLE.replace("group 31", &format!("group {}", group.number()));
    std::fs::write(&configuration, text).map_err(|error| format!("{}: {error}", configuration.display()))?;
    let path = |name: &str| world.folder().join(name).display().to_string();
    let mut node = Running::start(
        &world.gateway(),
        &[
            &program(),
            "run",
            "--config",
            &configuration.display().to_string(),
            "--run-dir",
            &path("run"),
            "--state-dir",
            &path("state"),
        ],
        &[],
        world.folder().join("node.log"),
        PATIENCE,
    )?;
    node.wait_until("ready", START_LIMIT, |node| node.log().contains("node is ready"))?;
    Ok(node)
}

/// Runs simulated eNodeBs that set `tunnels` up and leave them; returns the JSON object they print.
pub fn enodebs(world: &World, group: Group, tunnels: u32) -> Result<serde_json::Value, String> {
    let text = output_in(
        &world.ran(),
        &[
            &program(),
            "sim",
            "enodebs",
            "--gateway",
            GATEWAY,
            "--local",
            &INITIATORS.join(","),
            "--tunnels",
            &tunnels.to_string(),
            "--psk",
            SECRET,
            "--group",
            &group.number().to_string(),
            "--inner",
            FIRST_INNER,
            "--protected",
            PROTECTED,
            "--duration",
            "0",
            "--keep",
        ],
    )?;
    let last = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(last).map_err(|error| format!("the simulator's last line '{last}': {error}"))
}

/// Sets one tunnel up with a TUN device, for ordinary programs to send through.
pub fn tunnel(world: &World) -> Result<Running, String> {
    let program = program();
    let mut tunnel = Running::start(
        &world.ran(),
        &[
            &program,
            "sim",
            "tunnel",
            "--gateway",
            GATEWAY,
            "--local",
            INITIATORS[0],
            "--psk",
            SECRET,
            "--inner",
            FIRST_INNER,
            "--protected",
            PROTECTED,
            "--device",
            DEVICE,
        ],
        &[],
        world.folder().join("tunnel.log"),
        PATIENCE,
    )?;
    let ready = |_: &Running| {
        output_in(&world.ran(), &["ip", "route", "get", crate::world::HOST])
            .is_ok_and(|route| route.contains(DEVICE))
    };
    tunnel.wait_until("up", START_LIMIT, ready)?;
    Ok(tunnel)
}

/// The release binary: the one beside this program; `STARWARD` names another.
fn program() -> String {
    std::env::var("STARWARD").unwrap_or_else(|_| {
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("target/release/starward-bench"));
        own.with_file_name("starward").display().to_string()
    })
}

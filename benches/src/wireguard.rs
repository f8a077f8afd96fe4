//! WireGuard in user space: wireguard-go and boringtun, as peers of the traffic rows.

use std::path::Path;
use std::time::Duration;

use crate::gateway::{Kind, Setting};
use crate::process::{Running, find, output, output_in, pinned, run};
use crate::world::{FIRST_INNER, GATEWAY, HOST, INITIATORS, World};

const START_LIMIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(2);
const PORT: &str = "51820";
/// What fits into 1500 octets outside.
const MTU: &str = "1420";

/// Its program.
fn program(kind: Kind) -> &'static str {
    match kind {
        Kind::Boringtun => "boringtun-cli",
        _ => "wireguard-go",
    }
}

/// Its name and version, or why it cannot be measured.
pub fn name(kind: Kind) -> Result<String, String> {
    for program in [program(kind), "wg"] {
        find(program).map_err(|_| format!("{program} is not in PATH"))?;
    }
    let text = output(&[program(kind), "--version"]).unwrap_or_default();
    let words = text.split_whitespace();
    let version = words
        .map(|word| word.trim_start_matches('v'))
        .find(|word| word.starts_with(|first: char| first.is_ascii_digit()))
        .unwrap_or_default();
    Ok(format!("{kind} {version}").trim_end().to_owned())
}

/// Starts the end that stands for the gateway. It has its keys and waits for [`tunnel`] to tell it of its peer.
pub fn start_responder(world: &World, kind: Kind, setting: &Setting) -> Result<Running, String> {
    world.address_gateway()?;
    let running = start(world, kind, &world.gateway(), setting.cpu)?;
    keys(world, &world.gateway(), PORT)?;
    Ok(running)
}

/// Starts the other end and ties both together.
pub fn tunnel(world: &World, kind: Kind, cpu: Option<usize>) -> Result<Running, String> {
    let (near, far) = (world.ran(), world.gateway());
    let running = start(world, kind, &near, cpu)?;
    keys(world, &near, PORT)?;
    peer(world, &near, &far, &format!("{GATEWAY}:{PORT}"), HOST)?;
    peer(
        world,
        &far,
        &near,
        &format!("{}:{PORT}", INITIATORS[0]),
        FIRST_INNER,
    )?;
    for device in [&near, &far] {
        run(&["ip", "-n", device, "link", "set", device, "up", "mtu", MTU])?;
    }
    world.address(&near, &near, &format!("{FIRST_INNER}/32"))?;
    let host = format!("{HOST}/32");
    run(&[
        "ip",
        "-n",
        &near,
        "route",
        "add",
        &host,
        "dev",
        &near,
        "src",
        FIRST_INNER,
    ])?;
    let inner = format!("{FIRST_INNER}/32");
    run(&["ip", "-n", &far, "route", "add", &inner, "dev", &far])?;
    Ok(running)
}

/// Starts one end. Its device has the name of its namespace: control sockets are files with the names of devices.
fn start(world: &World, kind: Kind, namespace: &str, cpu: Option<usize>) -> Result<Running, String> {
    let mut command = vec![program(kind), "-f"];
    if kind == Kind::Boringtun {
        command.push("--disable-drop-privileges");
    }
    command.push(namespace);
    let pins = pinned(cpu);
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    let mut running = Running::start(
        namespace,
        &[&pins, &*command].concat(),
        &[("WG_SUDO", "1"), ("WG_PROCESS_FOREGROUND", "1")],
        world.folder().join(format!("{namespace}.log")),
        PATIENCE,
    )?;
    running.wait_until("ready", START_LIMIT, |_| {
        output_in(namespace, &["wg", "show", namespace]).is_ok()
    })?;
    Ok(running)
}

/// Makes the keys of one end.
fn keys(world: &World, namespace: &str, port: &str) -> Result<(), String> {
    let file = world.folder().join(namespace).display().to_string();
    let make = format!("umask 077; wg genkey > {file}.key && wg pubkey < {file}.key > {file}.pub");
    run(&["sh", "-c", &make])?;
    let key = format!("{file}.key");
    let set = ["wg", "set", namespace, "listen-port", port, "private-key", &key];
    output_in(namespace, &set).map(drop)
}

/// Tells one end of the other.
fn peer(world: &World, namespace: &str, other: &str, endpoint: &str, allowed: &str) -> Result<(), String> {
    let file = world.folder().join(format!("{other}.pub"));
    let key = read(&file)?;
    let allowed = format!("{allowed}/32");
    let set = [
        "wg",
        "set",
        namespace,
        "peer",
        key.trim(),
        "endpoint",
        endpoint,
        "allowed-ips",
        &allowed,
    ];
    output_in(namespace, &set).map(drop)
}

fn read(file: &Path) -> Result<String, String> {
    std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}

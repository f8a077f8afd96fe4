//! Our gateway, and our programs at the other end.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::gateway::{SECRET, Setting};
use crate::process::{Running, last_object, output_in, pinned};
use crate::world::{FIRST_INNER, GATEWAY, INITIATORS, PROTECTED, World};

/// The gateway's configuration, with group 31 and pre-shared key.
const EXAMPLE: &str = include_str!("../../examples/secgw.cfg");
/// Lines of it that certificates take the place of.
const KEYS: [&str; 2] = [
    "authentication local pre-shared-key key demo-only-not-a-secret",
    "authentication remote pre-shared-key key demo-only-not-a-secret",
];
const START_LIMIT: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(5);
const DEVICE: &str = "tunnel0";

/// Starts the node with the example's configuration, changed as the setting says.
pub fn start(world: &World, setting: &Setting) -> Result<Running, String> {
    let configuration = world.folder().join("node.cfg");
    std::fs::write(&configuration, configured(setting))
        .map_err(|error| format!("{}: {error}", configuration.display()))?;
    let pins = pinned(setting.cpu);
    let pins: Vec<&str> = pins.iter().map(String::as_str).collect();
    let (program, run, state) = (program(), directory(world, "run"), directory(world, "state"));
    let configuration = configuration.display().to_string();
    let command = [
        program.as_str(),
        "run",
        "--config",
        &configuration,
        "--run-dir",
        &run,
        "--state-dir",
        &state,
    ];
    let mut node = Running::start(
        &world.gateway(),
        &[&pins, &command[..]].concat(),
        &[],
        world.folder().join("node.log"),
        PATIENCE,
    )?;
    node.wait_until("ready", START_LIMIT, |node| node.log().contains("node is ready"))?;
    Ok(node)
}

/// Runs commands in the shell of the node.
pub fn show(world: &World, commands: &[&str]) -> Result<String, String> {
    let (program, run) = (program(), directory(world, "run"));
    let mut command = vec![program.as_str(), "cli", "--run-dir", &run];
    command.extend(commands.iter().flat_map(|text| ["-c", text]));
    output_in(&world.gateway(), &command)
}

/// What every command with simulated peers is told of the gateway and of them.
pub fn peers(setting: &Setting) -> Vec<String> {
    let mut arguments: Vec<String> = [
        "--gateway",
        GATEWAY,
        "--local",
        &INITIATORS.join(","),
        "--protected",
        PROTECTED,
        "--group",
        &setting.group.number().to_string(),
    ]
    .map(str::to_owned)
    .to_vec();
    match &setting.certificates {
        None => arguments.extend(["--psk", SECRET].map(str::to_owned)),
        Some(folder) => {
            let file = |name: &str| folder.join(name).display().to_string();
            let named = [
                ("--certificate", "peers"),
                ("--key", "peer.key"),
                ("--ca", "root.pem"),
            ];
            arguments.extend(
                named
                    .map(|(option, name)| [option.to_owned(), file(name)])
                    .concat(),
            );
        }
    }
    arguments
}

/// Starts a command of the simulator in a namespace.
pub fn simulate(
    world: &World,
    namespace: &str,
    cpu: Option<usize>,
    command: &str,
    arguments: &[String],
) -> Result<Running, String> {
    let words = pinned(cpu)
        .into_iter()
        .chain([program(), "sim".to_owned(), command.to_owned()])
        .chain(arguments.iter().cloned())
        .collect::<Vec<_>>();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let log = world.folder().join(format!("{command}-{}.log", world.next()));
    Running::start(namespace, &words, &[], log, PATIENCE)
}

/// Sets `tunnels` up and leaves them; the outcome. Set-ups that fail are in it.
pub fn load(world: &World, setting: &Setting, tunnels: u32) -> Result<Value, String> {
    const LIMIT: Duration = Duration::from_secs(600);
    let mut arguments = peers(setting);
    arguments.extend(["--count".to_owned(), tunnels.to_string(), "--keep".to_owned()]);
    simulate(world, &world.ran(), None, "load", &arguments)?.result(LIMIT)
}

/// Runs a command of the simulator outside of all namespaces of a world; its result, also when something in it failed.
pub fn simulate_outside(arguments: &[String]) -> Result<Value, String> {
    let output = Command::new(program())
        .arg("sim")
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("run the simulator: {error}"))?;
    last_object(&String::from_utf8_lossy(&output.stdout))
        .map_err(|_| String::from_utf8_lossy(&output.stderr).trim().to_owned())
}

/// An authority with one peer key and `peers` certificates, in a folder of that name.
pub fn authority(folder: &Path, key: &str, peers: u32) -> Result<PathBuf, String> {
    let folder = folder.join(key);
    let words = [
        "pki",
        "--folder",
        &folder.display().to_string(),
        "--key",
        key,
        "--peers",
        &peers.to_string(),
        "--shared-key",
    ];
    simulate_outside(&words.map(str::to_owned))?;
    Ok(folder)
}

/// Sets one tunnel up with a TUN device, for ordinary programs to send through.
pub fn tunnel(world: &World, cpu: Option<usize>) -> Result<Running, String> {
    let arguments = [
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
    ];
    let mut tunnel = simulate(world, &world.ran(), cpu, "tunnel", &arguments.map(str::to_owned))?;
    let ready = |_: &Running| {
        output_in(&world.ran(), &["ip", "route", "get", crate::world::HOST])
            .is_ok_and(|route| route.contains(DEVICE))
    };
    tunnel.wait_until("up", START_LIMIT, ready)?;
    Ok(tunnel)
}

/// The example's configuration with what the setting changes.
fn configured(setting: &Setting) -> String {
    let mut text = EXAMPLE.replace("group 31", &format!("group {}", setting.group.number()));
    if let Some(folder) = &setting.certificates {
        let file = |name: &str| folder.join(name).display().to_string();
        let certificates = format!(
            "config\n  certificate name gw pem url file:{} private-key pem url file:{}\n  ca-certificate name root pem url file:{}",
            file("gateway.pem"),
            file("gateway.key"),
            file("root.pem")
        );
        let methods = [
            "authentication local certificate\n      certificate gw",
            "authentication remote certificate\n      ca-certificate list ca-cert-name root",
        ];
        text = text.replacen("\nconfig", &format!("\n{certificates}"), 1);
        for (key, method) in KEYS.iter().zip(methods) {
            text = text.replace(key, method);
        }
    }
    text.replacen(
        "  context local\n",
        &format!("  context local\n{}", setting.context),
        1,
    )
}

fn directory(world: &World, name: &str) -> String {
    world.folder().join(name).display().to_string()
}

/// The release binary: the one beside this program; `STARWARD` names another.
fn program() -> String {
    std::env::var("STARWARD").unwrap_or_else(|_| {
        let own = std::env::current_exe().unwrap_or_else(|_| PathBuf::from("target/release/starward-bench"));
        own.with_file_name("starward").display().to_string()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configuration_changes_where_it_should() {
        assert_eq!(configured(&Setting::default()), EXAMPLE);
        let setting = Setting {
            certificates: Some(PathBuf::from("/pki")),
            context: "    ip route 10.99.0.0 255.255.0.0 10.10.0.101 ran\n",
            ..Setting::default()
        };
        let text = configured(&setting);
        assert!(!text.contains("pre-shared-key"), "{text}");
        for words in [
            "\nconfig\n  certificate name gw pem url file:/pki/gateway.pem private-key",
            "      authentication local certificate\n      certificate gw\n",
            "  context local\n    ip route 10.99.0.0",
        ] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert_eq!(peers(&setting).iter().filter(|word| *word == "--psk").count(), 0);
    }
}

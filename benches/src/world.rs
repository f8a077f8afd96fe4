//! The network of a measurement: three namespaces in a row. Devices and addresses are those of `examples/secgw.cfg`.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::process::run;

/// Outer address of the gateway.
pub const GATEWAY: &str = "10.10.0.1";
/// Outer addresses of the initiators.
pub const INITIATORS: [&str; 4] = ["10.10.0.101", "10.10.0.102", "10.10.0.103", "10.10.0.104"];
/// Inner addresses of the initiators: one each, from the first on.
pub const INNER: &str = "10.64.0.0/10";
/// Inner address of the initiator of a single tunnel.
pub const FIRST_INNER: &str = "10.64.0.1";
/// Network behind the gateway.
pub const PROTECTED: &str = "172.16.0.0/24";
/// A host in it.
pub const HOST: &str = "172.16.0.10";
const GATEWAY_CORE: &str = "172.16.0.1";

/// Where worlds are built: a prefix for the names of their namespaces, a scratch folder.
pub struct Ground {
    prefix: String,
    folder: PathBuf,
    next: Cell<u32>,
}

/// Three namespaces; gone when dropped, with every process in them.
pub struct World {
    name: String,
    folder: PathBuf,
    next: AtomicU32,
    /// Whoever only refers to it leaves it there.
    owned: bool,
}

impl Ground {
    /// Scratch folder and names that no other run has.
    pub fn new() -> Result<Self, String> {
        let prefix = format!("swb{}", std::process::id());
        let folder = std::env::temp_dir().join(format!("starward-bench-{prefix}"));
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self {
            prefix,
            folder,
            next: Cell::new(0),
        })
    }

    /// What the names of its namespaces begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Scratch folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Builds a fresh world. The gateway's devices have no addresses yet: our node sets its own.
    pub fn world(&self) -> Result<World, String> {
        let number = self.next.get();
        self.next.set(number + 1);
        let name = format!("{}x{number}", self.prefix);
        let folder = self.folder.join(&name);
        std::fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let world = World {
            name,
            folder,
            next: AtomicU32::new(0),
            owned: true,
        };
        world.build()?;
        Ok(world)
    }
}

impl World {
    /// Namespace of the initiators.
    pub fn ran(&self) -> String {
        format!("{}r", self.name)
    }

    /// Namespace of the gateway.
    pub fn gateway(&self) -> String {
        format!("{}g", self.name)
    }

    /// Namespace of the host behind the gateway.
    pub fn host(&self) -> String {
        format!("{}h", self.name)
    }

    /// Scratch folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A number that this world has not given before.
    pub fn next(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The same world for another thread, which must end before it.
    pub fn reference(&self) -> Self {
        Self {
            name: self.name.clone(),
            folder: self.folder.clone(),
            next: AtomicU32::new(0),
            owned: false,
        }
    }

    /// Gives the gateway's devices their addresses, as our node does for itself.
    pub fn address_gateway(&self) -> Result<(), String> {
        for (device, address) in [("ran0", GATEWAY), ("core0", GATEWAY_CORE)] {
            self.address(&self.gateway(), device, &format!("{address}/24"))?;
            run(&["ip", "-n", &self.gateway(), "link", "set", device, "up"])?;
        }
        Ok(())
    }

    /// Gives a device an address.
    pub fn address(&self, namespace: &str, device: &str, address: &str) -> Result<(), String> {
        run(&["ip", "-n", namespace, "addr", "add", address, "dev", device])
    }

    fn build(&self) -> Result<(), String> {
        let (ran, gateway, host) = (self.ran(), self.gateway(), self.host());
        for namespace in [&ran, &gateway, &host] {
            run(&["ip", "netns", "add", namespace])?;
            run(&["ip", "-n", namespace, "link", "set", "lo", "up"])?;
        }
        for (device, far) in [("ran0", &ran), ("core0", &host)] {
            run(&[
                "ip", "link", "add", device, "netns", &gateway, "type", "veth", "peer", "name", device,
                "netns", far,
            ])?;
            run(&["ip", "-n", far, "link", "set", device, "up"])?;
        }
        for address in INITIATORS {
            self.address(&ran, "ran0", &format!("{address}/24"))?;
        }
        self.address(&host, "core0", &format!("{HOST}/24"))?;
        run(&["ip", "-n", &host, "route", "add", "default", "via", GATEWAY_CORE])?;
        run(&[
            "ip",
            "netns",
            "exec",
            &gateway,
            "sysctl",
            "-qw",
            "net.ipv4.ip_forward=1",
            "net.ipv4.conf.all.rp_filter=0",
            "net.ipv4.conf.default.rp_filter=0",
        ])
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.owned {
            for namespace in [self.ran(), self.gateway(), self.host()] {
                remove(&namespace);
            }
        }
    }
}

/// The namespaces whose names begin with `prefix`.
pub fn namespaces(prefix: &str) -> Vec<String> {
    lines(&["ip", "netns", "list"])
        .iter()
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| name.starts_with(prefix))
        .map(str::to_owned)
        .collect()
}

/// Kills the processes in a namespace (they were all started by the run that made it) and removes it.
pub fn remove(namespace: &str) {
    for pid in lines(&["ip", "netns", "pids", namespace]) {
        if let Ok(pid) = pid.trim().parse() {
            // One that is gone already is what is wanted.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = run(&["ip", "netns", "del", namespace]);
}

fn lines(command: &[&str]) -> Vec<String> {
    let (program, arguments) = command.split_first().unwrap_or((&"true", &[]));
    Command::new(program)
        .args(arguments)
        .output()
        .map(|output| {
            String::from_utf8_lossy(&output.stdout)
                .lines()
                .map(str::to_owned)
                .collect()
        })
        .unwrap_or_default()
}

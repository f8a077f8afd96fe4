//! Three namespaces in a row: peer, node, host.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::process::{run, run_in, try_run_in};

/// Namespaces and a scratch folder of one scenario; taken down when dropped.
pub struct World {
    name: String,
    folder: PathBuf,
}

impl World {
    /// Builds the world of `scenario`.
    pub fn new(scenario: &str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("st{}x{number}", std::process::id());
        let folder = std::env::temp_dir().join(format!("starward-test-{name}-{scenario}"));
        std::fs::create_dir_all(&folder).expect("scratch folder");
        let world = Self { name, folder };
        world.build();
        world
    }

    /// Namespace of the IPsec peer.
    pub fn peer(&self) -> String {
        format!("{}p", self.name)
    }

    /// Namespace the node runs in.
    pub fn node(&self) -> String {
        format!("{}g", self.name)
    }

    /// Namespace of the host behind the node.
    pub fn host(&self) -> String {
        format!("{}h", self.name)
    }

    /// Scratch folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Writes a file into the scratch folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).expect("scratch folder");
        }
        std::fs::write(&path, text).expect("scratch file");
        path
    }

    /// Prints what the kernel dropped in each namespace, to tell a loss of ours from one of the peer's sockets.
    pub fn print_drops(&self) {
        for (name, namespace) in [
            ("peer", self.peer()),
            ("node", self.node()),
            ("host", self.host()),
        ] {
            for command in [
                &["grep", "^Udp:", "/proc/net/snmp"][..],
                &["grep", "^Udp6.*Errors", "/proc/net/snmp6"],
                &["ip", "-s", "link"],
            ] {
                eprintln!(
                    "---- {name}: {}\n{}",
                    command.join(" "),
                    try_run_in(&namespace, command, &[]).1
                );
            }
        }
    }

    fn build(&self) {
        let (peer, node, host) = (self.peer(), self.node(), self.host());
        for namespace in [&peer, &node, &host] {
            run(&["ip", "netns", "add", namespace]);
            run_in(namespace, &["ip", "link", "set", "lo", "up"]);
            run_in(
                namespace,
                &["sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0"],
            );
        }
        run(&[
            "ip", "link", "add", "vran", "netns", &node, "type", "veth", "peer", "name", "vran", "netns",
            &peer,
        ]);
        run(&[
            "ip", "link", "add", "vcore", "netns", &node, "type", "veth", "peer", "name", "vcore", "netns",
            &host,
        ]);
        run_in(&peer, &["ip", "addr", "add", "10.10.0.1/24", "dev", "vran"]);
        run_in(
            &peer,
            &["ip", "addr", "add", "fd10::1/64", "dev", "vran", "nodad"],
        );
        run_in(&peer, &["ip", "addr", "add", "10.20.1.1/32", "dev", "lo"]);
        run_in(
            &peer,
            &["ip", "addr", "add", "fd20:1::1/128", "dev", "lo", "nodad"],
        );
        run_in(&peer, &["ip", "link", "set", "vran", "up"]);
        run_in(&host, &["ip", "addr", "add", "10.20.2.1/24", "dev", "vcore"]);
        run_in(
            &host,
            &["ip", "addr", "add", "fd20:2::1/64", "dev", "vcore", "nodad"],
        );
        run_in(&host, &["ip", "link", "set", "vcore", "up"]);
        run_in(&host, &["ip", "route", "add", "default", "via", "10.20.2.254"]);
        run_in(
            &host,
            &["ip", "-6", "route", "add", "default", "via", "fd20:2::fe"],
        );
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for namespace in [self.peer(), self.node(), self.host()] {
            for pid in pids_in(&namespace) {
                let _ = nix::sys::signal::kill(
                    nix::unistd::Pid::from_raw(pid),
                    nix::sys::signal::Signal::SIGKILL,
                );
            }
            let _ = Command::new("ip").args(["netns", "del", &namespace]).status();
        }
        if std::thread::panicking() {
            eprintln!("kept for inspection: {}", self.folder.display());
        } else {
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }
}

/// Processes whose network namespace is this one: all were started by the scenario, because it made the namespace.
fn pids_in(namespace: &str) -> Vec<i32> {
    let output = Command::new("ip").args(["netns", "pids", namespace]).output();
    let Ok(output) = output else { return Vec::new() };
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.trim().parse().ok())
        .collect()
}

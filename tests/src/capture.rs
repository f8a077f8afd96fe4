//! A capture on the outside of the node.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::{Running, run};
use crate::world::World;

/// Records every packet between peer and node until it is stopped.
pub struct Capture {
    process: Running,
    file: String,
}

impl Capture {
    /// Starts recording in the peer's namespace.
    pub fn start(world: &World) -> Self {
        let file = world.folder().join("outside.pcap").to_string_lossy().into_owned();
        let mut process = Running::start(
            &world.peer(),
            &["tcpdump", "-U", "-i", "vran", "-s", "128", "-w", &file],
            &[],
            &world.folder().join("tcpdump.log"),
        );
        for _ in 0..100 {
            assert!(!process.ended(), "tcpdump ended: {}", process.log());
            if process.log().contains("listening on") {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, file }
    }

    /// Stops and returns how many packets match `filter` (pcap-filter syntax).
    pub fn stop(mut self) -> Recorded {
        self.process.signal(Signal::SIGINT);
        let _ = self.process.wait(Duration::from_secs(5));
        Recorded {
            file: self.file.clone(),
        }
    }
}

/// A finished capture.
pub struct Recorded {
    file: String,
}

impl Recorded {
    /// How many packets match `filter` (pcap-filter syntax).
    pub fn count(&self, filter: &str) -> usize {
        self.lines(filter).len()
    }

    /// One line for each packet that matches `filter`.
    pub fn lines(&self, filter: &str) -> Vec<String> {
        run(&["tcpdump", "-n", "-t", "-r", &self.file, filter])
            .lines()
            .filter(|line| line.contains("IP"))
            .map(str::to_owned)
            .collect()
    }

    /// Fails the scenario when anything but IKE, ESP and neighbour discovery was seen, or nothing at all.
    pub fn only_ike_and_esp(&self) {
        let strange = self.lines(
            "(ip or ip6) and not (udp port 500 or udp port 4500 or ip proto 50 or ip6 proto 50 or icmp6) and not (ip6 and dst net ff00::/8)",
        );
        assert!(
            strange.is_empty(),
            "clear packets outside the node: {:?}",
            &strange[..strange.len().min(5)]
        );
        assert!(
            self.count("udp port 500 or udp port 4500") > 0,
            "nothing was captured"
        );
    }
}

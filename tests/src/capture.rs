//! A capture on the outside of the node.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::process::{Running, run};
use crate::world::World;

/// Room for what tcpdump has no time to read.
const BUFFER_KILOBYTES: &str = "65536";
/// What tcpdump has not read when it is told to stop is lost.
const SETTLE: Duration = Duration::from_millis(500);

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
            &[
                "tcpdump",
                "-i",
                "vran",
                "-s",
                "128",
                "-B",
                BUFFER_KILOBYTES,
                "--immediate-mode",
                "-w",
                &file,
            ],
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

    /// Stops and returns what was recorded.
    pub fn stop(mut self) -> Recorded {
        std::thread::sleep(SETTLE);
        self.process.signal(Signal::SIGINT);
        let _ = self.process.wait();
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

    /// ESP SPIs in packets from an address, as eight hexadecimal digits.
    pub fn spis(&self, source: &str) -> BTreeSet<String> {
        self.lines(&format!("src host {source}"))
            .iter()
            .filter_map(|line| line.split_once("ESP(spi=0x")?.1.split(',').next())
            .map(str::to_owned)
            .collect()
    }

    /// Initiator's SPIs of the IKE SAs that somebody began: one for each, however often the request was sent.
    pub fn begun(&self) -> BTreeSet<String> {
        // Exchange type IKE_SA_INIT, and no flag of responses (RFC 7296 3.1).
        let requests = "udp port 500 and udp[26] = 34 and udp[27] & 0x20 = 0";
        let dump = run(&["tcpdump", "-n", "-t", "-x", "-r", &self.file, requests]);
        let packets = dump.split("\nIP").map(|packet| {
            let lines = packet
                .lines()
                .filter_map(|line| line.trim().strip_prefix("0x")?.split_once(':'));
            lines
                .flat_map(|(_, words)| words.split_whitespace())
                .collect::<String>()
        });
        // Behind 20 octets of IPv4 and 8 of UDP.
        packets
            .filter_map(|hex| Some(hex.get(56..72)?.to_owned()))
            .collect()
    }

    /// Fails the scenario when anything but IKE, ESP and neighbour discovery was seen, or nothing at all.
    pub fn only_ike_and_esp(&self) {
        self.only("udp port 500 or udp port 4500 or ip proto 50 or ip6 proto 50");
    }

    /// Fails the scenario when anything but IKE on port 500, ESP as protocol 50 and neighbour discovery was seen, or no ESP.
    pub fn only_ike_and_protocol_50(&self) {
        self.only("udp port 500 or ip proto 50 or ip6 proto 50");
        assert!(
            self.count("ip proto 50 or ip6 proto 50") > 0,
            "no ESP was captured"
        );
    }

    fn only(&self, allowed: &str) {
        let strange = self.lines(&format!(
            "(ip or ip6) and not ({allowed} or icmp6) and not (ip6 and dst net ff00::/8)"
        ));
        assert!(
            strange.is_empty(),
            "strange packets outside the node: {:?}",
            &strange[..strange.len().min(5)]
        );
        assert!(self.count(allowed) > 0, "nothing was captured");
    }
}

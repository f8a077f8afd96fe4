//! What the parts of the simulator tell each other: JSON objects, one a line.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How often a part tells how far it is.
const INTERVAL: Duration = Duration::from_millis(250);

/// Seconds that anything may be asked to last: a year.
pub(crate) const LONGEST: u64 = 365 * 24 * 3600;

/// What the eNodeBs have done so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tally {
    pub tunnels_requested: u64,
    /// At the moment; at the end of the traffic in the last word.
    pub tunnels_up: u64,
    /// That came up, whatever became of them.
    pub tunnels_set_up: u64,
    pub tunnels_failed: u64,
    /// IKE requests that had to be sent again.
    pub retransmissions: u64,
    /// From the first request to the last tunnel up.
    pub setup_seconds: f64,
    pub packets_sent: u64,
    pub packets_echoed: u64,
    /// Inner octets that arrived, both directions.
    pub bytes: u64,
    /// While packets flowed.
    pub traffic_seconds: f64,
    /// Set-up is over and packets flow.
    pub flowing: bool,
    pub errors: Vec<String>,
}

/// What the host has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub packets: u64,
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "tunnels_requested": self.tunnels_requested,
            "tunnels_up": self.tunnels_up,
            "tunnels_set_up": self.tunnels_set_up,
            "tunnels_failed": self.tunnels_failed,
            "retransmissions": self.retransmissions,
            "setup_seconds": self.setup_seconds,
            "setup_rate_per_s": self.setup_rate(),
            "packets_sent": self.packets_sent,
            "packets_echoed": self.packets_echoed,
            "bytes": self.bytes,
            "traffic_seconds": self.traffic_seconds,
            "flowing": self.flowing,
            "errors": self.errors,
        })
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        let count = |name: &str| value[name].as_u64().unwrap_or_default();
        let seconds = |name: &str| value[name].as_f64().unwrap_or_default();
        Self {
            tunnels_requested: count("tunnels_requested"),
            tunnels_up: count("tunnels_up"),
            tunnels_set_up: count("tunnels_set_up"),
            tunnels_failed: count("tunnels_failed"),
            retransmissions: count("retransmissions"),
            setup_seconds: seconds("setup_seconds"),
            packets_sent: count("packets_sent"),
            packets_echoed: count("packets_echoed"),
            bytes: count("bytes"),
            traffic_seconds: seconds("traffic_seconds"),
            flowing: value["flowing"].as_bool().unwrap_or_default(),
            errors: value["errors"]
                .as_array()
                .map(|errors| {
                    errors
                        .iter()
                        .filter_map(|error| error.as_str().map(str::to_owned))
                        .collect()
                })
                .unwrap_or_default(),
        }
    }

    /// Tunnels a second.
    pub(crate) fn setup_rate(&self) -> f64 {
        if self.setup_seconds > 0.0 {
            self.tunnels_set_up as f64 / self.setup_seconds
        } else {
            0.0
        }
    }
}

impl Counted {
    pub(crate) fn to_json(self) -> Value {
        json!({ "packets": self.packets, "bytes": self.bytes })
    }

    pub(crate) fn from_json(value: &Value) -> Self {
        Self {
            packets: value["packets"].as_u64().unwrap_or_default(),
            bytes: value["bytes"].as_u64().unwrap_or_default(),
        }
    }
}

/// Prints a line of progress now and then.
pub(crate) struct Reporter {
    next: Instant,
    wanted: bool,
}

impl Reporter {
    /// `wanted`: print progress, not only the end.
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            next: Instant::now(),
            wanted,
        }
    }

    /// Prints if it is time to.
    pub(crate) fn report(&mut self, now: Instant, value: impl FnOnce() -> Value) {
        if self.wanted && now >= self.next {
            self.next = now + INTERVAL;
            print(&value());
        }
    }
}

/// Prints one line. Whoever does not read any more misses nothing.
pub(crate) fn print(value: &Value) {
    tell(&value.to_string());
}

/// Prints one line for a reader, likewise.
pub(crate) fn tell(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}");
    let _ = out.flush();
}

/// Prints one line on standard error, likewise.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

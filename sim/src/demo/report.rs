//! What came of the demo.

use std::time::Duration;

use serde_json::{Value, json};

use crate::progress::{Counted, Tally};

/// What the parts have counted.
#[derive(Debug, Clone, Default)]
pub(super) struct Report {
    pub tally: Tally,
    pub counted: Counted,
    pub elapsed: Duration,
}

impl Report {
    /// No tunnel and no packet was lost.
    pub(super) fn is_fine(&self) -> bool {
        self.tally.tunnels_up == self.tally.tunnels_requested
            && self.tally.packets_sent == self.counted.packets
            && self.tally.packets_echoed == self.counted.packets
            && self.tally.errors.is_empty()
    }

    pub(super) fn to_json(&self) -> Value {
        let Self {
            tally,
            counted,
            elapsed,
        } = self;
        json!({
            "tunnels_requested": tally.tunnels_requested,
            "tunnels_up": tally.tunnels_up,
            "setup_rate_per_s": tally.setup_rate(),
            "packets_sent": tally.packets_sent,
            "packets_received": counted.packets,
            "packets_echoed": tally.packets_echoed,
            "packets_lost": self.lost(),
            "bytes": tally.bytes,
            "throughput_mbps": self.megabits(),
            "elapsed_s": elapsed.as_secs_f64(),
            "errors": tally.errors,
        })
    }

    /// The same for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let Self { tally, counted, .. } = self;
        let mut lines = vec![
            format!(
                "{} of {} tunnels up, {:.0} set-ups/s, {:.2} Gbit/s",
                tally.tunnels_up,
                tally.tunnels_requested,
                tally.setup_rate(),
                self.megabits() / 1e3,
            ),
            format!(
                "packets: {} sent, {} at the host, {} echoed",
                tally.packets_sent, counted.packets, tally.packets_echoed,
            ),
            format!("packets lost: {}", self.lost()),
        ];
        lines.extend(tally.errors.iter().map(|error| format!("error: {error}")));
        lines
    }

    fn lost(&self) -> u64 {
        let Self { tally, counted, .. } = self;
        tally.packets_sent.saturating_sub(counted.packets)
            + counted.packets.saturating_sub(tally.packets_echoed)
    }

    fn megabits(&self) -> f64 {
        if self.tally.traffic_seconds > 0.0 {
            self.tally.bytes as f64 * 8.0 / self.tally.traffic_seconds / 1e6
        } else {
            0.0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::COLUMNS;

    /// Ten tunnels, everything there.
    fn fine() -> Report {
        Report {
            tally: Tally {
                tunnels_requested: 10,
                tunnels_up: 10,
                tunnels_set_up: 10,
                setup_seconds: 2.0,
                packets_sent: 1000,
                packets_echoed: 1000,
                bytes: 1_000_000,
                traffic_seconds: 2.0,
                ..Tally::default()
            },
            counted: Counted {
                packets: 1000,
                bytes: 500_000,
            },
            elapsed: Duration::from_secs(5),
        }
    }

    #[test]
    fn whatever_is_lost_is_told_and_not_fine() {
        assert!(fine().is_fine());
        let mut tunnel = fine();
        tunnel.tally.tunnels_up = 3;
        assert!(!tunnel.is_fine());
        let json = tunnel.to_json();
        // The rate is of set-ups, whatever became of them.
        assert_eq!(
            (&json["tunnels_up"], &json["setup_rate_per_s"]),
            (&json!(3), &json!(5.0))
        );
        let mut packet = fine();
        packet.tally.packets_echoed -= 1;
        packet.counted.packets -= 3;
        assert!(!packet.is_fine());
        assert_eq!(packet.to_json()["packets_lost"], 3);
        let mut error = fine();
        error.tally.errors.push("enb3: tunnel lost".to_owned());
        assert!(!error.is_fine());
    }

    #[test]
    fn lines_fit_on_a_terminal() {
        let mut report = fine();
        assert_eq!(report.lines()[0], "10 of 10 tunnels up, 5 set-ups/s, 0.00 Gbit/s");
        let most = 10_u64.pow(12);
        report.tally.tunnels_up = 100_000;
        report.tally.tunnels_requested = 100_000;
        report.tally.packets_sent = most;
        report.tally.packets_echoed = 0;
        report.counted.packets = most;
        for line in report.lines() {
            assert!(line.len() <= COLUMNS, "{line}");
        }
    }
}

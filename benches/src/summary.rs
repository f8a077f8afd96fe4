//! The rows, and how they are told.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::gateway::Kind;

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Row {
    SetupRateGroup31,
    SetupCpuGroup31,
    SetupRateGroup19,
    SetupCpuGroup19,
    ThroughputUp,
    ThroughputDown,
    PacketRate,
    MemoryPerTunnel,
}

impl Row {
    const ALL: [Self; 8] = [
        Self::SetupRateGroup31,
        Self::SetupCpuGroup31,
        Self::SetupRateGroup19,
        Self::SetupCpuGroup19,
        Self::ThroughputUp,
        Self::ThroughputDown,
        Self::PacketRate,
        Self::MemoryPerTunnel,
    ];

    /// Name for machines, title for people, unit, whether more is better, value that ours must reach: strongSwan's best on a machine of
    /// two processors, for set-ups without a data plane behind them (which ours has, and the peer in this run has).
    fn facts(self) -> (&'static str, &'static str, &'static str, bool, f64) {
        match self {
            Self::SetupRateGroup31 => (
                "setup_rate_psk_group31",
                "set-ups, PSK, group 31",
                "1/s",
                true,
                2400.0,
            ),
            Self::SetupCpuGroup31 => (
                "setup_cpu_psk_group31",
                "CPU of a set-up, PSK, group 31",
                "ms",
                false,
                0.38,
            ),
            Self::SetupRateGroup19 => (
                "setup_rate_psk_group19",
                "set-ups, PSK, group 19",
                "1/s",
                true,
                1655.0,
            ),
            Self::SetupCpuGroup19 => (
                "setup_cpu_psk_group19",
                "CPU of a set-up, PSK, group 19",
                "ms",
                false,
                0.48,
            ),
            Self::ThroughputUp => (
                "throughput_tcp_up",
                "TCP, one stream, to the host",
                "Mbit/s",
                true,
                591.0,
            ),
            Self::ThroughputDown => (
                "throughput_tcp_down",
                "TCP, one stream, from the host",
                "Mbit/s",
                true,
                591.0,
            ),
            Self::PacketRate => (
                "packet_rate_udp64",
                "64-octet UDP, loss under 1 %",
                "packets/s",
                true,
                50_000.0,
            ),
            Self::MemoryPerTunnel => ("memory_per_tunnel", "memory of a tunnel", "KiB", false, 9.9),
        }
    }

    /// Title for people.
    pub fn title(self) -> &'static str {
        self.facts().1
    }

    /// Unit of its values.
    pub fn unit(self) -> &'static str {
        self.facts().2
    }
}

/// Everything measured so far.
#[derive(Debug, Default)]
pub struct Measured {
    values: HashMap<(Kind, Row), Vec<f64>>,
    failures: HashMap<(Kind, Row), String>,
}

impl Measured {
    /// Notes the value of one run.
    pub fn add(&mut self, kind: Kind, row: Row, value: f64) {
        self.values.entry((kind, row)).or_default().push(value);
    }

    /// Notes why a row has no value.
    pub fn fail(&mut self, kind: Kind, row: Row, reason: &str) {
        self.failures.insert((kind, row), format!("{kind}: {reason}"));
    }

    /// The median of the runs; none when one failed.
    fn median(&self, kind: Kind, row: Row) -> Option<f64> {
        if self.failures.contains_key(&(kind, row)) {
            return None;
        }
        let mut values = self.values.get(&(kind, row))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Summary {
    peer: String,
    lines: Vec<Line>,
}

#[derive(Debug)]
struct Line {
    row: Row,
    ours: Option<f64>,
    peer: Option<f64>,
    reason: Option<String>,
}

impl Summary {
    /// Sums up the rows that were measured or should have been; `peer` is the peer's name and version.
    pub fn new(measured: &Measured, peer: &str) -> Self {
        let line = |row: Row| {
            let reasons: Vec<&str> = Kind::ALL
                .iter()
                .filter_map(|kind| measured.failures.get(&(*kind, row)).map(String::as_str))
                .collect();
            Line {
                row,
                ours: measured.median(Kind::Ours, row),
                peer: measured.median(Kind::Peer, row),
                reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
            }
        };
        let lines = Row::ALL
            .map(line)
            .into_iter()
            .filter(|line| line.ours.is_some() || line.peer.is_some() || line.reason.is_some())
            .collect();
        Self {
            peer: peer.to_owned(),
            lines,
        }
    }

    /// Whether every row has both values.
    pub fn is_complete(&self) -> bool {
        !self.lines.is_empty() && self.lines.iter().all(|line| line.ratio().is_some())
    }

    /// Writes the JSON list.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let list: Value = self.lines.iter().map(|line| line.json(&self.peer)).collect();
        let text = format!("{list:#}\n");
        file.parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(file, text))
            .map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Line {
    /// How many times better ours is.
    fn ratio(&self) -> Option<f64> {
        let (ours, peer) = (self.ours?, self.peer?);
        let (_, _, _, higher, _) = self.row.facts();
        let (good, bad) = if higher { (ours, peer) } else { (peer, ours) };
        (bad > 0.0).then(|| good / bad)
    }

    fn reaches_goal(&self) -> Option<bool> {
        let (_, _, _, higher, goal) = self.row.facts();
        self.ours
            .map(|ours| if higher { ours >= goal } else { ours <= goal })
    }

    fn json(&self, peer: &str) -> Value {
        let (name, _, unit, higher, goal) = self.row.facts();
        let mut object = json!({
            "name": name,
            "unit": unit,
            "better": if higher { "higher" } else { "lower" },
            "ours": self.ours,
            "peer": peer,
            "peer_value": self.peer,
            "ratio": self.ratio(),
            "goal": goal,
        });
        if let Some(reason) = &self.reason {
            object["not_measured"] = json!(reason);
        }
        object
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:32} {:>9} {:>10} {:>17} {:>7} {:>10}",
            "", "unit", "starward", self.peer, "ratio", "goal"
        )?;
        for line in &self.lines {
            let (_, title, unit, _, goal) = line.row.facts();
            let value = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
            writeln!(
                f,
                "{title:32} {unit:>9} {:>10} {:>17} {:>7} {:>10}{}",
                value(line.ours),
                value(line.peer),
                line.ratio()
                    .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
                figure(goal),
                if line.reaches_goal() == Some(false) {
                    "  missed"
                } else {
                    ""
                },
            )?;
        }
        // Rows often fail together.
        let reasons: BTreeSet<&str> = self
            .lines
            .iter()
            .filter_map(|line| line.reason.as_deref())
            .collect();
        for reason in reasons {
            let rows: Vec<&str> = self
                .lines
                .iter()
                .filter(|line| line.reason.as_deref() == Some(reason))
                .map(|line| line.row.title())
                .collect();
            writeln!(f, "not measured: {}: {reason}", rows.join("; "))?;
        }
        Ok(())
    }
}

/// Three digits that count.
fn figure(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(rows: &[(Kind, Row, &[f64])]) -> Measured {
        let mut measured = Measured::default();
        for (kind, row, values) in rows {
            values.iter().for_each(|value| measured.add(*kind, *row, *value));
        }
        measured
    }

    #[test]
    fn more_than_one_is_better_whatever_the_direction() {
        let measured = measured(&[
            (Kind::Ours, Row::SetupRateGroup31, &[9000.0, 3000.0, 1.0]),
            (Kind::Peer, Row::SetupRateGroup31, &[1500.0]),
            (Kind::Ours, Row::SetupCpuGroup31, &[0.2]),
            (Kind::Peer, Row::SetupCpuGroup31, &[0.5]),
        ]);
        let summary = Summary::new(&measured, "strongSwan 1");
        let objects: Vec<Value> = summary
            .lines
            .iter()
            .map(|line| line.json("strongSwan 1"))
            .collect();
        assert_eq!(objects.len(), 2);
        assert_eq!(objects[0]["ours"], 3000.0);
        assert_eq!(
            (&objects[0]["ratio"], &objects[0]["better"]),
            (&json!(2.0), &json!("higher"))
        );
        assert_eq!(
            (&objects[1]["ratio"], &objects[1]["better"]),
            (&json!(2.5), &json!("lower"))
        );
        assert!(summary.is_complete());
    }

    #[test]
    fn a_row_that_failed_says_why() {
        let mut measured = measured(&[
            (Kind::Ours, Row::PacketRate, &[80_000.0]),
            (Kind::Peer, Row::PacketRate, &[50_000.0]),
        ]);
        measured.fail(Kind::Ours, Row::PacketRate, "no tunnel");
        let summary = Summary::new(&measured, "strongSwan 1");
        assert!(!summary.is_complete());
        let object = summary.lines[0].json("strongSwan 1");
        assert_eq!((&object["ours"], &object["ratio"]), (&Value::Null, &Value::Null));
        assert_eq!(object["not_measured"], "starward: no tunnel");
        assert!(summary.to_string().contains("not measured: 64-octet UDP"));
    }
}

//! What was measured, and how it is told.

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::path::Path;

use serde_json::{Value, json};

use crate::gateway::Kind;
use crate::rows::Row;

/// Everything measured so far.
#[derive(Debug, Default)]
pub struct Measured {
    values: HashMap<(Kind, Row), Vec<f64>>,
    failures: HashMap<(Kind, Row), String>,
    /// What disturbed it: retransmissions, lost packets.
    trouble: HashMap<(Kind, Row, &'static str), u64>,
    /// Peers that are not there.
    absent: HashMap<Kind, String>,
}

impl Measured {
    /// Notes the value of one run.
    pub fn add(&mut self, kind: Kind, row: Row, value: f64) {
        eprintln!("  {kind}: {}: {} {}", row.title(), figure(value), row.unit());
        self.values.entry((kind, row)).or_default().push(value);
    }

    /// Notes the value of one run, or why there is none; gives it.
    pub fn add_or_fail(&mut self, kind: Kind, row: Row, value: Result<f64, String>) -> Option<f64> {
        match value {
            Ok(value) => {
                self.add(kind, row, value);
                Some(value)
            }
            Err(error) => {
                self.fail(kind, &[row], &error);
                None
            }
        }
    }

    /// Notes why rows have no value.
    pub fn fail(&mut self, kind: Kind, rows: &[Row], reason: &str) {
        eprintln!("  {kind}: {reason}");
        for row in rows {
            self.failures.insert((kind, *row), format!("{kind}: {reason}"));
        }
    }

    /// Whether a row of somebody has failed: it is not tried again.
    pub fn has_failed(&self, kind: Kind, row: Row) -> bool {
        self.failures.contains_key(&(kind, row))
    }

    /// Notes what disturbed a run.
    pub fn disturbed(&mut self, kind: Kind, row: Row, what: &'static str, count: u64) {
        *self.trouble.entry((kind, row, what)).or_default() += count;
    }

    /// Notes that a peer is not measured, and why.
    pub fn absent(&mut self, kind: Kind, reason: &str) {
        self.absent.insert(kind, reason.to_owned());
    }

    /// The median of the runs; none when one failed.
    pub fn median(&self, kind: Kind, row: Row) -> Option<f64> {
        if self.has_failed(kind, row) {
            return None;
        }
        let mut values = self.values.get(&(kind, row))?.clone();
        values.sort_by(f64::total_cmp);
        values.get(values.len() / 2).copied()
    }

    fn runs(&self, kind: Kind, row: Row) -> usize {
        self.values.get(&(kind, row)).map_or(0, Vec::len)
    }
}

/// The result of a run.
#[derive(Debug)]
pub struct Summary {
    /// Versions of the peers.
    names: HashMap<Kind, String>,
    lines: Vec<Line>,
    skipped: Vec<String>,
    /// What other programs measured, as objects of the list.
    more: Vec<Value>,
}

#[derive(Debug)]
struct Line {
    row: Row,
    /// Ours, and those of the peers that were measured.
    values: Vec<(Kind, Option<f64>)>,
    reason: Option<String>,
    runs: usize,
    trouble: Vec<String>,
}

impl Summary {
    /// Sums up the rows that were measured or should have been.
    pub fn new(measured: &Measured, names: HashMap<Kind, String>, more: Vec<Value>) -> Self {
        let line = |row: Row| {
            let kinds = || {
                let peers = row.facts().peers.iter().copied();
                std::iter::once(Kind::Ours).chain(peers.filter(|peer| !measured.absent.contains_key(peer)))
            };
            let reasons: Vec<&str> = kinds()
                .filter_map(|kind| measured.failures.get(&(kind, row)).map(String::as_str))
                .collect();
            let mut trouble: Vec<String> = measured
                .trouble
                .iter()
                .filter(|((_, of, _), count)| *of == row && **count > 0)
                .map(|((kind, _, what), count)| format!("{kind}: {count} {what}"))
                .collect();
            trouble.sort();
            Line {
                row,
                values: kinds().map(|kind| (kind, measured.median(kind, row))).collect(),
                reason: (!reasons.is_empty()).then(|| reasons.join("; ")),
                runs: measured.runs(Kind::Ours, row),
                trouble,
            }
        };
        let lines = Row::ALL
            .map(line)
            .into_iter()
            .filter(|line| line.reason.is_some() || line.values.iter().any(|(_, value)| value.is_some()))
            .collect();
        let mut skipped: Vec<String> = measured
            .absent
            .iter()
            .map(|(kind, reason)| format!("{kind}: {reason}"))
            .collect();
        skipped.sort();
        Self {
            names,
            lines,
            skipped,
            more,
        }
    }

    /// Whether every row has the values of everybody who is there.
    pub fn is_complete(&self) -> bool {
        let all = |line: &Line| line.values.iter().all(|(_, value)| value.is_some());
        let known = |value: &Value| value["ours"].is_number();
        !(self.lines.is_empty() && self.more.is_empty())
            && self.lines.iter().all(all)
            && self.more.iter().all(known)
    }

    /// Writes the JSON list.
    pub fn write(&self, file: &Path) -> Result<(), String> {
        let lines = self.lines.iter().map(|line| line.json(&self.names));
        let list: Value = lines.chain(self.more.iter().cloned()).collect();
        let text = format!("{list:#}\n");
        file.parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| std::fs::write(file, text))
            .map_err(|error| format!("{}: {error}", file.display()))
    }
}

impl Line {
    fn of(&self, kind: Kind) -> Option<f64> {
        self.values
            .iter()
            .find(|(other, _)| *other == kind)
            .and_then(|(_, value)| *value)
    }

    /// The best of the peers.
    fn best(&self) -> Option<(Kind, f64)> {
        let peers = self.values.iter().filter(|(kind, _)| *kind != Kind::Ours);
        let known = peers.filter_map(|(kind, value)| Some((*kind, (*value)?)));
        let higher = self.row.facts().higher;
        known.max_by(|(_, one), (_, two)| {
            let order = one.total_cmp(two);
            if higher { order } else { order.reverse() }
        })
    }

    /// How many times better ours is than the best of the peers.
    fn ratio(&self) -> Option<f64> {
        let (ours, (_, peer)) = (self.of(Kind::Ours)?, self.best()?);
        let (good, bad) = if self.row.facts().higher {
            (ours, peer)
        } else {
            (peer, ours)
        };
        (bad > 0.0).then(|| good / bad)
    }

    fn reaches_goal(&self) -> Option<bool> {
        let facts = self.row.facts();
        let (ours, goal) = (self.of(Kind::Ours)?, facts.goal?);
        Some(if facts.higher { ours >= goal } else { ours <= goal })
    }

    fn json(&self, names: &HashMap<Kind, String>) -> Value {
        let facts = self.row.facts();
        let best = self.best();
        let mut object = json!({
            "name": facts.name,
            "unit": facts.unit,
            "better": if facts.higher { "higher" } else { "lower" },
            "ours": self.of(Kind::Ours),
            "runs": self.runs,
            "ratio": self.ratio(),
            "goal": facts.goal,
            "peer": best.map(|(kind, _)| kind.to_string()),
            "peer_value": best.map(|(_, value)| value),
        });
        for (kind, value) in self.values.iter().filter(|(kind, _)| *kind != Kind::Ours) {
            let name = names.get(kind).cloned().unwrap_or_else(|| kind.to_string());
            object["peers"][name] = json!(value);
        }
        if let Some(reason) = &self.reason {
            object["not_measured"] = json!(reason);
        }
        if !self.trouble.is_empty() {
            object["disturbed"] = json!(self.trouble);
        }
        object
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:36} {:>9}", "", "unit")?;
        for kind in Kind::ALL {
            write!(f, " {:>13}", kind.to_string())?;
        }
        writeln!(f, " {:>7} {:>9} {:>4}", "ratio", "goal", "runs")?;
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), figure);
        for line in &self.lines {
            let facts = line.row.facts();
            write!(f, "{:36} {:>9}", facts.title, facts.unit)?;
            for kind in Kind::ALL {
                write!(f, " {:>13}", cell(line.of(kind)))?;
            }
            let missed = if line.reaches_goal() == Some(false) {
                "  missed"
            } else {
                ""
            };
            let ratio = line
                .ratio()
                .map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            writeln!(f, " {ratio:>7} {:>9} {:>4}{missed}", cell(facts.goal), line.runs)?;
        }
        for value in &self.more {
            let ours = value["ours"].as_f64();
            let goal = value["goal"].as_f64();
            let missed = if ours.is_some() && ours < goal {
                "  missed"
            } else {
                ""
            };
            let text = |name: &str| value[name].as_str().unwrap_or_default().to_owned();
            writeln!(
                f,
                "{:36} {:>9} {:>13} {:>41} {:>7} {:>9}{missed}",
                text("name"),
                text("unit"),
                cell(ours),
                "",
                "-",
                cell(goal)
            )?;
        }
        for line in self.lines.iter().filter(|line| !line.trouble.is_empty()) {
            writeln!(f, "disturbed: {}: {}", line.row.title(), line.trouble.join("; "))?;
        }
        for skipped in &self.skipped {
            writeln!(f, "skipped: {skipped}")?;
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
        for value in &self.more {
            if let (Some(name), Some(reason)) = (value["name"].as_str(), value["not_measured"].as_str()) {
                writeln!(f, "not measured: {name}: {reason}")?;
            }
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

    fn summary(measured: &Measured) -> (Summary, Vec<Value>) {
        let names = HashMap::from([(Kind::Strongswan, "strongSwan 1".to_owned())]);
        let summary = Summary::new(measured, names, Vec::new());
        let objects = summary
            .lines
            .iter()
            .map(|line| line.json(&summary.names))
            .collect();
        (summary, objects)
    }

    #[test]
    fn more_than_one_is_better_whatever_the_direction() {
        let measured = measured(&[
            (Kind::Ours, Row::SetupRateGroup31, &[9000.0, 3000.0, 1.0]),
            (Kind::Strongswan, Row::SetupRateGroup31, &[1500.0]),
            (Kind::Ours, Row::SetupCpuGroup31, &[0.2]),
            (Kind::Strongswan, Row::SetupCpuGroup31, &[0.5]),
        ]);
        let (summary, objects) = summary(&measured);
        assert_eq!(objects.len(), 2);
        assert_eq!(
            (&objects[0]["ours"], &objects[0]["runs"]),
            (&json!(3000.0), &json!(3))
        );
        assert_eq!(
            (&objects[0]["ratio"], &objects[0]["better"]),
            (&json!(2.0), &json!("higher"))
        );
        assert_eq!(
            (&objects[1]["ratio"], &objects[1]["better"]),
            (&json!(2.5), &json!("lower"))
        );
        assert_eq!(objects[1]["peers"]["strongSwan 1"], 0.5);
        assert!(summary.is_complete());
    }

    #[test]
    fn the_best_peer_counts_and_an_absent_one_is_no_failure() {
        let mut measured = measured(&[
            (Kind::Ours, Row::PacketRate, &[200.0]),
            (Kind::Strongswan, Row::PacketRate, &[50.0]),
            (Kind::Boringtun, Row::PacketRate, &[80.0]),
        ]);
        assert!(!summary(&measured).0.is_complete());
        measured.absent(Kind::WireguardGo, "not installed");
        let (whole, objects) = summary(&measured);
        assert!(whole.is_complete());
        assert_eq!(
            (&objects[0]["ratio"], &objects[0]["peer"]),
            (&json!(2.5), &json!("boringtun"))
        );
        assert!(whole.to_string().contains("skipped: wireguard-go: not installed"));
    }

    #[test]
    fn a_row_that_failed_says_why_and_what_disturbed_it() {
        let mut measured = measured(&[(Kind::Ours, Row::ManyTunnels, &[0.8, 0.95, 0.97])]);
        measured.disturbed(Kind::Ours, Row::ManyTunnels, "packets lost", 7);
        measured.disturbed(Kind::Ours, Row::ManyTunnels, "retransmissions", 0);
        let (whole, _) = summary(&measured);
        let text = whole.to_string();
        assert!(
            text.contains("disturbed: packets per CPU, many tunnels to 100: starward: 7 packets lost\n"),
            "{text}"
        );
        assert!(whole.is_complete() && !text.contains("missed"), "{text}");
        measured.fail(Kind::Ours, &[Row::ManyTunnels], "no tunnel");
        let (summary, objects) = summary(&measured);
        assert!(!summary.is_complete());
        assert_eq!(
            (&objects[0]["ours"], &objects[0]["ratio"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(objects[0]["not_measured"], "starward: no tunnel");
        assert!(summary.to_string().contains("not measured: packets per CPU"));
    }

    #[test]
    fn what_another_program_could_not_measure_is_a_row_that_failed() {
        let summary = |more| Summary::new(&Measured::default(), HashMap::new(), vec![more]);
        let found = summary(json!({ "name": "pipeline_64", "unit": "Mpps", "ours": 5.0, "goal": 5.5 }));
        assert!(
            found.is_complete() && found.to_string().contains("missed"),
            "{found}"
        );
        let failed = summary(json!({ "name": "pipeline", "ours": null, "not_measured": "no program" }));
        assert!(!failed.is_complete());
        let text = failed.to_string();
        assert!(text.contains("not measured: pipeline: no program\n"), "{text}");
        assert!(!text.contains("missed"), "{text}");
    }
}

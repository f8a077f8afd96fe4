//! The table, for people and machines.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::measure::Row;
use crate::packets::Sizes;
use crate::runs::Runs;

/// What a row is measured against, with one worker and so many tunnels: Gbit/s of long and mobile packets, Mpps of short ones.
const MANY: usize = 100_000;
const FEW: usize = 100;

/// Prints the rows and what follows from them, and writes both to a file.
pub fn tell(rows: &[Row], runs: &Runs) -> Result<(), String> {
    println!(
        "{:>7} {:>8} {:>7} {:>9} {:>9} {:>7} {:>8} {:>9} {:>9} {:>7}",
        "octets",
        "tunnels",
        "workers",
        "open ns",
        "seal ns",
        "Mpps",
        "Gbit/s",
        "bare open",
        "bare seal",
        "ratio"
    );
    for row in rows {
        println!(
            "{:>7} {:>8} {:>7} {:>9.0} {:>9.0} {:>7.2} {:>8.1} {:>9} {:>9} {:>7}",
            row.sizes.name(),
            row.tunnels,
            row.workers,
            row.ours.open_ns,
            row.ours.seal_ns,
            row.rate() / 1e6,
            row.bits() / 1e9,
            shown(row.bare.map(|bare| bare.open_ns), 0),
            shown(row.bare.map(|bare| bare.seal_ns), 0),
            shown(row.of_bare(), 2)
        );
    }
    println!(
        "1400 octets, AES-CBC-128 with HMAC-SHA2-256: seal ns {:.0} one by one, {:.0} in runs",
        runs.single_ns, runs.run_ns
    );
    let mut findings = findings(rows);
    findings.push(Finding {
        name: "pipeline_cbc_runs_to_one_by_one".to_owned(),
        title: "AES-CBC, runs to one by one".to_owned(),
        unit: "",
        value: runs.gain(),
        goal: 1.5,
    });
    for finding in &findings {
        println!(
            "{:40} {:>7.2} {:6} goal {}",
            finding.title, finding.value, finding.unit, finding.goal
        );
    }
    let file = target_dir().join("bench/pipeline.json");
    let text = format!("{:#}\n", json(rows, runs, &findings));
    file.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|error| format!("{}: {error}", file.display()))
}

fn shown(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(String::new, |value| format!("{value:.digits$}"))
}

/// A value with a goal.
struct Finding {
    name: String,
    title: String,
    unit: &'static str,
    value: f64,
    goal: f64,
}

fn findings(rows: &[Row]) -> Vec<Finding> {
    let mut all = Vec::new();
    for sizes in Sizes::ALL {
        let of = |tunnels, workers| {
            rows.iter()
                .find(|row| (row.sizes, row.tunnels, row.workers) == (sizes, tunnels, workers))
        };
        let Some(many) = of(MANY, 1) else { continue };
        // Goals were set as parts of a yardstick that was measured on another day: 40.8 Gbit/s, 6.6 Mpps, 14.6 Gbit/s.
        let (unit, value, goal, part) = match sizes {
            Sizes::Long => ("Gbit/s", many.bits() / 1e9, 38.0, 0.93),
            Sizes::Short => ("Mpps", many.rate() / 1e6, 5.5, 0.83),
            Sizes::Mobile => ("Gbit/s", many.bits() / 1e9, 13.5, 0.92),
        };
        let mut add = |what: &str, unit, value, goal| {
            all.push(Finding {
                name: format!(
                    "pipeline_{}_{}",
                    sizes.name(),
                    what.replace(", ", "_").replace(' ', "_")
                ),
                title: format!("{} octets, {what}", sizes.name()),
                unit,
                value,
                goal,
            });
        };
        add("100000 tunnels", unit, value, goal);
        if let Some(ratio) = many.of_bare() {
            add("100000 tunnels, of bare ESP", "", ratio, part);
        }
        if let Some(few) = of(FEW, 1) {
            add("100000 to 100 tunnels", "", many.rate() / few.rate(), 0.9);
        }
        if let Some(two) = of(MANY, 2) {
            add("two workers to one", "", two.rate() / many.rate(), 1.9);
        }
    }
    all
}

fn json(rows: &[Row], runs: &Runs, findings: &[Finding]) -> Value {
    let row = |row: &Row| {
        json!({
            "octets": row.sizes.name(),
            "tunnels": row.tunnels,
            "workers": row.workers,
            "open_ns": row.ours.open_ns,
            "seal_ns": row.ours.seal_ns,
            "bare_open_ns": row.bare.map(|bare| bare.open_ns),
            "bare_seal_ns": row.bare.map(|bare| bare.seal_ns),
            "of_bare": row.of_bare(),
            "packets_per_second": row.rate(),
            "bits_per_second": row.bits(),
        })
    };
    let finding = |finding: &Finding| {
        json!({
            "name": finding.name,
            "unit": finding.unit,
            "better": "higher",
            "ours": finding.value,
            "goal": finding.goal,
        })
    };
    json!({
        "rows": rows.iter().map(row).collect::<Value>(),
        "cbc": { "single_seal_ns": runs.single_ns, "run_seal_ns": runs.run_ns },
        "findings": findings.iter().map(finding).collect::<Value>(),
    })
}

/// Cargo's target directory: the program lies in `TARGET/release`.
fn target_dir() -> PathBuf {
    std::env::current_exe()
        .ok()
        .and_then(|program| Some(program.parent()?.parent()?.to_owned()))
        .unwrap_or_else(|| PathBuf::from("target"))
}

//! The table, for people and machines.

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::measure::Row;
use crate::packets::Sizes;

/// What a row is measured against, with one worker and so many tunnels: Gbit/s of long and mobile packets, Mpps of short ones.
const MANY: usize = 100_000;
const FEW: usize = 100;

/// Prints the rows and what follows from them, and writes both to a file.
pub fn tell(rows: &[Row]) -> Result<(), String> {
    println!(
        "{:>7} {:>8} {:>7} {:>9} {:>9} {:>7} {:>8}",
        "octets", "tunnels", "workers", "open ns", "seal ns", "Mpps", "Gbit/s"
    );
    for row in rows {
        println!(
            "{:>7} {:>8} {:>7} {:>9.0} {:>9.0} {:>7.2} {:>8.1}",
            row.sizes.name(),
            row.tunnels,
            row.workers,
            row.open_ns,
            row.seal_ns,
            row.rate() / 1e6,
            row.bits() / 1e9
        );
    }
    let findings = findings(rows);
    for finding in &findings {
        println!(
            "{:40} {:>7.2} {:6} goal {}",
            finding.title, finding.value, finding.unit, finding.goal
        );
    }
    let file = target_dir().join("bench/pipeline.json");
    let text = format!("{:#}\n", json(rows, &findings));
    file.parent()
        .map_or(Ok(()), std::fs::create_dir_all)
        .and_then(|()| std::fs::write(&file, text))
        .map_err(|error| format!("{}: {error}", file.display()))
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
        let (unit, value, goal) = match sizes {
            Sizes::Long => ("Gbit/s", many.bits() / 1e9, 38.0),
            Sizes::Short => ("Mpps", many.rate() / 1e6, 5.5),
            Sizes::Mobile => ("Gbit/s", many.bits() / 1e9, 13.5),
        };
        let mut add = |what: &str, unit, value, goal| {
            all.push(Finding {
                name: format!("pipeline_{}_{}", sizes.name(), what.replace([' ', ','], "_")),
                title: format!("{} octets, {what}", sizes.name()),
                unit,
                value,
                goal,
            });
        };
        add("100000 tunnels", unit, value, goal);
        if let Some(few) = of(FEW, 1) {
            add("100000 to 100 tunnels", "", many.rate() / few.rate(), 0.9);
        }
        if let Some(two) = of(MANY, 2) {
            add("two workers to one", "", two.rate() / many.rate(), 1.9);
        }
    }
    all
}

fn json(rows: &[Row], findings: &[Finding]) -> Value {
    let row = |row: &Row| {
        json!({
            "octets": row.sizes.name(),
            "tunnels": row.tunnels,
            "workers": row.workers,
            "open_ns": row.open_ns,
            "seal_ns": row.seal_ns,
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

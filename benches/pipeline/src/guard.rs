//! Instructions per packet, compared with those that were written down: what a change costs, told also by a busy machine.
//!
//! The program runs itself under `valgrind --tool=callgrind`, which counts what is executed inside one function. Valgrind shows programs a processor with AVX2 and
//! AES instructions, without AVX-512 and VAES, whatever the machine has beyond; so the counts are of those paths, and the same on every such machine.

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;

use clap::ValueEnum;

use crate::measure::Carrier;
use crate::packets::{Chance, Sizes};
use crate::tunnels::{BATCH, Tunnels, Way};

/// What was written down: path, instructions per packet.
const TABLE: &str = include_str!("../instructions.txt");
/// Per cent that a count may lie above or below: hashing is seeded by chance, and compilers differ.
const TOLERANCE: f64 = 5.0;
const TUNNELS: usize = 64;
const BATCHES: u64 = 64;
/// The function inside which instructions are counted.
const COUNTED: &str = "*guard*counted*";

/// A path of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Path {
    OpenShort,
    OpenLong,
    SealShort,
    SealLong,
}

impl Path {
    fn parts(self) -> (Way, Sizes) {
        match self {
            Self::OpenShort => (Way::Open, Sizes::Short),
            Self::OpenLong => (Way::Open, Sizes::Long),
            Self::SealShort => (Way::Seal, Sizes::Short),
            Self::SealLong => (Way::Seal, Sizes::Long),
        }
    }

    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

/// Carries so many packets that way; the rounds, and nothing else, in [`counted`].
pub fn count(path: Path, packets: u64) -> Result<(), String> {
    let (way, sizes) = path.parts();
    let mut tunnels = Tunnels::new(TUNNELS, 1..=4)?;
    tunnels.warm_up()?;
    let mut chance = Chance::new(12345);
    let before = tunnels.carried();
    for _ in 0..packets / BATCH as u64 {
        tunnels.prepare(way, sizes, &mut chance)?;
        counted(&mut tunnels, way);
    }
    let after = tunnels.carried();
    let carried = after.0 - before.0 + after.1 - before.1;
    if carried == packets {
        Ok(())
    } else {
        Err(format!("{carried} of {packets} packets were carried"))
    }
}

#[inline(never)]
fn counted(tunnels: &mut Tunnels, way: Way) {
    tunnels.round(way, 1);
}

/// Counts every path and compares; with `update` writes the counts down instead.
pub fn run(update: bool) -> Result<(), String> {
    let mut table = String::new();
    let mut trouble = Vec::new();
    for path in Path::value_variants() {
        let count = instructions(*path)?;
        let name = path.name();
        // Writing to a string cannot fail.
        let _ = writeln!(table, "{name} {count:.0}");
        let change = change(TABLE, &name, count);
        let shown = change.map_or_else(
            || "not written down".to_owned(),
            |change| format!("{change:+.1} %"),
        );
        println!("{name:12} {count:>7.0} instructions a packet, {shown}");
        if is_off(change) {
            trouble.push(name);
        }
    }
    if update {
        let file = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.txt"));
        return std::fs::write(&file, table).map_err(|error| format!("{}: {error}", file.display()));
    }
    if trouble.is_empty() {
        return Ok(());
    }
    Err(format!(
        "more than {TOLERANCE} % off: {}; if that is right, write it down with 'starward-pipeline guard --update'",
        trouble.join(", ")
    ))
}

/// Per cent by which a count lies above what a table says of a path; `None` when it says nothing.
fn change(table: &str, path: &str, count: f64) -> Option<f64> {
    let written: f64 = table.lines().find_map(|line| {
        let (found, count) = line.split_once(' ')?;
        (found == path).then(|| count.parse().ok())?
    })?;
    Some((count / written - 1.0) * 100.0)
}

/// A path that nothing is written of is off too.
fn is_off(change: Option<f64>) -> bool {
    change.is_none_or(|change| change.abs() > TOLERANCE)
}

/// Instructions per packet.
fn instructions(path: Path) -> Result<f64, String> {
    let packets = BATCHES * BATCH as u64;
    let program = std::env::current_exe().map_err(|error| format!("own program: {error}"))?;
    let output = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            "--collect-atstart=no",
        ])
        .arg(format!("--toggle-collect={COUNTED}"))
        .arg(program)
        .args(["count", &path.name(), &packets.to_string()])
        .output()
        .map_err(|error| format!("cannot run valgrind: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let collected = text.lines().find_map(|line| {
        let (_, count) = line.split_once("Collected : ")?;
        count.trim().parse::<f64>().ok()
    });
    match collected {
        Some(count) if output.status.success() && count > 0.0 => Ok(count / packets as f64),
        _ => Err(format!("valgrind ended with {}: {text}", output.status)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_written_down_once() {
        let mut names: Vec<&str> = TABLE.lines().filter_map(|line| line.split(' ').next()).collect();
        names.sort_unstable();
        let mut expected: Vec<String> = Path::value_variants().iter().map(|path| path.name()).collect();
        expected.sort_unstable();
        assert_eq!(names, expected);
    }

    #[test]
    fn more_and_fewer_instructions_are_noticed() {
        let table = "open 1000\nseal 2000\n";
        for (path, count, off) in [
            ("open", 1000.0, false),
            ("open", 1049.0, false),
            ("open", 951.0, false),
            ("seal", 2101.0, true),
            ("seal", 1899.0, true),
            ("other", 1.0, true),
        ] {
            assert_eq!(is_off(change(table, path, count)), off, "{path} {count}");
        }
    }
}

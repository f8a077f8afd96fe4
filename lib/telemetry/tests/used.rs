//! What is declared is used: a counter that nothing moves and an event that nothing tells must not exist.

use std::fs;
use std::path::{Path, PathBuf};

use telemetry::{Counter, events};

#[test]
fn every_counter_is_moved_by_its_facility() {
    let sources = sources();
    let unmoved: Vec<_> = Counter::all()
        .map(|counter| counter.descriptor())
        .filter(|row| {
            let (area, name) = row.id.split_once("::").unwrap_or_default();
            let uses = |text: &str| text.contains(area) && words(text).any(|word| word == name);
            !sources
                .iter()
                .any(|(path, text)| path.starts_with(folder(row.facility)) && uses(text))
        })
        .map(|row| format!("{} ({})", row.id, row.facility))
        .collect();
    assert!(
        unmoved.is_empty(),
        "{} counters are never moved: {unmoved:#?}",
        unmoved.len()
    );
}

#[test]
fn every_event_is_told() {
    let sources = sources();
    let untold: Vec<_> = events::all()
        .filter(|row| {
            !sources
                .iter()
                .any(|(_, text)| words(text).any(|word| word == row.id))
        })
        .map(|row| format!("{} ({})", row.id, row.facility))
        .collect();
    assert!(
        untold.is_empty(),
        "{} events are never told: {untold:#?}",
        untold.len()
    );
}

/// The folder of a facility's crate.
fn folder(facility: &str) -> &str {
    if facility == "bulkstat" {
        "bulkstats"
    } else {
        facility
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
}

/// The sources of every crate but this one, with their paths in the repository. Tests of a crate in files of their own do not count.
fn sources() -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let Ok(relative) = path.strip_prefix(&root).map(Path::to_owned) else {
                continue;
            };
            let left_out = relative.starts_with("target")
                || relative.starts_with("lib/telemetry")
                || relative.starts_with("mibs")
                || entry.file_name().to_string_lossy().starts_with('.')
                || entry.file_name() == "tests"
                || entry.file_name() == "tests.rs";
            if left_out {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs")
                && let Ok(text) = fs::read_to_string(&path)
            {
                sources.push((relative, text));
            }
        }
    }
    sources
}

//! Which counter stands where in the pages of another version of the table.
//!
//! Beside its pages every process leaves a file `.names-LAYOUT` (16 hexadecimal digits), one for each version of the table: a line for each place of a page, with the name of the
//! counter and its kind. Whoever meets a page of another layout finds its counters by their names: a reader goes on reading a process that has not been upgraded
//! yet, and one that was goes on counting where its predecessor ended. A counter that changes its meaning gets another name.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::counters::{Counter, FINGERPRINT};

/// For each counter of our table its place in a page, if it has one there.
pub(crate) type Places = Arc<[Option<usize>]>;

/// No table is longer.
const LONGEST: usize = 1 << 20;

/// Leaves the names of our table in the folder of a facility.
pub(crate) fn leave(folder: &Path) -> std::io::Result<()> {
    let path = path(folder, FINGERPRINT);
    if path.exists() {
        return Ok(());
    }
    let mut text = String::new();
    for counter in Counter::all() {
        let row = counter.descriptor();
        text.push_str(&format!("{} {}\n", row.id, row.kind.name()));
    }
    // Beside its place, for nobody is to read half of it.
    let fresh = path.with_added_extension(format!("{}.new", std::process::id()));
    std::fs::write(&fresh, text)?;
    std::fs::rename(&fresh, &path)
}

/// The places of our counters in pages of `layout` in this folder; `None` when nobody says.
pub(crate) fn places(folder: &Path, layout: u64) -> Option<Places> {
    if layout == FINGERPRINT {
        return Some(Counter::all().map(|counter| Some(counter.index())).collect());
    }
    let text = std::fs::read_to_string(path(folder, layout)).ok()?;
    let lines: Vec<&str> = text.lines().take(LONGEST).collect();
    Some(
        Counter::all()
            .map(|counter| {
                let row = counter.descriptor();
                let is = |line: &&str| line.split_once(' ') == Some((row.id, row.kind.name()));
                lines.iter().position(is)
            })
            .collect(),
    )
}

fn path(folder: &Path, layout: u64) -> PathBuf {
    folder.join(format!(".names-{layout:016x}"))
}

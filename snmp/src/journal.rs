//! How far the notices of each task have been heard, for the next life of this process.
//!
//! A text file in the run directory, one line a step: facility, instance, incarnation (hexadecimal) and number of the next notice. Of the lines
//! of a task the last one counts. Lines are appended; when there are many, those that count are written anew. It is not meant to outlive the
//! machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use bus::{Address, Position};

const FILE: &str = "snmp/heard";
/// Octets that the file grows by before it is written anew.
const GROWTH: usize = 64 * 1024;

/// The file.
pub struct Journal {
    path: PathBuf,
    /// To append to; none before the first step of this life and after a failure.
    file: Option<File>,
    /// Octets appended since it was written anew.
    grown: usize,
    /// The last attempt to write it failed.
    failing: bool,
}

impl Journal {
    /// The journal in this run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join(FILE),
            file: None,
            grown: 0,
            failing: false,
        }
    }

    /// What the last life wrote. Nothing, if there was none; lines that cannot be read are left out.
    pub fn load(&self) -> BTreeMap<Address, Position> {
        match fs::read_to_string(&self.path) {
            // Whoever was killed while it wrote a line has not ended it.
            Ok(text) => text
                .split_inclusive('\n')
                .filter_map(|line| parse(line.strip_suffix('\n')?))
                .collect(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}", self.path.display());
                }
                BTreeMap::new()
            }
        }
    }

    /// Notes how far `task` has been heard; `positions` is how far all have been. When that fails, a next life may tell again what this one
    /// has told; the first of several failures is logged.
    pub fn note(&mut self, task: Address, positions: &BTreeMap<Address, Position>) {
        let noted = self.append(task, positions);
        if let Err(error) = &noted
            && !self.failing
        {
            tracing::error!("cannot write {}: {error}", self.path.display());
        }
        self.failing = noted.is_err();
    }

    fn append(&mut self, task: Address, positions: &BTreeMap<Address, Position>) -> io::Result<()> {
        let Some(file) = self.file.as_mut().filter(|_| self.grown < GROWTH) else {
            return self.write_anew(positions);
        };
        let mut line = String::new();
        if let Some(position) = positions.get(&task) {
            write(&mut line, task, *position);
        }
        self.grown += line.len();
        let written = file.write_all(line.as_bytes());
        if written.is_err() {
            // It may end in the middle of a line.
            self.file = None;
        }
        written
    }

    fn write_anew(&mut self, positions: &BTreeMap<Address, Position>) -> io::Result<()> {
        self.file = None;
        let mut text = String::new();
        for (task, position) in positions {
            write(&mut text, *task, *position);
        }
        // Beside its place and renamed: whoever is killed here leaves the old file or the new one.
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &self.path)?;
        self.file = Some(OpenOptions::new().append(true).open(&self.path)?);
        self.grown = 0;
        Ok(())
    }
}

fn write(text: &mut String, task: Address, position: Position) {
    let Position { incarnation, next } = position;
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{} {} {incarnation:016x} {next}",
        task.facility, task.instance
    );
}

fn parse(line: &str) -> Option<(Address, Position)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [facility, instance, incarnation, next] = *words.as_slice() else {
        return None;
    };
    let position = Position {
        incarnation: u64::from_str_radix(incarnation, 16).ok()?,
        next: next.parse().ok()?,
    };
    Some((
        Address::new(facility.parse().ok()?, instance.parse().ok()?),
        position,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Facility;

    const TASK: Address = Address::new(Facility::Ipsecmgr, 1);

    fn directory(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("snmp-journal-{name}-{}", std::process::id()));
        fs::create_dir_all(directory.join("snmp")).unwrap();
        directory
    }

    #[test]
    fn what_was_noted_is_loaded() {
        let directory = directory("noted");
        let mut journal = Journal::new(&directory);
        assert!(journal.load().is_empty());
        let mut positions = BTreeMap::new();
        for (instance, incarnation, next) in [(1, 0, 7), (2, u64::MAX, 7), (1, 0, 8), (1, 1, 0)] {
            let task = Address::new(Facility::Ipsecmgr, instance);
            positions.insert(task, Position { incarnation, next });
            journal.note(task, &positions);
            assert_eq!(Journal::new(&directory).load(), positions);
        }
        let text = fs::read_to_string(&journal.path).unwrap();
        assert_eq!(text.lines().count(), 4, "appended");
        fs::write(
            &journal.path,
            format!("\nnobody 1 0 0\nsct 1 0\n{text}sct 1 x 0\nipsecmgr 1 0000000000000001 1"),
        )
        .unwrap();
        assert_eq!(journal.load(), positions, "the last line has no end");
        // The next life does not write on behind it.
        let mut next = Journal::new(&directory);
        next.note(TASK, &positions);
        assert_eq!(next.load(), positions);
        assert_eq!(fs::read_to_string(&next.path).unwrap().lines().count(), 2);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_file_does_not_grow_for_ever() {
        let directory = directory("grown");
        let mut journal = Journal::new(&directory);
        let mut positions = BTreeMap::new();
        for next in 0..10_000 {
            positions.insert(TASK, Position { incarnation: 5, next });
            journal.note(TASK, &positions);
        }
        assert_eq!(journal.load(), positions);
        assert!(fs::metadata(&journal.path).unwrap().len() < 2 * GROWTH as u64);
        fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn a_failure_is_made_good_with_the_next_step() {
        let directory = directory("failed");
        let mut journal = Journal::new(&directory.join("missing"));
        let positions = BTreeMap::from([(
            TASK,
            Position {
                incarnation: 5,
                next: 6,
            },
        )]);
        journal.note(TASK, &positions);
        assert!(journal.failing && journal.load().is_empty());
        fs::create_dir_all(directory.join("missing/snmp")).unwrap();
        journal.note(TASK, &positions);
        assert!(!journal.failing);
        assert_eq!(journal.load(), positions);
        fs::remove_dir_all(&directory).unwrap();
    }
}

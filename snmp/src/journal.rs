//! How far the notices of each task have been heard, for the next life of this process.
//!
//! A text file in the run directory, one line a task: facility, instance, incarnation (hexadecimal) and number of the next notice. It is
//! replaced as a whole, and is not meant to outlive the machine.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use bus::{Address, Position};

const FILE: &str = "snmp/heard";

/// The file.
pub struct Journal {
    path: PathBuf,
    /// The last attempt to write it failed.
    failing: bool,
}

impl Journal {
    /// The journal in this run directory.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            path: run_dir.join(FILE),
            failing: false,
        }
    }

    /// What the last life wrote. Nothing, if there was none; lines that cannot be read are left out.
    pub fn load(&self) -> BTreeMap<Address, Position> {
        match fs::read_to_string(&self.path) {
            Ok(text) => text.lines().filter_map(parse).collect(),
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!("cannot read {}: {error}", self.path.display());
                }
                BTreeMap::new()
            }
        }
    }

    /// Writes it. When that fails, a next life may tell again what this one has told; the first of several failures is logged.
    pub fn save(&mut self, positions: &BTreeMap<Address, Position>) {
        let saved = self.write(positions);
        if let Err(error) = &saved
            && !self.failing
        {
            tracing::error!("cannot write {}: {error}", self.path.display());
        }
        self.failing = saved.is_err();
    }

    fn write(&self, positions: &BTreeMap<Address, Position>) -> io::Result<()> {
        let mut text = String::new();
        for (task, position) in positions {
            let Position { incarnation, next } = position;
            // Writing to a string cannot fail.
            let _ = writeln!(
                text,
                "{} {} {incarnation:016x} {next}",
                task.facility, task.instance
            );
        }
        // Beside its place and renamed: whoever is killed here leaves the old file or the new one.
        let fresh = self.path.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, &self.path)
    }
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

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = std::env::temp_dir().join(format!("snmp-journal-{}", std::process::id()));
        fs::create_dir_all(directory.join("snmp")).unwrap();
        let mut journal = Journal::new(&directory);
        assert!(journal.load().is_empty());
        let mut positions = BTreeMap::new();
        for (instance, incarnation) in [(1, 0), (2, u64::MAX)] {
            let position = Position { incarnation, next: 7 };
            positions.insert(Address::new(Facility::Ipsecmgr, instance), position);
            journal.save(&positions);
            assert_eq!(Journal::new(&directory).load(), positions);
        }
        let text = fs::read_to_string(&journal.path).unwrap();
        fs::write(
            &journal.path,
            format!("\nnobody 1 0 0\nsct 1 0\n{text}sct 1 x 0\n"),
        )
        .unwrap();
        assert_eq!(journal.load(), positions);
        fs::remove_dir_all(&directory).unwrap();
    }
}

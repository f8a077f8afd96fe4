//! Stand-in for the mapped page until shared memory provides it.

use std::path::Path;
use std::sync::atomic::AtomicU64;

pub(crate) struct CounterPage(Box<[AtomicU64]>);

impl CounterPage {
    pub(crate) fn open(_path: &Path, cells: usize) -> Result<Self, std::io::Error> {
        Ok(Self((0..cells).map(|_| AtomicU64::new(0)).collect()))
    }

    /// The values of a page that another process writes.
    pub(crate) fn read(path: &Path) -> Result<Vec<u64>, std::io::Error> {
        let bytes = std::fs::read(path)?;
        Ok(bytes
            .chunks_exact(8)
            .map(|cell| {
                cell.iter()
                    .rev()
                    .fold(0, |value, byte| value << 8 | u64::from(*byte))
            })
            .collect())
    }

    pub(crate) fn cells(&self) -> &[AtomicU64] {
        &self.0
    }
}

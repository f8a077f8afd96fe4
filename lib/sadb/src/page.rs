//! Counter pages: a file of u64 counters, written by one process and mapped read-only by everybody who wants to know.
//!
//! 64 bytes of header (magic, layout, number of counters), then the counters. What a counter means is `lib/telemetry`'s business; the layout
//! word is its fingerprint of the declarations, so that a reader of another version finds out.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Error;
use crate::map::{Access, Mapping};

/// "SWCOUNT1" in ASCII.
const MAGIC: u64 = 0x5357_434f_554e_5431;
const HEADER_WORDS: usize = 8;
const HEADER_BYTES: usize = HEADER_WORDS * 8;
/// A page is never longer than 8 MiB of counters; more is a damaged file.
const MOST_COUNTERS: u64 = 1 << 20;

/// The writer's mapping of a counter page. One process writes; any of its threads may.
#[derive(Debug)]
pub struct CounterPage {
    mapping: Mapping,
    count: usize,
}

impl CounterPage {
    /// Makes a fresh page of `count` zeros at `path`, replacing what was there. Readers of the old file keep their mapping of it
    /// ([`CounterPageReader::is_current`] tells them).
    pub fn create(path: &Path, layout: u64, count: usize) -> Result<Self, Error> {
        if count as u64 > MOST_COUNTERS {
            return Err(Error::Invalid {
                field: "count",
                expected: "at most 1048576 counters",
            });
        }
        // Written beside its place and renamed, so that no reader ever sees half a header.
        let fresh = path.with_added_extension(format!("{}.new", std::process::id()));
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o644)
            .open(&fresh)
            .map_err(|e| Error::system("create a counter page", e))?;
        file.set_len((HEADER_BYTES + count * 8) as u64)
            .map_err(|e| Error::system("size a counter page", e))?;
        let mapping = Mapping::new(&file, HEADER_BYTES + count * 8, Access::ReadWrite)?;
        for (word, value) in
            mapping
                .slice::<AtomicU64>(0, HEADER_WORDS)
                .iter()
                .zip([MAGIC, layout, count as u64])
        {
            word.store(value, Ordering::Release);
        }
        std::fs::rename(&fresh, path).map_err(|e| Error::system("put a counter page in its place", e))?;
        Ok(Self { mapping, count })
    }

    /// Goes on counting in the page at `path` when it has this layout and count; otherwise as [`create`](Self::create). For a restarted process
    /// whose counters should not begin again at zero.
    pub fn resume(path: &Path, layout: u64, count: usize) -> Result<Self, Error> {
        let found = OpenOptions::new().read(true).write(true).open(path).ok();
        if let Some(file) = found
            && read_header(&file).is_ok_and(|header| header == (layout, count))
        {
            return Ok(Self {
                mapping: Mapping::new(&file, HEADER_BYTES + count * 8, Access::ReadWrite)?,
                count,
            });
        }
        Self::create(path, layout, count)
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Adds to a counter; nothing happens when there is no such index.
    pub fn add(&self, index: usize, count: u64) {
        if let Some(cell) = self.cell(index) {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// Takes from a gauge, not below zero.
    pub fn sub(&self, index: usize, count: u64) {
        if let Some(cell) = self.cell(index) {
            // Never fails: the closure always gives a value.
            let _ = cell.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |value| {
                Some(value.saturating_sub(count))
            });
        }
    }

    /// Sets a gauge.
    pub fn set(&self, index: usize, value: u64) {
        if let Some(cell) = self.cell(index) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// Reads a counter; 0 when there is no such index.
    pub fn get(&self, index: usize) -> u64 {
        self.cell(index).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    fn cell(&self, index: usize) -> Option<&AtomicU64> {
        self.mapping.slice(HEADER_BYTES, self.count).get(index)
    }
}

/// A reader's mapping of a counter page.
#[derive(Debug)]
pub struct CounterPageReader {
    mapping: Mapping,
    layout: u64,
    count: usize,
    inode: u64,
}

impl CounterPageReader {
    /// Maps the page at `path`.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(|e| Error::system("open a counter page", e))?;
        let (layout, count) = read_header(&file)?;
        let inode = file
            .metadata()
            .map_err(|e| Error::system("inspect a counter page", e))?
            .ino();
        Ok(Self {
            mapping: Mapping::new(&file, HEADER_BYTES + count * 8, Access::Read)?,
            layout,
            count,
            inode,
        })
    }

    /// The fingerprint of the declarations it was written with.
    pub fn layout(&self) -> u64 {
        self.layout
    }

    /// How many counters there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Reads a counter, `None` when there is no such index.
    pub fn get(&self, index: usize) -> Option<u64> {
        self.mapping
            .slice::<AtomicU64>(HEADER_BYTES, self.count)
            .get(index)
            .map(|cell| cell.load(Ordering::Relaxed))
    }

    /// Whether `path` still names this page. False: its writer made a new one (or it is gone); open it again.
    pub fn is_current(&self, path: &Path) -> bool {
        std::fs::metadata(path).is_ok_and(|metadata| metadata.ino() == self.inode)
    }
}

/// Layout and number of counters of a page file.
fn read_header(file: &File) -> Result<(u64, usize), Error> {
    let mapping = Mapping::new(file, HEADER_BYTES, Access::Read)?;
    let word = |n: usize| {
        mapping
            .value::<AtomicU64>(n * 8)
            .map_or(0, |word| word.load(Ordering::Acquire))
    };
    if word(0) != MAGIC {
        return Err(Error::Layout {
            field: "magic",
            found: word(0),
            expected: MAGIC,
        });
    }
    if word(2) > MOST_COUNTERS {
        return Err(Error::Layout {
            field: "count",
            found: word(2),
            expected: MOST_COUNTERS,
        });
    }
    Ok((word(1), word(2) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> std::path::PathBuf {
        let folder = std::env::temp_dir().join(format!("swn-page-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_reader_follows_the_writer() {
        let folder = folder("follow");
        let path = folder.join("ipsecmgr-1");
        let page = CounterPage::create(&path, 0xfeed, 3).unwrap();
        let reader = CounterPageReader::open(&path).unwrap();
        assert_eq!((reader.layout(), reader.len()), (0xfeed, 3));
        page.add(2, 40);
        page.add(2, 2);
        page.set(0, 5);
        page.sub(0, 9);
        page.add(3, 1);
        assert_eq!([0, 1, 2].map(|n| reader.get(n)), [Some(0), Some(0), Some(42)]);
        assert_eq!((reader.get(3), page.get(2)), (None, 42));
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn resume_keeps_values_of_the_same_layout_only() {
        let folder = folder("resume");
        let path = folder.join("page");
        CounterPage::create(&path, 1, 2).unwrap().add(1, 7);
        assert_eq!(CounterPage::resume(&path, 1, 2).unwrap().get(1), 7);
        let reader = CounterPageReader::open(&path).unwrap();
        assert!(reader.is_current(&path));
        let other = CounterPage::resume(&path, 2, 2).unwrap();
        assert_eq!(other.get(1), 0);
        assert_eq!(reader.get(1), Some(7));
        assert!(!reader.is_current(&path));
        assert_eq!(
            std::fs::read_dir(&folder).unwrap().count(),
            1,
            "no temporary file is left"
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn damaged_files_are_refused() {
        let folder = folder("damaged");
        let path = folder.join("page");
        std::fs::write(&path, [0; 10]).unwrap();
        assert!(matches!(
            CounterPageReader::open(&path),
            Err(Error::Layout { field: "size", .. })
        ));
        std::fs::write(&path, [0; 64]).unwrap();
        assert!(matches!(
            CounterPageReader::open(&path),
            Err(Error::Layout { field: "magic", .. })
        ));
        CounterPage::create(&path, 1, 100).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..200]).unwrap();
        assert!(matches!(
            CounterPageReader::open(&path),
            Err(Error::Layout { field: "size", .. })
        ));
        std::fs::remove_dir_all(folder).unwrap();
    }
}

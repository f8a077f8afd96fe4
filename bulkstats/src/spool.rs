//! Records that await transfer, on disk so that they survive this process, and their way into a file.

use std::collections::VecDeque;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use crate::error::Error;

/// The records of one `file N` and what has become of earlier ones.
pub struct Spool {
    /// Holds the records that await transfer, one a line.
    path: PathBuf,
    /// Where finished files go.
    target: PathBuf,
    waiting: VecDeque<String>,
    statistics: Statistics,
}

/// What `show bulkstats` tells of a file. The counts are those of this process; what awaits transfer survives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Statistics {
    /// Records awaiting transfer.
    pub waiting: Volume,
    /// Records collected.
    pub collected: Volume,
    /// Records transferred.
    pub transmitted: Volume,
    /// Records thrown away, because too many awaited transfer.
    pub discarded: Volume,
    /// The last transfer that succeeded, and what it carried.
    pub last_success: Option<(SystemTime, Volume)>,
    /// The last transfer that was tried.
    pub last_attempt: Option<SystemTime>,
    /// How long the last transfer took, seconds.
    pub transfer_seconds: u64,
}

/// Records and their octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// How many.
    pub records: u64,
    /// Octets, line ends included.
    pub octets: u64,
}

impl Volume {
    fn add(&mut self, line: &str) {
        self.records += 1;
        self.octets += line.len() as u64 + 1;
    }

    fn sub(&mut self, line: &str) {
        self.records = self.records.saturating_sub(1);
        self.octets = self.octets.saturating_sub(line.len() as u64 + 1);
    }

    pub(crate) fn join(&mut self, other: Self) {
        self.records += other.records;
        self.octets += other.octets;
    }
}

impl Spool {
    /// Opens the spool of file `number` in `folder`, with what an earlier life left in it. Finished files go to `target`.
    pub fn open(folder: &Path, number: u32, target: &Path) -> Result<Self, Error> {
        let path = folder.join(format!("file-{number}"));
        fs::create_dir_all(folder).map_err(|source| Error::write(folder, source))?;
        let left = match fs::read(&path) {
            Ok(octets) => String::from_utf8_lossy(&octets).into_owned(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(Error::write(&path, source)),
        };
        // A last line without its end was cut off by a crash.
        let whole = left
            .rfind('\n')
            .map_or("", |end| left.get(..end).unwrap_or_default());
        let waiting: VecDeque<String> = if whole.is_empty() {
            VecDeque::new()
        } else {
            whole.split('\n').map(str::to_owned).collect()
        };
        let mut statistics = Statistics::default();
        waiting.iter().for_each(|line| statistics.waiting.add(line));
        Ok(Self {
            path,
            target: target.to_owned(),
            waiting,
            statistics,
        })
    }

    /// What has been counted.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// The records that await transfer.
    pub fn waiting(&self) -> impl Iterator<Item = &str> {
        self.waiting.iter().map(String::as_str)
    }

    /// Puts the records of a sample behind the others; the oldest go when more than `limit` octets would wait.
    pub fn append(&mut self, lines: Vec<String>, limit: u64) -> Result<(), Error> {
        let mut fresh = String::new();
        for line in lines {
            // A format may contain line breaks: they make records of their own.
            for record in line.split('\n') {
                fresh.push_str(record);
                fresh.push('\n');
                self.statistics.collected.add(record);
                self.statistics.waiting.add(record);
                self.waiting.push_back(record.to_owned());
            }
        }
        let before = self.waiting.len();
        while self.statistics.waiting.octets > limit
            && let Some(oldest) = self.waiting.pop_front()
        {
            self.statistics.waiting.sub(&oldest);
            self.statistics.discarded.add(&oldest);
        }
        if self.waiting.len() < before {
            return self.rewrite();
        }
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .map_err(|source| Error::write(&self.path, source))?;
        file.write_all(fresh.as_bytes())
            .map_err(|source| Error::write(&self.path, source))
    }

    /// Writes header, records and footer to the file `name` below the target folder, whole or not at all. Gives its path; `None` when
    /// no record waits.
    pub fn transfer(
        &mut self,
        name: &str,
        header: &str,
        footer: &str,
        now: SystemTime,
    ) -> Result<Option<PathBuf>, Error> {
        if self.waiting.is_empty() {
            return Ok(None);
        }
        let began = std::time::Instant::now();
        self.statistics.last_attempt = Some(now);
        let mut content = String::new();
        for line in [header].into_iter().chain(self.waiting()).chain([footer]) {
            if !line.is_empty() {
                content.push_str(line);
                content.push('\n');
            }
        }
        let path = free(&self.target.join(below(name)));
        write_whole(&path, content.as_bytes())?;
        let carried = self.statistics.waiting;
        self.statistics.transmitted.join(carried);
        self.statistics.last_success = Some((now, carried));
        self.statistics.transfer_seconds = began.elapsed().as_secs();
        self.clear()?;
        Ok(Some(path))
    }

    /// Drops the records that await transfer.
    pub fn clear(&mut self) -> Result<(), Error> {
        self.waiting.clear();
        self.statistics.waiting = Volume::default();
        self.rewrite()
    }

    fn rewrite(&self) -> Result<(), Error> {
        let content = self
            .waiting
            .iter()
            .fold(String::new(), |text, line| text + line + "\n");
        write_whole(&self.path, content.as_bytes())
    }
}

/// Writes a file under a temporary name, and gives it its own when it is complete and on disk.
fn write_whole(path: &Path, content: &[u8]) -> Result<(), Error> {
    let failed = |source| Error::write(path, source);
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(failed)?;
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".part");
    let part = folder.join(name);
    let mut file = File::create(&part).map_err(failed)?;
    file.write_all(content)
        .and_then(|()| file.sync_all())
        .map_err(failed)?;
    fs::rename(&part, path).map_err(failed)
}

/// A path that is not taken: the same, or with a number behind it.
fn free(path: &Path) -> PathBuf {
    let numbered = |number: u32| PathBuf::from(format!("{}.{number}", path.display()));
    if !path.exists() {
        return path.to_owned();
    }
    (1..)
        .map(numbered)
        .find(|path| !path.exists())
        .unwrap_or_else(|| path.to_owned())
}

/// A configured name as a path that stays below the folder it is joined to.
fn below(name: &str) -> PathBuf {
    let parts = Path::new(name)
        .components()
        .filter(|part| matches!(part, Component::Normal(_)));
    let path: PathBuf = parts.collect();
    if path.as_os_str().is_empty() {
        PathBuf::from("bulkstats")
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("bulkstats-spool-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&folder);
            Self(folder)
        }

        fn open(&self) -> Spool {
            Spool::open(&self.0.join("spool"), 1, &self.0.join("hd-raid")).unwrap()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn lines(count: usize) -> Vec<String> {
        (0..count).map(|number| format!("line{number:05}")).collect()
    }

    #[test]
    fn records_survive_the_process_and_leave_in_one_file() {
        let folder = Folder::new("survive");
        folder.open().append(lines(2), 10_000).unwrap();
        let mut spool = folder.open();
        spool.append(vec!["third\nfourth".into()], 10_000).unwrap();
        let path = spool
            .transfer("out/a.csv", "HEAD", "EndOfFile", UNIX_EPOCH)
            .unwrap()
            .unwrap();
        assert_eq!(path, folder.0.join("hd-raid/out/a.csv"));
        let content = fs::read_to_string(path).unwrap();
        assert_eq!(content, "HEAD\nline00000\nline00001\nthird\nfourth\nEndOfFile\n");
        let statistics = spool.statistics();
        assert_eq!(
            (statistics.waiting, statistics.transmitted.records),
            (Volume::default(), 4)
        );
        assert_eq!(
            statistics.collected,
            Volume {
                records: 2,
                octets: 13
            }
        );
        assert_eq!(folder.open().waiting().count(), 0);
        assert_eq!(
            spool.transfer("out/a.csv", "", "", UNIX_EPOCH).unwrap(),
            None,
            "nothing waits"
        );
    }

    #[test]
    fn a_file_is_never_overwritten_and_never_outside() {
        let folder = Folder::new("names");
        let mut spool = folder.open();
        let mut transfer = |name: &str| {
            spool.append(lines(1), 10_000).unwrap();
            spool.transfer(name, "", "", UNIX_EPOCH).unwrap().unwrap()
        };
        assert_eq!(transfer("a.csv"), folder.0.join("hd-raid/a.csv"));
        assert_eq!(transfer("a.csv"), folder.0.join("hd-raid/a.csv.1"));
        assert_eq!(
            transfer("/opt/../../x/b.csv"),
            folder.0.join("hd-raid/opt/x/b.csv")
        );
        assert_eq!(transfer("../.."), folder.0.join("hd-raid/bulkstats"));
    }

    #[test]
    fn the_oldest_records_make_room() {
        let folder = Folder::new("limit");
        let mut spool = folder.open();
        spool.append(lines(10), 50).unwrap();
        assert_eq!(spool.waiting().collect::<Vec<_>>(), lines(10)[5..]);
        assert_eq!(
            spool.statistics().discarded,
            Volume {
                records: 5,
                octets: 50
            }
        );
        assert_eq!(folder.open().waiting().count(), 5);
    }

    #[test]
    fn a_cut_off_line_is_dropped() {
        let folder = Folder::new("cut");
        folder.open().append(lines(1), 100).unwrap();
        let mut file = OpenOptions::new()
            .append(true)
            .open(folder.0.join("spool/file-1"))
            .unwrap();
        file.write_all(b"line0").unwrap();
        assert_eq!(folder.open().waiting().collect::<Vec<_>>(), ["line00000"]);
    }

    #[test]
    fn a_failed_transfer_keeps_the_records() {
        let folder = Folder::new("failed");
        let mut spool = folder.open();
        spool.append(lines(3), 1_000).unwrap();
        fs::write(folder.0.join("hd-raid"), "a file where a folder should be").unwrap();
        assert!(spool.transfer("a.csv", "", "", UNIX_EPOCH).is_err());
        assert_eq!(
            (spool.waiting().count(), spool.statistics().transmitted.records),
            (3, 0)
        );
        assert!(spool.statistics().last_attempt.is_some() && spool.statistics().last_success.is_none());
    }
}

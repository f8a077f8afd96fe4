//! Accounting records that have been taken over and not yet delivered: in memory, and in a file that outlives us.
//!
//! The file is a log: records as they come, and marks of those that are done. When nothing is left it is emptied, when it has become
//! long it is written anew. A record that was delivered just before a crash may be sent once more; none is lost.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bus::messages::aaamgr::AccountingRecord;
use prost::Message;
use telemetry::events::{self, AccountingLost};

use crate::error::Error;

/// Records by number.
pub struct Spool {
    path: PathBuf,
    file: File,
    /// Octets in the file.
    length: u64,
    records: BTreeMap<u64, AccountingRecord>,
    /// To be sent now.
    ready: VecDeque<u64>,
    /// To be sent again later.
    later: BTreeSet<(Instant, u64)>,
    next: u64,
    /// What has to be written.
    unwritten: Vec<u8>,
}

impl Spool {
    /// Opens the file, made if there is none, with what an earlier life left in it. A damaged tail is dropped.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE);
        let failed = |source| Error::Spool {
            path: path.clone(),
            source,
        };
        std::fs::create_dir_all(directory).map_err(failed)?;
        let mut file = options().open(&path).map_err(failed)?;
        let mut octets = Vec::new();
        (&mut file)
            .take(LONGEST_FILE)
            .read_to_end(&mut octets)
            .map_err(failed)?;
        let records = replay(&octets);
        let next = records.keys().next_back().map_or(1, |last| last + 1);
        let ready = records.keys().copied().collect();
        let mut spool = Self {
            file,
            path: path.clone(),
            length: octets.len() as u64,
            records,
            ready,
            later: BTreeSet::new(),
            next,
            unwritten: Vec::new(),
        };
        spool.compact().map_err(failed)?;
        Ok(spool)
    }

    /// Takes records over. They are in the file when this returns; if they cannot be written they are kept in memory alone.
    pub fn push(&mut self, records: Vec<AccountingRecord>) {
        let mut lost = 0;
        for record in records {
            if self.records.len() >= MAX_RECORDS
                && let Some((oldest, _)) = self.records.pop_first()
            {
                append(&mut self.unwritten, DONE, oldest, &[]);
                lost += 1;
            }
            append(&mut self.unwritten, RECORD, self.next, &record.encode_to_vec());
            self.records.insert(self.next, record);
            self.ready.push_back(self.next);
            self.next += 1;
        }
        if lost > 0 {
            events::emit(&AccountingLost { count: lost });
        }
        self.flush();
    }

    /// The next record to send.
    pub fn next(&mut self, now: Instant) -> Option<(u64, &AccountingRecord)> {
        while let Some(&(when, number)) = self.later.first() {
            if when > now {
                break;
            }
            self.later.pop_first();
            self.ready.push_back(number);
        }
        while let Some(number) = self.ready.pop_front() {
            // It may have made room for younger ones meanwhile.
            if self.records.contains_key(&number) {
                return self.records.get(&number).map(|record| (number, record));
            }
        }
        None
    }

    /// When the next record that waits is to be sent again.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.later.first().map(|&(when, _)| when)
    }

    /// A record was delivered, or nobody wants it.
    pub fn done(&mut self, number: u64) {
        if self.records.remove(&number).is_some() {
            append(&mut self.unwritten, DONE, number, &[]);
        }
    }

    /// A record was not delivered: it is to be sent again after a while.
    pub fn postpone(&mut self, number: u64, now: Instant) {
        self.later.insert((now + AGAIN, number));
    }

    /// Records that are not delivered.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Writes what has to be written.
    pub fn flush(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        let result = self.file.write_all(&self.unwritten);
        self.length += self.unwritten.len() as u64;
        self.unwritten.clear();
        let worth = self.records.is_empty() && self.length > EMPTY_FROM || self.length > COMPACT_FROM;
        let result = if worth {
            result.and_then(|()| self.compact())
        } else {
            result
        };
        if let Err(error) = result {
            tracing::error!(
                "accounting records are in memory only: {}: {error}",
                self.path.display()
            );
        }
    }

    /// Writes the file anew with the records there are.
    fn compact(&mut self) -> io::Result<()> {
        let mut octets = Vec::new();
        for (number, record) in &self.records {
            append(&mut octets, RECORD, *number, &record.encode_to_vec());
        }
        let new = self.path.with_extension("new");
        let mut file = options().truncate(true).append(false).write(true).open(&new)?;
        file.write_all(&octets)?;
        file.sync_data()?;
        std::fs::rename(&new, &self.path)?;
        self.file = options().open(&self.path)?;
        self.length = octets.len() as u64;
        Ok(())
    }
}

fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600);
    options
}

/// One entry: kind, number, length, octets.
fn append(octets: &mut Vec<u8>, kind: u8, number: u64, payload: &[u8]) {
    octets.push(kind);
    octets.extend(number.to_be_bytes());
    octets.extend((payload.len() as u32).to_be_bytes());
    octets.extend_from_slice(payload);
}

fn replay(octets: &[u8]) -> BTreeMap<u64, AccountingRecord> {
    let mut records = BTreeMap::new();
    let mut rest = octets;
    while let Some((kind, number, payload, next)) = entry(rest) {
        rest = next;
        match kind {
            RECORD => match AccountingRecord::decode(payload) {
                Ok(record) => drop(records.insert(number, record)),
                Err(_) => break,
            },
            DONE => drop(records.remove(&number)),
            // A later version wrote it, to which it means something.
            _ => {}
        }
    }
    records
}

fn entry(octets: &[u8]) -> Option<(u8, u64, &[u8], &[u8])> {
    let (&kind, rest) = octets.split_first()?;
    let (number, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (payload, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    Some((kind, u64::from_be_bytes(*number), payload, rest))
}

/// Name of the file in the state directory.
const FILE: &str = "accounting";
/// A record.
const RECORD: u8 = b'R';
/// A mark that a record is done.
const DONE: u8 = b'D';
/// How long a record waits after all servers have failed.
const AGAIN: Duration = Duration::from_secs(30);
/// Records kept at most; beyond that the oldest are lost.
const MAX_RECORDS: usize = 100_000;
/// An empty spool's file is emptied when it is longer than this.
const EMPTY_FROM: u64 = 64 << 10;
/// A file longer than this is written anew.
const COMPACT_FROM: u64 = 64 << 20;
/// What is read of a file at most.
const LONGEST_FILE: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("aaamgr-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn record(number: u32) -> AccountingRecord {
        AccountingRecord {
            seconds: number,
            session: format!("{number:08}"),
            ..AccountingRecord::default()
        }
    }

    #[test]
    fn undelivered_records_survive_in_order() {
        let folder = Folder::new("survive");
        let now = Instant::now();
        let mut spool = Spool::open(&folder.0).unwrap();
        spool.push((0..5).map(record).collect());
        let (first, _) = spool.next(now).unwrap();
        spool.done(first);
        let (second, _) = spool.next(now).unwrap();
        spool.postpone(second, now);
        spool.flush();
        drop(spool);
        // Half an entry, as a crash leaves it.
        let mut file = OpenOptions::new().append(true).open(folder.0.join(FILE)).unwrap();
        file.write_all(b"R\0\0\0").unwrap();
        let mut spool = Spool::open(&folder.0).unwrap();
        let left: Vec<u32> =
            std::iter::from_fn(|| spool.next(now).map(|(_, record)| record.seconds)).collect();
        assert_eq!(left, [1, 2, 3, 4]);
    }

    #[test]
    fn postponed_record_comes_again_later() {
        let folder = Folder::new("postpone");
        let now = Instant::now();
        let mut spool = Spool::open(&folder.0).unwrap();
        spool.push(vec![record(7)]);
        let (number, _) = spool.next(now).unwrap();
        spool.postpone(number, now);
        assert!(spool.next(now).is_none());
        assert_eq!(spool.next_timeout(), Some(now + AGAIN));
        assert_eq!(spool.next(now + AGAIN).unwrap().0, number);
    }

    #[test]
    fn file_does_not_grow_for_ever() {
        let folder = Folder::new("grow");
        let now = Instant::now();
        let mut spool = Spool::open(&folder.0).unwrap();
        for round in 0..40 {
            spool.push((0..100).map(|number| record(round * 100 + number)).collect());
            while let Some((number, _)) = spool.next(now) {
                spool.done(number);
            }
            spool.flush();
        }
        assert_eq!(spool.len(), 0);
        assert!(std::fs::metadata(folder.0.join(FILE)).unwrap().len() <= EMPTY_FROM + 10_000);
    }

    /// Octets of a file of `formats`.
    fn recorded(text: &str) -> Vec<u8> {
        let octets = text.split_whitespace();
        octets
            .map(|octet| u8::from_str_radix(octet, 16).unwrap())
            .collect()
    }

    /// A spool as it was recorded once, with a record of a kind that nobody knows: what a spool on disk may look like for ever.
    #[test]
    fn a_recorded_spool_is_read() {
        let whole = AccountingRecord {
            kind: 3,
            context: "isp".into(),
            session: "0000002a".into(),
            user: b"enb1".to_vec(),
            ipv4: vec![10, 0, 0, 7],
            ipv6: vec![0x20; 16],
            class: vec![b"gold".to_vec()],
            seconds: 3_600,
            bytes_in: 1 << 33,
            bytes_out: 5,
            packets_in: 6,
            packets_out: 7,
            terminate_cause: 1,
            calling_station: "192.0.2.7".into(),
            service: "enb".into(),
            time: 1_700_000_000,
        };
        let records = replay(&recorded(include_str!("../formats/spool.hex")));
        assert_eq!(records.into_iter().collect::<Vec<_>>(), [(2, whole)]);
    }

    proptest! {
        #[test]
        fn any_file_can_be_replayed(octets in prop::collection::vec(any::<u8>(), 0..400)) {
            replay(&octets);
        }
    }
}

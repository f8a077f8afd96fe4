//! The crash list: kept in the state directory, bounded, and complete again after a restart of the node.
//!
//! One line a crash, oldest first: time in milliseconds since the Unix epoch, facility, instance, process id, version, cause, separated by tabs.
//! The first line is the number of crashes there ever were.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Crashes that are kept.
const MOST: usize = 120;
const FILE: &str = "crash-list";

/// A task that ended without being told to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crash {
    pub time: SystemTime,
    pub facility: String,
    pub instance: u32,
    pub pid: u32,
    pub version: String,
    /// Signal or exit status, in words.
    pub cause: String,
}

/// The crashes of this node, the latest [`MOST`] of them.
#[derive(Debug)]
pub(crate) struct CrashList {
    path: PathBuf,
    total: u64,
    crashes: Vec<Crash>,
    writer: Option<Writer>,
}

/// The thread that writes the list: a slow disk must not keep the dead waiting for their successors. Started for the first crash; ended, with everything
/// written, when dropped.
#[derive(Debug)]
struct Writer {
    texts: Option<Sender<String>>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    fn start(path: PathBuf) -> io::Result<Self> {
        let (texts, queue) = channel::<String>();
        let work = move || {
            while let Ok(text) = queue.recv() {
                let latest = queue.try_iter().last().unwrap_or(text);
                if let Err(error) = write(&path, &latest) {
                    tracing::error!("cannot save {}: {error}", path.display());
                }
            }
        };
        Ok(Self {
            texts: Some(texts),
            thread: Some(
                std::thread::Builder::new()
                    .name("crash-list".into())
                    .spawn(work)?,
            ),
        })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        // Ends the thread's loop.
        self.texts = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl CrashList {
    /// Reads the list of `state_dir`. A missing list is an empty one; lines that cannot be read are left out.
    pub fn load(state_dir: &Path) -> Self {
        let path = state_dir.join(FILE);
        let text = fs::read_to_string(&path).unwrap_or_default();
        Self::of_text(state_dir, &text)
    }

    /// The list of `state_dir` with these contents, whatever lies there.
    pub fn of_text(state_dir: &Path, text: &str) -> Self {
        let path = state_dir.join(FILE);
        let mut lines = text.lines();
        let total = lines
            .next()
            .and_then(|line| line.trim().parse().ok())
            .unwrap_or(0);
        let mut crashes: Vec<_> = lines.filter_map(parse).collect();
        crashes.drain(..crashes.len().saturating_sub(MOST));
        Self {
            path,
            total: total.max(crashes.len() as u64),
            crashes,
            writer: None,
        }
    }

    /// Adds a crash and has the list saved, soon; a crash that cannot be saved is in the list all the same.
    pub fn add(&mut self, crash: Crash) -> io::Result<()> {
        self.total += 1;
        if self.crashes.len() == MOST {
            self.crashes.remove(0);
        }
        self.crashes.push(crash);
        self.save()
    }

    /// Forgets all crashes, and has the empty list saved.
    pub fn clear(&mut self) -> io::Result<()> {
        self.total = 0;
        self.crashes.clear();
        self.save()
    }

    /// The crashes, oldest first.
    pub fn crashes(&self) -> &[Crash] {
        &self.crashes
    }

    /// How many there ever were.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Waits until everything is written.
    pub fn flush(&mut self) {
        self.writer = None;
    }

    /// Its contents.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n", self.total);
        for crash in &self.crashes {
            let time = crash
                .time
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_millis();
            let Crash {
                facility,
                instance,
                pid,
                version,
                cause,
                ..
            } = crash;
            text.push_str(&format!(
                "{time}\t{facility}\t{instance}\t{pid}\t{version}\t{cause}\n"
            ));
        }
        text
    }

    fn save(&mut self) -> io::Result<()> {
        let text = self.text();
        if self.writer.is_none() {
            self.writer = Some(Writer::start(self.path.clone())?);
        }
        if let Some(texts) = self.writer.as_ref().and_then(|writer| writer.texts.as_ref()) {
            texts.send(text).map_err(io::Error::other)?;
        }
        Ok(())
    }
}

/// Written beside its place and renamed: a crash of the machine leaves the old list or the new one.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = fs::File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    file.sync_data()?;
    fs::rename(&fresh, path)
}

fn parse(line: &str) -> Option<Crash> {
    let mut fields = line.splitn(6, '\t');
    let milliseconds = fields.next()?.parse().ok()?;
    Some(Crash {
        time: UNIX_EPOCH.checked_add(Duration::from_millis(milliseconds))?,
        facility: fields.next()?.to_owned(),
        instance: fields.next()?.parse().ok()?,
        pid: fields.next()?.parse().ok()?,
        version: fields.next()?.to_owned(),
        cause: fields.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crash(pid: u32) -> Crash {
        Crash {
            time: UNIX_EPOCH + Duration::from_millis(1_602_770_260_123),
            facility: "sessmgr".into(),
            instance: 4,
            pid,
            version: "0.1.0".into(),
            cause: "killed by signal 9 (SIGKILL)".into(),
        }
    }

    #[test]
    fn the_list_survives_and_stays_bounded() {
        let directory = std::env::temp_dir().join(format!("sit-crashes-{}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        let mut list = CrashList::load(&directory);
        assert_eq!((list.total(), list.crashes().len()), (0, 0));
        for pid in 0..130 {
            list.add(crash(pid)).unwrap();
        }
        let kept = list.crashes().to_vec();
        // Dropped: all is on disk.
        drop(list);
        let mut again = CrashList::load(&directory);
        assert_eq!(again.total(), 130);
        assert_eq!(again.crashes(), kept);
        assert_eq!(again.crashes().len(), MOST);
        assert_eq!(again.crashes()[0], crash(10));
        // Damage costs the damaged lines only.
        let text = fs::read_to_string(directory.join(FILE))
            .unwrap()
            .replacen("1602770260123", "x", 1);
        fs::write(directory.join(FILE), text).unwrap();
        assert_eq!(CrashList::load(&directory).crashes().len(), MOST - 1);
        again.clear().unwrap();
        drop(again);
        let empty = CrashList::load(&directory);
        assert_eq!((empty.total(), empty.crashes().len()), (0, 0));
        fs::remove_dir_all(&directory).unwrap();
    }
}

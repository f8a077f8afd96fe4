//! Executables: those that processes of this node run, and the one that is to take their place.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use bus::messages::sit::{CONTROL_VERSION, OLDEST_CONTROL_VERSION};
use netio::{Baggage, Luggage};

use super::state::{self, KeptExecutable, NodeState};
use crate::manager::VERSION;

/// The subcommand by which an executable is asked what it can take over.
pub(crate) const CHECK: &str = "upgrade-check";
/// It has this time for the answer.
const PATIENCE: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);
/// Longest answer; it is a few lines.
const ANSWER: u64 = 16 * 1024;

/// Something that two versions of the software have in common while both run.
#[derive(Debug, Clone, Copy)]
pub struct Format {
    /// One word.
    pub name: &'static str,
    /// The oldest version of it that this software understands.
    pub oldest: u64,
    /// The newest, which it writes.
    pub newest: u64,
}

/// Those of `sit`, and `more` of others.
fn formats(more: &[Format]) -> Vec<Format> {
    let own = [
        ("state", state::OLDEST.into(), state::VERSION.into()),
        (CONTROL, OLDEST_CONTROL_VERSION.into(), CONTROL_VERSION.into()),
        ("frame", bus::frame::MAJOR.into(), bus::frame::MAJOR.into()),
        ("segments", sadb::LAYOUT_VERSION, sadb::LAYOUT_VERSION),
    ];
    let own = own.map(|(name, oldest, newest)| Format { name, oldest, newest });
    own.iter().chain(more).copied().collect()
}

const CONTROL: &str = "control";

/// What this executable says of itself: a line each for its version and for what it can take over, which is that of `sit` and `more`, from the oldest version
/// to the newest. With `given`, it tries to read a state of a node.
///
/// # Errors
/// Why it cannot read it.
pub fn report(more: &[Format], given: Option<&mut File>) -> Result<String, String> {
    if let Some(file) = given {
        NodeState::read(file)?;
    }
    let mut text = format!("software {VERSION}\n");
    for Format { name, oldest, newest } in formats(more) {
        text.push_str(&format!("{name} {oldest} {newest}\n"));
    }
    Ok(text)
}

/// An executable, open: it can be run even when its file has another name, or none.
#[derive(Debug)]
pub(crate) struct Executable {
    pub file: File,
    /// Where it was found.
    pub path: PathBuf,
    /// Version of the software.
    pub version: String,
    /// The newest control protocol that its processes speak.
    pub control: u32,
}

impl Executable {
    /// The one that runs now.
    pub fn own() -> io::Result<Self> {
        Ok(Self {
            file: File::open("/proc/self/exe")?,
            path: std::env::current_exe()?,
            version: VERSION.to_owned(),
            control: CONTROL_VERSION,
        })
    }

    /// Opens the file of a new one. Its version is not known yet. `own` is the one that runs now; `shared` says that other users are to execute it.
    ///
    /// # Errors
    /// Why it cannot be used, in words.
    pub fn open(path: &Path, own: &Self, shared: bool) -> Result<Self, String> {
        let wrong = |why: &dyn std::fmt::Display| format!("{} cannot be used: {why}", path.display());
        if !path.is_absolute() {
            return Err(wrong(&"the whole path is needed"));
        }
        let file = File::options()
            .read(true)
            .custom_flags(nix::fcntl::OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(|error| wrong(&error))?;
        let metadata = file.metadata().map_err(|error| wrong(&error))?;
        let owners = [
            nix::unistd::geteuid().as_raw(),
            own.file.metadata().map_err(|error| wrong(&error))?.uid(),
        ];
        let needed = if shared { 0o001 } else { 0o100 };
        if !metadata.is_file() {
            return Err(wrong(&"it is not a file"));
        }
        // Who can write to it would be root.
        if !owners.contains(&metadata.uid()) || metadata.mode() & 0o022 != 0 {
            return Err(wrong(&"others than the owner of this node can write to it"));
        }
        if metadata.mode() & needed == 0 {
            return Err(wrong(&"the users of the processes may not execute it"));
        }
        Ok(Self {
            file,
            path: path.to_owned(),
            version: String::new(),
            control: 0,
        })
    }

    /// A name under which it can be executed, by this process and by what is forked from it.
    pub fn program(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.file.as_raw_fd()).into()
    }

    /// Asks it what it is and whether it can take over this state, and `more` than `sit` knows of. Blocks for at most [`PATIENCE`].
    ///
    /// # Errors
    /// Why it cannot, in one line.
    pub fn check(mut self, mut state: File, more: &[Format]) -> Result<Self, String> {
        let cannot = |why: &str| format!("{} cannot take over: {why}", self.path.display());
        let failed = |error: io::Error| cannot(&error.to_string());
        state.rewind().map_err(failed)?;
        let mut child = Command::new(self.program())
            .args([CHECK, "--state"])
            .stdin(state)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().map_err(failed)? {
                Some(status) => break status,
                None if Instant::now() < until => std::thread::sleep(LOOK),
                None => {
                    let _ = child.kill().and_then(|()| child.wait());
                    return Err(cannot("it does not answer"));
                }
            }
        };
        let read = |from: Option<&mut dyn Read>| {
            let mut text = Vec::new();
            // What cannot be read is no answer.
            let _ = from.map(|from| from.take(ANSWER).read_to_end(&mut text));
            String::from_utf8_lossy(&text).into_owned()
        };
        if !status.success() {
            let text = read(child.stderr.as_mut().map(|pipe| pipe as &mut dyn Read));
            let line = text.lines().next().unwrap_or_default();
            return Err(cannot(&match line.strip_prefix("starward: ").unwrap_or(line) {
                "" => format!("its check ended with {status}"),
                line => line.to_owned(),
            }));
        }
        let answer = read(child.stdout.as_mut().map(|pipe| pipe as &mut dyn Read));
        let (version, control) = judge(&answer, more).map_err(|why| cannot(&why))?;
        self.version = version;
        self.control = control;
        Ok(self)
    }
}

/// What an executable that says this of itself is: its version, and the newest control protocol it speaks.
fn judge(answer: &str, more: &[Format]) -> Result<(String, u32), String> {
    let mut known: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for line in answer.lines() {
        let mut words = line.split_whitespace();
        if let Some(name) = words.next() {
            known.insert(name, words.collect());
        }
    }
    let Some([version]) = known.get("software").map(Vec::as_slice) else {
        return Err("it does not say what it is".to_owned());
    };
    let mut control = CONTROL_VERSION;
    for Format {
        name, newest: ours, ..
    } in formats(more)
    {
        let range = match known.get(name).map(Vec::as_slice) {
            Some([oldest, newest]) => oldest.parse::<u64>().ok().zip(newest.parse::<u64>().ok()),
            _ => None,
        };
        let (oldest, newest) = range.ok_or_else(|| format!("it does not say which '{name}' it knows"))?;
        if !(oldest..=newest).contains(&ours) {
            return Err(format!(
                "'{name}' is version {ours} here, it knows {oldest} to {newest}"
            ));
        }
        if name == CONTROL {
            control = u32::try_from(newest).unwrap_or(u32::MAX);
        }
    }
    Ok(((*version).to_owned(), control))
}

/// The executables in use, by a key that no two of a node's ever have.
#[derive(Debug)]
pub(crate) struct Executables {
    all: BTreeMap<u32, Executable>,
    /// The one that runs here.
    pub running: u32,
}

impl Executables {
    /// Only our own.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            all: BTreeMap::from([(1, Executable::own()?)]),
            running: 1,
        })
    }

    pub fn get(&self, key: u32) -> Option<&Executable> {
        self.all.get(&key)
    }

    /// Adds one; returns its key.
    pub fn add(&mut self, executable: Executable) -> u32 {
        let key = self.all.last_key_value().map_or(1, |(last, _)| last + 1);
        self.all.insert(key, executable);
        key
    }

    /// Closes those that are not needed.
    pub fn keep(&mut self, needed: impl Fn(u32) -> bool) {
        let running = self.running;
        self.all.retain(|key, _| *key == running || needed(*key));
    }

    pub fn save(&self, luggage: &mut Luggage) -> Result<Vec<KeptExecutable>, netio::Error> {
        self.all
            .iter()
            .map(|(key, one)| {
                Ok(KeptExecutable {
                    key: *key,
                    file: luggage.pack(&one.file)?,
                    path: one.path.to_string_lossy().into_owned(),
                    version: one.version.clone(),
                    control: one.control,
                })
            })
            .collect()
    }

    pub fn restore(kept: &[KeptExecutable], running: u32, baggage: &mut Baggage) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for one in kept {
            let file = baggage.take(one.file).map_err(|error| error.to_string())?;
            let executable = Executable {
                file: file.into(),
                path: one.path.clone().into(),
                version: one.version.clone(),
                control: one.control,
            };
            all.insert(one.key, executable);
        }
        if !all.contains_key(&running) {
            return Err("the executable that runs is not in the state".to_owned());
        }
        Ok(Self { all, running })
    }
}

/// Whether two files are one.
pub(crate) fn is_same(one: &File, other: &File) -> bool {
    let identity = |file: &File| -> io::Result<_> {
        let metadata: fs::Metadata = file.metadata()?;
        Ok((metadata.dev(), metadata.ino()))
    };
    matches!((identity(one), identity(other)), (Ok(one), Ok(other)) if one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_we_say_of_ourselves_is_enough_for_us() {
        let (version, control) = judge(&report(&[], None).unwrap(), &[]).unwrap();
        assert_eq!((version.as_str(), control), (VERSION, CONTROL_VERSION));
    }

    #[test]
    fn what_cannot_take_over_is_told_in_a_line() {
        let more = [Format {
            name: "records",
            oldest: 4,
            newest: 5,
        }];
        let judge = |text: &str| judge(text, &more);
        let whole = report(&more, None).unwrap();
        let less = whole.replace("records 4 5", "records 3 4");
        assert_eq!(
            judge(&less).unwrap_err(),
            "'records' is version 5 here, it knows 3 to 4"
        );
        let older = whole.replace("segments 3 3", "segments 1 2");
        assert_eq!(
            judge(&older).unwrap_err(),
            "'segments' is version 3 here, it knows 1 to 2"
        );
        let newer = whole.replace("control 1 1", "control 2 7");
        assert_eq!(
            judge(&newer).unwrap_err(),
            "'control' is version 1 here, it knows 2 to 7"
        );
        // What we do not know does not matter.
        let both = whole.replace("control 1 1", "control 1 2\nnovelty 1 1 1");
        assert_eq!(judge(&both).unwrap().1, 2);
        for (text, answer) in [
            ("", "it does not say what it is"),
            (
                "software 2\nstate x 1\n",
                "it does not say which 'state' it knows",
            ),
            ("software 2\nstate 1\n", "it does not say which 'state' it knows"),
        ] {
            assert_eq!(judge(text).unwrap_err(), answer);
        }
    }

    #[test]
    fn only_the_files_of_the_owner_are_executed() {
        use std::os::unix::fs::PermissionsExt;
        let own = Executable::own().unwrap();
        let folder = std::env::temp_dir().join(format!("sit-executable-{}", std::process::id()));
        fs::create_dir(&folder).unwrap();
        let file = folder.join("starward");
        fs::write(&file, "#!/bin/false\n").unwrap();
        let with_mode = |mode: u32| {
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
            Executable::open(&file, &own, true)
        };
        assert!(with_mode(0o755).is_ok());
        for mode in [0o775, 0o757, 0o750, 0o644] {
            assert!(with_mode(mode).is_err(), "{mode:o}");
        }
        for other in [folder.as_path(), Path::new("starward"), &folder.join("none")] {
            let error = Executable::open(other, &own, true).unwrap_err();
            assert!(error.contains("cannot be used: "), "{error}");
        }
        fs::remove_dir_all(folder).unwrap();
    }
}

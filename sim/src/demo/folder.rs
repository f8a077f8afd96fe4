//! Where the node of the demo keeps its things.

use std::fs::DirBuilder;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

use crypto::{Random, SystemRandom};

/// Nobody else looks into it or writes there; the processes of the node, which have users of their own, pass through.
const MODE: u32 = 0o711;
/// Write permission of group and others.
const OTHERS_WRITE: u32 = 0o022;
/// Lines of the log that are worth showing when something went wrong.
const TAIL: usize = 20;

/// A directory of our own, gone when dropped, and the run directory, which may be the operator's.
pub(super) struct Folder {
    path: PathBuf,
    run_dir: PathBuf,
}

impl Folder {
    /// With a run directory that is kept, or with one inside.
    pub(super) fn new(run_dir: Option<&Path>) -> Result<Self, String> {
        let run_dir = run_dir.map(own_directory).transpose()?;
        let path = private_directory(&std::env::temp_dir())?;
        Ok(Self {
            run_dir: run_dir.unwrap_or_else(|| path.join("run")),
            path,
        })
    }

    /// Run directory of the node.
    pub(super) fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// State directory of the node.
    pub(super) fn state_dir(&self) -> PathBuf {
        self.path.join("state")
    }

    /// Its boot configuration.
    pub(super) fn configuration(&self) -> PathBuf {
        self.path.join("secgw.cfg")
    }

    /// Where it says that it is ready.
    pub(super) fn notify(&self) -> PathBuf {
        self.path.join("notify")
    }

    /// What it says otherwise.
    pub(super) fn log(&self) -> PathBuf {
        self.path.join("node.log")
    }

    /// What the node says it has to do without (event 1006), in its own words.
    pub(super) fn missing(&self) -> Vec<String> {
        const SAYS: &str = "running without a protection: ";
        let log = self.read_log();
        log.lines()
            .filter_map(|line| line.find(SAYS).and_then(|start| line.get(start..)))
            // What follows is for programs.
            .map(|line| line.split(" facility=").next().unwrap_or(line).to_owned())
            .collect()
    }

    /// Why the node ended: its last line.
    pub(super) fn last_words(&self) -> String {
        let log = self.read_log();
        let line = log.lines().rev().find(|line| !line.trim().is_empty());
        format!("the gateway did not start: {}", line.unwrap_or("it said nothing"))
    }

    /// The last lines of the node's log.
    pub(super) fn log_tail(&self) -> String {
        let log = self.read_log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(TAIL)..].join("\n")
    }

    fn read_log(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A file of a process that is still dying may appear meanwhile; the node is over, so this is its end.
        if std::fs::remove_dir_all(&self.path).is_err() {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Makes a directory with a name that nobody can have known before. What is there already is never used.
fn private_directory(parent: &Path) -> Result<PathBuf, String> {
    let mut number = [0; 8];
    SystemRandom.fill(&mut number);
    let path = parent.join(format!("starward-demo-{:016x}", u64::from_be_bytes(number)));
    make(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path)
}

/// The directory that an operator named: made if it is missing, and refused when somebody else could have put something there.
fn own_directory(path: &Path) -> Result<PathBuf, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let path = std::path::absolute(path).map_err(|error| wrong(&error))?;
    match make(&path) {
        Ok(()) => return Ok(path),
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(wrong(&error)),
        Err(_) => {}
    }
    let found = std::fs::symlink_metadata(&path).map_err(|error| wrong(&error))?;
    if !found.is_dir() {
        return Err(wrong(&"not a directory"));
    }
    if found.uid() != nix::unistd::geteuid().as_raw() || found.mode() & OTHERS_WRITE != 0 {
        return Err(wrong(&"other users may write there"));
    }
    Ok(path)
}

fn make(path: &Path) -> std::io::Result<()> {
    DirBuilder::new().mode(MODE).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    /// A directory for a test, gone when dropped.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Self(private_directory(&std::env::temp_dir()).unwrap())
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    #[test]
    fn the_folder_is_for_nobody_else_and_goes() {
        let folder = Folder::new(None).unwrap();
        let path = folder.path.clone();
        assert_eq!(mode(&path), MODE);
        assert_eq!(folder.run_dir(), path.join("run"));
        assert_ne!(Folder::new(None).unwrap().path, path);
        fs::create_dir(folder.state_dir()).unwrap();
        fs::write(folder.state_dir().join("master.key"), "secret").unwrap();
        drop(folder);
        assert!(!path.exists());
    }

    #[test]
    fn the_operators_run_directory_is_made_and_kept() {
        let scratch = Scratch::new();
        let wanted = scratch.0.join("node");
        for _ in 0..2 {
            let folder = Folder::new(Some(&wanted)).unwrap();
            assert_eq!(folder.run_dir(), wanted);
            assert!(!folder.state_dir().starts_with(&wanted));
        }
        assert_eq!(mode(&wanted), MODE);
    }

    #[test]
    fn a_run_directory_that_others_could_have_prepared_is_refused() {
        let scratch = Scratch::new();
        let open = scratch.0.join("open");
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        let (link, file) = (scratch.0.join("link"), scratch.0.join("file"));
        symlink(&scratch.0, &link).unwrap();
        fs::write(&file, "").unwrap();
        let missing = scratch.0.join("no/such");
        for (path, problem) in [
            (&open, "other users may write there"),
            (&link, "not a directory"),
            (&file, "not a directory"),
            (&missing, "No such file or directory (os error 2)"),
        ] {
            let error = Folder::new(Some(path)).err().unwrap();
            assert_eq!(error, format!("{}: {problem}", path.display()));
        }
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 3);
    }

    #[test]
    fn what_is_missing_is_told_in_the_words_of_the_node() {
        let folder = Folder::new(None).unwrap();
        assert!(folder.missing().is_empty());
        let log = "1 INFO sit: node starts\n2 WARN sit: running without a protection: no root facility=\"sit\" event=1006\n";
        fs::write(folder.log(), log).unwrap();
        assert_eq!(folder.missing(), ["running without a protection: no root"]);
        assert!(folder.last_words().ends_with("event=1006"));
    }
}

//! What the system must offer before a node can run, and the run directory.

use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use netio::LockFile;

use crate::Options;
use crate::error::Error;

/// Descriptors for 255 slots, the rings and sockets of many contexts.
const OPEN_FILES: u64 = 65_536;

/// The node may run.
pub(crate) struct Environment {
    /// Of the run directory and the state directory. Held as long as the node runs.
    pub _locks: [LockFile; 2],
    /// Processors this node may use.
    pub processors: Vec<usize>,
    /// What the boot configuration says of the number of tasks.
    pub tasks: config::Tasks,
    /// What is missing here, in words; nothing a node could not do without.
    pub missing: Vec<String>,
}

impl Environment {
    /// Keeps what this process holds, which is everything, out of core dumps and other hands. (After a user namespace was entered: its maps can only be
    /// written before.)
    pub fn harden(&mut self) {
        for result in [
            netio::task::forbid_core_dumps(),
            netio::task::forbid_new_privileges(),
        ] {
            if let Err(error) = result {
                self.missing.push(error.to_string());
            }
        }
    }
}

/// Takes the run directory and checks the rest. Must be called before the process has a second thread, because it may enter a user namespace.
pub(crate) fn prepare(options: &Options) -> Result<Environment, Error> {
    let mut missing = Vec::new();
    let text = config::read(&options.config).map_err(|source| Error::Configuration {
        path: options.config.clone(),
        source,
    })?;
    for path in [&options.run_dir, &options.state_dir] {
        make_directory(path, 0o755)?;
    }
    // With names of their own: the directories may be one.
    let locks = [
        lock(&options.run_dir, "lock", "--run-dir")?,
        lock(&options.state_dir, "state-lock", "--state-dir")?,
    ];
    if !netio::task::is_privileged() {
        netio::enter_user_namespace().map_err(|error| Error::NoPrivilege {
            cause: error.to_string(),
        })?;
    }
    // Whoever started the node may have entered it before.
    if is_in_user_namespace() {
        missing.push(
            "not started as root: the node runs in a user namespace with a network of its own, apart from the machine's".to_owned(),
        );
    }
    netio::check_tun()?;
    // What an earlier node left there would pass for tasks of this one. (The lock says that it is gone, and its tasks died with it.)
    for (name, mode) in [("bus", 0o700), ("counters", 0o755)] {
        let path = options.run_dir.join(name);
        make_directory(&path, mode)?;
        empty_directory(&path)?;
    }
    make_directory(&options.run_dir.join("netns"), 0o755)?;
    let files = netio::task::raise_open_files(OPEN_FILES)?;
    if files < OPEN_FILES / 16 {
        missing.push(format!(
            "only {files} open files allowed: some tunnels may find no place (ulimit -n)"
        ));
    }
    Ok(Environment {
        _locks: locks,
        processors: netio::task::usable_cpus()?,
        tasks: config::boot_tasks(&text),
        missing,
    })
}

/// Takes a directory for this node alone, which shows at once whether it can be written to.
fn lock(directory: &Path, file: &str, option: &'static str) -> Result<LockFile, Error> {
    LockFile::acquire(&directory.join(file)).map_err(|error| match error {
        netio::Error::Locked { holder, .. } => Error::AlreadyRunning {
            directory: directory.to_owned(),
            option,
            pid: holder,
        },
        error => Error::Kernel(error),
    })
}

/// Whether the root of this process is not the machine's.
fn is_in_user_namespace() -> bool {
    fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !maps_every_user(&map))
}

/// Whether every user is who he is outside (user_namespaces(7)), which is so in the first namespace alone.
fn maps_every_user(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Removes the files in a directory.
fn empty_directory(path: &Path) -> Result<(), Error> {
    let wrong = |source| Error::Directory {
        path: path.to_owned(),
        source,
    };
    for entry in fs::read_dir(path).map_err(wrong)? {
        fs::remove_file(entry.map_err(wrong)?.path()).map_err(wrong)?;
    }
    Ok(())
}

fn make_directory(path: &Path, mode: u32) -> Result<(), Error> {
    let wrong = |source| Error::Directory {
        path: path.to_owned(),
        source,
    };
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(wrong)?;
    let metadata = fs::metadata(path).map_err(wrong)?;
    // What an earlier node of another user left is not ours to use.
    if metadata.uid() != nix::unistd::geteuid().as_raw() && !nix::unistd::geteuid().is_root() {
        let text = format!("it belongs to user {}", metadata.uid());
        return Err(wrong(std::io::Error::other(text)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_is_told_by_its_users() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(!maps_every_user("         0      65534          1\n"));
        assert!(!maps_every_user("         0     100000      65536\n"));
    }

    #[test]
    fn a_directory_is_emptied() {
        let path = std::env::temp_dir().join(format!("sit-empty-{}", std::process::id()));
        make_directory(&path, 0o755).unwrap();
        fs::write(path.join("iftask-7"), "").unwrap();
        fs::write(path.join("iftask-8"), "").unwrap();
        empty_directory(&path).unwrap();
        assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
        fs::remove_dir(&path).unwrap();
    }
}

//! What the system must offer before a node can run, and the run directory.

use std::fs;
use std::path::Path;

use netio::{Baggage, LockFile};

use crate::error::Error;
use crate::processors::Processors;
use crate::upgrade::state::NodeState;
use crate::users::Users;
use crate::{Options, folders};

/// Descriptors for 255 slots, the rings and sockets of many contexts.
const OPEN_FILES: u64 = 65_536;

/// The node may run.
pub(crate) struct Environment {
    /// Of the run directory and the state directory. Held as long as the node runs.
    pub locks: [LockFile; 2],
    /// Processors this node may use.
    pub processors: Processors,
    /// The users of the processes; `None`: all are ours.
    pub users: Option<Users>,
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

/// Names of the locks: they differ, for the directories may be one.
const LOCKS: [&str; 2] = ["lock", "state-lock"];

/// What the program before this one had prepared.
pub(crate) fn take_over(
    options: &Options,
    state: &NodeState,
    baggage: &mut Baggage,
) -> Result<Environment, netio::Error> {
    let mut locks = Vec::new();
    for ((directory, name), number) in [&options.run_dir, &options.state_dir]
        .into_iter()
        .zip(LOCKS)
        .zip(&state.locks)
    {
        locks.push(LockFile::adopt(&directory.join(name), baggage.take(*number)?)?);
    }
    let locks = <[LockFile; 2]>::try_from(locks).map_err(|_| netio::Error::Invalid {
        what: "locks of a node",
        expected: "two",
    })?;
    let users = state.users.as_ref();
    Ok(Environment {
        locks,
        processors: Processors::of_this_machine()?,
        users: users.map(|kept| Users::restore(kept, options.first_user)),
        tasks: config::Tasks::default(),
        missing: state.unprotected.clone(),
    })
}

/// Takes the run directory and checks the rest. Must be called before the process has a second thread, because it may enter a user namespace.
pub(crate) fn prepare(options: &Options) -> Result<Environment, Error> {
    let mut missing = Vec::new();
    let text = config::read(&options.config).map_err(|source| Error::Configuration {
        path: options.config.clone(),
        source,
    })?;
    for path in [&options.run_dir, &options.state_dir] {
        folders::make(path, 0o755)?;
    }
    let [run_lock, state_lock] = LOCKS;
    let locks = [
        lock(&options.run_dir, run_lock, "--run-dir")?,
        lock(&options.state_dir, state_lock, "--state-dir")?,
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
    let users = match Users::find(options.first_user, &[&options.run_dir, &options.state_dir]) {
        Ok(users) => Some(users),
        Err(why) => {
            missing.push(format!(
                "own users: every process runs as the same one, because {why}"
            ));
            None
        }
    };
    missing.extend(folders::prepare(options, users.as_ref())?);
    let files = netio::task::raise_open_files(OPEN_FILES)?;
    if files < OPEN_FILES / 16 {
        missing.push(format!(
            "only {files} open files allowed: some tunnels may find no place (ulimit -n)"
        ));
    }
    Ok(Environment {
        locks,
        processors: Processors::of_this_machine()?,
        users,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_namespace_is_told_by_its_users() {
        assert!(maps_every_user("         0          0 4294967295\n"));
        assert!(!maps_every_user("         0      65534          1\n"));
        assert!(!maps_every_user("         0     100000      65536\n"));
    }
}

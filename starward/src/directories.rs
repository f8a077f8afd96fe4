//! Where a node keeps its files when nobody says so.

use std::env::var_os;
use std::path::PathBuf;

/// The run directory: `/run/starward`, or for an ordinary user one of his own.
pub(crate) fn run() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/run/starward".into();
    }
    match var_os("XDG_RUNTIME_DIR") {
        Some(directory) => PathBuf::from(directory).join("starward"),
        None => format!("/tmp/starward-{}", nix::unistd::geteuid()).into(),
    }
}

/// The state directory: `/var/lib/starward`, or for an ordinary user one of his own.
pub(crate) fn state() -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/var/lib/starward".into();
    }
    match (var_os("XDG_STATE_HOME"), var_os("HOME")) {
        (Some(directory), _) => PathBuf::from(directory).join("starward"),
        (None, Some(home)) => PathBuf::from(home).join(".local/state/starward"),
        (None, None) => run().join("state"),
    }
}

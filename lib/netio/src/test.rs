//! Helpers of this crate's tests.

/// Whether the tests that need root can run; says why not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

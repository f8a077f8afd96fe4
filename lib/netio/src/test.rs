//! Helpers of this crate's tests.

/// Whether the tests that need root can run; says why not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("skipped: needs root");
    }
    root
}

/// Gives an interface of the calling thread's namespace an address, so that the kernel routes through it.
pub(crate) fn address(name: &str, prefix: &str) {
    let status = std::process::Command::new("ip")
        .args(["address", "add", prefix, "dev", name])
        .status()
        .unwrap();
    assert!(status.success());
}

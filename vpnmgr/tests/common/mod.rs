//! What tests against the real kernel have in common.

use std::process::Command;

use nix::sched::{CloneFlags, unshare};

/// Runs `test` on a thread with a network namespace of its own: devices `v0`, the port, and `tunnels`. Without privilege there is nothing to test.
pub fn in_namespace(test: impl FnOnce() + Send + 'static) {
    let thread = std::thread::spawn(|| {
        if let Err(error) = unshare(CloneFlags::CLONE_NEWNET) {
            return eprintln!("not tested: no network namespace for an ordinary user ({error})");
        }
        ip("link add v0 type veth peer name v1");
        ip("link set v1 up");
        make_tunnels();
        test();
    });
    thread.join().expect("the test");
}

/// Makes the device `tunnels`.
pub fn make_tunnels() {
    ip("link add tunnels type veth peer name other");
    ip("link set other up");
}

/// Runs `ip` in the namespace of the thread.
pub fn ip(arguments: &str) -> String {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .expect("ip");
    assert!(
        output.status.success(),
        "ip {arguments}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

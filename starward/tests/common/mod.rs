//! What the tests of the executable have in common.

use std::time::{Duration, Instant};

pub const STARWARD: &str = env!("CARGO_BIN_EXE_starward");
/// Nothing is measured by this: it is how long a test waits on a busy machine before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until the condition holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

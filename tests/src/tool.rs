//! The measuring tools: `starward sim ...` run to its end.

use serde_json::Value;

use crate::node::binary;
use crate::process::{Running, eventually, try_run_in};
use crate::world::World;

/// Runs a command of the simulator in a namespace; whether it was content, and the object that it printed last. Fails the scenario without one.
pub fn measured(namespace: &str, arguments: &[&str]) -> (bool, Value) {
    let program = binary();
    let words = [&[program.as_str(), "sim"], arguments].concat();
    let (ok, text) = try_run_in(namespace, &words, &[]);
    let last = text
        .lines()
        .next_back()
        .and_then(|line| serde_json::from_str(line).ok());
    (
        ok,
        last.unwrap_or_else(|| panic!("{arguments:?} gave no result:\n{text}")),
    )
}

/// Runs a command of the simulator that has to refuse; gives what it says.
pub fn refused(namespace: &str, arguments: &[&str]) -> String {
    let program = binary();
    let (ok, text) = try_run_in(namespace, &[&[program.as_str(), "sim"], arguments].concat(), &[]);
    assert!(!ok, "{arguments:?} was not refused:\n{text}");
    text
}

/// Starts the far end of traffic at an address of a namespace.
pub fn far(world: &World, namespace: &str, address: &str) -> Running {
    let program = binary();
    let words = [program.as_str(), "sim", "far", "--listen", address];
    let far = Running::start(namespace, &words, &[], &world.folder().join("far.log"));
    eventually("the far end", || far.log().contains("listening").then_some(()));
    far
}

//! A node of fake children: this binary starts itself again as `sit` and as each child.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;
mod ground;
mod scenarios;

use std::process::ExitCode;

/// What a process of this binary is to be: `node`, `FACILITY-INSTANCE`, or the tests themselves when it is not set.
pub const ROLE: &str = "SIT_TEST_ROLE";
/// Folder of the node.
pub const FOLDER: &str = "SIT_TEST_FOLDER";
/// What kind of node: `full` or `worker`.
pub const KIND: &str = "SIT_TEST_KIND";

fn main() -> ExitCode {
    match std::env::var(ROLE) {
        Ok(role) if role == "node" => ground::node(),
        Ok(role) => child::run(&role),
        Err(_) => tests(),
    }
}

/// Runs the scenarios whose names contain the first argument that is no option; all without one.
fn tests() -> ExitCode {
    let filter = std::env::args()
        .skip(1)
        .find(|argument| !argument.starts_with('-'))
        .unwrap_or_default();
    if std::env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, scenario) in scenarios::ALL.iter().filter(|(name, _)| name.contains(&filter)) {
        let result = std::panic::catch_unwind(scenario);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += u8::from(result.is_err());
    }
    ExitCode::from(failed)
}

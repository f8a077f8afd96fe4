//! A node of fake children: this binary starts itself again as `sit` and as each child.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod child;
mod ground;
mod scenarios;
mod upgrades;

use std::process::ExitCode;

/// What a process of this binary is to be: `node`, `FACILITY-INSTANCE`, or the tests themselves when it is not set.
pub const ROLE: &str = "SIT_TEST_ROLE";
/// Folder of the node.
pub const FOLDER: &str = "SIT_TEST_FOLDER";
/// What kind of node: `full` or `worker`.
pub const KIND: &str = "SIT_TEST_KIND";

/// Whether the file of this executable is called so: an upgrade to a copy of it tells how that one behaves.
pub fn is_called(name: &str) -> bool {
    std::env::current_exe().is_ok_and(|path| path.file_name().is_some_and(|file| file == name))
}

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some("upgrade-check") {
        return ground::check();
    }
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
    for (name, scenario) in scenarios::ALL
        .iter()
        .chain(upgrades::ALL)
        .filter(|(name, _)| name.contains(&filter))
    {
        let result = std::panic::catch_unwind(scenario);
        println!("test {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += u8::from(result.is_err());
    }
    ExitCode::from(failed)
}

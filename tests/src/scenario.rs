//! Counting of scenarios: a real-peer scenario that did not run is a failure in CI, never a silent skip.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::process::Command;

/// Declares that this test is a scenario with a real peer and needs these programs. Returns false when it has to be skipped, which
/// is possible only outside CI and says why; in CI a missing program fails.
pub fn real_peer(scenario: &str, programs: &[&str]) -> bool {
    let mut missing: Vec<String> = programs
        .iter()
        .filter(|program| {
            !Command::new("which")
                .arg(program)
                .output()
                .is_ok_and(|output| output.status.success())
        })
        .map(|program| format!("{program} is not installed"))
        .collect();
    if !nix::unistd::geteuid().is_root() {
        missing.push("not root: network namespaces cannot be made".to_owned());
    }
    if missing.is_empty() {
        record(scenario);
        return true;
    }
    let reason = missing.join(", ");
    assert!(
        std::env::var_os("CI").is_none(),
        "{scenario} cannot run: {reason}"
    );
    eprintln!("skipped {scenario}: {reason}");
    false
}

/// Appends the scenario to the list of those that ran (`STARWARD_SCENARIOS` names the file).
fn record(scenario: &str) {
    if let Some(file) = std::env::var_os("STARWARD_SCENARIOS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(file)
            .expect("list of scenarios");
        writeln!(file, "{scenario}").expect("list of scenarios");
    }
}

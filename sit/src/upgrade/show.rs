//! `show upgrade`.

use std::fmt::Write;

use bus::messages::common::Output;

use super::Upgrade;
use crate::manager::{Manager, SIT};

/// How far the latest upgrade is, and what each process runs.
pub(crate) fn status(manager: &Manager) -> Output {
    let running = manager.executables.running;
    let behind = manager.tasks.values().filter(|entry| entry.executable != running);
    let (all, behind) = (manager.tasks.len(), behind.count());
    let (word, at, failure) = match &manager.upgrade {
        Upgrade::None => ("None", None, "-"),
        Upgrade::Checking => ("Checking", None, "-"),
        Upgrade::Leaving { .. } => ("Taking Over", Some(SIT), "-"),
        Upgrade::Rolling(rollout) => ("In Progress", rollout.at(), "-"),
        Upgrade::Complete => ("Complete", None, "-"),
        Upgrade::Failed { why } => ("Failed", None, why.as_str()),
    };
    let at = at.map_or_else(|| "-".to_owned(), |address| address.to_string());
    let mut heading = String::from("Software Upgrade Status:\n");
    for (label, value) in [
        ("State", word),
        ("Tasks On This Version", &format!("{} of {all}", all - behind)),
        ("Being Replaced", &at),
        ("Failure", failure),
    ] {
        let _ = writeln!(heading, "  {label:<21}: {value}");
    }
    heading.push_str(TABLE);
    let mut text = String::new();
    let own = (SIT, Some(std::process::id()), running);
    let others = manager
        .tasks
        .values()
        .map(|entry| (entry.address, entry.pid(), entry.executable));
    for (address, pid, key) in std::iter::once(own).chain(others) {
        let pid = pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let executable = manager.executables.get(key);
        let (version, path) = executable.map_or(("-", "-".into()), |one| {
            (one.version.as_str(), one.path.to_string_lossy())
        });
        let _ = writeln!(
            text,
            " 1/0 {:<10} {:>5} {pid:>7} {version:<11} {path}",
            address.facility.name(),
            address.instance,
        );
    }
    Output {
        heading,
        text,
        ..Output::default()
    }
}

const TABLE: &str = concat!(
    "\n",
    "     task\n",
    " cpu facility    inst     pid version     executable\n",
    "---- ---------- ----- ------- ----------- --------------------------------------\n",
);

//! What is wrong with a configuration file, without a node.

use crypto::{MasterKey, SystemRandom};

use crate::{Config, Finding, LineError, Loaded, Tasks, is_sealed, load};

/// A file that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// What the good lines say.
    pub config: Config,
    /// Lines that cannot be applied.
    pub errors: Vec<LineError>,
    /// Lines that can, but perhaps not as meant.
    pub warnings: Vec<LineError>,
    /// What does not fit together, each with the line it is about.
    pub findings: Vec<(usize, Finding)>,
    /// Sealed secrets, of which only the form could be looked at: the master key is the node's.
    pub sealed: usize,
}

/// Looks at a configuration file.
pub fn check(text: &str) -> Checked {
    // Plain secrets are sealed for nobody.
    let Loaded {
        config,
        errors,
        warnings,
    } = load(text, &MasterKey::generate(&mut SystemRandom));
    let mut findings: Vec<(usize, Finding)> = config
        .findings()
        .into_iter()
        .map(|finding| (line_of(text, &finding.subject), finding))
        .collect();
    let mut sealed = 0_usize;
    for secret in config.secrets() {
        let Some(line) = text.lines().position(|line| line.contains(&secret.sealed)) else {
            continue;
        };
        sealed = sealed.saturating_add(1);
        if !is_sealed(&secret.sealed) {
            let subject = secret.modes.into_iter().chain([secret.line]).collect();
            let finding = Finding::new(true, subject, "this is not a sealed secret");
            findings.push((line.saturating_add(1), finding));
        }
    }
    findings.sort_by_key(|(line, _)| *line);
    Checked {
        config,
        errors,
        warnings,
        findings,
        sealed,
    }
}

/// What a node starts with that boots from this file.
pub fn boot_tasks(text: &str) -> Tasks {
    // Secrets are read by another.
    load(text, &MasterKey::generate(&mut SystemRandom)).config.tasks
}

/// The line that leads to an object (`context isp`, `wsg-service enb`, outermost first), each word looked for after the one before; 1 when
/// there is none.
fn line_of(text: &str, subject: &[String]) -> usize {
    let mut found = 0;
    for wanted in subject {
        let wanted: Vec<&str> = wanted.split_whitespace().collect();
        let begins = |line: &str| {
            let mut words = line.split_whitespace();
            wanted
                .iter()
                .all(|wanted| words.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted)))
        };
        match text.lines().skip(found).position(begins) {
            Some(more) => found = found.saturating_add(more).saturating_add(1),
            None => break,
        }
    }
    found.max(1)
}

//! The running configuration.

use std::cell::Cell;

use bus::messages::sct::{Configure, Configured};
use command::{Outcome, Path};
use config::{Config, Finding, LineError, Loaded, PlacedSecret, Privilege, Tasks, is_sealed};

use telemetry::events::{SecretUnreadable, emit};

use crate::access::Access;
use crate::secrets::Secrets;

/// The running configuration and its version.
pub(crate) struct Running {
    pub config: Config,
    pub version: u64,
    /// As printed, until the next change.
    text: Option<String>,
}

impl Running {
    /// An empty configuration.
    pub(crate) fn new() -> Self {
        Self {
            config: Config::default(),
            version: 1,
            text: None,
        }
    }

    /// Reads a whole file; what cannot be applied is reported, the rest counts.
    pub(crate) fn load(text: &str, secrets: &Secrets) -> (Self, Vec<LineError>) {
        let Loaded {
            mut config,
            errors,
            warnings,
        } = config::load(text, secrets);
        secrets.settle(&[], &mut config);
        for secret in secrets.unreadable(&config) {
            emit(&SecretUnreadable {
                place: &secret.place(),
            });
        }
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        (
            Self {
                config,
                ..Self::new()
            },
            errors,
        )
    }

    /// Everything that does not fit together, here too what only this node can tell.
    pub(crate) fn findings(&self, access: &Access) -> Vec<Finding> {
        let mut findings = self.config.findings();
        findings.extend(access.findings(&self.config));
        findings
    }

    /// Like [`Running::findings`], with the secrets that cannot be opened here.
    pub(crate) fn all_findings(&self, access: &Access, secrets: &Secrets) -> Vec<Finding> {
        let mut findings = self.findings(access);
        findings.extend(secrets.unreadable(&self.config).into_iter().map(unreadable));
        findings
    }

    /// Applies one line of a shell.
    pub(crate) fn configure(
        &mut self,
        request: &Configure,
        secrets: &Secrets,
        access: &Access,
    ) -> Configured {
        let failed = |error: command::Error| Configured {
            failure: error.to_string(),
            column: error.column().and_then(|column| u32::try_from(column).ok()),
            path: request.path.clone(),
            ..Configured::default()
        };
        if let Err(error) = access.check(&self.config, &request.user, Privilege::ConfigAdministrator) {
            return failed(error);
        }
        let mut path = match config::tree().path(&self.config, &request.path) {
            Ok(path) => path,
            Err(error) => return failed(error),
        };
        let before = self.findings(access);
        let (version, tasks) = (self.version, self.config.tasks.clone());
        let is_sealed_line = config::tree().has_keyword(&path, &request.line, "encrypted");
        match self.apply(&mut path, request, is_sealed_line, secrets, access) {
            Ok(outcome) => Configured {
                path: path.lines(),
                ended: outcome == Outcome::Ended,
                warnings: self
                    .findings(access)
                    .into_iter()
                    .filter(|finding| !before.contains(finding) && !is_under_way(finding, &path))
                    .chain(match is_sealed_line && version != self.version {
                        true => self.unreadable_in(&request.line, secrets),
                        false => Vec::new(),
                    })
                    .map(|finding| finding.message)
                    .chain((self.config.tasks != tasks).then(|| Tasks::WAIT_FOR_START.to_owned()))
                    .collect(),
                version: self.version,
                ..Configured::default()
            },
            Err(error) => failed(error),
        }
    }

    /// A line of a shell as it may stand in a log.
    pub(crate) fn loggable(&self, request: &Configure) -> String {
        let secret = config::tree()
            .path(&self.config, &request.path)
            .is_ok_and(|path| config::tree().has_plain_secret(&path, &request.line));
        let line = if secret {
            "(a line with a secret)"
        } else {
            request.line.trim()
        };
        request
            .path
            .iter()
            .map(String::as_str)
            .chain([line])
            .collect::<Vec<_>>()
            .join(" / ")
    }

    /// The configuration as `show configuration` prints it.
    pub(crate) fn text(&mut self) -> String {
        self.text.get_or_insert_with(|| self.config.to_text()).clone()
    }

    /// The secret of a line that was just applied, if it was sealed elsewhere.
    fn unreadable_in(&self, line: &str, secrets: &Secrets) -> Vec<Finding> {
        let mut found = secrets.unreadable(&self.config);
        found.retain(|secret| line.contains(&secret.sealed));
        found.into_iter().map(unreadable).collect()
    }

    /// Where this sealed secret stands.
    pub(crate) fn secret(&mut self, sealed: &str) -> Option<PlacedSecret> {
        config::placed_secrets(&self.text())
            .into_iter()
            .find(|secret| secret.sealed == sealed)
    }

    /// Applies a line with a plain secret.
    fn apply_secret(
        &mut self,
        path: &mut Path,
        line: &str,
        secrets: &Secrets,
    ) -> Result<Outcome, command::Error> {
        let mut before = config::placed_secrets(&self.text());
        let fresh = |plain: &str| secrets.seal_text(plain);
        if !removes(line) {
            let outcome = config::tree().apply(&mut self.config, path, line, &fresh)?;
            secrets.settle(&before, &mut self.config);
            return Ok(outcome);
        }
        // What is removed may be named by its secret: it is one of those that stand here or in the modes around.
        let here = path.lines();
        before.retain(|secret| here.starts_with(&secret.modes));
        let mut tried = 0;
        loop {
            let found = Cell::new(false);
            let seal = |plain: &str| match secrets.forms(plain, &before).nth(tried) {
                Some(form) => {
                    found.set(true);
                    Ok(form.to_owned())
                }
                None => fresh(plain),
            };
            let result = config::tree().apply(&mut self.config, path, line, &seal);
            if result.is_ok() || !found.get() {
                return result;
            }
            tried += 1;
        }
    }

    /// What is said to be sealed must look like it, as `starward check` wants it in a file.
    fn check_form(&self, line: &str) -> Result<(), command::Error> {
        let wrong = |secret: &PlacedSecret| line.contains(&secret.sealed) && !is_sealed(&secret.sealed);
        match self.config.secrets().iter().any(wrong) {
            true => Err(command::Error::refused("this is not a sealed secret")),
            false => Ok(()),
        }
    }

    fn apply(
        &mut self,
        path: &mut Path,
        request: &Configure,
        is_sealed_line: bool,
        secrets: &Secrets,
        access: &Access,
    ) -> Result<Outcome, command::Error> {
        let before = self.config.clone();
        let outcome = if config::tree().has_plain_secret(path, &request.line) {
            self.apply_secret(path, &request.line, secrets)?
        } else {
            config::tree().apply(&mut self.config, path, &request.line, &|_| Err(String::new()))?
        };
        if self.config != before {
            if let Err(error) = access
                .check_change(&before, &self.config, &request.user)
                .and_then(|()| {
                    if is_sealed_line {
                        self.check_form(&request.line)
                    } else {
                        Ok(())
                    }
                })
            {
                self.config = before;
                return Err(error);
            }
            self.version += 1;
            self.text = None;
        }
        Ok(outcome)
    }
}

/// Does this line remove something?
fn removes(line: &str) -> bool {
    line.split_whitespace()
        .next()
        .is_some_and(|word| "no".starts_with(&word.to_ascii_lowercase()))
}

/// What is being typed may be unfinished: the shell tells of it when the mode is left.
fn is_under_way(finding: &Finding, path: &Path) -> bool {
    !path.is_root() && finding.is_below(&path.lines())
}

fn unreadable(secret: PlacedSecret) -> Finding {
    let subject = secret.modes.into_iter().chain([secret.line]).collect();
    Finding::new(
        true,
        subject,
        "the master key of this node does not open this secret: enter it in the clear",
    )
}

#[cfg(test)]
mod tests {
    use crypto::MasterKey;

    use super::*;

    /// Those of one node, as a new process has them.
    fn secrets() -> Secrets {
        Secrets::new(MasterKey::from_bytes(&[7; MasterKey::LEN]).unwrap())
    }

    /// Types lines at the top; each must be accepted.
    fn type_in(running: &mut Running, secrets: &Secrets, lines: &[&str]) {
        let mut path = Vec::new();
        for line in lines {
            let request = Configure {
                path: path.clone(),
                line: (*line).to_owned(),
                ..Configure::default()
            };
            let answer = running.configure(&request, secrets, &Access::of(std::path::Path::new("/")));
            assert_eq!(answer.failure, "", "{line}");
            path = answer.path;
        }
    }

    #[test]
    fn a_secret_entered_again_is_the_same() {
        let (mut running, secrets) = (Running::new(), secrets());
        let lines = [
            "snmp community public",
            "snmp community private read-write",
            "context c",
            "radius server 10.0.0.1 key x",
            "crypto template t",
            "authentication local pre-shared-key key x",
        ];
        type_in(&mut running, &secrets, &lines);
        let before = (running.version, running.text());
        type_in(&mut running, &secrets, &lines[1..]);
        type_in(&mut running, &secrets, &["snmp community private read-write"]);
        assert_eq!((running.version, running.text()), before);
        type_in(&mut running, &secrets, &["no snmp community public"]);
        assert_eq!(running.config.snmp.communities.len(), 1);
        assert!(running.config.snmp.communities[0].read_write);
    }

    #[test]
    fn what_waits_for_the_next_start_is_told() {
        let (mut running, secrets) = (Running::new(), secrets());
        let mut warnings = |line: &str| {
            let request = Configure {
                line: line.to_owned(),
                ..Configure::default()
            };
            let answer = running.configure(&request, &secrets, &Access::of(std::path::Path::new("/")));
            assert_eq!(answer.failure, "", "{line}");
            answer.warnings
        };
        assert_eq!(warnings("require ipsec-large"), [Tasks::WAIT_FOR_START]);
        assert_eq!(
            warnings("require ipsec-large"),
            Vec::<String>::new(),
            "nothing changed"
        );
        assert_eq!(
            warnings("task facility ipsecmgr task-count 3"),
            [Tasks::WAIT_FOR_START]
        );
        assert_eq!(warnings("system hostname gw"), Vec::<String>::new());
    }

    #[test]
    fn equal_secrets_cannot_be_told_from_their_forms() {
        let (mut running, secrets) = (Running::new(), secrets());
        let lines = [
            "snmp community x",
            "snmp target nms 10.0.0.9 security-name x",
            "context c",
            "radius server 10.0.0.1 key x",
            "radius server 10.0.0.2 key x",
        ];
        type_in(&mut running, &secrets, &lines);
        let forms = |running: &Running| -> Vec<String> {
            let secrets = running.config.secrets().into_iter();
            secrets.map(|secret| secret.sealed).collect()
        };
        let mut all = forms(&running);
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 4);
        // Another secret has another form; what is entered again has the one that it had.
        type_in(
            &mut running,
            &secrets,
            &[
                "context c",
                "radius server 10.0.0.1 key y",
                "radius server 10.0.0.2 key x",
            ],
        );
        let changed = forms(&running).into_iter().filter(|form| !all.contains(form));
        assert_eq!(changed.count(), 1);
        // The target has the same secret as the community, and stays.
        type_in(&mut running, &secrets, &["no snmp community x"]);
        assert_eq!(
            (
                running.config.snmp.communities.len(),
                running.config.snmp.targets.len()
            ),
            (0, 1)
        );
    }

    #[test]
    fn what_is_not_sealed_is_refused_as_in_a_file() {
        let (mut running, secrets) = (Running::new(), secrets());
        let access = Access::of(std::path::Path::new("/"));
        let request = Configure {
            path: vec!["context local".to_owned()],
            line: "administrator adm2 enc password xyz".to_owned(),
            ..Configure::default()
        };
        let answer = running.configure(&request, &secrets, &access);
        assert_eq!(answer.failure, "this is not a sealed secret");
        assert!(running.config.contexts["local"].administrators.is_empty());
        let file = format!("config\ncontext local\n{}\n", request.line);
        let findings = config::check(&file).findings;
        assert!(
            findings.iter().any(|(_, finding)| finding.is_error),
            "{findings:?}"
        );
    }

    /// In a later life too, and when an older version wrote the same secret twice.
    #[test]
    fn secrets_that_were_saved_are_known_again() {
        let forms = [secrets(), secrets()].map(|secrets| secrets.seal_text("public").unwrap());
        assert_ne!(forms[0], forms[1]);
        let text = format!(
            "snmp community encrypted name {}\nsnmp community encrypted name {}\n",
            forms[0], forms[1]
        );
        let secrets = secrets();
        let (mut running, bad) = Running::load(&text, &secrets);
        assert_eq!(bad, []);
        assert_eq!(running.config.snmp.communities.len(), 1);
        type_in(&mut running, &secrets, &["no snmp community public"]);
        assert_eq!(running.config.snmp.communities, []);
    }

    #[test]
    fn secrets_of_another_node_are_found() {
        let other = Secrets::new(MasterKey::from_bytes(&[9; MasterKey::LEN]).unwrap());
        let text = format!(
            "context c\ncrypto template t\nauthentication local pre-shared-key encrypted key {}\n",
            other.seal_text("x").unwrap()
        );
        let secrets = secrets();
        let access = Access::of(std::path::Path::new("/"));
        let (mut running, bad) = Running::load(&text, &secrets);
        assert_eq!(bad, []);
        let message = "context c, crypto template t ikev2-dynamic, authentication local pre-shared-key encrypted key ...: the master key of \
                       this node does not open this secret: enter it in the clear";
        let told = |findings: &[Finding]| findings.iter().any(|finding| finding.message == message);
        assert!(told(&running.all_findings(&access, &secrets)));
        let mine = secrets.seal_text("x").unwrap();
        let mut request = Configure {
            path: vec!["context c".to_owned(), "crypto template t".to_owned()],
            line: format!("authentication local pre-shared-key encrypted key {mine}"),
            ..Configure::default()
        };
        let warnings = running.configure(&request, &secrets, &access).warnings;
        assert!(!warnings.iter().any(|warning| warning == message));
        assert!(!told(&running.all_findings(&access, &secrets)));
        request.line = text.lines().last().unwrap().to_owned();
        let warnings = running.configure(&request, &secrets, &access).warnings;
        assert!(warnings.iter().any(|warning| warning == message), "{warnings:?}");
    }
}

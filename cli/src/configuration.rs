//! Configuration mode: lines go to `sct`, help comes from the table.

use std::collections::HashSet;
use std::time::Duration;

use bus::messages::sct::{Configure, GetConfig};
use bus::{Address, Bus, Facility};
use command::{Completion, Path, Suggestion};
use config::Config;

use crate::failure::Failure;

/// Where the operator is in the configuration.
pub(crate) struct Configuration {
    /// The configuration as it was when the mode was entered last: it gives help its context.
    config: Config,
    path: Path,
    /// What was told already, or was there before.
    told: HashSet<String>,
}

/// What became of a line.
pub(crate) struct Applied {
    /// Configuration mode was left.
    pub ended: bool,
    /// To be told.
    pub warnings: Vec<String>,
    /// The version of the configuration since then.
    pub version: u64,
}

impl Configuration {
    /// Enters configuration mode.
    pub(crate) async fn enter(bus: &Bus, deadline: Duration) -> Result<Self, Failure> {
        let config = Self::running(bus, deadline).await?;
        Ok(Self {
            told: config
                .findings()
                .into_iter()
                .map(|finding| finding.message)
                .collect(),
            config,
            path: Path::default(),
        })
    }

    /// The running configuration.
    pub(crate) async fn running(bus: &Bus, deadline: Duration) -> Result<Config, Failure> {
        let answer = bus
            .request(Address::only(Facility::Sct), &GetConfig {}, deadline)
            .await
            .map_err(Failure::bus)?;
        Config::parse(&answer.text).map_err(|error| Failure::sentence(error.to_string()))
    }

    /// `config`, `config-ctx`, ...
    pub(crate) fn prompt(&self) -> String {
        config::tree().prompt(&self.path)
    }

    /// The context being configured.
    pub(crate) fn context(&self) -> Option<&str> {
        self.path
            .lines()
            .first()
            .filter(|line| line.starts_with("context "))?;
        self.path.keys().next()
    }

    pub(crate) fn help(&self, line: &str) -> Result<Vec<Suggestion>, command::Error> {
        config::tree().help(&self.path, line)
    }

    pub(crate) fn complete(&self, line: &str) -> Completion {
        config::tree().complete(&self.config, &self.path, line)
    }

    /// Must a person say yes to this line? It makes a context, or removes one with everything in it.
    pub(crate) fn must_be_confirmed(&self, line: &str) -> bool {
        let trial = self.tried(line).map(|config| config.contexts.len());
        trial.is_ok_and(|contexts| contexts != self.config.contexts.len())
            && !config::tree().has_keyword(&self.path, line, "-noconfirm")
    }

    /// Does this line fit here?
    pub(crate) fn accepts(&self, line: &str) -> bool {
        self.tried(line).is_ok()
    }

    /// Does this line hold a plain secret?
    pub(crate) fn has_plain_secret(&self, line: &str) -> bool {
        config::tree().has_plain_secret(&self.path, line)
    }

    /// The configuration after this line, but for its secrets.
    fn tried(&self, line: &str) -> Result<Config, command::Error> {
        let (mut trial, mut path) = (self.config.clone(), self.path.clone());
        config::tree().apply(&mut trial, &mut path, line, &no_secret)?;
        Ok(trial)
    }

    /// What does not fit together in the modes that were left.
    fn about_the_left(&mut self, before: &[String], after: &[String]) -> Vec<String> {
        let common = before
            .iter()
            .zip(after)
            .take_while(|(one, other)| one == other)
            .count();
        let Some(left) = before.get(..=common) else {
            return Vec::new();
        };
        let findings = self.config.findings().into_iter();
        findings
            .filter(|finding| finding.is_below(left))
            .map(|finding| finding.message)
            .filter(|message| self.told.insert(message.clone()))
            .collect()
    }

    /// Has a line applied.
    pub(crate) async fn apply(
        &mut self,
        bus: &Bus,
        user: &str,
        line: &str,
        deadline: Duration,
    ) -> Result<Applied, Failure> {
        let request = Configure {
            path: self.path.lines(),
            line: line.to_owned(),
            user: user.to_owned(),
        };
        let answer = bus
            .request(Address::only(Facility::Sct), &request, deadline)
            .await
            .map_err(Failure::bus)?;
        if !answer.failure.is_empty() {
            let column = answer.column.and_then(|column| usize::try_from(column).ok());
            return Err(Failure::At(answer.failure, column));
        }
        let mut warnings = answer.warnings;
        self.told.extend(warnings.iter().cloned());
        if answer.path != request.path {
            self.config = Self::running(bus, deadline).await?;
            self.path = config::tree().path(&self.config, &answer.path)?;
            warnings.extend(self.about_the_left(&request.path, &answer.path));
        } else {
            // `sct` took it: this copy follows, but for secrets.
            let _ = config::tree().apply(&mut self.config, &mut self.path.clone(), line, &no_secret);
        }
        Ok(Applied {
            ended: answer.ended,
            warnings,
            version: answer.version,
        })
    }
}

/// The shell's copy of the configuration holds no secrets of its own.
fn no_secret(_: &str) -> Result<String, String> {
    Ok(String::new())
}

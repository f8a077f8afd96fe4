//! The running configuration.

use bus::messages::sct::{Configure, Configured};
use command::{Outcome, Path};
use config::{Config, LineError, Loaded};

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
            config,
            errors,
            warnings,
        } = config::load(text, secrets);
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

    /// Applies one line of a shell.
    pub(crate) fn configure(&mut self, request: &Configure, secrets: &Secrets) -> Configured {
        let failed = |error: command::Error| Configured {
            failure: error.to_string(),
            column: error.column().and_then(|column| u32::try_from(column).ok()),
            path: request.path.clone(),
            ..Configured::default()
        };
        let mut path = match config::tree().path(&self.config, &request.path) {
            Ok(path) => path,
            Err(error) => return failed(error),
        };
        let before = self.config.findings();
        match self.apply(&mut path, &request.line, secrets) {
            Ok(outcome) => Configured {
                path: path.lines(),
                ended: outcome == Outcome::Ended,
                warnings: self
                    .config
                    .findings()
                    .into_iter()
                    .filter(|finding| !before.contains(finding))
                    .map(|finding| finding.message)
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

    /// The line with this sealed secret and the lines it stands under, without the secret.
    pub(crate) fn place_of(&mut self, sealed: &str) -> Option<String> {
        let indent = |line: &str| line.len() - line.trim_start().len();
        let text = self.text();
        let lines: Vec<&str> = text.lines().collect();
        let at = lines.iter().position(|line| line.contains(sealed))?;
        let mut place = vec![lines.get(at)?.trim().replace(sealed, "...")];
        let mut depth = indent(lines.get(at)?);
        for line in lines.get(..at)?.iter().rev() {
            if indent(line) < depth && depth > 0 {
                depth = indent(line);
                place.push(line.trim().to_owned());
            }
        }
        place.reverse();
        Some(place.join(" / "))
    }

    fn apply(&mut self, path: &mut Path, line: &str, secrets: &Secrets) -> Result<Outcome, command::Error> {
        let before = self.config.clone();
        let outcome =
            config::tree().apply(&mut self.config, path, line, &|plain| secrets.seal_text(plain))?;
        if self.config != before {
            self.version += 1;
            self.text = None;
        }
        Ok(outcome)
    }
}

//! Configurations as text.

use std::fmt;

use command::{Error, Lines, Outcome, Path, is_remark, split_pipe};

use crate::refused::Refused;
use crate::{Config, LOCAL, Sealer, tree};

/// A configuration that was read, and what was wrong with the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What the good lines say.
    pub config: Config,
    /// The lines that were not applied, in order.
    pub errors: Vec<LineError>,
    /// Lines that were applied, but perhaps not as meant.
    pub warnings: Vec<LineError>,
}

/// What is wrong with one line of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LineError {
    /// Number of the line, from 1.
    pub line: usize,
    /// Offset of the word at fault in the line.
    pub column: Option<usize>,
    /// Why, as a sentence.
    pub message: String,
}

/// Most octets of a configuration text.
pub const MAX_TEXT: usize = 64 << 20;
/// Most lines that are reported; the rest is counted.
const MAX_ERRORS: usize = 1_000;

impl Config {
    /// Reads a canonical text, as `sct` gives it out: every secret is sealed.
    ///
    /// # Errors
    /// The first bad line. A text that [`Config::to_text`] made has none.
    pub fn parse(text: &str) -> Result<Self, LineError> {
        let loaded = load(text, &NoSealer);
        match loaded.errors.into_iter().next() {
            None => Ok(loaded.config),
            Some(error) => Err(error),
        }
    }

    /// The canonical text: the commands that rebuild this configuration from nothing. Reading it gives the same configuration.
    pub fn to_text(&self) -> String {
        let mut lines = Lines::default();
        lines.line("config");
        lines.indent();
        tree().print_into(self, &mut lines);
        lines.outdent();
        lines.line("end");
        lines.into_text()
    }

    /// Like [`Config::to_text`], for one context.
    ///
    /// # Errors
    /// There is no such context.
    pub fn context_text(&self, name: &str) -> Result<String, Error> {
        self.text_of(&format!("context {name}"))
            .map_err(|_| Error::refused(format!("there is no context {name}")))
    }

    /// Like [`Config::to_text`], for the settings of bulk statistics.
    pub fn bulkstats_text(&self) -> String {
        let collection = if self.bulkstats.collection {
            "  bulkstats collection\n"
        } else {
            ""
        };
        let settings = self
            .text_of("bulkstats mode")
            .unwrap_or_else(|_| "config\nend\n".to_owned());
        settings.replacen("config\n", &format!("config\n{collection}"), 1)
    }

    fn text_of(&self, line: &str) -> Result<String, Error> {
        let path = tree().path(self, &[line])?;
        let mut lines = Lines::default();
        lines.line("config");
        lines.indent();
        tree().print_at(self, &path, &mut lines)?;
        lines.outdent();
        lines.line("end");
        Ok(lines.into_text())
    }
}

/// Reads a configuration file. As StarOS does, a bad line is reported and the rest is applied.
///
/// Lines that belong to a bad line are not tried: those that are indented deeper and, where it would have led into a mode, all up to the
/// `#exit` or `exit` of that mode. Text after a pipe is ignored. In a file that enters no context, a context command is taken for one of
/// context `local`, with a warning.
pub fn load(text: &str, sealer: &dyn Sealer) -> Loaded {
    let mut loader = Loader {
        loaded: Loaded {
            config: Config::default(),
            errors: Vec::new(),
            warnings: Vec::new(),
        },
        path: Path::default(),
        in_contexts: false,
        refused: None,
        seal: &|plain| sealer.seal(plain.as_bytes()).map_err(|error| error.to_string()),
        dropped: 0,
    };
    if text.len() > MAX_TEXT {
        loader.report(
            1,
            None,
            format!("the configuration is longer than {} MiB", MAX_TEXT >> 20),
        );
        return loader.loaded;
    }
    let mut last = 0;
    for (index, line) in text.lines().enumerate() {
        last = index.saturating_add(1);
        loader.line(last, line);
    }
    if loader.dropped > 0 {
        let message = format!("{} more lines were not applied", loader.dropped);
        loader.loaded.errors.push(LineError {
            line: last,
            column: None,
            message,
        });
    }
    loader.loaded
}

struct Loader<'a> {
    loaded: Loaded,
    path: Path,
    /// A context was entered: no line belongs to `local` without saying so.
    in_contexts: bool,
    /// The bad line whose mode is skipped.
    refused: Option<Refused>,
    seal: &'a dyn Fn(&str) -> Result<String, String>,
    dropped: usize,
}

impl Loader<'_> {
    fn line(&mut self, number: usize, line: &str) {
        let (line, _) = split_pipe(line);
        let content = line.trim();
        let indentation = line.len() - line.trim_start().len();
        let with_hash = content.eq_ignore_ascii_case("#exit");
        if with_hash || content.eq_ignore_ascii_case("exit") {
            if self
                .refused
                .as_mut()
                .is_some_and(|refused| refused.takes_exit(indentation, with_hash))
            {
                return;
            }
            self.refused = None;
            self.path.leave();
            return;
        }
        if is_remark(line) {
            return;
        }
        let begins = content.len() >= 4 && "configure".starts_with(&content.to_ascii_lowercase());
        if begins || content.eq_ignore_ascii_case("end") {
            self.refused = None;
            self.path = Path::default();
            return;
        }
        if let Some(refused) = &mut self.refused {
            if refused.takes(indentation, line) {
                let message = format!("not applied, because it belongs to line {}", refused.line);
                self.report(number, None, message);
                return;
            }
            self.refused = None;
        }
        match tree().apply(&mut self.loaded.config, &mut self.path, line, self.seal) {
            Ok(Outcome::Entered) if self.path.depth() == 1 => {
                self.in_contexts |= self.path.lines().iter().any(|line| line.starts_with("context "));
            }
            Ok(_) => {}
            Err(error) => self.failed(number, indentation, line, error),
        }
    }

    fn failed(&mut self, number: usize, indentation: usize, line: &str, error: Error) {
        if !self.in_contexts && self.path.is_root() && self.applies_in_local(line) {
            let message = format!("taken for a command of context {LOCAL}");
            self.loaded.warnings.push(LineError {
                line: number,
                column: None,
                message,
            });
            return;
        }
        let body = tree().body(&self.path, line);
        self.refused = Some(Refused::new(number, indentation, body));
        self.report(number, error.column(), error.to_string());
    }

    /// Tries a line in context `local`; only those that lead into a mode of their own are taken.
    fn applies_in_local(&mut self, line: &str) -> bool {
        let Ok(mut path) = tree().path(&self.loaded.config, &[format!("context {LOCAL}")]) else {
            return false;
        };
        let taken = tree().leads_on(&path, line)
            && tree()
                .apply(&mut self.loaded.config, &mut path, line, self.seal)
                .is_ok();
        if taken {
            self.path = path;
        }
        taken
    }

    fn report(&mut self, line: usize, column: Option<usize>, message: String) {
        if self.loaded.errors.len() < MAX_ERRORS {
            self.loaded.errors.push(LineError {
                line,
                column,
                message,
            });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }
}

impl fmt::Display for LineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.message)
    }
}

/// Refuses plain secrets: canonical text has none.
struct NoSealer;

impl Sealer for NoSealer {
    fn seal(&self, _: &[u8]) -> Result<String, crate::SealError> {
        Err(crate::SealError("a plain secret cannot be read here".to_owned()))
    }
}

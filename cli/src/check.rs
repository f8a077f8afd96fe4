//! `starward check FILE`: validates a configuration file without starting anything.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

/// `starward check`
#[derive(Debug, clap::Args)]
pub struct Check {
    /// Configuration file
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

impl Check {
    /// Prints each bad line with its number and reason on standard error, and what does not fit together; the exit status is 1 if there was
    /// an error of either kind. Warnings do not count.
    pub fn run(self) -> ExitCode {
        let file = self.file.display();
        // Whoever does not read any more misses nothing: the status tells the rest.
        let mut out = std::io::stderr();
        let text = match config::read(&self.file) {
            Ok(text) => text,
            Err(error) => {
                let _ = writeln!(out, "starward check: {file}: {error}");
                return ExitCode::FAILURE;
            }
        };
        let checked = config::check(&text);
        let bad = checked
            .errors
            .iter()
            .map(|error| (error.line, "error", &error.message));
        let doubtful = checked
            .warnings
            .iter()
            .map(|warning| (warning.line, "warning", &warning.message));
        let found = checked
            .findings
            .iter()
            .map(|(line, finding)| (*line, finding.severity(), &finding.message));
        let mut all: Vec<_> = bad.chain(doubtful).chain(found).collect();
        all.sort_by_key(|(line, _, _)| *line);
        for (line, severity, message) in &all {
            let _ = writeln!(out, "{file}:{line}: {severity}: {message}");
        }
        if checked.sealed > 0 {
            let _ = writeln!(
                out,
                "{file}: note: {} sealed secret(s): only the form was checked, the node opens them with its master key",
                checked.sealed
            );
        }
        if all.iter().any(|(_, severity, _)| *severity == "error") {
            ExitCode::FAILURE
        } else {
            ExitCode::SUCCESS
        }
    }
}

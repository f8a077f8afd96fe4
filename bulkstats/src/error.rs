//! The error type of this crate.

use std::path::{Path, PathBuf};

/// What can go wrong with bulk statistics.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read or written.
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The counter pages cannot be read.
    Counters(telemetry::Error),
    /// `sit` did not do what it was asked.
    Sit(task::Error),
}

impl Error {
    pub(crate) fn write(path: &Path, source: std::io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File { path, source } => write!(f, "{}: {source}", path.display()),
            Self::Counters(error) => error.fmt(f),
            Self::Sit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Counters(error) => Some(error),
            Self::Sit(error) => Some(error),
        }
    }
}

impl From<telemetry::Error> for Error {
    fn from(error: telemetry::Error) -> Self {
        Self::Counters(error)
    }
}

impl From<task::Error> for Error {
    fn from(error: task::Error) -> Self {
        Self::Sit(error)
    }
}

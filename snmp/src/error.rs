//! The error type of this crate.

/// Why the agent cannot run.
#[derive(Debug)]
pub enum Error {
    /// The counter pages cannot be read.
    Counters(telemetry::Error),
    /// `sit` did not do what it was asked.
    Sit(task::Error),
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Counters(error) => error.fmt(f),
            Self::Sit(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
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

//! Why a `sessmgr` ends.

use std::fmt;
use std::io;

/// A failure that ends the process.
#[derive(Debug)]
pub enum Error {
    /// The file of sessions cannot be opened: without it a restart would give addresses twice.
    Journal(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Journal(error) => write!(f, "the file of sessions in the run directory: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Journal(error) => Some(error),
        }
    }
}

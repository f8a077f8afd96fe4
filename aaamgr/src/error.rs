//! What can go wrong in `aaamgr`.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A failure of a file or of the node.
#[derive(Debug)]
pub enum Error {
    /// The file of accounting records cannot be used.
    Spool {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spool { path, source } => write!(f, "accounting records in {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spool { source, .. } => Some(source),
        }
    }
}

//! The error type of this crate.

use std::path::PathBuf;

/// What can go wrong with counter pages.
#[derive(Debug)]
pub enum Error {
    /// A page file or the directory of pages could not be opened, made or read.
    Page {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A page could not be mapped.
    Map {
        /// The file.
        path: PathBuf,
        /// Why.
        source: sadb::Error,
    },
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Page { path, source } => write!(f, "counter page {}: {source}", path.display()),
            Self::Map { path, source } => write!(f, "counter page {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Page { source, .. } => Some(source),
            Self::Map { source, .. } => Some(source),
        }
    }
}

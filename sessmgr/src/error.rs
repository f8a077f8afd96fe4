//! Why a `sessmgr` ends.

use std::fmt;

/// A failure that ends the process.
#[derive(Debug)]
pub enum Error {
    /// The bus was closed under it.
    BusClosed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BusClosed => f.write_str("the bus was closed"),
        }
    }
}

impl std::error::Error for Error {}

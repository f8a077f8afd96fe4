//! The one error type of this crate.

use std::fmt;

/// Why an `ipsecmgr` cannot work.
#[derive(Debug)]
pub enum Error {
    /// `sit` did not give what it was asked for.
    Sit(task::Error),
    /// A slot segment cannot be used.
    Segment(sadb::Error),
    /// A kernel interface failed.
    Kernel(netio::Error),
    /// tokio cannot watch the sockets.
    Watch(std::io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sit(error) => write!(f, "{error}"),
            Self::Segment(error) => write!(f, "{error}"),
            Self::Kernel(error) => write!(f, "{error}"),
            Self::Watch(error) => write!(f, "cannot watch the IKE sockets: {error}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<task::Error> for Error {
    fn from(error: task::Error) -> Self {
        Self::Sit(error)
    }
}

impl From<sadb::Error> for Error {
    fn from(error: sadb::Error) -> Self {
        Self::Segment(error)
    }
}

impl From<netio::Error> for Error {
    fn from(error: netio::Error) -> Self {
        Self::Kernel(error)
    }
}

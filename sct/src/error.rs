//! Why the task cannot serve.

use std::fmt;
use std::path::PathBuf;

/// What went wrong, with the facts needed to act.
#[derive(Debug)]
pub enum Error {
    /// A file cannot be read or written.
    File(&'static str, PathBuf, std::io::Error),
    /// The master key file does not hold a key.
    MasterKey(PathBuf, crypto::Error),
    /// A file name that leads nowhere.
    Name(String),
    /// `sit` does not answer.
    Sit(task::Error),
    /// The bus is closed.
    Closed,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(action, path, error) => write!(f, "cannot {action} {}: {error}", path.display()),
            Self::MasterKey(path, error) => {
                write!(f, "{} does not hold a master key: {error}", path.display())
            }
            Self::Name(name) => {
                write!(
                    f,
                    "'{name}' is no file of this node: use /flash/NAME, /hd-raid/NAME or /usb1/NAME"
                )
            }
            Self::Sit(error) => write!(f, "sit: {error}"),
            Self::Closed => f.write_str("the bus is closed"),
        }
    }
}

impl std::error::Error for Error {}

impl From<task::Error> for Error {
    fn from(error: task::Error) -> Self {
        Self::Sit(error)
    }
}

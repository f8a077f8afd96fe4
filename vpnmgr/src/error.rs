//! What can go wrong with the network of a context.

use std::fmt;
use std::io;

/// A failure of the kernel or of a request to it.
#[derive(Debug)]
pub enum Error {
    /// The netlink socket cannot be used.
    Netlink {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The kernel sent something that cannot be read.
    Malformed(String),
    /// The kernel refused a change.
    Refused {
        /// The change, in the words of `ip`.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// There is no such device.
    NoDevice(String),
    /// A kernel setting below `/proc/sys/net` cannot be written.
    Setting {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Netlink { action, source } => write!(f, "netlink: cannot {action}: {source}"),
            Self::Malformed(what) => write!(f, "netlink: the kernel sent {what}"),
            Self::Refused { what, source } => write!(f, "{what}: {source}"),
            Self::NoDevice(name) => write!(f, "there is no device {name} in this context's namespace"),
            Self::Setting { path, source } => write!(f, "{path}: {source}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Netlink { source, .. } | Self::Refused { source, .. } | Self::Setting { source, .. } => {
                Some(source)
            }
            Self::Malformed(_) | Self::NoDevice(_) => None,
        }
    }
}

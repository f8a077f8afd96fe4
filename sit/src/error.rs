//! Why the node cannot run. Each is one line that says what to do.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bus::Address;

/// Why the node cannot start or go on.
#[derive(Debug)]
pub enum Error {
    /// Another node has one of our directories.
    AlreadyRunning {
        /// The directory.
        directory: PathBuf,
        /// The option that names another.
        option: &'static str,
        /// The process of the other node, if it is known.
        pid: Option<u32>,
    },
    /// The configuration file cannot be read.
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A directory of the node cannot be used.
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Neither privilege nor a user namespace.
    NoPrivilege {
        /// What the system said, and what would help.
        cause: String,
    },
    /// No workers, or more than descriptors of their rings fit into one control message.
    Workers {
        /// The number asked for.
        asked: u32,
        /// The largest possible.
        most: u32,
    },
    /// The kernel refused something that a node cannot do without.
    Kernel(netio::Error),
    /// A task ends whenever it is started.
    Task {
        /// The task.
        address: Address,
        /// How it ended.
        cause: String,
    },
    /// This program cannot take over the node that runs in its process, nor let the one before go on.
    TakeOver(String),
    /// The bus cannot be opened.
    Bus(bus::BusError),
    /// The runtime cannot be started.
    Runtime(io::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyRunning {
                directory,
                option,
                pid,
            } => {
                write!(f, "a node is already running in {}", directory.display())?;
                if let Some(pid) = pid {
                    write!(f, " (process {pid})")?;
                }
                write!(f, "; stop it, or choose another directory with {option}")
            }
            Self::Configuration { path, source } => {
                write!(
                    f,
                    "cannot read the configuration file {}: {source}",
                    path.display()
                )
            }
            Self::Directory { path, source } => {
                write!(f, "cannot use the directory {}: {source}", path.display())
            }
            Self::NoPrivilege { cause } => write!(f, "no privilege to open sockets and devices: {cause}"),
            Self::Workers { asked, most } => {
                write!(f, "{asked} workers are not possible, 1 to {most} are")
            }
            Self::Kernel(error) => error.fmt(f),
            Self::Task { address, cause } => {
                write!(f, "{address} cannot start ({cause}): the log says why")
            }
            Self::TakeOver(why) => write!(f, "cannot take over the node: {why}"),
            Self::Bus(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "cannot start: {error}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Configuration { source, .. } | Self::Directory { source, .. } => Some(source),
            Self::Kernel(error) => Some(error),
            Self::Bus(error) => Some(error),
            Self::Runtime(error) => Some(error),
            Self::AlreadyRunning { .. }
            | Self::TakeOver(_)
            | Self::NoPrivilege { .. }
            | Self::Workers { .. }
            | Self::Task { .. } => None,
        }
    }
}

impl From<netio::Error> for Error {
    fn from(error: netio::Error) -> Self {
        Self::Kernel(error)
    }
}

//! What can go wrong between a task and `sit`, and at the start of a task.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a task cannot start, or why `sit` did not do what it was asked.
#[derive(Debug)]
pub enum Error {
    /// The control socket is missing or broken.
    Control(netio::Error),
    /// The control socket failed.
    Socket(io::Error),
    /// `sit` closed the control socket: the node is gone.
    Closed,
    /// `sit` did not answer in time.
    Timeout {
        /// Name of the request.
        request: &'static str,
    },
    /// `sit` could not open something, or refused.
    Failed {
        /// Name of the request.
        request: &'static str,
        /// Its explanation.
        cause: String,
    },
    /// `sit` broke the protocol.
    Protocol {
        /// Name of the request, or of what was expected.
        expected: &'static str,
        /// What came instead.
        found: String,
    },
    /// The bus could not be opened.
    Bus(bus::BusError),
    /// The counter page could not be opened.
    Counters {
        /// Directory of the pages.
        directory: PathBuf,
        /// Why.
        source: telemetry::Error,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Control(error) => error.fmt(f),
            Self::Socket(error) => write!(f, "the control socket failed: {error}"),
            Self::Closed => f.write_str("sit has closed the control socket"),
            Self::Timeout { request } => write!(f, "sit did not answer {request} in time"),
            Self::Failed { request, cause } => write!(f, "sit failed at {request}: {cause}"),
            Self::Protocol { expected, found } => write!(f, "expected {expected} from sit, got {found}"),
            Self::Bus(error) => error.fmt(f),
            Self::Counters { directory, source } => {
                write!(
                    f,
                    "cannot open the counter page in {}: {source}",
                    directory.display()
                )
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Control(error) => Some(error),
            Self::Socket(error) => Some(error),
            Self::Bus(error) => Some(error),
            Self::Counters { source, .. } => Some(source),
            _ => None,
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Socket(error)
    }
}

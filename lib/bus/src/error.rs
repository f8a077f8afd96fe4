//! What can go wrong on the bus and on links.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::facility::Address;

/// Why a request has no reply, or why the bus could not be opened.
#[derive(Debug)]
pub enum BusError {
    /// The request was sent and no reply came in time. It may have been carried out.
    Timeout {
        /// Who was asked.
        to: Address,
        /// Name of the request.
        request: &'static str,
        /// How long the caller was ready to wait.
        after: Duration,
    },
    /// There was no connection before the deadline, or it broke while the request was out.
    Unreachable {
        /// Who was asked.
        to: Address,
        /// Name of the request.
        request: &'static str,
        /// The request had left when the connection broke: it may have been carried out.
        sent: bool,
        /// The last failure to connect, in words.
        cause: String,
    },
    /// The peer answered that it will not do it.
    Refused {
        /// Who refused.
        to: Address,
        /// Name of the request.
        request: &'static str,
        /// The kind of refusal.
        code: RefusalCode,
        /// The peer's explanation.
        text: String,
    },
    /// The peer's reply cannot be read.
    Malformed {
        /// Who sent it.
        from: Address,
        /// Name of the request.
        request: &'static str,
        /// What is wrong with it.
        cause: String,
    },
    /// The message is larger than may travel.
    TooLarge {
        /// Name of the message.
        message: &'static str,
        /// Its size in octets.
        size: usize,
        /// The limit in octets.
        limit: usize,
    },
    /// Another live process serves this address.
    AddressInUse {
        /// The address.
        address: Address,
        /// Its socket.
        path: PathBuf,
    },
    /// The bus directory is missing, or others may enter it.
    Directory {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The operating system refused something.
    Io {
        /// What was being done.
        action: &'static str,
        /// The file concerned.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
}

/// The kinds of refusal a peer can answer. Numbers are wire values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RefusalCode {
    /// It does not know this type of request.
    Unsupported = 1,
    /// It could not decode the request.
    Malformed = 2,
    /// Its queue is full.
    Busy = 3,
    /// It speaks another major version of the bus.
    Version = 4,
    /// It took the request and dropped it without an answer (it is stopping, or it has a fault).
    Dropped = 5,
    /// It cannot do this now or at all; the text says why.
    Failed = 6,
}

impl RefusalCode {
    /// The code with this number; numbers of later versions count as [`RefusalCode::Failed`].
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Unsupported,
            2 => Self::Malformed,
            3 => Self::Busy,
            4 => Self::Version,
            5 => Self::Dropped,
            _ => Self::Failed,
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unsupported => "not supported",
            Self::Malformed => "malformed request",
            Self::Busy => "busy",
            Self::Version => "other version",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        })
    }
}

impl fmt::Display for BusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Timeout { to, request, after } => {
                write!(f, "{to} did not answer {request} within {} ms", after.as_millis())
            }
            Self::Unreachable {
                to,
                request,
                sent,
                cause,
            } => {
                let when = if *sent {
                    "lost its connection during"
                } else {
                    "cannot be reached for"
                };
                write!(f, "{to} {when} {request}: {cause}")
            }
            Self::Refused {
                to,
                request,
                code,
                text,
            } => write!(f, "{to} refused {request}: {code}: {text}"),
            Self::Malformed { from, request, cause } => {
                write!(f, "the reply of {from} to {request} cannot be read: {cause}")
            }
            Self::TooLarge { message, size, limit } => {
                write!(
                    f,
                    "{message} of {size} octets is larger than the limit of {limit}"
                )
            }
            Self::AddressInUse { address, path } => {
                write!(f, "another process serves {address} at {}", path.display())
            }
            Self::Directory { path, cause } => write!(f, "bus directory {}: {cause}", path.display()),
            Self::Io { action, path, source } => write!(f, "cannot {action} {}: {source}", path.display()),
        }
    }
}

impl std::error::Error for BusError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

//! What can go wrong in this task.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why the task cannot run, or why one of its certificates or keys cannot be used.
#[derive(Debug)]
pub enum Error {
    /// The threads for signatures cannot be started.
    Threads(io::Error),
    /// The task's own set-up failed.
    Task(task::Error),
    /// The bus was closed.
    BusClosed,
    /// A file cannot be read.
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A URL that names no local file.
    Url(String),
    /// The contents of a file are not what they should be.
    Contents {
        /// The file, or "configuration".
        origin: String,
        /// What is wrong.
        source: pki::Error,
    },
    /// No private key is configured for a certificate.
    NoPrivateKey,
    /// The private key in the configuration could not be decrypted.
    Secret(String),
    /// A name that is not configured.
    Unknown {
        /// `certificate` or `ca-certificate`.
        kind: &'static str,
        /// The name.
        name: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Threads(source) => write!(f, "cannot start threads for signatures: {source}"),
            Error::Task(source) => write!(f, "{source}"),
            Error::BusClosed => f.write_str("the bus was closed"),
            Error::File { path, source } => write!(f, "cannot read {}: {source}", path.display()),
            Error::Url(url) => {
                write!(
                    f,
                    "{url} is not a local file: file:/PATH or /flash/PATH is expected"
                )
            }
            Error::Contents { origin, source } => write!(f, "{origin}: {source}"),
            Error::NoPrivateKey => {
                f.write_str("no private key is configured for it: add `private-key pem url file:/PATH`")
            }
            Error::Secret(reason) => write!(f, "its private key cannot be decrypted: {reason}"),
            Error::Unknown { kind, name } => write!(f, "{kind} {name} is not configured"),
        }
    }
}

impl std::error::Error for Error {}

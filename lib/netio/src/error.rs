//! The one error type of this crate.

use std::io;

/// A kernel interface that failed, or was misused.
#[derive(Debug)]
pub enum Error {
    /// A system call failed.
    System {
        /// What was being done, and to what: "bind UDP 192.0.2.1:500".
        action: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The process lacks a right, or the kernel lacks a feature. The text says what to do about it.
    Unavailable {
        /// What cannot be had.
        what: String,
        /// What would make it available.
        remedy: &'static str,
    },
    /// Somebody else holds the lock.
    Locked {
        /// The lock file.
        path: std::path::PathBuf,
        /// The process that says it holds it, if the file tells.
        holder: Option<u32>,
    },
    /// A message on a control socket broke the rules (too long, too many descriptors).
    Message(&'static str),
    /// A value given is out of range.
    Invalid {
        /// The parameter.
        what: &'static str,
        /// What would be right.
        expected: &'static str,
    },
}

impl Error {
    pub(crate) fn system(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::System {
            action: action.into(),
            source: source.into(),
        }
    }

    /// The kernel's error code, when it was the kernel that refused.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::System { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System { action, source } => write!(f, "cannot {action}: {source}"),
            Self::Unavailable { what, remedy } => write!(f, "{what} is not available here: {remedy}"),
            Self::Locked {
                path,
                holder: Some(pid),
            } => {
                write!(
                    f,
                    "{} is locked by process {pid}: another node runs there",
                    path.display()
                )
            }
            Self::Locked { path, holder: None } => {
                write!(f, "{} is locked: another node runs there", path.display())
            }
            Self::Message(problem) => write!(f, "control message {problem}"),
            Self::Invalid { what, expected } => write!(f, "{what} must be {expected}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System { source, .. } => Some(source),
            _ => None,
        }
    }
}

//! What can go wrong in this task.

use std::fmt;

/// Why something could not be set up. Packets that go wrong are counted, not reported.
#[derive(Debug)]
pub enum Error {
    /// The kernel.
    Net(netio::Error),
    /// The segments of a slot, or a ring.
    Memory(sadb::Error),
    /// The data plane's thread could not be started.
    Thread(std::io::Error),
    /// A request to another task.
    Task(task::Error),
    /// `sit` made the TUN of this context and gave no queue of it.
    NoQueue(String),
    /// The data plane's thread has ended.
    PlaneEnded,
    /// The data plane's thread no longer comes round.
    PlaneStuck,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net(error) => error.fmt(f),
            Self::Memory(error) => error.fmt(f),
            Self::Thread(error) => write!(f, "cannot start the thread of the data plane: {error}"),
            Self::Task(error) => error.fmt(f),
            Self::NoQueue(context) => write!(f, "no TUN queue for context {context}"),
            Self::PlaneEnded => f.write_str("the thread of the data plane has ended"),
            Self::PlaneStuck => f.write_str("the thread of the data plane is stuck"),
        }
    }
}

impl std::error::Error for Error {}

impl From<netio::Error> for Error {
    fn from(error: netio::Error) -> Self {
        Self::Net(error)
    }
}

impl From<sadb::Error> for Error {
    fn from(error: sadb::Error) -> Self {
        Self::Memory(error)
    }
}

impl From<task::Error> for Error {
    fn from(error: task::Error) -> Self {
        Self::Task(error)
    }
}

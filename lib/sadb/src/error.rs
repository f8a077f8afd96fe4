//! The one error type of this crate.

use crate::{Slot, Spi};

/// What can go wrong with shared memory. Every variant names what is needed to act on it.
#[derive(Debug)]
pub enum Error {
    /// A system call on a segment failed; `action` says which.
    System {
        /// What was being done, for the log line.
        action: &'static str,
        /// What the kernel answered.
        source: std::io::Error,
    },
    /// The segment was not made by this layout version of this kind.
    Layout {
        /// Which field of the header differs.
        field: &'static str,
        /// What the header says.
        found: u64,
        /// What this program expects.
        expected: u64,
    },
    /// Every record of the slot is in use.
    Full {
        /// The slot without a free record.
        slot: Slot,
        /// How many records it has.
        capacity: usize,
    },
    /// The SPI belongs to another slot.
    WrongSlot {
        /// The SPI given.
        spi: Spi,
        /// The slot of this mapping.
        slot: Slot,
    },
    /// No record carries this SPI (any more): never allocated, removed, or an older generation of its index.
    NoSuchSpi(Spi),
    /// The record kept changing while it was read, or its writer died in the middle of a write.
    Torn {
        /// The record's index in its slot.
        index: u16,
    },
    /// A record holds a value that this layout does not know.
    Corrupt {
        /// The field that cannot be decoded.
        field: &'static str,
    },
    /// A value given does not fit the record.
    Invalid {
        /// The field.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
}

impl Error {
    pub(crate) fn system(action: &'static str, source: impl Into<std::io::Error>) -> Self {
        Self::System {
            action,
            source: source.into(),
        }
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::System { action, source } => write!(f, "cannot {action}: {source}"),
            Self::Layout {
                field,
                found,
                expected,
            } => {
                write!(f, "shared segment has {field} {found:#x}, expected {expected:#x}")
            }
            Self::Full { slot, capacity } => {
                write!(f, "slot {slot} has no free record (all {capacity} in use)")
            }
            Self::WrongSlot { spi, slot } => write!(f, "SPI {spi} does not belong to slot {slot}"),
            Self::NoSuchSpi(spi) => write!(f, "no child SA has the SPI {spi}"),
            Self::Torn { index } => write!(f, "record {index} is being written"),
            Self::Corrupt { field } => write!(f, "record holds an unknown {field}"),
            Self::Invalid { field, expected } => write!(f, "{field} must be {expected}"),
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

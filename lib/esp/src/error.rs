//! What can go wrong: in setting an SA up ([`Error`]) and with single packets ([`Cause`]).

use std::fmt;

use sadb::{Algorithms, ReplayVerdict};

/// Why no SA can be built from a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// The combination of algorithms is none that ESP can use.
    Algorithms(Algorithms),
    /// Key, salt or integrity key has the wrong length.
    KeyLength {
        /// Which of them.
        what: &'static str,
        /// Bytes it must have.
        expected: usize,
        /// Bytes it has.
        found: usize,
    },
    /// Transport mode, which this data plane does not do.
    TransportMode,
    /// The cryptographic library refused.
    Crypto(crypto::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Algorithms(a) => write!(
                f,
                "encryption {} with {} key bits, integrity {}, ICV of {} bytes: no supported combination for ESP",
                a.encryption, a.key_bits, a.integrity, a.icv_bytes
            ),
            Self::KeyLength {
                what,
                expected,
                found,
            } => {
                write!(f, "{what} has {found} bytes instead of {expected}")
            }
            Self::TransportMode => f.write_str("transport mode is not supported, only tunnel mode"),
            Self::Crypto(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {}

impl From<crypto::Error> for Error {
    fn from(error: crypto::Error) -> Self {
        Self::Crypto(error)
    }
}

/// Why a packet is not passed on. Counted, never answered (RFC 4303 3.4), except [`Cause::TooBig`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Too short for ESP, or not whole cipher blocks.
    Truncated,
    /// The sequence number was seen before, is left of the window, or the SA is gone.
    Replay(ReplayVerdict),
    /// The integrity check failed.
    Integrity,
    /// Authentic, but the padding is not what RFC 4303 2.4 prescribes.
    Padding,
    /// Authentic, but what is inside is not what the next-header field says: no IP packet, or one that is cut.
    NotIp,
    /// A dummy packet (RFC 4303 2.6), to be discarded without further ado.
    Dummy,
    /// The outer header says that congestion was met, and the inner transport cannot be told (RFC 6040 4.2).
    Ecn,
    /// The inner packet does not match the SA's selectors.
    Selector,
    /// Longer than the tunnel takes, and not to be fragmented.
    TooBig {
        /// The longest inner packet that fits, in bytes.
        mtu: u16,
    },
    /// The buffer has no room for the result.
    NoRoom,
    /// The cryptographic library refused.
    Crypto,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("too short for ESP"),
            Self::Replay(verdict) => write!(f, "sequence number refused: {verdict:?}"),
            Self::Integrity => f.write_str("integrity check failed"),
            Self::Padding => f.write_str("bad padding"),
            Self::NotIp => f.write_str("no IP packet inside"),
            Self::Dummy => f.write_str("dummy packet"),
            Self::Ecn => f.write_str("congestion experienced, inner packet not ECN-capable"),
            Self::Selector => f.write_str("inner packet does not match the selectors"),
            Self::TooBig { mtu } => write!(f, "longer than {mtu} bytes and not to be fragmented"),
            Self::NoRoom => f.write_str("buffer too small"),
            Self::Crypto => f.write_str("cryptographic library refused"),
        }
    }
}

impl std::error::Error for Cause {}

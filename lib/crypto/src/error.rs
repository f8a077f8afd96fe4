//! What can go wrong in this crate.

use std::fmt;

/// Why a cryptographic operation failed. No variant carries key material.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// An input has the wrong length. `what` names it ("key", "nonce", "ICV", "Diffie-Hellman value").
    Length {
        /// The input.
        what: &'static str,
        /// Bytes it should have had.
        expected: usize,
        /// Bytes it had.
        actual: usize,
    },
    /// The data is not a whole number of cipher blocks.
    NotBlockMultiple {
        /// Block size in bytes.
        block: usize,
        /// Bytes that were given.
        actual: usize,
    },
    /// The integrity check failed: the data was damaged or forged, or the key is wrong.
    Integrity,
    /// The algorithm cannot be used for this operation, e.g. an AEAD key for AES-CBC.
    Unsuitable(&'static str),
    /// The peer's public value is not a valid element of the group (RFC 6989).
    PeerValue {
        /// IANA number of the group.
        group: u16,
    },
    /// More output was asked of `prf+` than its one-byte counter allows (RFC 7296, 2.13).
    TooMuchKeyMaterial {
        /// Most bytes that can be made.
        limit: usize,
    },
    /// A sealed secret does not have the form `+B1...`.
    SealedForm,
    /// A sealed secret was made with another master key.
    OtherMasterKey,
    /// A sealed secret was made with this master key, and changed afterwards.
    SealedDamaged,
    /// The cryptographic library refused for a reason of its own, e.g. no memory.
    Library(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Length {
                what,
                expected,
                actual,
            } => {
                write!(f, "{what} has {actual} bytes instead of {expected}")
            }
            Error::NotBlockMultiple { block, actual } => {
                write!(
                    f,
                    "{actual} bytes are not a multiple of the {block}-byte cipher block"
                )
            }
            Error::Integrity => f.write_str("integrity check failed"),
            Error::Unsuitable(what) => write!(f, "algorithm is unsuitable: {what}"),
            Error::PeerValue { group } => {
                write!(
                    f,
                    "the peer's public value is not valid in Diffie-Hellman group {group}"
                )
            }
            Error::TooMuchKeyMaterial { limit } => {
                write!(f, "prf+ cannot make more than {limit} bytes with this PRF")
            }
            Error::SealedForm => f.write_str("an encrypted secret must be +B1 followed by its encoded bytes"),
            Error::OtherMasterKey => f.write_str(
                "the secret was encrypted with another node's master key; enter it in the clear again",
            ),
            Error::SealedDamaged => {
                f.write_str("the encrypted secret is damaged; enter it in the clear again")
            }
            Error::Library(operation) => write!(f, "cryptographic library failed in {operation}"),
        }
    }
}

impl std::error::Error for Error {}

/// Checks a length, for the many places that must.
pub(crate) fn check_len(what: &'static str, actual: usize, expected: usize) -> Result<(), Error> {
    if actual == expected {
        Ok(())
    } else {
        Err(Error::Length {
            what,
            expected,
            actual,
        })
    }
}

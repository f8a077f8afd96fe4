//! Secrets at rest.

use std::fmt;

use crypto::MasterKey;

/// A secret of the configuration in sealed form: what stands after `encrypted key`. Only `sct` can open it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a sealed text as it stands in a configuration.
    pub fn from_sealed(sealed: impl Into<String>) -> Self {
        Self(sealed.into())
    }

    /// The sealed text.
    pub fn sealed(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({})", self.0)
    }
}

/// Seals the plain secrets of a configuration.
pub trait Sealer {
    /// The sealed form of a secret, printable and without blanks or quotes.
    ///
    /// # Errors
    /// Fails when there is no master key here or no randomness.
    fn seal(&self, plain: &[u8]) -> Result<String, SealError>;
}

impl Sealer for MasterKey {
    fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        Self::seal(self, plain).map_err(|error| SealError(error.to_string()))
    }
}

/// Why a secret could not be sealed, as a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealError(pub String);

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SealError {}

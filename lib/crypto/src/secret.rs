//! Bytes that must not leak.

use std::fmt;

use aws_lc_rs::constant_time;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Secret bytes: overwritten with zeros when dropped, never printed, compared in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes over `bytes`.
    pub fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// The bytes. Do not copy them into anything that outlives their use.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True if there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&[u8]> for Secret {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl AsRef<[u8]> for Secret {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// Compares without revealing, by the time taken, where two byte strings differ. Their lengths are not secret.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    constant_time::verify_slices_are_equal(a, b).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_only_the_length() {
        assert_eq!(
            format!("{:?}", Secret::from(b"hunter2".as_slice())),
            "Secret(7 bytes)"
        );
    }

    #[test]
    fn equality_is_by_content_and_length() {
        let secret = Secret::new(vec![1, 2, 3]);
        assert_eq!(secret, Secret::new(vec![1, 2, 3]));
        assert_ne!(secret, Secret::new(vec![1, 2, 4]));
        assert_ne!(secret, Secret::new(vec![1, 2]));
        assert!(constant_time_eq(&[], &[]));
    }
}

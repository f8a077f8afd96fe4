//! Key material that is never printed and does not outlive its use.

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::Error;

/// Up to `MAX` secret bytes, inline. Debug prints the length only; the bytes are zeroed on drop.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct SecretBytes<const MAX: usize> {
    length: u8,
    bytes: [u8; MAX],
}

impl<const MAX: usize> SecretBytes<MAX> {
    /// No secret at all (as the integrity key of an AEAD).
    pub const EMPTY: Self = Self {
        length: 0,
        bytes: [0; MAX],
    };

    /// Copies a secret; [`Error::Invalid`] naming `field` when it is longer than `MAX`.
    pub fn new(field: &'static str, secret: &[u8]) -> Result<Self, Error> {
        let mut bytes = [0; MAX];
        let too_long = Error::Invalid {
            field,
            expected: "a key that fits its record",
        };
        let Some(place) = bytes.get_mut(..secret.len()) else {
            return Err(too_long);
        };
        place.copy_from_slice(secret);
        let Ok(length) = u8::try_from(secret.len()) else {
            return Err(too_long);
        };
        Ok(Self { length, bytes })
    }

    /// The secret. Copies made of it are the caller's to zero.
    pub fn expose(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.length)).unwrap_or(&self.bytes)
    }

    /// Its length in bytes.
    pub fn len(&self) -> usize {
        usize::from(self.length)
    }

    /// Whether there is no secret.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }
}

impl<const MAX: usize> std::fmt::Debug for SecretBytes<MAX> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "<{} secret bytes>", self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_hides_the_bytes_and_length_is_checked() {
        let key = SecretBytes::<32>::new("key", &[0xab; 16]).unwrap();
        assert_eq!(format!("{key:?}"), "<16 secret bytes>");
        assert_eq!(key.expose(), &[0xab; 16]);
        assert!(SecretBytes::<4>::new("salt", &[0; 5]).is_err());
    }
}

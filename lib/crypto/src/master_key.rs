//! The key that protects the secrets of a saved configuration.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::error::check_len;
use crate::{AeadKey, Cipher, Error, Random, Secret, SystemRandom, constant_time_eq, hash};

/// Encrypts the secrets of the configuration (`encrypted key ...`). It is kept outside of the configuration.
///
/// A sealed secret is printable, without spaces: `+B1` and, in base64url, 4 bytes that recognise the master key, a
/// random nonce (12), the ciphertext and the tag (16) of AES-256-GCM.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct MasterKey([u8; Self::LEN]);

impl MasterKey {
    /// Length in bytes.
    pub const LEN: usize = 32;

    /// The longest secret that is sealed or opened, in bytes: a private key of any size in PEM.
    pub const MAX_SECRET_LEN: usize = 16_384;

    /// A new key.
    pub fn generate(random: &mut dyn Random) -> Self {
        Self(random.array())
    }

    /// The key with these bytes, e.g. read from the master key file.
    ///
    /// # Errors
    /// [`Error::Length`] if there are not [`MasterKey::LEN`] bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        check_len("master key", bytes.len(), Self::LEN)?;
        let mut key = [0; Self::LEN];
        key.copy_from_slice(bytes);
        Ok(Self(key))
    }

    /// The bytes of the key, to be written to the master key file and nowhere else.
    pub fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }

    /// Encrypts `plaintext`. Sealing the same secret twice gives different results.
    ///
    /// # Errors
    /// [`Error::Length`] if the plaintext has more than [`MasterKey::MAX_SECRET_LEN`] bytes.
    pub fn seal(&self, plaintext: &[u8]) -> Result<String, Error> {
        if plaintext.len() > Self::MAX_SECRET_LEN {
            return Err(Error::Length {
                what: "secret",
                expected: Self::MAX_SECRET_LEN,
                actual: plaintext.len(),
            });
        }
        let random: &mut dyn Random = &mut SystemRandom;
        let nonce = random.array::<NONCE_LEN>();
        let check = self.check_value();
        let mut body = plaintext.to_vec();
        let mut tag = [0; TAG_LEN];
        self.aead()?
            .seal_in_place(&nonce, PREFIX.as_bytes(), &mut body, &mut tag)?;
        let sealed = [check.as_slice(), &nonce, &body, &tag].concat();
        Ok(format!("{PREFIX}{}", encode(&sealed)))
    }

    /// Decrypts what [`MasterKey::seal`] made.
    ///
    /// # Errors
    /// [`Error::SealedForm`] if `sealed` was not made by `seal`, [`Error::OtherMasterKey`] if it was by another key,
    /// [`Error::SealedDamaged`] if it was changed afterwards.
    pub fn open(&self, sealed: &str) -> Result<Secret, Error> {
        let encoded = sealed.strip_prefix(PREFIX).ok_or(Error::SealedForm)?;
        if encoded.len() > MAX_ENCODED_LEN {
            return Err(Error::SealedForm);
        }
        let bytes = decode(encoded).ok_or(Error::SealedForm)?;
        let (check, rest) = bytes.split_first_chunk::<CHECK_LEN>().ok_or(Error::SealedForm)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(Error::SealedForm)?;
        let (body, tag) = rest.split_last_chunk::<TAG_LEN>().ok_or(Error::SealedForm)?;
        if !constant_time_eq(check, &self.check_value()) {
            return Err(Error::OtherMasterKey);
        }
        let mut body = body.to_vec();
        self.aead()?
            .open_in_place(nonce, PREFIX.as_bytes(), &mut body, tag)
            .map_err(|_| Error::SealedDamaged)?;
        Ok(Secret::new(body))
    }

    fn aead(&self) -> Result<AeadKey, Error> {
        AeadKey::new(Cipher::AesGcm256Icv16, &self.0)
    }

    /// Tells whether a secret was sealed by this key, without revealing anything about it.
    fn check_value(&self) -> [u8; CHECK_LEN] {
        let digest = hash::sha256(&[b"starward master key check", &self.0]);
        [digest[0], digest[1], digest[2], digest[3]]
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey")
    }
}

/// Base64url without padding (RFC 4648, 5).
fn encode(bytes: &[u8]) -> String {
    let standard = openssl::base64::encode_block(bytes);
    standard.trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn decode(text: &str) -> Option<Vec<u8>> {
    if !text
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    {
        return None;
    }
    let mut standard = text.replace('-', "+").replace('_', "/");
    while !standard.len().is_multiple_of(4) {
        standard.push('=');
    }
    openssl::base64::decode_block(&standard).ok()
}

/// Begins every sealed secret; the digit is the version of the form.
const PREFIX: &str = "+B1";
const CHECK_LEN: usize = 4;
const NONCE_LEN: usize = crate::NONCE_LEN;
const TAG_LEN: usize = crate::MAX_ICV_LEN;
const MAX_ENCODED_LEN: usize = (CHECK_LEN + NONCE_LEN + MasterKey::MAX_SECRET_LEN + TAG_LEN).div_ceil(3) * 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TestRandom;

    #[test]
    fn round_trip_of_every_length() {
        let key = MasterKey::generate(&mut TestRandom::new(1));
        for len in [0, 1, 2, 3, 31, 64, MasterKey::MAX_SECRET_LEN] {
            let secret = vec![0xa5; len];
            let sealed = key.seal(&secret).unwrap();
            assert!(sealed.starts_with("+B1"));
            assert!(
                sealed
                    .bytes()
                    .skip(1)
                    .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            );
            assert_eq!(key.open(&sealed).unwrap().as_bytes(), secret);
        }
        assert!(matches!(
            key.seal(&[0; MasterKey::MAX_SECRET_LEN + 1]),
            Err(Error::Length { .. })
        ));
    }

    #[test]
    fn sealing_twice_differs() {
        let key = MasterKey::generate(&mut TestRandom::new(1));
        assert_ne!(key.seal(b"secret").unwrap(), key.seal(b"secret").unwrap());
    }

    #[test]
    fn the_reason_of_a_failure_is_told() {
        let key = MasterKey::generate(&mut TestRandom::new(1));
        let sealed = key.seal(b"secret").unwrap();
        let other = MasterKey::generate(&mut TestRandom::new(2));
        assert_eq!(other.open(&sealed), Err(Error::OtherMasterKey));

        let damaged = |at: usize| {
            let mut bytes = sealed.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            String::from_utf8(bytes).unwrap()
        };
        assert_eq!(key.open(&damaged(4)), Err(Error::OtherMasterKey));
        assert_eq!(key.open(&damaged(15)), Err(Error::SealedDamaged));
        assert_eq!(key.open(&damaged(sealed.len() - 3)), Err(Error::SealedDamaged));

        for form in [
            "", "+B1", "+B2AAAA", "secret", "+B1AAAA", "+B1ä", "+B1AAA=", "+B1A A",
        ] {
            assert_eq!(key.open(form), Err(Error::SealedForm), "{form}");
        }
        assert_eq!(
            key.open(&format!("+B1{}", "A".repeat(100_000))),
            Err(Error::SealedForm)
        );
    }

    #[test]
    fn bytes_come_back() {
        let key = MasterKey::generate(&mut TestRandom::new(3));
        let again = MasterKey::from_bytes(key.as_bytes()).unwrap();
        assert_eq!(again.open(&key.seal(b"x").unwrap()).unwrap().as_bytes(), b"x");
        assert!(matches!(
            MasterKey::from_bytes(&[0; 31]),
            Err(Error::Length { .. })
        ));
        assert_eq!(format!("{key:?}"), "MasterKey");
    }
}

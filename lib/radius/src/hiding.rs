//! Values hidden with the shared secret: User-Password (RFC 2865 section 5.2) and salted values (RFC 2548 section 2.4.2,
//! the same algorithm as Tunnel-Password in RFC 2868 section 3.5).

use zeroize::Zeroizing;

use crate::digest::{DIGEST, md5};
use crate::error::EncodeError;
use crate::secret::Secret;

/// Longest User-Password.
pub const MAX_PASSWORD: usize = 128;

/// Hides a password: padded with zeroes to a multiple of 16, each block XORed with a digest chained over the ciphertext.
pub fn hide_password(
    password: &[u8],
    secret: &Secret,
    request_authenticator: &[u8; 16],
) -> Result<Vec<u8>, EncodeError> {
    if password.len() > MAX_PASSWORD {
        let attribute = crate::Attribute::UserPassword;
        return Err(EncodeError::ValueTooLong {
            attribute,
            length: password.len(),
        });
    }
    let mut padded = Zeroizing::new(password.to_vec());
    padded.resize(password.len().div_ceil(DIGEST).max(1) * DIGEST, 0);
    encrypt(&padded, secret, &[request_authenticator])
}

/// The opposite of [`hide_password`], for servers in tests. The zero padding is removed. None when the length is no multiple of 16.
pub fn reveal_password(
    hidden: &[u8],
    secret: &Secret,
    request_authenticator: &[u8; 16],
) -> Option<Zeroizing<Vec<u8>>> {
    let mut plain = decrypt(hidden, secret, &[request_authenticator])?;
    let end = plain
        .iter()
        .rposition(|&octet| octet != 0)
        .map_or(0, |last| last + 1);
    plain.truncate(end);
    Some(plain)
}

/// Hides a value under a salt; the answer starts with the salt. The salt's first bit is set as the RFC demands.
pub fn hide_salted(
    value: &[u8],
    salt: u16,
    secret: &Secret,
    request_authenticator: &[u8; 16],
) -> Result<Vec<u8>, EncodeError> {
    let attribute = crate::Attribute::MsMppeRecvKey;
    let too_long = EncodeError::ValueTooLong {
        attribute,
        length: value.len(),
    };
    let length = u8::try_from(value.len()).map_err(|_| too_long)?;
    let salt = (salt | 0x8000).to_be_bytes();
    let mut plain = Zeroizing::new(Vec::with_capacity(value.len() + DIGEST));
    plain.push(length);
    plain.extend_from_slice(value);
    plain.resize((1 + value.len()).div_ceil(DIGEST) * DIGEST, 0);
    let mut hidden = salt.to_vec();
    hidden.extend(encrypt(&plain, secret, &[request_authenticator, &salt])?);
    Ok(hidden)
}

/// Reveals a salted value. None when it is too short, no multiple of 16 after the salt, or its inner length does not fit.
pub fn reveal_salted(
    hidden: &[u8],
    secret: &Secret,
    request_authenticator: &[u8; 16],
) -> Option<Zeroizing<Vec<u8>>> {
    let (salt, ciphertext) = hidden.split_at_checked(2)?;
    let plain = decrypt(ciphertext, secret, &[request_authenticator, salt])?;
    let (&length, value) = plain.split_first()?;
    value
        .get(..usize::from(length))
        .map(|value| Zeroizing::new(value.to_vec()))
}

fn encrypt(plain: &[u8], secret: &Secret, seed: &[&[u8]]) -> Result<Vec<u8>, EncodeError> {
    let mut hidden = Vec::with_capacity(plain.len());
    let mut mask = first_mask(secret, seed)?;
    for block in plain.chunks(DIGEST) {
        let start = hidden.len();
        hidden.extend(block.iter().zip(mask.iter()).map(|(a, b)| a ^ b));
        mask = Zeroizing::new(md5(&[secret.expose(), &hidden[start..]])?);
    }
    Ok(hidden)
}

fn decrypt(hidden: &[u8], secret: &Secret, seed: &[&[u8]]) -> Option<Zeroizing<Vec<u8>>> {
    if hidden.is_empty() || !hidden.len().is_multiple_of(DIGEST) {
        return None;
    }
    let mut plain = Zeroizing::new(Vec::with_capacity(hidden.len()));
    let mut mask = first_mask(secret, seed).ok()?;
    for block in hidden.chunks(DIGEST) {
        plain.extend(block.iter().zip(mask.iter()).map(|(a, b)| a ^ b));
        mask = Zeroizing::new(md5(&[secret.expose(), block]).ok()?);
    }
    Some(plain)
}

fn first_mask(secret: &Secret, seed: &[&[u8]]) -> Result<Zeroizing<[u8; DIGEST]>, EncodeError> {
    let mut pieces = vec![secret.expose()];
    pieces.extend_from_slice(seed);
    md5(&pieces).map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 2865 section 7.1: user nemo with password arctangent and secret xyzzy5461.
    #[test]
    fn password_of_rfc2865_example() {
        let secret = Secret::new(b"xyzzy5461".to_vec());
        let authenticator = *b"\x0f\x40\x3f\x94\x73\x97\x80\x57\xbd\x83\xd5\xcb\x98\xf4\x22\x7a";
        let hidden = hide_password(b"arctangent", &secret, &authenticator).unwrap();
        assert_eq!(
            hidden,
            b"\x0d\xbe\x70\x8d\x93\xd4\x13\xce\x31\x96\xe4\x3f\x78\x2a\x0a\xee"
        );
        assert_eq!(
            **reveal_password(&hidden, &secret, &authenticator).unwrap(),
            *b"arctangent"
        );
    }

    #[test]
    fn wrong_lengths_reveal_nothing() {
        let secret = Secret::new(b"s".to_vec());
        for length in [0, 1, 2, 17, 19, 33] {
            assert!(
                reveal_salted(&vec![0; length], &secret, &[0; 16]).is_none(),
                "{length}"
            );
        }
        assert!(hide_password(&[b'x'; 129], &secret, &[0; 16]).is_err());
    }

    proptest! {
        #[test]
        fn salted_values_come_back(
            value in prop::collection::vec(any::<u8>(), 0..=235), salt: u16,
            secret in prop::collection::vec(any::<u8>(), 1..64), authenticator: [u8; 16],
        ) {
            let secret = Secret::new(secret);
            let hidden = hide_salted(&value, salt, &secret, &authenticator).unwrap();
            prop_assert!(crate::Kind::Salted.accepts(&hidden));
            prop_assert!(hidden[0] & 0x80 != 0);
            prop_assert_eq!(&**reveal_salted(&hidden, &secret, &authenticator).unwrap(), &value);
        }

        #[test]
        fn passwords_come_back(password in "[a-zA-Z0-9 ]{0,128}", authenticator: [u8; 16]) {
            let secret = Secret::new(b"testing123".to_vec());
            let hidden = hide_password(password.as_bytes(), &secret, &authenticator).unwrap();
            prop_assert!(crate::Kind::Password.accepts(&hidden));
            let plain = reveal_password(&hidden, &secret, &authenticator).unwrap();
            prop_assert_eq!(&**plain, password.as_bytes());
        }
    }
}

//! MD5 and HMAC-MD5 over pieces, as RADIUS uses them. RADIUS knows no other hash.

use openssl::hash::{Hasher, MessageDigest};
use openssl::memcmp;
use zeroize::Zeroize;

use crate::error::EncodeError;

/// Octets of an authenticator, of an MD5 digest and of an HMAC-MD5.
pub(crate) const DIGEST: usize = 16;

/// MD5 of the concatenated pieces.
pub(crate) fn md5(pieces: &[&[u8]]) -> Result<[u8; DIGEST], EncodeError> {
    let mut hasher = Hasher::new(MessageDigest::md5()).map_err(|_| EncodeError::Digest)?;
    for piece in pieces {
        hasher.update(piece).map_err(|_| EncodeError::Digest)?;
    }
    finish(&mut hasher)
}

/// HMAC-MD5 (RFC 2104) of the concatenated pieces.
pub(crate) fn hmac_md5(key: &[u8], pieces: &[&[u8]]) -> Result<[u8; DIGEST], EncodeError> {
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..DIGEST].copy_from_slice(&md5(&[key])?);
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let mut inner_key = block.map(|octet| octet ^ 0x36);
    let mut outer_key = block.map(|octet| octet ^ 0x5c);
    let mut hasher = Hasher::new(MessageDigest::md5()).map_err(|_| EncodeError::Digest)?;
    hasher.update(&inner_key).map_err(|_| EncodeError::Digest)?;
    for piece in pieces {
        hasher.update(piece).map_err(|_| EncodeError::Digest)?;
    }
    let inner = finish(&mut hasher)?;
    let outer = md5(&[&outer_key, &inner]);
    block.zeroize();
    inner_key.zeroize();
    outer_key.zeroize();
    outer
}

/// Compares in constant time; false when the lengths differ.
pub(crate) fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && memcmp::eq(a, b)
}

fn finish(hasher: &mut Hasher) -> Result<[u8; DIGEST], EncodeError> {
    let digest = hasher.finish().map_err(|_| EncodeError::Digest)?;
    digest.as_ref().try_into().map_err(|_| EncodeError::Digest)
}

/// Block length of MD5.
const BLOCK: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        (0..text.len())
            .step_by(2)
            .map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap())
            .collect()
    }

    #[test]
    fn rfc1321_and_rfc2202_vectors() {
        assert_eq!(
            md5(&[b"message ", b"digest"]).unwrap().to_vec(),
            hex("f96b697d7cb7938d525a2f31aaf161d0")
        );
        assert_eq!(
            hmac_md5(&[0x0b; 16], &[b"Hi ", b"There"]).unwrap().to_vec(),
            hex("9294727a3638bb1c13f48ef8158bfc9d")
        );
        assert_eq!(
            hmac_md5(b"Jefe", &[b"what do ya want for nothing?"])
                .unwrap()
                .to_vec(),
            hex("750c783e6ab0b503eaa86e310a5db738")
        );
        let long = hmac_md5(
            &[0xaa; 80],
            &[b"Test Using Larger Than Block-Size Key - Hash Key First"],
        )
        .unwrap();
        assert_eq!(long.to_vec(), hex("6b1ab7fe4bd7bf8f0b62e6ce61b9d0cd"));
    }

    #[test]
    fn comparison_needs_equal_length() {
        assert!(equal(b"abc", b"abc"));
        assert!(!equal(b"abc", b"abd"));
        assert!(!equal(b"abc", b"ab"));
    }
}

//! Integrity algorithms of IKEv2 and ESP: truncated HMACs.

use aws_lc_rs::hmac;

use crate::error::check_len;
use crate::{Error, constant_time_eq};

/// The longest ICV of any [`Integrity`] algorithm, for buffers.
pub const MAX_INTEGRITY_ICV_LEN: usize = 32;

/// An integrity algorithm (IKEv2 transform type 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Integrity {
    /// AUTH_HMAC_SHA1_96 (RFC 2404).
    HmacSha1_96,
    /// AUTH_HMAC_SHA2_256_128 (RFC 4868).
    HmacSha2_256_128,
    /// AUTH_HMAC_SHA2_384_192 (RFC 4868).
    HmacSha2_384_192,
    /// AUTH_HMAC_SHA2_512_256 (RFC 4868).
    HmacSha2_512_256,
}

impl Integrity {
    /// Every algorithm, by ascending transform identifier.
    pub const ALL: [Integrity; 4] = [
        Integrity::HmacSha1_96,
        Integrity::HmacSha2_256_128,
        Integrity::HmacSha2_384_192,
        Integrity::HmacSha2_512_256,
    ];

    /// The IKEv2 transform identifier.
    pub fn transform_id(self) -> u16 {
        match self {
            Integrity::HmacSha1_96 => 2,
            Integrity::HmacSha2_256_128 => 12,
            Integrity::HmacSha2_384_192 => 13,
            Integrity::HmacSha2_512_256 => 14,
        }
    }

    /// The algorithm with this transform identifier, if it is supported.
    pub fn from_transform_id(id: u16) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|algorithm| algorithm.transform_id() == id)
    }

    /// Key length in bytes. It is fixed (RFC 4868, 2.1.1).
    pub fn key_len(self) -> usize {
        self.algorithm().tag_len()
    }

    /// Length of the ICV on the wire, in bytes.
    pub fn icv_len(self) -> usize {
        match self {
            Integrity::HmacSha1_96 => 12,
            Integrity::HmacSha2_256_128 => 16,
            Integrity::HmacSha2_384_192 => 24,
            Integrity::HmacSha2_512_256 => MAX_INTEGRITY_ICV_LEN,
        }
    }

    /// Does the work that depends only on the key.
    ///
    /// # Errors
    /// [`Error::Length`] if the key does not have [`Integrity::key_len`] bytes.
    pub fn prepare(self, key: &[u8]) -> Result<IntegrityKey, Error> {
        check_len("integrity key", key.len(), self.key_len())?;
        Ok(IntegrityKey {
            integrity: self,
            key: hmac::Key::new(self.algorithm(), key),
        })
    }

    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Integrity::HmacSha1_96 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Integrity::HmacSha2_256_128 => hmac::HMAC_SHA256,
            Integrity::HmacSha2_384_192 => hmac::HMAC_SHA384,
            Integrity::HmacSha2_512_256 => hmac::HMAC_SHA512,
        }
    }
}

/// An integrity algorithm with its key prepared.
#[derive(Debug, Clone)]
pub struct IntegrityKey {
    integrity: Integrity,
    key: hmac::Key,
}

impl IntegrityKey {
    /// The algorithm this key is for.
    pub fn algorithm(&self) -> Integrity {
        self.integrity
    }

    /// Writes the ICV over `parts`, taken as one string, into `icv`.
    ///
    /// # Errors
    /// [`Error::Length`] if `icv` does not have [`Integrity::icv_len`] bytes.
    pub fn sign(&self, parts: &[&[u8]], icv: &mut [u8]) -> Result<(), Error> {
        check_len("ICV", icv.len(), self.integrity.icv_len())?;
        icv.copy_from_slice(&self.mac(parts).as_ref()[..self.integrity.icv_len()]);
        Ok(())
    }

    /// Checks the ICV over `parts` in constant time.
    ///
    /// # Errors
    /// [`Error::Length`] if `icv` does not have [`Integrity::icv_len`] bytes, [`Error::Integrity`] if it is wrong.
    pub fn verify(&self, parts: &[&[u8]], icv: &[u8]) -> Result<(), Error> {
        check_len("ICV", icv.len(), self.integrity.icv_len())?;
        if constant_time_eq(&self.mac(parts).as_ref()[..self.integrity.icv_len()], icv) {
            Ok(())
        } else {
            Err(Error::Integrity)
        }
    }

    fn mac(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        context.sign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn vectors() {
        // RFC 2404 with RFC 2202, 3 test case 1; RFC 4868, 2.7.2.
        let cases = [
            (Integrity::HmacSha1_96, "b617318655057264e28bc0b6"),
            (Integrity::HmacSha2_256_128, "198a607eb44bfbc69903a0f1cf2bbdc5"),
            (
                Integrity::HmacSha2_384_192,
                "b6a8d5636f5c6a7224f9977dcf7ee6c7fb6d0c48cbdee973",
            ),
            (
                Integrity::HmacSha2_512_256,
                "637edc6e01dce7e6742a99451aae82df23da3e92439e590e43e761b33e910fb8",
            ),
        ];
        for (integrity, expected) in cases {
            let key = integrity.prepare(&vec![0x0b; integrity.key_len()]).unwrap();
            let mut icv = vec![0; integrity.icv_len()];
            key.sign(&[b"Hi ", b"There"], &mut icv).unwrap();
            assert_eq!(icv, hex(expected), "{integrity:?}");
            assert_eq!(key.verify(&[b"Hi There"], &icv), Ok(()));
            assert_eq!(key.verify(&[b"Hi there"], &icv), Err(Error::Integrity));
        }
    }

    #[test]
    fn lengths_are_checked() {
        for integrity in Integrity::ALL {
            for wrong in [0, integrity.key_len() - 1, integrity.key_len() + 1] {
                assert!(matches!(
                    integrity.prepare(&vec![0; wrong]),
                    Err(Error::Length { .. })
                ));
            }
            let key = integrity.prepare(&vec![0; integrity.key_len()]).unwrap();
            let mut icv = vec![0; integrity.icv_len()];
            key.sign(&[b"data"], &mut icv).unwrap();
            // A shortened ICV is refused even if its bytes are right.
            assert!(matches!(
                key.verify(&[b"data"], &icv[..8]),
                Err(Error::Length { .. })
            ));
            assert!(matches!(
                key.sign(&[b"data"], &mut icv[..8]),
                Err(Error::Length { .. })
            ));
        }
    }

    #[test]
    fn transform_ids_are_those_of_iana() {
        assert_eq!(Integrity::ALL.map(Integrity::transform_id), [2, 12, 13, 14]);
        for integrity in Integrity::ALL {
            assert_eq!(
                Integrity::from_transform_id(integrity.transform_id()),
                Some(integrity)
            );
        }
        assert_eq!(Integrity::from_transform_id(0), None);
    }
}

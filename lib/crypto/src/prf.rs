//! Pseudorandom functions of IKEv2 and `prf+` (RFC 7296, 2.13).

use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use crate::{Error, Secret};

/// A pseudorandom function (IKEv2 transform type 2). All are HMACs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Prf {
    /// PRF_HMAC_SHA1 (RFC 2104).
    HmacSha1,
    /// PRF_HMAC_SHA2_256 (RFC 4868).
    HmacSha2_256,
    /// PRF_HMAC_SHA2_384 (RFC 4868).
    HmacSha2_384,
    /// PRF_HMAC_SHA2_512 (RFC 4868).
    HmacSha2_512,
}

impl Prf {
    /// Every PRF, by ascending transform identifier.
    pub const ALL: [Prf; 4] = [
        Prf::HmacSha1,
        Prf::HmacSha2_256,
        Prf::HmacSha2_384,
        Prf::HmacSha2_512,
    ];

    /// The IKEv2 transform identifier.
    pub fn transform_id(self) -> u16 {
        match self {
            Prf::HmacSha1 => 2,
            Prf::HmacSha2_256 => 5,
            Prf::HmacSha2_384 => 6,
            Prf::HmacSha2_512 => 7,
        }
    }

    /// The PRF with this transform identifier, if it is supported.
    pub fn from_transform_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|prf| prf.transform_id() == id)
    }

    /// Output length in bytes. It is also the preferred key length, i.e. that of SK_d, SK_pi and SK_pr.
    pub fn output_len(self) -> usize {
        self.algorithm().tag_len()
    }

    /// `prf(key, parts)`, the parts taken as one string. A key of any length will do.
    pub fn prf(self, key: &[u8], parts: &[&[u8]]) -> Secret {
        self.prepare(key).prf(parts)
    }

    /// `prf+(key, seed)`, the seed parts taken as one string: `len` bytes of key material.
    ///
    /// # Errors
    /// [`Error::TooMuchKeyMaterial`] if `len` is more than 255 outputs.
    pub fn prf_plus(self, key: &[u8], seed: &[&[u8]], len: usize) -> Result<Secret, Error> {
        self.prepare(key).prf_plus(seed, len)
    }

    /// Does the work that depends only on the key.
    pub fn prepare(self, key: &[u8]) -> PrfKey {
        PrfKey {
            prf: self,
            key: hmac::Key::new(self.algorithm(), key),
        }
    }

    fn algorithm(self) -> hmac::Algorithm {
        match self {
            Prf::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Prf::HmacSha2_256 => hmac::HMAC_SHA256,
            Prf::HmacSha2_384 => hmac::HMAC_SHA384,
            Prf::HmacSha2_512 => hmac::HMAC_SHA512,
        }
    }
}

/// A PRF with its key prepared.
#[derive(Debug, Clone)]
pub struct PrfKey {
    prf: Prf,
    key: hmac::Key,
}

impl PrfKey {
    /// The function this key is for.
    pub fn algorithm(&self) -> Prf {
        self.prf
    }

    /// See [`Prf::prf`].
    pub fn prf(&self, parts: &[&[u8]]) -> Secret {
        Secret::from(self.mac(parts).as_ref())
    }

    /// See [`Prf::prf_plus`].
    ///
    /// # Errors
    /// As there.
    pub fn prf_plus(&self, seed: &[&[u8]], len: usize) -> Result<Secret, Error> {
        let limit = self.prf.output_len() * usize::from(u8::MAX);
        if len > limit {
            return Err(Error::TooMuchKeyMaterial { limit });
        }
        let block_len = self.prf.output_len();
        // Room for the last block whole, so that the vector never moves and leaves a copy behind.
        let mut out = Vec::with_capacity(len.next_multiple_of(block_len));
        let mut previous = Zeroizing::new(Vec::with_capacity(block_len));
        for counter in 1..=u8::MAX {
            if out.len() >= len {
                break;
            }
            let mut context = hmac::Context::with_key(&self.key);
            context.update(&previous);
            for part in seed {
                context.update(part);
            }
            context.update(&[counter]);
            let block = context.sign();
            previous.clear();
            previous.extend_from_slice(block.as_ref());
            out.extend_from_slice(block.as_ref());
        }
        out.truncate(len);
        Ok(Secret::new(out))
    }

    fn mac(&self, parts: &[&[u8]]) -> hmac::Tag {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        context.sign()
    }
}

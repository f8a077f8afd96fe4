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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    #[test]
    fn hmac_vectors() {
        // RFC 2202, 3 and RFC 4231, 4.3: test case 2.
        let expected = [
            (Prf::HmacSha1, "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"),
            (
                Prf::HmacSha2_256,
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                Prf::HmacSha2_384,
                "af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649",
            ),
            (
                Prf::HmacSha2_512,
                "164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fd\
                 caeab1a34d4a6b4b636e070a38bce737",
            ),
        ];
        for (prf, mac) in expected {
            assert_eq!(
                prf.prf(b"Jefe", &[b"what do ya want ", b"for nothing?"])
                    .as_bytes(),
                hex(mac),
                "{prf:?}"
            );
            assert_eq!(prf.prf(b"Jefe", &[]).len(), prf.output_len());
        }
    }

    #[test]
    fn prf_plus_vectors() {
        // HKDF-Expand (RFC 5869, 2.3) is the same construction: its test cases 1 and 4.
        let seed = hex("f0f1f2f3f4f5f6f7f8f9");
        let (first, second) = seed.split_at(3);
        let cases = [
            (
                Prf::HmacSha2_256,
                "077709362c2e32df0ddc3f0dc47bba6390b6c73bb50f9c3122ec844ad7c2b3e5",
                "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
            ),
            (
                Prf::HmacSha1,
                "9b6c18c432a7bf8f0e71c8eb88f4b30baa2ba243",
                "085a01ea1b10f36933068b56efa5ad81a4f14b822f5b091568a9cdd4f155fda2c22e422478d305f3f896",
            ),
        ];
        for (prf, key, expected) in cases {
            let expected = hex(expected);
            let key = prf.prepare(&hex(key));
            assert_eq!(
                key.prf_plus(&[first, second], expected.len()).unwrap().as_bytes(),
                expected
            );
            assert_eq!(key.prf_plus(&[&seed], 5).unwrap().as_bytes(), &expected[..5]);
        }
    }

    #[test]
    fn prf_plus_has_a_limit() {
        for prf in Prf::ALL {
            let limit = prf.output_len() * 255;
            assert_eq!(prf.prf_plus(b"key", &[b"seed"], limit).unwrap().len(), limit);
            assert_eq!(
                prf.prf_plus(b"key", &[b"seed"], limit + 1),
                Err(Error::TooMuchKeyMaterial { limit }),
                "{prf:?}"
            );
        }
        assert!(Prf::HmacSha1.prf_plus(b"key", &[b"seed"], 0).unwrap().is_empty());
    }

    #[test]
    fn transform_ids_are_those_of_iana() {
        assert_eq!(Prf::ALL.map(Prf::transform_id), [2, 5, 6, 7]);
        for prf in Prf::ALL {
            assert_eq!(Prf::from_transform_id(prf.transform_id()), Some(prf));
        }
        assert_eq!(Prf::from_transform_id(4), None);
    }
}

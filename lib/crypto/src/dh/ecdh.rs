//! Elliptic curve groups, by aws-lc.

use aws_lc_rs::agreement::{self, Algorithm, UnparsedPublicKey};
use aws_lc_rs::encoding::{AsBigEndian, Curve25519SeedBin, EcPrivateKeyBin};
use zeroize::Zeroizing;

use crate::error::check_len;
use crate::{DhGroup, Error, Random, Secret};

/// First byte of an uncompressed point in SEC 1 form, which IKE leaves out.
const UNCOMPRESSED: u8 = 0x04;

/// The longest private key: 66 bytes for P-521.
const MAX_PRIVATE_LEN: usize = 66;

/// The longest public value with its SEC 1 prefix.
const MAX_POINT_LEN: usize = 1 + 132;

/// How often a random number is drawn before giving up on it being below the order of the curve. The chance that one
/// P-256 draw fails is 2^-32; with P-521, whose draws are cut to 521 bits, it is smaller.
const MAX_DRAWS: usize = 64;

pub(super) struct PrivateKey {
    group: DhGroup,
    key: agreement::PrivateKey,
}

impl PrivateKey {
    pub(super) fn generate(group: DhGroup, random: &mut dyn Random) -> Result<Self, Error> {
        let (algorithm, len) = algorithm(group)?;
        let mut bytes = Zeroizing::new([0; MAX_PRIVATE_LEN]);
        let bytes = &mut bytes[..len];
        for _ in 0..MAX_DRAWS {
            random.fill(bytes);
            if group == DhGroup::Ecp521 {
                bytes[0] &= 0x01;
            }
            // Fails if the number is zero or not below the order of the curve.
            if let Ok(key) = agreement::PrivateKey::from_private_key(algorithm, bytes) {
                return Ok(Self { group, key });
            }
        }
        Err(Error::Library("elliptic curve key generation"))
    }

    pub(super) fn import(group: DhGroup, private: &[u8]) -> Result<Self, Error> {
        let (algorithm, len) = algorithm(group)?;
        check_len("Diffie-Hellman private key", private.len(), len)?;
        let key = agreement::PrivateKey::from_private_key(algorithm, private)
            .map_err(|_| Error::Library("elliptic curve key import"))?;
        Ok(Self { group, key })
    }

    pub(super) fn private(&self) -> Result<Secret, Error> {
        let failed = |_| Error::Library("elliptic curve key export");
        if self.group == DhGroup::Curve25519 {
            let bytes: Curve25519SeedBin<'_> = self.key.as_be_bytes().map_err(failed)?;
            return Ok(Secret::from(bytes.as_ref()));
        }
        let bytes: EcPrivateKeyBin<'_> = self.key.as_be_bytes().map_err(failed)?;
        Ok(Secret::from(bytes.as_ref()))
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, Error> {
        let public = self
            .key
            .compute_public_key()
            .map_err(|_| Error::Library("elliptic curve public key"))?;
        let bytes = public.as_ref();
        Ok(match self.group {
            DhGroup::Curve25519 => bytes.to_vec(),
            _ => bytes.strip_prefix(&[UNCOMPRESSED]).unwrap_or(bytes).to_vec(),
        })
    }

    /// `peer` has the group's length. aws-lc checks that a point is on the curve, and refuses the all-zero result
    /// of X25519 (RFC 8031, 5).
    pub(super) fn agree(self, peer: &[u8]) -> Result<Secret, Error> {
        let (algorithm, _) = algorithm(self.group)?;
        let mut point = [0; MAX_POINT_LEN];
        let point = if self.group == DhGroup::Curve25519 {
            peer
        } else {
            point[0] = UNCOMPRESSED;
            point[1..=peer.len()].copy_from_slice(peer);
            &point[..=peer.len()]
        };
        agreement::agree(
            &self.key,
            UnparsedPublicKey::new(algorithm, point),
            Error::PeerValue {
                group: self.group.transform_id(),
            },
            |secret| Ok(Secret::from(secret)),
        )
    }
}

fn algorithm(group: DhGroup) -> Result<(&'static Algorithm, usize), Error> {
    match group {
        DhGroup::Ecp256 => Ok((&agreement::ECDH_P256, 32)),
        DhGroup::Ecp384 => Ok((&agreement::ECDH_P384, 48)),
        DhGroup::Ecp521 => Ok((&agreement::ECDH_P521, 66)),
        DhGroup::Curve25519 => Ok((&agreement::X25519, 32)),
        _ => Err(Error::Unsuitable("not an elliptic curve group")),
    }
}

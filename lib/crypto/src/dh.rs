//! Diffie-Hellman groups of IKEv2 (transform type 4).

mod ecdh;
mod modp;

use std::fmt;

use crate::error::check_len;
use crate::{Error, Random, Secret};

/// A Diffie-Hellman group, by its IANA number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum DhGroup {
    /// 1024-bit MODP (RFC 2409, 6.2).
    Modp1024 = 2,
    /// 1536-bit MODP (RFC 3526, 2).
    Modp1536 = 5,
    /// 2048-bit MODP (RFC 3526, 3).
    Modp2048 = 14,
    /// 3072-bit MODP (RFC 3526, 4).
    Modp3072 = 15,
    /// 4096-bit MODP (RFC 3526, 5).
    Modp4096 = 16,
    /// 256-bit random ECP, NIST P-256 (RFC 5903).
    Ecp256 = 19,
    /// 384-bit random ECP, NIST P-384 (RFC 5903).
    Ecp384 = 20,
    /// 521-bit random ECP, NIST P-521 (RFC 5903).
    Ecp521 = 21,
    /// Curve25519 (RFC 8031).
    Curve25519 = 31,
}

impl DhGroup {
    /// Every group, by ascending number.
    pub const ALL: [DhGroup; 9] = [
        DhGroup::Modp1024,
        DhGroup::Modp1536,
        DhGroup::Modp2048,
        DhGroup::Modp3072,
        DhGroup::Modp4096,
        DhGroup::Ecp256,
        DhGroup::Ecp384,
        DhGroup::Ecp521,
        DhGroup::Curve25519,
    ];

    /// The IANA number of the group, which is its IKEv2 transform identifier.
    pub fn transform_id(self) -> u16 {
        self as u16
    }

    /// The group with this number, if it is supported.
    pub fn from_transform_id(id: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|group| group.transform_id() == id)
    }

    /// Length of a public value in a Key Exchange payload, in bytes.
    pub fn public_len(self) -> usize {
        match self {
            DhGroup::Modp1024 => 128,
            DhGroup::Modp1536 => 192,
            DhGroup::Modp2048 => 256,
            DhGroup::Modp3072 => 384,
            DhGroup::Modp4096 => 512,
            DhGroup::Ecp256 => 64,
            DhGroup::Ecp384 => 96,
            DhGroup::Ecp521 => 132,
            DhGroup::Curve25519 => 32,
        }
    }

    /// Length of the shared secret, in bytes. For ECP groups it is the x coordinate (RFC 5903, 9).
    pub fn secret_len(self) -> usize {
        match self {
            DhGroup::Ecp256 | DhGroup::Ecp384 | DhGroup::Ecp521 => self.public_len() / 2,
            _ => self.public_len(),
        }
    }

    /// Makes a fresh key pair, whose private key is taken from `random`.
    ///
    /// # Errors
    /// [`Error::Library`] if the library fails, e.g. for want of memory.
    pub fn generate(self, random: &mut dyn Random) -> Result<DhKeyPair, Error> {
        let private = match modp::Parameters::of(self) {
            Some(parameters) => Private::Modp(modp::PrivateKey::generate(self, parameters, random)?),
            None => Private::Ecdh(ecdh::PrivateKey::generate(self, random)?),
        };
        let public = match &private {
            Private::Modp(key) => key.public()?,
            Private::Ecdh(key) => key.public()?,
        };
        Ok(DhKeyPair {
            group: self,
            private,
            public,
        })
    }
}

/// A private key and its public value, for one exchange: [`DhKeyPair::agree`] consumes it, so a key is never reused.
pub struct DhKeyPair {
    group: DhGroup,
    private: Private,
    public: Vec<u8>,
}

enum Private {
    Modp(modp::PrivateKey),
    Ecdh(ecdh::PrivateKey),
}

impl DhKeyPair {
    /// The group of this key.
    pub fn group(&self) -> DhGroup {
        self.group
    }

    /// The public value as it stands in a Key Exchange payload (RFC 7296, 3.4; RFC 5903, 7; RFC 8031, 3).
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// Computes the shared secret with the peer's public value, after checking that value (RFC 6989).
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::PeerValue`] if the peer's value is not valid in this group.
    pub fn agree(self, peer: &[u8]) -> Result<Secret, Error> {
        check_len("Diffie-Hellman public value", peer.len(), self.group.public_len())?;
        match self.private {
            Private::Modp(key) => key.agree(peer),
            Private::Ecdh(key) => key.agree(peer),
        }
    }
}

impl fmt::Debug for DhKeyPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DhKeyPair({:?})", self.group)
    }
}

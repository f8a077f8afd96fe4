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
        DhKeyPair::new(
            self,
            match modp::Parameters::of(self) {
                Some(parameters) => Private::Modp(modp::PrivateKey::generate(self, parameters, random)?),
                None => Private::Ecdh(ecdh::PrivateKey::generate(self, random)?),
            },
        )
    }

    /// The key pair whose private key [`DhKeyPair::private`] gave.
    ///
    /// # Errors
    /// [`Error::Length`] or [`Error::Library`] if it is no private key of this group.
    pub fn import(self, private: &[u8]) -> Result<DhKeyPair, Error> {
        DhKeyPair::new(
            self,
            match modp::Parameters::of(self) {
                Some(parameters) => Private::Modp(modp::PrivateKey::import(self, parameters, private)?),
                None => Private::Ecdh(ecdh::PrivateKey::import(self, private)?),
            },
        )
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
    fn new(group: DhGroup, private: Private) -> Result<Self, Error> {
        let public = match &private {
            Private::Modp(key) => key.public()?,
            Private::Ecdh(key) => key.public()?,
        };
        Ok(Self {
            group,
            private,
            public,
        })
    }

    /// The private key as octets, for another life of this process to go on with this exchange: [`DhGroup::import`] takes them.
    ///
    /// # Errors
    /// [`Error::Library`] if the library fails, e.g. for want of memory.
    pub fn private(&self) -> Result<Secret, Error> {
        match &self.private {
            Private::Modp(key) => Ok(key.private()),
            Private::Ecdh(key) => key.private(),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SystemRandom, TestRandom, hash, hex};

    /// Gives out the bytes of a test vector as the private key.
    struct Given(Vec<u8>);

    impl Random for Given {
        fn fill(&mut self, out: &mut [u8]) {
            out.copy_from_slice(&self.0);
        }
    }

    #[test]
    fn both_sides_agree_and_the_public_values_are_well_formed() {
        for group in DhGroup::ALL {
            let a = group.generate(&mut SystemRandom).unwrap();
            let b = group.generate(&mut SystemRandom).unwrap();
            assert_eq!(a.public().len(), group.public_len(), "{group:?}");
            assert_ne!(a.public(), b.public(), "{group:?}");
            let (from_a, from_b) = (a.public().to_vec(), b.public().to_vec());
            let secret = a.agree(&from_b).unwrap();
            assert_eq!(secret.len(), group.secret_len(), "{group:?}");
            assert_eq!(secret, b.agree(&from_a).unwrap(), "{group:?}");
        }
    }

    #[test]
    fn keys_are_determined_by_the_random_source() {
        for group in DhGroup::ALL {
            let public = |seed| {
                group
                    .generate(&mut TestRandom::new(seed))
                    .unwrap()
                    .public()
                    .to_vec()
            };
            assert_eq!(public(5), public(5), "{group:?}");
            assert_ne!(public(5), public(6), "{group:?}");
        }
    }

    #[test]
    fn an_imported_key_is_the_exported_one() {
        for group in DhGroup::ALL {
            let key = group.generate(&mut SystemRandom).unwrap();
            let peer = group.generate(&mut SystemRandom).unwrap();
            let private = key.private().unwrap();
            let imported = group.import(private.as_bytes()).unwrap();
            assert_eq!(imported.public(), key.public(), "{group:?}");
            assert_eq!(imported.private().unwrap(), private, "{group:?}");
            let secret = imported.agree(peer.public()).unwrap();
            assert_eq!(secret, key.agree(peer.public()).unwrap(), "{group:?}");
            for wrong in [0, private.len() - 1, private.len() + 1] {
                assert!(group.import(&vec![1; wrong]).is_err(), "{group:?} {wrong}");
            }
        }
    }

    #[test]
    fn curve25519_vector() {
        // RFC 7748, 6.1.
        let alice = "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a";
        let alice_public = "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
        let bob_public = "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f";
        let shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";
        let key = DhGroup::Curve25519.generate(&mut Given(hex(alice))).unwrap();
        assert_eq!(key.public(), hex(alice_public));
        assert_eq!(key.agree(&hex(bob_public)).unwrap().as_bytes(), hex(shared));
    }

    #[test]
    fn ecp256_vector() {
        // RFC 5903, 8.1.
        let i = "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433";
        let gi = "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180
                  5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3";
        let gr = "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63
                  56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab";
        let gir = "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de";
        let key = DhGroup::Ecp256.generate(&mut Given(hex(i))).unwrap();
        assert_eq!(key.public(), hex(gi));
        assert_eq!(key.agree(&hex(gr)).unwrap().as_bytes(), hex(gir));
    }

    #[test]
    fn modp_vectors() {
        // Computed with Python's integers, with primes from the formulas of RFC 2409 and RFC 3526 and the exponents
        // 80 81 82 ... and ff fe fd ...: SHA2-256 of the public value and of the shared secret.
        let cases = [
            (
                DhGroup::Modp1024,
                24,
                "3ecb4e279cd389a20973d0ed9697fe683712e0e2776026749d934e6ff55b169b",
                "8fdb38cbccf6b4003bdf5de1bf857efdc3b345d58ce5c3de500a454ecad1a44a",
            ),
            (
                DhGroup::Modp1536,
                28,
                "dc418b2d74eff03af2b46bb8d7d5853042e3f3dcce249f4526aeb665b6f3b009",
                "b54093c214edb8a38668b7480ed3c77529630dc14232cbdd163c000d456d9664",
            ),
            (
                DhGroup::Modp2048,
                32,
                "8492c0e8cc346437666258b41706e081881b75d3bf3e1aeef83d04bbdb887f88",
                "a9c2893b46dd37081b2b5a085a7bc4ec17505770cf6652fef6f62327257cc133",
            ),
            (
                DhGroup::Modp3072,
                36,
                "a1d8aef1cf2fe4f634c9c778522971ace3223fda17ac5f5d2dcbd177ba0bdaa8",
                "db6c0b83bd5a5e5dcb686b88962d3df73f94eb0009b69af466e19e5a1ff7e586",
            ),
            (
                DhGroup::Modp4096,
                42,
                "6517552966847e0c0f167bad810ee12d84f1301a27c0ebe73642da7b7a75ab52",
                "7d11df719960402fb5afbfc4961661de0c6d7a079a5700d271d4d312d7e720c6",
            ),
        ];
        for (group, len, public, secret) in cases {
            let a = group
                .generate(&mut Given((0..len).map(|i| 0x80 | i).collect()))
                .unwrap();
            let b = group
                .generate(&mut Given((0..len).map(|i| 0xff - i).collect()))
                .unwrap();
            assert_eq!(hash::sha256(&[a.public()]).to_vec(), hex(public), "{group:?}");
            let agreed = a.agree(b.public()).unwrap();
            assert_eq!(
                hash::sha256(&[agreed.as_bytes()]).to_vec(),
                hex(secret),
                "{group:?}"
            );
        }
    }

    #[test]
    fn invalid_peer_values_are_refused() {
        let agree = |group: DhGroup, peer: &[u8]| group.generate(&mut SystemRandom).unwrap().agree(peer);
        for group in DhGroup::ALL {
            for wrong in [0, 1, group.public_len() - 1, group.public_len() + 1] {
                assert!(
                    matches!(agree(group, &vec![2; wrong]), Err(Error::Length { .. })),
                    "{group:?}"
                );
            }
            let refused = Err(Error::PeerValue {
                group: group.transform_id(),
            });
            let zero = vec![0; group.public_len()];
            assert_eq!(agree(group, &zero), refused, "{group:?}");
            if let Some(parameters) = modp::Parameters::of(group) {
                let mut one = zero.clone();
                *one.last_mut().unwrap() = 1;
                assert_eq!(agree(group, &one), refused, "{group:?}");
                assert_eq!(
                    agree(group, &vec![0xff; group.public_len()]),
                    refused,
                    "{group:?}"
                );
                let prime = parameters.prime_bytes();
                assert_eq!(agree(group, &prime), refused, "{group:?}");
                let mut minus_one = prime;
                *minus_one.last_mut().unwrap() -= 1;
                assert_eq!(agree(group, &minus_one), refused, "{group:?}");
            } else if group != DhGroup::Curve25519 {
                // A valid point with one bit of y changed is off the curve.
                let mut off = group.generate(&mut SystemRandom).unwrap().public().to_vec();
                *off.last_mut().unwrap() ^= 1;
                assert_eq!(agree(group, &off), refused, "{group:?}");
            }
        }
    }

    #[test]
    fn curve_keys_out_of_range_are_drawn_again() {
        /// All ones first (above the order of every curve), then a usable number.
        struct Draws(u8);
        impl Random for Draws {
            fn fill(&mut self, out: &mut [u8]) {
                self.0 += 1;
                out.fill(if self.0 == 1 { 0xff } else { 0x01 });
            }
        }
        for group in [DhGroup::Ecp256, DhGroup::Ecp384, DhGroup::Ecp521] {
            let mut draws = Draws(0);
            group.generate(&mut draws).unwrap();
            assert_eq!(draws.0, 2, "{group:?}");
            let mut zeros = Given(vec![0; group.secret_len()]);
            assert!(
                matches!(group.generate(&mut zeros), Err(Error::Library(_))),
                "{group:?}"
            );
        }
    }

    #[test]
    fn numbers_are_those_of_iana() {
        assert_eq!(
            DhGroup::ALL.map(DhGroup::transform_id),
            [2, 5, 14, 15, 16, 19, 20, 21, 31]
        );
        assert_eq!(DhGroup::from_transform_id(19), Some(DhGroup::Ecp256));
        assert_eq!(DhGroup::from_transform_id(1), None);
    }
}

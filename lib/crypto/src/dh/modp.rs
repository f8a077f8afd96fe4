//! Modular exponential groups, by OpenSSL's constant-time exponentiation.

use openssl::bn::{BigNum, BigNumContext};
use openssl::error::ErrorStack;
use zeroize::Zeroizing;

use crate::error::check_len;
use crate::{DhGroup, Error, Random, Secret};

/// The generator of all these groups.
const GENERATOR: u32 = 2;

/// What is fixed for a group.
pub(super) struct Parameters {
    prime: fn() -> Result<BigNum, ErrorStack>,
    /// Length of the private exponent. It is at least twice the strength of the group (RFC 3526, 8), which is as
    /// hard to break as a full-length one since the primes are safe primes, and several times faster.
    exponent_len: usize,
}

impl Parameters {
    pub(super) fn of(group: DhGroup) -> Option<Self> {
        let (prime, exponent_len): (fn() -> Result<BigNum, ErrorStack>, usize) = match group {
            DhGroup::Modp1024 => (BigNum::get_rfc2409_prime_1024, 24),
            DhGroup::Modp1536 => (BigNum::get_rfc3526_prime_1536, 28),
            DhGroup::Modp2048 => (BigNum::get_rfc3526_prime_2048, 32),
            DhGroup::Modp3072 => (BigNum::get_rfc3526_prime_3072, 36),
            DhGroup::Modp4096 => (BigNum::get_rfc3526_prime_4096, 42),
            _ => return None,
        };
        Some(Self { prime, exponent_len })
    }

    #[cfg(test)]
    pub(super) fn prime_bytes(&self) -> Vec<u8> {
        (self.prime)().unwrap().to_vec()
    }
}

pub(super) struct PrivateKey {
    group: DhGroup,
    prime: BigNum,
    exponent: BigNum,
}

impl PrivateKey {
    pub(super) fn generate(
        group: DhGroup,
        parameters: Parameters,
        random: &mut dyn Random,
    ) -> Result<Self, Error> {
        let mut bytes = Zeroizing::new(vec![0; parameters.exponent_len]);
        random.fill(&mut bytes);
        // The top bit is set so that all exponents have the same length, and none is 0 or 1.
        bytes[0] |= 0x80;
        Self::import(group, parameters, &bytes)
    }

    pub(super) fn import(group: DhGroup, parameters: Parameters, private: &[u8]) -> Result<Self, Error> {
        check_len(
            "Diffie-Hellman private key",
            private.len(),
            parameters.exponent_len,
        )?;
        let new = || -> Result<Self, ErrorStack> {
            let mut exponent = BigNum::from_slice(private)?;
            exponent.set_const_time();
            Ok(Self {
                group,
                prime: (parameters.prime)()?,
                exponent,
            })
        };
        new().map_err(|_| Error::Library("MODP private key"))
    }

    /// Of fixed length, as its top bit is set.
    pub(super) fn private(&self) -> Secret {
        Secret::new(self.exponent.to_vec())
    }

    pub(super) fn public(&self) -> Result<Vec<u8>, Error> {
        BigNum::from_u32(GENERATOR)
            .and_then(|generator| self.power(&generator))
            .map_err(|_| Error::Library("MODP public value"))
    }

    /// `peer` has the group's length.
    pub(super) fn agree(self, peer: &[u8]) -> Result<Secret, Error> {
        let library = |_| Error::Library("MODP agreement");
        let peer = BigNum::from_slice(peer).map_err(library)?;
        let one = BigNum::from_u32(1).map_err(library)?;
        let mut last = self.prime.to_owned().map_err(library)?;
        last.sub_word(1).map_err(library)?;
        // RFC 6989, 2.1: for safe primes 1 < y < p-1 is all there is to check.
        if peer <= one || peer >= last {
            return Err(Error::PeerValue {
                group: self.group.transform_id(),
            });
        }
        self.power(&peer).map(Secret::new).map_err(library)
    }

    /// `base` to the private exponent, left-padded with zeros to the length of the prime (RFC 7296, 2.14).
    fn power(&self, base: &BigNum) -> Result<Vec<u8>, ErrorStack> {
        let mut context = BigNumContext::new()?;
        let mut result = BigNum::new()?;
        result.mod_exp(base, &self.exponent, &self.prime, &mut context)?;
        let bytes = result.to_vec_padded(self.prime.num_bytes());
        result.clear();
        bytes
    }
}

impl Drop for PrivateKey {
    fn drop(&mut self) {
        self.exponent.clear();
    }
}

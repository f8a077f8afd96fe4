//! Cryptographic primitives for IKEv2, ESP and the configuration: one small vocabulary over aws-lc, with OpenSSL
//! for what aws-lc lacks (MODP groups, AES-GCM with 8- and 12-byte ICVs, MD5) and RustCrypto's AES for CBC of several
//! messages at once.
//!
//! Nothing here opens a socket or reads a clock. Randomness comes in through [`Random`], so that a protocol
//! machine driven by a [`TestRandom`] always makes the same bytes. Algorithms carry their IKEv2 transform identifiers
//! (IANA "IKEv2 Parameters"); which of them may be negotiated is the caller's policy.
//!
//! A *prepared key* (`PrfKey`, `IntegrityKey`, `AeadKey`, `CbcKey`) has the key schedule done once; using it does
//! not allocate.

mod aead;
mod cbc;
mod cipher;
mod dh;
mod error;
pub mod hash;
mod integrity;
mod lanes;
mod master_key;
mod prf;
mod random;
mod secret;

pub use aead::{AeadKey, MAX_ICV_LEN, NONCE_LEN};
pub use cbc::{CBC_BLOCK_LEN, CBC_LANES, CbcKey};
pub use cipher::Cipher;
pub use dh::{DhGroup, DhKeyPair};
pub use error::Error;
pub use integrity::{Integrity, IntegrityKey, MAX_INTEGRITY_ICV_LEN};
pub use master_key::MasterKey;
pub use prf::{Prf, PrfKey};
pub use random::{Random, SystemRandom, TestRandom};
pub use secret::{Secret, constant_time_eq};

/// Bytes of a hexadecimal test vector; spaces are for the reader.
#[cfg(test)]
pub(crate) fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

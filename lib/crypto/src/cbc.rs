//! AES-CBC with prepared keys, without padding: the protocols bring their own.

use std::fmt;

use aws_lc_rs::cipher::{
    AES_128, AES_256, DecryptingKey, DecryptionContext, EncryptingKey, EncryptionContext, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;

use crate::error::check_len;
use crate::{Cipher, Error};

/// AES block size in bytes.
pub const CBC_BLOCK_LEN: usize = 16;

/// AES-CBC with its key prepared, for either direction.
pub struct CbcKey {
    cipher: Cipher,
    encrypting: EncryptingKey,
    decrypting: DecryptingKey,
}

impl CbcKey {
    /// Prepares `key`.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] if `cipher` is not AES-CBC, [`Error::Length`] if the key has the wrong length.
    pub fn new(cipher: Cipher, key: &[u8]) -> Result<Self, Error> {
        let algorithm = match cipher {
            Cipher::AesCbc128 => &AES_128,
            Cipher::AesCbc256 => &AES_256,
            _ => return Err(Error::Unsuitable("not AES-CBC")),
        };
        check_len("AES-CBC key", key.len(), cipher.key_len())?;
        let unbound = || UnboundCipherKey::new(algorithm, key);
        let library = |_| Error::Library("AES-CBC key set-up");
        Ok(Self {
            cipher,
            encrypting: unbound().and_then(EncryptingKey::cbc).map_err(library)?,
            decrypting: unbound().and_then(DecryptingKey::cbc).map_err(library)?,
        })
    }

    /// The algorithm this key is for.
    pub fn algorithm(&self) -> Cipher {
        self.cipher
    }

    /// Encrypts `in_out` in place. The IV must be unpredictable (RFC 3602, 2.1).
    ///
    /// # Errors
    /// [`Error::NotBlockMultiple`] if `in_out` is not whole blocks.
    pub fn encrypt(&self, iv: &[u8; CBC_BLOCK_LEN], in_out: &mut [u8]) -> Result<(), Error> {
        check_blocks(in_out)?;
        self.encrypting
            .less_safe_encrypt(in_out, EncryptionContext::Iv128(FixedLength::from(iv)))
            .map_err(|_| Error::Library("AES-CBC encrypt"))?;
        Ok(())
    }

    /// Decrypts `in_out` in place. Check its integrity first.
    ///
    /// # Errors
    /// [`Error::NotBlockMultiple`] if `in_out` is not whole blocks.
    pub fn decrypt(&self, iv: &[u8; CBC_BLOCK_LEN], in_out: &mut [u8]) -> Result<(), Error> {
        check_blocks(in_out)?;
        self.decrypting
            .decrypt(in_out, DecryptionContext::Iv128(FixedLength::from(iv)))
            .map_err(|_| Error::Library("AES-CBC decrypt"))?;
        Ok(())
    }
}

impl fmt::Debug for CbcKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CbcKey({:?})", self.cipher)
    }
}

fn check_blocks(data: &[u8]) -> Result<(), Error> {
    if data.len().is_multiple_of(CBC_BLOCK_LEN) {
        Ok(())
    } else {
        Err(Error::NotBlockMultiple {
            block: CBC_BLOCK_LEN,
            actual: data.len(),
        })
    }
}

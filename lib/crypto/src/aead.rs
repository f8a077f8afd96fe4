//! AES-GCM with prepared keys.

use std::fmt;

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use openssl::cipher::Cipher as OpensslCipher;
use openssl::cipher_ctx::CipherCtx;

use crate::error::check_len;
use crate::{Cipher, Error};

/// Bytes of an AES-GCM nonce: salt (4) and IV (8).
pub const NONCE_LEN: usize = 12;

/// The longest ICV of an AEAD, for buffers.
pub const MAX_ICV_LEN: usize = 16;

/// An AEAD algorithm with its key prepared. One key may seal and open; each nonce must be used for one seal only.
pub struct AeadKey {
    cipher: Cipher,
    backend: Backend,
}

enum Backend {
    /// ICV of 16 bytes: aws-lc.
    Full(Box<LessSafeKey>),
    /// ICV of 8 or 12 bytes: OpenSSL, as aws-lc opens only full tags.
    Short(CipherCtx),
}

impl AeadKey {
    /// Prepares `key`, which is without the salt.
    ///
    /// # Errors
    /// [`Error::Unsuitable`] if `cipher` is no AEAD, [`Error::Length`] if the key has the wrong length.
    pub fn new(cipher: Cipher, key: &[u8]) -> Result<Self, Error> {
        if !cipher.is_aead() {
            return Err(Error::Unsuitable("not an AEAD"));
        }
        check_len("AES-GCM key", key.len(), cipher.key_len())?;
        let backend = if cipher.icv_len() == MAX_ICV_LEN {
            let algorithm = if key.len() == 16 {
                &AES_128_GCM
            } else {
                &AES_256_GCM
            };
            let key = UnboundKey::new(algorithm, key).map_err(|_| Error::Library("AES-GCM key set-up"))?;
            Backend::Full(Box::new(LessSafeKey::new(key)))
        } else {
            Backend::Short(short_context(key).map_err(|_| Error::Library("AES-GCM key set-up"))?)
        };
        Ok(Self { cipher, backend })
    }

    /// The algorithm this key is for.
    pub fn algorithm(&self) -> Cipher {
        self.cipher
    }

    /// Encrypts `in_out` in place and writes the ICV over it and `aad` into `icv`.
    ///
    /// # Errors
    /// [`Error::Length`] if `icv` does not have [`Cipher::icv_len`] bytes.
    pub fn seal_in_place(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        icv: &mut [u8],
    ) -> Result<(), Error> {
        check_len("ICV", icv.len(), self.cipher.icv_len())?;
        match &mut self.backend {
            Backend::Full(key) => {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), in_out)
                    .map_err(|_| Error::Library("AES-GCM seal"))?;
                icv.copy_from_slice(tag.as_ref());
                Ok(())
            }
            Backend::Short(context) => {
                short_seal(context, nonce, aad, in_out, icv).map_err(|_| Error::Library("AES-GCM seal"))
            }
        }
    }

    /// Checks `icv` over `in_out` and `aad` and decrypts `in_out` in place. On failure the content of `in_out` is
    /// unspecified and must not be used.
    ///
    /// # Errors
    /// [`Error::Length`] if `icv` does not have [`Cipher::icv_len`] bytes, [`Error::Integrity`] if it is wrong.
    pub fn open_in_place(
        &mut self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        icv: &[u8],
    ) -> Result<(), Error> {
        check_len("ICV", icv.len(), self.cipher.icv_len())?;
        match &mut self.backend {
            Backend::Full(key) => {
                let nonce = Nonce::assume_unique_for_key(*nonce);
                key.open_in_place_separate_tag(nonce, Aad::from(aad), icv, in_out)
                    .map_err(|_| Error::Integrity)?;
                Ok(())
            }
            Backend::Short(context) => {
                short_open(context, nonce, aad, in_out, icv).map_err(|_| Error::Integrity)
            }
        }
    }
}

impl fmt::Debug for AeadKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AeadKey({:?})", self.cipher)
    }
}

fn short_context(key: &[u8]) -> Result<CipherCtx, openssl::error::ErrorStack> {
    let cipher = if key.len() == 16 {
        OpensslCipher::aes_128_gcm()
    } else {
        OpensslCipher::aes_256_gcm()
    };
    let mut context = CipherCtx::new()?;
    context.encrypt_init(Some(cipher), Some(key), None)?;
    Ok(context)
}

fn short_seal(
    context: &mut CipherCtx,
    nonce: &[u8],
    aad: &[u8],
    in_out: &mut [u8],
    icv: &mut [u8],
) -> Result<(), openssl::error::ErrorStack> {
    context.encrypt_init(None, None, Some(nonce))?;
    context.cipher_update(aad, None)?;
    context.cipher_update_inplace(in_out, in_out.len())?;
    context.cipher_final(&mut [])?;
    context.tag(icv)
}

fn short_open(
    context: &mut CipherCtx,
    nonce: &[u8],
    aad: &[u8],
    in_out: &mut [u8],
    icv: &[u8],
) -> Result<(), openssl::error::ErrorStack> {
    context.decrypt_init(None, None, Some(nonce))?;
    context.set_tag(icv)?;
    context.cipher_update(aad, None)?;
    context.cipher_update_inplace(in_out, in_out.len())?;
    context.cipher_final(&mut [])?;
    Ok(())
}

//! AES-GCM with prepared keys.

use std::fmt;

use openssl::cipher::Cipher as OpensslCipher;
use openssl::cipher_ctx::CipherCtx;

use crate::error::check_len;
use crate::{Cipher, Error};
use context::Context;

mod context;

/// Bytes of an AES-GCM nonce: salt (4) and IV (8).
pub const NONCE_LEN: usize = 12;

/// The longest ICV of an AEAD, for buffers.
pub const MAX_ICV_LEN: usize = 16;

/// An AEAD algorithm with its key prepared. One key may seal and open; each nonce must be used for one seal only. With an ICV of 16 bytes all of it lies here, so that
/// it can be fetched into the cache ahead of its use.
pub struct AeadKey {
    cipher: Cipher,
    backend: Backend,
}

#[expect(clippy::large_enum_variant, reason = "the state lies in the key")]
enum Backend {
    /// ICV of 16 bytes: aws-lc.
    Full(Context),
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
            Backend::Full(Context::new(key)?)
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
            Backend::Full(context) => {
                let icv = icv.first_chunk_mut().ok_or(Error::Library("AES-GCM seal"))?;
                context.seal(nonce, aad, in_out, icv)
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
            Backend::Full(context) => {
                let icv = icv.first_chunk().ok_or(Error::Integrity)?;
                context.open(nonce, aad, in_out, icv)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hex;

    const PLAIN: &str = "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72
                         1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39";
    const AAD: &str = "feedfacedeadbeeffeedfacedeadbeefabaddad2";
    const NONCE: &str = "cafebabefacedbaddecaf888";

    /// Test cases 4 and 16 of the GCM specification; a shorter ICV is the beginning of the full one.
    fn vector(key_len: usize) -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        if key_len == 16 {
            (
                hex("feffe9928665731c6d6a8f9467308308"),
                hex("42831ec2217774244b7221b784d0d49ce3aa212f2c02a4e035c17e2329aca12e
                     21d514b25466931c7d8f6a5aac84aa051ba30b396a0aac973d58e091"),
                hex("5bc94fbc3221a5db94fae95ae7121a47"),
            )
        } else {
            (
                hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
                hex("522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa
                     8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"),
                hex("76fc6ece0f4e1768cddf8853bb2d551b"),
            )
        }
    }

    #[test]
    fn gcm_vectors_with_every_icv_length() {
        let nonce: [u8; NONCE_LEN] = hex(NONCE).try_into().unwrap();
        for cipher in Cipher::ALL.into_iter().filter(|c| c.is_aead()) {
            let (key, ciphertext, tag) = vector(cipher.key_len());
            let mut key = AeadKey::new(cipher, &key).unwrap();
            let mut data = hex(PLAIN);
            let mut icv = vec![0; cipher.icv_len()];
            key.seal_in_place(&nonce, &hex(AAD), &mut data, &mut icv).unwrap();
            assert_eq!(data, ciphertext, "{cipher:?}");
            assert_eq!(icv, tag[..cipher.icv_len()], "{cipher:?}");
            key.open_in_place(&nonce, &hex(AAD), &mut data, &icv).unwrap();
            assert_eq!(data, hex(PLAIN), "{cipher:?}");
        }
    }

    #[test]
    fn nothing_to_encrypt() {
        for cipher in Cipher::ALL.into_iter().filter(|c| c.is_aead()) {
            let mut key = AeadKey::new(cipher, &vec![7; cipher.key_len()]).unwrap();
            let mut icv = vec![0; cipher.icv_len()];
            key.seal_in_place(&[1; NONCE_LEN], b"", &mut [], &mut icv)
                .unwrap();
            assert_eq!(
                key.open_in_place(&[1; NONCE_LEN], b"", &mut [], &icv),
                Ok(()),
                "{cipher:?}"
            );
            assert_eq!(
                key.open_in_place(&[1; NONCE_LEN], b"x", &mut [], &icv),
                Err(Error::Integrity),
                "{cipher:?}"
            );
        }
    }

    #[test]
    fn a_key_still_works_after_a_forgery() {
        for cipher in Cipher::ALL.into_iter().filter(|c| c.is_aead()) {
            let mut key = AeadKey::new(cipher, &vec![7; cipher.key_len()]).unwrap();
            let mut sealed = *b"a packet";
            let mut icv = vec![0; cipher.icv_len()];
            key.seal_in_place(&[1; NONCE_LEN], b"", &mut sealed, &mut icv)
                .unwrap();
            let mut forged = sealed;
            forged[0] ^= 1;
            assert_eq!(
                key.open_in_place(&[1; NONCE_LEN], b"", &mut forged, &icv),
                Err(Error::Integrity)
            );
            key.open_in_place(&[1; NONCE_LEN], b"", &mut sealed, &icv)
                .unwrap();
            assert_eq!(&sealed, b"a packet", "{cipher:?}");
        }
    }

    #[test]
    fn wrong_lengths_and_algorithms_are_refused() {
        for cipher in Cipher::ALL {
            if !cipher.is_aead() {
                assert!(matches!(
                    AeadKey::new(cipher, &[0; 16]),
                    Err(Error::Unsuitable(_))
                ));
                continue;
            }
            let with_salt = vec![0; cipher.keymat_len()];
            assert!(matches!(
                AeadKey::new(cipher, &with_salt),
                Err(Error::Length { .. })
            ));
            let mut key = AeadKey::new(cipher, &with_salt[..cipher.key_len()]).unwrap();
            for wrong in [0, 4, cipher.icv_len() - 1, cipher.icv_len() + 1] {
                let result = key.open_in_place(&[0; NONCE_LEN], b"", &mut [0; 8], &vec![0; wrong]);
                assert!(matches!(result, Err(Error::Length { .. })), "{cipher:?} {wrong}");
                let result = key.seal_in_place(&[0; NONCE_LEN], b"", &mut [0; 8], &mut vec![0; wrong]);
                assert!(matches!(result, Err(Error::Length { .. })), "{cipher:?} {wrong}");
            }
        }
    }
}

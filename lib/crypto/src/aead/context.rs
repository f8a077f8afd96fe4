//! An AEAD context of aws-lc that lies in its key, not behind a pointer as in `aws-lc-rs`: a data plane with many keys meets each of them after others have
//! pushed it out of the cache, so it has to know where the bytes lie to ask for them in time.
#![allow(unsafe_code)]

use std::mem::MaybeUninit;
use std::ptr::{null, null_mut};

use aws_lc_sys::{
    EVP_AEAD_CTX, EVP_AEAD_CTX_cleanup, EVP_AEAD_CTX_init, EVP_AEAD_CTX_open_gather,
    EVP_AEAD_CTX_seal_scatter, EVP_aead_aes_128_gcm, EVP_aead_aes_256_gcm, OPENSSL_cleanse,
};

use super::{MAX_ICV_LEN, NONCE_LEN};
use crate::Error;

/// AES-GCM with an ICV of 16 bytes; zeroed on drop.
pub(super) struct Context(EVP_AEAD_CTX);

// SAFETY: plain bytes and pointers to constant tables of functions; nothing belongs to a thread. It is not changed once it is made.
unsafe impl Send for Context {}
// SAFETY: as above.
unsafe impl Sync for Context {}

impl Context {
    /// From a key of 16 or 32 bytes.
    pub(super) fn new(key: &[u8]) -> Result<Self, Error> {
        // SAFETY: both return a pointer to a constant, and take nothing.
        let algorithm = unsafe {
            match key.len() {
                16 => EVP_aead_aes_128_gcm(),
                _ => EVP_aead_aes_256_gcm(),
            }
        };
        let mut context = MaybeUninit::<EVP_AEAD_CTX>::zeroed();
        // SAFETY: the context is ours to write; `key` is read for its length, which the library compares with the algorithm's.
        let done = unsafe {
            EVP_AEAD_CTX_init(
                context.as_mut_ptr(),
                algorithm,
                key.as_ptr(),
                key.len(),
                MAX_ICV_LEN,
                null_mut(),
            )
        };
        // SAFETY: of integers, bytes and pointers, for which zero is valid; and the library has filled it in if it succeeded. It holds no pointer into itself: for
        // AES-GCM the library's own way to copy it is to copy the bytes, so it may be moved.
        let context = Self(unsafe { context.assume_init() });
        if done == 1 {
            Ok(context)
        } else {
            Err(Error::Library("AES-GCM key set-up"))
        }
    }

    /// Encrypts in place and writes the ICV.
    pub(super) fn seal(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        icv: &mut [u8; MAX_ICV_LEN],
    ) -> Result<(), Error> {
        let mut written = 0;
        // SAFETY: the context is whole; every pointer is to a live slice of the length given; output and input are the same, as the library allows; the ICV is another
        // slice, and no extra input is given.
        let done = unsafe {
            EVP_AEAD_CTX_seal_scatter(
                &raw const self.0,
                in_out.as_mut_ptr(),
                icv.as_mut_ptr(),
                &raw mut written,
                icv.len(),
                nonce.as_ptr(),
                nonce.len(),
                in_out.as_ptr(),
                in_out.len(),
                null(),
                0,
                aad.as_ptr(),
                aad.len(),
            )
        };
        if done == 1 && written == icv.len() {
            Ok(())
        } else {
            Err(Error::Library("AES-GCM seal"))
        }
    }

    /// Checks the ICV and decrypts in place.
    pub(super) fn open(
        &self,
        nonce: &[u8; NONCE_LEN],
        aad: &[u8],
        in_out: &mut [u8],
        icv: &[u8; MAX_ICV_LEN],
    ) -> Result<(), Error> {
        // SAFETY: as in `seal`; the ICV is only read.
        let done = unsafe {
            EVP_AEAD_CTX_open_gather(
                &raw const self.0,
                in_out.as_mut_ptr(),
                nonce.as_ptr(),
                nonce.len(),
                in_out.as_ptr(),
                in_out.len(),
                icv.as_ptr(),
                icv.len(),
                aad.as_ptr(),
                aad.len(),
            )
        };
        if done == 1 { Ok(()) } else { Err(Error::Integrity) }
    }
}

impl Drop for Context {
    fn drop(&mut self) {
        let context = &raw mut self.0;
        // SAFETY: ours, made by the library, and not used again; the cleaned bytes are exactly its own.
        unsafe {
            EVP_AEAD_CTX_cleanup(context);
            OPENSSL_cleanse(context.cast(), size_of::<EVP_AEAD_CTX>());
        }
    }
}

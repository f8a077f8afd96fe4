//! The prepared keys of one direction, and what they do to the bytes of one packet.

use crypto::{AeadKey, CBC_BLOCK_LEN, CbcKey, IntegrityKey, NONCE_LEN};
use sadb::SaKeys;

use crate::transform::{ESP_HEADER, Transform};
use crate::{Cause, Error};

/// Key schedules, done once.
#[expect(clippy::large_enum_variant, reason = "the state lies in the SA")]
pub(crate) enum Protection {
    /// RFC 4106. In place, so that it can be fetched into the cache ahead of its use.
    Aead { key: AeadKey, salt: [u8; 4] },
    /// RFC 3602 or RFC 2410, with RFC 4868 or RFC 2404. Large, and so slow that following a pointer does not show.
    Mac(Box<MacKeys>),
}

pub(crate) struct MacKeys {
    cipher: Option<CbcKey>,
    integrity: IntegrityKey,
}

/// A packet taken apart by position.
struct Parts<'p> {
    header: &'p mut [u8; ESP_HEADER],
    iv: &'p mut [u8],
    body: &'p mut [u8],
    icv: &'p mut [u8],
}

impl Protection {
    pub(crate) fn new(transform: Transform, keys: &SaKeys) -> Result<Self, Error> {
        let cipher = transform.cipher();
        let check = |what, secret: &[u8], expected: usize| {
            if secret.len() == expected {
                Ok(())
            } else {
                Err(Error::KeyLength {
                    what,
                    expected,
                    found: secret.len(),
                })
            }
        };
        check("the encryption key", keys.encryption.expose(), cipher.key_len())?;
        check("the salt", keys.salt.expose(), cipher.salt_len())?;
        let Some(integrity) = transform.integrity() else {
            let salt = keys.salt.expose().first_chunk().copied().unwrap_or_default();
            return Ok(Self::Aead {
                key: AeadKey::new(cipher, keys.encryption.expose())?,
                salt,
            });
        };
        check("the integrity key", keys.integrity.expose(), integrity.key_len())?;
        let cipher = match cipher.block_len() {
            CBC_BLOCK_LEN => Some(CbcKey::new(cipher, keys.encryption.expose())?),
            _ => None,
        };
        Ok(Self::Mac(Box::new(MacKeys {
            cipher,
            integrity: integrity.prepare(keys.integrity.expose())?,
        })))
    }

    /// Encrypts and signs `packet` (SPI to ICV) in place. SPI, low half of the sequence number, and the plaintext up to the next header are in it;
    /// IV and ICV are written. `extended` is the high half of the sequence number on an SA with ESN.
    pub(crate) fn seal(
        &mut self,
        transform: Transform,
        packet: &mut [u8],
        sequence: u64,
        extended: Option<u32>,
    ) -> Result<(), Cause> {
        let Parts {
            header,
            iv,
            body,
            icv,
        } = split(transform, packet).ok_or(Cause::NoRoom)?;
        match self {
            Self::Aead { key, salt } => {
                // RFC 4106 3.1: any IV will do that does not repeat. The sequence number does not, and no one else has this key.
                iv.copy_from_slice(&sequence.to_be_bytes());
                let (aad, length) = associated_data(header, extended);
                let aad = aad.get(..length).unwrap_or(&aad);
                key.seal_in_place(&nonce(*salt, iv), aad, body, icv)
            }
            Self::Mac(keys) => {
                if let (Some(cipher), Some(iv)) = (&keys.cipher, iv.first_chunk_mut()) {
                    *iv = unpredictable_iv(cipher, sequence).map_err(|_| Cause::Crypto)?;
                    cipher.encrypt(iv, body).map_err(|_| Cause::Crypto)?;
                }
                let high = extended.unwrap_or(0).to_be_bytes();
                let high = if extended.is_some() { &high[..] } else { &[] };
                keys.integrity.sign(&[header.as_slice(), iv, body, high], icv)
            }
        }
        .map_err(|_| Cause::Crypto)
    }

    /// Checks and decrypts `packet` (SPI to ICV) in place; gives the plaintext up to the next header.
    pub(crate) fn open<'p>(
        &mut self,
        transform: Transform,
        packet: &'p mut [u8],
        extended: Option<u32>,
    ) -> Result<&'p mut [u8], Cause> {
        let Parts {
            header,
            iv,
            body,
            icv,
        } = split(transform, packet).ok_or(Cause::Truncated)?;
        match self {
            Self::Aead { key, salt } => {
                let (aad, length) = associated_data(header, extended);
                let aad = aad.get(..length).unwrap_or(&aad);
                key.open_in_place(&nonce(*salt, iv), aad, body, icv)
                    .map_err(|_| Cause::Integrity)?;
            }
            Self::Mac(keys) => {
                let high = extended.unwrap_or(0).to_be_bytes();
                let high = if extended.is_some() { &high[..] } else { &[] };
                keys.integrity
                    .verify(&[header.as_slice(), iv, body, high], icv)
                    .map_err(|_| Cause::Integrity)?;
                if let (Some(cipher), Some(iv)) = (&keys.cipher, iv.first_chunk()) {
                    cipher.decrypt(iv, body).map_err(|_| Cause::Truncated)?;
                }
            }
        }
        Ok(body)
    }
}

fn split(transform: Transform, packet: &mut [u8]) -> Option<Parts<'_>> {
    let (front, icv) = packet.split_at_mut_checked(packet.len().checked_sub(transform.icv_len())?)?;
    let (header, rest) = front.split_first_chunk_mut()?;
    let (iv, body) = rest.split_at_mut_checked(transform.cipher().iv_len())?;
    Some(Parts {
        header,
        iv,
        body,
        icv,
    })
}

fn nonce([a, b, c, d]: [u8; 4], iv: &[u8]) -> [u8; NONCE_LEN] {
    // Always eight bytes: every AEAD of RFC 4106 has such an IV.
    let [e, f, g, h, i, j, k, l] = iv.first_chunk().copied().unwrap_or_default();
    [a, b, c, d, e, f, g, h, i, j, k, l]
}

/// SPI and sequence number, the latter with 64 bits on an SA with ESN (RFC 4106 5); and how many bytes that is.
fn associated_data(header: &[u8; ESP_HEADER], extended: Option<u32>) -> ([u8; ESP_HEADER + 4], usize) {
    let [a, b, c, d, e, f, g, h] = *header;
    match extended.map(u32::to_be_bytes) {
        Some([i, j, k, l]) => ([a, b, c, d, i, j, k, l, e, f, g, h], ESP_HEADER + 4),
        None => ([a, b, c, d, e, f, g, h, 0, 0, 0, 0], ESP_HEADER),
    }
}

/// NIST SP 800-38A appendix C: the forward cipher under the same key, of a block that never repeats.
fn unpredictable_iv(key: &CbcKey, sequence: u64) -> Result<[u8; CBC_BLOCK_LEN], crypto::Error> {
    let mut block = [0; CBC_BLOCK_LEN];
    if let Some(low) = block.last_chunk_mut() {
        *low = sequence.to_be_bytes();
    }
    key.encrypt(&[0; CBC_BLOCK_LEN], &mut block)?;
    Ok(block)
}

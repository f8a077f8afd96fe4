//! The prepared keys of one direction, and what they do to the bytes of one packet.

use crypto::{AeadKey, CBC_BLOCK_LEN, CBC_LANES, CbcKey, IntegrityKey, NONCE_LEN};
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

impl MacKeys {
    /// Writes the ICV of a packet that is encrypted.
    fn sign(&self, transform: Transform, packet: &mut [u8], extended: Option<u32>) -> Result<(), Cause> {
        let end = packet
            .len()
            .checked_sub(transform.icv_len())
            .ok_or(Cause::NoRoom)?;
        let (front, icv) = packet.split_at_mut_checked(end).ok_or(Cause::NoRoom)?;
        let high = extended.map(u32::to_be_bytes);
        let high = high.as_ref().map_or(&[][..], |high| high);
        self.integrity
            .sign(&[front, high], icv)
            .map_err(|_| Cause::Crypto)
    }
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
        match self {
            Self::Aead { key, salt } => {
                let Parts {
                    header,
                    iv,
                    body,
                    icv,
                } = split(transform, packet).ok_or(Cause::NoRoom)?;
                // RFC 4106 3.1: any IV will do that does not repeat. The sequence number does not, and no one else has this key.
                iv.copy_from_slice(&sequence.to_be_bytes());
                let (aad, length) = associated_data(header, extended);
                let aad = aad.get(..length).unwrap_or(&aad);
                key.seal_in_place(&nonce(*salt, iv), aad, body, icv)
                    .map_err(|_| Cause::Crypto)
            }
            Self::Mac(keys) => {
                if let Some(cipher) = &keys.cipher {
                    let message = begin(transform, packet, sequence).ok_or(Cause::NoRoom)?;
                    cipher.encrypt_each(&mut [message]).map_err(|_| Cause::Crypto)?;
                }
                keys.sign(transform, packet, extended)
            }
        }
    }

    /// Encrypts and signs all packets of `run` in place, each of `segment` bytes but the last, which may be shorter: like [`seal`](Self::seal), but [`begin`] has been here.
    pub(crate) fn seal_run(
        &self,
        transform: Transform,
        run: &mut [u8],
        segment: usize,
        esn: bool,
    ) -> Result<(), Cause> {
        let Self::Mac(keys) = self else {
            return Err(Cause::Crypto);
        };
        let cipher = keys.cipher.as_ref().ok_or(Cause::Crypto)?;
        let segment = segment.max(1);
        for run in run.chunks_mut(segment.saturating_mul(CBC_LANES)) {
            let mut messages: [&mut [u8]; CBC_LANES] = Default::default();
            let mut extended = [None; CBC_LANES];
            let mut count = 0;
            let places = messages.iter_mut().zip(&mut extended);
            for (packet, (message, extended)) in run.chunks_mut(segment).zip(places) {
                *message = message_of(transform, packet).ok_or(Cause::NoRoom)?;
                let sequence = begun_with(message).ok_or(Cause::NoRoom)?;
                *extended = esn.then_some((sequence >> 32) as u32);
                count += 1;
            }
            let messages = messages.get_mut(..count).unwrap_or_default();
            cipher.encrypt_each(messages).map_err(|_| Cause::Crypto)?;
            for (packet, extended) in run.chunks_mut(segment).zip(extended) {
                keys.sign(transform, packet, extended)?;
            }
        }
        Ok(())
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

/// What CBC encrypts: from the IV, see [`begin`], to the next header.
fn message_of(transform: Transform, packet: &mut [u8]) -> Option<&mut [u8]> {
    let end = packet.len().checked_sub(transform.icv_len())?;
    packet.get_mut(ESP_HEADER..end)
}

/// Puts a block that never repeats in the place of an IV of CBC, and gives the message. Encrypted as part of it, from an IV of zero, that block becomes an IV which cannot be
/// predicted (RFC 3602 2.1): the forward cipher of it under the same key (NIST SP 800-38A appendix C).
pub(crate) fn begin(transform: Transform, packet: &mut [u8], sequence: u64) -> Option<&mut [u8]> {
    let message = message_of(transform, packet)?;
    let block: &mut [u8; CBC_BLOCK_LEN] = message.first_chunk_mut()?;
    *block = u128::from(sequence).to_be_bytes();
    Some(message)
}

/// The sequence number of which [`begin`] was told.
fn begun_with(message: &[u8]) -> Option<u64> {
    let block: &[u8; CBC_BLOCK_LEN] = message.first_chunk()?;
    Some(u128::from_be_bytes(*block) as u64)
}

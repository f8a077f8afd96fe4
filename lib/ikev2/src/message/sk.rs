//! Encrypted payloads (RFC 7296 3.14, RFC 5282) and encrypted fragments (RFC 7383 2.5).

use crypto::{AeadKey, CBC_BLOCK_LEN, CbcKey, Cipher, Integrity, Random};

use super::decode::next_payload;
use super::{Builder, DecodeError, HEADER_LEN, Header, PAYLOAD_HEADER_LEN, Reader, payload};

/// Fragment number and total of a fragment (RFC 7383 2.5).
const FRAGMENT_HEADER_LEN: usize = 4;
/// Octets of an explicit IV, at most.
const MAX_IV_LEN: usize = 16;
/// Payloads before an encrypted one that we step over.
const MAX_CLEAR_PAYLOADS: usize = 8;

/// Algorithms and keys for one direction.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Protection<'a> {
    pub cipher: Cipher,
    pub integrity: Option<Integrity>,
    /// SK_e: key, and salt of an AEAD.
    pub encryption_key: &'a [u8],
    /// SK_a; empty with an AEAD.
    pub integrity_key: &'a [u8],
}

/// Position of a fragment in its message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fragment {
    pub number: u16,
    pub total: u16,
}

/// What an encrypted payload held.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Opened<'b> {
    /// Type of the first payload within. In a fragment it is there only in the first (RFC 7383 2.5).
    pub first: u8,
    pub plaintext: &'b [u8],
    pub fragment: Option<Fragment>,
}

impl Protection<'_> {
    fn iv_len(&self) -> usize {
        self.cipher.iv_len()
    }

    fn icv_len(&self) -> usize {
        self.cipher.icv_len() + self.integrity.map_or(0, Integrity::icv_len)
    }

    /// The prefix for a [`Builder`] whose message is to be encrypted.
    pub fn prefix_len(&self) -> usize {
        HEADER_LEN + PAYLOAD_HEADER_LEN + self.iv_len()
    }
}

/// Encrypts a message. The result is one datagram or, if that would be longer than `limit`, several, one after the other:
/// each states its length. `next_iv` is counted up for each.
pub(crate) fn seal(
    protection: &Protection<'_>,
    header: Header,
    builder: Builder,
    limit: usize,
    next_iv: &mut u64,
    random: &mut dyn Random,
) -> Result<(Vec<u8>, u16), crypto::Error> {
    let (first, prefix, message) = builder.into_parts();
    let overhead = protection.iv_len() + CBC_BLOCK_LEN + protection.icv_len();
    if message.len() + overhead <= limit {
        let header = Header {
            next_payload: payload::SK,
            ..header
        };
        let sealed = seal_one(protection, header, first, message, prefix, None, next_iv, random)?;
        return Ok((sealed, 1));
    }
    let plaintext = message.get(prefix..).unwrap_or(&[]);
    let prefix = prefix + FRAGMENT_HEADER_LEN;
    let room = limit.saturating_sub(prefix + overhead).max(MIN_FRAGMENT_LEN);
    let total = u16::try_from(plaintext.len().div_ceil(room)).unwrap_or(u16::MAX);
    let mut datagrams = Vec::with_capacity(message.len() + usize::from(total) * (prefix + overhead));
    for (number, piece) in (1..=total).zip(plaintext.chunks(room)) {
        let mut message = Vec::with_capacity(limit);
        message.resize(prefix, 0);
        message.extend_from_slice(piece);
        let header = Header {
            next_payload: payload::SKF,
            ..header
        };
        let first = if number == 1 { first } else { payload::NONE };
        let fragment = Some(Fragment { number, total });
        let sealed = seal_one(
            protection, header, first, message, prefix, fragment, next_iv, random,
        )?;
        datagrams.extend_from_slice(&sealed);
    }
    Ok((datagrams, total))
}

/// A fragment carries at least this much, whatever the limit.
const MIN_FRAGMENT_LEN: usize = 256;

#[expect(
    clippy::too_many_arguments,
    reason = "one place, two callers, all of it needed"
)]
fn seal_one(
    protection: &Protection<'_>,
    header: Header,
    first: u8,
    mut message: Vec<u8>,
    prefix: usize,
    fragment: Option<Fragment>,
    next_iv: &mut u64,
    random: &mut dyn Random,
) -> Result<Vec<u8>, crypto::Error> {
    let block = protection.cipher.block_len();
    let unpadded = message.len() - prefix + 1;
    let padding = unpadded.next_multiple_of(block) - unpadded;
    message.resize(message.len() + padding, 0);
    message.push(u8::try_from(padding).unwrap_or(0));
    let icv_at = message.len();
    message.resize(icv_at + protection.icv_len(), 0);
    header.encode(&mut message);
    let payload_len = u16::try_from(message.len() - HEADER_LEN).unwrap_or(u16::MAX);
    let iv_at = prefix - protection.iv_len();
    let mut iv = [0; MAX_IV_LEN];
    let iv = iv.get_mut(..protection.iv_len()).unwrap_or_default();
    if protection.cipher.is_aead() {
        // RFC 5282 3.1: the IV must never repeat under a key; a counter never does.
        iv.copy_from_slice(&next_iv.to_be_bytes());
        *next_iv += 1;
    } else {
        random.fill(iv);
    }
    if let Some(clear) = message.get_mut(HEADER_LEN..prefix) {
        let (head, rest) = clear.split_at_mut(PAYLOAD_HEADER_LEN);
        head[0] = first;
        head[2..].copy_from_slice(&payload_len.to_be_bytes());
        let (numbers, place) = rest.split_at_mut(iv_at - HEADER_LEN - PAYLOAD_HEADER_LEN);
        if let (Some(fragment), [a, b, c, d]) = (fragment, numbers) {
            [*a, *b] = fragment.number.to_be_bytes();
            [*c, *d] = fragment.total.to_be_bytes();
        }
        place.copy_from_slice(iv);
    }
    let (clear, rest) = message.split_at_mut(prefix);
    let (plaintext, icv) = rest.split_at_mut(icv_at - prefix);
    if protection.cipher.is_aead() {
        let (mut key, salt) = aead(protection)?;
        let aad = clear.get(..iv_at).unwrap_or_default();
        key.seal_in_place(&nonce(salt, iv), aad, plaintext, icv)?;
    } else {
        let integrity = protection
            .integrity
            .ok_or(crypto::Error::Unsuitable("no integrity"))?;
        let block =
            <&[u8; CBC_BLOCK_LEN]>::try_from(&*iv).map_err(|_| crypto::Error::Unsuitable("not CBC"))?;
        CbcKey::new(protection.cipher, protection.encryption_key)?.encrypt(block, plaintext)?;
        integrity
            .prepare(protection.integrity_key)?
            .sign(&[clear, plaintext], icv)?;
    }
    Ok(message)
}

/// Checks and decrypts the encrypted payload of `datagram` into `buffer`.
pub(crate) fn open<'b>(
    protection: &Protection<'_>,
    header: &Header,
    datagram: &[u8],
    buffer: &'b mut Vec<u8>,
) -> Result<Opened<'b>, DecodeError> {
    let body = datagram.get(HEADER_LEN..).ok_or(DecodeError::Header)?;
    let mut reader = Reader::new(body);
    let mut kind = header.next_payload;
    let mut steps = 0;
    let raw = loop {
        let raw = next_payload(kind, &mut reader)?;
        match raw.kind {
            payload::SK | payload::SKF => break raw,
            payload::NONE => return Err(DecodeError::Syntax),
            _ if raw.next == payload::NONE || steps >= MAX_CLEAR_PAYLOADS => return Err(DecodeError::Syntax),
            _ => steps += 1,
        }
        kind = raw.next;
    };
    // RFC 7296 3.14: it is the last payload.
    if !reader.is_empty() {
        return Err(DecodeError::EncryptedLength);
    }
    let mut inner = Reader::new(raw.body);
    let fragment = match raw.kind {
        payload::SKF => Some(fragment(&mut inner)?),
        _ => None,
    };
    let iv = inner
        .take(protection.iv_len())
        .ok_or(DecodeError::EncryptedLength)?;
    let (ciphertext, icv) = inner
        .rest()
        .len()
        .checked_sub(protection.icv_len())
        .and_then(|at| inner.rest().split_at_checked(at))
        .ok_or(DecodeError::EncryptedLength)?;
    if ciphertext.is_empty() || !ciphertext.len().is_multiple_of(protection.cipher.block_len()) {
        return Err(DecodeError::EncryptedLength);
    }
    buffer.clear();
    buffer.extend_from_slice(ciphertext);
    let covered = datagram.len() - icv.len();
    let clear_len = covered - ciphertext.len();
    if protection.cipher.is_aead() {
        let (mut key, salt) = aead(protection).map_err(|_| DecodeError::Integrity)?;
        let aad = datagram.get(..clear_len - iv.len()).unwrap_or_default();
        key.open_in_place(&nonce(salt, iv), aad, buffer, icv)
            .map_err(|_| DecodeError::Integrity)?;
    } else {
        let authentic = datagram.get(..covered).unwrap_or_default();
        verify_and_decrypt(protection, authentic, iv, buffer, icv).map_err(|_| DecodeError::Integrity)?;
    }
    let padding = usize::from(buffer.last().copied().unwrap_or(0)) + 1;
    let length = buffer.len().checked_sub(padding).ok_or(DecodeError::Padding)?;
    Ok(Opened {
        first: raw.next,
        plaintext: buffer.get(..length).unwrap_or_default(),
        fragment,
    })
}

fn fragment(reader: &mut Reader<'_>) -> Result<Fragment, DecodeError> {
    let number = reader.u16().ok_or(DecodeError::Fragment)?;
    let total = reader.u16().ok_or(DecodeError::Fragment)?;
    if number == 0 || number > total {
        return Err(DecodeError::Fragment);
    }
    Ok(Fragment { number, total })
}

fn verify_and_decrypt(
    protection: &Protection<'_>,
    authentic: &[u8],
    iv: &[u8],
    buffer: &mut [u8],
    icv: &[u8],
) -> Result<(), crypto::Error> {
    let integrity = protection
        .integrity
        .ok_or(crypto::Error::Unsuitable("no integrity"))?;
    integrity
        .prepare(protection.integrity_key)?
        .verify(&[authentic], icv)?;
    let block = iv.try_into().map_err(|_| crypto::Error::Unsuitable("not CBC"))?;
    CbcKey::new(protection.cipher, protection.encryption_key)?.decrypt(block, buffer)
}

fn aead<'a>(protection: &Protection<'a>) -> Result<(AeadKey, &'a [u8]), crypto::Error> {
    let wrong = crypto::Error::Unsuitable("key and salt");
    let (key, salt) = protection
        .encryption_key
        .split_at_checked(protection.cipher.key_len())
        .ok_or(wrong)?;
    Ok((AeadKey::new(protection.cipher, key)?, salt))
}

/// Salt (4) and IV (8) make the nonce (RFC 5282 4). Both lengths are the cipher's.
fn nonce(salt: &[u8], iv: &[u8]) -> [u8; crypto::NONCE_LEN] {
    let mut nonce = [0; crypto::NONCE_LEN];
    for (place, byte) in nonce.iter_mut().zip(salt.iter().chain(iv)) {
        *place = *byte;
    }
    nonce
}

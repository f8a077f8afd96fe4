//! Proposals of an SA payload (RFC 7296 3.3).

use std::fmt;

use super::{DecodeError, Reader, Writer};

/// Proposals taken from one SA payload.
const MAX_PROPOSALS: usize = 32;
/// Transforms taken from one proposal.
const MAX_TRANSFORMS: usize = 96;

const PROPOSAL_HEADER_LEN: usize = 8;
const TRANSFORM_HEADER_LEN: usize = 8;
const MORE_PROPOSALS: u8 = 2;
const MORE_TRANSFORMS: u8 = 3;
/// Attribute type 14, Key Length, with the bit of a fixed-length attribute.
const KEY_LENGTH: u16 = 0x8000 | 14;
const FIXED_LENGTH: u16 = 0x8000;

/// Security protocol identifier (RFC 7296 3.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// IKE.
    Ike = 1,
    /// AH; never accepted.
    Ah = 2,
    /// ESP.
    Esp = 3,
}

/// Transform type (RFC 7296 3.3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum TransformKind {
    /// ENCR.
    Encryption = 1,
    /// PRF.
    Prf = 2,
    /// INTEG.
    Integrity = 3,
    /// D-H.
    Group = 4,
    /// ESN.
    Esn = 5,
}

/// One transform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transform {
    /// Its type; `None` if we do not know it.
    pub kind: Option<TransformKind>,
    /// Its identifier.
    pub id: u16,
    /// Key Length attribute, in bits.
    pub key_length: Option<u16>,
    /// It has an attribute that we do not know, so it cannot be taken (RFC 7296 3.3.6).
    pub unknown_attribute: bool,
}

/// An SPI in a proposal, notify or delete payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProposalSpi {
    /// None, as in IKE_SA_INIT.
    None,
    /// Of an IKE SA.
    Ike(u64),
    /// Of ESP.
    Esp(u32),
}

/// One proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Its number; the answer repeats it.
    pub number: u8,
    /// For which protocol.
    pub protocol: Protocol,
    /// The sender's SPI.
    pub spi: ProposalSpi,
    /// What it consists of.
    pub transforms: Vec<Transform>,
}

impl Protocol {
    /// The protocol with this number.
    pub fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Ike),
            2 => Some(Self::Ah),
            3 => Some(Self::Esp),
            _ => None,
        }
    }
}

impl TransformKind {
    fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Encryption),
            2 => Some(Self::Prf),
            3 => Some(Self::Integrity),
            4 => Some(Self::Group),
            5 => Some(Self::Esn),
            _ => None,
        }
    }
}

impl fmt::Display for TransformKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encryption => "encryption",
            Self::Prf => "PRF",
            Self::Integrity => "integrity",
            Self::Group => "DH group",
            Self::Esn => "ESN",
        })
    }
}

impl Transform {
    /// A transform without attributes.
    pub fn new(kind: TransformKind, id: u16) -> Self {
        Self {
            kind: Some(kind),
            id,
            key_length: None,
            unknown_attribute: false,
        }
    }
}

impl fmt::Display for Transform {
    /// By name, as far as there is one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(kind) = self.kind else {
            return write!(f, "unknown-{}", self.id);
        };
        match transform_name(kind, self.id) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{}", self.id)?,
        }
        match self.key_length {
            Some(bits) => write!(f, "-{bits}"),
            None => Ok(()),
        }
    }
}

fn transform_name(kind: TransformKind, id: u16) -> Option<&'static str> {
    Some(match (kind, id) {
        (TransformKind::Encryption, 2) => "DES",
        (TransformKind::Encryption, 3) => "3DES",
        (TransformKind::Encryption, 11) => "NULL",
        (TransformKind::Encryption, 12) => "AES-CBC",
        (TransformKind::Encryption, 13) => "AES-CTR",
        (TransformKind::Encryption, 14) => "AES-CCM-8",
        (TransformKind::Encryption, 15) => "AES-CCM-12",
        (TransformKind::Encryption, 16) => "AES-CCM-16",
        (TransformKind::Encryption, 18) => "AES-GCM-8",
        (TransformKind::Encryption, 19) => "AES-GCM-12",
        (TransformKind::Encryption, 20) => "AES-GCM-16",
        (TransformKind::Encryption, 21) => "NULL-AES-GMAC",
        (TransformKind::Encryption, 23) => "CAMELLIA-CBC",
        (TransformKind::Encryption, 28) => "CHACHA20-POLY1305",
        (TransformKind::Prf, 1) => "HMAC-MD5",
        (TransformKind::Prf, 2) => "HMAC-SHA1",
        (TransformKind::Prf, 4) => "AES128-XCBC",
        (TransformKind::Prf, 5) => "HMAC-SHA2-256",
        (TransformKind::Prf, 6) => "HMAC-SHA2-384",
        (TransformKind::Prf, 7) => "HMAC-SHA2-512",
        (TransformKind::Prf, 8) => "AES128-CMAC",
        (TransformKind::Integrity, 0) => "none",
        (TransformKind::Integrity, 1) => "HMAC-MD5-96",
        (TransformKind::Integrity, 2) => "HMAC-SHA1-96",
        (TransformKind::Integrity, 5) => "AES-XCBC-96",
        (TransformKind::Integrity, 8) => "AES-CMAC-96",
        (TransformKind::Integrity, 12) => "HMAC-SHA2-256-128",
        (TransformKind::Integrity, 13) => "HMAC-SHA2-384-192",
        (TransformKind::Integrity, 14) => "HMAC-SHA2-512-256",
        (TransformKind::Group, 0) => "none",
        (TransformKind::Esn, 0) => "no",
        (TransformKind::Esn, 1) => "yes",
        _ => return None,
    })
}

/// Reads the body of an SA payload.
pub(crate) fn decode(body: &[u8]) -> Result<Vec<Proposal>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut proposals: Vec<Proposal> = Vec::with_capacity(2);
    loop {
        let head = reader.take(PROPOSAL_HEADER_LEN).ok_or(DecodeError::SaLength)?;
        let &[
            last,
            _,
            length_high,
            length_low,
            number,
            protocol,
            spi_size,
            transforms,
        ] = head
        else {
            return Err(DecodeError::ProposalHeader);
        };
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let rest = length
            .checked_sub(PROPOSAL_HEADER_LEN)
            .and_then(|rest| reader.take(rest))
            .ok_or(DecodeError::ProposalLength)?;
        if proposals.len() >= MAX_PROPOSALS {
            return Err(DecodeError::TooManyProposals);
        }
        // RFC 7296 3.3.1: the first is 1, the others one more than the one before. An answer repeats the number it chose.
        if let Some(before) = proposals.last()
            && before.number.checked_add(1) != Some(number)
        {
            return Err(DecodeError::ProposalNumber);
        }
        proposals.push(decode_proposal(number, protocol, spi_size, transforms, rest)?);
        match last {
            0 if reader.is_empty() => return Ok(proposals),
            0 => return Err(DecodeError::SaLength),
            MORE_PROPOSALS => {}
            _ => return Err(DecodeError::ProposalHeader),
        }
    }
}

fn decode_proposal(
    number: u8,
    protocol: u8,
    spi_size: u8,
    count: u8,
    body: &[u8],
) -> Result<Proposal, DecodeError> {
    let protocol = Protocol::from_u8(protocol).ok_or(DecodeError::ProposalProtocol)?;
    let mut reader = Reader::new(body);
    let spi = reader
        .take(usize::from(spi_size))
        .ok_or(DecodeError::ProposalLength)?;
    let spi = match (protocol, spi) {
        (Protocol::Ike, []) => ProposalSpi::None,
        (Protocol::Ike, spi) => ProposalSpi::Ike(u64::from_be_bytes(
            spi.try_into().map_err(|_| DecodeError::ProposalProtocol)?,
        )),
        (_, spi) => ProposalSpi::Esp(u32::from_be_bytes(
            spi.try_into().map_err(|_| DecodeError::ProposalProtocol)?,
        )),
    };
    if usize::from(count) > MAX_TRANSFORMS {
        return Err(DecodeError::TooManyTransforms);
    }
    let mut transforms = Vec::with_capacity(usize::from(count));
    for remaining in (0..count).rev() {
        let head = reader
            .take(TRANSFORM_HEADER_LEN)
            .ok_or(DecodeError::TransformHeader)?;
        let &[last, _, length_high, length_low, kind, _, id_high, id_low] = head else {
            return Err(DecodeError::TransformHeader);
        };
        if last != if remaining == 0 { 0 } else { MORE_TRANSFORMS } {
            return Err(DecodeError::TooManyTransforms);
        }
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let attributes = length
            .checked_sub(TRANSFORM_HEADER_LEN)
            .and_then(|rest| reader.take(rest))
            .ok_or(DecodeError::TransformLength)?;
        let mut transform = Transform {
            kind: TransformKind::from_u8(kind),
            id: u16::from_be_bytes([id_high, id_low]),
            key_length: None,
            unknown_attribute: false,
        };
        decode_attributes(attributes, &mut transform)?;
        transforms.push(transform);
    }
    if !reader.is_empty() {
        return Err(DecodeError::TooManyTransforms);
    }
    Ok(Proposal {
        number,
        protocol,
        spi,
        transforms,
    })
}

fn decode_attributes(attributes: &[u8], transform: &mut Transform) -> Result<(), DecodeError> {
    let mut reader = Reader::new(attributes);
    while !reader.is_empty() {
        let kind = reader.u16().ok_or(DecodeError::TransformHeader)?;
        let value = reader.u16().ok_or(DecodeError::TransformHeader)?;
        match kind {
            KEY_LENGTH => transform.key_length = Some(value),
            kind if kind & FIXED_LENGTH != 0 => transform.unknown_attribute = true,
            _ => {
                reader
                    .take(usize::from(value))
                    .ok_or(DecodeError::TransformHeader)?;
                transform.unknown_attribute = true;
            }
        }
    }
    Ok(())
}

/// Writes the body of an SA payload.
pub(crate) fn encode(proposals: &[Proposal], writer: &mut Writer) {
    for (at, proposal) in proposals.iter().enumerate() {
        let start = writer.len();
        writer.u8(if at + 1 == proposals.len() {
            0
        } else {
            MORE_PROPOSALS
        });
        writer.u8(0);
        writer.u16(0);
        writer.u8(proposal.number);
        writer.u8(proposal.protocol as u8);
        writer.u8(match proposal.spi {
            ProposalSpi::None => 0,
            ProposalSpi::Ike(_) => 8,
            ProposalSpi::Esp(_) => 4,
        });
        writer.u8(u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX));
        match proposal.spi {
            ProposalSpi::None => {}
            ProposalSpi::Ike(spi) => writer.bytes(&spi.to_be_bytes()),
            ProposalSpi::Esp(spi) => writer.bytes(&spi.to_be_bytes()),
        }
        for (at, transform) in proposal.transforms.iter().enumerate() {
            writer.u8(if at + 1 == proposal.transforms.len() {
                0
            } else {
                MORE_TRANSFORMS
            });
            writer.u8(0);
            writer.u16(if transform.key_length.is_some() { 12 } else { 8 });
            writer.u8(transform.kind.map_or(0, |kind| kind as u8));
            writer.u8(0);
            writer.u16(transform.id);
            if let Some(bits) = transform.key_length {
                writer.u16(KEY_LENGTH);
                writer.u16(bits);
            }
        }
        writer.patch_u16(start + 2, writer.len() - start);
    }
}

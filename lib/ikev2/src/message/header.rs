//! The IKE header (RFC 7296 3.1).

use super::{DecodeError, Reader};

/// Length of the IKE header.
pub const HEADER_LEN: usize = 28;

const VERSION: u8 = 0x20;
const FLAG_INITIATOR: u8 = 0x08;
const FLAG_RESPONSE: u8 = 0x20;

/// Exchange type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exchange {
    /// IKE_SA_INIT.
    IkeSaInit = 34,
    /// IKE_AUTH.
    IkeAuth = 35,
    /// CREATE_CHILD_SA.
    CreateChildSa = 36,
    /// INFORMATIONAL.
    Informational = 37,
}

/// The IKE header, without its length, which is checked on decoding and computed on encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// SPI of the original initiator.
    pub initiator_spi: u64,
    /// SPI of the original responder.
    pub responder_spi: u64,
    /// Type of the first payload.
    pub next_payload: u8,
    /// Exchange type.
    pub exchange: Exchange,
    /// Sent by the original initiator of the IKE SA.
    pub from_initiator: bool,
    /// A response.
    pub response: bool,
    /// Message ID.
    pub message_id: u32,
}

impl Exchange {
    fn from_u8(value: u8) -> Option<Self> {
        match value {
            34 => Some(Self::IkeSaInit),
            35 => Some(Self::IkeAuth),
            36 => Some(Self::CreateChildSa),
            37 => Some(Self::Informational),
            _ => None,
        }
    }
}

impl Header {
    /// Reads the header of a datagram, whose length must be the one the header says.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(datagram: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(datagram);
        let initiator_spi = reader.u64().ok_or(DecodeError::Header)?;
        let responder_spi = reader.u64().ok_or(DecodeError::Header)?;
        let next_payload = reader.u8().ok_or(DecodeError::Header)?;
        let version = reader.u8().ok_or(DecodeError::Header)?;
        let exchange = reader.u8().ok_or(DecodeError::Header)?;
        let flags = reader.u8().ok_or(DecodeError::Header)?;
        let message_id = reader.u32().ok_or(DecodeError::Header)?;
        let length = reader.u32().ok_or(DecodeError::Header)?;
        // RFC 7296 2.5: the version first; the rest may look different in another one.
        if version >> 4 != VERSION >> 4 {
            return Err(DecodeError::HeaderMajorVersion(version >> 4));
        }
        if usize::try_from(length) != Ok(datagram.len()) {
            return Err(DecodeError::HeaderLength);
        }
        let exchange = Exchange::from_u8(exchange).ok_or(DecodeError::HeaderExchangeType(exchange))?;
        let header = Self {
            initiator_spi,
            responder_spi,
            next_payload,
            exchange,
            from_initiator: flags & FLAG_INITIATOR != 0,
            response: flags & FLAG_RESPONSE != 0,
            message_id,
        };
        header.check()?;
        Ok(header)
    }

    fn check(&self) -> Result<(), DecodeError> {
        if self.initiator_spi == 0 {
            return Err(DecodeError::HeaderInitiatorSpi);
        }
        if self.exchange == Exchange::IkeSaInit {
            // The original initiator requests, the responder responds, and there is one such exchange.
            if self.from_initiator == self.response {
                return Err(DecodeError::HeaderFlags);
            }
            if !self.response && self.responder_spi != 0 {
                return Err(DecodeError::HeaderResponderSpi);
            }
        } else if self.responder_spi == 0 {
            return Err(DecodeError::HeaderResponderSpi);
        }
        Ok(())
    }

    /// Writes the header over the front of `message`, whose length it states.
    pub(crate) fn encode(&self, message: &mut [u8]) {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        let mut flags = 0;
        if self.from_initiator {
            flags |= FLAG_INITIATOR;
        }
        if self.response {
            flags |= FLAG_RESPONSE;
        }
        let Some(front) = message.first_chunk_mut::<HEADER_LEN>() else {
            return;
        };
        front[..8].copy_from_slice(&self.initiator_spi.to_be_bytes());
        front[8..16].copy_from_slice(&self.responder_spi.to_be_bytes());
        front[16..20].copy_from_slice(&[self.next_payload, VERSION, self.exchange as u8, flags]);
        front[20..24].copy_from_slice(&self.message_id.to_be_bytes());
        front[24..].copy_from_slice(&length.to_be_bytes());
    }
}

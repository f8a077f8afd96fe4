//! The receiving half of an SA.

use sadb::{ChildSa, Mode, ReplayVerdict, SaKeys};

use crate::protection::Protection;
use crate::sequence::{Replay, extended};
use crate::transform::{ESP_HEADER, TRAILER, Transform};
use crate::{Cause, Error};

/// One direction of a child SA, prepared for receiving. One per SA and receiver. Whole cache lines, to be fetched ahead of its use.
#[repr(align(64))]
pub struct InboundSa {
    protection: Protection,
    transform: Transform,
    esn: bool,
}

/// A packet that was authentic and not seen before.
#[derive(Debug)]
pub struct Opened<'p> {
    /// What was protected, without padding and trailer. Not looked at yet.
    pub payload: &'p mut [u8],
    /// What it is said to be: 4 = IPv4, 41 = IPv6, 59 = dummy.
    pub next_header: u8,
    /// Its full sequence number.
    pub sequence: u64,
    /// No packet with a higher number was received before: what it says about the peer's address is news (RFC 7296 2.23).
    pub newest: bool,
}

impl InboundSa {
    /// From keys.
    ///
    /// # Errors
    /// [`Error::KeyLength`] when a key does not fit the transform.
    pub fn new(transform: Transform, keys: &SaKeys, esn: bool) -> Result<Self, Error> {
        Ok(Self {
            protection: Protection::new(transform, keys)?,
            transform,
            esn,
        })
    }

    /// From a record of the slot's segment.
    ///
    /// # Errors
    /// As [`new`](Self::new); [`Error::Algorithms`] and [`Error::TransportMode`] for what this data plane cannot do.
    pub fn from_record(sa: &ChildSa) -> Result<Self, Error> {
        if sa.mode != Mode::Tunnel {
            return Err(Error::TransportMode);
        }
        let transform = Transform::from_algorithms(&sa.algorithms)?;
        Self::new(transform, &sa.inbound_keys, sa.esn)
    }

    /// Its algorithms, and the lengths that follow from them.
    pub fn transform(&self) -> Transform {
        self.transform
    }

    /// Checks and decrypts one ESP packet (SPI to ICV) in place (RFC 4303 3.4): window, integrity, window again, padding.
    ///
    /// Nothing is remembered of a packet that fails. A packet with bad padding is authentic, so its number is used up.
    pub fn open<'p>(&mut self, packet: &'p mut [u8], replay: &mut impl Replay) -> Result<Opened<'p>, Cause> {
        let low = sequence_of(packet).ok_or(Cause::Truncated)?;
        let least = self.transform.header_len() + self.transform.icv_len();
        let body = packet.len().checked_sub(least).ok_or(Cause::Truncated)?;
        if body < TRAILER || !body.is_multiple_of(self.transform.cipher().block_len()) {
            return Err(Cause::Truncated);
        }
        let top = replay.top();
        let sequence = if self.esn {
            extended(low, top, replay.window()).ok_or(Cause::Replay(ReplayVerdict::TooOld))?
        } else {
            low.into()
        };
        refuse(replay.check(sequence))?;
        let high = self.esn.then_some((sequence >> 32) as u32);
        let plaintext = self.protection.open(self.transform, packet, high)?;
        refuse(replay.accept(sequence))?;
        let (rest, &mut [padding, next_header]) = plaintext
            .split_last_chunk_mut::<TRAILER>()
            .ok_or(Cause::Truncated)?;
        let payload = rest.len().checked_sub(padding.into()).ok_or(Cause::Padding)?;
        let (payload, padding) = rest.split_at_mut(payload);
        if !padding
            .iter()
            .zip(1..=u8::MAX)
            .all(|(byte, number)| *byte == number)
        {
            return Err(Cause::Padding);
        }
        Ok(Opened {
            payload,
            next_header,
            sequence,
            newest: sequence > top,
        })
    }
}

impl std::fmt::Debug for InboundSa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "InboundSa({:?})", self.transform)
    }
}

/// The SPI of an ESP packet (host order), `None` when it is too short for ESP.
pub fn spi_of(packet: &[u8]) -> Option<u32> {
    let [a, b, c, d, ..] = *packet.first_chunk::<ESP_HEADER>()?;
    Some(u32::from_be_bytes([a, b, c, d]))
}

fn sequence_of(packet: &[u8]) -> Option<u32> {
    let [.., a, b, c, d] = *packet.first_chunk::<ESP_HEADER>()?;
    Some(u32::from_be_bytes([a, b, c, d]))
}

fn refuse(verdict: ReplayVerdict) -> Result<(), Cause> {
    match verdict {
        ReplayVerdict::Fresh => Ok(()),
        other => Err(Cause::Replay(other)),
    }
}

//! The sending half of an SA.

use sadb::{ChildSa, Mode, SaKeys};

use crate::protection::{Protection, begin};
use crate::transform::{TRAILER, Transform};
use crate::{Cause, Error};

/// One direction of a child SA, prepared for sending. One per SA and sender; sequence numbers come from outside ([`sadb::Hot::reserve`]).
#[repr(align(64))]
pub struct OutboundSa {
    protection: Protection,
    transform: Transform,
    spi: u32,
    esn: bool,
}

impl OutboundSa {
    /// Packets that are sealed at once by [`seal_run`](Self::seal_run).
    pub const RUN: usize = crypto::CBC_LANES;

    /// From keys: `spi` is the one that the peer chose.
    ///
    /// # Errors
    /// [`Error::KeyLength`] when a key does not fit the transform.
    pub fn new(transform: Transform, spi: u32, keys: &SaKeys, esn: bool) -> Result<Self, Error> {
        Ok(Self {
            protection: Protection::new(transform, keys)?,
            transform,
            spi,
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
        Self::new(transform, sa.outbound_spi, &sa.outbound_keys, sa.esn)
    }

    /// Its algorithms, and the lengths that follow from them.
    pub fn transform(&self) -> Transform {
        self.transform
    }

    /// Whether numbers above 2^32 - 1 may be used.
    pub fn esn(&self) -> bool {
        self.esn
    }

    /// Makes an ESP packet in `buffer`, in place: the inner packet of `inner` bytes lies [`Transform::header_len`] bytes from its start, and
    /// [`Transform::sealed_len`] bytes are written and returned. `next_header` is 4 for IPv4, 41 for IPv6. No `sequence` may be used twice.
    ///
    /// # Errors
    /// [`Cause::NoRoom`] when the buffer is too short.
    pub fn seal<'b>(
        &mut self,
        buffer: &'b mut [u8],
        inner: usize,
        next_header: u8,
        sequence: u64,
    ) -> Result<&'b mut [u8], Cause> {
        let packet = self.frame(buffer, inner, next_header, sequence)?;
        let extended = self.esn.then_some((sequence >> 32) as u32);
        self.protection.seal(self.transform, packet, sequence, extended)?;
        Ok(packet)
    }

    /// The first of two steps where packets are better sealed several at once ([`Transform::seals_in_runs`]): everything of [`seal`](Self::seal) but encryption and
    /// ICV. What is returned is plaintext still: only [`seal_run`](Self::seal_run) makes it fit to be sent.
    ///
    /// # Errors
    /// [`Cause::Crypto`] where they are not; [`Cause::NoRoom`] when the buffer is too short.
    pub fn lay_out<'b>(
        &self,
        buffer: &'b mut [u8],
        inner: usize,
        next_header: u8,
        sequence: u64,
    ) -> Result<&'b mut [u8], Cause> {
        if !self.transform.seals_in_runs() {
            return Err(Cause::Crypto);
        }
        let packet = self.frame(buffer, inner, next_header, sequence)?;
        begin(self.transform, packet, sequence).ok_or(Cause::NoRoom)?;
        Ok(packet)
    }

    /// The second step, for packets that [`lay_out`](Self::lay_out) made one behind the other: each has `segment` bytes but the last, which may be shorter.
    /// Nothing is gained beyond [`RUN`](Self::RUN) of them.
    ///
    /// # Errors
    /// [`Cause::Crypto`] when this SA does not seal in runs; [`Cause::NoRoom`] when they are no packets. Then the run is spoilt.
    pub fn seal_run(&self, run: &mut [u8], segment: usize) -> Result<(), Cause> {
        self.protection.seal_run(self.transform, run, segment, self.esn)
    }

    /// Header, padding and trailer around an inner packet; returns the whole packet.
    #[inline]
    fn frame<'b>(
        &self,
        buffer: &'b mut [u8],
        inner: usize,
        next_header: u8,
        sequence: u64,
    ) -> Result<&'b mut [u8], Cause> {
        let packet = buffer
            .get_mut(..self.transform.sealed_len(inner))
            .ok_or(Cause::NoRoom)?;
        let end = packet.len() - self.transform.icv_len();
        let trailer = packet
            .get_mut(self.transform.header_len() + inner..end)
            .ok_or(Cause::NoRoom)?;
        if let Some((padding, last)) = trailer.split_last_chunk_mut::<TRAILER>() {
            // RFC 4303 2.4: padding counts up from 1.
            for (byte, number) in padding.iter_mut().zip(1..=u8::MAX) {
                *byte = number;
            }
            *last = [padding.len() as u8, next_header];
        }
        let header = packet.first_chunk_mut().ok_or(Cause::NoRoom)?;
        *header = u64::to_be_bytes(u64::from(self.spi) << 32 | sequence & u64::from(u32::MAX));
        Ok(packet)
    }
}

impl std::fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "OutboundSa({:#010x}, {:?})", self.spi, self.transform)
    }
}

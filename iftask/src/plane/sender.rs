//! The way into one SA for clear packets: the SA, its keys, its hot record, found once; what becomes of a packet there.

use esp::{OutboundSa, Packet};
use sadb::{Hot, SaCounter, SequenceExhausted, Spi};

use super::bursts::{Bursts, Exit};
use super::engine::Engine;
use super::io::{Io, Ports};
use super::sa::Sa;
use super::table::Found;
use crate::counters::Count;

/// An SA with all that sealing needs.
pub(crate) struct Sender<'e> {
    pub(crate) sa: &'e mut Sa,
    outbound: &'e mut OutboundSa,
    hot: Hot<'e>,
    bursts: &'e mut Bursts,
    ports: &'e Ports,
}

/// Why a packet does not leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address has none.
    NoSocket,
    /// All sequence numbers are used.
    Spent,
    /// The record is another SA's by now.
    Stale,
    /// It cannot be sealed.
    NotSealed,
}

impl Refusal {
    /// What is counted, and what of the SA.
    pub(crate) fn counts(self) -> (Count, Option<SaCounter>) {
        match self {
            Self::NoSocket => (Count::NoSocket, Some(SaCounter::DropSend)),
            Self::Spent => (Count::SequenceSpent, Some(SaCounter::DropSequence)),
            Self::Stale => (Count::ClearNoSa, None),
            Self::NotSealed => (Count::NotSent, Some(SaCounter::DropSend)),
        }
    }
}

/// Seals what is only laid out of a burst.
fn seal_run(bursts: &mut Bursts, index: usize, outbound: &OutboundSa) {
    if let Some((run, segment)) = bursts.run(index) {
        let is_done = outbound.seal_run(run, segment).is_ok();
        bursts.sealed(index, is_done);
    }
}

impl<I: Io> Engine<I> {
    /// Seals what is only laid out in any burst. To be called before SAs are looked at anew, for an SA may be gone afterwards. What cannot be sealed is dropped.
    pub(crate) fn seal_runs(&mut self) {
        if !self.bursts.has_runs() {
            return;
        }
        for index in 0..self.bursts.len() {
            if let Some((burst, _)) = self.bursts.get(index)
                && let Some(found) = self.table.with_keys(burst.exit.spi)
                && let Some(outbound) = &found.keys.outbound
            {
                seal_run(&mut self.bursts, index, outbound);
            }
            if let Some((spi, packets, bytes)) = self.bursts.give_up(index) {
                self.refuse(spi, Refusal::NotSealed, packets, bytes as usize);
            }
        }
    }

    /// The way into an SA: its keys are prepared, and what it knows of its path is not too old. `None` when it cannot be used.
    pub(crate) fn sender(&mut self, spi: Spi) -> Option<Sender<'_>> {
        let Found { sa, keys, worker } = self.table.with_keys(spi)?;
        sa.forget_old_path(self.now_ns);
        Some(Sender {
            sa,
            outbound: keys.outbound.as_mut()?,
            hot: worker.hot(spi)?,
            bursts: &mut self.bursts,
            ports: &self.ports,
        })
    }
}

impl Sender<'_> {
    /// Whether a packet can be put into a burst now; otherwise those that wait have to leave first.
    pub(crate) fn has_room(&self) -> bool {
        !self.bursts.is_full()
    }

    /// How a packet of `length` bytes leaves. `packet` is where DSCP and DF come from.
    pub(crate) fn exit(&mut self, packet: &Packet, length: usize) -> Result<Exit, Refusal> {
        let sa = &mut *self.sa;
        let socket = self
            .ports
            .noted_socket(&mut sa.socket, sa.local, sa.encapsulation, sa.context);
        Ok(Exit {
            spi: sa.spi,
            socket: socket.ok_or(Refusal::NoSocket)?,
            encapsulation: sa.encapsulation,
            destination: sa.destination(),
            traffic_class: esp::traffic_class(sa.dscp, packet.traffic_class),
            dont_fragment: sa.limits.dont_fragment(packet, length),
            joins: length <= sa.limits.fits(),
        })
    }

    /// The first of `count` sequence numbers.
    pub(crate) fn reserve(&self, count: u32) -> Result<u64, Refusal> {
        self.hot.reserve(count, self.sa.esn).map_err(|error| match error {
            SequenceExhausted::Spent => Refusal::Spent,
            SequenceExhausted::Stale => Refusal::Stale,
        })
    }

    /// Puts one inner packet of `length` bytes, which `fill` writes, into a burst and seals it; or lays it out, to be sealed with those that follow, at the latest by
    /// [`Engine::seal_runs`].
    pub(crate) fn seal(
        &mut self,
        exit: &Exit,
        next_header: u8,
        length: usize,
        sequence: u64,
        fill: impl FnOnce(&mut [u8]) -> Option<()>,
    ) -> Result<(), Refusal> {
        let transform = self.outbound.transform();
        let sealed = transform.sealed_len(length);
        let place = self.bursts.place(&mut self.sa.burst, exit, sealed);
        let sent = place.and_then(|index| {
            let room = self.bursts.room(index, sealed)?;
            fill(room.get_mut(transform.header_len()..)?)?;
            if transform.seals_in_runs() {
                self.outbound.lay_out(room, length, next_header, sequence).ok()?;
                if self.bursts.commit_laid_out(index, sealed, length) >= OutboundSa::RUN {
                    seal_run(self.bursts, index, self.outbound);
                }
            } else {
                self.outbound.seal(room, length, next_header, sequence).ok()?;
                self.bursts.commit(index, sealed, length);
            }
            Some(())
        });
        sent.ok_or(Refusal::NotSealed)
    }

    /// All of that for a single packet.
    pub(crate) fn send(
        &mut self,
        packet: &Packet,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<()>,
    ) -> Result<(), Refusal> {
        let exit = self.exit(packet, length)?;
        let sequence = self.reserve(1)?;
        self.seal(&exit, packet.next_header(), length, sequence, fill)
    }
}

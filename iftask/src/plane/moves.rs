//! Slots that change hands: what comes for a slot that another data plane still serves is held until it is ours, and what comes for one that we let go follows it.
//!
//! ```text
//!   expected ──> held: from the kernel, from any ring ──> taken: the held first, in order, then everything as ever
//!   served ──> sockets read empty ──> let go: not written any more; its routes stay, so that clear packets follow it
//! ```

use std::collections::VecDeque;
use std::net::IpAddr;

use esp::Packet;
use sadb::{Slot, SlotWorker, Spi, StrayHeader, StrayOrigin};

use super::engine::Engine;
use super::hints::Owner;
use super::io::Io;
use super::strays::{KIND_FOLLOWS, Stray, Via};
use crate::counters::Count;

/// What may be held, of all slots that are expected: some milliseconds of a fast network.
const MOST_HELD_BYTES: usize = 8 << 20;
/// What a held packet costs beside its octets.
const OVERHEAD_BYTES: usize = 128;
/// An ESP packet that found its slot gone may find it gone once more. Then maps differ, and it is dropped.
pub(crate) const MOST_HOPS: u8 = 2;

/// Batches of a full ring of small packets.
const MOST_BATCHES: usize = 256;

/// Slots that will be ours, and what waits for them.
#[derive(Default)]
pub(crate) struct Moves {
    expected: Vec<Expected>,
    esp: VecDeque<HeldEsp>,
    clear: VecDeque<HeldClear>,
    bytes: usize,
}

struct Expected {
    /// The worker that serves it.
    from: u16,
    /// Not written before it is taken.
    worker: SlotWorker,
}

/// A packet from the network.
pub(crate) struct HeldEsp {
    slot: Slot,
    pub(crate) origin: StrayOrigin,
    pub(crate) data: Vec<u8>,
}

/// A packet of the clear side, which followed its slot from the worker that let it go.
struct HeldClear {
    from: u16,
    context: u32,
    stray: Stray,
    read: Vec<u8>,
}

impl Moves {
    fn is_expected(&self, slot: Slot) -> bool {
        self.expected
            .iter()
            .any(|expected| expected.worker.slot() == slot)
    }

    /// Whether a slot is expected from a worker.
    pub(crate) fn expects_from(&self, worker: u16) -> bool {
        self.expected.iter().any(|expected| expected.from == worker)
    }

    /// Room for a packet; false when there is none.
    fn admit(&mut self, octets: usize) -> bool {
        let bytes = self.bytes + octets + OVERHEAD_BYTES;
        let fits = bytes <= MOST_HELD_BYTES;
        if fits {
            self.bytes = bytes;
        }
        fits
    }

    /// No longer expects a slot.
    fn remove(&mut self, slot: Slot) -> Option<Expected> {
        let place = self
            .expected
            .iter()
            .position(|expected| expected.worker.slot() == slot)?;
        Some(self.expected.remove(place))
    }

    /// Takes out what is held for a slot.
    fn take_esp(&mut self, slot: Slot) -> Vec<HeldEsp> {
        let (taken, rest): (VecDeque<_>, _) = std::mem::take(&mut self.esp)
            .into_iter()
            .partition(|held| held.slot == slot);
        self.esp = rest;
        self.bytes -= taken
            .iter()
            .map(|held| held.data.len() + OVERHEAD_BYTES)
            .sum::<usize>();
        taken.into()
    }

    /// Takes out what followed slots from a worker.
    fn take_clear(&mut self, from: u16) -> Vec<HeldClear> {
        let (taken, rest): (VecDeque<_>, _) = std::mem::take(&mut self.clear)
            .into_iter()
            .partition(|held| held.from == from);
        self.clear = rest;
        self.bytes -= taken
            .iter()
            .map(|held| held.read.len() + OVERHEAD_BYTES)
            .sum::<usize>();
        taken.into()
    }
}

impl<I: Io> Engine<I> {
    /// Gets ready for a slot that worker `from` serves: holds what comes for it, writes nothing. Nothing to do for one that is ours.
    pub(crate) fn expect_slot(&mut self, worker: SlotWorker, from: u16) {
        let slot = worker.slot();
        if self.table.owns(slot) {
            return;
        }
        // What is left of the time when it was ours before.
        self.drop_slot(slot);
        match self.moves.remove(slot) {
            Some(expected) => self.moves.expected.push(Expected { from, ..expected }),
            None => self.moves.expected.push(Expected { from, worker }),
        }
    }

    /// Takes over a slot that was expected, with what was held for it. True when it is ours now.
    pub(crate) fn take_slot(&mut self, slot: Slot) -> bool {
        if let Some(Expected { from, worker }) = self.moves.remove(slot) {
            self.add_slot(worker);
            self.announce();
            let mut held = self.moves.take_esp(slot);
            self.held_esp(&mut held);
            // Of another slot from there: it goes round and is held again.
            for mut held in self.moves.take_clear(from) {
                self.stray_clear(held.context, &mut held.read, held.stray);
            }
        }
        self.table.owns(slot)
    }

    /// A slot that was expected stays where it is: what was held for it goes there.
    pub(crate) fn forgo_slot(&mut self, slot: Slot) {
        let Some(Expected { from, .. }) = self.moves.remove(slot) else {
            return;
        };
        for held in self.moves.take_esp(slot) {
            if let Some(spi) = esp::spi_of(&held.data).and_then(Spi::from_u32)
                && !self.pass_on_esp(Via::Held, spi, held.origin, &held.data)
            {
                self.tally.one(Count::NoSa, held.data.len());
            }
        }
        for mut held in self.moves.take_clear(from) {
            self.stray_clear(held.context, &mut held.read, held.stray);
        }
    }

    /// Lets a slot go to another worker: from now on nothing of it is written. What was sealed leaves before.
    pub(crate) fn let_go(&mut self, slot: Slot, to: u16) {
        self.flush();
        self.table.let_go(slot, to);
        self.strays.slot_left(slot, to);
    }

    /// Forgets a slot that was let go, for its move is over. Who asked us for its SAs before that, also its new owner itself, is answered first.
    pub(crate) fn forget_slot(&mut self, slot: Slot) {
        for worker in self.strays.workers() {
            let _ = (0..MOST_BATCHES).find(|_| !self.take_strays(worker));
        }
        self.drop_slot(slot);
    }

    /// An ESP packet of a slot that we do not serve: held if the slot is to come, otherwise passed on to who has it.
    pub(crate) fn elsewhere_esp(&mut self, via: Via, spi: Spi, origin: StrayOrigin, data: &[u8]) {
        let slot = spi.slot();
        if !self.moves.is_expected(slot) {
            if !self.pass_on_esp(via, spi, origin, data) {
                self.tally.one(Count::NoSa, data.len());
            }
            return;
        }
        let fits = self.moves.admit(data.len());
        if fits {
            let data = data.to_vec();
            self.moves.esp.push_back(HeldEsp { slot, origin, data });
        }
        self.count_held(fits, data.len());
    }

    /// A clear packet of a slot that we let go follows it, without asking anybody. `read` is the header and the packet.
    pub(crate) fn follow_slot(
        &mut self,
        to: u16,
        context: u32,
        packet: &Packet,
        read: &[u8],
        stray: Option<Stray>,
    ) {
        let destination: IpAddr = packet.addresses.destination();
        let Some(stray) = self.strays.follow(stray) else {
            return self.tally.one(Count::ClearNoSa, packet.length);
        };
        if stray.is_hinted() {
            self.strays
                .hints
                .learn(context, destination, Owner::Worker(to), self.now_ns);
        }
        let header = StrayHeader {
            kind: stray.to_ring(KIND_FOLLOWS),
            context,
        };
        self.push_stray(to, header, &[read], packet.length);
    }

    /// A clear packet that followed a slot from a worker: held if that one has not arrived yet.
    pub(crate) fn followed(&mut self, from: u16, context: u32, read: &mut [u8], stray: Stray) {
        if !self.moves.expects_from(from) {
            return self.stray_clear(context, read, stray);
        }
        let fits = self.moves.admit(read.len());
        if fits {
            let held = HeldClear {
                from,
                context,
                stray,
                read: read.to_vec(),
            };
            self.moves.clear.push_back(held);
        }
        self.count_held(fits, read.len());
    }

    fn count_held(&mut self, fits: bool, octets: usize) {
        let count = if fits { Count::Held } else { Count::HeldLost };
        self.tally.one(count, octets);
    }
}

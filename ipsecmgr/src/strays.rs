//! The rings to and from this worker's data plane: packets that the kernel coalesced with others of another kind.

use std::os::fd::{AsFd, BorrowedFd};

use sadb::{Slot, StrayConsumer, StrayHeader, StrayOrigin, StrayProducer, StrayRing};
use task::RingEnds;

use crate::Error;

/// Both rings, and what tells whether a message is for us.
pub(crate) struct Strays {
    /// By number: ours.
    slots: [bool; 256],
    to: StrayProducer,
    from: StrayConsumer,
    buffer: Vec<u8>,
    /// The ring may hold more, of which no event will tell.
    more: bool,
}

impl Strays {
    /// Takes the rings over, with what waits in them.
    pub(crate) fn new(ours: &[Slot], ends: RingEnds) -> Result<Self, Error> {
        let mut slots = [false; 256];
        for slot in ours {
            if let Some(place) = slots.get_mut(usize::from(slot.number())) {
                *place = true;
            }
        }
        Ok(Self {
            slots,
            to: StrayProducer::map(ends.to.0, ends.to.1)?,
            from: StrayConsumer::map(ends.from.0, ends.from.1)?,
            buffer: vec![0; StrayRing::MAX_PACKET],
            more: true,
        })
    }

    /// Whether an IKE message is of another worker's slot.
    pub(crate) fn is_foreign(&self, message: &[u8]) -> bool {
        let ours = |slot: Slot| self.slots.get(usize::from(slot.number())).copied();
        Slot::of_ike(message).and_then(ours) == Some(false)
    }

    /// Hands the data plane a packet. False when the ring is full: it is lost.
    pub(crate) fn pass_on(&mut self, header: StrayHeader, origin: StrayOrigin, data: &[u8]) -> bool {
        self.to.push(header, &[&origin.encode(), data])
    }

    /// Whether [`take`](Self::take) has something to do although nothing reports it.
    pub(crate) fn has_more(&self) -> bool {
        self.more
    }

    /// Takes up to `most` IKE messages that the data plane found.
    pub(crate) fn take(&mut self, most: usize, mut take: impl FnMut(StrayOrigin, &[u8])) {
        self.from.clear_event();
        self.more = true;
        for _ in 0..most {
            let Some((header, length)) = self.from.pop(&mut self.buffer) else {
                self.more = false;
                return;
            };
            let packet = self.buffer.get_mut(..length).and_then(StrayOrigin::split);
            if let Some((origin, message)) = packet.filter(|_| header == StrayHeader::IKE) {
                take(origin, message);
            }
        }
    }
}

impl AsFd for Strays {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.from.as_fd()
    }
}

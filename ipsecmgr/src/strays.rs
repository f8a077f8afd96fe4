//! The rings to and from this worker's data plane: packets that the kernel coalesced with others of another kind, and messages of slots that moved.

use std::os::fd::{AsFd, BorrowedFd};

use sadb::{StrayConsumer, StrayHeader, StrayOrigin, StrayProducer, StrayRing};
use task::RingEnds;

use crate::Error;

/// Both rings.
pub(crate) struct Strays {
    to: StrayProducer,
    from: StrayConsumer,
    buffer: Vec<u8>,
    /// The ring may hold more, of which no event will tell.
    more: bool,
}

impl Strays {
    /// Takes the rings over, with what waits in them.
    pub(crate) fn new(ends: RingEnds) -> Result<Self, Error> {
        Ok(Self {
            to: StrayProducer::map(ends.to.0, ends.to.1)?,
            from: StrayConsumer::map(ends.from.0, ends.from.1)?,
            buffer: vec![0; StrayRing::MAX_PACKET],
            more: true,
        })
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

//! Where the SAs and their keys lie: by slot and index in blocks, so that the place of one follows from its SPI; both in huge pages, as packets meet them at random.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use netio::{Arena, Place};
use sadb::{DEFAULT_CAPACITY, SaIndex, Slot, SlotWorker, Spi, prefetch};

use super::sa::{Keys, Sa};
use super::table::SLOTS;

/// SAs that lie together: those with the following indices of a slot.
const BLOCK: usize = 8;
/// Blocks of a slot, at most.
const BLOCKS: usize = DEFAULT_CAPACITY / BLOCK;

/// The SAs of all slots.
pub(crate) struct Entries {
    /// Where blocks are: for each index of a block those of all slots, so that what is in use lies together.
    index: Vec<Option<Place>>,
    blocks: Arena<[Option<Sa>; BLOCK]>,
    keys: Arena<Keys>,
    /// How many there are of each slot.
    counts: [u32; SLOTS],
    /// Where packets go, the peer's SPI, ours: to find the SAs that a router speaks of. Made when one does for the first time.
    peers: Option<BTreeSet<(SocketAddr, u32, u32)>>,
}

impl Entries {
    pub(super) fn new() -> Self {
        Self {
            index: Vec::new(),
            blocks: Arena::new(SLOTS * BLOCKS),
            keys: Arena::new(SLOTS * DEFAULT_CAPACITY),
            counts: [0; SLOTS],
            peers: None,
        }
    }

    /// How many SAs each slot has, by its number.
    pub(super) fn counts(&self) -> &[u32; SLOTS] {
        &self.counts
    }

    /// Begins to load the keys of an SA, which should be in the cache by now.
    pub(super) fn expect_keys(&self, spi: Spi, leaves: bool) {
        let place = self.get(spi).and_then(|sa| sa.keys.as_ref());
        if let Some(keys) = place.and_then(|place| self.keys.get(place)) {
            // Whether they are there stands in them: that would have to be waited for.
            if leaves {
                prefetch(&keys.outbound);
            } else {
                prefetch(&keys.inbound);
            }
        }
    }

    /// The SA with this very SPI.
    pub(crate) fn get(&self, spi: Spi) -> Option<&Sa> {
        self.place(spi)?.as_ref().filter(|sa| sa.spi == spi)
    }

    /// Where the SA of an SPI is, if there is one.
    pub(super) fn place(&self, spi: Spi) -> Option<&Option<Sa>> {
        let (block, index) = within(spi.slot(), spi.index());
        self.blocks.get(self.index.get(block)?.as_ref()?)?.get(index)
    }

    /// Likewise, to be changed.
    fn place_mut(&mut self, slot: Slot, index: SaIndex) -> Option<&mut Option<Sa>> {
        let (block, index) = within(slot, index);
        let block = self.index.get(block)?.as_ref()?;
        self.blocks.get_mut(block)?.get_mut(index)
    }

    /// The SA with this very SPI.
    pub(crate) fn get_mut(&mut self, spi: Spi) -> Option<&mut Sa> {
        let sa = self.place_mut(spi.slot(), spi.index())?.as_mut()?;
        (sa.spi == spi).then_some(sa)
    }

    /// The SA with this very SPI and its keys, which are prepared if they were not needed yet. `None` when there is no such SA or its keys cannot be had.
    pub(super) fn with_keys(&mut self, spi: Spi, worker: &SlotWorker) -> Option<(&mut Sa, &mut Keys)> {
        let (block, index) = within(spi.slot(), spi.index());
        let block = self.blocks.get_mut(self.index.get(block)?.as_ref()?)?;
        let sa = block.get_mut(index)?.as_mut().filter(|sa| sa.spi == spi)?;
        if sa.keys.is_none() {
            let place = self.keys.place()?;
            match prepare(spi, worker).zip(self.keys.get_mut(&place)) {
                Some((keys, room)) => *room = keys,
                None => {
                    self.keys.give_back(place);
                    return None;
                }
            }
            sa.keys = Some(place);
        }
        let keys = self.keys.get_mut(sa.keys.as_ref()?)?;
        Some((sa, keys))
    }

    /// How many indices there are places for in the slot that has most.
    pub(crate) fn size(&self) -> usize {
        self.index.len() / SLOTS * BLOCK
    }

    /// The SA with this index of a slot.
    pub(crate) fn at_mut(&mut self, slot: Slot, index: SaIndex) -> Option<&mut Sa> {
        self.place_mut(slot, index)?.as_mut()
    }

    /// Makes sure that [`towards`](Self::towards) finds what there is. The first time costs a look at every SA, and memory for each from then on: most nodes never
    /// hear of a narrow path.
    pub(crate) fn index_peers(&mut self) {
        if self.peers.is_none() {
            let blocks = self.index.iter().flatten();
            let sas = blocks
                .filter_map(|place| self.blocks.get(place))
                .flatten()
                .flatten();
            self.peers = Some(sas.map(peer).collect());
        }
    }

    /// The SAs whose packets go there; only those with the peer's SPI if it is given. None as long as nothing was learned of any path.
    pub(crate) fn towards(
        &self,
        destination: SocketAddr,
        outbound_spi: Option<u32>,
    ) -> impl Iterator<Item = Spi> {
        let first = (destination, outbound_spi.unwrap_or(0), 0);
        let last = (destination, outbound_spi.unwrap_or(u32::MAX), u32::MAX);
        let found = self.peers.iter().flat_map(move |peers| peers.range(first..=last));
        found.filter_map(|(.., spi)| Spi::from_u32(*spi))
    }

    /// The peer of an SA is somewhere else.
    pub(crate) fn move_peer(&mut self, spi: Spi, address: SocketAddr) {
        let Some(sa) = self.get_mut(spi) else { return };
        let before = peer(sa);
        sa.peer = address;
        let after = peer(sa);
        if let Some(peers) = &mut self.peers {
            peers.remove(&before);
            peers.insert(after);
        }
    }

    /// Takes an SA in, in place of the one with its index.
    pub(super) fn insert(&mut self, sa: Sa) {
        let (slot, index) = (sa.spi.slot(), sa.spi.index());
        self.remove(slot, index);
        if self.make_room(slot, index).is_none() {
            return tracing::error!("child SA {}: no memory", sa.spi);
        }
        if let Some(peers) = &mut self.peers {
            peers.insert(peer(&sa));
        }
        if let Some(place) = self.place_mut(slot, index) {
            *place = Some(sa);
        }
        if let Some(count) = self.counts.get_mut(usize::from(slot.number())) {
            *count += 1;
        }
    }

    /// Makes sure that there is a place for an index.
    fn make_room(&mut self, slot: Slot, index: SaIndex) -> Option<()> {
        let (block, _) = within(slot, index);
        if self.index.len() <= block {
            self.index
                .resize_with((block + 1).next_multiple_of(SLOTS), || None);
        }
        let place = self.index.get_mut(block)?;
        if place.is_none() {
            *place = self.blocks.place();
        }
        place.is_some().then_some(())
    }

    /// Takes an SA out; its keys are gone.
    pub(super) fn remove(&mut self, slot: Slot, index: SaIndex) -> Option<Sa> {
        let mut old = self.place_mut(slot, index)?.take()?;
        if let Some(keys) = old.keys.take() {
            self.keys.give_back(keys);
        }
        if let Some(count) = self.counts.get_mut(usize::from(slot.number())) {
            *count -= 1;
        }
        if let Some(peers) = &mut self.peers {
            peers.remove(&peer(&old));
        }
        Some(old)
    }

    /// Gives back the memory of a slot whose SAs are all gone.
    pub(super) fn free(&mut self, slot: Slot) {
        let places = self.index.iter_mut().skip(slot.number().into()).step_by(SLOTS);
        for place in places.filter_map(Option::take) {
            self.blocks.give_back(place);
        }
    }
}

/// Where the place of an SA's block stands in the index, and where in the block the SA is.
fn within(slot: Slot, index: SaIndex) -> (usize, usize) {
    let index = usize::from(index.number());
    (index / BLOCK * SLOTS + usize::from(slot.number()), index % BLOCK)
}

/// Prepares the keys of an SA from its record; `None` when the record is gone or cannot be used.
fn prepare(spi: Spi, worker: &SlotWorker) -> Option<Keys> {
    match worker.find(spi) {
        Ok(Some(record)) => match Keys::new(&record) {
            Ok(keys) => Some(keys),
            Err(error) => {
                tracing::warn!("child SA {spi}: {error}");
                None
            }
        },
        // Removed, or just being written: the next look at the change log tells.
        Ok(None) | Err(_) => None,
    }
}

/// An SA as [`Entries::towards`] finds it.
fn peer(sa: &Sa) -> (SocketAddr, u32, u32) {
    (sa.destination(), sa.outbound_spi, sa.spi.to_u32())
}

//! The table of IKE SAs: our SPI says where one is.

use std::collections::VecDeque;

use crypto::Random;

use crate::output::IkeSaId;
use crate::sa::IkeSa;

/// Indexes of one slot: 24 bits of the SPI.
const MAX_INDEX: usize = 1 << 24;
/// A free index waits until this many others are free, so that an SPI does not come back at once.
const MIN_FREE: usize = 64;

/// For so many peers there may be one more IKE SA, while they are rekeyed.
const REKEY_SHARE: u32 = 16;

/// Every IKE SA of the engine. Finding one is an array access and a comparison of all 64 bits.
pub(crate) struct Table {
    slots: Vec<SlotTable>,
    /// Position in `slots` by slot number.
    positions: Box<[Option<u8>; 256]>,
    next: usize,
    count: u32,
    max: u32,
}

struct SlotTable {
    slot: u8,
    entries: Vec<Entry>,
    free: VecDeque<usize>,
}

/// An SPI that is given out, and its IKE SA unless that is being worked on.
struct Entry {
    id: Option<IkeSaId>,
    sa: Option<Box<IkeSa>>,
}

impl Table {
    /// A table for these slots; 0 and doubles are left out.
    pub fn new(slots: &[u8], max: u32) -> Self {
        let mut table = Self {
            slots: Vec::new(),
            positions: Box::new([None; 256]),
            next: 0,
            count: 0,
            max,
        };
        for &slot in slots {
            let position = u8::try_from(table.slots.len()).ok();
            match table.positions.get_mut(usize::from(slot)) {
                Some(place) if slot != 0 && place.is_none() => *place = position,
                _ => continue,
            }
            table.slots.push(SlotTable {
                slot,
                entries: Vec::new(),
                free: VecDeque::new(),
            });
        }
        table
    }

    /// True if the slot of this SPI is ours.
    pub fn is_ours(&self, id: IkeSaId) -> bool {
        self.position(id.slot()).is_some()
    }

    /// True if there is no room for another peer.
    pub fn is_full(&self) -> bool {
        self.count >= self.max || self.slots.is_empty()
    }

    /// Gives out an SPI for a new peer, in the slot after the last one's; `None` when there is no room.
    pub fn reserve(&mut self, random: &mut dyn Random) -> Option<IkeSaId> {
        if self.is_full() {
            return None;
        }
        self.next = (self.next + 1) % self.slots.len();
        self.reserve_at(self.next, random)
    }

    /// Gives out an SPI in this slot, for an IKE SA that replaces another; there is room that new peers cannot take.
    pub fn reserve_for_rekey(&mut self, slot: u8, random: &mut dyn Random) -> Option<IkeSaId> {
        if self.count >= self.max.saturating_add(self.max / REKEY_SHARE).saturating_add(1) {
            return None;
        }
        self.reserve_at(self.position(slot)?, random)
    }

    fn reserve_at(&mut self, position: usize, random: &mut dyn Random) -> Option<IkeSaId> {
        let table = self.slots.get_mut(position)?;
        let id = table.reserve(random)?;
        self.count += 1;
        Some(id)
    }

    /// Gives an SPI back.
    pub fn release(&mut self, id: IkeSaId) {
        let Some(entry) = self.entry_mut(id) else { return };
        entry.id = None;
        entry.sa = None;
        self.count = self.count.saturating_sub(1);
        if let Some(table) = self.position(id.slot()).and_then(|at| self.slots.get_mut(at)) {
            table.free.push_back(id.index());
        }
    }

    /// Takes an IKE SA out, to work on it. Bring it back with [`Table::put`], or release its SPI.
    pub fn take(&mut self, id: IkeSaId) -> Option<Box<IkeSa>> {
        self.entry_mut(id)?.sa.take()
    }

    /// Puts an IKE SA under its SPI, which must be reserved.
    pub fn put(&mut self, sa: Box<IkeSa>) {
        if let Some(entry) = self.entry_mut(sa.id) {
            entry.sa = Some(sa);
        }
    }

    /// Looks at an IKE SA.
    pub fn get(&self, id: IkeSaId) -> Option<&IkeSa> {
        let table = self.slots.get(self.position(id.slot())?)?;
        let entry = table.entries.get(id.index())?;
        (entry.id == Some(id)).then_some(entry.sa.as_deref()?)
    }

    /// The first IKE SA from this place on, and the place after it.
    pub fn next_from(&self, mut slot: usize, mut index: usize) -> Option<(&IkeSa, usize, usize)> {
        while let Some(table) = self.slots.get(slot) {
            while let Some(entry) = table.entries.get(index) {
                index += 1;
                if let Some(sa) = &entry.sa {
                    return Some((sa, slot, index));
                }
            }
            slot += 1;
            index = 0;
        }
        None
    }

    fn position(&self, slot: u8) -> Option<usize> {
        self.positions.get(usize::from(slot))?.map(usize::from)
    }

    fn entry_mut(&mut self, id: IkeSaId) -> Option<&mut Entry> {
        let position = self.position(id.slot())?;
        let entry = self.slots.get_mut(position)?.entries.get_mut(id.index())?;
        (entry.id == Some(id)).then_some(entry)
    }
}

impl SlotTable {
    fn reserve(&mut self, random: &mut dyn Random) -> Option<IkeSaId> {
        let index = if self.free.len() > MIN_FREE || self.entries.len() >= MAX_INDEX {
            self.free.pop_front()?
        } else {
            self.entries.push(Entry { id: None, sa: None });
            self.entries.len() - 1
        };
        let [_, a, b, c] = u32::try_from(index).ok()?.to_be_bytes();
        let [d, e, f, g] = random.array::<4>();
        let id = IkeSaId(u64::from_be_bytes([self.slot, a, b, c, d, e, f, g]));
        self.entries.get_mut(index)?.id = Some(id);
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use crypto::TestRandom;

    use super::*;

    #[test]
    fn an_spi_carries_its_slot_and_index_and_is_checked_whole() {
        let mut random = TestRandom::new(1);
        let mut table = Table::new(&[7, 9, 7, 0], 10);
        let first = table.reserve_for_rekey(9, &mut random).unwrap();
        let second = table.reserve_for_rekey(9, &mut random).unwrap();
        assert_eq!((first.slot(), first.index()), (9, 0));
        assert_eq!((second.slot(), second.index()), (9, 1));
        assert!(table.is_ours(first));
        assert!(!table.is_ours(IkeSaId(0)));
        assert!(table.entry_mut(IkeSaId(first.0 ^ 1)).is_none());
        assert!(table.reserve_for_rekey(8, &mut random).is_none());
    }

    #[test]
    fn a_released_spi_is_dead_and_the_limit_holds() {
        let mut random = TestRandom::new(1);
        let mut table = Table::new(&[1, 2], 2);
        let first = table.reserve(&mut random).unwrap();
        let second = table.reserve(&mut random).unwrap();
        assert_ne!(first.slot(), second.slot(), "new IKE SAs go round the slots");
        assert!(table.reserve(&mut random).is_none());
        let rekeyed = table.reserve_for_rekey(1, &mut random).unwrap();
        assert!(table.reserve_for_rekey(1, &mut random).is_none(), "bounded too");
        table.release(rekeyed);
        table.release(first);
        table.release(first);
        assert_eq!(table.count, 1);
        assert!(table.entry_mut(first).is_none());
        assert!(table.reserve(&mut random).is_some());
    }
}

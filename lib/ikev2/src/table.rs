//! The table of IKE SAs: our SPI says where one is.

use std::collections::VecDeque;
use std::num::NonZeroU64;

use crypto::Random;

use crate::output::IkeSaId;
use crate::sa::{IkeSa, Rest};

/// Indexes of one slot: 24 bits of the SPI.
const MAX_INDEX: usize = 1 << 24;
/// A free index waits until this many others are free, so that an SPI does not come back at once.
const MIN_FREE: usize = 64;

/// An earlier life may have had indexes up to this one, whatever the limit is now.
const MIN_INDEXES: usize = 1 << 17;

/// For so many peers there may be one more IKE SA, while they are rekeyed.
const REKEY_SHARE: u32 = 16;

/// Every IKE SA of the engine. Finding one is an array access and a comparison of all 64 bits.
pub(crate) struct Table {
    /// In ascending order.
    slots: Vec<SlotTable>,
    /// Position in `slots` by slot number.
    positions: Box<[Option<u8>; 256]>,
    next: usize,
    count: u32,
    max: u32,
    resting: u32,
}

struct SlotTable {
    slot: u8,
    entries: Vec<Entry>,
    free: VecDeque<usize>,
    /// There is no room for the records of new peers.
    crowded: bool,
}

/// An SPI, and what it stands for. One that is not given out is 0.
struct Entry {
    id: IkeSaId,
    content: Content,
}

enum Content {
    /// The SPI is not given out.
    Free,
    /// It is, for an IKE SA to be.
    Reserved,
    /// Its IKE SA is being worked on.
    InHand,
    Here(Box<IkeSa>),
    /// Its record is all there is of it.
    Resting(Box<Rest>),
    /// The IKE SA of an earlier life, not restored yet, and the SPI that is reserved for one in its place.
    Parked(Option<NonZeroU64>),
}

/// An IKE SA that was taken out.
pub(crate) enum Taken {
    Awake(Box<IkeSa>),
    Resting(Box<Rest>),
}

/// An IKE SA that is there.
#[derive(Clone, Copy)]
pub(crate) enum Found<'a> {
    Awake(&'a IkeSa),
    Resting(&'a Rest),
}

impl Content {
    fn found(&self) -> Option<Found<'_>> {
        match self {
            Content::Here(sa) => Some(Found::Awake(sa)),
            Content::Resting(rest) => Some(Found::Resting(rest)),
            _ => None,
        }
    }
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
            resting: 0,
        };
        for &slot in slots {
            table.add_slot(slot);
        }
        table
    }

    /// Another slot is ours, without IKE SAs.
    pub fn add_slot(&mut self, slot: u8) {
        if slot == 0 || self.position(slot).is_some() {
            return;
        }
        let at = self.slots.partition_point(|table| table.slot < slot);
        let table = SlotTable {
            slot,
            entries: Vec::new(),
            free: VecDeque::new(),
            crowded: false,
        };
        self.slots.insert(at, table);
        self.note_positions();
    }

    /// A slot is ours no longer: forgets all that stands in it. Gives the IKE SAs that were there.
    pub fn remove_slot(&mut self, slot: u8) -> Vec<Taken> {
        let Some(position) = self.position(slot) else {
            return Vec::new();
        };
        let table = self.slots.remove(position);
        self.note_positions();
        let mut there = Vec::new();
        for entry in table.entries {
            match entry.content {
                Content::Free => continue,
                Content::Here(sa) => there.push(Taken::Awake(sa)),
                Content::Resting(rest) => {
                    self.resting = self.resting.saturating_sub(1);
                    there.push(Taken::Resting(rest));
                }
                Content::Reserved | Content::InHand | Content::Parked(_) => {}
            }
            self.count = self.count.saturating_sub(1);
        }
        there
    }

    fn note_positions(&mut self) {
        self.positions.fill(None);
        for (position, table) in self.slots.iter().enumerate() {
            if let Some(place) = self.positions.get_mut(usize::from(table.slot)) {
                *place = u8::try_from(position).ok();
            }
        }
    }

    /// In which slots no new IKE SA is begun. False when that is all of them.
    pub fn set_crowded(&mut self, is_crowded: &dyn Fn(u8) -> bool) -> bool {
        for table in &mut self.slots {
            table.crowded = is_crowded(table.slot);
        }
        self.slots.iter().any(|table| !table.crowded)
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
        for _ in 0..self.slots.len() {
            self.next = (self.next + 1) % self.slots.len();
            if self.slots.get(self.next).is_some_and(|table| !table.crowded) {
                return self.reserve_at(self.next, random);
            }
        }
        None
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

    /// How many SPIs are given out, by slot.
    pub fn counts(&self) -> impl Iterator<Item = (u8, usize)> {
        self.slots
            .iter()
            .map(|table| (table.slot, table.entries.len().saturating_sub(table.free.len())))
    }

    /// How many IKE SAs rest.
    pub fn resting(&self) -> u32 {
        self.resting
    }

    /// Gives an SPI back.
    pub fn release(&mut self, id: IkeSaId) {
        let Some(entry) = self.entry_mut(id) else { return };
        *entry = Entry::FREE;
        self.count = self.count.saturating_sub(1);
        if let Some(table) = self.position(id.slot()).and_then(|at| self.slots.get_mut(at)) {
            table.free.push_back(id.index());
        }
    }

    /// Takes an IKE SA out, to work on it. Bring it back with [`Table::put`], or release its SPI.
    pub fn take(&mut self, id: IkeSaId) -> Option<Taken> {
        let content = &mut self.entry_mut(id)?.content;
        match std::mem::replace(content, Content::InHand) {
            Content::Here(sa) => Some(Taken::Awake(sa)),
            Content::Resting(rest) => {
                self.resting = self.resting.saturating_sub(1);
                Some(Taken::Resting(rest))
            }
            other => {
                *content = other;
                None
            }
        }
    }

    /// Puts an IKE SA under its SPI, which must be reserved.
    pub fn put(&mut self, sa: Box<IkeSa>) {
        if let Some(entry) = self.entry_mut(sa.id) {
            entry.content = Content::Here(sa);
        }
    }

    /// From now on its record is all there is of an IKE SA.
    pub fn rest(&mut self, id: IkeSaId, rest: Rest) {
        if let Some(entry) = self.entry_mut(id) {
            entry.content = Content::Resting(Box::new(rest));
            self.resting += 1;
        }
    }

    /// Parks the IKE SA of an earlier life, with the SPI that is reserved for one in its place. False if one of the SPIs cannot be had.
    pub fn park(&mut self, id: IkeSaId, offered: Option<IkeSaId>) -> bool {
        if !self.occupy(id, Content::Parked(offered.and_then(|id| NonZeroU64::new(id.0)))) {
            return false;
        }
        let fits = offered
            .is_none_or(|offered| offered.slot() == id.slot() && self.occupy(offered, Content::Reserved));
        if !fits {
            self.release(id);
        }
        fits
    }

    /// The IKE SA of a parked SPI is there: bring it with [`Table::put`].
    pub fn unpark(&mut self, id: IkeSaId) {
        if let Some(entry) = self.entry_mut(id)
            && let Content::Parked(_) = entry.content
        {
            entry.content = Content::InHand;
        }
    }

    /// True if the IKE SA of this SPI is of an earlier life and not restored yet.
    pub fn is_parked(&self, id: IkeSaId) -> bool {
        matches!(self.content(id), Some(Content::Parked(_)))
    }

    /// The SPI that is reserved for an IKE SA in place of this parked one.
    pub fn offered_of(&self, id: IkeSaId) -> Option<IkeSaId> {
        match self.content(id)? {
            Content::Parked(offered) => offered.map(|id| IkeSaId(id.get())),
            _ => None,
        }
    }

    /// True if the SPI stands for an IKE SA.
    pub fn exists(&self, id: IkeSaId) -> bool {
        !matches!(self.content(id), None | Some(Content::Free | Content::Reserved))
    }

    /// Takes this SPI, if nobody has its index.
    fn occupy(&mut self, id: IkeSaId, content: Content) -> bool {
        let position = self.position(id.slot());
        let Some(table) = position.and_then(|at| self.slots.get_mut(at)) else {
            return false;
        };
        let index = id.index();
        let most = self.max.saturating_add(self.max / REKEY_SHARE) as usize + MIN_FREE;
        if index > most.max(MIN_INDEXES) {
            return false;
        }
        while table.entries.len() <= index {
            table.free.push_back(table.entries.len());
            table.entries.push(Entry::FREE);
        }
        match table.entries.get_mut(index) {
            Some(
                entry @ Entry {
                    content: Content::Free,
                    ..
                },
            ) => *entry = Entry { id, content },
            _ => return false,
        }
        self.count += 1;
        true
    }

    /// What there is of an IKE SA.
    pub fn find(&self, id: IkeSaId) -> Option<Found<'_>> {
        self.content(id)?.found()
    }

    /// Looks at an IKE SA that does not rest.
    pub fn get(&self, id: IkeSaId) -> Option<&IkeSa> {
        match self.content(id)? {
            Content::Here(sa) => Some(sa),
            _ => None,
        }
    }

    /// The same, to write down something about it.
    pub fn get_mut(&mut self, id: IkeSaId) -> Option<&mut IkeSa> {
        match &mut self.entry_mut(id)?.content {
            Content::Here(sa) => Some(sa),
            _ => None,
        }
    }

    /// The first IKE SA from this place on, and the place after it.
    pub fn next_from(&self, slot: u8, mut index: usize) -> Option<(IkeSaId, Found<'_>, u8, usize)> {
        let at = self.slots.partition_point(|table| table.slot < slot);
        for table in self.slots.iter().skip(at) {
            if table.slot != slot {
                index = 0;
            }
            while let Some(entry) = table.entries.get(index) {
                index += 1;
                if let Some(found) = entry.content.found() {
                    return Some((entry.id, found, table.slot, index));
                }
            }
        }
        None
    }

    fn position(&self, slot: u8) -> Option<usize> {
        self.positions.get(usize::from(slot))?.map(usize::from)
    }

    fn content(&self, id: IkeSaId) -> Option<&Content> {
        let table = self.slots.get(self.position(id.slot())?)?;
        let entry = table.entries.get(id.index())?;
        (entry.id == id).then_some(&entry.content)
    }

    fn entry_mut(&mut self, id: IkeSaId) -> Option<&mut Entry> {
        let position = self.position(id.slot())?;
        let entry = self.slots.get_mut(position)?.entries.get_mut(id.index())?;
        (entry.id == id).then_some(entry)
    }
}

impl SlotTable {
    fn reserve(&mut self, random: &mut dyn Random) -> Option<IkeSaId> {
        let index = self.free_index()?;
        let [_, a, b, c] = u32::try_from(index).ok()?.to_be_bytes();
        let [d, e, f, g] = random.array::<4>();
        let id = IkeSaId(u64::from_be_bytes([self.slot, a, b, c, d, e, f, g]));
        *self.entries.get_mut(index)? = Entry {
            id,
            content: Content::Reserved,
        };
        Some(id)
    }

    fn free_index(&mut self) -> Option<usize> {
        while self.free.len() > MIN_FREE || self.entries.len() >= MAX_INDEX {
            let index = self.free.pop_front()?;
            // One that was taken for an earlier life stays in the list until then.
            if matches!(self.entries.get(index)?.content, Content::Free) {
                return Some(index);
            }
        }
        self.entries.push(Entry::FREE);
        Some(self.entries.len() - 1)
    }
}

impl Entry {
    const FREE: Self = Self {
        id: IkeSaId(0),
        content: Content::Free,
    };
}

#[cfg(test)]
mod tests;

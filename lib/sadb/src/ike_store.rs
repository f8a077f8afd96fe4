//! The records of a slot's IKE SAs: what `ipsecmgr` needs to go on after its own death. Secret, and for it alone.
//!
//! A record lies in a chain of chunks, and a head says where the chain of an IKE SA (by its index) begins. Nothing is ever changed in place: [`IkeStore::stage`] writes into
//! chunks that nobody refers to, [`IkeStore::commit`] writes all new heads into a journal, declares it valid by one store, sets the heads, declares it done, and zeroes what
//! was there before. A successor finishes a valid journal and zeroes every chunk that no head leads to: it finds all that was staged, or nothing of it.

use std::collections::HashMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use zeroize::Zeroizing;

use crate::layout::{
    CHUNK_BYTES, CHUNK_WORDS, HEADS_AT, Header, JOURNAL_AT, JOURNAL_HEADER_WORDS, Kind, Shape, chunks, heads,
};
use crate::map::{Access, Mapping};
use crate::word::store;
use crate::{Error, IkeSpi, Slot, segment};

mod adopt;
mod chunks;
#[cfg(test)]
mod tests;

use chunks::Chunks;

/// Words of a record in its first chunk, after the link, the SPI and the check word, and in every other.
const FIRST_WORDS: usize = CHUNK_WORDS - 3;
const OTHER_WORDS: usize = CHUNK_WORDS - 1;
/// The longest record: the messages of a set-up with long certificate chains.
const LONGEST: usize = 128 * 1024;
/// Half-open IKE SAs, which anybody may begin, get one of so many chunks and heads.
const HALF_OPEN_SHARE: usize = 4;
/// Marks a half-open one, in the length.
const HALF_OPEN: u32 = 1 << 31;

/// Reads and writes the records. One per slot, in the slot's `ipsecmgr`.
#[derive(Debug)]
pub struct IkeStore {
    shape: Shape,
    mapping: Mapping,
    chunks: Chunks,
    staged: HashMap<u32, Staged>,
    usage: IkeStoreUsage,
    lost: usize,
}

/// How full a store is, or several together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IkeStoreUsage {
    /// IKE SAs with a record.
    pub records: usize,
    /// Those that are half-open.
    pub half_open: usize,
    /// Bytes of all records, as they lie in chunks.
    pub bytes: usize,
    /// Bytes of the half-open ones.
    pub half_open_bytes: usize,
}

/// A head to be set with the next commit.
#[derive(Debug, Clone, Copy)]
struct Staged {
    id: IkeSpi,
    head: u32,
}

/// The first word of a chain: where it goes on, how long the record is.
#[derive(Debug, Clone, Copy)]
struct Link {
    next: u32,
    length: u32,
}

impl IkeStore {
    /// Maps the segment, and puts in order what a predecessor left: see the module's description.
    pub fn map(fd: &OwnedFd) -> Result<Self, Error> {
        let (mapping, shape) = segment::map(fd.as_fd(), Kind::Ike, Access::ReadWrite)?;
        let mut store = Self {
            shape,
            mapping,
            chunks: Chunks::new(chunks(shape.capacity)),
            staged: HashMap::new(),
            usage: IkeStoreUsage::default(),
            lost: 0,
        };
        store.adopt()?;
        Ok(store)
    }

    /// The slot.
    pub fn slot(&self) -> Slot {
        self.shape.slot
    }

    /// How many IKE SAs can have a record: those with an index below this.
    pub fn capacity(&self) -> usize {
        heads(self.shape.capacity) - 1
    }

    /// A name, which no IKE SA has, for a record of the owner itself.
    pub fn own(&self) -> Result<IkeSpi, Error> {
        let index = u32::try_from(self.capacity()).unwrap_or(u32::MAX);
        IkeSpi::new(self.shape.slot, index, 0).ok_or(damaged("capacity"))
    }

    /// Records that were found damaged when the segment was mapped, and are gone.
    pub fn lost(&self) -> usize {
        self.lost
    }

    /// How full it is, as of the last commit.
    pub fn usage(&self) -> IkeStoreUsage {
        self.usage
    }

    /// Whether another half-open IKE SA may be begun: they get a quarter of the room only.
    pub fn has_room_for_half_open(&self) -> bool {
        self.fits_half_open(0, (0, 0))
    }

    /// Has `record` stand for the IKE SA `id` from the next [`commit`](Self::commit) on. False when there is no room: then none will.
    pub fn stage(&mut self, id: IkeSpi, record: &[u8], half_open: bool) -> Result<bool, Error> {
        let index = self.index(id)?;
        self.discard_staged(index);
        let head = if half_open && !self.fits_half_open(record.len(), self.half_open_at(index)?) {
            None
        } else {
            self.write(id, record, half_open)?
        };
        let staged = Staged {
            id,
            head: head.unwrap_or(0),
        };
        self.staged.insert(index, staged);
        Ok(head.is_some())
    }

    /// Has no record stand for `id` from the next [`commit`](Self::commit) on.
    pub fn stage_removal(&mut self, id: IkeSpi) -> Result<(), Error> {
        let index = self.index(id)?;
        // An IKE SA that has the index meanwhile is another one.
        let present = match self.staged.get(&index) {
            Some(staged) => Some(staged.id),
            None => self.id_at(self.head(index)?)?,
        };
        if present == Some(id) {
            self.discard_staged(index);
            self.staged.insert(index, Staged { id, head: 0 });
        }
        Ok(())
    }

    /// Makes everything staged the truth, all at once.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.staged.is_empty() {
            return Ok(());
        }
        let changes: Vec<(u32, u32)> = self.staged.drain().map(|(index, s)| (index, s.head)).collect();
        let mut old = Vec::with_capacity(changes.len());
        for (index, head) in &changes {
            old.push(self.head(*index)?);
            self.account(*index, *head, true)?;
        }
        self.write_journal(&changes)?;
        self.apply(&changes)?;
        for ((index, _), head) in changes.iter().zip(old) {
            self.account(*index, head, false)?;
            self.release(head)?;
        }
        // Pages that the kernel does not take back cost memory, and nothing else.
        let _ = self.trim();
        Ok(())
    }

    /// The IKE SAs that have a record.
    pub fn ids(&self) -> Vec<IkeSpi> {
        let heads = (0..self.heads_used()).filter_map(|index| self.head(index).ok());
        let ids = heads.filter_map(|head| self.id_at(head).ok().flatten());
        ids.filter(|id| (id.index() as usize) < self.capacity()).collect()
    }

    /// Appends the committed record of an IKE SA to `into`. False, and nothing appended, when there is none.
    pub fn read(&self, id: IkeSpi, into: &mut Vec<u8>) -> Result<bool, Error> {
        let head = self.head(self.index(id)?)?;
        if self.id_at(head)? != Some(id) {
            return Ok(false);
        }
        let length = self.link(head)?.bytes();
        let end = into.len() + length;
        into.reserve(length.next_multiple_of(8));
        let mut at = head;
        let mut words = self.chunk(at)?.get(3..).unwrap_or(&[]);
        loop {
            for word in words {
                into.extend_from_slice(&word.load(Ordering::Relaxed).to_le_bytes());
                if into.len() >= end {
                    into.truncate(end);
                    return Ok(true);
                }
            }
            at = self.link(at)?.next;
            words = self.chunk(at)?.get(1..).unwrap_or(&[]);
        }
    }

    /// Removes every record of an IKE SA; returns how many there were.
    pub fn clear(&mut self) -> Result<usize, Error> {
        let ids = self.ids();
        for id in &ids {
            self.stage_removal(*id)?;
        }
        self.commit()?;
        Ok(ids.len())
    }

    /// Writes a record into free chunks; `None` when there are not enough.
    fn write(&mut self, id: IkeSpi, record: &[u8], half_open: bool) -> Result<Option<u32>, Error> {
        let flag = if half_open { HALF_OPEN } else { 0 };
        let length = match u32::try_from(record.len()) {
            Ok(length) if record.len() <= LONGEST => length | flag,
            _ => return Ok(None),
        };
        let Some(places) = self.chunks.take(chunks_of(record.len())) else {
            return Ok(None);
        };
        // Before anything is in them, so that a successor looks at them.
        let end = places.iter().max().map_or(0, |last| u64::from(*last) + 1);
        let high_water = &self.header()?.high_water;
        if end > high_water.load(Ordering::Relaxed) {
            store(high_water, end);
        }
        let mut words = Words(record);
        let mut next = places.iter().skip(1);
        let mut check = Check::new(id, length);
        for (nth, place) in places.iter().enumerate() {
            let link = Link {
                next: next.next().copied().unwrap_or(0),
                length: if nth == 0 { length } else { 0 },
            };
            let chunk = self.chunk(*place)?;
            let from = if nth == 0 { 3 } else { 1 };
            if let Some(word) = chunk.first() {
                store(word, link.word());
            }
            for (word, value) in chunk.get(from..).unwrap_or(&[]).iter().zip(&mut words) {
                store(word, value);
                check.add(value);
            }
        }
        let head = places.first().copied().unwrap_or(0);
        if let [_, spi, sum, ..] = self.chunk(head)? {
            store(spi, id.to_u64());
            store(sum, check.0);
        }
        Ok(Some(head))
    }

    fn write_journal(&self, changes: &[(u32, u32)]) -> Result<(), Error> {
        let header = self.header()?;
        let end = changes.iter().map(|(index, _)| u64::from(*index) + 1).max();
        if let Some(end) = end.filter(|end| *end > header.heads_high_water.load(Ordering::Relaxed)) {
            store(&header.heads_high_water, end);
        }
        let words = self.journal();
        let (about, entries) = words.split_at_checked(JOURNAL_HEADER_WORDS).unwrap_or_default();
        let mut check = Check(0);
        for (word, (index, head)) in entries.iter().zip(changes) {
            let value = u64::from(*index) << 32 | u64::from(*head);
            store(word, value);
            check.add(value);
        }
        if let [count, sum] = about {
            store(count, changes.len() as u64);
            store(sum, check.0);
        }
        std::sync::atomic::fence(Ordering::SeqCst);
        store(&header.journal_valid, 1);
        std::sync::atomic::fence(Ordering::SeqCst);
        Ok(())
    }

    /// Sets heads, and declares the journal done.
    fn apply(&self, changes: &[(u32, u32)]) -> Result<(), Error> {
        let words = self.heads();
        for (index, head) in changes {
            let word = words.get(*index as usize).ok_or(damaged("head"))?;
            store(word, (*head).into());
        }
        std::sync::atomic::fence(Ordering::SeqCst);
        store(&self.header()?.journal_valid, 0);
        Ok(())
    }

    /// Zeroes a chain that no head leads to any more, and frees its chunks.
    fn release(&mut self, head: u32) -> Result<(), Error> {
        let mut at = head;
        while at != 0 {
            let next = self.link(at)?.next;
            wipe(self.chunk(at)?);
            self.chunks.give_back(at);
            at = next;
        }
        Ok(())
    }

    fn discard_staged(&mut self, index: u32) {
        if let Some(staged) = self.staged.remove(&index) {
            // Cannot fail: the chain was written by this process.
            let _ = self.release(staged.head);
        }
    }

    /// Adds the chain of an IKE SA to what is used, or takes it away.
    fn account(&mut self, index: u32, head: u32, add: bool) -> Result<(), Error> {
        if head == 0 || index as usize >= self.capacity() {
            return Ok(());
        }
        let link = self.link(head)?;
        let bytes = chunks_of(link.bytes()) * CHUNK_BYTES;
        let usage = &mut self.usage;
        let change = |records: &mut usize, total: &mut usize| {
            if add {
                *records += 1;
                *total += bytes;
            } else {
                *records = records.saturating_sub(1);
                *total = total.saturating_sub(bytes);
            }
        };
        change(&mut usage.records, &mut usage.bytes);
        if link.is_half_open() {
            change(&mut usage.half_open, &mut usage.half_open_bytes);
        }
        Ok(())
    }

    /// Whether there is room for a half-open one of `length` octets, in place of those that are `gone`: how many, and their octets.
    fn fits_half_open(&self, length: usize, gone: (usize, usize)) -> bool {
        let bytes = chunks(self.shape.capacity) * CHUNK_BYTES / HALF_OPEN_SHARE;
        let count = self.capacity() / HALF_OPEN_SHARE;
        let used = self.usage.half_open.saturating_sub(gone.0);
        let used_bytes = self.usage.half_open_bytes.saturating_sub(gone.1);
        used < count && used_bytes + length <= bytes
    }

    /// What the record that an index has counts as half-open one: how many, and its octets.
    fn half_open_at(&self, index: u32) -> Result<(usize, usize), Error> {
        let head = self.head(index)?;
        if head == 0 {
            return Ok((0, 0));
        }
        let link = self.link(head)?;
        let bytes = chunks_of(link.bytes()) * CHUNK_BYTES;
        Ok(if link.is_half_open() { (1, bytes) } else { (0, 0) })
    }

    /// Gives the kernel back the pages beyond the last one in use, when that is worth while.
    fn trim(&mut self) -> Result<(), Error> {
        let Some(freed) = self.chunks.trim() else {
            return Ok(());
        };
        store(&self.header()?.high_water, freed.start as u64);
        let at = Kind::Ike.records_at() + freed.start * CHUNK_BYTES;
        self.mapping.give_back(at, freed.len() * CHUNK_BYTES)
    }

    /// The index of an IKE SA of this slot.
    fn index(&self, id: IkeSpi) -> Result<u32, Error> {
        if id.slot() == self.shape.slot && (id.index() as usize) < heads(self.shape.capacity) {
            Ok(id.index())
        } else {
            Err(Error::Invalid {
                field: "IKE SPI",
                expected: "one of this slot whose index has a head",
            })
        }
    }

    /// The IKE SA whose chain begins here, `None` for none.
    fn id_at(&self, head: u32) -> Result<Option<IkeSpi>, Error> {
        if head == 0 {
            return Ok(None);
        }
        let word = self.chunk(head)?.get(1).ok_or(damaged("chunk"))?;
        Ok(IkeSpi::from_u64(word.load(Ordering::Relaxed)))
    }

    fn header(&self) -> Result<&Header, Error> {
        self.mapping.value(0).ok_or(damaged("header"))
    }

    fn heads(&self) -> &[AtomicU64] {
        self.mapping.slice(HEADS_AT, heads(self.shape.capacity))
    }

    fn heads_used(&self) -> u32 {
        let used = self
            .header()
            .map_or(0, |header| header.heads_high_water.load(Ordering::Relaxed));
        let most = heads(self.shape.capacity) as u64;
        u32::try_from(used.min(most)).unwrap_or(u32::MAX)
    }

    fn head(&self, index: u32) -> Result<u32, Error> {
        let word = self.heads().get(index as usize).ok_or(damaged("head"))?;
        u32::try_from(word.load(Ordering::Relaxed)).map_err(|_| damaged("head"))
    }

    fn journal(&self) -> &[AtomicU64] {
        let words = JOURNAL_HEADER_WORDS + heads(self.shape.capacity);
        self.mapping.slice(JOURNAL_AT, words)
    }

    fn chunk(&self, number: u32) -> Result<&[AtomicU64], Error> {
        let number = number as usize;
        if number == 0 || number >= chunks(self.shape.capacity) {
            return Err(damaged("chunk"));
        }
        let at = Kind::Ike.records_at() + number * CHUNK_BYTES;
        Ok(self.mapping.slice(at, CHUNK_WORDS))
    }

    fn link(&self, number: u32) -> Result<Link, Error> {
        let word = self.chunk(number)?.first().ok_or(damaged("chunk"))?;
        Ok(Link::from_word(word.load(Ordering::Relaxed)))
    }
}

impl Link {
    fn word(self) -> u64 {
        u64::from(self.length) << 32 | u64::from(self.next)
    }

    fn from_word(word: u64) -> Self {
        Self {
            next: word as u32,
            length: (word >> 32) as u32,
        }
    }

    /// Of the record.
    fn bytes(self) -> usize {
        (self.length & !HALF_OPEN) as usize
    }

    fn is_half_open(self) -> bool {
        self.length & HALF_OPEN != 0
    }
}

/// A check word over a record and whose it is: tells a record from what a wild write made of it, not from what an attacker did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Check(u64);

impl Check {
    fn new(id: IkeSpi, length: u32) -> Self {
        let mut check = Self(0);
        check.add(id.to_u64());
        check.add(length.into());
        check
    }

    fn add(&mut self, word: u64) {
        /// Odd, with bits all over: the golden ratio.
        const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(FACTOR);
    }
}

/// Bytes as words, the last one filled up with zeros.
struct Words<'a>(&'a [u8]);

impl Iterator for Words<'_> {
    type Item = u64;

    fn next(&mut self) -> Option<u64> {
        if let Some((word, rest)) = self.0.split_first_chunk() {
            self.0 = rest;
            return Some(u64::from_le_bytes(*word));
        }
        let last = std::mem::take(&mut self.0);
        let mut bytes = Zeroizing::new([0; 8]);
        bytes.get_mut(..last.len())?.copy_from_slice(last);
        (!last.is_empty()).then(|| u64::from_le_bytes(*bytes))
    }
}

/// How many chunks a record takes.
fn chunks_of(length: usize) -> usize {
    1 + length
        .div_ceil(8)
        .saturating_sub(FIRST_WORDS)
        .div_ceil(OTHER_WORDS)
}

fn wipe(chunk: &[AtomicU64]) {
    chunk.iter().for_each(|word| store(word, 0));
}

fn damaged(field: &'static str) -> Error {
    Error::Corrupt { field }
}

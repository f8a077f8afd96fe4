//! Putting in order what a predecessor left.

use std::sync::atomic::Ordering;

use super::{Check, IkeStore, LONGEST, chunks_of, damaged, wipe};
use crate::layout::{JOURNAL_HEADER_WORDS, chunks, heads};
use crate::word::store;
use crate::{Error, IkeSpi};

/// No chain has this chunk; it is the number after the last index.
const NOBODY: u32 = u32::MAX;

impl IkeStore {
    /// Finishes a commit that was declared valid, drops chains that are damaged, and zeroes all chunks that no chain has.
    pub(super) fn adopt(&mut self) -> Result<(), Error> {
        if self.header()?.journal_valid.load(Ordering::Acquire) != 0 {
            match self.read_journal() {
                Some(changes) => self.apply(&changes)?,
                None => {
                    self.lost += 1;
                    store(&self.header()?.journal_valid, 0);
                }
            }
        }
        let used = self.header()?.high_water.load(Ordering::Relaxed);
        let used = usize::try_from(used)
            .unwrap_or(usize::MAX)
            .min(chunks(self.shape.capacity));
        // By chunk: the index whose chain has it.
        let mut owners = vec![NOBODY; used];
        let mut damaged = Vec::new();
        for index in 0..self.heads_used() {
            match self.head(index) {
                Ok(0) => {}
                Ok(head) if self.is_whole(index, head) => {
                    self.claim(index, head, &mut owners, &mut damaged)?
                }
                _ => damaged.push(index),
            }
        }
        damaged.sort_unstable();
        damaged.dedup();
        self.lost += damaged.len();
        for index in &damaged {
            if let Some(word) = self.heads().get(*index as usize) {
                store(word, 0);
            }
        }
        for (number, owner) in owners.iter().enumerate().skip(1) {
            let number = u32::try_from(number).unwrap_or(0);
            if *owner != NOBODY && damaged.binary_search(owner).is_err() {
                self.chunks.occupy(number);
                continue;
            }
            let chunk = self.chunk(number)?;
            if chunk.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
                wipe(chunk);
            }
        }
        for index in 0..self.heads_used() {
            self.account(index, self.head(index)?, true)?;
        }
        Ok(())
    }

    /// The changes of the journal, `None` when it is damaged.
    fn read_journal(&self) -> Option<Vec<(u32, u32)>> {
        let (about, entries) = self.journal().split_at_checked(JOURNAL_HEADER_WORDS)?;
        let [count, sum] = about else { return None };
        let count = usize::try_from(count.load(Ordering::Relaxed)).ok()?;
        let mut check = Check(0);
        let mut changes = Vec::with_capacity(count.min(entries.len()));
        for word in entries.get(..count)? {
            let value = word.load(Ordering::Relaxed);
            check.add(value);
            changes.push(((value >> 32) as u32, value as u32));
        }
        let right = check.0 == sum.load(Ordering::Relaxed);
        let known = changes
            .iter()
            .all(|(index, _)| (*index as usize) < heads(self.shape.capacity));
        (right && known).then_some(changes)
    }

    /// Whether a chain is as it was written: right length, end and check word, and an IKE SA of this slot and index.
    fn is_whole(&self, index: u32, head: u32) -> bool {
        self.check(index, head).is_ok_and(|right| right)
    }

    fn check(&self, index: u32, head: u32) -> Result<bool, Error> {
        let link = self.link(head)?;
        let [_, spi, sum, ..] = self.chunk(head)? else {
            return Err(damaged("chunk"));
        };
        let (spi, sum) = (spi.load(Ordering::Relaxed), sum.load(Ordering::Relaxed));
        let Some(id) = IkeSpi::from_u64(spi).filter(|id| id.slot() == self.shape.slot && id.index() == index)
        else {
            return Ok(false);
        };
        if link.bytes() > LONGEST {
            return Ok(false);
        }
        let mut check = Check::new(id, link.length);
        let mut left = link.bytes().div_ceil(8);
        let (mut at, mut from) = (head, 3);
        for _ in 0..chunks_of(link.bytes()) {
            for word in self.chunk(at)?.iter().skip(from).take(left) {
                check.add(word.load(Ordering::Relaxed));
                left -= 1;
            }
            (at, from) = (self.link(at)?.next, 1);
        }
        Ok(at == 0 && left == 0 && check.0 == sum)
    }

    /// Notes whose the chunks of a chain are. A chunk that is in two chains makes both worthless.
    fn claim(&self, index: u32, head: u32, owners: &mut [u32], damaged: &mut Vec<u32>) -> Result<(), Error> {
        let mut at = head;
        while at != 0 {
            match owners.get_mut(at as usize) {
                Some(owner) if *owner == NOBODY => *owner = index,
                Some(owner) => damaged.extend([*owner, index]),
                None => damaged.push(index),
            }
            at = self.link(at)?.next;
        }
        Ok(())
    }
}

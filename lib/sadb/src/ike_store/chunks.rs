//! Which chunks of a store are free. The lowest are given out first, so that what a crowd needed comes to be free at the end.

use std::ops::Range;

/// Chunks of a page: one word of bits.
const IN_PAGE: usize = u32::BITS as usize;
/// Pages of one word of the overview.
const IN_OVERVIEW: usize = u64::BITS as usize;
/// Pages at the end that must be free before it is worth while to give them back.
const WORTH_WHILE: usize = 256;

/// All chunks but number 0, which stands for none.
#[derive(Debug)]
pub(super) struct Chunks {
    /// Set: free. By page, as far as pages were ever used.
    free: Vec<u32>,
    /// Set: the page has a free chunk.
    overview: Vec<u64>,
    most_pages: usize,
    count: usize,
}

impl Chunks {
    /// `chunks` of them, all free.
    pub fn new(chunks: usize) -> Self {
        Self {
            free: Vec::new(),
            overview: Vec::new(),
            most_pages: chunks / IN_PAGE,
            count: 0,
        }
    }

    /// How many are in use.
    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.count
    }

    /// Takes so many; `None` when there are not enough.
    pub fn take(&mut self, count: usize) -> Option<Vec<u32>> {
        let room = self.most_pages * IN_PAGE;
        if count >= room || self.count + count >= room {
            return None;
        }
        (0..count).map(|_| self.take_one()).collect()
    }

    /// Says that a chunk is in use: for those that a predecessor left.
    pub fn occupy(&mut self, chunk: u32) {
        let page = chunk as usize / IN_PAGE;
        while self.free.len() <= page {
            self.grow();
        }
        let bit = 1 << (chunk as usize % IN_PAGE);
        if let Some(bits) = self.free.get_mut(page)
            && *bits & bit != 0
        {
            *bits &= !bit;
            self.count += 1;
        }
        self.note(page);
    }

    /// Frees a chunk.
    pub fn give_back(&mut self, chunk: u32) {
        let page = chunk as usize / IN_PAGE;
        if let Some(bits) = self.free.get_mut(page) {
            *bits |= 1 << (chunk as usize % IN_PAGE);
            self.count = self.count.saturating_sub(1);
        }
        self.note(page);
    }

    /// Forgets the free pages at the end if they are many; returns their chunks.
    pub fn trim(&mut self) -> Option<Range<usize>> {
        let unused = self
            .free
            .iter()
            .rev()
            .take_while(|bits| **bits == u32::MAX)
            .count();
        if unused < WORTH_WHILE {
            return None;
        }
        let pages = self.free.len() - unused;
        self.free.truncate(pages);
        self.overview.truncate(pages.div_ceil(IN_OVERVIEW));
        let beyond = pages % IN_OVERVIEW;
        if beyond != 0
            && let Some(last) = self.overview.last_mut()
        {
            *last &= (1 << beyond) - 1;
        }
        Some(pages * IN_PAGE..(pages + unused) * IN_PAGE)
    }

    fn take_one(&mut self) -> Option<u32> {
        let word = match self.overview.iter().position(|pages| *pages != 0) {
            Some(word) => word,
            None => {
                self.grow();
                self.overview.len().checked_sub(1)?
            }
        };
        let page = word * IN_OVERVIEW + self.overview.get(word)?.trailing_zeros() as usize;
        let bits = self.free.get_mut(page)?;
        let bit = bits.trailing_zeros();
        *bits &= bits.wrapping_sub(1);
        self.count += 1;
        self.note(page);
        u32::try_from(page * IN_PAGE).ok().map(|first| first + bit)
    }

    fn grow(&mut self) {
        let page = self.free.len();
        self.free.push(if page == 0 { u32::MAX << 1 } else { u32::MAX });
        if page.is_multiple_of(IN_OVERVIEW) {
            self.overview.push(0);
        }
        self.note(page);
    }

    /// Brings the overview up to date.
    fn note(&mut self, page: usize) {
        let free = self.free.get(page).is_some_and(|bits| *bits != 0);
        if let Some(word) = self.overview.get_mut(page / IN_OVERVIEW) {
            let bit = 1 << (page % IN_OVERVIEW);
            *word = if free { *word | bit } else { *word & !bit };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn all_but_number_zero_are_given_out() {
        let mut chunks = Chunks::new(96);
        assert_eq!(chunks.take(96), None);
        let all = chunks.take(95).unwrap();
        assert_eq!(all, (1..96).collect::<Vec<_>>());
        assert_eq!(chunks.take(1), None);
        chunks.give_back(40);
        chunks.give_back(7);
        assert_eq!(chunks.take(3), None);
        assert_eq!(chunks.take(2), Some(vec![7, 40]), "the lowest first");
    }

    #[test]
    fn free_pages_at_the_end_are_forgotten_when_they_are_many() {
        let mut chunks = Chunks::new(32 * 1024);
        let all = chunks.take(31 + 300 * 32).unwrap();
        assert_eq!(chunks.trim(), None);
        all.iter().skip(40).for_each(|chunk| chunks.give_back(*chunk));
        assert_eq!(chunks.trim(), Some(64..64 + 299 * 32));
        assert_eq!(chunks.trim(), None);
        assert_eq!(chunks.take(24).unwrap().last(), Some(&64));
    }

    proptest! {
        #[test]
        fn no_chunk_is_given_out_twice(steps in proptest::collection::vec((any::<bool>(), 1usize..70), 1..200)) {
            let mut chunks = Chunks::new(2048);
            let mut used: Vec<u32> = Vec::new();
            for (take, count) in steps {
                if take {
                    let taken = chunks.take(count);
                    prop_assert_eq!(taken.is_some(), used.len() + count < 2048);
                    used.extend(taken.unwrap_or_default());
                } else {
                    for _ in 0..count.min(used.len()) {
                        chunks.give_back(used.swap_remove(count % used.len()));
                    }
                }
                let set: HashSet<_> = used.iter().collect();
                prop_assert!(set.len() == used.len() && !set.contains(&0));
                prop_assert!(used.iter().all(|chunk| *chunk < 2048));
            }
        }
    }
}

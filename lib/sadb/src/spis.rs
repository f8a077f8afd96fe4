//! The SPIs of a tunnel's child SAs.

use std::ops::Deref;

/// A few SPIs, in the order in which they came. There may be a million of these, nearly all with one SPI, which is kept in place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spis(Content);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    One(u32),
    /// None, or more than one.
    Others(Box<[u32]>),
}

impl Default for Content {
    fn default() -> Self {
        Self::Others(Box::default())
    }
}

impl Spis {
    /// Adds one at the end.
    pub fn push(&mut self, spi: u32) {
        *self = self.iter().copied().chain([spi]).collect();
    }

    /// Takes one out, if it is there.
    pub fn remove(&mut self, spi: u32) {
        *self = self.iter().copied().filter(|other| *other != spi).collect();
    }
}

impl Deref for Spis {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Content::One(spi) => std::slice::from_ref(spi),
            Content::Others(spis) => spis,
        }
    }
}

impl FromIterator<u32> for Spis {
    fn from_iter<I: IntoIterator<Item = u32>>(spis: I) -> Self {
        let mut spis = spis.into_iter();
        let content = match (spis.next(), spis.next()) {
            (None, _) => Content::default(),
            (Some(one), None) => Content::One(one),
            (Some(first), Some(second)) => Content::Others([first, second].into_iter().chain(spis).collect()),
        };
        Self(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_come_and_go_in_order() {
        let mut spis = Spis::default();
        assert_eq!((spis.len(), size_of::<Spis>()), (0, 16));
        for (spi, expected) in [(7, &[7][..]), (5, &[7, 5]), (9, &[7, 5, 9])] {
            spis.push(spi);
            assert_eq!(*spis, *expected);
        }
        for (spi, expected) in [(7, &[5, 9][..]), (8, &[5, 9]), (9, &[5]), (5, &[])] {
            spis.remove(spi);
            assert_eq!(*spis, *expected);
            assert_eq!(spis, expected.iter().copied().collect());
        }
    }
}

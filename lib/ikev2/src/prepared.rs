//! Diffie-Hellman key pairs made ahead, while there is nothing else to do.

use crypto::{DhGroup, DhKeyPair, Random};

/// Key pairs that wait, at most.
const MOST: usize = 64;

/// Key pairs that nobody has used. They are erased when they are dropped, and die with the process.
#[derive(Debug, Default)]
pub(crate) struct Prepared {
    /// The group that was wanted last, and of which all of them are.
    group: Option<DhGroup>,
    pairs: Vec<DhKeyPair>,
}

impl Prepared {
    /// A key pair of this group, if there is one.
    pub fn take(&mut self, group: DhGroup) -> Option<DhKeyPair> {
        if self.group != Some(group) {
            self.group = Some(group);
            self.pairs.clear();
        }
        self.pairs.pop()
    }

    /// Makes another one. False if there are enough, or if nobody knows of which group.
    pub fn make(&mut self, random: &mut dyn Random) -> bool {
        let Some(group) = self.group.filter(|_| self.pairs.len() < MOST) else {
            return false;
        };
        match group.generate(random) {
            Ok(pair) => self.pairs.push(pair),
            Err(_) => return false,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use crypto::TestRandom;

    use super::*;

    #[test]
    fn so_many_are_made_of_the_group_that_is_wanted_and_each_is_given_once() {
        let mut random = TestRandom::new(1);
        let mut prepared = Prepared::default();
        assert!(!prepared.make(&mut random), "of which group?");
        assert!(prepared.take(DhGroup::Curve25519).is_none());
        while prepared.make(&mut random) {}
        let mut seen = std::collections::BTreeSet::new();
        while let Some(pair) = prepared.take(DhGroup::Curve25519) {
            assert!(seen.insert(pair.public().to_vec()));
        }
        assert_eq!(seen.len(), MOST);
        assert!(prepared.make(&mut random));
        assert!(prepared.take(DhGroup::Ecp256).is_none());
        assert!(
            prepared.take(DhGroup::Curve25519).is_none(),
            "those of the other group are gone"
        );
    }
}

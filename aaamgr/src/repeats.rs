//! Rounds that come again. An `ipsecmgr` may die between a round and what the peer is told of it; the next life gets the peer's message once
//! more and asks again. It gets the same answer, for neither RADIUS nor the peer takes a round twice.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bus::messages::aaamgr::EapRound;

use crate::conversations::{ConversationKey, Wiped};

/// What a round asked.
#[derive(Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of the first round only.
    identity: Vec<u8>,
    /// The peer's EAP packet; empty in the first round.
    pub eap: Vec<u8>,
}

impl Asked {
    /// What this round asks.
    pub fn of(round: &EapRound) -> Self {
        let identity = if round.eap.is_empty() {
            round.identity.clone()
        } else {
            Vec::new()
        };
        Self {
            identity,
            eap: round.eap.clone(),
        }
    }
}

/// The last words of conversations that are over, for a while.
#[derive(Default)]
pub struct LastWords {
    by_key: HashMap<ConversationKey, (Asked, Wiped)>,
    /// Which are forgotten when, in this order. Those that were forgotten earlier are still here.
    ends: VecDeque<(Instant, ConversationKey)>,
}

impl LastWords {
    /// A conversation ended with this answer to this round.
    pub fn remember(&mut self, key: ConversationKey, asked: Asked, answer: Wiped, now: Instant) {
        self.by_key.insert(key, (asked, answer));
        self.ends.push_back((now + REMEMBERED, key));
        self.forget_old(now);
    }

    /// The answer to this round, if it ended its conversation.
    pub fn answer(&self, key: &ConversationKey, asked: &Asked) -> Option<Wiped> {
        let (last, answer) = self.by_key.get(key)?;
        (last == asked).then(|| answer.again())
    }

    /// The peer is gone, or begins anew.
    pub fn forget(&mut self, key: &ConversationKey) {
        self.by_key.remove(key);
    }

    /// Forgets what is over for long, and what is too much.
    pub fn forget_old(&mut self, now: Instant) {
        let due = |(until, _): &mut (Instant, ConversationKey)| *until <= now;
        while self.ends.len() > MOST || self.ends.front_mut().is_some_and(due) {
            let Some((_, key)) = self.ends.pop_front() else {
                return;
            };
            self.by_key.remove(&key);
        }
    }
}

/// How long: peers repeat a message a few times within it.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How many.
const MOST: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    use bus::messages::aaamgr::EapAnswer;

    fn asked(identifier: u8) -> Asked {
        Asked {
            identity: Vec::new(),
            eap: vec![2, identifier],
        }
    }

    fn words(failure: &str) -> Wiped {
        Wiped(EapAnswer {
            failure: failure.to_owned(),
            ..EapAnswer::default()
        })
    }

    #[test]
    fn last_words_are_kept_for_a_while_and_not_too_many() {
        let (mut last, now) = (LastWords::default(), Instant::now());
        last.remember(0, asked(1), words("rejected"), now);
        assert_eq!(last.answer(&0, &asked(1)).unwrap().0.failure, "rejected");
        assert!(last.answer(&0, &asked(2)).is_none(), "another round");
        assert!(last.answer(&1, &asked(1)).is_none(), "another peer");
        last.forget_old(now + REMEMBERED);
        assert!(last.answer(&0, &asked(1)).is_none());
        for ike_spi in 0..=MOST as u64 {
            last.remember(ike_spi, asked(1), words(""), now);
        }
        assert!(last.answer(&0, &asked(1)).is_none(), "the oldest had to go");
        assert_eq!((last.by_key.len(), last.ends.len()), (MOST, MOST));
        last.forget(&1);
        assert!(last.answer(&1, &asked(1)).is_none());
    }
}

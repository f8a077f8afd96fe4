//! Whose the slots are, and IKE messages of slots that are on their way here.

use std::collections::VecDeque;

use ikev2::Path;
use sadb::Slot;

/// What messages may take that wait. Peers repeat what is lost.
const MOST_BYTES: usize = 1 << 20;
/// What one takes beside its octets, roughly: nobody gets more in by making them short.
const OVERHEAD: usize = 128;

/// Who has a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Another worker.
    Others,
    /// We shall have it.
    Coming,
    /// We.
    Ours,
}

/// Whose every slot is, and what waits for those that are not ours yet: at most [`MOST_BYTES`], the oldest gives way.
pub(crate) struct Waiting {
    places: [Place; 256],
    messages: VecDeque<(Slot, Path, Vec<u8>)>,
    bytes: usize,
}

impl Waiting {
    /// All slots are others'.
    pub(crate) fn new() -> Self {
        Self {
            places: [Place::Others; 256],
            messages: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Who has the slot of this message, if that is not we.
    pub(crate) fn elsewhere(&self, message: &[u8]) -> Option<(Slot, Place)> {
        let slot = Slot::of_ike(message)?;
        let place = *self.places.get(usize::from(slot.number()))?;
        (place != Place::Ours).then_some((slot, place))
    }

    /// Takes over who has which slot. What waits for one that will not be ours is dropped: it came round by older maps.
    pub(crate) fn set(&mut self, place_of: impl Fn(Slot) -> Place) {
        for slot in Slot::all() {
            if let Some(place) = self.places.get_mut(usize::from(slot.number())) {
                *place = place_of(slot);
            }
        }
        let places = &self.places;
        let stays = |slot: Slot| places.get(usize::from(slot.number())) != Some(&Place::Others);
        self.messages.retain(|(slot, ..)| stays(*slot));
        self.bytes = self.messages.iter().map(|(_, _, message)| weight(message)).sum();
    }

    /// Keeps a message until its slot is ours. Returns how many had to go for it.
    pub(crate) fn keep(&mut self, slot: Slot, path: Path, message: &[u8]) -> u64 {
        self.messages.push_back((slot, path, message.to_vec()));
        self.bytes += weight(message);
        let mut gone = 0;
        while self.bytes > MOST_BYTES {
            let Some((_, _, oldest)) = self.messages.pop_front() else {
                break;
            };
            self.bytes = self.bytes.saturating_sub(weight(&oldest));
            gone += 1;
        }
        gone
    }

    /// What waited for slots that are ours now, in its order.
    pub(crate) fn take(&mut self) -> Vec<(Path, Vec<u8>)> {
        let (ours, others): (VecDeque<_>, VecDeque<_>) = std::mem::take(&mut self.messages)
            .into_iter()
            .partition(|(slot, ..)| self.places.get(usize::from(slot.number())) == Some(&Place::Ours));
        self.messages = others;
        self.bytes = self.messages.iter().map(|(_, _, message)| weight(message)).sum();
        ours.into_iter()
            .map(|(_, path, message)| (path, message))
            .collect()
    }
}

fn weight(message: &[u8]) -> usize {
    message.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(slot: u8, number: u8, length: usize) -> Vec<u8> {
        let mut message = vec![number; length];
        (message[8], message[19]) = (slot, 0x08);
        message
    }

    #[test]
    fn messages_wait_in_order_for_their_slots_and_the_oldest_gives_way() {
        let path = Path {
            local: ([192, 0, 2, 1], 500).into(),
            remote: ([192, 0, 2, 2], 500).into(),
        };
        let mut waiting = Waiting::new();
        let slot = |number| Slot::new(number).unwrap();
        waiting.set(|slot| match slot.number() {
            1 => Place::Ours,
            2 | 3 => Place::Coming,
            _ => Place::Others,
        });
        let place =
            |waiting: &Waiting, slot| waiting.elsewhere(&message(slot, 0, 40)).map(|(_, place)| place);
        assert_eq!(
            [1, 2, 9, 0].map(|slot| place(&waiting, slot)),
            [None, Some(Place::Coming), Some(Place::Others), None]
        );
        for (number, of) in [(1, 2), (2, 3), (3, 2), (4, 9)] {
            assert_eq!(waiting.keep(slot(of), path, &message(of, number, 40)), 0);
        }
        waiting.set(|slot| match slot.number() {
            2 => Place::Ours,
            3 => Place::Coming,
            _ => Place::Others,
        });
        let taken: Vec<u8> = waiting.take().iter().map(|(_, message)| message[30]).collect();
        assert_eq!(taken, [1, 3]);
        assert_eq!((waiting.messages.len(), waiting.bytes), (1, 40 + OVERHEAD));
        let mut gone = 0;
        for _ in 0..MOST_BYTES / 1000 {
            gone += waiting.keep(slot(3), path, &message(3, 7, 1000));
        }
        assert!(gone > 0 && waiting.bytes <= MOST_BYTES);
        assert!(waiting.messages.iter().all(|(_, _, message)| message[30] == 7));
        waiting.set(|_| Place::Others);
        assert_eq!((waiting.messages.len(), waiting.bytes), (0, 0));
    }
}

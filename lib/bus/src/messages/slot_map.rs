//! What a slot map says of one part of one slot.

use super::rmctrl::{Leaving, MovePhase, SlotMap, SlotPart};

impl SlotMap {
    /// The worker that has a part of a slot, or will have it when the move that is under way is over; `None` when it is none of this node's.
    pub fn owner(&self, part: SlotPart, slot: u8) -> Option<u32> {
        let place = usize::from(slot).checked_sub(1)?;
        let named = |owners: &[u32]| owners.get(place).copied().filter(|owner| *owner != 0);
        match part {
            SlotPart::Manager => named(&self.managers),
            SlotPart::Data => named(&self.data),
            SlotPart::Output => named(&self.outputs).or_else(|| named(&self.data)),
        }
    }

    /// The worker that takes the last step for packets of a slot, if it is not the one that has the data.
    pub fn handed_on(&self, slot: u8) -> Option<u32> {
        let output = self.owner(SlotPart::Output, slot);
        output.filter(|output| self.owner(SlotPart::Data, slot) != Some(*output))
    }

    /// Names a worker as the owner of a part of a slot. Whoever gets the data takes the last step as well.
    pub fn give(&mut self, part: SlotPart, slot: u8, worker: u32) {
        let Some(place) = usize::from(slot).checked_sub(1) else {
            return;
        };
        let set = |owners: &mut [u32], owner| {
            if let Some(place) = owners.get_mut(place) {
                *place = owner;
            }
        };
        match part {
            SlotPart::Manager => set(&mut self.managers, worker),
            SlotPart::Data => {
                set(&mut self.data, worker);
                set(&mut self.outputs, 0);
            }
            SlotPart::Output => {
                self.outputs.resize(self.data.len(), 0);
                let is_own = self.owner(SlotPart::Data, slot) == Some(worker);
                set(&mut self.outputs, if is_own { 0 } else { worker });
            }
        }
    }

    /// The move of a part of a slot that is under way, and how far it is.
    pub fn leaving_of(&self, part: SlotPart, slot: u8) -> Option<(&Leaving, MovePhase)> {
        let is_meant = |entry: &&Leaving| entry.slot == u32::from(slot) && entry.part == part as i32;
        let entry = self.leaving.iter().find(is_meant)?;
        Some((entry, MovePhase::try_from(entry.phase).ok()?))
    }

    /// The worker that gets what comes for a part of a slot. While the new owner prepares, the former one; messages of IKE go there until it has let go, for the new
    /// one could do nothing with them, while the data plane holds packets until they are its own.
    pub fn steered_to(&self, part: SlotPart, slot: u8) -> Option<u32> {
        let until = match part {
            SlotPart::Manager => MovePhase::Released,
            SlotPart::Data | SlotPart::Output => MovePhase::Steered,
        };
        match self.leaving_of(part, slot) {
            Some((entry, phase)) if phase < until => Some(entry.from),
            _ => self.owner(part, slot),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_step_is_taken_by_who_has_the_data_unless_another_is_named() {
        let mut map = SlotMap::of_workers(vec![1; 255]);
        assert_eq!(map.owner(SlotPart::Output, 7), Some(1));
        map.give(SlotPart::Output, 7, 2);
        assert_eq!(map.owner(SlotPart::Output, 7), Some(2));
        assert_eq!(map.owner(SlotPart::Output, 8), Some(1));
        assert_eq!((map.handed_on(7), map.handed_on(8)), (Some(2), None));
        assert_eq!(map.owner(SlotPart::Data, 7), Some(1));
        map.give(SlotPart::Data, 7, 3);
        assert_eq!(map.owner(SlotPart::Output, 7), Some(3), "a move begins anew");
        map.give(SlotPart::Output, 7, 2);
        map.give(SlotPart::Output, 7, 3);
        assert_eq!(map.outputs, [0; 255]);
        map.give(SlotPart::Manager, 0, 2);
        assert_eq!(
            (map.owner(SlotPart::Output, 0), &map.managers),
            (None, &vec![1; 255])
        );
    }
}

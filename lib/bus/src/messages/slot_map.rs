//! What a slot map says of one part of one slot.

use super::rmctrl::{Leaving, MovePhase, SlotMap, SlotPart};

impl SlotMap {
    /// The worker that has a part of a slot, or will have it when the move that is under way is over; `None` when it is none of this node's.
    pub fn owner(&self, part: SlotPart, slot: u8) -> Option<u32> {
        let owners = match part {
            SlotPart::Manager => &self.managers,
            SlotPart::Data => &self.data,
        };
        let owner = owners.get(usize::from(slot).checked_sub(1)?).copied();
        owner.filter(|owner| *owner != 0)
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
            SlotPart::Data => MovePhase::Steered,
        };
        match self.leaving_of(part, slot) {
            Some((entry, phase)) if phase < until => Some(entry.from),
            _ => self.owner(part, slot),
        }
    }
}

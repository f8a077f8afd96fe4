//! Segments of slots, and the kernel's steering by the slot map.

use bus::messages::rmctrl::{SlotMap, SlotPart};
use bus::{Address, Facility};
use netio::steering::Steering;
use sadb::{Slot, SlotSegments};

use super::{Descriptors, Given, IKE_PORT, Refusal, index};
use crate::slot_map;

/// Slots of one `OpenSlots`: up to four descriptors each.
const MOST_SLOTS: usize = netio::ControlSocket::MAX_FDS / 4;

impl Descriptors {
    /// The slot map that was committed last.
    pub fn slot_map(&self) -> Option<&SlotMap> {
        self.slot_map.as_ref()
    }

    /// Takes over a slot map: the kernel steers by it from now on, and segments are given out by it. The same one may be taken again.
    ///
    /// # Errors
    /// The map is refused, or is kept and some sockets could not be steered: all others are, and with the next map or the same again these are tried again.
    pub fn set_slot_map(&mut self, map: &SlotMap) -> Result<(), String> {
        slot_map::check(map, self.slot_map.as_ref(), self.workers)?;
        self.slot_map = Some(map.clone());
        let next = self.steering().map_err(|refusal| format!("{refusal:?}"))?;
        if self.steered.as_ref() == Some(&next) {
            return Ok(());
        }
        let mut failures: Vec<String> = Vec::new();
        for ((context, address), group) in &self.groups {
            let program = if address.port() == IKE_PORT {
                next.program_500()
            } else {
                next.program_4500()
            };
            if let Err(error) = group.what.steer(&program) {
                failures.push(format!("{address} in {context}: {error}"));
            }
        }
        // First every socket also gets what will be its own, then it no longer gets what was: so no packet is without one.
        let before = self.steered.take();
        for is_between in [true, false] {
            // Who does not get its own yet would miss what another gives up.
            if !is_between && !failures.is_empty() {
                break;
            }
            for ((context, address, worker), socket) in &self.raw {
                let (worker, is_v4) = (index(*worker), address.is_ipv4());
                let filter = match &before {
                    Some(before) if before.is_same_for_esp(&next, worker) => continue,
                    Some(before) if is_between => before.esp_filter_between(&next, worker, is_v4),
                    None if is_between => continue,
                    _ => next.esp_filter(worker, is_v4),
                };
                if let Err(error) = socket.what.esp.attach_filter(&filter) {
                    failures.push(format!("ESP {address} in {context}: {error}"));
                }
            }
        }
        if failures.is_empty() {
            self.steered = Some(next);
            return Ok(());
        }
        Err(format!("cannot steer {}", failures.join(", ")))
    }

    pub(super) fn open_slots(&mut self, who: Address, numbers: &[u32]) -> Result<Given, Refusal> {
        if numbers.len() > MOST_SLOTS {
            return Err(Refusal::Failed(format!(
                "at most {MOST_SLOTS} slots can be opened at a time"
            )));
        }
        let part = match who.facility {
            Facility::Ipsecmgr => Some(SlotPart::Manager),
            Facility::Iftask => Some(SlotPart::Data),
            _ => None,
        };
        let mut given = Given::default();
        for &number in numbers {
            let slot = u8::try_from(number).ok().and_then(Slot::new);
            let slot = slot.ok_or_else(|| Refusal::Failed(format!("there is no slot {number}")))?;
            let map = self.map()?;
            if let Some(part) = part
                && !slot_map::may_open(map, part, slot, who.instance)
            {
                let owner = map.owner(part, slot.number()).unwrap_or(0);
                return Err(Refusal::Failed(format!(
                    "slot {slot} belongs to worker {owner}, not to {who}, or has not been let go of yet"
                )));
            }
            let segments = match self.slots.entry(slot) {
                std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::btree_map::Entry::Vacant(entry) => {
                    entry.insert(SlotSegments::create(slot)?)
                }
            };
            // Keys are for those two only, and IKE SAs for the owner.
            let fds = match part {
                Some(SlotPart::Manager) => segments.owner_fds()?,
                Some(SlotPart::Data) => segments.worker_fds()?,
                Some(SlotPart::Output) | None => {
                    given.add(format!("slot-{slot}-counters"), segments.reader_fd()?)?;
                    continue;
                }
            };
            given.add(format!("slot-{slot}-keys"), fds.keys)?;
            given.add(format!("slot-{slot}-hot"), fds.hot)?;
            given.add(format!("slot-{slot}-counters"), fds.counters)?;
            if let Some(ike) = fds.ike {
                given.add(format!("slot-{slot}-ike"), ike)?;
            }
        }
        Ok(given)
    }

    pub(super) fn steering(&self) -> Result<Steering, Refusal> {
        let map = self.map()?;
        let owners = |number: u8| Slot::new(number).map(|slot| slot_map::steered_to(map, slot));
        Ok(Steering::new(
            index(self.workers) + 1,
            |slot| owners(slot).unwrap_or_default(),
            self.key,
        )?)
    }

    fn map(&self) -> Result<&SlotMap, Refusal> {
        self.slot_map
            .as_ref()
            .ok_or_else(|| Refusal::NotYet("rmctrl has not told the slot map yet".into()))
    }
}

//! The records of IKE SAs in the stores of this worker's slots: the engine's part and ours, one behind the other.

use std::collections::{BTreeMap, BTreeSet};

use ikev2::IkeSaId;
use sadb::{IkeSpi, IkeStore, IkeStoreUsage, SegmentFds, Slot};
use zeroize::Zeroizing;

/// Length of what stands before both parts: the length of the first, little-endian.
const LENGTH: usize = 4;

/// All stores of this worker.
pub(crate) struct Records {
    stores: BTreeMap<u8, IkeStore>,
    /// Slots with something to commit.
    touched: BTreeSet<u8>,
    /// Slots whose stores have no room for half-open IKE SAs.
    crowded: BTreeSet<u8>,
    /// They are others than when they were asked for last.
    crowding_changed: bool,
    /// Of all stores together.
    usage: IkeStoreUsage,
    scratch: Zeroizing<Vec<u8>>,
}

/// What is known of an IKE SA.
pub(crate) struct Record {
    bytes: Zeroizing<Vec<u8>>,
    engines: usize,
}

impl Records {
    /// No stores yet.
    pub(crate) fn new() -> Self {
        Self {
            usage: IkeStoreUsage::default(),
            stores: BTreeMap::new(),
            touched: BTreeSet::new(),
            crowded: BTreeSet::new(),
            crowding_changed: true,
            scratch: Zeroizing::default(),
        }
    }

    /// Maps the store of a slot, with what is in it.
    pub(crate) fn add(&mut self, slot: Slot, fds: &SegmentFds) -> Result<(), sadb::Error> {
        let ike = fds.ike.as_ref().ok_or(sadb::Error::Invalid {
            field: "descriptors of a slot",
            expected: "those of its owner",
        })?;
        self.stores.insert(slot.number(), IkeStore::map(ike)?);
        self.usage = together(&self.stores);
        self.note_crowding(slot.number());
        self.crowding_changed = true;
        Ok(())
    }

    /// Lets go of the store of a slot, where everything is committed.
    pub(crate) fn remove(&mut self, slot: u8) {
        self.stores.remove(&slot);
        self.touched.remove(&slot);
        self.crowded.remove(&slot);
        self.usage = together(&self.stores);
        self.crowding_changed = true;
    }

    /// Has both parts stand for an IKE SA from the next [`commit`](Self::commit) on. False when there is no room: then nothing will.
    pub(crate) fn save(&mut self, ike: IkeSaId, engines: &[u8], ours: &[u8], half_open: bool) -> bool {
        let (Some(id), Ok(length)) = (IkeSpi::from_u64(ike.0), u32::try_from(engines.len())) else {
            return false;
        };
        let Some(store) = self.stores.get_mut(&ike.slot()) else {
            return false;
        };
        self.scratch.clear();
        self.scratch.extend_from_slice(&length.to_le_bytes());
        self.scratch.extend_from_slice(engines);
        self.scratch.extend_from_slice(ours);
        self.touched.insert(ike.slot());
        match store.stage(id, &self.scratch, half_open) {
            Ok(saved) => saved,
            Err(error) => {
                tracing::warn!("IKE SA {ike} cannot be saved: {error}");
                // What stood before would repeat Message IDs and IVs.
                if let Err(error) = store.stage_removal(id) {
                    tracing::debug!("no record of IKE SA {ike}: {error}");
                }
                false
            }
        }
    }

    /// Has nothing stand for an IKE SA from the next [`commit`](Self::commit) on.
    pub(crate) fn erase(&mut self, ike: IkeSaId) {
        let (Some(id), Some(store)) = (IkeSpi::from_u64(ike.0), self.stores.get_mut(&ike.slot())) else {
            return;
        };
        self.touched.insert(ike.slot());
        if let Err(error) = store.stage_removal(id) {
            tracing::debug!("no record of IKE SA {ike}: {error}");
        }
    }

    /// Makes what was saved and erased the truth, at once in each slot.
    ///
    /// # Errors
    /// A store is damaged; nothing may be sent that depends on what was saved.
    pub(crate) fn commit(&mut self) -> Result<(), sadb::Error> {
        for slot in std::mem::take(&mut self.touched) {
            if let Some(store) = self.stores.get_mut(&slot) {
                let before = store.usage();
                store.commit()?;
                let after = store.usage();
                let usage = &mut self.usage;
                for (sum, before, after) in [
                    (&mut usage.records, before.records, after.records),
                    (&mut usage.half_open, before.half_open, after.half_open),
                    (&mut usage.bytes, before.bytes, after.bytes),
                    (
                        &mut usage.half_open_bytes,
                        before.half_open_bytes,
                        after.half_open_bytes,
                    ),
                ] {
                    *sum = (*sum + after).saturating_sub(before);
                }
                self.note_crowding(slot);
            }
        }
        Ok(())
    }

    fn note_crowding(&mut self, slot: u8) {
        let crowded = self
            .stores
            .get(&slot)
            .is_some_and(|store| !store.has_room_for_half_open());
        self.crowding_changed |= match crowded {
            true => self.crowded.insert(slot),
            false => self.crowded.remove(&slot),
        };
    }

    /// The slots where half-open IKE SAs have taken all the room that they may have, if they are others than at the last call.
    pub(crate) fn take_crowded(&mut self) -> Option<&BTreeSet<u8>> {
        std::mem::take(&mut self.crowding_changed).then_some(&self.crowded)
    }

    /// All IKE SAs with a record in a slot.
    pub(crate) fn in_slot(&self, slot: u8) -> Vec<IkeSaId> {
        let ids = self.stores.get(&slot).map_or_else(Vec::new, IkeStore::ids);
        ids.into_iter().map(|id| IkeSaId(id.to_u64())).collect()
    }

    /// What was committed for an IKE SA.
    pub(crate) fn read(&self, ike: IkeSaId) -> Option<Record> {
        let mut bytes = Zeroizing::default();
        let engines = self.read_into(ike, &mut bytes)?;
        Some(Record { bytes, engines })
    }

    /// The engine's part of it. False when there is none.
    pub(crate) fn load(&self, ike: IkeSaId, into: &mut Vec<u8>) -> bool {
        into.clear();
        let Some(engines) = self.read_into(ike, into) else {
            return false;
        };
        into.truncate(LENGTH + engines);
        into.drain(..LENGTH);
        true
    }

    /// Keeps something that belongs to no IKE SA, from the next [`commit`](Self::commit) on. False when there is no room.
    pub(crate) fn save_own(&mut self, bytes: &[u8]) -> bool {
        let Some((slot, store)) = self
            .stores
            .first_entry()
            .map(|entry| (*entry.key(), entry.into_mut()))
        else {
            return false;
        };
        self.touched.insert(slot);
        store
            .own()
            .and_then(|own| store.stage(own, bytes, false))
            .unwrap_or_else(|error| {
                tracing::warn!("the secrets of cookies cannot be saved: {error}");
                false
            })
    }

    /// Erases what the former owner of a slot may have kept so in it, with the next [`commit`](Self::commit).
    pub(crate) fn erase_own(&mut self, slot: u8) {
        if let Some(store) = self.stores.get_mut(&slot) {
            self.touched.insert(slot);
            if let Err(error) = store.own().and_then(|own| store.stage_removal(own)) {
                tracing::debug!("nothing of the former owner in slot {slot}: {error}");
            }
        }
    }

    /// What was kept so; `None` for nothing.
    pub(crate) fn own(&self) -> Option<Zeroizing<Vec<u8>>> {
        let store = self.stores.values().next()?;
        let mut bytes = Zeroizing::default();
        let found = store.own().and_then(|own| store.read(own, &mut bytes));
        found.is_ok_and(|found| found).then_some(bytes)
    }

    /// Erases everything of IKE SAs.
    pub(crate) fn clear(&mut self) -> Result<usize, sadb::Error> {
        let mut count = 0;
        for store in self.stores.values_mut() {
            count += store.clear()?;
        }
        self.usage = together(&self.stores);
        Ok(count)
    }

    /// Records of a slot that were damaged when its store was mapped.
    pub(crate) fn lost(&self, slot: u8) -> usize {
        self.stores.get(&slot).map_or(0, IkeStore::lost)
    }

    /// How full all stores are together.
    pub(crate) fn usage(&self) -> &IkeStoreUsage {
        &self.usage
    }

    /// Reads a record; returns the length of the engine's part.
    fn read_into(&self, ike: IkeSaId, into: &mut Vec<u8>) -> Option<usize> {
        let store = self.stores.get(&ike.slot())?;
        match store.read(IkeSpi::from_u64(ike.0)?, into) {
            Ok(true) => {}
            Ok(false) => return None,
            Err(error) => {
                tracing::error!("the record of IKE SA {ike} cannot be read: {error}");
                return None;
            }
        }
        let length = u32::from_le_bytes(*into.first_chunk::<LENGTH>()?);
        let length = usize::try_from(length).ok()?;
        (length <= into.len() - LENGTH).then_some(length)
    }
}

/// How full these are together.
fn together(stores: &BTreeMap<u8, IkeStore>) -> IkeStoreUsage {
    let mut sum = IkeStoreUsage::default();
    for usage in stores.values().map(IkeStore::usage) {
        sum.records += usage.records;
        sum.half_open += usage.half_open;
        sum.bytes += usage.bytes;
        sum.half_open_bytes += usage.half_open_bytes;
    }
    sum
}

impl Record {
    /// The engine's part.
    pub(crate) fn engines(&self) -> &[u8] {
        self.bytes.get(LENGTH..LENGTH + self.engines).unwrap_or(&[])
    }

    /// Ours.
    pub(crate) fn ours(&self) -> &[u8] {
        self.bytes.get(LENGTH + self.engines..).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sadb::SlotSegments;

    #[test]
    fn both_parts_come_back_in_a_later_life() {
        let slots = [3, 9].map(|number| Slot::new(number).unwrap());
        let segments = slots.map(|slot| SlotSegments::with_capacity(slot, 8).unwrap());
        let map = || {
            let mut records = Records::new();
            for one in &segments {
                records.add(one.slot(), &one.owner_fds().unwrap()).unwrap();
            }
            records
        };
        let all = |records: &Records| [records.in_slot(3), records.in_slot(9)].concat();
        let (first, second) = (IkeSaId(0x0300_0001_0000_0001), IkeSaId(0x0900_0000_0000_0002));
        let mut records = map();
        assert!(records.save(first, b"engine", b"session", true));
        assert!(records.save(second, b"", b"only ours", false));
        assert!(
            !records.save(IkeSaId(0x0400_0000_0000_0001), b"", b"", false),
            "not our slot"
        );
        assert!(
            !records.save(IkeSaId(0x0300_00ff_0000_0001), b"", b"", false),
            "no such index"
        );
        assert!(records.save_own(b"cookies"));
        records.commit().unwrap();
        let mut records = map();
        assert_eq!(all(&records), [first, second]);
        let record = records.read(first).unwrap();
        assert_eq!(
            (record.engines(), record.ours()),
            (&b"engine"[..], &b"session"[..])
        );
        let mut engines = vec![9; 3];
        assert!(records.load(first, &mut engines));
        assert_eq!(engines, b"engine");
        assert_eq!(records.own().unwrap().as_slice(), b"cookies");
        let usage = records.usage();
        assert_eq!((usage.records, usage.half_open, records.lost(3)), (2, 1, 0));
        records.erase(first);
        records.commit().unwrap();
        assert_eq!(*records.usage(), together(&records.stores));
        assert_eq!(records.usage().records, 1);
        assert!(records.read(first).is_none() && !map().load(first, &mut engines));
        assert_eq!(records.clear().unwrap(), 1);
        assert_eq!((all(&map()), map().own().is_some()), (vec![], true));
        // The first slot goes: what was kept in it is erased by who has it next, and kept in another.
        records.remove(3);
        assert!(records.own().is_none() && records.in_slot(3).is_empty());
        assert!(records.save_own(b"cookies"));
        records.commit().unwrap();
        let mut records = map();
        records.erase_own(3);
        records.commit().unwrap();
        assert!(map().own().is_none());
    }

    #[test]
    fn a_crowd_of_half_open_ones_is_noticed_and_forgotten() {
        let segments = SlotSegments::with_capacity(Slot::new(3).unwrap(), 2).unwrap();
        let mut records = Records::new();
        let fds = segments.owner_fds().unwrap();
        records.add(segments.slot(), &fds).unwrap();
        let ike = IkeSaId(0x0300_0001_0000_0001);
        assert!(records.save(ike, b"1", b"", true));
        records.commit().unwrap();
        assert_eq!(records.take_crowded(), Some(&[3].into()), "one of four");
        assert_eq!(records.take_crowded(), None);
        // It is noticed without anything being done, too.
        let mut next = Records::new();
        next.add(segments.slot(), &fds).unwrap();
        assert_eq!(next.take_crowded(), Some(&[3].into()));
        assert!(records.save(ike, b"1", b"", false));
        records.commit().unwrap();
        assert_eq!(records.take_crowded(), Some(&BTreeSet::new()));
    }
}

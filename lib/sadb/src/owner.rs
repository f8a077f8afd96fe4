//! The owner's side of a slot: `ipsecmgr`.

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::change_log::{self, LOG_ENTRIES};
use crate::counters::CounterRecord;
use crate::hot::HotRecord;
use crate::layout::{Header, Kind, LOG_AT, REDO_AT, Shape};
use crate::map::{Access, Mapping};
use crate::record::{Record, Redo, Use};
use crate::segment::{self, SegmentFds};
use crate::{Activity, ChildSa, Error, SaCounters, SaIndex, Slot, Spi};

/// A freed index waits until this many others were freed, so that an SPI does not return while packets of its last user are under way.
const REST: usize = 256;

/// Allocates SPIs and writes child SAs. One per slot, in the slot's `ipsecmgr`.
///
/// Life of a record: [`allocate`](Self::allocate) reserves it and gives its SPI; [`install`](Self::install) makes it visible to the worker;
/// [`set_outbound`](Self::set_outbound) and [`update`](Self::update) change it; [`remove`](Self::remove) zeroes it and frees it for a later SA with another generation.
/// An owner that dies in any of them leaves the record as it was before or as it would have been after, or, instead of half installed, reserved.
#[derive(Debug)]
pub struct SlotOwner {
    shape: Shape,
    keys: Mapping,
    hot: Mapping,
    counters: Mapping,
    free: VecDeque<SaIndex>,
    installed: usize,
}

impl SlotOwner {
    /// Maps the segments. What a predecessor installed or reserved is kept; the worker is told to read every record again.
    pub fn map(fds: &SegmentFds) -> Result<Self, Error> {
        let (keys, shape) = segment::map(fds.keys.as_fd(), Kind::Keys, Access::ReadWrite)?;
        let (hot, hot_shape) = segment::map(fds.hot.as_fd(), Kind::Hot, Access::ReadWrite)?;
        let (counters, counters_shape) =
            segment::map(fds.counters.as_fd(), Kind::Counters, Access::ReadWrite)?;
        segment::check_same(shape, [hot_shape, counters_shape])?;
        let mut owner = Self {
            shape,
            keys,
            hot,
            counters,
            free: VecDeque::new(),
            installed: 0,
        };
        owner.adopt()?;
        Ok(owner)
    }

    /// The slot.
    pub fn slot(&self) -> Slot {
        self.shape.slot
    }

    /// How many child SAs it can hold.
    pub fn capacity(&self) -> usize {
        self.shape.capacity
    }

    /// How many it holds.
    pub fn installed(&self) -> usize {
        self.installed
    }

    /// Reserves a record; its SPI may go into a proposal. Give it back with [`remove`](Self::remove) if no SA comes of it.
    pub fn allocate(&mut self) -> Result<Spi, Error> {
        let header = self.header()?;
        let high_water = header.high_water.load(Ordering::Relaxed);
        let fresh = u16::try_from(high_water).ok().and_then(SaIndex::new);
        let fresh = fresh.filter(|index| usize::from(index.number()) < self.shape.capacity);
        let index = match fresh {
            Some(fresh) if self.free.len() <= REST => {
                header.high_water.store(high_water + 1, Ordering::Relaxed);
                fresh
            }
            _ => self.free.pop_front().ok_or(Error::Full {
                slot: self.shape.slot,
                capacity: self.shape.capacity,
            })?,
        };
        let record = self.record(index)?;
        record.reserve();
        self.spi_of(index)
    }

    /// Makes a child SA visible to the worker, with sequence numbers, replay window and counters at their start.
    ///
    /// Its inbound SPI must be reserved ([`allocate`](Self::allocate)) and not installed yet.
    pub fn install(&mut self, sa: &ChildSa) -> Result<(), Error> {
        sa.validate()?;
        let (record, index, used) = self.locate(sa.inbound_spi)?;
        if used != Use::Reserved {
            return Err(Error::Invalid {
                field: "inbound_spi",
                expected: "reserved and not yet installed",
            });
        }
        let out_of_range = || Error::NoSuchSpi(sa.inbound_spi);
        self.hot_records()
            .get(at(index))
            .ok_or_else(out_of_range)?
            .reset(sa.inbound_spi.generation());
        self.counter_records()
            .get(at(index))
            .ok_or_else(out_of_range)?
            .reset(sa.inbound_spi);
        record.install(sa);
        self.announce(index)?;
        self.installed += 1;
        Ok(())
    }

    /// Has an installed child SA send, or not.
    pub fn set_outbound(&mut self, spi: Spi, active: bool) -> Result<(), Error> {
        let (record, index, used) = self.locate(spi)?;
        if used != Use::Installed {
            return Err(Error::NoSuchSpi(spi));
        }
        record.set_outbound(active);
        self.announce(index)
    }

    /// Replaces an installed child SA's record (another endpoint, other selectors). Sequence numbers, window and counters stay.
    pub fn update(&mut self, sa: &ChildSa) -> Result<(), Error> {
        sa.validate()?;
        let (record, index, used) = self.locate(sa.inbound_spi)?;
        if used != Use::Installed {
            return Err(Error::NoSuchSpi(sa.inbound_spi));
        }
        record.update(sa, index, self.redo()?);
        self.announce(index)
    }

    /// Takes back an [`install`](Self::install) that nothing refers to: the SPI is only reserved again.
    pub fn withdraw(&mut self, spi: Spi) -> Result<(), Error> {
        let (record, index, used) = self.locate(spi)?;
        if used == Use::Installed {
            record.reserve();
            self.announce(index)?;
            self.installed -= 1;
        }
        Ok(())
    }

    /// Zeroes a child SA's keys and frees its record, or gives back an SPI that was only reserved.
    pub fn remove(&mut self, spi: Spi) -> Result<(), Error> {
        let (record, index, used) = self.locate(spi)?;
        record.free();
        if used == Use::Installed {
            self.announce(index)?;
            self.installed -= 1;
        }
        self.free.push_back(index);
        Ok(())
    }

    /// Removes every child SA and gives back every reserved SPI; returns how many child SAs there were.
    pub fn clear(&mut self) -> usize {
        let installed = self.spis();
        for spi in installed.iter().chain(&self.reserved()) {
            // Cannot fail: the SPI was read from a record in use a line above, and there is one owner.
            let _ = self.remove(*spi);
        }
        installed.len()
    }

    /// The SPIs of all installed child SAs.
    pub fn spis(&self) -> Vec<Spi> {
        self.in_use(Use::Installed)
    }

    /// The SPIs that are reserved.
    pub fn reserved(&self) -> Vec<Spi> {
        self.in_use(Use::Reserved)
    }

    fn in_use(&self, used: Use) -> Vec<Spi> {
        self.indices()
            .filter(|i| self.record(*i).is_ok_and(|r| r.usage().1 == used))
            .filter_map(|i| self.spi_of(i).ok())
            .collect()
    }

    /// Reads an installed child SA.
    pub fn read(&self, spi: Spi) -> Result<ChildSa, Error> {
        let (record, index, _) = self.locate(spi)?;
        record.read(index)?.ok_or(Error::NoSuchSpi(spi))
    }

    /// When packets last passed, how far the sequence numbers are, and where the peer is. `None` for an SPI not installed.
    pub fn activity(&self, spi: Spi) -> Option<Activity> {
        let (_, index, used) = self.locate(spi).ok()?;
        if used != Use::Installed {
            return None;
        }
        self.hot_records().get(at(index))?.activity(spi.generation())
    }

    /// The SA's counters; also of one just removed, until its record is used again.
    pub fn counters(&self, spi: Spi) -> Option<SaCounters> {
        let record = self.counter_records().get(at(spi.index()))?;
        (record.spi() == Some(spi)).then(|| record.snapshot())
    }

    /// Takes stock of what a predecessor left, after ending what it had begun.
    fn adopt(&mut self) -> Result<(), Error> {
        for index in self.indices() {
            let record = self.record(index)?;
            record.repair(index, self.redo()?);
            match record.usage().1 {
                Use::Installed => self.installed += 1,
                Use::Reserved => {}
                Use::Free => self.free.push_back(index),
            }
        }
        // Of a change that had been made, or not yet begun.
        self.redo()?.forget();
        change_log::lap(&self.header()?.log_head);
        Ok(())
    }

    fn redo(&self) -> Result<&Redo, Error> {
        self.keys.value(REDO_AT).ok_or(Error::Corrupt {
            field: "note of a change",
        })
    }

    fn header(&self) -> Result<&Header, Error> {
        self.keys.value(0).ok_or(Error::Corrupt { field: "header" })
    }

    fn indices(&self) -> impl Iterator<Item = SaIndex> + use<> {
        let high_water = self
            .header()
            .map_or(0, |header| header.high_water.load(Ordering::Relaxed));
        let end = u16::try_from(high_water.min(self.shape.capacity as u64)).unwrap_or(u16::MAX);
        (0..end).filter_map(SaIndex::new)
    }

    fn record(&self, index: SaIndex) -> Result<&Record, Error> {
        let records = self
            .keys
            .slice::<Record>(Kind::Keys.records_at(), self.shape.capacity);
        records.get(at(index)).ok_or(Error::Corrupt { field: "index" })
    }

    fn hot_records(&self) -> &[HotRecord] {
        self.hot.slice(Kind::Hot.records_at(), self.shape.capacity)
    }

    fn counter_records(&self) -> &[CounterRecord] {
        self.counters
            .slice(Kind::Counters.records_at(), self.shape.capacity)
    }

    /// The SPI of a record's present use.
    fn spi_of(&self, index: SaIndex) -> Result<Spi, Error> {
        let base = self.header()?.generation_base.load(Ordering::Relaxed);
        let (uses, _) = self.record(index)?.usage();
        let generation = base.wrapping_add(uses) % (1 << Spi::GENERATION_BITS);
        Ok(Spi::new(self.shape.slot, generation as u16, index))
    }

    /// The record of an SPI in use.
    fn locate(&self, spi: Spi) -> Result<(&Record, SaIndex, Use), Error> {
        if spi.slot() != self.shape.slot {
            return Err(Error::WrongSlot {
                spi,
                slot: self.shape.slot,
            });
        }
        let index = spi.index();
        let record = self.record(index).map_err(|_| Error::NoSuchSpi(spi))?;
        let (_, used) = record.usage();
        if used == Use::Free || self.spi_of(index)? != spi {
            return Err(Error::NoSuchSpi(spi));
        }
        Ok((record, index, used))
    }

    fn announce(&self, index: SaIndex) -> Result<(), Error> {
        change_log::append(
            &self.header()?.log_head,
            self.keys.slice::<AtomicU64>(LOG_AT, LOG_ENTRIES),
            index,
        );
        Ok(())
    }
}

fn at(index: SaIndex) -> usize {
    usize::from(index.number())
}

#[cfg(test)]
mod tests;

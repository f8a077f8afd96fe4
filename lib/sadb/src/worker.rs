//! The worker's side of a slot (`iftask`), and everybody else's.

use std::cell::Cell;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::change_log::{self, LOG_ENTRIES};
use crate::counters::CounterRecord;
use crate::hot::HotRecord;
use crate::layout::{Header, Kind, LOG_AT, Shape};
use crate::map::{Access, Mapping, prefetch, prefetch_line};
use crate::record::Record;
use crate::segment::{self, SegmentFds};
use crate::{Change, ChildSa, CounterCells, Error, Hot, SaCounters, SaIndex, Slot, Spi};

/// Reads child SAs; writes sequence numbers, windows and counters. One per slot, in the slot's `iftask`, on one thread.
///
/// It starts with a [`Change::Rescan`], so that a restarted `iftask` needs no other path than the change log.
#[derive(Debug)]
pub struct SlotWorker {
    shape: Shape,
    keys: Mapping,
    hot: Mapping,
    counters: Mapping,
    position: u64,
    fresh: bool,
    /// One thread at a time: windows and counters have one writer.
    _not_sync: PhantomData<Cell<()>>,
}

impl SlotWorker {
    /// Maps the segments: the keys to be read only.
    pub fn map(fds: &SegmentFds) -> Result<Self, Error> {
        let (keys, shape) = segment::map(fds.keys.as_fd(), Kind::Keys, Access::Read)?;
        let (hot, hot_shape) = segment::map(fds.hot.as_fd(), Kind::Hot, Access::ReadWrite)?;
        let (counters, counters_shape) =
            segment::map(fds.counters.as_fd(), Kind::Counters, Access::ReadWrite)?;
        segment::check_same(shape, [hot_shape, counters_shape])?;
        Ok(Self {
            shape,
            keys,
            hot,
            counters,
            position: 0,
            fresh: true,
            _not_sync: PhantomData,
        })
    }

    /// The slot.
    pub fn slot(&self) -> Slot {
        self.shape.slot
    }

    /// The next change since the last call, `None` when up to date. Costs one load when nothing changed.
    ///
    /// After [`Change::Rescan`] read every index of [`indices`](Self::indices) and drop what is gone.
    pub fn next_change(&mut self) -> Option<Change> {
        let head = &self.keys.value::<Header>(0)?.log_head;
        if std::mem::take(&mut self.fresh) {
            self.position = head.load(Ordering::Acquire);
            return Some(Change::Rescan);
        }
        change_log::next(
            head,
            self.keys.slice::<AtomicU64>(LOG_AT, LOG_ENTRIES),
            &mut self.position,
        )
    }

    /// Every index that was ever in use.
    pub fn indices(&self) -> impl Iterator<Item = SaIndex> + use<> {
        let high_water = self
            .keys
            .value::<Header>(0)
            .map_or(0, |header| header.high_water.load(Ordering::Acquire));
        let end = u16::try_from(high_water.min(self.shape.capacity as u64)).unwrap_or(u16::MAX);
        (0..end).filter_map(SaIndex::new)
    }

    /// The child SA at an index, `None` when there is none (any more).
    ///
    /// [`Error::Torn`] when the owner is writing it just now, or died while writing: keep the index and try again later.
    pub fn read(&self, index: SaIndex) -> Result<Option<ChildSa>, Error> {
        let records = self
            .keys
            .slice::<Record>(Kind::Keys.records_at(), self.shape.capacity);
        records
            .get(usize::from(index.number()))
            .map_or(Ok(None), |record| record.read(index))
    }

    /// The child SA that a packet's SPI names. `None` when the SPI is of another slot, an older generation, or none's.
    pub fn find(&self, spi: Spi) -> Result<Option<ChildSa>, Error> {
        if spi.slot() != self.shape.slot {
            return Ok(None);
        }
        Ok(self.read(spi.index())?.filter(|sa| sa.inbound_spi == spi))
    }

    /// The hot record of an SA that was read before. `None` when the SPI cannot be one of this slot.
    pub fn hot(&self, spi: Spi) -> Option<Hot<'_>> {
        if spi.slot() != self.shape.slot {
            return None;
        }
        let records = self
            .hot
            .slice::<HotRecord>(Kind::Hot.records_at(), self.shape.capacity);
        Some(Hot {
            record: records.get(usize::from(spi.index().number()))?,
            generation: spi.generation(),
        })
    }

    /// Begins to load the hot record and the counters of an SA into the cache, for a packet that will come, or one that will leave.
    pub fn prefetch(&self, spi: Spi, leaves: bool) {
        let index = usize::from(spi.index().number());
        let hot = self
            .hot
            .slice::<HotRecord>(Kind::Hot.records_at(), self.shape.capacity);
        let counters = self
            .counters
            .slice::<CounterRecord>(Kind::Counters.records_at(), self.shape.capacity);
        if let (Some(hot), Some(counters)) = (hot.get(index), counters.get(index)) {
            if leaves {
                prefetch_line(hot.outbound());
            } else {
                prefetch(hot);
            }
            prefetch_line(counters.often());
        }
    }

    /// The counters of an SA that was read before. `None` when they are another SA's by now.
    pub fn counters(&self, spi: Spi) -> Option<CounterCells<'_>> {
        let records = self
            .counters
            .slice::<CounterRecord>(Kind::Counters.records_at(), self.shape.capacity);
        let record = records.get(usize::from(spi.index().number()))?;
        (record.spi() == Some(spi)).then_some(CounterCells { record })
    }
}

/// Reads the counters of a slot.
#[derive(Debug)]
pub struct SlotReader {
    shape: Shape,
    counters: Mapping,
}

impl SlotReader {
    /// Maps the counters to be read only.
    pub fn map(counters: impl AsFd) -> Result<Self, Error> {
        let (counters, shape) = segment::map(counters.as_fd(), Kind::Counters, Access::Read)?;
        Ok(Self { shape, counters })
    }

    /// The slot.
    pub fn slot(&self) -> Slot {
        self.shape.slot
    }

    /// One SA's counters, `None` when the record is another SA's.
    pub fn counters(&self, spi: Spi) -> Option<SaCounters> {
        let records = self
            .counters
            .slice::<CounterRecord>(Kind::Counters.records_at(), self.shape.capacity);
        let record = records.get(usize::from(spi.index().number()))?;
        (record.spi() == Some(spi)).then(|| record.snapshot())
    }
}

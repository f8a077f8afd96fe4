//! Where things lie in the segments of a slot. All sizes in bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::Slot;
use crate::change_log::LOG_ENTRIES;
use crate::counters::CounterRecord;
use crate::error::Error;
use crate::hot::HotRecord;
use crate::map::{Mapping, Shared};
use crate::record::{REDO_BYTES, Record};

/// Changes with every change of a layout below or of the encoding of a record.
pub const LAYOUT_VERSION: u64 = 3;
/// "STARWARD" in ASCII.
const MAGIC: u64 = 0x5354_4152_5741_5244;

/// The header's share of a segment: one page, so that what follows is aligned.
const HEADER_BYTES: usize = PAGE;
const PAGE: usize = 4096;

/// Which of a slot's segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Keys = 1,
    Hot = 2,
    Counters = 3,
    Ike = 4,
}

/// Words of a chunk of an IKE SA's record.
pub(crate) const CHUNK_WORDS: usize = 16;
/// Bytes of one.
pub(crate) const CHUNK_BYTES: usize = CHUNK_WORDS * size_of::<AtomicU64>();
/// Chunks, for each child SA that there is room for: most IKE SAs have one.
const CHUNKS_PER_CHILD: usize = 16;
/// IKE SAs that can have a record, likewise: some are half-open, some being replaced.
const HEADS_PER_CHILD: usize = 2;
/// What comes before the entries of the journal: their number and a check word.
pub(crate) const JOURNAL_HEADER_WORDS: usize = 2;

/// The first bytes of each segment. Written once, by `sit`, but for the words said to be the owner's.
#[repr(C, align(64))]
pub(crate) struct Header {
    magic: AtomicU64,
    version: AtomicU64,
    kind: AtomicU64,
    slot: AtomicU64,
    capacity: AtomicU64,
    record_bytes: AtomicU64,
    /// Added to the number of uses of a record to get its generation. Random, so that a rebooted node does not repeat its SPIs.
    pub(crate) generation_base: AtomicU64,
    _reserved: AtomicU64,
    /// One above the highest record (chunk) that was in use. Owner.
    pub(crate) high_water: AtomicU64,
    /// Entries ever appended to the change log. Owner.
    pub(crate) log_head: AtomicU64,
    /// One above the highest index that ever had a head. Owner.
    pub(crate) heads_high_water: AtomicU64,
    /// Not 0: the journal tells what the heads must become. Owner.
    pub(crate) journal_valid: AtomicU64,
}

// SAFETY: repr(C), atomics only; the padding behind the last field is never read.
unsafe impl Shared for Header {}

impl Kind {
    const fn record_bytes(self) -> usize {
        match self {
            Self::Keys => size_of::<Record>(),
            Self::Hot => size_of::<HotRecord>(),
            Self::Counters => size_of::<CounterRecord>(),
            Self::Ike => CHUNK_BYTES,
        }
    }

    /// Where the records begin, or the chunks: at a page.
    pub(crate) const fn records_at(self) -> usize {
        match self {
            Self::Keys => REDO_AT + PAGE,
            Self::Hot | Self::Counters => HEADER_BYTES,
            Self::Ike => CHUNKS_AT,
        }
    }

    /// The whole segment.
    pub(crate) const fn segment_bytes(self, capacity: usize) -> usize {
        let records = match self {
            Self::Ike => chunks(capacity),
            _ => capacity,
        };
        self.records_at() + records * self.record_bytes()
    }
}

/// Chunks of the IKE segment of a slot for so many child SAs. Number 0 is none.
pub(crate) const fn chunks(capacity: usize) -> usize {
    // Whole pages.
    (capacity * CHUNKS_PER_CHILD).next_multiple_of(PAGE / CHUNK_BYTES)
}

/// Heads in it. The last one is for what belongs to no IKE SA.
pub(crate) const fn heads(capacity: usize) -> usize {
    capacity * HEADS_PER_CHILD + 1
}

/// Where the change log's entries begin in the keys segment.
pub(crate) const LOG_AT: usize = HEADER_BYTES;
/// Where the change that is being made to a record is noted in it.
pub(crate) const REDO_AT: usize = LOG_AT + LOG_ENTRIES * size_of::<AtomicU64>();
const _: () = assert!(REDO_BYTES <= PAGE, "the note of a change takes one page");

/// Where the heads begin in the IKE segment.
pub(crate) const HEADS_AT: usize = HEADER_BYTES;
/// Where the journal begins in it.
pub(crate) const JOURNAL_AT: usize =
    HEADS_AT + (heads(crate::DEFAULT_CAPACITY) * size_of::<AtomicU64>()).next_multiple_of(PAGE);
const CHUNKS_AT: usize = JOURNAL_AT
    + ((JOURNAL_HEADER_WORDS + heads(crate::DEFAULT_CAPACITY)) * size_of::<AtomicU64>())
        .next_multiple_of(PAGE);

/// Fills in a fresh header.
pub(crate) fn write_header(mapping: &Mapping, kind: Kind, slot: Slot, capacity: usize, generation_base: u64) {
    let Some(header) = mapping.value::<Header>(0) else {
        return;
    };
    header.version.store(LAYOUT_VERSION, Ordering::Relaxed);
    header.kind.store(kind as u64, Ordering::Relaxed);
    header.slot.store(slot.number().into(), Ordering::Relaxed);
    header.capacity.store(capacity as u64, Ordering::Relaxed);
    header
        .record_bytes
        .store(kind.record_bytes() as u64, Ordering::Relaxed);
    header.generation_base.store(generation_base, Ordering::Relaxed);
    header.magic.store(MAGIC, Ordering::Release);
}

/// What a checked header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(crate) slot: Slot,
    pub(crate) capacity: usize,
}

/// Checks a header against this program's layout.
pub(crate) fn check_header(mapping: &Mapping, kind: Kind) -> Result<Shape, Error> {
    let Some(header) = mapping.value::<Header>(0) else {
        return Err(Error::Layout {
            field: "size",
            found: 0,
            expected: HEADER_BYTES as u64,
        });
    };
    let expect = |field, word: &AtomicU64, expected: u64| {
        let found = word.load(Ordering::Acquire);
        if found == expected {
            Ok(())
        } else {
            Err(Error::Layout {
                field,
                found,
                expected,
            })
        }
    };
    expect("magic", &header.magic, MAGIC)?;
    expect("layout version", &header.version, LAYOUT_VERSION)?;
    expect("kind", &header.kind, kind as u64)?;
    expect("record size", &header.record_bytes, kind.record_bytes() as u64)?;
    let number = header.slot.load(Ordering::Relaxed);
    let slot = u8::try_from(number).ok().and_then(Slot::new);
    let slot = slot.ok_or(Error::Layout {
        field: "slot",
        found: number,
        expected: 1,
    })?;
    let capacity = header.capacity.load(Ordering::Relaxed);
    let most = crate::DEFAULT_CAPACITY as u64;
    let capacity = usize::try_from(capacity)
        .ok()
        .filter(|c| (1..=crate::DEFAULT_CAPACITY).contains(c));
    let capacity = capacity.ok_or(Error::Layout {
        field: "capacity",
        found: header.capacity.load(Ordering::Relaxed),
        expected: most,
    })?;
    Ok(Shape { slot, capacity })
}

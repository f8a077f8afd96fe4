//! Making the segments of a slot, and handing them out with no more rights than the receiver's role has.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;

use crate::layout::{self, Kind, Shape};
use crate::map::{Access, Mapping};
use crate::{Error, Slot, Spi};

/// How many child SAs a slot can hold: all that the SPI's index can tell apart. Segments are sparse, so unused records cost nothing.
pub const DEFAULT_CAPACITY: usize = 1 << Spi::INDEX_BITS;

/// The segments of a slot, as `sit` holds them.
#[derive(Debug)]
pub struct SlotSegments {
    slot: Slot,
    keys: OwnedFd,
    hot: OwnedFd,
    counters: OwnedFd,
    ike: OwnedFd,
}

/// Descriptors of the segments for a role: [`SlotSegments::owner_fds`] or [`SlotSegments::worker_fds`]. May be closed once mapped.
#[derive(Debug)]
pub struct SegmentFds {
    /// Keys, change log, records.
    pub keys: OwnedFd,
    /// Sequence numbers, replay windows, activity, learned endpoints.
    pub hot: OwnedFd,
    /// Counters.
    pub counters: OwnedFd,
    /// Records of IKE SAs, for [`crate::IkeStore::map`]: the owner's only.
    pub ike: Option<OwnedFd>,
}

impl SlotSegments {
    /// Makes the segments of `slot`, empty, with [`DEFAULT_CAPACITY`] records.
    pub fn create(slot: Slot) -> Result<Self, Error> {
        Self::with_capacity(slot, DEFAULT_CAPACITY)
    }

    /// Makes the segments of `slot` for `capacity` child SAs (1 to [`DEFAULT_CAPACITY`]).
    pub fn with_capacity(slot: Slot, capacity: usize) -> Result<Self, Error> {
        if !(1..=DEFAULT_CAPACITY).contains(&capacity) {
            return Err(Error::Invalid {
                field: "capacity",
                expected: "1 to 16384",
            });
        }
        let mut random = [0; 8];
        std::io::Read::read_exact(
            &mut std::fs::File::open("/dev/urandom").map_err(random_error)?,
            &mut random,
        )
        .map_err(random_error)?;
        let generation_base = u64::from_ne_bytes(random) % (1 << Spi::GENERATION_BITS);
        let segment = |kind| segment(kind, slot, capacity, generation_base);
        Ok(Self {
            slot,
            keys: segment(Kind::Keys)?,
            hot: segment(Kind::Hot)?,
            counters: segment(Kind::Counters)?,
            ike: segment(Kind::Ike)?,
        })
    }

    /// Takes over segments that another program made: keys, hot, counters, IKE. Refuses what is not laid out as this program has it, or is another slot's.
    pub fn adopt(slot: Slot, fds: [OwnedFd; 4]) -> Result<Self, Error> {
        let kinds = [Kind::Keys, Kind::Hot, Kind::Counters, Kind::Ike];
        for (fd, kind) in fds.iter().zip(kinds) {
            let header = Mapping::new(fd, kind.records_at(), Access::Read)?;
            let found = layout::check_header(&header, kind)?.slot;
            if found != slot {
                return Err(Error::Layout {
                    field: "slot",
                    found: found.number().into(),
                    expected: slot.number().into(),
                });
            }
        }
        let [keys, hot, counters, ike] = fds;
        Ok(Self {
            slot,
            keys,
            hot,
            counters,
            ike,
        })
    }

    /// The segments themselves, for [`adopt`](Self::adopt).
    pub fn fds(&self) -> [BorrowedFd<'_>; 4] {
        [
            self.keys.as_fd(),
            self.hot.as_fd(),
            self.counters.as_fd(),
            self.ike.as_fd(),
        ]
    }

    /// The slot these belong to.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Descriptors for [`crate::SlotOwner::map`] and [`crate::IkeStore::map`].
    pub fn owner_fds(&self) -> Result<SegmentFds, Error> {
        Ok(SegmentFds {
            keys: duplicate(&self.keys)?,
            hot: duplicate(&self.hot)?,
            counters: duplicate(&self.counters)?,
            ike: Some(duplicate(&self.ike)?),
        })
    }

    /// Descriptors for [`crate::SlotWorker::map`]; the keys can only be read through theirs.
    pub fn worker_fds(&self) -> Result<SegmentFds, Error> {
        Ok(SegmentFds {
            keys: read_only(&self.keys)?,
            hot: duplicate(&self.hot)?,
            counters: duplicate(&self.counters)?,
            ike: None,
        })
    }

    /// The descriptor for [`crate::SlotReader::map`]; it can only be read.
    pub fn reader_fd(&self) -> Result<OwnedFd, Error> {
        read_only(&self.counters)
    }
}

/// Maps a segment of `kind` and checks its header.
pub(crate) fn map(fd: BorrowedFd<'_>, kind: Kind, access: Access) -> Result<(Mapping, Shape), Error> {
    let shape = layout::check_header(&Mapping::new(fd, kind.records_at(), Access::Read)?, kind)?;
    let mapping = Mapping::new(fd, kind.segment_bytes(shape.capacity), access)?;
    if kind != Kind::Counters {
        mapping.keep_out_of_core_dumps()?;
    }
    Ok((mapping, shape))
}

/// Refuses segments that were not made together.
pub(crate) fn check_same(keys: Shape, others: [Shape; 2]) -> Result<(), Error> {
    for other in others {
        if other.slot != keys.slot {
            return Err(Error::Layout {
                field: "slot",
                found: other.slot.number().into(),
                expected: keys.slot.number().into(),
            });
        }
        if other.capacity != keys.capacity {
            return Err(Error::Layout {
                field: "capacity",
                found: other.capacity as u64,
                expected: keys.capacity as u64,
            });
        }
    }
    Ok(())
}

fn random_error(error: std::io::Error) -> Error {
    Error::system("read /dev/urandom", error)
}

fn segment(kind: Kind, slot: Slot, capacity: usize, generation_base: u64) -> Result<OwnedFd, Error> {
    let name = match kind {
        Kind::Keys => "starward-keys",
        Kind::Hot => "starward-hot",
        Kind::Counters => "starward-counters",
        Kind::Ike => "starward-ike",
    };
    let fd = memfd_create(name, MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)
        .map_err(|e| Error::system("create a shared segment", e))?;
    let bytes = kind.segment_bytes(capacity);
    nix::unistd::ftruncate(&fd, i64::try_from(bytes).unwrap_or(i64::MAX))
        .map_err(|e| Error::system("size a shared segment", e))?;
    // A segment that cannot shrink cannot make its readers fault.
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&fd, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| Error::system("seal a shared segment", e))?;
    let mapping = Mapping::new(&fd, bytes, Access::ReadWrite)?;
    layout::write_header(&mapping, kind, slot, capacity, generation_base);
    Ok(fd)
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    fd.try_clone()
        .map_err(|e| Error::system("duplicate a segment's descriptor", e))
}

fn read_only(fd: &OwnedFd) -> Result<OwnedFd, Error> {
    let path = format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd());
    open(path.as_str(), OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|e| Error::system("reopen a segment for reading (is /proc mounted?)", e))
}

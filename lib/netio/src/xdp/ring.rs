//! The four rings of a socket: one side writes entries and moves `producer`, the other reads them and moves `consumer`. Both count without end.

use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::{RECEIVE_FRAMES, SEND_FRAMES};
use crate::Error;
use crate::memory::Mapping;

/// Which ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// We give frames to receive into.
    Fill,
    /// The kernel gives them back with packets in them.
    Receive,
    /// We give frames with packets to send.
    Transmit,
    /// The kernel gives them back.
    Completion,
}

/// One ring, mapped.
#[derive(Debug)]
pub(super) struct Ring {
    memory: Mapping,
    producer: usize,
    consumer: usize,
    flags: usize,
    entries: usize,
    /// Words of an entry: an address, and for packets their length and options.
    words: usize,
    size: u32,
}

/// A frame in a ring: where the packet begins in the memory of the queue, and its length (0 where only frames are exchanged).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) address: u64,
    pub(super) length: u32,
}

impl Kind {
    pub(super) const ALL: [Self; 4] = [Self::Fill, Self::Completion, Self::Receive, Self::Transmit];

    /// Entries it has room for: a power of two.
    pub(super) const fn size(self) -> u32 {
        match self {
            Self::Fill | Self::Receive => RECEIVE_FRAMES as u32,
            Self::Transmit | Self::Completion => SEND_FRAMES as u32,
        }
    }

    /// The socket option that makes it.
    pub(super) const fn option(self) -> libc::c_int {
        match self {
            Self::Fill => libc::XDP_UMEM_FILL_RING,
            Self::Receive => libc::XDP_RX_RING,
            Self::Transmit => libc::XDP_TX_RING,
            Self::Completion => libc::XDP_UMEM_COMPLETION_RING,
        }
    }

    const fn page_offset(self) -> libc::off_t {
        match self {
            Self::Fill => libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t,
            Self::Receive => libc::XDP_PGOFF_RX_RING,
            Self::Transmit => libc::XDP_PGOFF_TX_RING,
            Self::Completion => libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t,
        }
    }

    const fn words(self) -> usize {
        match self {
            Self::Fill | Self::Completion => 1,
            Self::Receive | Self::Transmit => 2,
        }
    }
}

impl Ring {
    /// Maps a ring of a socket that has it.
    pub(super) fn map(socket: impl AsFd, kind: Kind) -> Result<Self, Error> {
        let all = offsets(&socket).map_err(|e| Error::system("ask for the rings of an AF_XDP socket", e))?;
        let offsets = match kind {
            Kind::Fill => all.fr,
            Kind::Receive => all.rx,
            Kind::Transmit => all.tx,
            Kind::Completion => all.cr,
        };
        let entries = offsets.desc as usize;
        let length = entries + kind.size() as usize * kind.words() * size_of::<u64>();
        Ok(Self {
            memory: Mapping::new(&socket, kind.page_offset(), length)?,
            producer: offsets.producer as usize,
            consumer: offsets.consumer as usize,
            flags: offsets.flags as usize,
            entries,
            words: kind.words(),
            size: kind.size(),
        })
    }

    /// Entries written so far.
    pub(super) fn produced(&self) -> u32 {
        load(self.memory.half(self.producer))
    }

    /// Entries read so far.
    pub(super) fn consumed(&self) -> u32 {
        load(self.memory.half(self.consumer))
    }

    /// Tells the other side of the entries before `index`.
    pub(super) fn produce(&self, index: u32) {
        store(self.memory.half(self.producer), index);
    }

    /// Tells the other side that the entries before `index` were read.
    pub(super) fn consume(&self, index: u32) {
        store(self.memory.half(self.consumer), index);
    }

    /// Whether the kernel has to be woken to see what was produced. To be asked after [`produce`](Self::produce).
    pub(super) fn needs_wakeup(&self) -> bool {
        // The kernel sets the flag and looks at the ring; we fill the ring and look at the flag.
        fence(Ordering::SeqCst);
        load(self.memory.half(self.flags)) & libc::XDP_RING_NEED_WAKEUP != 0
    }

    /// The entry at `index`.
    pub(super) fn read(&self, index: u32) -> Option<Entry> {
        match self.entry(index) {
            [address] => Some(Entry {
                address: address.load(Ordering::Relaxed),
                length: 0,
            }),
            [address, rest] => Some(Entry {
                address: address.load(Ordering::Relaxed),
                length: first_half(rest.load(Ordering::Relaxed)),
            }),
            _ => None,
        }
    }

    /// Writes the entry at `index`, which the other side does not see before it is [`produce`](Self::produce)d.
    pub(super) fn write(&self, index: u32, entry: Entry) {
        match self.entry(index) {
            [address] => address.store(entry.address, Ordering::Relaxed),
            [address, rest] => {
                address.store(entry.address, Ordering::Relaxed);
                rest.store(with_first_half(entry.length), Ordering::Relaxed);
            }
            _ => {}
        }
    }

    fn entry(&self, index: u32) -> &[AtomicU64] {
        let place = (index & (self.size - 1)) as usize;
        let octets = self.words * size_of::<u64>();
        self.memory.words(self.entries + place * octets, self.words)
    }
}

/// `len` of struct xdp_desc, which stands before its options.
fn first_half(word: u64) -> u32 {
    let [a, b, c, d, ..] = word.to_ne_bytes();
    u32::from_ne_bytes([a, b, c, d])
}

/// A length, and no options.
fn with_first_half(length: u32) -> u64 {
    let [a, b, c, d] = length.to_ne_bytes();
    u64::from_ne_bytes([a, b, c, d, 0, 0, 0, 0])
}

/// Every place exists: `map` has mapped up to the end of the entries, which lie behind.
fn load(place: Option<&AtomicU32>) -> u32 {
    place.map_or(0, |place| place.load(Ordering::Acquire))
}

fn store(place: Option<&AtomicU32>, value: u32) {
    if let Some(place) = place {
        place.store(value, Ordering::Release);
    }
}

fn offsets(socket: impl AsFd) -> std::io::Result<libc::xdp_mmap_offsets> {
    let nothing = libc::xdp_ring_offset {
        producer: 0,
        consumer: 0,
        desc: 0,
        flags: 0,
    };
    let mut offsets = libc::xdp_mmap_offsets {
        rx: nothing,
        tx: nothing,
        fr: nothing,
        cr: nothing,
    };
    let mut length = size_of_val(&offsets) as libc::socklen_t;
    // SAFETY: pointer and length describe `offsets`, which lives through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_MMAP_OFFSETS,
            std::ptr::from_mut(&mut offsets).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(offsets)
}

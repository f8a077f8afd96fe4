//! The receiving half of a queue.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};

use super::ledger::Ledger;
use super::ring::{Entry, Kind, Ring};
use super::{FRAME_BYTES, LEDGER_AT, MEMORY_BYTES, RECEIVE_FRAMES, TOLD_AT, TOLD_WORDS, XdpQueue, queue};
use crate::Error;
use crate::memory::Mapping;

/// Packets taken at once.
const BATCH: usize = 256;

/// Takes packets of a queue, in place.
#[derive(Debug)]
pub struct XdpReceiver {
    socket: OwnedFd,
    pub(super) fill: Ring,
    pub(super) ring: Ring,
    memory: Mapping,
    /// What the last [`receive`](Self::receive) took: address and length.
    pub(super) taken: Vec<Entry>,
    /// Frames of ours.
    free: Vec<usize>,
    /// Entries of the fill ring written.
    given: u32,
}

/// Packets that the kernel could not give us, since this was asked last (by whatever life of this process).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpLosses {
    /// We had given no frame to receive into.
    pub no_frame: u64,
    /// The receive ring was full.
    pub ring_full: u64,
    /// Anything else.
    pub other: u64,
}

impl XdpReceiver {
    /// Maps a queue, whoever worked with it before, and gives the kernel all frames to receive into that are not on their way.
    pub fn map(queue: &XdpQueue) -> Result<Self, Error> {
        let socket = queue
            .socket
            .try_clone()
            .map_err(|e| Error::system("use an AF_XDP socket", e))?;
        let fill = Ring::map(&socket, Kind::Fill)?;
        let ring = Ring::map(&socket, Kind::Receive)?;
        let memory = Mapping::new(&queue.memory, 0, MEMORY_BYTES)?;
        let free = ledger(&memory).recover(&fill, Kind::Fill.size(), &ring);
        let mut receiver = Self {
            given: fill.produced(),
            socket,
            fill,
            ring,
            memory,
            taken: Vec::with_capacity(BATCH),
            free,
        };
        receiver.give_back();
        Ok(receiver)
    }

    /// Takes what waits, up to a batch, and says how many packets that are. Those taken before must have been [given back](Self::give_back).
    pub fn receive(&mut self) -> usize {
        self.give_back();
        let ledger = ledger(&self.memory);
        let mut index = self.ring.consumed();
        let produced = self.ring.produced();
        let first = index;
        while index != produced && self.taken.len() < BATCH {
            // An entry that is no frame of ours, or one that is not away, cannot be; nobody else's memory is touched if it is.
            if let Some(entry) = self.ring.read(index)
                && let Some(frame) = ledger.frame_at(entry.address)
                && ledger.take(frame)
            {
                self.taken.push(entry);
            }
            index = index.wrapping_add(1);
        }
        if index != first {
            self.ring.consume(index);
        }
        self.taken.len()
    }

    /// The packets that were taken: Ethernet frames.
    pub fn packets_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        let memory = &self.memory;
        self.taken.iter().filter_map(move |entry| {
            let address = usize::try_from(entry.address).ok()?;
            let length = entry.length as usize;
            if address % FRAME_BYTES + length > FRAME_BYTES {
                return None;
            }
            // SAFETY: inside of one frame by the check. The frame is ours, as `receive` has noted, so the kernel does not touch it; each is taken once (a
            // frame that is ours already is not taken), so the slices are disjoint; and `self` is borrowed as long as they live.
            unsafe { memory.bytes_mut(address, length) }
        })
    }

    /// Gives the kernel all frames of ours to receive into, also those of the packets that were taken.
    pub fn give_back(&mut self) {
        let ledger = ledger(&self.memory);
        let frames = self
            .taken
            .drain(..)
            .filter_map(|entry| ledger.frame_at(entry.address));
        self.free.extend(frames);
        if self.free.is_empty() {
            return;
        }
        let consumed = self.fill.consumed();
        while self.given.wrapping_sub(consumed) < Kind::Fill.size()
            && let Some(frame) = self.free.pop()
        {
            ledger.give(frame, self.given);
            let address = (frame * FRAME_BYTES) as u64;
            self.fill.write(self.given, Entry { address, length: 0 });
            self.given = self.given.wrapping_add(1);
        }
        self.fill.produce(self.given);
        if self.fill.needs_wakeup() {
            wake(self.socket.as_fd());
        }
    }

    /// What the kernel lost since it was asked last.
    pub fn losses(&self) -> io::Result<XdpLosses> {
        let now = statistics(self.socket.as_fd())?;
        let now = [
            now.rx_fill_ring_empty_descs,
            now.rx_ring_full,
            // A packet for which there is no frame counts here too.
            now.rx_dropped.saturating_sub(now.rx_fill_ring_empty_descs),
        ];
        let mut news = [0; TOLD_WORDS];
        for ((news, now), told) in news.iter_mut().zip(now).zip(told(&self.memory)) {
            *news = now.saturating_sub(told.swap(now, Ordering::Relaxed));
        }
        let [no_frame, ring_full, other] = news;
        Ok(XdpLosses {
            no_frame,
            ring_full,
            other,
        })
    }

    /// Whether the device is gone, or in another namespace.
    pub fn is_gone(&self) -> bool {
        queue::is_gone(self.socket.as_fd())
    }
}

impl AsFd for XdpReceiver {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn ledger(memory: &Mapping) -> Ledger<'_> {
    Ledger::new(memory.words(LEDGER_AT, RECEIVE_FRAMES), 0)
}

fn told(memory: &Mapping) -> &[AtomicU64] {
    memory.words(TOLD_AT, TOLD_WORDS)
}

/// Has the driver look at the fill ring.
fn wake(socket: BorrowedFd<'_>) {
    // What it says is of no interest: the ring is looked at in any case.
    // SAFETY: nothing is written to memory of ours.
    unsafe {
        libc::recvfrom(
            socket.as_raw_fd(),
            std::ptr::null_mut(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null_mut(),
            std::ptr::null_mut(),
        )
    };
}

fn statistics(socket: BorrowedFd<'_>) -> io::Result<libc::xdp_statistics> {
    let mut statistics = libc::xdp_statistics {
        rx_dropped: 0,
        rx_invalid_descs: 0,
        tx_invalid_descs: 0,
        rx_ring_full: 0,
        rx_fill_ring_empty_descs: 0,
        tx_ring_empty_descs: 0,
    };
    let mut length = size_of_val(&statistics) as libc::socklen_t;
    // SAFETY: pointer and length describe `statistics`, which lives through the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            libc::XDP_STATISTICS,
            std::ptr::from_mut(&mut statistics).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(statistics)
}

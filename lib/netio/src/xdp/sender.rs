//! The sending half of a queue.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use super::ledger::Ledger;
use super::ring::{Entry, Kind, Ring};
use super::{FRAME_BYTES, LEDGER_AT, MEMORY_BYTES, RECEIVE_FRAMES, SEND_FRAMES, XdpQueue, queue};
use crate::Error;
use crate::memory::Mapping;

/// Sends packets by a queue, from its memory.
#[derive(Debug)]
pub struct XdpSender {
    socket: OwnedFd,
    pub(super) ring: Ring,
    pub(super) completion: Ring,
    memory: Mapping,
    /// Frames of ours.
    pub(super) free: Vec<usize>,
    /// Entries of the ring written, and of those shown to the kernel.
    pub(super) written: u32,
    shown: u32,
}

impl XdpSender {
    /// Maps a queue, whoever worked with it before; what that one left in the ring leaves.
    pub fn map(queue: &XdpQueue) -> Result<Self, Error> {
        let socket = queue
            .socket
            .try_clone()
            .map_err(|e| Error::system("use an AF_XDP socket", e))?;
        let ring = Ring::map(&socket, Kind::Transmit)?;
        let completion = Ring::map(&socket, Kind::Completion)?;
        let memory = Mapping::new(&queue.memory, 0, MEMORY_BYTES)?;
        let free = ledger(&memory).recover(&ring, Kind::Transmit.size(), &completion);
        let sender = Self {
            written: ring.produced(),
            shown: ring.produced(),
            socket,
            ring,
            completion,
            memory,
            free,
        };
        // Whether the device is up now or not, it is tried again.
        let _ = sender.kick();
        Ok(sender)
    }

    /// Has `fill` write a packet, an Ethernet frame, into a free frame; it says how long it is, or that there is none. It leaves with the next
    /// [`commit`](Self::commit). False when there is no frame free, or no packet.
    pub fn write(&mut self, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        if self.free.is_empty() {
            self.collect();
        }
        let Some(&frame) = self.free.last() else {
            return false;
        };
        // SAFETY: the frame is ours, so the kernel does not touch it, and `self` is borrowed as long as the slice lives, which is the only one.
        let Some(room) = (unsafe { self.memory.bytes_mut(frame * FRAME_BYTES, FRAME_BYTES) }) else {
            return false;
        };
        let Some(length) = fill(room).filter(|length| *length <= FRAME_BYTES) else {
            return false;
        };
        self.free.pop();
        ledger(&self.memory).give(frame, self.written);
        let entry = Entry {
            address: (frame * FRAME_BYTES) as u64,
            length: length as u32,
        };
        // There are as many places as frames.
        self.ring.write(self.written, entry);
        self.written = self.written.wrapping_add(1);
        true
    }

    /// Sends what was written.
    ///
    /// # Errors
    /// The device is down, or gone. What was written stays in the ring, and leaves if it comes up.
    pub fn commit(&mut self) -> io::Result<()> {
        if self.shown == self.written {
            return Ok(());
        }
        self.shown = self.written;
        self.ring.produce(self.written);
        if self.ring.needs_wakeup() {
            self.kick()?;
        }
        Ok(())
    }

    /// Takes back what has left, and has the kernel look at what has not yet.
    ///
    /// # Errors
    /// As for [`commit`](Self::commit).
    pub fn turn(&mut self) -> io::Result<()> {
        self.collect();
        if self.ring.consumed() == self.ring.produced() {
            return Ok(());
        }
        self.kick()
    }

    /// Frames that are with the kernel.
    pub fn under_way(&self) -> usize {
        SEND_FRAMES - self.free.len()
    }

    pub(super) fn collect(&mut self) {
        let ledger = ledger(&self.memory);
        let (first, produced) = (self.completion.consumed(), self.completion.produced());
        let mut index = first;
        while index != produced {
            let entry = self.completion.read(index);
            // One that is not away cannot be here; it is not used twice if it is.
            if let Some(frame) = entry.and_then(|entry| ledger.frame_at(entry.address))
                && ledger.take(frame)
            {
                self.free.push(frame);
            }
            index = index.wrapping_add(1);
        }
        if index != first {
            self.completion.consume(index);
        }
    }

    /// The kernel takes so many packets off the ring in one call, and says `WouldBlock` when there are more.
    fn kick(&self) -> io::Result<()> {
        loop {
            let before = self.ring.consumed();
            match queue::kick(self.socket.as_fd()) {
                Ok(()) => return Ok(()),
                Err(error) => match error.raw_os_error() {
                    // Or that it dropped one, and has not looked at the others.
                    Some(libc::EAGAIN | libc::EBUSY) if self.ring.consumed() != before => {}
                    // The device's own queue is full, or memory is short: they stay in the ring.
                    Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => return Ok(()),
                    _ => return Err(error),
                },
            }
        }
    }
}

fn ledger(memory: &Mapping) -> Ledger<'_> {
    let first = LEDGER_AT + RECEIVE_FRAMES * size_of::<u64>();
    Ledger::new(memory.words(first, SEND_FRAMES), RECEIVE_FRAMES)
}

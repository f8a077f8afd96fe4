//! Stray rings: packets that reached the wrong process, on their way to the owner of their slot.
//!
//! One ring per ordered pair of processes: one producer, one consumer. Bounded; when it is full, packets are dropped and
//! counted. `sit` holds the memory and the event descriptor, so what waits survives the death of either end.
//!
//! Layout: a header page, then `capacity` bytes of records, each 16 bytes of header and the packet, rounded up to 16 bytes. A record never
//! wraps around: a header with the length [`SKIP`] sends the reader back to the start. Positions only grow; the producer owns `head`, the
//! consumer `tail`.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering, fence};

use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::Error;
use crate::map::{Access, Mapping, Shared};

/// "SWSTRAY1" in ASCII.
const MAGIC: u64 = 0x5357_5354_5241_5931;
const DATA_AT: usize = 4096;
const RECORD_HEADER: usize = 16;
const ALIGN: u64 = 16;
/// A length that says: go on at the start of the ring.
const SKIP: u32 = u32::MAX;

#[repr(C, align(64))]
struct Line(AtomicU64, AtomicU64, [AtomicU64; 6]);

#[repr(C, align(64))]
struct Header {
    /// Magic, capacity.
    fixed: Line,
    /// Head, packets dropped because the ring was full.
    producer: Line,
    /// Tail, records dropped because they made no sense, the position up to which the consumer is done with what it took.
    consumer: Line,
}

// SAFETY: repr(C), atomics only.
unsafe impl Shared for Header {}

/// A ring as `sit` holds it.
#[derive(Debug)]
pub struct StrayRing {
    memory: OwnedFd,
    event: OwnedFd,
}

/// What travels with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StrayHeader {
    /// What the packet is; the workers' own numbering (from the network, from the TUN, ...).
    pub kind: u32,
    /// The context (virtual router) it belongs to.
    pub context: u32,
}

impl StrayRing {
    /// The longest packet, with whatever the workers put before it.
    pub const MAX_PACKET: usize = 65_535 + 129;
    /// The smallest ring: two of the longest packets and then some.
    pub const MIN_BYTES: usize = 256 * 1024;

    /// Makes an empty ring of `bytes` (rounded up to a page, at least [`MIN_BYTES`](Self::MIN_BYTES)).
    pub fn create(bytes: usize) -> Result<Self, Error> {
        let capacity = bytes.max(Self::MIN_BYTES).next_multiple_of(4096);
        let memory = memfd_create(
            "starward-stray",
            MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
        )
        .map_err(|e| Error::system("create a stray ring", e))?;
        nix::unistd::ftruncate(&memory, i64::try_from(DATA_AT + capacity).unwrap_or(i64::MAX))
            .map_err(|e| Error::system("size a stray ring", e))?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&memory, FcntlArg::F_ADD_SEALS(seals)).map_err(|e| Error::system("seal a stray ring", e))?;
        let mapping = Mapping::new(&memory, DATA_AT, Access::ReadWrite)?;
        if let Some(header) = mapping.value::<Header>(0) {
            header.fixed.1.store(capacity as u64, Ordering::Relaxed);
            header.fixed.0.store(MAGIC, Ordering::Release);
        }
        let event = EventFd::from_value_and_flags(0, EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|e| Error::system("create an event descriptor", e))?;
        Ok(Self {
            memory,
            event: event.into(),
        })
    }

    /// Takes over a ring that another program made; refuses what is none.
    pub fn adopt(memory: OwnedFd, event: OwnedFd) -> Result<Self, Error> {
        Ring::map(
            &memory,
            event
                .try_clone()
                .map_err(|e| Error::system("duplicate an event descriptor", e))?,
        )?;
        Ok(Self { memory, event })
    }

    /// The memory and the event descriptor, to be sent to a worker, for [`StrayProducer::map`] or [`StrayConsumer::map`].
    pub fn fds(&self) -> (BorrowedFd<'_>, BorrowedFd<'_>) {
        (self.memory.as_fd(), self.event.as_fd())
    }
}

/// A mapped ring; `capacity` was checked against the mapping.
#[derive(Debug)]
struct Ring {
    mapping: Mapping,
    event: OwnedFd,
    capacity: u64,
}

impl Ring {
    fn map(memory: impl AsFd, event: OwnedFd) -> Result<Self, Error> {
        let mapping = Mapping::new(&memory, DATA_AT, Access::Read)?;
        let layout = |field, found, expected| Error::Layout {
            field,
            found,
            expected,
        };
        let header = mapping
            .value::<Header>(0)
            .ok_or(layout("size", 0, DATA_AT as u64))?;
        let magic = header.fixed.0.load(Ordering::Acquire);
        let capacity = header.fixed.1.load(Ordering::Relaxed);
        if magic != MAGIC {
            return Err(layout("magic", magic, MAGIC));
        }
        let least = StrayRing::MIN_BYTES as u64;
        if capacity < least || !capacity.is_multiple_of(4096) || capacity > u32::MAX.into() {
            return Err(layout("capacity", capacity, least));
        }
        let mapping = Mapping::new(&memory, DATA_AT + capacity as usize, Access::ReadWrite)?;
        Ok(Self {
            mapping,
            event,
            capacity,
        })
    }

    fn header(&self) -> Option<&Header> {
        self.mapping.value(0)
    }

    /// Where a position lies in the mapping, and how many bytes follow to the end of the ring.
    fn place(&self, position: u64) -> (usize, u64) {
        let offset = position % self.capacity;
        (DATA_AT + offset as usize, self.capacity - offset)
    }

    /// Wakes the consumer.
    fn raise(&self) {
        // Fails only when 2^64 - 2 events wait already, which wakes it as well.
        let _ = nix::unistd::write(&self.event, &1u64.to_ne_bytes());
    }

    fn write_header(&self, position: u64, length: u32, header: StrayHeader) -> bool {
        let mut bytes = [0; RECORD_HEADER];
        let (chunks, _) = bytes.as_chunks_mut();
        for (chunk, word) in chunks.iter_mut().zip([length, header.kind, header.context]) {
            *chunk = word.to_le_bytes();
        }
        self.mapping.copy_in(self.place(position).0, &bytes)
    }

    fn read_header(&self, position: u64) -> Option<(u32, StrayHeader)> {
        let mut bytes = [0; RECORD_HEADER];
        if !self.mapping.copy_out(self.place(position).0, &mut bytes) {
            return None;
        }
        let [length, kind, context, _] =
            std::array::from_fn(|n| bytes.as_chunks().0.get(n).map_or(0, |c| u32::from_le_bytes(*c)));
        Some((length, StrayHeader { kind, context }))
    }
}

/// The end that puts packets in.
#[derive(Debug)]
pub struct StrayProducer {
    ring: Ring,
}

impl StrayProducer {
    /// Maps a ring. Goes on where a predecessor stopped.
    pub fn map(memory: impl AsFd, event: OwnedFd) -> Result<Self, Error> {
        let ring = Ring::map(memory, event)?;
        // A predecessor may have died after it put a packet in and before it said so: nobody would wake the consumer any more.
        ring.raise();
        Ok(Self { ring })
    }

    /// Puts one packet in, given in parts. False when it was dropped: the ring is full, or the packet is longer than
    /// [`StrayRing::MAX_PACKET`].
    pub fn push(&mut self, header: StrayHeader, parts: &[&[u8]]) -> bool {
        let pushed = self.try_push(header, parts).is_some();
        if !pushed && let Some(shared) = self.ring.header() {
            shared.producer.1.fetch_add(1, Ordering::Relaxed);
        }
        pushed
    }

    /// Where the packet that was put in last ends.
    pub fn position(&self) -> u64 {
        let shared = self.ring.header();
        shared.map_or(0, |shared| shared.producer.0.load(Ordering::Relaxed))
    }

    /// Whether the consumer has taken everything up to a [`position`](Self::position) and is done with it.
    pub fn is_done(&self, position: u64) -> bool {
        self.ring.header().is_some_and(|shared| {
            let [done, ..] = &shared.consumer.2;
            done.load(Ordering::Acquire) >= position
        })
    }

    /// Packets dropped since the ring was made.
    pub fn dropped(&self) -> u64 {
        self.ring
            .header()
            .map_or(0, |header| header.producer.1.load(Ordering::Relaxed))
    }

    fn try_push(&mut self, header: StrayHeader, parts: &[&[u8]]) -> Option<()> {
        let shared = self.ring.header()?;
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > StrayRing::MAX_PACKET {
            return None;
        }
        let needed = record_bytes(length as u64);
        let head = shared.producer.0.load(Ordering::Relaxed);
        let used = head.checked_sub(shared.consumer.0.load(Ordering::Acquire))?;
        let free = self.ring.capacity.checked_sub(used)?;
        let (_, to_end) = self.ring.place(head);
        let skip = if to_end < needed { to_end } else { 0 };
        if free < skip + needed {
            return None;
        }
        if skip > 0 {
            self.ring.write_header(head, SKIP, header).then_some(())?;
        }
        let start = head + skip;
        self.ring
            .write_header(start, u32::try_from(length).ok()?, header)
            .then_some(())?;
        let mut at = self.ring.place(start).0 + RECORD_HEADER;
        for part in parts {
            self.ring.mapping.copy_in(at, part).then_some(())?;
            at += part.len();
        }
        shared.producer.0.store(start + needed, Ordering::Release);
        // With the fence in `pop`: either the consumer sees the new head before it sleeps, or we see that it had taken everything.
        fence(Ordering::SeqCst);
        if shared.consumer.0.load(Ordering::Relaxed) == head {
            self.ring.raise();
        }
        Some(())
    }
}

/// The end that takes packets out. Its descriptor becomes readable when the ring was empty and no longer is.
#[derive(Debug)]
pub struct StrayConsumer {
    ring: Ring,
}

impl StrayConsumer {
    /// Maps a ring. Goes on where a predecessor stopped, so take out what waits before waiting for the descriptor.
    pub fn map(memory: impl AsFd, event: OwnedFd) -> Result<Self, Error> {
        Ring::map(memory, event).map(|ring| Self { ring })
    }

    /// Takes the oldest packet out, into `packet` (at least [`StrayRing::MAX_PACKET`] bytes; a longer packet is dropped). Returns its header
    /// and length, `None` when the ring is empty. Who asks for the next one is done with the one before, see [`StrayProducer::is_done`].
    pub fn pop(&mut self, packet: &mut [u8]) -> Option<(StrayHeader, usize)> {
        let shared = self.ring.header()?;
        loop {
            let tail = shared.consumer.0.load(Ordering::Relaxed);
            let [done, ..] = &shared.consumer.2;
            done.store(tail, Ordering::Release);
            if shared.producer.0.load(Ordering::Acquire) == tail {
                fence(Ordering::SeqCst);
                if shared.producer.0.load(Ordering::Acquire) == tail {
                    return None;
                }
            }
            let head = shared.producer.0.load(Ordering::Acquire);
            let waiting = head.wrapping_sub(tail);
            let (at, to_end) = self.ring.place(tail);
            let (length, header) = self.ring.read_header(tail)?;
            if length == SKIP && to_end <= waiting {
                shared.consumer.0.store(tail + to_end, Ordering::Release);
                continue;
            }
            let length = length as usize;
            let record = record_bytes(length as u64);
            let place = packet.get_mut(..length).filter(|_| record <= waiting.min(to_end));
            if waiting > self.ring.capacity || record > waiting.min(to_end) {
                // Not written by our producer: there is no telling where the next record begins.
                shared.consumer.1.fetch_add(1, Ordering::Relaxed);
                shared.consumer.0.store(head, Ordering::Release);
                continue;
            }
            let taken = place.map(|place| self.ring.mapping.copy_out(at + RECORD_HEADER, place));
            shared.consumer.0.store(tail + record, Ordering::Release);
            match taken {
                Some(true) => return Some((header, length)),
                _ => shared.consumer.1.fetch_add(1, Ordering::Relaxed),
            };
        }
    }

    /// Clears the event. Call it before [`pop`](Self::pop) until `None`.
    pub fn clear_event(&self) {
        let mut count = [0; 8];
        // EAGAIN: it was clear.
        let _ = nix::unistd::read(&self.ring.event, &mut count);
    }

    /// Records dropped because they made no sense or did not fit the buffer.
    pub fn dropped(&self) -> u64 {
        self.ring
            .header()
            .map_or(0, |header| header.consumer.1.load(Ordering::Relaxed))
    }
}

impl AsFd for StrayConsumer {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.event.as_fd()
    }
}

impl AsRawFd for StrayConsumer {
    fn as_raw_fd(&self) -> RawFd {
        self.ring.event.as_raw_fd()
    }
}

fn record_bytes(length: u64) -> u64 {
    (RECORD_HEADER as u64 + length).next_multiple_of(ALIGN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn ends(ring: &StrayRing) -> (StrayProducer, StrayConsumer) {
        let (memory, event) = ring.fds();
        let event = || event.try_clone_to_owned().unwrap();
        (
            StrayProducer::map(memory, event()).unwrap(),
            StrayConsumer::map(memory, event()).unwrap(),
        )
    }

    fn is_signalled(consumer: &StrayConsumer) -> bool {
        poll(
            &mut [PollFd::new(consumer.as_fd(), PollFlags::POLLIN)],
            PollTimeout::ZERO,
        )
        .unwrap()
            == 1
    }

    fn header(n: usize) -> StrayHeader {
        StrayHeader {
            kind: n as u32,
            context: !n as u32,
        }
    }

    fn packet(n: usize) -> Vec<u8> {
        (0..n * 7919 % (StrayRing::MAX_PACKET + 1))
            .map(|i| (i * 31 + n) as u8)
            .collect()
    }

    #[test]
    fn packets_of_all_lengths_cross_many_wraps() {
        let ring = StrayRing::create(0).unwrap();
        let (mut producer, mut consumer) = ends(&ring);
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        for n in 0..200 {
            let packet = packet(n);
            let (front, back) = packet.split_at(packet.len() / 3);
            assert!(producer.push(header(n), &[front, back]));
            if n % 2 == 1 {
                for m in [n - 1, n] {
                    let (head, length) = consumer.pop(&mut buffer).unwrap();
                    assert_eq!(head, header(m));
                    assert!(buffer[..length] == self::packet(m)[..], "packet {m}");
                }
                assert_eq!(consumer.pop(&mut buffer), None);
            }
        }
        assert_eq!((producer.dropped(), consumer.dropped()), (0, 0));
    }

    #[test]
    fn a_full_ring_drops_and_counts_and_goes_on() {
        let ring = StrayRing::create(0).unwrap();
        let (mut producer, mut consumer) = ends(&ring);
        let fitted = (0..10)
            .take_while(|n| producer.push(header(*n), &[&[7; 65_000]]))
            .count();
        assert_eq!(fitted, StrayRing::MIN_BYTES / 65_016);
        assert_eq!(producer.dropped(), 1);
        assert!(!producer.push(header(0), &[&[0; StrayRing::MAX_PACKET], &[0]]));
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        assert_eq!(consumer.pop(&mut buffer).unwrap().0, header(0));
        assert!(producer.push(header(99), &[&[1, 2, 3]]));
        let rest: Vec<_> =
            std::iter::from_fn(|| consumer.pop(&mut buffer).map(|(header, _)| header.kind)).collect();
        assert_eq!(rest, [1, 2, 3, 99]);
    }

    #[test]
    fn the_event_is_raised_when_the_ring_stops_being_empty() {
        let ring = StrayRing::create(0).unwrap();
        let (mut producer, mut consumer) = ends(&ring);
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        // Of a new producer, which cannot know what its predecessor still said.
        assert!(is_signalled(&consumer));
        consumer.clear_event();
        producer.push(header(1), &[b"x"]);
        assert!(is_signalled(&consumer));
        consumer.clear_event();
        producer.push(header(2), &[b"y"]);
        assert!(!is_signalled(&consumer), "one event is enough for all that wait");
        while consumer.pop(&mut buffer).is_some() {}
        producer.push(header(3), &[b"z"]);
        assert!(is_signalled(&consumer));
    }

    #[test]
    fn a_producer_that_dies_before_it_raises_the_event_leaves_nobody_asleep() {
        let ring = StrayRing::create(0).unwrap();
        let (mut producer, mut consumer) = ends(&ring);
        producer.push(header(1), &[b"x"]);
        // As if it had died just before.
        consumer.clear_event();
        drop(producer);
        let (_successor, _) = ends(&ring);
        assert!(is_signalled(&consumer));
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        assert_eq!(consumer.pop(&mut buffer), Some((header(1), 1)));
    }

    #[test]
    fn a_restarted_consumer_finds_what_waited_and_garbage_is_skipped() {
        let ring = StrayRing::create(0).unwrap();
        let (mut producer, consumer) = ends(&ring);
        producer.push(header(1), &[b"before"]);
        drop(consumer);
        let (_, mut consumer) = ends(&ring);
        let mut buffer = vec![0; StrayRing::MAX_PACKET];
        assert_eq!(consumer.pop(&mut buffer), Some((header(1), 6)));
        assert_eq!(&buffer[..6], b"before");
        producer.push(header(2), &[b"bad"]);
        let bad = u32::MAX - 1;
        assert!(producer.ring.mapping.copy_in(DATA_AT + 32, &bad.to_le_bytes()));
        assert_eq!(consumer.pop(&mut buffer), None);
        assert_eq!(consumer.dropped(), 1);
        producer.push(header(3), &[b"good"]);
        assert_eq!(consumer.pop(&mut buffer), Some((header(3), 4)));
    }

    /// Two threads, no wake-up may be lost: the consumer sleeps on the event only.
    #[test]
    fn no_wake_up_is_lost() {
        const PACKETS: usize = 20_000;
        let ring = StrayRing::create(0).unwrap();
        let (mut producer, mut consumer) = ends(&ring);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for n in 0..PACKETS {
                    while !producer.push(header(n), &[&n.to_le_bytes()]) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut buffer = vec![0; StrayRing::MAX_PACKET];
            let mut next = 0;
            while next < PACKETS {
                let ready = poll(
                    &mut [PollFd::new(consumer.as_fd(), PollFlags::POLLIN)],
                    PollTimeout::from(5000u16),
                )
                .unwrap();
                assert_eq!(ready, 1, "slept on although packet {next} waits");
                consumer.clear_event();
                while let Some((head, length)) = consumer.pop(&mut buffer) {
                    assert_eq!((head, &buffer[..length]), (header(next), &next.to_le_bytes()[..]));
                    next += 1;
                }
            }
        });
    }
}

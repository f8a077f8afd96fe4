//! The slots of this worker: SPIs and child SAs for the engine, in the segments that the data plane reads.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ikev2::{Path, Usage};
use sadb::{Activity, ChildSa, SaCounter, SaCounters, SegmentFds, Slot, SlotOwner, Spi};

/// All slots of this worker.
pub(crate) struct Slots {
    owners: HashMap<u8, SlotOwner>,
    clock: Clock,
    moves: RefCell<Moves>,
}

/// Peers that the data plane found to have moved.
#[derive(Default)]
struct Moves {
    /// Where to, by inbound SPI, as far as it was noticed.
    learned: HashMap<u32, SocketAddr>,
    /// Moves noticed and not yet counted.
    fresh: u64,
}

/// One instant on both clocks: CLOCK_MONOTONIC as numbers, which the data plane writes, and as [`Instant`]s.
#[derive(Debug, Clone, Copy)]
struct Clock {
    instant: Instant,
    nanoseconds: u64,
}

impl Slots {
    /// Maps the segments.
    pub(crate) fn map(segments: Vec<(Slot, SegmentFds)>) -> Result<Self, sadb::Error> {
        let mut owners = HashMap::with_capacity(segments.len());
        for (slot, fds) in segments {
            owners.insert(slot.number(), SlotOwner::map(&fds)?);
        }
        let clock = Clock {
            instant: Instant::now(),
            nanoseconds: netio::task::monotonic_ns(),
        };
        Ok(Self {
            owners,
            clock,
            moves: RefCell::default(),
        })
    }

    /// Removes every child SA, and returns how many there were.
    pub(crate) fn clear(&mut self) -> usize {
        self.owners.values_mut().map(SlotOwner::clear).sum()
    }

    /// Writes a child SA. It sends from now on if it says so, and the one that it replaces does not any more.
    pub(crate) fn install(&mut self, sa: &ChildSa, replaces: Option<u32>) -> Result<(), sadb::Error> {
        self.owner(sa.inbound_spi)?.install(sa)?;
        match replaces.filter(|_| sa.outbound_active) {
            Some(replaced) => self.change(replaced, |old| old.outbound_active = false),
            None => Ok(()),
        }
    }

    /// Sends with `spi` from now on, and with `replaces` no more.
    pub(crate) fn activate(&mut self, spi: u32, replaces: u32) -> Result<(), sadb::Error> {
        self.change(spi, |sa| sa.outbound_active = true)?;
        self.change(replaces, |sa| sa.outbound_active = false)
    }

    /// Has the peer at another address from now on.
    pub(crate) fn relocate(&mut self, spi: u32, path: Path) -> Result<(), sadb::Error> {
        self.change(spi, |sa| {
            sa.local = path.local;
            sa.peer = path.remote;
        })
    }

    /// Erases a child SA; returns what it counted, zeros when it was not there.
    pub(crate) fn remove(&mut self, spi: u32) -> SaCounters {
        self.moves.get_mut().learned.remove(&spi);
        let Some(spi) = Spi::from_u32(spi) else {
            return SaCounters::default();
        };
        let Ok(owner) = self.owner(spi) else {
            return SaCounters::default();
        };
        let counters = owner.counters(spi).unwrap_or_default();
        match owner.remove(spi) {
            Ok(()) => counters,
            Err(error) => {
                tracing::debug!("nothing to remove: {error}");
                SaCounters::default()
            }
        }
    }

    /// What a child SA counted so far.
    pub(crate) fn counters(&self, spi: u32) -> SaCounters {
        self.look(spi)
            .and_then(|(owner, spi)| owner.counters(spi))
            .unwrap_or_default()
    }

    /// How active a child SA is.
    pub(crate) fn activity(&self, spi: u32) -> Option<Activity> {
        self.look(spi).and_then(|(owner, spi)| owner.activity(spi))
    }

    /// How many peers the data plane saw move since the last call.
    pub(crate) fn take_moves(&mut self) -> u64 {
        std::mem::take(&mut self.moves.get_mut().fresh)
    }

    fn change(&mut self, spi: u32, change: impl FnOnce(&mut ChildSa)) -> Result<(), sadb::Error> {
        let no_slot = sadb::Error::Invalid {
            field: "SPI",
            expected: "one with a slot",
        };
        let spi = Spi::from_u32(spi).ok_or(no_slot)?;
        let owner = self.owner(spi)?;
        let mut sa = owner.read(spi)?;
        change(&mut sa);
        owner.update(&sa)
    }

    fn owner(&mut self, spi: Spi) -> Result<&mut SlotOwner, sadb::Error> {
        self.owners
            .get_mut(&spi.slot().number())
            .ok_or(sadb::Error::NoSuchSpi(spi))
    }

    fn look(&self, spi: u32) -> Option<(&SlotOwner, Spi)> {
        let spi = Spi::from_u32(spi)?;
        Some((self.owners.get(&spi.slot().number())?, spi))
    }

    /// Notices once that the data plane learned another address of the peer.
    fn note_move(&self, spi: u32, learned: SocketAddr) {
        let mut moves = self.moves.borrow_mut();
        if moves.learned.insert(spi, learned) != Some(learned) {
            moves.fresh += 1;
        }
    }
}

impl ikev2::Sad for Slots {
    fn allocate_spi(&mut self, slot: u8) -> Option<u32> {
        match self.owners.get_mut(&slot)?.allocate() {
            Ok(spi) => Some(spi.to_u32()),
            Err(error) => {
                tracing::warn!("{error}");
                None
            }
        }
    }

    fn free_spi(&mut self, spi: u32) {
        self.remove(spi);
    }

    fn usage(&self, spi: u32) -> Usage {
        let counters = self.counters(spi);
        let activity = self.activity(spi);
        let learned_peer = activity.and_then(|activity| activity.learned_peer);
        if let Some(learned) = learned_peer {
            self.note_move(spi, learned);
        }
        let last_inbound = activity.and_then(|activity| self.clock.instant(activity.last_in_ns));
        Usage {
            last_inbound,
            learned_peer,
            inbound_bytes: counters.get(SaCounter::BytesIn),
            inbound_packets: counters.get(SaCounter::PacketsIn),
            outbound_bytes: counters.get(SaCounter::BytesOut),
            outbound_packets: counters.get(SaCounter::PacketsOut),
        }
    }
}

impl Clock {
    /// The instant of a reading of CLOCK_MONOTONIC; `None` for 0, which stands for never.
    fn instant(self, nanoseconds: u64) -> Option<Instant> {
        if nanoseconds == 0 {
            return None;
        }
        match nanoseconds.checked_sub(self.nanoseconds) {
            Some(later) => self.instant.checked_add(Duration::from_nanos(later)),
            None => self
                .instant
                .checked_sub(Duration::from_nanos(self.nanoseconds - nanoseconds)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::child::record;
    use crate::child::tests::{child, data_path};
    use ikev2::Sad;
    use sadb::{SlotSegments, SlotWorker};

    fn slots(capacity: usize) -> (SlotSegments, Slots) {
        let segments = SlotSegments::with_capacity(Slot::new(3).unwrap(), capacity).unwrap();
        let fds = segments.owner_fds().unwrap();
        (segments, Slots::map(vec![(Slot::new(3).unwrap(), fds)]).unwrap())
    }

    #[test]
    fn the_data_plane_reads_what_the_engine_wants() {
        let (segments, mut slots) = slots(10);
        let worker = SlotWorker::map(&segments.worker_fds().unwrap()).unwrap();
        let read = |spi: u32| worker.find(Spi::from_u32(spi).unwrap()).unwrap();
        let old = slots.allocate_spi(3).unwrap();
        assert_eq!(slots.allocate_spi(4), None, "not our slot");
        slots
            .install(&record(&child(old), &data_path()).unwrap(), None)
            .unwrap();
        assert!(read(old).unwrap().outbound_active);

        // The peer rekeys: the new one receives only, until it is activated.
        let new = slots.allocate_spi(3).unwrap();
        let pending = ikev2::ChildSa {
            outbound_active: false,
            ..child(new)
        };
        slots
            .install(&record(&pending, &data_path()).unwrap(), Some(old))
            .unwrap();
        assert_eq!(
            (
                read(old).unwrap().outbound_active,
                read(new).unwrap().outbound_active
            ),
            (true, false)
        );
        slots.activate(new, old).unwrap();
        assert_eq!(
            (
                read(old).unwrap().outbound_active,
                read(new).unwrap().outbound_active
            ),
            (false, true)
        );

        // We rekey: the new one sends at once, and the one before it no more.
        let third = slots.allocate_spi(3).unwrap();
        slots
            .install(&record(&child(third), &data_path()).unwrap(), Some(new))
            .unwrap();
        assert_eq!(
            (
                read(new).unwrap().outbound_active,
                read(third).unwrap().outbound_active
            ),
            (false, true)
        );

        let path = Path {
            local: "192.0.2.1:4500".parse().unwrap(),
            remote: "203.0.113.7:61000".parse().unwrap(),
        };
        slots.relocate(third, path).unwrap();
        assert_eq!(read(third).unwrap().peer, path.remote);
        assert!(slots.relocate(0x0500_0000, path).is_err());

        let spi = Spi::from_u32(third).unwrap();
        worker.counters(spi).unwrap().received(2, 300);
        worker.hot(spi).unwrap().received_at(netio::task::monotonic_ns());
        worker
            .hot(spi)
            .unwrap()
            .learn_peer("203.0.113.8:1".parse().unwrap());
        let usage = slots.usage(third);
        assert_eq!(
            (usage.inbound_packets, usage.inbound_bytes, usage.outbound_bytes),
            (2, 300, 0)
        );
        assert_eq!(usage.learned_peer, "203.0.113.8:1".parse().ok());
        assert!(usage.last_inbound.unwrap() <= Instant::now());
        slots.usage(third);
        assert_eq!((slots.take_moves(), slots.take_moves()), (1, 0));

        assert_eq!(slots.remove(third).get(SaCounter::BytesIn), 300);
        assert!(read(third).is_none());
        assert_eq!(slots.remove(third), SaCounters::default());
        assert_eq!(slots.clear(), 2);
    }

    #[test]
    fn a_full_slot_gives_no_spi_until_one_is_given_back() {
        let (_segments, mut slots) = slots(1);
        let spi = slots.allocate_spi(3).unwrap();
        assert_eq!(slots.allocate_spi(3), None);
        slots.free_spi(spi);
        assert!(slots.allocate_spi(3).is_some_and(|again| again != spi));
    }

    #[test]
    fn both_clocks_tell_the_same_time() {
        let clock = Clock {
            instant: Instant::now(),
            nanoseconds: netio::task::monotonic_ns(),
        };
        let nanoseconds = netio::task::monotonic_ns();
        let read = clock.instant(nanoseconds).unwrap();
        assert_eq!(
            read - clock.instant,
            Duration::from_nanos(nanoseconds - clock.nanoseconds)
        );
        assert!(read <= Instant::now());
        let before = clock.instant(clock.nanoseconds - 1_000_000).unwrap();
        assert_eq!(clock.instant - before, Duration::from_millis(1));
        assert_eq!(clock.instant(0), None);
    }
}

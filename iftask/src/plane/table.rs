//! The child SAs of this worker's slots, kept in step with the segments by their change logs.

use std::net::IpAddr;

use ipnet::IpNet;
use sadb::{Change, Error, SaIndex, Slot, SlotWorker, Spi, prefetch_front};

use super::entries::Entries;
use super::lookup::Lookup;
use super::sa::{Keys, Sa};

pub(super) const SLOTS: usize = 256;
/// SAs to the same peer that are asked for what they know of its path.
const MOST_SIBLINGS: usize = 8;
/// New destinations that are told one by one.
const MOST_NEWS: usize = 64;

/// What SAs came in since somebody asked last.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// For these single destinations, each with its context.
    Hosts(Vec<(u32, IpAddr)>),
    /// For networks, or for many destinations.
    Many,
}

/// Everything the data plane knows of SAs. Both parts can be borrowed at once: [`Slots`] for counters and sequence numbers, [`Entries`] for keys.
pub(crate) struct Table {
    slots: Slots,
    entries: Entries,
    lookup: Lookup,
    /// Records that were being written when they were read.
    torn: Vec<(Slot, SaIndex)>,
    news: Option<News>,
}

/// An SA, its keys, and the segments of its slot.
pub(crate) struct Found<'t> {
    pub(crate) sa: &'t mut Sa,
    pub(crate) keys: &'t mut Keys,
    pub(crate) worker: &'t SlotWorker,
}

/// The mapped segments, by slot.
pub(crate) struct Slots(Vec<Option<Mapped>>);

/// The segments of a slot.
struct Mapped {
    worker: SlotWorker,
    /// The worker that it was let go to: only read since.
    taker: Option<u16>,
}

impl Table {
    pub(crate) fn new() -> Self {
        Self {
            slots: Slots((0..SLOTS).map(|_| None).collect()),
            entries: Entries::new(),
            lookup: Lookup::default(),
            torn: Vec::new(),
            news: None,
        }
    }

    /// Takes a slot's segments over and reads what is in them.
    pub(crate) fn add_slot(&mut self, worker: SlotWorker) {
        let slot = worker.slot();
        self.drop_slot(slot);
        if let Some(place) = self.slots.0.get_mut(usize::from(slot.number())) {
            let taker = None;
            *place = Some(Mapped { worker, taker });
        }
        self.refresh_slot(slot);
    }

    /// Writes nothing of a slot from now on, which is another worker's. Its routes stay until it is dropped.
    pub(crate) fn let_go(&mut self, slot: Slot, to: u16) {
        if let Some(mapped) = self.slots.mapped_mut(slot) {
            mapped.taker = Some(to);
        }
    }

    /// The worker that a slot was let go to, while its routes are still known here.
    pub(crate) fn taker(&self, slot: Slot) -> Option<u16> {
        self.slots.mapped(slot)?.taker
    }

    /// Forgets a slot, which now belongs to somebody else.
    pub(crate) fn drop_slot(&mut self, slot: Slot) {
        let number = usize::from(slot.number());
        for index in (0..self.entries.size()).filter_map(|n| SaIndex::new(n as u16)) {
            self.forget(slot, index);
        }
        self.entries.free(slot);
        if let Some(place) = self.slots.0.get_mut(number) {
            *place = None;
        }
        self.torn.retain(|(torn, _)| *torn != slot);
    }

    /// Looks at the change logs of all slots.
    pub(crate) fn refresh(&mut self) {
        for (slot, index) in std::mem::take(&mut self.torn) {
            self.read(slot, index);
        }
        for slot in Slot::all() {
            self.refresh_slot(slot);
        }
    }

    /// Looks at the change log of one slot. Costs next to nothing when nothing changed.
    pub(crate) fn refresh_slot(&mut self, slot: Slot) {
        while let Some(change) = self
            .slots
            .mapped_mut(slot)
            .and_then(|mapped| mapped.worker.next_change())
        {
            match change {
                Change::Record(index) => self.read(slot, index),
                Change::Rescan => {
                    let Some(mapped) = self.slots.mapped(slot) else {
                        return;
                    };
                    for index in mapped.worker.indices() {
                        self.read(slot, index);
                    }
                }
            }
        }
    }

    /// Whether this worker has the slot of an SPI.
    pub(crate) fn owns(&self, slot: Slot) -> bool {
        self.slots.get(slot).is_some()
    }

    /// How many SAs each slot has, by its number; none if it is not ours.
    pub(crate) fn counts(&self) -> impl Iterator<Item = u32> {
        let slots = self.slots.0.iter().zip(self.entries.counts());
        slots.map(|(mapped, count)| match mapped {
            Some(Mapped { taker: None, .. }) => *count,
            _ => 0,
        })
    }

    /// How many SAs there are.
    pub(crate) fn len(&self) -> usize {
        self.counts().map(|count| count as usize).sum()
    }

    /// All that a packet of an SA needs, looked up once. `None` when there is no such SA here, or its keys cannot be had.
    pub(crate) fn with_keys(&mut self, spi: Spi) -> Option<Found<'_>> {
        let worker = self.slots.get(spi.slot())?;
        let (sa, keys) = self.entries.with_keys(spi, worker)?;
        Some(Found { sa, keys, worker })
    }

    /// Begins to load an SA and its records into the cache, for a packet that comes, or for one that leaves.
    pub(crate) fn expect(&self, spi: Spi, leaves: bool) {
        if let Some(worker) = self.slots.get(spi.slot()) {
            worker.prefetch(spi, leaves);
        }
        if let Some(place) = self.entries.place(spi) {
            // Whether there is an SA stands in it: that would have to be waited for.
            prefetch_front(
                place,
                if leaves {
                    Sa::SENDING_BYTES
                } else {
                    Sa::RECEIVING_BYTES
                },
            );
        }
    }

    /// Begins to load the keys of an SA, which should be in the cache by now.
    pub(crate) fn expect_keys(&self, spi: Spi, leaves: bool) {
        self.entries.expect_keys(spi, leaves);
    }

    /// Begins to look for the SA of a clear packet.
    pub(crate) fn expect_route(&self, context: u32, destination: IpAddr) {
        self.lookup.prefetch(context, destination);
    }

    /// The SA that will probably carry clear packets to there.
    pub(crate) fn likely_route(&self, context: u32, destination: IpAddr) -> Option<Spi> {
        self.lookup.likely(context, destination)
    }

    /// The SA that carries a clear packet.
    pub(crate) fn route(&self, context: u32, packet: &esp::Packet) -> Option<Spi> {
        self.lookup
            .find(context, packet, |spi| self.may_carry(spi, packet))
    }

    /// Whether this SA may carry a clear packet.
    pub(crate) fn may_carry(&self, spi: Spi, packet: &esp::Packet) -> bool {
        let sa = self.entries.get(spi);
        sa.is_some_and(|sa| sa.outbound_active && sa.policy.permits_outbound(packet))
    }

    /// Both halves, to be used at the same time.
    pub(crate) fn split(&mut self) -> (&Slots, &mut Entries) {
        (&self.slots, &mut self.entries)
    }

    /// The segments.
    pub(crate) fn slots(&self) -> &Slots {
        &self.slots
    }

    /// The SAs.
    pub(crate) fn entries(&self) -> &Entries {
        &self.entries
    }

    fn read(&mut self, slot: Slot, index: SaIndex) {
        let Some(Mapped { worker, taker }) = self.slots.mapped(slot) else {
            return;
        };
        let record = match worker.read(index) {
            Ok(Some(record)) => record,
            Ok(None) => return self.forget(slot, index),
            Err(Error::Torn { .. }) => {
                if !self.torn.contains(&(slot, index)) {
                    self.torn.push((slot, index));
                }
                return;
            }
            Err(error) => {
                tracing::warn!("slot {slot}, child SA {}: {error}", index.number());
                return self.forget(slot, index);
            }
        };
        let hot = worker.hot(record.inbound_spi);
        if let Some(old) = self.entries.get(record.inbound_spi)
            && old.configured_peer != record.peer
            && taker.is_none()
            && let Some(hot) = hot
        {
            // IKE knows better now where the peer is (MOBIKE, or an update that it verified).
            hot.forget_peer();
        }
        let mut sa = match Sa::new(&record, hot) {
            Ok(sa) => sa,
            Err(error) => {
                tracing::warn!("child SA {}: {error}", record.inbound_spi);
                return self.forget(slot, index);
            }
        };
        // Of a slot that was let go its new owner tells.
        let is_new = taker.is_none() && self.entries.get(record.inbound_spi).is_none();
        // The path is the same as before the record changed, and as for the SA that this one replaces.
        let path = self
            .entries
            .towards(sa.destination(), None)
            .take(MOST_SIBLINGS)
            .find_map(|spi| {
                self.entries
                    .get(spi)
                    .filter(|other| other.local.ip() == sa.local.ip())?
                    .path()
            });
        if let Some(path) = path {
            sa.follow(path);
        }
        self.forget(slot, index);
        if is_new {
            self.note_news(&sa);
        }
        let (knows_path, spi) = (sa.path().is_some(), sa.spi);
        self.entries.insert(sa);
        if let Some(sa) = self.entries.get(spi) {
            self.lookup.insert(sa.context, &sa.routes, spi);
        }
        if knows_path {
            self.entries.index_peers();
        }
    }

    /// What SAs came in since the last call.
    pub(crate) fn take_news(&mut self) -> Option<News> {
        self.news.take()
    }

    fn note_news(&mut self, sa: &Sa) {
        let is_host = |route: &IpNet| route.prefix_len() == route.max_prefix_len();
        let news = self.news.get_or_insert_with(|| News::Hosts(Vec::new()));
        match news {
            News::Hosts(hosts)
                // Packets to one that others share come by flows.
                if !sa.shared && sa.routes.iter().all(is_host) && hosts.len() + sa.routes.len() <= MOST_NEWS =>
            {
                hosts.extend(sa.routes.iter().map(|route| (sa.context, route.addr())));
            }
            _ => *news = News::Many,
        }
    }

    fn forget(&mut self, slot: Slot, index: SaIndex) {
        if let Some(old) = self.entries.remove(slot, index) {
            self.lookup.remove(old.context, &old.routes, old.spi);
        }
    }
}

impl Slots {
    /// The segments of a slot that is ours.
    pub(crate) fn get(&self, slot: Slot) -> Option<&SlotWorker> {
        let mapped = self.mapped(slot)?;
        mapped.taker.is_none().then_some(&mapped.worker)
    }

    fn mapped(&self, slot: Slot) -> Option<&Mapped> {
        self.0.get(usize::from(slot.number()))?.as_ref()
    }

    fn mapped_mut(&mut self, slot: Slot) -> Option<&mut Mapped> {
        self.0.get_mut(usize::from(slot.number()))?.as_mut()
    }

    /// Applies `count` to the counters of an SA, if they are still its.
    pub(crate) fn count(&self, spi: Spi, count: impl FnOnce(sadb::CounterCells<'_>)) {
        if let Some(cells) = self.get(spi.slot()).and_then(|worker| worker.counters(spi)) {
            count(cells);
        }
    }
}

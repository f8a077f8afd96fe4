//! Packets that reached the wrong process, over rings between each two workers and between the two processes of this one.
//!
//! ESP packets name their owner by slot and go there directly. So do IKE messages, which reach a data plane when the kernel has coalesced them with ESP of the
//! same peer (UDP_GRO looks at addresses and lengths only): to this worker's `ipsecmgr`, or by way of the owner's data plane to its. This worker's `ipsecmgr`
//! hands us what it found likewise. Clear packets do not name their owner: a worker that knows no SA for one asks the next worker by passing the
//! packet on, until each has seen it. The one who has the SA tells the worker where the packet came in, which remembers it for the destination, and the
//! kernel, which brings the next one to the right queue.

use std::net::IpAddr;

use esp::Packet;
use esp::VnetHeader;
use sadb::{
    Slot, Spi, StrayConsumer, StrayHeader, StrayOrigin, StrayProducer, StrayRing, address_bytes, address_from,
};

use super::engine::{Engine, RateLimit};
use super::hints::{Hints, Owner};
use super::io::Io;
use super::moves::MOST_HOPS;
use super::outputs::{KIND_SEND, KIND_TOO_LONG, KIND_WRITE, Outputs};
use super::table::News;
use crate::counters::Count;

/// Strays taken from one ring in one round.
const BATCH: usize = 64;
/// Packets a second of which we ask the others: each may cost every worker a look.
const ASKED: u64 = 10_000;

/// First byte of a ring's `kind`, beside those of [`StrayHeader`].
const KIND_CLEAR: u32 = 2;
const KIND_HINT: u32 = 3;
const KIND_NEWS: u32 = 5;
/// As [`KIND_CLEAR`], by way of the worker that had its slot before.
pub(crate) const KIND_FOLLOWS: u32 = 6;

/// Who handed us a packet of the encrypted side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Via {
    /// The kernel.
    Socket,
    /// This worker's `ipsecmgr`.
    Manager,
    /// Another worker's data plane, who took us for the owner. So many times it has been passed on before.
    Worker(u8),
    /// Nobody now: it was held for its slot.
    Held,
}

/// Where a clear packet came in, and who has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    /// The worker whose queue it came from.
    origin: u16,
    /// Workers that had no SA for it, after that one.
    hops: u8,
    /// It came straight from there, by a hint.
    hinted: bool,
}

impl Stray {
    /// In the third of the bytes of a ring's `kind`.
    const HINTED: u8 = 0x80;

    fn from_ring(hops: u8, origin: u16) -> Self {
        Self {
            origin,
            hops: hops & !Self::HINTED,
            hinted: hops & Self::HINTED != 0,
        }
    }

    /// Whether it goes straight from where it came in to the owner.
    pub(crate) fn is_hinted(self) -> bool {
        self.hinted
    }

    pub(crate) fn to_ring(self, kind: u32) -> u32 {
        let hinted = if self.hinted { Self::HINTED } else { 0 };
        kind | u32::from(self.hops & !Self::HINTED | hinted) << 8 | u32::from(self.origin) << 16
    }
}

/// The rings between this process and the others.
pub(crate) struct Strays {
    worker: u16,
    /// The worker whose `ipsecmgr` serves each slot; 0 = none of this node's.
    managers: Owners,
    /// Whose data plane does.
    owners: Owners,
    /// Slots that we let go, and where to: known before the map says so.
    left: Owners,
    pub(super) outputs: Outputs,
    /// To and from the other workers' data planes.
    rings: Vec<Ring>,
    /// To and from this worker's `ipsecmgr`.
    manager: Option<Ring>,
    pub(crate) hints: Hints,
    asked: RateLimit,
    buffer: Vec<u8>,
}

/// By the number of the slot.
pub(super) type Owners = [u16; 256];

struct Ring {
    worker: u16,
    to: StrayProducer,
    from: StrayConsumer,
}

impl Strays {
    /// For worker `worker`, without rings.
    pub(crate) fn new(worker: u16) -> Self {
        Self {
            worker,
            managers: [0; 256],
            owners: [0; 256],
            left: [0; 256],
            outputs: Outputs::new(),
            rings: Vec::new(),
            manager: None,
            hints: Hints::new(),
            asked: RateLimit::new(ASKED),
            buffer: vec![0; StrayRing::MAX_PACKET],
        }
    }

    /// Says whose `ipsecmgr` and whose data plane serve which slot. Index 0 is slot 1.
    pub(crate) fn set_owners(&mut self, managers: &[u16], data: &[u16]) {
        for (table, workers) in [(&mut self.managers, managers), (&mut self.owners, data)] {
            *table = [0; 256];
            for (owner, worker) in table.iter_mut().skip(1).zip(workers) {
                *owner = *worker;
            }
        }
        for (left, owner) in self.left.iter_mut().zip(&self.owners) {
            if *owner != self.worker {
                *left = 0;
            }
        }
    }

    /// A slot is another worker's now.
    pub(crate) fn slot_left(&mut self, slot: Slot, to: u16) {
        if let Some(left) = self.left.get_mut(usize::from(slot.number())) {
            *left = to;
        }
    }

    /// Takes over the rings to and from another worker's data plane, or this worker's `ipsecmgr`.
    pub(crate) fn add_ring(&mut self, worker: u16, to: StrayProducer, from: StrayConsumer) {
        let ring = Ring { worker, to, from };
        if worker == self.worker {
            self.manager = Some(ring);
            return;
        }
        self.rings.retain(|ring| ring.worker != worker);
        self.rings.push(ring);
        self.rings.sort_unstable_by_key(|ring| ring.worker);
    }

    /// The rings to and from another worker; of this one, those to and from its `ipsecmgr`.
    fn ring(&mut self, worker: u16) -> Option<&mut Ring> {
        let rings = self.rings.iter_mut().chain(&mut self.manager);
        rings.into_iter().find(|ring| ring.worker == worker)
    }

    /// The worker that this is.
    pub(crate) fn worker(&self) -> u16 {
        self.worker
    }

    /// Whom there are rings to.
    pub(crate) fn workers(&self) -> Vec<u16> {
        let rings = self.rings.iter().chain(&self.manager);
        rings.map(|ring| ring.worker).collect()
    }

    pub(super) fn push(&mut self, worker: u16, header: StrayHeader, parts: &[&[u8]]) -> bool {
        self.ring(worker).is_some_and(|ring| ring.to.push(header, parts))
    }

    /// Whether a worker is done with everything that was put into the ring to it up to a position.
    pub(super) fn is_done(&mut self, worker: u16, position: u64) -> bool {
        self.ring(worker).is_none_or(|ring| ring.to.is_done(position))
    }

    /// Where what was put into the ring to a worker last ends.
    pub(super) fn position(&mut self, worker: u16) -> u64 {
        self.ring(worker).map_or(0, |ring| ring.to.position())
    }

    /// The worker whose data plane has a slot; `None` when it is none of this node's.
    fn owner(&self, slot: Slot) -> Option<u16> {
        of(&self.left, slot).or_else(|| of(&self.owners, slot))
    }

    /// How a clear packet goes on that follows its slot; `None` when too many have seen it.
    pub(crate) fn follow(&self, stray: Option<Stray>) -> Option<Stray> {
        let Some(stray) = stray else {
            return Some(Stray {
                origin: self.worker,
                hops: 0,
                hinted: true,
            });
        };
        let hops = stray.hops.saturating_add(1);
        // Everybody, and once more for those who look while the slot is on its way.
        (usize::from(hops) <= 2 * self.rings.len()).then_some(Stray {
            hops,
            hinted: false,
            ..stray
        })
    }

    /// The worker after this one, in a circle.
    fn next(&self) -> Option<u16> {
        let after = self.rings.iter().find(|ring| ring.worker > self.worker);
        after.or(self.rings.first()).map(|ring| ring.worker)
    }
}

fn of(owners: &Owners, slot: Slot) -> Option<u16> {
    let owner = owners.get(usize::from(slot.number())).copied();
    owner.filter(|owner| *owner != 0)
}

impl<I: Io> Engine<I> {
    /// Passes an ESP packet on to the worker of its slot. False when there is none, or when it has been passed on often enough.
    pub(crate) fn pass_on_esp(&mut self, via: Via, spi: Spi, origin: StrayOrigin, data: &[u8]) -> bool {
        let own = self.strays.worker;
        let hops = match via {
            Via::Worker(hops) => hops + 1,
            _ => 0,
        };
        let owner = self.strays.owner(spi.slot()).filter(|owner| *owner != own);
        let Some(owner) = owner.filter(|_| hops < MOST_HOPS) else {
            return false;
        };
        let header = StrayHeader {
            kind: StrayHeader::ESP.kind | u32::from(hops) << 8,
            ..StrayHeader::ESP
        };
        self.push_stray(owner, header, &[&origin.encode(), data], data.len());
        true
    }

    /// Passes an IKE message on to this worker's `ipsecmgr`, or to the worker of its slot. False when it has been there already.
    pub(crate) fn pass_on_ike(&mut self, via: Via, origin: StrayOrigin, message: &[u8]) -> bool {
        let own = self.strays.worker;
        let owner = Slot::of_ike(message).and_then(|slot| of(&self.strays.managers, slot));
        let owner = owner.unwrap_or(own);
        let has_been_there = match via {
            Via::Socket | Via::Held => false,
            Via::Manager => owner == own,
            Via::Worker(_) => owner != own,
        };
        if has_been_there || self.strays.ring(owner).is_none() {
            return false;
        }
        self.push_stray(
            owner,
            StrayHeader::IKE,
            &[&origin.encode(), message],
            message.len(),
        );
        true
    }

    /// Passes a clear packet without SA on to whoever may have one; drops it when everybody has seen it. `read` is the header and the packet.
    pub(crate) fn pass_on_clear(&mut self, context: u32, packet: &Packet, read: &[u8], stray: Option<Stray>) {
        let destination = packet.addresses.destination();
        let next = match stray {
            None => self.first_hop(context, destination),
            Some(stray) => self.next_hop(context, destination, stray),
        };
        let Some((target, stray)) = next else {
            return self.tally.one(Count::ClearNoSa, packet.length);
        };
        let header = StrayHeader {
            kind: stray.to_ring(KIND_CLEAR),
            context,
        };
        self.push_stray(target, header, &[read], packet.length);
    }

    /// Where a packet goes that came from our own queue: straight to the owner, or round.
    fn first_hop(&mut self, context: u32, destination: IpAddr) -> Option<(u16, Stray)> {
        let strays = &mut self.strays;
        let owner = strays.hints.owner_of(context, destination, self.now_ns);
        let stray = |hinted| Stray {
            origin: strays.worker,
            hops: 0,
            hinted,
        };
        match owner {
            Owner::Worker(worker) => Some((worker, stray(true))),
            Owner::Nobody => None,
            Owner::Unknown => {
                let next = (strays.next()?, stray(false));
                strays.asked.allow(self.now_ns).then_some(next)
            }
        }
    }

    /// Where a packet goes that was passed on to us. The last one to be asked tells the worker where it came in that nobody has its SA.
    fn next_hop(&mut self, context: u32, destination: IpAddr, stray: Stray) -> Option<(u16, Stray)> {
        let strays = &mut self.strays;
        if stray.origin == strays.worker {
            // Back where it came in: an old hint sent it astray. Now everybody is asked, which does not lead here again.
            strays
                .hints
                .learn(context, destination, Owner::Unknown, self.now_ns);
            return self.first_hop(context, destination);
        }
        let stray = Stray {
            hops: stray.hops.saturating_add(1),
            hinted: false,
            ..stray
        };
        if usize::from(stray.hops) < strays.rings.len() {
            return strays.next().map(|next| (next, stray));
        }
        self.tell_origin(context, destination, stray, 0);
        None
    }

    /// The SA for the destination of a packet that another worker passed on is here: tells the kernel, unless others have SAs for it too, and the worker where it
    /// came in, if that does not know.
    pub(crate) fn claim(&mut self, context: u32, packet: &Packet, stray: Stray, shared: bool) {
        let destination = packet.addresses.destination();
        if !shared {
            self.attract(context, destination);
        }
        if !stray.hinted {
            self.tell_origin(context, destination, stray, self.strays.worker);
        }
    }

    fn attract(&mut self, context: u32, destination: IpAddr) {
        if let Some(tun) = self.ports.tun(context) {
            self.io.attract(tun, destination);
        }
    }

    /// Has each worker get some of the flows to a destination that several have SAs for.
    pub(crate) fn spread(&mut self, context: u32, destination: IpAddr) {
        if let Some(tun) = self.ports.tun(context) {
            self.io.spread(tun, destination);
        }
    }

    /// Tells the worker where a packet came in who has the SA for its destination; 0 = nobody.
    fn tell_origin(&mut self, context: u32, destination: IpAddr, stray: Stray, owner: u16) {
        if stray.origin == self.strays.worker {
            // It followed a slot and came back: we know by now.
            return;
        }
        let kind = KIND_HINT | u32::from(owner) << 16;
        let header = StrayHeader { kind, context };
        // A hint that is lost is told again with the next packet.
        let _ = self
            .strays
            .push(stray.origin, header, &[&address_bytes(destination)]);
    }

    /// Takes what another worker passed on, at most a batch. True when there may be more, of which no event will tell.
    pub(crate) fn take_strays(&mut self, worker: u16) -> bool {
        if let Some(ring) = self.strays.ring(worker) {
            ring.from.clear_event();
        }
        let mut buffer = std::mem::take(&mut self.strays.buffer);
        let mut more = true;
        for _ in 0..BATCH {
            let ring = self.strays.ring(worker);
            let Some((header, length)) = ring.and_then(|ring| ring.from.pop(&mut buffer)) else {
                more = false;
                break;
            };
            if let Some(data) = buffer.get_mut(..length) {
                self.stray(worker, header, data);
            }
        }
        self.strays.buffer = buffer;
        more
    }

    /// What came by the ring from a worker; from this one: of its `ipsecmgr`.
    fn stray(&mut self, from: u16, header: StrayHeader, data: &mut [u8]) {
        let [kind, hops, low, high] = header.kind.to_le_bytes();
        let worker = u16::from_le_bytes([low, high]);
        let via = if from == self.strays.worker {
            Via::Manager
        } else {
            Via::Worker(hops)
        };
        match u32::from(kind) {
            kind if kind == StrayHeader::ESP.kind => {
                self.tally.one(Count::StrayReceived, data.len());
                if let Some((origin, data)) = StrayOrigin::split(data) {
                    self.stray_esp(via, origin, data);
                }
            }
            kind if kind == StrayHeader::IKE.kind => {
                self.tally.one(Count::StrayReceived, data.len());
                if let Some((origin, message)) = StrayOrigin::split(data)
                    && !self.pass_on_ike(via, origin, message)
                {
                    self.tally.one(Count::IkeAstray, message.len());
                }
            }
            KIND_FOLLOWS if data.len() > VnetHeader::BYTES => {
                self.tally.one(Count::StrayReceived, data.len());
                let stray = Stray::from_ring(hops, worker);
                self.followed(from, header.context, data, stray);
            }
            KIND_CLEAR if data.len() > VnetHeader::BYTES => {
                self.tally.one(Count::StrayReceived, data.len());
                let stray = Stray::from_ring(hops, worker);
                self.stray_clear(header.context, data, stray);
            }
            KIND_HINT => {
                let owner = match worker {
                    0 => Owner::Nobody,
                    worker => Owner::Worker(worker),
                };
                if let Some(destination) = data.first_chunk().and_then(address_from) {
                    let hints = &mut self.strays.hints;
                    hints.learn(header.context, destination, owner, self.now_ns);
                }
            }
            KIND_WRITE => self.write_for(header.context, worker.into(), data),
            KIND_SEND => {
                if let Some((order, data)) = StrayOrigin::split(data) {
                    self.send_for(from, header, order, data);
                }
            }
            KIND_TOO_LONG => {
                if let Some((order, data)) = StrayOrigin::split(data)
                    && let Some(spi) = esp::spi_of(data)
                {
                    self.learn_too_long(order, spi, worker.into());
                }
            }
            KIND_NEWS => match data.first_chunk().and_then(address_from) {
                Some(destination) => self.strays.hints.correct(header.context, destination, worker),
                None => self.strays.hints.doubt(),
            },
            _ => {}
        }
    }

    /// Tells the other workers which SAs are new here: one of them may have asked for their destinations in vain just before.
    pub(crate) fn announce(&mut self) {
        let Some(news) = self.table.take_news() else {
            return;
        };
        if let News::Hosts(hosts) = &news {
            for (context, host) in hosts {
                self.attract(*context, *host);
            }
        }
        let kind = KIND_NEWS | u32::from(self.strays.worker) << 16;
        for ring in &mut self.strays.rings {
            // News that are lost are found out when the old hint is no longer believed.
            match &news {
                News::Hosts(hosts) => hosts.iter().for_each(|(context, host)| {
                    let header = StrayHeader {
                        kind,
                        context: *context,
                    };
                    let _ = ring.to.push(header, &[&address_bytes(*host)]);
                }),
                News::Many => {
                    let _ = ring.to.push(StrayHeader { kind, context: 0 }, &[]);
                }
            }
        }
    }

    /// Hands something to another process, and counts it as so many octets.
    pub(crate) fn push_stray(&mut self, worker: u16, header: StrayHeader, parts: &[&[u8]], octets: usize) {
        let pushed = self.strays.push(worker, header, parts);
        let count = if pushed {
            Count::StraySent
        } else {
            Count::StrayLost
        };
        self.tally.one(count, octets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hop_survives_the_ring() {
        for (hops, hinted) in [(0, true), (3, false), (127, true)] {
            let stray = Stray {
                origin: 0x1234,
                hops,
                hinted,
            };
            let [kind, hops, low, high] = stray.to_ring(KIND_CLEAR).to_le_bytes();
            assert_eq!(u32::from(kind), KIND_CLEAR);
            assert_eq!(Stray::from_ring(hops, u16::from_le_bytes([low, high])), stray);
        }
    }
}

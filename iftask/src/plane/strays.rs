//! Packets that reached the wrong worker, over rings between each two.
//!
//! ESP packets name their owner by slot and go there directly. Clear packets do not: a worker that knows no SA for one asks the next worker by passing the
//! packet on, until each has seen it. The one who has the SA tells the worker where the packet came in, which remembers it for the destination.

use std::net::{IpAddr, SocketAddr};

use esp::Packet;
use netio::VnetHeader;
use sadb::{Encapsulation, Spi, StrayConsumer, StrayHeader, StrayProducer, StrayRing};

use super::engine::Engine;
use super::inbound::Origin;
use super::io::Io;
use crate::counters::Count;

/// Strays taken from one ring in one round.
const BATCH: usize = 64;
/// Destinations whose owner is remembered.
const HINTS: usize = 4096;

/// First byte of a ring's `kind`.
const KIND_ESP: u32 = 1;
const KIND_CLEAR: u32 = 2;
const KIND_HINT: u32 = 3;

/// Source address, port, traffic class, encapsulation.
const ORIGIN_BYTES: usize = 17 + 2 + 1 + 1;

/// Where a clear packet came in, and who has seen it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stray {
    /// The worker whose queue it came from.
    origin: u16,
    /// Workers that had no SA for it, after that one.
    hops: u8,
}

/// The rings between this worker and the others.
pub(crate) struct Strays {
    worker: u16,
    /// The worker of each slot; 0 = none of this node's.
    owners: [u16; 256],
    rings: Vec<Ring>,
    hints: Vec<Hint>,
    buffer: Vec<u8>,
}

struct Ring {
    worker: u16,
    to: StrayProducer,
    from: StrayConsumer,
}

/// The last destination of a hash, and who has its SA.
#[derive(Clone, Copy)]
struct Hint {
    context: u32,
    destination: IpAddr,
    worker: u16,
}

impl Strays {
    /// For worker `worker`, without rings.
    pub(crate) fn new(worker: u16) -> Self {
        let nobody = Hint {
            context: 0,
            destination: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED),
            worker: 0,
        };
        Self {
            worker,
            owners: [0; 256],
            rings: Vec::new(),
            hints: vec![nobody; HINTS],
            buffer: vec![0; StrayRing::MAX_PACKET],
        }
    }

    /// Says who has which slot. Index 0 is slot 1.
    pub(crate) fn set_owners(&mut self, workers: &[u16]) {
        self.owners = [0; 256];
        for (owner, worker) in self.owners.iter_mut().skip(1).zip(workers) {
            *owner = *worker;
        }
    }

    /// Takes over the rings to and from another worker.
    pub(crate) fn add_ring(&mut self, worker: u16, to: StrayProducer, from: StrayConsumer) {
        self.rings.retain(|ring| ring.worker != worker);
        self.rings.push(Ring { worker, to, from });
        self.rings.sort_unstable_by_key(|ring| ring.worker);
    }

    fn consumer(&self, worker: u16) -> Option<&StrayConsumer> {
        let ring = self.rings.iter().find(|ring| ring.worker == worker)?;
        Some(&ring.from)
    }

    fn push(&mut self, worker: u16, header: StrayHeader, parts: &[&[u8]]) -> bool {
        match self.rings.iter_mut().find(|ring| ring.worker == worker) {
            Some(ring) => ring.to.push(header, parts),
            None => false,
        }
    }

    /// The worker after this one, in a circle.
    fn next(&self) -> Option<u16> {
        let after = self.rings.iter().find(|ring| ring.worker > self.worker);
        after.or(self.rings.first()).map(|ring| ring.worker)
    }

    fn hint(&mut self, context: u32, destination: IpAddr) -> Option<&mut Hint> {
        let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ u64::from(context);
        let mix = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        hash = match destination {
            IpAddr::V4(address) => address.octets().into_iter().fold(hash, mix),
            IpAddr::V6(address) => address.octets().into_iter().fold(hash, mix),
        };
        self.hints.get_mut((hash >> 32) as usize % HINTS)
    }

    /// Who is known to have the SA for a destination.
    fn known_owner(&mut self, context: u32, destination: IpAddr) -> Option<u16> {
        let hint = self.hint(context, destination)?;
        let known = hint.worker != 0 && hint.context == context && hint.destination == destination;
        known.then_some(hint.worker)
    }

    fn learn(&mut self, context: u32, destination: IpAddr, worker: u16) {
        if let Some(hint) = self.hint(context, destination) {
            *hint = Hint {
                context,
                destination,
                worker,
            };
        }
    }
}

impl<I: Io> Engine<I> {
    /// Passes an ESP packet on to the worker of its slot. False when there is none.
    pub(crate) fn pass_on_esp(&mut self, spi: Spi, origin: Origin, data: &[u8]) -> bool {
        let strays = &mut self.strays;
        let owner = strays
            .owners
            .get(usize::from(spi.slot().number()))
            .copied()
            .unwrap_or(0);
        if owner == 0 || owner == strays.worker {
            return false;
        }
        let header = StrayHeader {
            kind: KIND_ESP,
            context: 0,
        };
        let pushed = strays.push(owner, header, &[&encode(origin), data]);
        self.count_push(pushed, data.len());
        true
    }

    /// Passes a clear packet without SA on to whoever may have one; drops it when everybody has seen it. `read` is the header and the packet.
    pub(crate) fn pass_on_clear(&mut self, context: u32, packet: &Packet, read: &[u8], stray: Option<Stray>) {
        let strays = &mut self.strays;
        let destination = packet.addresses.destination();
        let others = strays.rings.len();
        let (target, stray) = match stray {
            None => {
                let known = strays.known_owner(context, destination);
                let stray = Stray {
                    origin: strays.worker,
                    hops: 0,
                };
                (known.or(strays.next()), stray)
            }
            Some(stray) => {
                if stray.origin == strays.worker {
                    // Back where it came in: an old hint sent it astray.
                    strays.learn(context, destination, 0);
                }
                let stray = Stray {
                    hops: stray.hops.saturating_add(1),
                    ..stray
                };
                (strays.next(), stray)
            }
        };
        let Some(target) = target.filter(|_| usize::from(stray.hops) < others) else {
            return self.tally.one(Count::ClearNoSa, packet.length);
        };
        let kind = KIND_CLEAR | u32::from(stray.hops) << 8 | u32::from(stray.origin) << 16;
        let pushed = strays.push(target, StrayHeader { kind, context }, &[read]);
        self.count_push(pushed, packet.length);
    }

    /// Tells the worker where a packet came in that the SA for its destination is here.
    pub(crate) fn tell_origin(&mut self, context: u32, stray: Stray, packet: &Packet) {
        let kind = KIND_HINT | u32::from(self.strays.worker) << 16;
        let destination = address_bytes(packet.addresses.destination());
        // A hint that is lost is told again with the next packet.
        let _ = self
            .strays
            .push(stray.origin, StrayHeader { kind, context }, &[&destination]);
    }

    /// Takes what another worker passed on, at most a batch. True when there may be more, of which no event will tell.
    pub(crate) fn take_strays(&mut self, worker: u16) -> bool {
        if let Some(consumer) = self.strays.consumer(worker) {
            consumer.clear_event();
        }
        let mut buffer = std::mem::take(&mut self.strays.buffer);
        let mut more = true;
        for _ in 0..BATCH {
            let ring = self.strays.rings.iter_mut().find(|ring| ring.worker == worker);
            let Some((header, length)) = ring.and_then(|ring| ring.from.pop(&mut buffer)) else {
                more = false;
                break;
            };
            if let Some(data) = buffer.get_mut(..length) {
                self.stray(header, data);
            }
        }
        self.strays.buffer = buffer;
        more
    }

    fn stray(&mut self, header: StrayHeader, data: &mut [u8]) {
        let [kind, hops, low, high] = header.kind.to_le_bytes();
        let worker = u16::from_le_bytes([low, high]);
        match u32::from(kind) {
            KIND_ESP => {
                self.tally.one(Count::StrayReceived, data.len());
                if let Some((origin, data)) = decode(data) {
                    self.stray_esp(origin, data);
                }
            }
            KIND_CLEAR if data.len() > VnetHeader::BYTES => {
                self.tally.one(Count::StrayReceived, data.len());
                let stray = Stray { origin: worker, hops };
                self.clear_packet(header.context, data, Some(stray));
            }
            KIND_HINT => {
                if let Some(destination) = address_from(data) {
                    self.strays.learn(header.context, destination, worker);
                }
            }
            _ => {}
        }
    }

    fn count_push(&mut self, pushed: bool, octets: usize) {
        let count = if pushed {
            Count::StraySent
        } else {
            Count::StrayLost
        };
        self.tally.one(count, octets);
    }
}

fn address_bytes(address: IpAddr) -> [u8; 17] {
    let mut bytes = [0; 17];
    let (family, rest) = bytes.split_at_mut(1);
    match address {
        IpAddr::V4(v4) => {
            family.fill(4);
            rest.iter_mut().zip(v4.octets()).for_each(|(to, from)| *to = from);
        }
        IpAddr::V6(v6) => {
            family.fill(6);
            rest.copy_from_slice(&v6.octets());
        }
    }
    bytes
}

fn address_from(bytes: &[u8]) -> Option<IpAddr> {
    let [family, octets @ ..] = bytes.first_chunk::<17>()?;
    let [a, b, c, d, ..] = *octets;
    match family {
        4 => Some(IpAddr::from([a, b, c, d])),
        6 => Some(IpAddr::from(*octets)),
        _ => None,
    }
}

fn encode(origin: Origin) -> [u8; ORIGIN_BYTES] {
    let mut bytes = [0; ORIGIN_BYTES];
    let [low, high] = origin.source.port().to_le_bytes();
    let udp = u8::from(origin.encapsulation == Encapsulation::Udp);
    let fields = address_bytes(origin.source.ip())
        .into_iter()
        .chain([low, high, origin.traffic_class, udp]);
    bytes.iter_mut().zip(fields).for_each(|(to, from)| *to = from);
    bytes
}

fn decode(data: &mut [u8]) -> Option<(Origin, &mut [u8])> {
    let (origin, rest) = data.split_first_chunk_mut::<ORIGIN_BYTES>()?;
    let address = address_from(origin)?;
    let [.., low, high, traffic_class, udp] = *origin;
    let origin = Origin {
        source: SocketAddr::new(address, u16::from_le_bytes([low, high])),
        traffic_class,
        encapsulation: if udp == 1 {
            Encapsulation::Udp
        } else {
            Encapsulation::Esp
        },
    };
    Some((origin, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_survive_the_ring() {
        for source in ["192.0.2.1:4500", "[2001:db8::1]:61000"] {
            for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
                let origin = Origin {
                    source: source.parse().unwrap(),
                    traffic_class: 0xb9,
                    encapsulation,
                };
                let mut bytes = encode(origin).to_vec();
                bytes.extend(b"packet");
                assert_eq!(decode(&mut bytes), Some((origin, &mut b"packet".to_owned()[..])));
            }
        }
        assert_eq!(decode(&mut [0; ORIGIN_BYTES]), None);
        assert_eq!(decode(&mut [4; ORIGIN_BYTES - 1]), None);
    }

    #[test]
    fn hints_are_for_their_destination_only() {
        let mut strays = Strays::new(1);
        let [one, two] = ["10.0.0.1", "fd00::1"].map(|a| a.parse::<IpAddr>().unwrap());
        assert_eq!(strays.known_owner(1, one), None);
        strays.learn(1, one, 3);
        strays.learn(1, two, 2);
        assert_eq!(
            (strays.known_owner(1, one), strays.known_owner(1, two)),
            (Some(3), Some(2))
        );
        assert_eq!(strays.known_owner(2, one), None);
    }
}

//! The last step for packets of a slot, the call of the kernel, when another data plane takes it (the output of the slot map): so one tunnel that is too much for a
//! processor gets two.
//!
//! ```text
//!   this worker: receive, check, decrypt, join ──> ring ──> the other: write to the TUN
//!   this worker: read from the TUN, encrypt ─────> ring ──> the other: send from its socket of the same address
//! ```
//!
//! Everything about the SA stays here: sequence numbers, window, counters of the SA. All packets of a slot take the same ring, so they leave in order; when the output comes back, or goes
//! to a third worker, they take that ring on until what was in it of the slot has left, for a second at most: a worker that has more to do than it can is left all the same, and packets may be overtaken.

use std::io::IoSlice;

use esp::{Delivery, MOST_PARTS, Packet, Segments, VnetHeader};
use netio::Datagram;
use sadb::{Slot, StrayHeader, StrayOrigin};

use super::engine::{Engine, Tag, write_plain};
use super::flush::{Failed, transmit};
use super::io::Io;
use super::paths::learn;
use super::strays::{Owners, Strays};
use crate::counters::{Call, Count, Tally};

/// First byte of a ring's `kind`, beside those of `strays`: a packet or super-packet behind its virtio-net header for the TUN of a context; the upper half of the word says how many packets it is.
pub(super) const KIND_WRITE: u32 = 7;
/// ESP packets behind a [`StrayOrigin`] whose `source` is where they go; the second byte has the DF bit, the upper half the length of all but the last, 0 = one packet.
pub(super) const KIND_SEND: u32 = 8;
/// A [`StrayOrigin`] as above and the ESP header of packets that the interface does not take; the upper half of the word has their length.
pub(super) const KIND_TOO_LONG: u32 = 9;

/// Ticks of the data plane (a tenth of a second each) after which an output is taken from a worker that does not come to an end.
const MOST_TICKS: u8 = 10;

/// Who takes the last step, by slot; 0 = this worker.
#[derive(Debug)]
pub(super) struct Outputs {
    /// As the map has it.
    wanted: Owners,
    /// As it is until what is on its way has left.
    actual: Owners,
    /// Where that ends in the ring.
    last: [u64; 256],
    /// Ticks for which it is waited for that.
    waited: [u8; 256],
    /// Any of them is another worker.
    any: bool,
}

impl Outputs {
    pub(super) fn new() -> Self {
        Self {
            wanted: [0; 256],
            actual: [0; 256],
            last: [0; 256],
            waited: [0; 256],
            any: false,
        }
    }

    fn look(&mut self) {
        self.any = self.wanted.iter().chain(&self.actual).any(|worker| *worker != 0);
    }

    fn turn_to(&mut self, place: usize, worker: u16) {
        if let (Some(actual), Some(waited)) = (self.actual.get_mut(place), self.waited.get_mut(place)) {
            (*actual, *waited) = (worker, 0);
        }
        self.look();
    }
}

impl Strays {
    /// Says who takes the last step. Index 0 is slot 1; 0 = this worker.
    pub(crate) fn set_outputs(&mut self, outputs: &[u16]) {
        self.outputs.wanted = [0; 256];
        for (wanted, worker) in self.outputs.wanted.iter_mut().skip(1).zip(outputs) {
            *wanted = *worker;
        }
        self.outputs.look();
    }

    /// Who takes the last step for the next packet of a slot; `None`: this worker.
    pub(super) fn output(&mut self, slot: Slot) -> Option<u16> {
        if !self.outputs.any {
            return None;
        }
        let place = usize::from(slot.number());
        let (wanted, actual) = (*self.outputs.wanted.get(place)?, *self.outputs.actual.get(place)?);
        let now = if wanted == actual || !self.has_left(slot) {
            actual
        } else {
            wanted
        };
        if now != actual {
            self.outputs.turn_to(place, now);
        }
        (now != 0).then_some(now)
    }

    /// Whether everything of a slot that was handed on has left.
    pub(super) fn has_left(&mut self, slot: Slot) -> bool {
        let place = usize::from(slot.number());
        let outputs = &self.outputs;
        match (outputs.actual.get(place), outputs.last.get(place)) {
            (Some(&worker), Some(&last)) => worker == 0 || self.is_done(worker, last),
            _ => true,
        }
    }

    /// Puts something of a slot into the ring to the worker that takes the last step for it.
    fn push_output(&mut self, worker: u16, slot: Slot, header: StrayHeader, parts: &[&[u8]]) -> bool {
        let pushed = self.push(worker, header, parts);
        let end = self.position(worker);
        if let Some(last) = self
            .outputs
            .last
            .get_mut(usize::from(slot.number()))
            .filter(|_| pushed)
        {
            *last = end;
        }
        pushed
    }

    /// A tick: takes outputs from workers that do not come to an end with what they have. Returns how many; packets may be overtaken then.
    pub(super) fn take_back_late(&mut self) -> u64 {
        if !self.outputs.any {
            return 0;
        }
        let mut late = 0;
        for slot in Slot::all() {
            let place = usize::from(slot.number());
            let outputs = &mut self.outputs;
            let (Some(&wanted), Some(&actual)) = (outputs.wanted.get(place), outputs.actual.get(place))
            else {
                continue;
            };
            let Some(waited) = outputs.waited.get_mut(place) else {
                continue;
            };
            *waited = if wanted == actual { 0 } else { *waited + 1 };
            if *waited >= MOST_TICKS || wanted != actual && self.has_left(slot) {
                late += u64::from(!self.has_left(slot));
                self.outputs.turn_to(place, wanted);
            }
        }
        late
    }
}

/// Hands a packet or super-packet for the clear side on; returns how many packets the ring took.
pub(super) fn hand_on(
    strays: &mut Strays,
    tally: &mut Tally,
    worker: u16,
    delivery: &Delivery<'_, Tag>,
) -> u64 {
    let header = delivery.header().to_bytes();
    let mut parts = [&[] as &[u8]; 1 + MOST_PARTS];
    let all = std::iter::once(header.as_slice()).chain(delivery.parts.iter().copied());
    let mut count = 0;
    for (place, part) in parts.iter_mut().zip(all) {
        *place = part;
        count += 1;
    }
    let packets = u64::from(delivery.packets);
    let about = StrayHeader {
        kind: KIND_WRITE | delivery.packets << 16,
        context: delivery.tag.context,
    };
    let slot = delivery.tag.spi.slot();
    if !strays.push_output(worker, slot, about, parts.get(..count).unwrap_or(&parts)) {
        return 0;
    }
    tally.add(Count::OutputHandedOn, packets, delivery.bytes());
    packets
}

impl<I: Io> Engine<I> {
    /// Hands a burst on to the worker that sends it.
    pub(super) fn hand_on_burst(&mut self, index: usize, worker: u16) {
        let Some((burst, bytes)) = self.bursts.get(index) else {
            return;
        };
        let Some(socket) = self.ports.socket(burst.exit.socket) else {
            return self.failed.push(Failed {
                burst: index,
                packets: burst.packets.into(),
                too_long: false,
            });
        };
        let dont_fragment = u32::from(burst.exit.dont_fragment) << 8;
        for datagram in burst.datagrams(bytes) {
            let packets = datagram.segments() as u64;
            let origin = StrayOrigin {
                source: datagram.destination,
                local: socket.local,
                traffic_class: datagram.traffic_class,
                encapsulation: socket.encapsulation,
            };
            let header = StrayHeader {
                kind: KIND_SEND | dont_fragment | u32::from(datagram.segment.unwrap_or(0)) << 16,
                context: socket.context,
            };
            let parts = [&origin.encode(), datagram.data];
            if self
                .strays
                .push_output(worker, burst.exit.spi.slot(), header, &parts)
            {
                self.tally
                    .add(Count::OutputHandedOn, packets, datagram.data.len() as u64);
            } else {
                self.failed.push(Failed {
                    burst: index,
                    packets,
                    too_long: false,
                });
            }
        }
    }

    /// What another worker handed on for the clear side: a virtio-net header and a packet, or a super-packet of so many.
    pub(super) fn write_for(&mut self, context: u32, packets: u64, data: &mut [u8]) {
        let octets = data.len().saturating_sub(VnetHeader::BYTES) as u64;
        self.tally.add(Count::OutputTaken, packets, octets);
        self.tally.one(Count::Writes, 0);
        self.tally.call(Call::Write, packets as usize);
        let written = match self.ports.tun(context) {
            Some(tun) => match self.io.write(tun, &[IoSlice::new(data)]) {
                Ok(()) => packets,
                // See the same for our own packets.
                Err(error) if packets > 1 && error.kind() == std::io::ErrorKind::InvalidInput => {
                    self.write_each(tun, data)
                }
                Err(error) => {
                    tracing::debug!("cannot deliver: {error}");
                    0
                }
            },
            None => 0,
        };
        let part = octets * written / packets.max(1);
        self.tally.add(Count::Delivered, written, part);
        self.tally
            .add(Count::NotDelivered, packets - written, octets - part);
    }

    /// Cuts a super-packet that the kernel does not take; returns how many of its packets it took.
    fn write_each(&mut self, tun: usize, data: &mut [u8]) -> u64 {
        let Some((header, data)) = VnetHeader::split(data) else {
            return 0;
        };
        let segmentation = header.offload().and_then(|offload| offload.segmentation);
        let Some((packet, segmentation)) = Packet::parse(data).zip(segmentation) else {
            return 0;
        };
        let Some(segments) = Segments::new(data, &packet, segmentation) else {
            return 0;
        };
        let mut scratch = std::mem::take(&mut self.segment);
        let mut written = 0;
        for n in 0..segments.count() {
            let segment = segments.write(n, &mut scratch);
            if let Some(segment) = segment.and_then(|length| scratch.get(..length))
                && write_plain(&mut self.io, tun, segment).is_ok()
            {
                written += 1;
            }
        }
        self.segment = scratch;
        written
    }

    /// ESP packets that worker `from` handed on, to be sent as its header says.
    pub(super) fn send_for(&mut self, from: u16, header: StrayHeader, order: StrayOrigin, data: &[u8]) {
        let [_, dont_fragment, low, high] = header.kind.to_le_bytes();
        let segment = u16::from_le_bytes([low, high]);
        let datagram = Datagram {
            destination: order.source,
            source: None,
            data,
            segment: (segment != 0).then_some(segment),
            traffic_class: order.traffic_class,
        };
        let packets = datagram.segments() as u64;
        let octets = data.len() as u64;
        self.tally.add(Count::OutputTaken, packets, octets);
        let socket = self
            .ports
            .socket_for(order.local, order.encapsulation, header.context);
        let Some(socket) = socket else {
            return self.tally.add(Count::NoSocket, packets, octets);
        };
        let (mut lost, mut too_long) = (0, false);
        let way = (socket, dont_fragment != 0);
        transmit(&mut self.io, &mut self.tally, way, &[datagram], |_, failed| {
            lost += failed.packets;
            too_long |= failed.too_long;
        });
        let lost = lost.min(packets);
        let part = octets * lost / packets.max(1);
        self.tally.add(Count::EspSent, packets - lost, octets - part);
        self.tally.add(Count::NotSent, lost, part);
        if too_long && let Some(esp_header) = data.first_chunk::<8>() {
            let length = if segment != 0 {
                usize::from(segment)
            } else {
                data.len()
            };
            let header = StrayHeader {
                kind: KIND_TOO_LONG | (length as u32) << 16,
                context: header.context,
            };
            // What is lost is told again with the next packet.
            let _ = self.strays.push(from, header, &[&order.encode(), esp_header]);
        }
    }

    /// The interface does not take packets of `length` octets with this SPI, which we had handed on: the next one is answered.
    pub(super) fn learn_too_long(&mut self, order: StrayOrigin, spi: u32, length: usize) {
        let now_ns = self.now_ns;
        let (slots, entries) = self.table.split();
        entries.index_peers();
        let own: Vec<_> = entries.towards(order.source, Some(spi)).collect();
        for spi in own {
            if let Some(sa) = entries.get_mut(spi)
                && let Some(mtu) = sa.limits.narrower(length)
            {
                learn(slots, sa, mtu, now_ns);
            }
        }
    }
}

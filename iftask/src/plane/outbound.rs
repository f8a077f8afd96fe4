//! From the clear side to the network.

use esp::{Fit, Fragments, Offload, Packet, Segments, VnetHeader, finish_checksum};
use netio::Datagram;
use sadb::{Hot, SaCounter, SequenceExhausted, Spi};

use super::bursts::{Exit, MOST_BURSTS};
use super::engine::{BATCH, Engine, FAR, NEAR, write_plain};
use super::io::Io;
use super::paths::learn;
use super::strays::Stray;
use super::table::Table;
use crate::counters::{Call, Count};

/// Inner packets of one super-packet: more than the kernel ever puts into one.
const MOST_SEGMENTS: usize = 4096;

impl<I: Io> Engine<I> {
    /// Takes reads of a TUN queue: each a virtio-net header and a packet or super-packet. What becomes of them leaves with the next
    /// [`flush`](Engine::flush) at the latest.
    pub(crate) fn outbound<'p>(&mut self, context: u32, reads: impl Iterator<Item = &'p mut [u8]>) {
        let mut reads = reads.fuse();
        loop {
            let mut batch = [const { None }; BATCH];
            let mut destinations = [None; BATCH];
            let mut count = 0;
            for ((place, destination), read) in batch.iter_mut().zip(&mut destinations).zip(&mut reads) {
                *destination = read.get(VnetHeader::BYTES..).and_then(esp::destination_of);
                if let Some(destination) = *destination {
                    self.table.expect_route(context, destination);
                }
                *place = Some(read);
                count += 1;
            }
            // First the SA, then its keys: each says where the next is.
            let mut spis = [None; BATCH];
            let expect = |table: &Table, spis: &mut [Option<Spi>; BATCH], n: usize| {
                let destination = destinations.get(n).copied().flatten();
                if let (Some(destination), Some(place)) = (destination, spis.get_mut(n))
                    && let Some(spi) = table.likely_route(context, destination)
                {
                    *place = Some(spi);
                    table.expect(spi, true);
                }
            };
            (0..FAR).for_each(|n| expect(&self.table, &mut spis, n));
            for spi in spis.iter().take(NEAR).flatten() {
                self.table.expect_keys(*spi, true);
            }
            for (n, read) in batch.into_iter().flatten().enumerate() {
                expect(&self.table, &mut spis, n + FAR);
                if let Some(spi) = spis.get(n + NEAR).copied().flatten() {
                    self.table.expect_keys(spi, true);
                }
                self.clear(context, read, None);
            }
            if count < BATCH {
                break;
            }
        }
    }

    /// Takes a packet that another worker passed on, as it was read there.
    pub(crate) fn stray_clear(&mut self, context: u32, read: &mut [u8], stray: Stray) {
        self.clear(context, read, Some(stray));
    }

    fn clear(&mut self, context: u32, read: &mut [u8], stray: Option<Stray>) {
        let length = read.len();
        let Some((header, data)) = VnetHeader::split(read) else {
            return self.tally.one(Count::NotIp, length);
        };
        let (Some(offload), Some(packet)) = (header.offload(), Packet::parse(data)) else {
            return self.tally.one(Count::NotIp, length);
        };
        if stray.is_none() {
            self.tally.one(Count::Reads, data.len());
        }
        let Some(spi) = self.route(context, &packet) else {
            return self.pass_on_clear(context, &packet, read, stray);
        };
        if let Some(worker) = self.table.taker(spi.slot()) {
            return self.follow_slot(worker, context, &packet, read, stray);
        }
        let shared = self.table.entries().get(spi).is_some_and(|sa| sa.shared);
        if shared {
            self.spread(context, packet.addresses.destination());
        }
        if let Some(stray) = stray {
            self.claim(context, &packet, stray, shared);
        }
        if !self.prepare(spi) {
            return self.drop_clear(spi, Count::Unusable, None, 1, packet.length);
        }
        if self
            .table
            .entries()
            .get(spi)
            .is_some_and(|sa| sa.carries_itself(&packet))
        {
            return self.drop_clear(spi, Count::OwnOuter, None, 1, packet.length);
        }
        match offload.segmentation {
            None => {
                self.tally.call(Call::Read, 1);
                self.plain(spi, data, &packet, offload);
            }
            Some(segmentation) => match Segments::new(data, &packet, segmentation) {
                Some(segments) if segments.count() <= MOST_SEGMENTS => {
                    self.tally.call(Call::Read, segments.count());
                    self.super_packet(spi, context, data, &packet, &segments);
                }
                _ => self.drop_clear(
                    spi,
                    Count::NotIp,
                    Some(SaCounter::DropMalformed),
                    1,
                    packet.length,
                ),
            },
        }
    }

    /// The SA for a packet; looks for changes once more before it says that there is none.
    fn route(&mut self, context: u32, packet: &Packet) -> Option<Spi> {
        if let Some(spi) = self.table.route(context, packet) {
            return Some(spi);
        }
        if !self.refresh_due() {
            return None;
        }
        self.refresh();
        self.table.route(context, packet)
    }

    fn plain(&mut self, spi: Spi, data: &mut [u8], packet: &Packet, offload: Offload) {
        if let Some(partial) = offload.checksum
            && finish_checksum(data, packet, partial).is_none()
        {
            return self.drop_clear(
                spi,
                Count::NotIp,
                Some(SaCounter::DropMalformed),
                1,
                packet.length,
            );
        }
        self.finished(spi, data, packet);
    }

    /// One packet with all checksums.
    fn finished(&mut self, spi: Spi, data: &[u8], packet: &Packet) {
        self.tally.one(Count::ClearReceived, packet.length);
        let Some(sa) = self.table.entries().get(spi) else {
            return;
        };
        let (limits, context) = (sa.limits, sa.context);
        match limits.fit(packet, packet.length) {
            Fit::Whole => {
                let Some(exit) = self.exit(spi, packet, packet.length) else {
                    return;
                };
                let Some(sequence) = self.reserve(spi, 1, packet.length) else {
                    return;
                };
                self.send(exit, packet.next_header(), packet.length, sequence, |out| {
                    let data = data.get(..packet.length)?;
                    out.get_mut(..data.len())?.copy_from_slice(data);
                    Some(())
                });
            }
            Fit::Fragment(mtu) => self.fragments(spi, data, packet, mtu),
            Fit::TooBig(mtu) => {
                self.drop_clear(spi, Count::TooBig, Some(SaCounter::DropTooBig), 1, packet.length);
                self.answer_too_big(context, data, packet, mtu);
            }
        }
    }

    fn fragments(&mut self, spi: Spi, data: &[u8], packet: &Packet, mtu: usize) {
        let Some(mut fragments) = Fragments::new(data, packet, mtu) else {
            return self.drop_clear(spi, Count::TooBig, Some(SaCounter::DropTooBig), 1, packet.length);
        };
        self.tally.one(Count::Fragmented, packet.length);
        let mut scratch = std::mem::take(&mut self.fragment);
        while let Some(length) = fragments.write_next(&mut scratch) {
            let Some(exit) = self.exit(spi, packet, length) else {
                break;
            };
            let Some(sequence) = self.reserve(spi, 1, length) else {
                break;
            };
            self.send(exit, packet.next_header(), length, sequence, |out| {
                out.get_mut(..length)?.copy_from_slice(scratch.get(..length)?);
                Some(())
            });
        }
        self.fragment = scratch;
    }

    fn super_packet(
        &mut self,
        spi: Spi,
        context: u32,
        data: &[u8],
        packet: &Packet,
        segments: &Segments<'_>,
    ) {
        let count = segments.count();
        let Some(sa) = self.table.entries().get(spi) else {
            return;
        };
        match sa.limits.fit(packet, segments.length(0)) {
            Fit::Whole => {
                self.tally
                    .add(Count::ClearReceived, count as u64, packet.length as u64);
                let Some(exit) = self.exit(spi, packet, segments.length(0)) else {
                    return;
                };
                let Some(first) = self.reserve(spi, count as u32, packet.length) else {
                    return;
                };
                for (n, sequence) in (0..count).zip(first..) {
                    let length = segments.length(n);
                    self.send(exit, packet.next_header(), length, sequence, |out| {
                        segments.write(n, out).map(drop)
                    });
                }
            }
            Fit::Fragment(_) => {
                let mut scratch = std::mem::take(&mut self.segment);
                for n in 0..count {
                    let written = segments.write(n, &mut scratch);
                    let segment = written.and_then(|length| scratch.get(..length));
                    if let Some((segment, packet)) =
                        segment.and_then(|segment| Some((segment, Packet::parse(segment)?)))
                    {
                        self.finished(spi, segment, &packet);
                    }
                }
                self.segment = scratch;
            }
            Fit::TooBig(mtu) => {
                let (packets, bytes) = (count as u64, packet.length);
                self.tally.add(Count::ClearReceived, packets, bytes as u64);
                self.drop_clear(spi, Count::TooBig, Some(SaCounter::DropTooBig), packets, bytes);
                self.answer_too_big(context, data, packet, mtu);
            }
        }
    }

    /// Sequence numbers for `count` packets of together `bytes`; the drop is counted when there are none.
    fn reserve(&mut self, spi: Spi, count: u32, bytes: usize) -> Option<u64> {
        let esn = self.table.entries().get(spi)?.esn;
        let hot = self.table.slots().get(spi.slot()).and_then(|slot| slot.hot(spi));
        match hot.map_or(Err(SequenceExhausted::Stale), |hot: Hot<'_>| {
            hot.reserve(count, esn)
        }) {
            Ok(first) => Some(first),
            Err(SequenceExhausted::Spent) => {
                let drop = Some(SaCounter::DropSequence);
                self.drop_clear(spi, Count::SequenceSpent, drop, count.into(), bytes);
                None
            }
            Err(SequenceExhausted::Stale) => {
                self.drop_clear(spi, Count::ClearNoSa, None, count.into(), bytes);
                self.refresh();
                None
            }
        }
    }

    /// How a packet of `length` bytes leaves; the drop is counted when it cannot. `packet` is where DSCP and DF come from.
    fn exit(&mut self, spi: Spi, packet: &Packet, length: usize) -> Option<Exit> {
        let sa = self.table.entries().get(spi)?;
        let Some(socket) = self.ports.socket_for(sa.local, sa.encapsulation, sa.context) else {
            self.drop_clear(spi, Count::NoSocket, Some(SaCounter::DropSend), 1, length);
            return None;
        };
        Some(Exit {
            spi,
            socket,
            encapsulation: sa.encapsulation,
            destination: sa.destination(),
            traffic_class: esp::traffic_class(sa.dscp, packet.traffic_class),
            dont_fragment: sa.limits.dont_fragment(packet, length),
            joins: length <= sa.limits.fits(),
        })
    }

    /// Puts one inner packet of `length` bytes, which `fill` writes, into a burst and seals it.
    fn send(
        &mut self,
        exit: Exit,
        next_header: u8,
        length: usize,
        sequence: u64,
        fill: impl FnOnce(&mut [u8]) -> Option<()>,
    ) {
        if self.bursts.len() >= MOST_BURSTS {
            self.flush();
        }
        let (_, entries) = self.table.split();
        let Some(sa) = entries.get_mut(exit.spi) else {
            return;
        };
        let Some(keys) = &mut sa.keys else { return };
        let outbound = &mut keys.outbound;
        let transform = outbound.transform();
        let sealed = transform.sealed_len(length);
        let place = self.bursts.place(&mut sa.burst, exit, sealed);
        let sent = place.and_then(|index| {
            let room = self.bursts.room(index, sealed)?;
            fill(room.get_mut(transform.header_len()..)?)?;
            self.bursts
                .seal(index, outbound, length, next_header, sequence)
                .ok()
        });
        if sent.is_none() {
            self.drop_clear(exit.spi, Count::NotSent, Some(SaCounter::DropSend), 1, length);
        }
    }

    /// Hands all bursts to the kernel.
    pub(crate) fn flush(&mut self) {
        let mut index = 0;
        while index < self.bursts.len() {
            index = self.flush_from(index);
        }
        self.bursts.clear();
    }

    /// Sends the bursts from `start` on that leave in the same way, with as few calls as possible. Returns the index of the next one.
    fn flush_from(&mut self, start: usize) -> usize {
        let Some((first, bytes)) = self.bursts.get(start) else {
            return self.bursts.len();
        };
        let (socket, dont_fragment) = (first.exit.socket, first.exit.dont_fragment);
        let nothing = Datagram::to(first.exit.destination, bytes.get(..0).unwrap_or(bytes));
        let mut datagrams = [nothing; MOST_BURSTS];
        let mut owners = [0; MOST_BURSTS];
        let (mut index, mut count) = (start, 0);
        while let Some((burst, bytes)) = self.bursts.get(index) {
            if (burst.exit.socket, burst.exit.dont_fragment) != (socket, dont_fragment) {
                break;
            }
            for datagram in burst.datagrams(bytes) {
                if count == MOST_BURSTS {
                    transmit(
                        &mut self.io,
                        &mut self.tally,
                        (socket, dont_fragment),
                        &datagrams,
                        |n, lost| {
                            let burst = owners.get(n).copied().unwrap_or(start);
                            self.failed.push(Failed { burst, ..lost });
                        },
                    );
                    count = 0;
                }
                if let (Some(place), Some(owner)) = (datagrams.get_mut(count), owners.get_mut(count)) {
                    (*place, *owner) = (datagram, index);
                }
                count += 1;
            }
            index += 1;
        }
        let rest = datagrams.get(..count).unwrap_or(&datagrams);
        transmit(
            &mut self.io,
            &mut self.tally,
            (socket, dont_fragment),
            rest,
            |n, lost| {
                let burst = owners.get(n).copied().unwrap_or(start);
                self.failed.push(Failed { burst, ..lost });
            },
        );
        self.account(start, index);
        index
    }

    /// Counts the bursts from `start` to `end` as sent, or as dropped if they are among the failed.
    fn account(&mut self, start: usize, end: usize) {
        for index in start..end {
            let Some((burst, bytes)) = self.bursts.get(index) else {
                break;
            };
            let spi = burst.exit.spi;
            let packets = u64::from(burst.packets);
            let failures = self.failed.iter().filter(|failed| failed.burst == index);
            let lost: u64 = failures.map(|failed| failed.packets).sum();
            let lost = lost.min(packets);
            let mut failures = self.failed.iter().filter(|failed| failed.burst == index);
            let too_long = failures.any(|failed| failed.too_long);
            let segment = burst.segment;
            let sent_inner = share(burst.inner, packets - lost, packets);
            let (slots, entries) = self.table.split();
            if too_long
                && let Some(sa) = entries.get_mut(spi)
                && let Some(mtu) = sa.limits.narrower(segment)
            {
                // The link does not say how much it takes. The next such packet is answered.
                learn(slots, sa, mtu, self.now_ns);
                // The SA that replaces it takes it over.
                entries.index_peers();
            }
            if packets > lost {
                slots.count(spi, |cells| cells.sent(packets - lost, sent_inner));
                if let Some(sa) = entries.get_mut(spi) {
                    sa.sent_ns = self.now_ns;
                }
                if let Some(hot) = slots.get(spi.slot()).and_then(|slot| slot.hot(spi)) {
                    hot.sent_at(self.now_ns);
                }
                let octets = share(bytes.len() as u64, packets - lost, packets);
                self.tally.add(Count::EspSent, packets - lost, octets);
                self.tally.of_slot(spi.slot(), packets - lost);
            }
            if lost > 0 {
                slots.count(spi, |cells| cells.add(SaCounter::DropSend, lost));
                let octets = share(bytes.len() as u64, lost, packets);
                self.tally.add(Count::NotSent, lost, octets);
            }
        }
        self.failed.clear();
    }

    /// Tells the sender of a packet how long packets may be.
    fn answer_too_big(&mut self, context: u32, data: &[u8], packet: &Packet, mtu: u16) {
        if !self.answers.allow(self.now_ns) {
            return;
        }
        let mut message = [0; esp::icmp::MOST_BYTES];
        let Some(length) = esp::icmp::too_big(data, packet, mtu, &mut message) else {
            return;
        };
        let message = message.get(..length).unwrap_or(&message);
        if let Some(tun) = self.ports.tun(context)
            && write_plain(&mut self.io, tun, message).is_ok()
        {
            self.tally.one(Count::TooBigSent, length);
        }
    }

    fn drop_clear(&mut self, spi: Spi, count: Count, of_sa: Option<SaCounter>, packets: u64, bytes: usize) {
        self.tally.add(count, packets, bytes as u64);
        if let Some(counter) = of_sa {
            self.table.slots().count(spi, |cells| cells.add(counter, packets));
        }
    }
}

/// What falls to `part` of `all` packets. Nearly always everything, for which nothing is divided.
fn share(octets: u64, part: u64, all: u64) -> u64 {
    if part == all {
        octets
    } else {
        octets * part / all.max(1)
    }
}

/// Packets of a burst that the kernel refused.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Failed {
    burst: usize,
    packets: u64,
    /// They are longer than the interface takes in one piece.
    too_long: bool,
}

/// Sends all datagrams; calls `failed` with the number of each that the kernel refuses, and what that costs.
fn transmit<I: Io>(
    io: &mut I,
    tally: &mut crate::counters::Tally,
    (socket, dont_fragment): (usize, bool),
    mut datagrams: &[Datagram<'_>],
    mut failed: impl FnMut(usize, Failed),
) {
    let all = datagrams.len();
    while !datagrams.is_empty() {
        tally.one(Count::GsoSends, 0);
        tally.call(Call::Send, datagrams.iter().map(Datagram::segments).sum());
        let Err(error) = io.send(socket, dont_fragment, datagrams) else {
            return;
        };
        let done = all - datagrams.len() + error.sent;
        let is_full = error.error.kind() == std::io::ErrorKind::WouldBlock;
        // When the queue is full, what follows would not fit either.
        let left = datagrams.get(error.sent..).unwrap_or(&[]);
        let refused = if is_full { left.len() } else { 1 };
        for (n, datagram) in left.iter().take(refused).enumerate() {
            let on_their_way = if n == 0 { error.segments } else { 0 };
            let lost = Failed {
                packets: datagram.segments().saturating_sub(on_their_way) as u64,
                too_long: error.is_too_long(),
                ..Failed::default()
            };
            failed(done + n, lost);
        }
        if is_full {
            return;
        }
        tracing::debug!("cannot send: {}", error.error);
        datagrams = datagrams.get(error.sent + 1..).unwrap_or(&[]);
    }
}

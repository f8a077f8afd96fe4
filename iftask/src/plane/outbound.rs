//! From the clear side to the network.

use esp::{Fit, Fragments, Offload, Packet, Segments, VnetHeader, finish_checksum};
use sadb::{SaCounter, Spi};

use super::engine::{BATCH, Engine, FAR, NEAR, write_plain};
use super::io::Io;
use super::sender::Refusal;
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
                self.clear(context, read, spis.get(n).copied().flatten(), None);
            }
            if count < BATCH {
                break;
            }
        }
    }

    /// Takes a packet that another worker passed on, as it was read there.
    pub(crate) fn stray_clear(&mut self, context: u32, read: &mut [u8], stray: Stray) {
        self.clear(context, read, None, Some(stray));
    }

    /// `likely` is the SA that was found for it ahead of its turn.
    fn clear(&mut self, context: u32, read: &mut [u8], likely: Option<Spi>, stray: Option<Stray>) {
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
        let likely = likely.filter(|spi| self.table.may_carry(*spi, &packet));
        let Some(spi) = likely.or_else(|| self.route(context, &packet)) else {
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
        match offload.segmentation {
            None => {
                self.tally.call(Call::Read, 1);
                self.plain(spi, data, &packet, offload);
            }
            Some(segmentation) => match Segments::new(data, &packet, segmentation) {
                Some(segments) if segments.count() <= MOST_SEGMENTS => {
                    self.tally.call(Call::Read, segments.count());
                    self.super_packet(spi, data, &packet, &segments);
                }
                _ => self.drop_malformed(spi, &packet),
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
            return self.drop_malformed(spi, packet);
        }
        self.finished(spi, data, packet);
    }

    /// One packet with all checksums.
    fn finished(&mut self, spi: Spi, data: &[u8], packet: &Packet) {
        if self.bursts.is_full() {
            self.flush();
        }
        let Some(mut sender) = self.sender(spi) else {
            return self.drop_clear(spi, Count::Unusable, None, 1, packet.length);
        };
        if sender.sa.carries_itself(packet) {
            return self.drop_clear(spi, Count::OwnOuter, None, 1, packet.length);
        }
        let (fit, context) = (sender.sa.limits.fit(packet, packet.length), sender.sa.context);
        let refused = match fit {
            Fit::Whole => sender.send(packet, packet.length, |out| {
                let data = data.get(..packet.length)?;
                out.get_mut(..data.len())?.copy_from_slice(data);
                Some(())
            }),
            _ => Ok(()),
        };
        self.tally.one(Count::ClearReceived, packet.length);
        match fit {
            Fit::Whole => {
                if let Err(refusal) = refused {
                    self.refuse(spi, refusal, 1, packet.length);
                }
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
            if self.bursts.is_full() {
                self.flush();
            }
            let Some(mut sender) = self.sender(spi) else { break };
            let sent = sender.send(packet, length, |out| {
                out.get_mut(..length)?.copy_from_slice(scratch.get(..length)?);
                Some(())
            });
            if let Err(refusal) = sent {
                self.refuse(spi, refusal, 1, length);
                break;
            }
        }
        self.fragment = scratch;
    }

    fn super_packet(&mut self, spi: Spi, data: &[u8], packet: &Packet, segments: &Segments<'_>) {
        let count = segments.count();
        let Some(sender) = self.sender(spi) else {
            return self.drop_clear(spi, Count::Unusable, None, 1, packet.length);
        };
        if sender.sa.carries_itself(packet) {
            return self.drop_clear(spi, Count::OwnOuter, None, 1, packet.length);
        }
        let (fit, context) = (
            sender.sa.limits.fit(packet, segments.length(0)),
            sender.sa.context,
        );
        match fit {
            Fit::Whole => {
                self.tally
                    .add(Count::ClearReceived, count as u64, packet.length as u64);
                self.segments(spi, packet, segments);
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

    /// Sends the segments of a super-packet, which fit. They have sequence numbers that follow each other.
    fn segments(&mut self, spi: Spi, packet: &Packet, segments: &Segments<'_>) {
        let count = segments.count();
        let Some(mut sender) = self.sender(spi) else {
            return;
        };
        let ready = sender
            .exit(packet, segments.length(0))
            .and_then(|exit| Ok((exit, sender.reserve(count as u32)?)));
        let (exit, first) = match ready {
            Ok(ready) => ready,
            Err(refusal) => return self.refuse(spi, refusal, count as u64, packet.length),
        };
        let mut n = 0;
        while n < count {
            if !sender.has_room() {
                self.flush();
                let Some(again) = self.sender(spi) else { return };
                sender = again;
            }
            let (length, sequence) = (segments.length(n), first + n as u64);
            let sealed = sender.seal(&exit, packet.next_header(), length, sequence, |out| {
                segments.write(n, out).map(drop)
            });
            n += 1;
            if let Err(refusal) = sealed {
                self.refuse(spi, refusal, 1, length);
                let Some(again) = self.sender(spi) else { return };
                sender = again;
            }
        }
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

    /// Counts packets that do not leave.
    pub(super) fn refuse(&mut self, spi: Spi, refusal: Refusal, packets: u64, bytes: usize) {
        let (count, of_sa) = refusal.counts();
        self.drop_clear(spi, count, of_sa, packets, bytes);
        if refusal == Refusal::Stale {
            self.refresh();
        }
    }

    fn drop_malformed(&mut self, spi: Spi, packet: &Packet) {
        let drop = Some(SaCounter::DropMalformed);
        self.drop_clear(spi, Count::NotIp, drop, 1, packet.length);
    }

    fn drop_clear(&mut self, spi: Spi, count: Count, of_sa: Option<SaCounter>, packets: u64, bytes: usize) {
        self.tally.add(count, packets, bytes as u64);
        if let Some(counter) = of_sa {
            self.table.slots().count(spi, |cells| cells.add(counter, packets));
        }
    }
}

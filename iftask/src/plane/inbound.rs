//! From the network to the clear side.

use std::io::IoSlice;

use esp::{Cause, Coalescer, Delivery, MOST_PARTS, Opened, Packet, SharedReplay};
use netio::{Received, split_ipv4_header};
use sadb::{Encapsulation, SaCounter, Spi, StrayOrigin};

use super::engine::{BATCH, Engine, FAR, NEAR, Tag, write_plain};
use super::io::{Io, Ports, Socket};
use super::moves::HeldEsp;
use super::outputs::hand_on;
use super::sa::Sa;
use super::strays::{Strays, Via};
use super::table::{Found, Slots};
use crate::counters::{Call, Count, Tally};

/// Without options.
const USUAL_IPV4_HEADER: usize = 20;
/// RFC 3948 2.3.
const KEEPALIVE: [u8; 1] = [0xff];
/// RFC 3948 2.2.
const NON_ESP_MARKER: [u8; 4] = [0; 4];

/// A packet that may be delivered: which SA it came by, its bytes, its headers.
type Accepted<'p> = (Tag, &'p [u8], Packet);

impl<I: Io> Engine<I> {
    /// Takes what one call read from the socket at a place.
    pub(crate) fn inbound<'p>(&mut self, place: usize, batch: impl Iterator<Item = Received<'p>>) {
        let Some(socket) = self.ports.socket(place) else {
            return;
        };
        let mut coalescer = std::mem::take(&mut self.space).start(self.joins_datagrams);
        let mut batch = batch.fuse();
        let mut packets = 0;
        loop {
            let mut reads = [const { None }; BATCH];
            let mut spis = [None; BATCH];
            let mut count = 0;
            for ((read, spi), received) in reads.iter_mut().zip(&mut spis).zip(&mut batch) {
                *spi = expected(socket, &received);
                *read = Some(received);
                count += 1;
            }
            let spi_of = |n: usize| spis.get(n).copied().flatten();
            for spi in (0..FAR).filter_map(spi_of) {
                self.table.expect(spi, false);
            }
            for spi in (0..NEAR).filter_map(spi_of) {
                self.table.expect_keys(spi, false);
            }
            for (n, read) in reads.iter_mut().enumerate().take(count) {
                if let Some(spi) = spi_of(n + FAR) {
                    self.table.expect(spi, false);
                }
                if let Some(spi) = spi_of(n + NEAR) {
                    self.table.expect_keys(spi, false);
                }
                if let Some(received) = read {
                    self.tally.one(Count::GroBuffers, 0);
                    packets += received.data.len().div_ceil(received.segment.max(1));
                    self.received(socket, received, &mut coalescer);
                }
            }
            if count < BATCH {
                break;
            }
        }
        self.tally.call(Call::Receive, packets);
        self.finish(coalescer);
    }

    /// An ESP packet that another process passed on.
    pub(crate) fn stray_esp(&mut self, via: Via, origin: StrayOrigin, data: &mut [u8]) {
        let mut coalescer = std::mem::take(&mut self.space).start(self.joins_datagrams);
        self.esp(via, origin, data, &mut coalescer);
        self.finish(coalescer);
    }

    /// ESP packets that were held for their slot.
    pub(crate) fn held_esp(&mut self, held: &mut [HeldEsp]) {
        let mut coalescer = std::mem::take(&mut self.space).start(self.joins_datagrams);
        for packet in held {
            self.esp(Via::Held, packet.origin, &mut packet.data, &mut coalescer);
        }
        self.finish(coalescer);
    }

    fn received<'p>(
        &mut self,
        socket: Socket,
        received: &mut Received<'p>,
        coalescer: &mut Coalescer<'p, Tag>,
    ) {
        let origin = StrayOrigin {
            source: received.source,
            local: socket.local,
            traffic_class: received.traffic_class,
            encapsulation: socket.encapsulation,
        };
        if received.truncated {
            return self.tally.one(Count::Truncated, received.data.len());
        }
        if socket.encapsulation == Encapsulation::Udp {
            let segment = received.segment.max(1);
            for data in std::mem::take(&mut received.data).chunks_mut(segment) {
                self.esp(Via::Socket, origin, data, coalescer);
            }
        } else if socket.local.is_ipv4() {
            let length = received.data.len();
            match split_ipv4_header(std::mem::take(&mut received.data)) {
                Some((_, data)) => self.esp(Via::Socket, origin, data, coalescer),
                None => self.tally.one(Count::Truncated, length),
            }
        } else {
            self.esp(Via::Socket, origin, std::mem::take(&mut received.data), coalescer);
        }
    }

    /// One ESP packet, from its SPI on.
    fn esp<'p>(
        &mut self,
        via: Via,
        origin: StrayOrigin,
        data: &'p mut [u8],
        coalescer: &mut Coalescer<'p, Tag>,
    ) {
        let length = data.len();
        if *data == KEEPALIVE {
            return self.tally.one(Count::Keepalives, length);
        }
        let Some(number) = esp::spi_of(data) else {
            return self.tally.one(Count::Truncated, length);
        };
        let Some(spi) = Spi::from_u32(number) else {
            // 0 is the mark of IKE, which the kernel may have coalesced with ESP. Other SPIs of slot 0 nobody has.
            let message = data.strip_prefix(&NON_ESP_MARKER);
            let message = message.filter(|_| origin.encapsulation == Encapsulation::Udp);
            if !message.is_some_and(|message| self.pass_on_ike(via, origin, message)) {
                self.tally.one(Count::NotEsp, length);
            }
            return;
        };
        if !self.table.owns(spi.slot()) {
            return self.elsewhere_esp(via, spi, origin, data);
        }
        match self.open(spi, origin, data) {
            Ok(Some((tag, data, packet))) => {
                self.tally.one(Count::EspReceived, length);
                let mut sink = Sink {
                    io: &mut self.io,
                    ports: &self.ports,
                    slots: self.table.slots(),
                    tally: &mut self.tally,
                    strays: &mut self.strays,
                    joins_datagrams: &mut self.joins_datagrams,
                };
                coalescer.push(tag, data, &packet, &mut |delivery| sink.deliver(delivery));
            }
            Ok(None) => {}
            // While the kernel's filters for protocol 50 change hands, a packet may come to both workers.
            Err(Cause::Replay(_)) if via == Via::Held && origin.encapsulation == Encapsulation::Esp => {
                self.tally.one(Count::HeldDouble, length);
            }
            Err(cause) => self.drop_esp(spi, cause, length),
        }
    }

    /// Checks and decrypts a packet; `None` when it is not to be delivered and that is no failure of its own, which is counted here.
    fn open<'p>(
        &mut self,
        spi: Spi,
        origin: StrayOrigin,
        data: &'p mut [u8],
    ) -> Result<Option<Accepted<'p>>, Cause> {
        let length = data.len();
        let mut found = self.table.with_keys(spi);
        if found.is_none() {
            // It may be new.
            self.table.refresh_slot(spi.slot());
            found = self.table.with_keys(spi);
        }
        let Some(Found { sa, keys, worker }) = found else {
            let is_known = self.table.entries().get(spi).is_some();
            let count = if is_known { Count::Inactive } else { Count::NoSa };
            self.tally.one(count, length);
            return Ok(None);
        };
        if !sa.inbound_active {
            self.tally.one(Count::Inactive, length);
            if let Some(cells) = worker.counters(spi) {
                cells.add(SaCounter::DropInactive, 1);
            }
            return Ok(None);
        }
        let (Some(inbound), Some(hot)) = (&mut keys.inbound, worker.hot(spi)) else {
            return Ok(None);
        };
        let mut replay = SharedReplay {
            hot,
            window: sa.replay_window,
        };
        // Taken apart at once: to copy the whole, just written in small pieces, has the processor wait.
        let Opened {
            payload,
            next_header,
            newest,
            ..
        } = inbound.open(data, &mut replay)?;
        hot.received_at(self.now_ns);
        let is_elsewhere = newest
            && origin.encapsulation == Encapsulation::Udp
            && sa.encapsulation == Encapsulation::Udp
            && origin.source != sa.peer
            && origin.local.ip() == sa.local.ip();
        let accepted = accept(sa, payload, next_header, &origin);
        if is_elsewhere {
            // RFC 7296 2.23: a peer behind NAT is where its newest authentic packet came from. From where another address of ours was reached nothing is
            // learned: our packets leave by the SA's own, for which that NAT has no mapping.
            hot.learn_peer(origin.source);
            self.table.split().1.move_peer(spi, origin.source);
            self.tally.one(Count::EndpointsLearned, 0);
        }
        accepted
    }

    fn drop_esp(&mut self, spi: Spi, cause: Cause, length: usize) {
        let (count, of_sa) = match cause {
            Cause::Truncated => (Count::Truncated, Some(SaCounter::DropMalformed)),
            Cause::Replay(sadb::ReplayVerdict::Stale) => (Count::NoSa, None),
            Cause::Replay(_) => (Count::Replayed, Some(SaCounter::DropReplay)),
            Cause::Integrity => (Count::BadIcv, Some(SaCounter::DropAuthentication)),
            Cause::Padding | Cause::NotIp => (Count::Malformed, Some(SaCounter::DropMalformed)),
            Cause::Ecn => (Count::Congestion, Some(SaCounter::DropDeliver)),
            Cause::Selector => (Count::NotSelected, Some(SaCounter::DropSelector)),
            Cause::Dummy => (Count::Dummies, None),
            Cause::TooBig { .. } | Cause::NoRoom | Cause::Crypto => {
                (Count::Malformed, Some(SaCounter::DropMalformed))
            }
        };
        self.tally.one(count, length);
        if let Some(counter) = of_sa {
            self.table.slots().count(spi, |cells| cells.add(counter, 1));
        }
    }

    /// Delivers what is left of a batch.
    fn finish(&mut self, coalescer: Coalescer<'_, Tag>) {
        let mut sink = Sink {
            io: &mut self.io,
            ports: &self.ports,
            slots: self.table.slots(),
            tally: &mut self.tally,
            strays: &mut self.strays,
            joins_datagrams: &mut self.joins_datagrams,
        };
        self.space = coalescer.finish(&mut |delivery| sink.deliver(delivery));
    }
}

/// What is in an authentic packet, if its SA may carry that.
#[inline]
fn accept<'p>(
    sa: &Sa,
    payload: &'p mut [u8],
    next_header: u8,
    origin: &StrayOrigin,
) -> Result<Option<Accepted<'p>>, Cause> {
    if next_header == esp::NO_NEXT_HEADER {
        return Err(Cause::Dummy);
    }
    let Some(mut packet) = Packet::parse(payload) else {
        return Err(Cause::NotIp);
    };
    if packet.next_header() != next_header {
        return Err(Cause::NotIp);
    }
    if !sa.policy.permits_inbound(&packet) {
        return Err(Cause::Selector);
    }
    packet.traffic_class = esp::propagate_ecn(origin.traffic_class, payload, &packet)?;
    let tag = Tag {
        context: sa.context,
        spi: sa.spi,
    };
    Ok(Some((tag, payload, packet)))
}

/// The SPI of the first packet of a read.
fn expected(socket: Socket, received: &Received<'_>) -> Option<Spi> {
    let raw_v4 = socket.encapsulation == Encapsulation::Esp && socket.local.is_ipv4();
    let start = if raw_v4 { USUAL_IPV4_HEADER } else { 0 };
    let number = received.data.get(start..).and_then(esp::spi_of);
    number.and_then(Spi::from_u32)
}

/// Where packets go that are through.
struct Sink<'a, I> {
    io: &'a mut I,
    ports: &'a Ports,
    slots: &'a Slots,
    tally: &'a mut Tally,
    strays: &'a mut Strays,
    joins_datagrams: &'a mut bool,
}

impl<I: Io> Sink<'_, I> {
    fn deliver(&mut self, delivery: Delivery<'_, Tag>) {
        let Tag { context, spi } = delivery.tag;
        let (packets, bytes) = (u64::from(delivery.packets), delivery.bytes());
        let output = self.strays.output(spi.slot());
        let written = match output {
            Some(worker) => hand_on(self.strays, self.tally, worker, &delivery),
            None => match (self.forward(context, &delivery), self.ports.tun(context)) {
                (0, Some(tun)) => self.write(tun, &delivery),
                (written, _) => written,
            },
        };
        if written > 0 {
            let bytes = bytes * written / packets.max(1);
            self.slots.count(spi, |cells| cells.received(written, bytes));
            self.tally.of_slot(spi.slot(), written);
            if output.is_none() {
                self.tally.add(Count::Delivered, written, bytes);
            }
        }
        if written < packets {
            let lost = packets - written;
            self.slots
                .count(spi, |cells| cells.add(SaCounter::DropDeliver, lost));
            self.tally
                .add(Count::NotDelivered, lost, bytes * lost / packets.max(1));
        }
    }

    /// Sends the packets past the kernel if the way to their host is known; returns how many left, also by the TUN when a device takes no more.
    fn forward(&mut self, context: u32, delivery: &Delivery<'_, Tag>) -> u64 {
        let mut packets = delivery.originals();
        let is_on_its_way = |packet: &[u8]| self.io.forward(context, packet);
        if !packets.next().is_some_and(is_on_its_way) {
            return 0;
        }
        let tun = self.ports.tun(context);
        let leaves = |packet: &&[u8]| {
            self.io.forward(context, packet)
                || tun.is_some_and(|tun| write_plain(self.io, tun, packet).is_ok())
        };
        1 + packets.filter(leaves).count() as u64
    }

    /// Writes a packet or super-packet; returns how many of its packets the kernel took.
    fn write(&mut self, tun: usize, delivery: &Delivery<'_, Tag>) -> u64 {
        self.tally.one(Count::Writes, 0);
        self.tally.call(Call::Write, delivery.packets as usize);
        let header = delivery.header().to_bytes();
        let result = if let [packet] = delivery.parts {
            self.io.write(tun, &[IoSlice::new(&header), IoSlice::new(packet)])
        } else {
            let mut parts = [IoSlice::new(&[]); 1 + MOST_PARTS];
            let all = std::iter::once(header.as_slice()).chain(delivery.parts.iter().copied());
            let mut count = 0;
            for (place, part) in parts.iter_mut().zip(all) {
                *place = IoSlice::new(part);
                count += 1;
            }
            self.io.write(tun, parts.get(..count).unwrap_or(&parts))
        };
        match result {
            Ok(()) => delivery.packets.into(),
            Err(error) if delivery.packets > 1 && error.kind() == std::io::ErrorKind::InvalidInput => {
                // Linux before 6.2 takes no UDP super-packets from a TUN.
                if delivery
                    .offload
                    .segmentation
                    .is_some_and(|s| s.kind == esp::SegmentKind::Udp)
                {
                    *self.joins_datagrams = false;
                }
                let each = delivery
                    .originals()
                    .filter(|packet| write_plain(self.io, tun, packet).is_ok());
                each.count() as u64
            }
            Err(error) => {
                tracing::debug!("cannot deliver: {error}");
                0
            }
        }
    }
}

//! Joining packets of a flow into super-packets (the reverse of [`crate::Segments`]), so that the kernel takes many with one call.
//!
//! Packets are joined when cutting the result gives them back bit by bit (but for IPv4 identifications with DF). Within a flow nothing is overtaken.
//! Checksums are verified before two packets are joined: after that nobody could.

use crate::bytes::{byte, long, put, word};
use crate::checksum::pseudo_header;
use crate::delivery::{Delivery, MOST_JOINED, MOST_PARTS, NONE, Originals, Piece, single};
use crate::offload::{Offload, PartialChecksum, SegmentKind, Segmentation};
use crate::packet::{Addresses, IPV4_HEADER, IPV6_HEADER, Packet, TCP, UDP};

/// Flows that can be open at a time; beyond that some are delivered early.
const MOST_RUNS: usize = u64::BITS as usize;
/// Hashes of them that are compared at once.
const COMPARED: usize = 16;
/// The longest super-packet, by its IP length field.
const MOST_BYTES: usize = u16::MAX as usize;
/// The longest headers of a packet that can be joined: IPv6 and TCP with options.
const MOST_HEADERS: usize = IPV6_HEADER + 60;

const ACK: u8 = 0x10;
const PSH: u8 = 0x08;
const ECE: u8 = 0x40;

/// Memory of a [`Coalescer`] between two batches, so that a batch allocates nothing.
#[derive(Debug)]
pub struct CoalescerSpace<T: 'static> {
    runs: Vec<Run<'static, T>>,
    pieces: Vec<Piece<'static>>,
}

impl<T: Copy + PartialEq> CoalescerSpace<T> {
    /// Space for a batch.
    pub fn new() -> Self {
        Self {
            runs: Vec::with_capacity(MOST_RUNS),
            pieces: Vec::with_capacity(MOST_RUNS * 4),
        }
    }

    /// Begins a batch. `udp`: join UDP datagrams too. Give the space back with [`Coalescer::finish`].
    pub fn start<'p>(self, udp: bool) -> Coalescer<'p, T> {
        Coalescer {
            hashes: [0; MOST_RUNS],
            runs: recycle(self.runs),
            taken: 0,
            pieces: recycle(self.pieces),
            free: NONE,
            victim: 0,
            udp,
        }
    }
}

impl<T: Copy + PartialEq> Default for CoalescerSpace<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// One batch of packets on their way to the kernel. `T` tells apart what must not be joined (SAs).
#[derive(Debug)]
pub struct Coalescer<'p, T> {
    /// Of the open runs, 0 = free place: looked through first, as it lies close together.
    hashes: [u32; MOST_RUNS],
    runs: Vec<Run<'p, T>>,
    /// Bit n is set when place n is taken.
    taken: u64,
    pieces: Vec<Piece<'p>>,
    /// The first unused piece.
    free: u32,
    /// Who has to go next when all places are taken.
    victim: usize,
    udp: bool,
}

/// Packets of one flow, in order.
#[derive(Debug)]
struct Run<'p, T> {
    tag: T,
    first: &'p [u8],
    packet: Packet,
    /// Length of all headers.
    headers: usize,
    /// Payload of each packet but the last.
    size: usize,
    /// All payloads.
    payload: usize,
    count: u16,
    /// The sequence number that comes next (TCP).
    next_sequence: u32,
    /// The last packet had PSH (TCP).
    push: bool,
    /// The first packet's checksum was found right.
    verified: bool,
    head: u32,
    tail: u32,
}

/// A packet that may be joined with others.
struct Candidate {
    headers: usize,
    payload: usize,
    /// TCP: PSH is set.
    push: bool,
    /// The run ends with it.
    last: bool,
}

impl<'p, T: Copy + PartialEq> Coalescer<'p, T> {
    /// Takes a packet; `packet` is what [`Packet::parse`] made of it. What is complete by that is given to `deliver`.
    pub fn push(
        &mut self,
        tag: T,
        data: &'p [u8],
        packet: &Packet,
        deliver: &mut impl FnMut(Delivery<'_, T>),
    ) {
        let Some(data) = data.get(..packet.length) else {
            return;
        };
        let hash = hash(packet);
        let place = self.find(hash, tag, packet);
        let candidate = self.candidate(data, packet);
        if let (Some(place), Some(candidate)) = (place, &candidate)
            && self.join(place, data, packet, candidate)
        {
            if candidate.last || self.is_full(place) {
                self.close(place, deliver);
            }
            return;
        }
        if let Some(place) = place {
            self.close(place, deliver);
        }
        match candidate {
            Some(candidate) if !candidate.last => self.open(hash, tag, data, *packet, &candidate, deliver),
            _ => deliver(single(tag, data, &[data])),
        }
    }

    /// Delivers all that is left, and ends the batch.
    pub fn finish(mut self, deliver: &mut impl FnMut(Delivery<'_, T>)) -> CoalescerSpace<T> {
        for place in 0..self.runs.len() {
            self.close(place, deliver);
        }
        CoalescerSpace {
            runs: recycle(self.runs),
            pieces: recycle(self.pieces),
        }
    }

    fn find(&self, hash: u32, tag: T, packet: &Packet) -> Option<usize> {
        let mut place = self.place_of(hash, 0)?;
        loop {
            let run = self.runs.get(place)?;
            if run.tag == tag
                && run.packet.addresses == packet.addresses
                && run.packet.ports == packet.ports
                && run.packet.protocol == packet.protocol
            {
                return Some(place);
            }
            place = self.place_of(hash, place + 1)?;
        }
    }

    /// The first place from `start` on with this hash. Most packets are the only ones of their flow in a batch, so many are compared at once before one is
    /// looked at.
    fn place_of(&self, hash: u32, start: usize) -> Option<usize> {
        let (blocks, _) = self.hashes.as_chunks::<COMPARED>();
        for (n, block) in blocks.iter().enumerate().skip(start / COMPARED) {
            if self.taken >> (n * COMPARED) == 0 {
                return None;
            }
            if block.iter().fold(false, |found, open| found | (*open == hash)) {
                let first = start.saturating_sub(n * COMPARED);
                let place = block.iter().skip(first).position(|open| *open == hash);
                if let Some(place) = place {
                    return Some(n * COMPARED + first + place);
                }
            }
        }
        None
    }

    fn candidate(&self, data: &[u8], packet: &Packet) -> Option<Candidate> {
        let plain = match packet.addresses {
            Addresses::V4 { .. } => packet.upper == IPV4_HEADER,
            Addresses::V6 { .. } => packet.upper == IPV6_HEADER,
        };
        if !plain || packet.is_fragment {
            return None;
        }
        let upper = packet.upper;
        match packet.protocol {
            TCP => {
                let headers = upper + usize::from(byte(data, upper + 12)? >> 4) * 4;
                let flags = byte(data, upper + 13)?;
                let payload = data.len().checked_sub(headers)?;
                let usual = flags & !(PSH | ECE) == ACK && word(data, upper + 18)? == 0;
                (usual && payload > 0 && headers >= upper + 20).then_some(Candidate {
                    headers,
                    payload,
                    push: flags & PSH != 0,
                    last: flags & PSH != 0,
                })
            }
            UDP if self.udp => {
                let headers = upper + 8;
                let payload = data.len().checked_sub(headers)?;
                let usual = usize::from(word(data, upper + 4)?) == payload + 8 && word(data, upper + 6)? != 0;
                (usual && payload > 0).then_some(Candidate {
                    headers,
                    payload,
                    push: false,
                    last: false,
                })
            }
            _ => None,
        }
    }

    fn open(
        &mut self,
        hash: u32,
        tag: T,
        data: &'p [u8],
        packet: Packet,
        candidate: &Candidate,
        deliver: &mut impl FnMut(Delivery<'_, T>),
    ) {
        let piece = self.piece(data);
        let run = Run {
            tag,
            first: data,
            packet,
            headers: candidate.headers,
            size: candidate.payload,
            payload: candidate.payload,
            count: 1,
            next_sequence: long(data, packet.upper + 4)
                .unwrap_or(0)
                .wrapping_add(candidate.payload as u32),
            push: false,
            verified: false,
            head: piece,
            tail: piece,
        };
        // The first free one, or that behind all.
        let mut place = self.taken.trailing_ones() as usize;
        if place >= MOST_RUNS {
            place = self.victim;
            self.victim = (place + 1) % MOST_RUNS;
            self.close(place, deliver);
        }
        self.taken |= 1 << place;
        match self.runs.get_mut(place) {
            Some(old) => *old = run,
            None => self.runs.push(run),
        }
        if let Some(place) = self.hashes.get_mut(place) {
            *place = hash;
        }
    }

    /// Appends a packet to a run of its flow if it continues it.
    fn join(&mut self, place: usize, data: &'p [u8], packet: &Packet, candidate: &Candidate) -> bool {
        let Some(run) = self.runs.get_mut(place) else {
            return false;
        };
        if !run.continues(data, packet, candidate) {
            return false;
        }
        if !run.verified {
            if !has_valid_checksum(run.first, &run.packet) {
                return false;
            }
            run.verified = true;
        }
        if !has_valid_checksum(data, packet) {
            return false;
        }
        let piece = self.piece(data);
        let Some(run) = self.runs.get_mut(place) else {
            return false;
        };
        if let Some(tail) = self.pieces.get_mut(run.tail as usize) {
            tail.next = piece;
        }
        run.tail = piece;
        run.count += 1;
        run.payload += candidate.payload;
        run.next_sequence = run.next_sequence.wrapping_add(candidate.payload as u32);
        run.push |= candidate.push;
        true
    }

    /// Nothing more can be joined: as many as may be, or the last was shorter.
    fn is_full(&self, place: usize) -> bool {
        self.runs.get(place).is_none_or(|run| {
            usize::from(run.count) >= MOST_JOINED
                || run.payload < usize::from(run.count) * run.size
                || run.headers + run.payload + run.size > MOST_BYTES
        })
    }

    fn close(&mut self, place: usize, deliver: &mut impl FnMut(Delivery<'_, T>)) {
        let (Some(hash), Some(run)) = (self.hashes.get_mut(place), self.runs.get(place)) else {
            return;
        };
        if std::mem::take(hash) == 0 {
            return;
        }
        self.taken &= !(1 << place);
        if run.count == 1 {
            deliver(single(run.tag, run.first, &[run.first]));
        } else {
            run.deliver(&self.pieces, deliver);
        }
        if let Some(tail) = self.pieces.get_mut(run.tail as usize) {
            tail.next = self.free;
        }
        self.free = run.head;
    }

    fn piece(&mut self, packet: &'p [u8]) -> u32 {
        let piece = Piece { packet, next: NONE };
        if let Some(place) = self.pieces.get_mut(self.free as usize) {
            let index = self.free;
            self.free = place.next;
            *place = piece;
            return index;
        }
        self.pieces.push(piece);
        (self.pieces.len() - 1) as u32
    }
}

impl<'p, T: Copy> Run<'p, T> {
    fn continues(&self, data: &[u8], packet: &Packet, candidate: &Candidate) -> bool {
        let upper = packet.upper;
        if candidate.headers != self.headers
            || candidate.payload > self.size
            || self.payload != usize::from(self.count) * self.size
            || self.headers + self.payload + candidate.payload > MOST_BYTES
            || packet.traffic_class != self.packet.traffic_class
            || packet.dont_fragment != self.packet.dont_fragment
        {
            return false;
        }
        let first = self.first;
        let same = |range: std::ops::Range<usize>| data.get(range.clone()) == first.get(range);
        let same_ip = match packet.addresses {
            // Flags and TTL. Without DF identifications must be what the cutting will make them.
            Addresses::V4 { .. } => {
                same(6..9)
                    && (packet.dont_fragment
                        || word(data, 4) == word(first, 4).map(|id| id.wrapping_add(self.count)))
            }
            // Flow label and hop limit.
            Addresses::V6 { .. } => same(0..4) && same(7..8),
        };
        let same_upper = packet.protocol != TCP
            || long(data, upper + 4) == Some(self.next_sequence)
                // Acknowledgement, offset; flags but PSH; window; options.
                && same(upper + 8..upper + 13)
                && byte(data, upper + 13).map(|f| f & !PSH) == byte(first, upper + 13).map(|f| f & !PSH)
                && same(upper + 14..upper + 16)
                && same(upper + 20..self.headers);
        same_ip && same_upper
    }

    fn deliver(&self, pieces: &[Piece<'p>], deliver: &mut impl FnMut(Delivery<'_, T>)) {
        let mut headers = [0; MOST_HEADERS];
        let Some((kind, checksum)) = self.super_headers(&mut headers) else {
            return;
        };
        let headers = headers.get(..self.headers).unwrap_or(&headers);
        let mut parts: [&[u8]; MOST_PARTS] = [&[]; MOST_PARTS];
        let (mut count, mut next) = (1, self.head);
        if let Some(first) = parts.first_mut() {
            *first = headers;
        }
        while let Some(piece) = pieces.get(next as usize) {
            if let (Some(part), Some(payload)) = (parts.get_mut(count), piece.packet.get(self.headers..)) {
                *part = payload;
                count += 1;
            }
            next = piece.next;
        }
        let offload = Offload {
            segmentation: Some(Segmentation {
                kind,
                size: self.size as u16,
            }),
            checksum: Some(checksum),
        };
        let delivery = Delivery {
            tag: self.tag,
            offload,
            parts: parts.get(..count).unwrap_or(&parts),
            packets: self.count.into(),
            originals: Originals::Chain {
                pieces,
                head: self.head,
            },
        };
        deliver(delivery);
    }

    /// The headers of the super-packet: lengths, PSH, and the sum of the pseudo-header in place of the checksum.
    fn super_headers(&self, out: &mut [u8; MOST_HEADERS]) -> Option<(SegmentKind, PartialChecksum)> {
        let (upper, protocol) = (self.packet.upper, self.packet.protocol);
        let length = self.headers + self.payload;
        let out = out.get_mut(..self.headers)?;
        out.copy_from_slice(self.first.get(..self.headers)?);
        let addresses = match self.packet.addresses {
            Addresses::V4 { .. } => {
                put(out, 2, u16::try_from(length).ok()?.to_be_bytes())?;
                crate::packet::finish_ipv4_header(out)?;
                out.get(12..20)?
            }
            Addresses::V6 { .. } => {
                put(out, 4, u16::try_from(length - IPV6_HEADER).ok()?.to_be_bytes())?;
                out.get(8..40)?
            }
        };
        let upper_length = u16::try_from(length - upper).ok()?;
        let sum = pseudo_header(addresses, protocol, upper_length.into()).partial();
        let (kind, offset) = match protocol {
            TCP => {
                let flags = byte(out, upper + 13)? | if self.push { PSH } else { 0 };
                put(out, upper + 13, [flags])?;
                (SegmentKind::Tcp, 16)
            }
            _ => {
                put(out, upper + 4, upper_length.to_be_bytes())?;
                (SegmentKind::Udp, 6)
            }
        };
        put(out, upper + usize::from(offset), sum)?;
        let start = u16::try_from(upper).ok()?;
        Some((kind, PartialChecksum { start, offset }))
    }
}

/// Of the flow; never 0.
fn hash(packet: &Packet) -> u32 {
    let addresses = match packet.addresses {
        Addresses::V4 { source, destination } => u64::from(source) << 32 | u64::from(destination),
        Addresses::V6 { source, destination } => {
            let mixed = source.rotate_left(64) ^ destination;
            (mixed >> 64) as u64 ^ mixed as u64
        }
    };
    let (source, destination) = packet.ports.unwrap_or_default();
    let ports = u64::from(source) << 32 | u64::from(destination) << 8 | u64::from(packet.protocol);
    // Collisions cost a comparison, so an attacker gains nothing by making some.
    let hash = (addresses ^ ports.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (hash >> 32) as u32 | 1
}

fn has_valid_checksum(data: &[u8], packet: &Packet) -> bool {
    let (addresses, header) = match packet.addresses {
        Addresses::V4 { .. } => (data.get(12..20), data.get(..packet.upper)),
        Addresses::V6 { .. } => (data.get(8..40), None),
    };
    let (Some(addresses), Some(upper)) = (addresses, data.get(packet.upper..packet.length)) else {
        return false;
    };
    // A wrong sum of the IPv4 header would be replaced by a right one.
    header.is_none_or(|header| crate::Checksum::new().with(header).is_valid())
        && pseudo_header(addresses, packet.protocol, upper.len() as u32)
            .with(upper)
            .is_valid()
}

/// The same memory for packets of another batch: the elements are gone, and collecting in place keeps the allocation.
fn recycle<A, B>(mut list: Vec<A>) -> Vec<B> {
    list.clear();
    list.into_iter().filter_map(|_| None).collect()
}

#[cfg(test)]
mod tests;

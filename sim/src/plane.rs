//! Packets between a TUN device and the child SAs of one tunnel, in as few system calls as can be.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::IoSlice;

use esp::VnetHeader;
use esp::{CoalescerSpace, Delivery, InboundSa, OutboundSa, Packet, ReplayWindow, Segments};
use netio::{MAX_GSO_BYTES, MAX_GSO_SEGMENTS, Offloads, TunQueue};

use crate::lane::halves;

/// Packets (or super-packets) read from the device before anything else gets its turn.
pub(crate) const ROUND: usize = 64;
const READ_BYTES: usize = VnetHeader::BYTES + 65_536;
const REPLAY: u16 = 512;
const IPV4: u8 = 4;
const IPV6: u8 = 41;

/// The device and the SAs.
pub(crate) struct Plane {
    queue: TunQueue,
    offloads: Offloads,
    pairs: Vec<Pair>,
    /// Inbound SPIs of the pairs to send with: each flow has one of them.
    senders: Vec<u32>,
    read: Vec<u8>,
    burst: Burst,
    space: Option<CoalescerSpace<()>>,
}

/// A child SA.
struct Pair {
    inbound_spi: u32,
    outbound_spi: u32,
    inbound: InboundSa,
    replay: ReplayWindow,
    outbound: OutboundSa,
    sequence: u64,
}

impl Plane {
    /// Without SAs, everything is discarded.
    pub(crate) fn new(queue: TunQueue, offloads: Offloads) -> Self {
        Self {
            queue,
            offloads,
            pairs: Vec::new(),
            senders: Vec::new(),
            read: vec![0; READ_BYTES],
            burst: Burst::default(),
            space: None,
        }
    }

    /// Receives with this child SA from now on, and sends with it unless it has to be activated first.
    pub(crate) fn install(&mut self, child: &ikev2::ChildSa) -> Result<(), String> {
        let (outbound, inbound) = halves(child)?;
        self.pairs.push(Pair {
            inbound_spi: child.inbound_spi,
            outbound_spi: child.outbound_spi,
            inbound,
            replay: ReplayWindow::new(REPLAY),
            outbound,
            sequence: 0,
        });
        if child.outbound_active {
            self.activate(child.inbound_spi, child.replaces);
        }
        Ok(())
    }

    /// Sends with this child SA from now on, and no more with the one that it replaces: the gateway receives with it.
    pub(crate) fn activate(&mut self, inbound_spi: u32, replaces: Option<u32>) {
        let mut senders = self.senders.iter_mut();
        match senders.find(|sender| Some(**sender) == replaces) {
            Some(place) => *place = inbound_spi,
            None => self.senders.push(inbound_spi),
        }
    }

    /// Forgets this child SA.
    pub(crate) fn remove(&mut self, inbound_spi: u32) {
        self.pairs.retain(|pair| pair.inbound_spi != inbound_spi);
        self.senders.retain(|sender| *sender != inbound_spi);
    }

    /// SPIs of the first child SA to send with: inbound, outbound.
    pub(crate) fn spis(&self) -> Option<(u32, u32)> {
        let mut pairs = self.pairs.iter();
        let first = pairs.find(|pair| self.senders.first() == Some(&pair.inbound_spi))?;
        Some((first.inbound_spi, first.outbound_spi))
    }

    /// Reads what waits on the device, a round at most, and gives `send` ESP packets: octets, octets of each but the last. Returns how many reads that were.
    pub(crate) fn outbound(&mut self, mut send: impl FnMut(&[u8], u16)) -> usize {
        let (mut reads, mut last) = (0, None);
        for _ in 0..ROUND {
            let Ok(length) = self.queue.read(&mut self.read) else {
                break;
            };
            reads += 1;
            let read = self.read.get_mut(..length).and_then(VnetHeader::split);
            let Some((header, data)) = read else { continue };
            let sender = sender_of(&self.senders, data);
            let mut pairs = self.pairs.iter_mut();
            let Some(Pair {
                outbound, sequence, ..
            }) = pairs.find(|pair| Some(pair.inbound_spi) == sender)
            else {
                continue;
            };
            // What is sent in one go reaches one data plane.
            if last.replace(sender).is_some_and(|last| last != sender) {
                self.burst.flush(&mut send);
            }
            // What cannot be sent is lost, as in any network.
            let _ = protect(header, data, outbound, sequence, &mut self.burst, &mut send);
        }
        self.burst.flush(&mut send);
        reads
    }

    /// Opens ESP packets and writes what is in them to the device. `other` is asked first, and says whether a datagram was something else.
    pub(crate) fn inbound<'p>(
        &mut self,
        segments: impl Iterator<Item = &'p mut [u8]>,
        mut other: impl FnMut(&[u8]) -> bool,
    ) {
        let (queue, pairs) = (&self.queue, &mut self.pairs);
        let mut deliver = |delivery: Delivery<'_, ()>| write(queue, &delivery);
        let space = self.space.take().unwrap_or_default();
        let mut coalescer = space.start(self.offloads == Offloads::TcpAndUdp);
        for segment in segments {
            if other(segment) {
                continue;
            }
            let spi = esp::spi_of(segment);
            let Some(pair) = pairs.iter_mut().find(|pair| Some(pair.inbound_spi) == spi) else {
                continue;
            };
            let Ok(opened) = pair.inbound.open(segment, &mut pair.replay) else {
                continue;
            };
            let payload: &[u8] = opened.payload;
            if let Some(packet) = Packet::parse(payload) {
                coalescer.push((), payload, &packet, &mut deliver);
            }
        }
        self.space = Some(coalescer.finish(&mut deliver));
    }
}

/// With which of several child SAs a packet leaves: the same for each packet of a flow.
fn sender_of(senders: &[u32], data: &[u8]) -> Option<u32> {
    let count = senders.len().max(1) as u64;
    let place = match Packet::parse(data).filter(|_| count > 1) {
        Some(packet) => {
            let mut hasher = DefaultHasher::new();
            let addresses = (packet.addresses.source(), packet.addresses.destination());
            (addresses, packet.ports).hash(&mut hasher);
            hasher.finish() % count
        }
        None => 0,
    };
    senders.get(usize::try_from(place).ok()?).copied()
}

/// Cuts a super-packet, finishes checksums, and seals what comes of it into the burst.
fn protect(
    header: VnetHeader,
    data: &mut [u8],
    sa: &mut OutboundSa,
    sequence: &mut u64,
    burst: &mut Burst,
    send: &mut impl FnMut(&[u8], u16),
) -> Option<()> {
    let packet = Packet::parse(data)?;
    let next_header = match packet.addresses {
        esp::Addresses::V4 { .. } => IPV4,
        esp::Addresses::V6 { .. } => IPV6,
    };
    let offload = header.offload()?;
    if let Some(segmentation) = offload.segmentation {
        let segments = Segments::new(data, &packet, segmentation)?;
        for n in 0..segments.count() {
            let fill = |out: &mut [u8]| segments.write(n, out).map(|_| ());
            burst.push(sa, sequence, next_header, segments.length(n), fill, send)?;
        }
        return Some(());
    }
    if let Some(checksum) = offload.checksum {
        esp::finish_checksum(data, &packet, checksum)?;
    }
    let data = data.get(..packet.length)?;
    let fill = |out: &mut [u8]| {
        out.copy_from_slice(data);
        Some(())
    };
    burst.push(sa, sequence, next_header, data.len(), fill, send)
}

/// ESP packets of one length (the last may be shorter), to be sent in one go.
#[derive(Default)]
struct Burst {
    data: Vec<u8>,
    stride: usize,
    count: usize,
}

impl Burst {
    /// Seals one more packet of `length` octets, which `fill` writes; sends the others first when it does not fit.
    fn push(
        &mut self,
        sa: &mut OutboundSa,
        sequence: &mut u64,
        next_header: u8,
        length: usize,
        fill: impl FnOnce(&mut [u8]) -> Option<()>,
        send: &mut impl FnMut(&[u8], u16),
    ) -> Option<()> {
        let transform = sa.transform();
        let (sealed, offset) = (transform.sealed_len(length), transform.header_len());
        let is_full = self.count == MAX_GSO_SEGMENTS || self.data.len() + sealed > MAX_GSO_BYTES;
        if is_full || sealed > self.stride {
            self.flush(send);
            self.stride = sealed;
        }
        let start = self.data.len();
        self.data.resize(start + sealed, 0);
        let packet = self.data.get_mut(start..)?;
        *sequence += 1;
        let written = packet
            .get_mut(offset..offset + length)
            .and_then(fill)
            .and_then(|()| sa.seal(packet, length, next_header, *sequence).ok().map(|_| ()));
        if written.is_none() {
            self.data.truncate(start);
            return None;
        }
        self.count += 1;
        if sealed < self.stride {
            self.flush(send);
        }
        Some(())
    }

    fn flush(&mut self, send: &mut impl FnMut(&[u8], u16)) {
        if let (false, Ok(stride)) = (self.data.is_empty(), u16::try_from(self.stride)) {
            send(&self.data, stride);
        }
        self.data.clear();
        self.stride = 0;
        self.count = 0;
    }
}

/// Writes a packet or super-packet to the device; packet by packet when the kernel does not take the super-packet.
fn write(queue: &TunQueue, delivery: &Delivery<'_, ()>) {
    let header = delivery.header().to_bytes();
    let mut parts = Vec::with_capacity(delivery.parts.len() + 1);
    parts.push(IoSlice::new(&header));
    parts.extend(delivery.parts.iter().map(|part| IoSlice::new(part)));
    if queue.write(&parts).is_err() && delivery.packets > 1 {
        let header = VnetHeader::default().to_bytes();
        for packet in delivery.originals() {
            // What the kernel refuses is lost.
            let _ = queue.write(&[IoSlice::new(&header), IoSlice::new(packet)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crypto::Cipher;
    use esp::Transform;
    use sadb::{SaKeys, SecretBytes};

    fn sas() -> (OutboundSa, InboundSa) {
        let transform = Transform::new(Cipher::AesGcm128Icv16, None).unwrap();
        let keys = SaKeys {
            encryption: SecretBytes::new("key", &[1; 16]).unwrap(),
            salt: SecretBytes::new("salt", &[2; 4]).unwrap(),
            integrity: SecretBytes::new("key", &[]).unwrap(),
        };
        (
            OutboundSa::new(transform, 7, &keys, false).unwrap(),
            InboundSa::new(transform, &keys, false).unwrap(),
        )
    }

    /// What is sent in one go can be cut by the kernel, and everything arrives in order.
    #[test]
    fn packets_of_one_length_go_together_and_a_shorter_one_ends_the_burst() {
        let (mut outbound, mut inbound) = sas();
        let (mut burst, mut sequence, mut sent) = (Burst::default(), 0, Vec::new());
        let mut send = |data: &[u8], stride: u16| sent.push((data.to_vec(), usize::from(stride)));
        let lengths = [100, 100, 100, 60, 60, 200, 200, 40];
        for length in lengths {
            let fill = |out: &mut [u8]| {
                out.fill(length as u8);
                Some(())
            };
            burst
                .push(&mut outbound, &mut sequence, IPV4, length, fill, &mut send)
                .unwrap();
        }
        for _ in 0..=MAX_GSO_SEGMENTS {
            let nothing = |_: &mut [u8]| Some(());
            burst
                .push(&mut outbound, &mut sequence, IPV4, 64, nothing, &mut send)
                .unwrap();
        }
        burst.flush(&mut send);
        let counts: Vec<usize> = sent
            .iter()
            .map(|(data, stride)| data.len().div_ceil(*stride))
            .collect();
        assert_eq!(counts, [4, 1, 3, MAX_GSO_SEGMENTS, 1]);
        let mut replay = ReplayWindow::new(REPLAY);
        let mut opened = Vec::new();
        for (data, stride) in &mut sent {
            for packet in data.chunks_mut(*stride) {
                opened.push(inbound.open(packet, &mut replay).unwrap().payload.len());
            }
        }
        assert_eq!(opened[..lengths.len()], lengths);
        assert_eq!(opened.len() as u64, sequence);
    }

    #[test]
    fn a_packet_that_cannot_be_written_leaves_no_trace_in_the_burst() {
        let (mut outbound, _) = sas();
        let mut burst = Burst::default();
        let mut send = |_: &[u8], _: u16| panic!("there is nothing to send");
        let refused = burst.push(&mut outbound, &mut 0, IPV4, 100, |_| None, &mut send);
        assert_eq!(refused, None);
        burst.flush(&mut send);
    }
}

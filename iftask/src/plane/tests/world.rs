//! Two data planes in memory: a gateway and its peer, on a network and with clear sides that remember what they got.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use crypto::Cipher;
use esp::VnetHeader;
use esp::{Packet, SegmentKind, Segmentation, Segments, Transform};
use netio::{Datagram, Received, SendError};
use sadb::{
    ChildSa, DfPolicy, DscpPolicy, Encapsulation, IkeSpi, Lifetimes, Mode, SaCounter, SaKeys, SecretBytes,
    Selector, Selectors, Slot, SlotOwner, SlotSegments, SlotWorker, Spi,
};
use telemetry::Counters;

use crate::counters::{Count, Statistics, Tally};
use crate::plane::engine::Engine;
use crate::plane::io::{Io, Socket};

pub(super) const CONTEXT: u32 = 2;
pub(super) const GATEWAY: &str = "192.0.2.1:4500";
pub(super) const PEER: &str = "198.51.100.7:4500";

/// A datagram as it left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sent {
    pub(super) socket: usize,
    pub(super) dont_fragment: bool,
    pub(super) destination: SocketAddr,
    pub(super) traffic_class: u8,
    pub(super) segment: Option<u16>,
    pub(super) data: Vec<u8>,
}

/// What a network and a clear side do in a test.
#[derive(Default)]
pub(super) struct FakeIo {
    pub(super) sent: Vec<Sent>,
    /// Queue, header, packet.
    pub(super) written: Vec<(usize, VnetHeader, Vec<u8>)>,
    pub(super) calls: usize,
    /// TUN and destination.
    pub(super) attracted: Vec<(usize, IpAddr)>,
    pub(super) spread: Vec<(usize, IpAddr)>,
    /// The clear side knows no UDP super-packets.
    pub(super) old_kernel: bool,
    /// The clear side is down.
    pub(super) down: bool,
    /// Longest ESP packet that is taken with DF.
    pub(super) narrow: Option<usize>,
    /// Sends that fail, by their number from the start.
    pub(super) refused: Vec<usize>,
}

impl Io for FakeIo {
    fn send(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
    ) -> Result<(), SendError> {
        self.calls += 1;
        for (n, datagram) in datagrams.iter().enumerate() {
            let number = self.sent.len();
            let length = datagram.segment.map_or(datagram.data.len(), usize::from);
            if dont_fragment && self.narrow.is_some_and(|most| length > most) {
                // EMSGSIZE.
                let error = io::Error::from_raw_os_error(90);
                return Err(SendError {
                    sent: n,
                    segments: 0,
                    error,
                });
            }
            let refused = self.refused.iter().position(|refused| *refused == number);
            if let Some(position) = refused {
                self.refused.remove(position);
                let error = io::Error::from(io::ErrorKind::NetworkUnreachable);
                return Err(SendError {
                    sent: n,
                    segments: 0,
                    error,
                });
            }
            self.sent.push(Sent {
                socket,
                dont_fragment,
                destination: datagram.destination,
                traffic_class: datagram.traffic_class,
                segment: datagram.segment,
                data: datagram.data.to_vec(),
            });
        }
        Ok(())
    }

    fn write(&mut self, tun: usize, parts: &[IoSlice<'_>]) -> io::Result<()> {
        if self.down {
            return Err(io::Error::from_raw_os_error(5));
        }
        let mut bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_vec()).collect();
        let (header, packet) = VnetHeader::split(&mut bytes).unwrap();
        if self.old_kernel && header.gso_type == VnetHeader::GSO_UDP_L4 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        self.written.push((tun, header, packet.to_vec()));
        Ok(())
    }

    fn forward(&mut self, _: u32, _: &[u8]) -> bool {
        false
    }

    fn attract(&mut self, tun: usize, destination: IpAddr) {
        self.attracted.push((tun, destination));
    }

    fn spread(&mut self, tun: usize, destination: IpAddr) {
        self.spread.push((tun, destination));
    }
}

/// A data plane, its slot, and what owns it.
pub(super) struct World {
    pub(super) engine: Engine<FakeIo>,
    pub(super) owner: SlotOwner,
    pub(super) segments: Arc<SlotSegments>,
    pub(super) statistics: Arc<Statistics>,
}

impl World {
    /// Worker `worker` with slot `slot`, one UDP and one ESP socket at `local`, one TUN.
    pub(super) fn new(worker: u16, slot: u8, local: &str) -> Self {
        let segments = SlotSegments::with_capacity(Slot::new(slot).unwrap(), 600).unwrap();
        let owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
        Self::with(worker, Arc::new(segments), owner, local)
    }

    fn with(worker: u16, segments: Arc<SlotSegments>, owner: SlotOwner, local: &str) -> Self {
        let statistics = Statistics::new();
        let tally = Tally::new(Counters::in_memory(), statistics.clone());
        let mut engine = Engine::new(FakeIo::default(), worker, tally);
        let local: SocketAddr = local.parse().unwrap();
        for encapsulation in [Encapsulation::Udp, Encapsulation::Esp] {
            engine.ports.add_socket(Socket {
                context: CONTEXT,
                local,
                encapsulation,
            });
        }
        engine.ports.add_tun(CONTEXT);
        engine.add_slot(SlotWorker::map(&segments.worker_fds().unwrap()).unwrap());
        engine.begin(1_000_000_000);
        Self {
            engine,
            owner,
            segments,
            statistics,
        }
    }

    /// The same worker after a restart.
    pub(super) fn restarted(self, local: &str) -> Self {
        let worker = 1;
        Self::with(worker, self.segments, self.owner, local)
    }

    pub(super) fn install(&mut self, sa: &ChildSa) {
        self.owner.install(sa).unwrap();
        self.engine.refresh();
    }

    pub(super) fn update(&mut self, sa: &ChildSa) {
        self.owner.update(sa).unwrap();
        self.engine.refresh();
    }

    /// What a packet of the clear side becomes.
    pub(super) fn send(&mut self, header: VnetHeader, packet: &[u8]) {
        let mut read = header.to_bytes().to_vec();
        read.extend_from_slice(packet);
        self.engine
            .outbound(CONTEXT, std::iter::once(read.as_mut_slice()));
    }

    /// Sends what waits and returns what left since the last time.
    pub(super) fn flushed(&mut self) -> Vec<Sent> {
        self.engine.end();
        std::mem::take(&mut self.engine.io.sent)
    }

    /// Receives datagrams as one batch, each coalesced by the kernel as it was segmented.
    pub(super) fn receive(&mut self, sent: &[Sent], source: &str) {
        let source = source.parse().unwrap();
        let mut copies = sent.to_vec();
        let place = sent.first().map_or(0, |first| first.socket);
        let batch = copies.iter_mut().map(|sent| Received {
            segment: sent.segment.map_or(sent.data.len(), usize::from).max(1),
            data: &mut sent.data,
            source,
            destination: None,
            traffic_class: sent.traffic_class,
            truncated: false,
        });
        self.engine.inbound(place, batch);
        self.engine.end();
    }

    /// What was delivered since the last time, super-packets cut.
    pub(super) fn delivered(&mut self) -> Vec<Vec<u8>> {
        let written = std::mem::take(&mut self.engine.io.written);
        written
            .iter()
            .flat_map(|(_, header, data)| cut(*header, data))
            .collect()
    }

    pub(super) fn count(&mut self, count: Count) -> u64 {
        self.engine.tally.publish();
        self.statistics.get(count)
    }

    pub(super) fn of_sa(&self, spi: Spi, counter: SaCounter) -> u64 {
        let worker = self.engine.table.slots().get(spi.slot()).unwrap();
        worker.counters(spi).unwrap().snapshot().get(counter)
    }
}

/// What the ESP socket sent, as raw IPv4 sockets read it: behind an IP header.
pub(super) fn with_ip_headers(sent: &[Sent]) -> Vec<Sent> {
    let with_header = |sent: &Sent| Sent {
        data: [&[0x45; 20], sent.data.as_slice()].concat(),
        ..sent.clone()
    };
    sent.iter().map(with_header).collect()
}

/// The packets of a super-packet, as the kernel would see them.
pub(super) fn cut(header: VnetHeader, data: &[u8]) -> Vec<Vec<u8>> {
    let kind = match header.gso_type {
        VnetHeader::GSO_NONE => return vec![data.to_vec()],
        VnetHeader::GSO_UDP_L4 => SegmentKind::Udp,
        _ => SegmentKind::Tcp,
    };
    let packet = Packet::parse(data).unwrap();
    let size = header.gso_size;
    let segments = Segments::new(data, &packet, Segmentation { kind, size }).unwrap();
    let mut out = vec![0; 65_535];
    (0..segments.count())
        .map(|n| {
            let length = segments.write(n, &mut out).unwrap();
            out[..length].to_vec()
        })
        .collect()
}

pub(super) fn selectors(ranges: &[(&str, &str)]) -> Selectors {
    let list: Vec<Selector> = ranges
        .iter()
        .map(|(start, end)| Selector::any_port(start.parse().unwrap(), end.parse().unwrap()))
        .collect();
    Selectors::new(&list).unwrap()
}

fn keys(transform: Transform, seed: u8) -> SaKeys {
    SaKeys {
        encryption: SecretBytes::new("key", &vec![seed; transform.cipher().key_len()]).unwrap(),
        salt: SecretBytes::new("salt", &vec![seed; transform.cipher().salt_len()]).unwrap(),
        integrity: SecretBytes::new(
            "key",
            &vec![seed; transform.integrity().map_or(0, |i| i.key_len())],
        )
        .unwrap(),
    }
}

/// Gives an SA other algorithms, and keys for them.
pub(super) fn with_transform(sa: &mut ChildSa, transform: Transform) {
    sa.algorithms = transform.algorithms();
    (sa.inbound_keys, sa.outbound_keys) = (keys(transform, 3), keys(transform, 4));
}

/// The gateway's end: 10.1.0.0/16 and fd01::/16 behind it, 10.2.0.N and fd02::N behind peer N.
pub(super) fn gateway_sa(inbound: Spi, outbound: u32, number: u8) -> ChildSa {
    let transform = Transform::new(Cipher::AesGcm128Icv16, None).unwrap();
    let host = format!("10.2.0.{number}");
    let host_v6 = format!("fd02::{number:x}");
    ChildSa {
        inbound_spi: inbound,
        outbound_spi: outbound,
        inbound_active: true,
        outbound_active: true,
        algorithms: transform.algorithms(),
        inbound_keys: keys(transform, 1 ^ number),
        outbound_keys: keys(transform, 2 ^ number),
        mode: Mode::Tunnel,
        esn: false,
        encapsulation: Encapsulation::Udp,
        local: GATEWAY.parse().unwrap(),
        peer: PEER.parse().unwrap(),
        context: CONTEXT,
        replay_window: 64,
        local_selectors: selectors(&[
            ("10.1.0.0", "10.1.255.255"),
            ("fd01::", "fd01:ffff:ffff:ffff:ffff:ffff:ffff:ffff"),
        ]),
        remote_selectors: selectors(&[(&host, &host), (&host_v6, &host_v6)]),
        fragment_mtu: 1400,
        inner_mtu: 0,
        outer_mtu: 1500,
        shared: false,
        df: DfPolicy::Copy,
        dscp: DscpPolicy::Copy,
        ike_sa: IkeSpi::new(inbound.slot(), 1, 1).unwrap(),
        lifetimes: Lifetimes::default(),
    }
}

/// The other end of an SA.
pub(super) fn mirrored(sa: &ChildSa, inbound: Spi) -> ChildSa {
    ChildSa {
        inbound_spi: inbound,
        outbound_spi: sa.inbound_spi.to_u32(),
        inbound_keys: sa.outbound_keys.clone(),
        outbound_keys: sa.inbound_keys.clone(),
        local: sa.peer,
        peer: sa.local,
        local_selectors: sa.remote_selectors,
        remote_selectors: sa.local_selectors,
        ike_sa: IkeSpi::new(inbound.slot(), 1, 1).unwrap(),
        ..sa.clone()
    }
}

/// A gateway and a peer with one tunnel, changed by `change` on both ends alike.
pub(super) fn tunnel(change: impl Fn(&mut ChildSa)) -> (World, World, Spi, Spi) {
    let mut gateway = World::new(1, 1, GATEWAY);
    let mut peer = World::new(1, 9, PEER);
    let (inbound, outbound) = (gateway.owner.allocate().unwrap(), peer.owner.allocate().unwrap());
    let mut sa = gateway_sa(inbound, outbound.to_u32(), 7);
    change(&mut sa);
    gateway.install(&sa);
    peer.install(&mirrored(&sa, outbound));
    (gateway, peer, inbound, outbound)
}

fn ip(protocol: u8, source: IpAddr, destination: IpAddr, upper: &[u8]) -> Vec<u8> {
    match (source, destination) {
        (IpAddr::V4(source), IpAddr::V4(destination)) => {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + upper.len() as u16).to_be_bytes());
            packet.extend([0x12, 0x34, 0, 0, 64, protocol, 0, 0]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            let sum = esp::Checksum::new().with(&packet).finish();
            packet[10..12].copy_from_slice(&sum);
            packet.extend(upper);
            packet
        }
        (IpAddr::V6(source), IpAddr::V6(destination)) => {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend((upper.len() as u16).to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(source.octets());
            packet.extend(destination.octets());
            packet.extend(upper);
            packet
        }
        _ => panic!("two families"),
    }
}

/// A packet with its upper-layer checksum left to be finished, and the header that says so.
fn partial(
    protocol: u8,
    source: &str,
    destination: &str,
    mut upper: Vec<u8>,
    gso: Option<u16>,
) -> (VnetHeader, Vec<u8>) {
    let (source, destination): (IpAddr, IpAddr) = (source.parse().unwrap(), destination.parse().unwrap());
    let (offset, tso) = if protocol == 6 { (16, true) } else { (6, false) };
    let octets = |address: IpAddr| match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    let pseudo = [octets(source), octets(destination)].concat();
    let sum = esp::Checksum::new()
        .with(&pseudo)
        .with_word(protocol.into())
        .with_word(upper.len() as u16)
        .partial();
    upper[offset..offset + 2].copy_from_slice(&sum);
    let packet = ip(protocol, source, destination, &upper);
    let gso_type = match (gso, tso, source.is_ipv4()) {
        (None, ..) => VnetHeader::GSO_NONE,
        (_, false, _) => VnetHeader::GSO_UDP_L4,
        (_, true, true) => VnetHeader::GSO_TCPV4,
        (_, true, false) => VnetHeader::GSO_TCPV6,
    };
    let header = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type,
        gso_size: gso.unwrap_or(0),
        checksum_start: if source.is_ipv4() { 20 } else { 40 },
        checksum_offset: offset as u16,
        ..VnetHeader::default()
    };
    (header, packet)
}

/// A UDP datagram, or a USO super-packet of datagrams with `gso` bytes.
pub(super) fn udp(
    source: &str,
    destination: &str,
    payload: &[u8],
    gso: Option<u16>,
) -> (VnetHeader, Vec<u8>) {
    let mut upper = vec![0x13, 0x88, 0x9c, 0x40];
    upper.extend((8 + payload.len() as u16).to_be_bytes());
    upper.extend([0, 0]);
    upper.extend(payload);
    partial(17, source, destination, upper, gso)
}

/// A TCP segment, or a TSO super-packet.
pub(super) fn tcp(
    source: &str,
    destination: &str,
    payload: &[u8],
    gso: Option<u16>,
) -> (VnetHeader, Vec<u8>) {
    let mut upper = vec![
        0x13, 0x88, 0x9c, 0x40, 0, 0, 0x10, 0, 1, 2, 3, 4, 0x50, 0x10, 0x20, 0, 0, 0, 0, 0,
    ];
    upper.extend(payload);
    partial(6, source, destination, upper, gso)
}

/// What the receiver has to see of a packet that was sent with an unfinished checksum.
pub(super) fn finished(header: VnetHeader, packet: &[u8]) -> Vec<u8> {
    let mut data = packet.to_vec();
    let parsed = Packet::parse(packet).unwrap();
    let partial = esp::PartialChecksum {
        start: header.checksum_start,
        offset: header.checksum_offset,
    };
    esp::finish_checksum(&mut data, &parsed, partial).unwrap();
    data
}

//! A worker with many tunnels, and their peers.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;

use crypto::{Cipher, Integrity};
use esp::{OutboundSa, Transform, VnetHeader};
use iftask::pipeline::Pipeline;
use netio::Received;
use sadb::{
    ChildSa, DfPolicy, DscpPolicy, Encapsulation, IkeSpi, Lifetimes, Mode, SaKeys, SecretBytes, Selector,
    Selectors, Slot, SlotOwner, SlotSegments, SlotWorker, Spi,
};

use crate::measure::Carrier;
use crate::packets::{Chance, ROOM, Sizes, write_udp};

/// Packets of a round.
pub const BATCH: usize = 64;
const CONTEXT: u32 = 2;
/// The worker's address.
const GATEWAY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 4500);
/// A host behind the worker.
const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 10);
/// Behind the first peer; the following peers have the following addresses.
const FIRST_INNER: Ipv4Addr = Ipv4Addr::new(10, 64, 0, 0);
/// The first peer.
const FIRST_PEER: Ipv4Addr = Ipv4Addr::new(11, 0, 0, 0);

/// A worker, its tunnels, and their peers.
pub struct Tunnels {
    pipeline: Pipeline,
    peers: Vec<Peer>,
    buffers: Vec<Buffer>,
}

/// The other end of a tunnel.
struct Peer {
    outbound: OutboundSa,
    sequence: u64,
    address: SocketAddr,
    inner: Ipv4Addr,
}

struct Buffer {
    data: Box<[u8; ROOM]>,
    length: usize,
    source: SocketAddr,
}

impl Tunnels {
    /// As many tunnels as asked for, AES-GCM with 128 bits, spread over the slots as a node spreads them.
    pub fn new(count: usize, slots: RangeInclusive<u8>) -> Result<Self, String> {
        let transform = Transform::new(Cipher::AesGcm128Icv16, None).map_err(text)?;
        Self::with(transform, count, slots)
    }

    /// Likewise, with other algorithms.
    pub fn with(transform: Transform, count: usize, slots: RangeInclusive<u8>) -> Result<Self, String> {
        let mut pipeline = Pipeline::new(GATEWAY, CONTEXT);
        let mut peers = Vec::with_capacity(count);
        let mut owned = Vec::new();
        for slot in slots {
            let slot = Slot::new(slot).ok_or("there is no slot 0")?;
            let segments = SlotSegments::create(slot).map_err(text)?;
            let owner = SlotOwner::map(&segments.owner_fds().map_err(text)?).map_err(text)?;
            owned.push((segments, owner));
        }
        let slots = owned.len().max(1);
        for peer in 0..count {
            let (_, owner) = owned.get_mut(peer % slots).ok_or("no slots")?;
            let sa = child_sa(owner.allocate().map_err(text)?, transform, peer as u32)?;
            owner.install(&sa).map_err(text)?;
            peers.push(Peer {
                outbound: OutboundSa::new(transform, sa.inbound_spi.to_u32(), &sa.inbound_keys, sa.esn)
                    .map_err(text)?,
                sequence: 0,
                address: sa.peer,
                inner: inner(peer as u32),
            });
        }
        for (segments, _) in &owned {
            pipeline.add_slot(SlotWorker::map(&segments.worker_fds().map_err(text)?).map_err(text)?);
        }
        let buffer = || Buffer {
            data: Box::new([0; ROOM]),
            length: 0,
            source: GATEWAY,
        };
        Ok(Self {
            pipeline,
            peers,
            buffers: (0..BATCH).map(|_| buffer()).collect(),
        })
    }

    /// Carries a packet both ways through every tunnel, so that all keys are prepared.
    pub fn warm_up(&mut self) -> Result<(), String> {
        let mut chance = Chance::new(1);
        for first in (0..self.peers.len()).step_by(BATCH) {
            for way in [Way::Open, Way::Seal] {
                self.prepare_in_turn(way, first, Sizes::Short, &mut chance)?;
                self.round(way, 1);
            }
        }
        Ok(())
    }

    /// Prepares a batch of packets that belong to one tunnel after the other, from `first` on.
    pub fn prepare_in_turn(
        &mut self,
        way: Way,
        first: usize,
        sizes: Sizes,
        chance: &mut Chance,
    ) -> Result<(), String> {
        let which: [usize; BATCH] = std::array::from_fn(|n| (first + n) % self.peers.len());
        self.fill(way, &which, sizes, chance)
    }

    fn fill(
        &mut self,
        way: Way,
        which: &[usize; BATCH],
        sizes: Sizes,
        chance: &mut Chance,
    ) -> Result<(), String> {
        for (buffer, peer) in self.buffers.iter_mut().zip(which) {
            let peer = self.peers.get_mut(*peer).ok_or("no such peer")?;
            let length = sizes.pick(chance);
            let data = buffer.data.as_mut_slice();
            match way {
                Way::Open => {
                    let start = peer.outbound.transform().header_len();
                    write_udp(&mut data[start..start + length], peer.inner, HOST);
                    peer.sequence += 1;
                    let sealed = peer.outbound.seal(data, length, esp::IPV4, peer.sequence);
                    buffer.length = sealed.map_err(text)?.len();
                    buffer.source = peer.address;
                }
                Way::Seal => {
                    buffer.length = VnetHeader::BYTES + length;
                    let (header, packet) = data[..buffer.length].split_at_mut(VnetHeader::BYTES);
                    header.copy_from_slice(&VnetHeader::default().to_bytes());
                    write_udp(packet, HOST, peer.inner);
                }
            }
        }
        Ok(())
    }
}

impl Carrier for Tunnels {
    fn prepare(&mut self, way: Way, sizes: Sizes, chance: &mut Chance) -> Result<(), String> {
        let count = self.peers.len() as u64;
        let which: [usize; BATCH] = std::array::from_fn(|_| chance.below(count) as usize);
        self.fill(way, &which, sizes, chance)
    }

    /// A whole round of the data plane.
    fn round(&mut self, way: Way, now_ns: u64) {
        self.pipeline.begin(now_ns);
        let buffers = self.buffers.iter_mut();
        match way {
            Way::Open => self.pipeline.open(buffers.map(|buffer| Received {
                segment: buffer.length,
                data: &mut buffer.data[..buffer.length],
                source: buffer.source,
                destination: None,
                traffic_class: 0,
                truncated: false,
            })),
            Way::Seal => self
                .pipeline
                .seal(buffers.map(|buffer| &mut buffer.data[..buffer.length])),
        }
        self.pipeline.end();
    }

    fn carried(&self) -> (u64, u64) {
        self.pipeline.carried()
    }
}

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// From the network.
    Open,
    /// To the network.
    Seal,
}

fn child_sa(spi: Spi, transform: Transform, peer: u32) -> Result<ChildSa, String> {
    let keys = |way: u8| {
        let [a, b, c, d] = peer.to_be_bytes();
        let key = |length: usize| -> Vec<u8> {
            (0..length as u8)
                .map(|n| n ^ way ^ a ^ b ^ c.rotate_left(1) ^ d)
                .collect()
        };
        let encryption = key(transform.cipher().key_len());
        let integrity = key(transform.integrity().map_or(0, Integrity::key_len));
        let salt = [way, b, c, d];
        let salt = salt.get(..transform.cipher().salt_len()).unwrap_or(&salt);
        Ok::<_, String>(SaKeys {
            encryption: SecretBytes::new("key", &encryption).map_err(text)?,
            salt: SecretBytes::new("salt", salt).map_err(text)?,
            integrity: SecretBytes::new("key", &integrity).map_err(text)?,
        })
    };
    let selectors = |start: Ipv4Addr, end: Ipv4Addr| {
        Selectors::new(&[Selector::any_port(start.into(), end.into())]).map_err(text)
    };
    Ok(ChildSa {
        inbound_spi: spi,
        outbound_spi: 0x0100_0000 + peer,
        inbound_active: true,
        outbound_active: true,
        algorithms: transform.algorithms(),
        inbound_keys: keys(0x20)?,
        outbound_keys: keys(0x40)?,
        mode: Mode::Tunnel,
        esn: false,
        encapsulation: Encapsulation::Udp,
        local: GATEWAY,
        peer: SocketAddr::new(after(FIRST_PEER, peer).into(), 4500),
        context: CONTEXT,
        replay_window: 64,
        local_selectors: selectors(Ipv4Addr::new(172, 16, 0, 0), Ipv4Addr::new(172, 16, 0, 255))?,
        remote_selectors: selectors(inner(peer), inner(peer))?,
        fragment_mtu: 0,
        inner_mtu: 0,
        outer_mtu: 1500,
        shared: false,
        df: DfPolicy::Copy,
        dscp: DscpPolicy::Copy,
        ike_sa: IkeSpi::new(spi.slot(), 1, 1).ok_or("no IKE SPI")?,
        lifetimes: Lifetimes::default(),
    })
}

fn inner(peer: u32) -> Ipv4Addr {
    after(FIRST_INNER, peer)
}

fn after(first: Ipv4Addr, distance: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(first) + distance)
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

//! Everything that must not die with a child: sockets, TUN queues, segments, rings. Kept by what they are for, so that asking twice gives the same.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsFd, OwnedFd};

use bus::messages::rmctrl::SlotMap;
use bus::messages::sit::{Close, OpenEsp, OpenIke, OpenRings, OpenSlots, OpenTun, OpenUdp, OpenXdp, Opened};
use bus::{Address, Facility, Message};
use netio::steering::Steering;
use netio::{DatagramSocket, SocketOptions, Tun, UdpGroup};
use sadb::{Slot, SlotSegments, StrayRing};
use task::Packet;

use crate::contexts::{Context, Contexts, TUN_PREFIX};
use sockets::{RawSockets, options};
pub(crate) use xdp::XdpPorts;

mod kept;
mod slots;
mod sockets;
mod xdp;

/// RFC 7296 section 2: IKE.
const IKE_PORT: u16 = 500;
/// RFC 3948: IKE and ESP behind NAT.
const NAT_T_PORT: u16 = 4500;
/// Packets are fitted to each tunnel by `iftask`, not by the device.
const TUN_MTU: u16 = 1500;
/// A ring holds a burst of large packets of one scheduling delay.
const RING_BYTES: usize = 1 << 20;
/// One between data planes may carry all packets of a slot. Only what is used takes memory.
const DATA_RING_BYTES: usize = 4 << 20;
/// Kernel memory of a management socket.
const UDP_BUFFER: usize = 1 << 20;
/// Workers of a node: for each one, the answer to `OpenRings` carries four descriptors, and a control message 64.
pub(crate) const MOST_WORKERS: u32 = netio::ControlSocket::MAX_FDS as u32 / 4;

/// What `sit` holds for the others.
pub(crate) struct Descriptors {
    workers: u32,
    /// Key of the hash that spreads new IKE SAs over the workers: drawn at boot and never told.
    key: [u8; 16],
    /// Who has which slot, once `rmctrl` has told.
    slot_map: Option<SlotMap>,
    /// What all sockets are steered by; `None` while some are not.
    steered: Option<Steering>,
    groups: HashMap<(String, SocketAddr), Held<UdpGroup>>,
    raw: HashMap<(String, IpAddr, u32), Held<RawSockets>>,
    tuns: HashMap<String, Tun>,
    udp: HashMap<(Address, OpenUdpKey), DatagramSocket>,
    /// Devices with AF_XDP.
    pub xdp: XdpPorts,
    slots: BTreeMap<Slot, SlotSegments>,
    /// By the facility that writes, its worker and the other end's.
    rings: HashMap<(Facility, u32, u32), StrayRing>,
}

type OpenUdpKey = (String, String, u32, u32);

/// Something shared by several tasks; closed when the last one closes it.
struct Held<T> {
    what: T,
    by: BTreeSet<Address>,
}

/// Descriptors for an answer.
#[derive(Debug, Default)]
pub(crate) struct Given {
    pub opened: Opened,
    pub fds: Vec<OwnedFd>,
}

/// Why a request was not fulfilled.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Something it needs is not known yet (the slot map, a new context): ask again when it may be.
    NotYet(String),
    /// It cannot be done.
    Failed(String),
}

impl<E: std::error::Error> From<E> for Refusal {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

impl Given {
    fn add(&mut self, name: impl Into<String>, fd: impl AsFd) -> io::Result<()> {
        self.fds.push(fd.as_fd().try_clone_to_owned()?);
        self.opened.names.push(name.into());
        Ok(())
    }
}

impl Descriptors {
    pub fn new(workers: u32) -> io::Result<Self> {
        let mut key = [0; 16];
        File::open("/dev/urandom")?.read_exact(&mut key)?;
        Ok(Self {
            workers,
            key,
            slot_map: None,
            steered: None,
            groups: HashMap::new(),
            raw: HashMap::new(),
            tuns: HashMap::new(),
            udp: HashMap::new(),
            xdp: XdpPorts::default(),
            slots: BTreeMap::new(),
            rings: HashMap::new(),
        })
    }

    /// Fulfils an opening request of `who`.
    pub fn open(&mut self, contexts: &Contexts, who: Address, packet: &Packet) -> Result<Given, Refusal> {
        let kind = packet.header.message;
        if kind == OpenIke::TYPE {
            let request: OpenIke = decode(packet)?;
            self.open_ike(contexts, who, &request.context, parse(&request.address)?)
        } else if kind == OpenEsp::TYPE {
            let request: OpenEsp = decode(packet)?;
            self.open_esp(contexts, who, &request.context, parse(&request.address)?)
        } else if kind == OpenTun::TYPE {
            self.open_tun(contexts, who, &decode::<OpenTun>(packet)?.context)
        } else if kind == OpenSlots::TYPE {
            self.open_slots(who, &decode::<OpenSlots>(packet)?.slots)
        } else if kind == OpenRings::TYPE {
            self.open_rings(who)
        } else if kind == OpenUdp::TYPE {
            self.open_udp(contexts, who, decode(packet)?)
        } else if kind == OpenXdp::TYPE {
            self.open_xdp(contexts, who, &decode(packet)?)
        } else {
            Err(Refusal::Failed(format!(
                "requests of type {kind:#06x} are not served"
            )))
        }
    }

    /// `who` needs the sockets of an address, or the TUN of a context, no longer.
    pub fn close(&mut self, who: Address, request: &Close) {
        match request.address.parse::<IpAddr>() {
            Ok(address) => {
                release(&mut self.groups, who, |(context, socket)| {
                    *context == request.context && socket.ip() == address
                });
                release(&mut self.raw, who, |(context, local, _)| {
                    *context == request.context && *local == address
                });
                self.udp.retain(|(holder, (context, local, ..)), _| {
                    *holder != who || *context != request.context || *local != request.address
                });
                self.share_addresses(&request.context);
            }
            // The device belongs to the context: only its own vpnmgr gives it up.
            Err(_) if who.facility == Facility::Vpnmgr => drop(self.tuns.remove(&request.context)),
            Err(_) => {}
        }
    }

    /// Closes all that belongs to a context.
    pub fn close_context(&mut self, name: &str) {
        self.groups.retain(|(context, _), _| context != name);
        self.raw.retain(|(context, ..), _| context != name);
        self.udp.retain(|(_, (context, ..)), _| context != name);
        self.xdp.close_context(name);
        self.tuns.remove(name);
    }

    fn open_ike(
        &mut self,
        contexts: &Contexts,
        who: Address,
        name: &str,
        address: IpAddr,
    ) -> Result<Given, Refusal> {
        let worker = self.worker(who, &[Facility::Ipsecmgr])?;
        let context = context(contexts, name)?;
        let mut given = Given::default();
        for port in [IKE_PORT, NAT_T_PORT] {
            let group = self.group(context, name, SocketAddr::new(address, port), who)?;
            given.add(format!("udp{port}"), member(group, index(worker))?)?;
        }
        Ok(given)
    }

    fn open_esp(
        &mut self,
        contexts: &Contexts,
        who: Address,
        name: &str,
        address: IpAddr,
    ) -> Result<Given, Refusal> {
        let worker = self.worker(who, &[Facility::Iftask])?;
        let context = context(contexts, name)?;
        let mut given = Given::default();
        let workers = index(self.workers) + 1;
        let group = self.group(context, name, SocketAddr::new(address, NAT_T_PORT), who)?;
        given.add("udp4500", member(group, workers + index(worker))?)?;
        match self.raw_sockets(context, name, address, worker, who) {
            Ok(sockets) => {
                given.add("esp", &sockets.esp)?;
                given.add("too-big", &sockets.too_big)?;
            }
            // Without the right to raw sockets, ESP behind UDP still works.
            Err(error) => tracing::warn!("no ESP socket for {address} in context {name}: {error}"),
        }
        self.share_addresses(name);
        Ok(given)
    }

    fn open_tun(&mut self, contexts: &Contexts, who: Address, name: &str) -> Result<Given, Refusal> {
        let context = context(contexts, name)?;
        let worker = match who.facility {
            Facility::Vpnmgr if who.instance == context.id => None,
            Facility::Iftask => Some(self.worker(who, &[Facility::Iftask])?),
            _ => {
                return Err(Refusal::Failed(format!(
                    "{who} has no business with the TUN of context {name}"
                )));
            }
        };
        if self.tuns.get(name).is_some_and(Tun::is_gone) {
            tracing::warn!("somebody deleted the TUN of context {name}: it is made again");
            self.tuns.remove(name);
        }
        if !self.tuns.contains_key(name) {
            let (device, queues) = (format!("{TUN_PREFIX}{}", context.id), index(self.workers) + 1);
            let mut tun = context
                .namespace
                .run(|| Tun::create(&device, queues, TUN_MTU))??;
            if queues > 1
                && let Err(error) = tun.steer()
            {
                tracing::info!("clear packets of context {name} may take a detour between workers: {error}");
            }
            self.tuns.insert(name.to_owned(), tun);
            self.share_tun(context, name);
        }
        let mut given = Given::default();
        if let Some(tun) = self.tuns.get(name) {
            given.opened.interface.clone_from(&tun.name);
            if let Some(worker) = worker {
                let queue = tun.queues.get(index(worker)).ok_or_else(|| missing("queue"))?;
                given.add("tun", queue)?;
                if let Some(table) = &tun.steering {
                    given.add("tun-steering", table)?;
                }
            }
        }
        Ok(given)
    }

    /// Between the `iftask`s of each two workers, and between the two processes of each.
    fn open_rings(&mut self, who: Address) -> Result<Given, Refusal> {
        let worker = self.worker(who, &[Facility::Iftask, Facility::Ipsecmgr])?;
        let mut given = Given::default();
        let (others, partner) = match who.facility {
            Facility::Iftask => (1..=self.workers, Facility::Ipsecmgr),
            _ => (worker..=worker, Facility::Iftask),
        };
        for other in others {
            let writer = if other == worker { partner } else { who.facility };
            for (direction, key) in [
                ("to", (who.facility, worker, other)),
                ("from", (writer, other, worker)),
            ] {
                let ring = match self.rings.entry(key) {
                    std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                    std::collections::hash_map::Entry::Vacant(entry) => {
                        let is_between_data_planes = other != worker;
                        let bytes = if is_between_data_planes {
                            DATA_RING_BYTES
                        } else {
                            RING_BYTES
                        };
                        entry.insert(StrayRing::create(bytes)?)
                    }
                };
                let (memory, event) = ring.fds();
                given.add(format!("ring-{direction}-{other}"), memory)?;
                given.add(format!("event-{direction}-{other}"), event)?;
            }
        }
        Ok(given)
    }

    fn open_udp(&mut self, contexts: &Contexts, who: Address, request: OpenUdp) -> Result<Given, Refusal> {
        if !matches!(who.facility, Facility::Aaamgr | Facility::Snmp) {
            return Err(Refusal::Failed(format!("{who} has nothing to send by itself")));
        }
        let context = context(contexts, &request.context)?;
        let port = u16::try_from(request.port)
            .map_err(|_| Refusal::Failed(format!("there is no UDP port {}", request.port)))?;
        // Any address means any IPv4 address: a socket for both families would see IPv4 peers in disguise.
        let any = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let address = if request.address.is_empty() {
            any
        } else {
            parse(&request.address)?
        };
        let address = SocketAddr::new(address, port);
        let key = (
            who,
            (request.context, request.address, request.port, request.number),
        );
        let mut given = Given::default();
        let socket = match self.udp.entry(key) {
            std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::hash_map::Entry::Vacant(entry) => {
                let options = SocketOptions {
                    receive_buffer: UDP_BUFFER,
                    send_buffer: UDP_BUFFER,
                    ..options()
                };
                entry.insert(
                    context
                        .namespace
                        .run(|| DatagramSocket::bind_udp(address, options))??,
                )
            }
        };
        given.add("udp", socket)?;
        Ok(given)
    }

    /// The worker of a task of one of `facilities`.
    fn worker(&self, who: Address, facilities: &[Facility]) -> Result<u32, Refusal> {
        if facilities.contains(&who.facility) && (1..=self.workers).contains(&who.instance) {
            Ok(who.instance)
        } else {
            Err(Refusal::Failed(format!(
                "{who} is no worker that has such descriptors"
            )))
        }
    }
}

fn release<K, T>(held: &mut HashMap<K, Held<T>>, who: Address, is_meant: impl Fn(&K) -> bool) {
    held.retain(|key, held| {
        if is_meant(key) {
            held.by.remove(&who);
        }
        !held.by.is_empty()
    });
}

fn context<'a>(contexts: &'a Contexts, name: &str) -> Result<&'a Context, Refusal> {
    contexts
        .get(name)
        .ok_or_else(|| Refusal::NotYet(format!("there is no context '{name}'")))
}

fn member(group: &UdpGroup, index: usize) -> Result<&OwnedFd, Refusal> {
    group.members().get(index).ok_or_else(|| missing("group member"))
}

fn missing(what: &str) -> Refusal {
    Refusal::Failed(format!("there is no {what} for this worker"))
}

fn decode<M: prost::Message + Default>(packet: &Packet) -> Result<M, Refusal> {
    packet.decode().map_err(Refusal::Failed)
}

fn parse(address: &str) -> Result<IpAddr, Refusal> {
    address
        .parse()
        .map_err(|_| Refusal::Failed(format!("'{address}' is no IP address")))
}

/// Position of a worker, which are counted from 1.
fn index(worker: u32) -> usize {
    worker.saturating_sub(1) as usize
}

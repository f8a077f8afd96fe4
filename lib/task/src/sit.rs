//! Requests to `sit` over the control socket.

use std::collections::HashMap;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bus::frame::{Kind, Refusal};
use bus::link::Links;
use bus::messages::rmctrl::SlotMap;
use bus::messages::sit::{
    Close, EndLife, GetKeptSlotMap, HandOver, LinkOpened, OpenEsp, OpenFile, OpenIke, OpenRings, OpenSlots,
    OpenTun, OpenUdp, OpenXdp, Opened, Ready, SetSlotMap,
};
use bus::{Address, Facility, Leaving, Message, Request};
use netio::XdpQueue;
use sadb::{SegmentFds, Slot};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::channel::{Channel, Packet, found, header};
use crate::error::Error;
use crate::hardening::Confinement;
use crate::shutdown::Shutdown;

/// Opening a socket can mean to make a namespace and a device first.
const DEADLINE: Duration = Duration::from_secs(15);
/// Slots asked for at a time: each brings up to four descriptors, and a control message carries 64.
const SLOTS_A_REQUEST: usize = 16;

/// `sit`, as a child asks it. Clones are the same.
#[derive(Clone)]
pub struct Sit(Arc<Inner>);

struct Inner {
    me: Address,
    channel: Channel,
    correlation: AtomicU64,
    /// Who waits for which answer; `None` once `sit` is gone.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Packet>>>>,
    confinement: Confinement,
}

/// The IKE sockets of a worker for a local address.
#[derive(Debug)]
pub struct IkeSockets {
    /// UDP port 500.
    pub udp500: OwnedFd,
    /// UDP port 4500.
    pub udp4500: OwnedFd,
}

/// The ESP sockets of a worker for a local address.
#[derive(Debug)]
pub struct EspSockets {
    /// UDP port 4500.
    pub udp4500: OwnedFd,
    /// Protocol 50; absent where the node may not open it.
    pub esp: Option<OwnedFd>,
    /// ICMP about packets of both that were too long; absent likewise.
    pub too_big: Option<OwnedFd>,
}

/// A worker's queue of the TUN of a context.
#[derive(Debug)]
pub struct Tun {
    /// Name of the device in the namespace of the context.
    pub interface: String,
    /// The queue; absent for tasks without one (`vpnmgr`).
    pub queue: Option<OwnedFd>,
    /// The table that chooses among its queues, if it has one.
    pub steering: Option<OwnedFd>,
}

/// What a worker has of a device with AF_XDP.
#[derive(Debug)]
pub struct XdpQueues {
    /// The device's driver does it, not the kernel in its place.
    pub native: bool,
    /// Maybe none: a device may have fewer queues than the node has workers.
    pub queues: Vec<XdpQueue>,
}

/// Both rings between this task and another.
#[derive(Debug)]
pub struct RingEnds {
    /// The other worker; this one's own number for the rings between its `iftask` and its `ipsecmgr`.
    pub worker: u32,
    /// Memory and event of the ring towards it.
    pub to: (OwnedFd, OwnedFd),
    /// Memory and event of the ring from it.
    pub from: (OwnedFd, OwnedFd),
}

impl Sit {
    /// The IKE sockets of this worker for `address` in `context`. Asking again gives the same sockets.
    pub async fn open_ike(&self, context: &str, address: IpAddr) -> Result<IkeSockets, Error> {
        let request = OpenIke {
            context: context.to_owned(),
            address: address.to_string(),
        };
        let mut opened = self.open(&request).await?;
        Ok(IkeSockets {
            udp500: opened.take("udp500")?,
            udp4500: opened.take("udp4500")?,
        })
    }

    /// The ESP sockets of this worker for `address` in `context`. Asking again gives the same sockets.
    pub async fn open_esp(&self, context: &str, address: IpAddr) -> Result<EspSockets, Error> {
        let request = OpenEsp {
            context: context.to_owned(),
            address: address.to_string(),
        };
        let mut opened = self.open(&request).await?;
        Ok(EspSockets {
            udp4500: opened.take("udp4500")?,
            esp: opened.take("esp").ok(),
            too_big: opened.take("too-big").ok(),
        })
    }

    /// This worker's queue of the TUN of `context`, which is made if there is none. `vpnmgr` gets no queue.
    pub async fn open_tun(&self, context: &str) -> Result<Tun, Error> {
        let mut opened = self
            .open(&OpenTun {
                context: context.to_owned(),
            })
            .await?;
        Ok(Tun {
            queue: opened.take("tun").ok(),
            steering: opened.take("tun-steering").ok(),
            interface: opened.interface,
        })
    }

    /// The segments of slots, for `ipsecmgr` (to own them) and `iftask` (to work with them).
    pub async fn open_slots(&self, slots: &[Slot]) -> Result<Vec<(Slot, SegmentFds)>, Error> {
        let mut all = Vec::with_capacity(slots.len());
        for part in slots.chunks(SLOTS_A_REQUEST) {
            let mut opened = self.open(&open_slots(part)).await?;
            for &slot in part {
                let mut segment = |kind: &str| opened.take(&format!("slot-{slot}-{kind}"));
                let fds = SegmentFds {
                    keys: segment("keys")?,
                    hot: segment("hot")?,
                    counters: segment("counters")?,
                    ike: segment("ike").ok(),
                };
                all.push((slot, fds));
            }
        }
        Ok(all)
    }

    /// The counter segments of slots, to read.
    pub async fn open_slot_counters(&self, slots: &[Slot]) -> Result<Vec<(Slot, OwnedFd)>, Error> {
        let mut all = Vec::with_capacity(slots.len());
        for part in slots.chunks(SLOTS_A_REQUEST) {
            let mut opened = self.open(&open_slots(part)).await?;
            for &slot in part {
                all.push((slot, opened.take(&format!("slot-{slot}-counters"))?));
            }
        }
        Ok(all)
    }

    /// The rings between this `iftask` and every other, and to and from the `ipsecmgr` of its worker; for that one, to and from its `iftask`.
    pub async fn open_rings(&self) -> Result<Vec<RingEnds>, Error> {
        let mut opened = self.open(&OpenRings {}).await?;
        let workers: Vec<u32> = opened
            .names
            .iter()
            .filter_map(|name| name.strip_prefix("ring-to-")?.parse().ok())
            .collect();
        workers
            .into_iter()
            .map(|worker| {
                let mut ring = |direction: &str| -> Result<(OwnedFd, OwnedFd), Error> {
                    let memory = opened.take(&format!("ring-{direction}-{worker}"))?;
                    Ok((memory, opened.take(&format!("event-{direction}-{worker}"))?))
                };
                Ok(RingEnds {
                    worker,
                    to: ring("to")?,
                    from: ring("from")?,
                })
            })
            .collect()
    }

    /// This worker's queues of a device that is configured for AF_XDP. Asking again gives the same sockets and memory, unless the device is another.
    pub async fn open_xdp(&self, context: &str, device: &str) -> Result<XdpQueues, Error> {
        let request = OpenXdp {
            context: context.to_owned(),
            device: device.to_owned(),
            takes_clear: true,
        };
        let mut opened = self.open(&request).await?;
        let numbers: Vec<u32> = opened
            .names
            .iter()
            .filter_map(|name| name.strip_prefix("xdp-socket-")?.parse().ok())
            .collect();
        let queue = |number| -> Result<XdpQueue, Error> {
            Ok(XdpQueue {
                number,
                socket: opened.take(&format!("xdp-socket-{number}"))?,
                memory: opened.take(&format!("xdp-memory-{number}"))?,
            })
        };
        let queues = numbers.into_iter().map(queue).collect::<Result<_, _>>()?;
        Ok(XdpQueues {
            native: opened.native,
            queues,
        })
    }

    /// A UDP socket in `context`, bound to `address` (`None`: any IPv4 address; `::` is any IPv6 address) and `port` (0: any; then `number` tells
    /// several apart). Asking again gives the same socket.
    pub async fn open_udp(
        &self,
        context: &str,
        address: Option<IpAddr>,
        port: u16,
        number: u32,
    ) -> Result<OwnedFd, Error> {
        let request = OpenUdp {
            context: context.to_owned(),
            address: address.map_or_else(String::new, |address| address.to_string()),
            port: port.into(),
            number,
        };
        self.open(&request).await?.take("udp")
    }

    /// A file that the running configuration names, to read it; `sit` opens no other (and none but for `certmgr`).
    pub async fn open_file(&self, url: &str) -> Result<File, Error> {
        let request = OpenFile { url: url.to_owned() };
        Ok(self.open(&request).await?.take("file")?.into())
    }

    /// Has `sit` keep this version of the slot map, steer by it and give out segments by it (for `rmctrl`). The same one may be set again.
    ///
    /// # Errors
    /// It is older than what is kept, or some sockets could not be steered by it.
    pub async fn set_slot_map(&self, map: &SlotMap) -> Result<(), Error> {
        let request = SetSlotMap {
            map: Some(map.clone()),
        };
        let (kept, _) = self.ask(&request).await?;
        if kept.failure.is_empty() {
            return Ok(());
        }
        Err(Error::Failed {
            request: SetSlotMap::NAME,
            cause: kept.failure,
        })
    }

    /// The slot map that was committed last, `None` before the first (for `rmctrl`).
    pub async fn kept_slot_map(&self) -> Result<Option<SlotMap>, Error> {
        Ok(self.ask(&GetKeptSlotMap {}).await?.0.map)
    }

    /// Has `sit` kill a life of a task that has slots: `lives` says how many were before it (for `rmctrl`).
    pub async fn end_life(&self, task: Address, lives: u32) -> Result<(), Error> {
        let request = EndLife {
            facility: task.facility as u32,
            instance: task.instance,
            lives,
        };
        self.ask(&request).await.map(drop)
    }

    /// Says that this task no longer needs the sockets of `address` in `context`, or its TUN when there is no address.
    pub async fn close(&self, context: &str, address: Option<IpAddr>) -> Result<(), Error> {
        let address = address.map_or_else(String::new, |address| address.to_string());
        self.ask(&Close {
            context: context.to_owned(),
            address,
        })
        .await
        .map(drop)
    }

    /// Says that this task serves: its configuration is applied and its sockets are open.
    pub async fn ready(&self) -> Result<(), Error> {
        let Confinement { files, missing } = &self.0.confinement;
        let ready = Ready {
            unprotected: missing.clone(),
            confined: *files,
        };
        self.ask(&ready).await.map(drop)
    }

    pub(crate) fn new(me: Address, channel: Channel, confinement: Confinement) -> Self {
        Self(Arc::new(Inner {
            me,
            channel,
            correlation: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
            confinement,
        }))
    }

    /// Reads the control socket until it is closed.
    pub(crate) async fn listen(self, links: Links, shutdown: Shutdown, leaving: Leaving) {
        loop {
            match self.0.channel.receive().await {
                Ok(Some(packet)) => self.packet(packet, &links, &shutdown, &leaving),
                Ok(None) => break,
                Err(error) if error.kind() == std::io::ErrorKind::InvalidData => {
                    tracing::warn!("dropped a control message: {error}");
                }
                Err(error) => {
                    tracing::error!("the control socket failed: {error}");
                    break;
                }
            }
        }
        lock(&self.0.waiting).take();
        // Without sit there is no node.
        shutdown.request(Duration::ZERO);
    }

    fn packet(&self, mut packet: Packet, links: &Links, shutdown: &Shutdown, leaving: &Leaving) {
        match packet.header.kind {
            Kind::Reply | Kind::Refusal => {
                let waiting = lock(&self.0.waiting)
                    .as_mut()
                    .and_then(|all| all.remove(&packet.header.correlation));
                if let Some(waiting) = waiting {
                    // Whoever asked may have given up.
                    drop(waiting.send(packet));
                }
            }
            Kind::Event if packet.header.message == LinkOpened::TYPE => {
                let peer = packet.decode::<LinkOpened>().ok().and_then(|link| {
                    let facility = Facility::from_number(u8::try_from(link.facility).ok()?)?;
                    Some(Address::new(facility, link.instance))
                });
                let (Some(peer), Some(socket)) = (peer, packet.fds.pop()) else {
                    return tracing::warn!("dropped a link: {}", found(&packet));
                };
                if let Err(error) = links.install(peer, socket) {
                    tracing::warn!("cannot use the link to {peer}: {error}");
                }
            }
            Kind::Event if packet.header.message == bus::messages::sit::Shutdown::TYPE => {
                let grace = packet
                    .decode::<bus::messages::sit::Shutdown>()
                    .map_or(0, |shutdown| shutdown.grace);
                shutdown.request(Duration::from_millis(grace.into()));
            }
            Kind::Event if packet.header.message == HandOver::TYPE => {
                let grace = packet.decode::<HandOver>().map_or(0, |end| end.grace);
                leaving.begin();
                shutdown.request_hand_over(Duration::from_millis(grace.into()));
            }
            _ => tracing::warn!("dropped a control message: {}", found(&packet)),
        }
    }

    async fn open<R: Request<Reply = Opened>>(&self, request: &R) -> Result<Descriptors, Error> {
        let (opened, fds) = self.ask(request).await?;
        if !opened.failure.is_empty() {
            return Err(Error::Failed {
                request: R::NAME,
                cause: opened.failure,
            });
        }
        if opened.names.len() != fds.len() {
            let found = format!("{} names for {} descriptors", opened.names.len(), fds.len());
            return Err(Error::Protocol {
                expected: R::NAME,
                found,
            });
        }
        let fds = fds.into_iter().map(Some).collect();
        Ok(Descriptors {
            request: R::NAME,
            names: opened.names,
            fds,
            interface: opened.interface,
            native: opened.native,
        })
    }

    async fn ask<R: Request>(&self, request: &R) -> Result<(R::Reply, Vec<OwnedFd>), Error> {
        let correlation = self.0.correlation.fetch_add(1, Ordering::Relaxed);
        let (answer, receiver) = oneshot::channel();
        lock(&self.0.waiting)
            .as_mut()
            .ok_or(Error::Closed)?
            .insert(correlation, answer);
        let exchange = async {
            let header = header::<R>(Kind::Request, self.0.me, correlation);
            self.0.channel.send(header, request, &[]).await?;
            receiver.await.map_err(|_| Error::Closed)
        };
        let answer = timeout(DEADLINE, exchange).await;
        if let Some(waiting) = lock(&self.0.waiting).as_mut() {
            waiting.remove(&correlation);
        }
        let packet = answer.map_err(|_| Error::Timeout { request: R::NAME })??;
        let protocol = |found: String| Error::Protocol {
            expected: R::NAME,
            found,
        };
        if packet.header.kind == Kind::Refusal {
            let refusal = packet.decode::<Refusal>().map_err(protocol)?;
            return Err(Error::Failed {
                request: R::NAME,
                cause: refusal.text,
            });
        }
        if packet.header.message != R::TYPE {
            return Err(protocol(found(&packet)));
        }
        Ok((packet.decode().map_err(protocol)?, packet.fds))
    }
}

fn open_slots(slots: &[Slot]) -> OpenSlots {
    OpenSlots {
        slots: slots.iter().map(|slot| slot.number().into()).collect(),
    }
}

/// Named descriptors of an answer.
struct Descriptors {
    request: &'static str,
    names: Vec<String>,
    fds: Vec<Option<OwnedFd>>,
    interface: String,
    native: bool,
}

impl Descriptors {
    fn take(&mut self, name: &str) -> Result<OwnedFd, Error> {
        let index = self.names.iter().position(|given| given == name);
        index
            .and_then(|index| self.fds.get_mut(index)?.take())
            .ok_or_else(|| Error::Protocol {
                expected: self.request,
                found: format!("no descriptor '{name}' among {:?}", self.names),
            })
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

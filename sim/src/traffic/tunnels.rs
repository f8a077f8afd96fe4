//! The near end of a measurement inside the simulator's own tunnels: flow f goes through tunnel f modulo their number.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use ikev2::{Action, ChildSa, Event, IkeSaId, Path, RemoveReason};

use super::near::{Arrived, Near};
use super::sender::{Burst, Carrier};
use super::wire::{self, MARK};
use crate::fleet::{Crew, Fleet};
use crate::initiator::Memory;
use crate::lane::Lane;
use crate::packets::{HEADERS, payload, write_headers};
use crate::peers::Peers;

/// Deletes are answered within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(3);
const TICK: Duration = Duration::from_millis(20);

/// Tunnels that are up.
pub(super) struct Tunnels {
    fleet: Fleet,
    lanes: Lanes,
    far: SocketAddrV4,
    flows: usize,
    /// ESP packets that wait for the flush: where they go, end in `octets`, octets of each.
    waiting: Vec<(Path, usize, u16)>,
    octets: Vec<u8>,
}

/// What the tunnels are made of, by the number of the peer.
struct Lanes {
    peers: Peers,
    lanes: Vec<Option<Tunnel>>,
    by_spi: HashMap<u32, usize>,
    over: usize,
    /// Why the first one failed.
    failure: Option<String>,
    lost: usize,
    arrived: Vec<Arrived>,
}

struct Tunnel {
    ike: IkeSaId,
    path: Path,
    lane: Lane,
    inner: Ipv4Addr,
}

impl Tunnels {
    /// Sets `tunnels` up, for `flows` to the far end.
    pub(super) fn open(
        peers: Peers,
        tunnels: usize,
        flows: usize,
        far: SocketAddrV4,
    ) -> Result<Self, String> {
        let fleet = Fleet::open(peers.common()?, &peers.local)?;
        let mut lanes = Vec::new();
        lanes.resize_with(tunnels, || None);
        let mut near = Self {
            fleet,
            lanes: Lanes {
                peers,
                lanes,
                by_spi: HashMap::new(),
                over: 0,
                failure: None,
                lost: 0,
                arrived: Vec::new(),
            },
            far,
            flows,
            waiting: Vec::new(),
            octets: Vec::new(),
        };
        near.set_up()?;
        Ok(near)
    }

    fn set_up(&mut self) -> Result<(), String> {
        let wanted = self.lanes.lanes.len();
        let mut next = 0;
        while self.lanes.over < wanted {
            while next < wanted && next - self.lanes.over < self.lanes.peers.concurrent() {
                let peers = &self.lanes.peers;
                let (outer, gateway) = (peers.outer(next), peers.gateway);
                let profile = peers.profile(&self.fleet.common, next);
                self.fleet.initiate(profile, outer, gateway, &mut self.lanes)?;
                next += 1;
            }
            self.fleet.step(TICK, &mut self.lanes)?;
        }
        let up = self.lanes.lanes.iter().flatten().count();
        match &self.lanes.failure {
            None if up == wanted => Ok(()),
            failure => Err(format!(
                "{up} of {wanted} tunnels came up: {}",
                failure.as_deref().unwrap_or("no child SA")
            )),
        }
    }

    /// Deletes the tunnels and waits a little for the answers.
    pub(super) fn farewell(mut self) -> Result<(), String> {
        let start = Instant::now();
        let ikes: Vec<IkeSaId> = self
            .lanes
            .lanes
            .iter()
            .flatten()
            .map(|tunnel| tunnel.ike)
            .collect();
        for ike in ikes {
            self.fleet.act(ike, Action::Delete, &mut self.lanes)?;
        }
        while self.fleet.ike_sas() > 0 && start.elapsed() < FAREWELL {
            self.fleet.step(TICK, &mut self.lanes)?;
        }
        Ok(())
    }

    /// Tunnels that ended by themselves, as far as is known.
    pub(super) fn lost(&self) -> usize {
        self.lanes.lost
    }

    /// Puts an inner packet of `length` octets of a flow into a sealed one at the end of what waits; gives its length.
    fn seal(&mut self, flow: usize, length: usize, write: impl FnOnce(&mut [u8])) -> Option<(Path, usize)> {
        let count = self.lanes.lanes.len().max(1);
        let tunnel = self.lanes.lanes.get_mut(flow % count)?.as_mut()?;
        let offset = u16::try_from(flow / count).unwrap_or_default();
        let port = |first: u16| first.wrapping_add(offset);
        let source = SocketAddrV4::new(tunnel.inner, port(super::PORT));
        let destination = SocketAddrV4::new(*self.far.ip(), port(self.far.port()));
        let stride = tunnel.lane.sealed_len(length);
        let start = self.octets.len();
        self.octets.resize(start + stride, 0);
        let sealed = tunnel.lane.seal(self.octets.get_mut(start..)?, length, |packet| {
            write_headers(packet, source, destination);
            write(packet.get_mut(HEADERS..).unwrap_or_default());
        });
        if sealed.is_none() {
            self.octets.truncate(start);
        }
        sealed.map(|()| (tunnel.path, stride))
    }
}

impl Carrier for Tunnels {
    fn carry(&mut self, burst: &Burst) {
        let mut taken = None;
        for mark in burst.marks() {
            let length = burst.length.max(HEADERS + MARK);
            taken = self
                .seal(burst.flow, length, |payload| mark.write(payload))
                .or(taken);
        }
        if let Some((path, stride)) = taken {
            let segment = u16::try_from(stride).unwrap_or(u16::MAX);
            self.waiting.push((path, self.octets.len(), segment));
        }
    }

    fn flush(&mut self) -> Result<u64, String> {
        let sent = self.fleet.send_all(&self.waiting, &self.octets)?;
        self.waiting.clear();
        self.octets.clear();
        Ok(sent)
    }
}

impl Near for Tunnels {
    fn flows(&self) -> usize {
        self.flows
    }

    fn say(&mut self, flow: usize, payload: &[u8]) -> Result<(), String> {
        let length = HEADERS + payload.len();
        let sealed = self.seal(flow, length, |place| place.copy_from_slice(payload));
        if let Some((path, stride)) = sealed {
            let segment = u16::try_from(stride).unwrap_or(u16::MAX);
            self.waiting.push((path, self.octets.len(), segment));
        }
        self.flush().map(drop)
    }

    fn receive(&mut self, timeout: Duration, take: &mut dyn FnMut(Arrived)) -> Result<(), String> {
        self.fleet.step(timeout, &mut self.lanes)?;
        self.lanes.arrived.drain(..).for_each(take);
        Ok(())
    }
}

impl Lanes {
    fn by_spi(&mut self, spi: u32) -> Option<&mut Tunnel> {
        let number = self.by_spi.get(&spi)?;
        self.lanes.get_mut(*number)?.as_mut()
    }

    fn fail(&mut self, error: impl ToString) {
        self.failure.get_or_insert_with(|| error.to_string());
    }
}

impl Crew for Lanes {
    fn install(&mut self, child: &ChildSa) {
        let number = usize::try_from(child.profile.tag).unwrap_or(usize::MAX);
        let Some(place) = self.lanes.get_mut(number) else {
            return;
        };
        let assigned = child
            .configuration
            .as_ref()
            .and_then(|configuration| configuration.ipv4);
        let result = match place {
            Some(tunnel) => tunnel.lane.rekey(child),
            None => Lane::new(child).map(|lane| {
                *place = Some(Tunnel {
                    ike: child.ike,
                    path: child.path,
                    lane,
                    inner: assigned.unwrap_or_else(|| self.peers.inner(number)),
                });
            }),
        };
        match result {
            Ok(()) => drop(self.by_spi.insert(child.inbound_spi, number)),
            Err(error) => self.fail(error),
        }
    }

    fn activate(&mut self, inbound_spi: u32) {
        if let Some(tunnel) = self.by_spi(inbound_spi) {
            tunnel.lane.activate(inbound_spi);
        }
    }

    fn remove(&mut self, inbound_spi: u32, reason: RemoveReason) {
        if let Some(tunnel) = self.by_spi(inbound_spi) {
            tunnel.lane.forget(inbound_spi);
            let ended = !tunnel.lane.is_up();
            self.lost += usize::from(ended && reason != RemoveReason::Local);
        }
        self.by_spi.remove(&inbound_spi);
    }

    fn redirect(&mut self, ike: IkeSaId, path: Path) {
        let tunnels = self.lanes.iter_mut().flatten();
        tunnels
            .filter(|tunnel| tunnel.ike == ike)
            .for_each(|tunnel| tunnel.path = path);
    }

    fn event(&mut self, event: &Event) {
        match event {
            Event::Established(_) => self.over += 1,
            Event::SetupFailed { reason, .. } => {
                self.over += 1;
                self.fail(reason);
            }
            Event::IkeRekeyed { old, new, .. } => {
                let tunnels = self.lanes.iter_mut().flatten();
                tunnels
                    .filter(|tunnel| tunnel.ike == *old)
                    .for_each(|tunnel| tunnel.ike = *new);
            }
            _ => {}
        }
    }

    fn esp(&mut self, packet: &mut [u8], now: Instant, memory: &mut Memory) {
        let Some(spi) = esp::spi_of(packet) else { return };
        let Some(tunnel) = self.by_spi(spi) else { return };
        let Some(inner) = tunnel.lane.open(spi, packet) else {
            return;
        };
        if let Some(usage) = memory.usage_mut(spi) {
            usage.last_inbound = Some(now);
            usage.inbound_packets += 1;
            usage.inbound_bytes += inner.len() as u64;
        }
        if let Some(message) = payload(inner).and_then(wire::read) {
            self.arrived.push(Arrived {
                message,
                length: inner.len(),
                time: netio::task::monotonic_ns(),
            });
        }
    }
}

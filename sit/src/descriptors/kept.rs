//! What is held, from one program to the next.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use bus::Address;
use netio::{Baggage, DatagramSocket, Luggage, Offloads, Tun, UdpGroup};
use sadb::{Slot, SlotSegments, StrayRing};

use super::sockets::RawSockets;
use super::{Descriptors, Held, MOST_WORKERS, XdpPorts};
use crate::upgrade::state::{
    KeptAddress, KeptDescriptors, KeptGroup, KeptRaw, KeptRing, KeptSlot, KeptTun, KeptUdp, address, facility,
};

impl Descriptors {
    /// Packs everything.
    pub fn save(&self, luggage: &mut Luggage) -> Result<KeptDescriptors, netio::Error> {
        let mut kept = KeptDescriptors {
            key: self.key.to_vec(),
            slot_map: self.slot_map.clone(),
            steered: self.steered.is_some(),
            ..KeptDescriptors::default()
        };
        for ((context, address), group) in &self.groups {
            kept.groups.push(KeptGroup {
                context: context.clone(),
                address: address.to_string(),
                members: pack(luggage, group.what.members())?,
                control: luggage.pack(group.what.control())?,
                by: holders(&group.by),
            });
        }
        for ((context, address, worker), raw) in &self.raw {
            kept.raw.push(KeptRaw {
                context: context.clone(),
                address: address.to_string(),
                worker: *worker,
                esp: luggage.pack(&raw.what.esp)?,
                too_big: luggage.pack(&raw.what.too_big)?,
                by: holders(&raw.by),
            });
        }
        for (context, tun) in &self.tuns {
            kept.tuns.push(KeptTun {
                context: context.clone(),
                name: tun.name.clone(),
                queues: pack(luggage, &tun.queues)?,
                steering: match &tun.steering {
                    Some(table) => Some(luggage.pack(table)?),
                    None => None,
                },
                offloads: match tun.offloads {
                    Offloads::None => 0,
                    Offloads::Tcp => 1,
                    Offloads::TcpAndUdp => 2,
                },
            });
        }
        for ((holder, (context, address, port, number)), socket) in &self.udp {
            kept.udp.push(KeptUdp {
                holder: Some((*holder).into()),
                context: context.clone(),
                address: address.clone(),
                port: *port,
                number: *number,
                socket: luggage.pack(socket)?,
            });
        }
        for (slot, segments) in &self.slots {
            kept.slots.push(KeptSlot {
                slot: slot.number().into(),
                segments: pack(luggage, segments.fds())?,
            });
        }
        for ((writer, from, to), ring) in &self.rings {
            let (memory, event) = ring.fds();
            kept.rings.push(KeptRing {
                facility: u32::from(*writer as u8),
                from: *from,
                to: *to,
                memory: luggage.pack(memory)?,
                event: luggage.pack(event)?,
            });
        }
        kept.xdp = self.xdp.save(luggage)?;
        Ok(kept)
    }

    /// Takes everything over.
    pub fn restore(kept: &KeptDescriptors, workers: u32, baggage: &mut Baggage) -> Result<Self, String> {
        if !(1..=MOST_WORKERS).contains(&workers) {
            return Err(format!("{workers} workers are not possible"));
        }
        let mut groups = HashMap::new();
        for group in &kept.groups {
            let address: SocketAddr = parse(&group.address)?;
            let (members, control) = (take(baggage, &group.members)?, take_one(baggage, group.control)?);
            let held = Held {
                what: UdpGroup::adopt(address, members, control),
                by: holders_of(&group.by)?,
            };
            groups.insert((group.context.clone(), address), held);
        }
        let mut raw = HashMap::new();
        for one in &kept.raw {
            let sockets = RawSockets {
                esp: socket(baggage, one.esp)?,
                too_big: socket(baggage, one.too_big)?,
            };
            let held = Held {
                what: sockets,
                by: holders_of(&one.by)?,
            };
            raw.insert((one.context.clone(), parse(&one.address)?, one.worker), held);
        }
        let mut tuns = HashMap::new();
        for tun in &kept.tuns {
            let tun_held = Tun {
                name: tun.name.clone(),
                queues: take(baggage, &tun.queues)?,
                steering: match tun.steering {
                    Some(table) => Some(take_one(baggage, table)?),
                    None => None,
                },
                offloads: match tun.offloads {
                    0 => Offloads::None,
                    1 => Offloads::Tcp,
                    _ => Offloads::TcpAndUdp,
                },
            };
            tuns.insert(tun.context.clone(), tun_held);
        }
        let mut udp = HashMap::new();
        for one in &kept.udp {
            let key = (one.context.clone(), one.address.clone(), one.port, one.number);
            udp.insert((address(one.holder.as_ref())?, key), socket(baggage, one.socket)?);
        }
        let mut slots = BTreeMap::new();
        for one in &kept.slots {
            let slot = u8::try_from(one.slot).ok().and_then(Slot::new);
            let slot = slot.ok_or_else(|| format!("there is no slot {}", one.slot))?;
            let fds = <[OwnedFd; 4]>::try_from(take(baggage, &one.segments)?)
                .map_err(|fds| format!("slot {slot} has {} segments", fds.len()))?;
            let segments = SlotSegments::adopt(slot, fds).map_err(|error| format!("slot {slot}: {error}"))?;
            slots.insert(slot, segments);
        }
        let mut rings = HashMap::new();
        for one in &kept.rings {
            let (memory, event) = (take_one(baggage, one.memory)?, take_one(baggage, one.event)?);
            let ring = StrayRing::adopt(memory, event).map_err(|error| error.to_string())?;
            rings.insert((facility(one.facility)?, one.from, one.to), ring);
        }
        let mut restored = Self {
            workers,
            key: <[u8; 16]>::try_from(kept.key.as_slice()).map_err(|_| "the key of steering is cut off")?,
            slot_map: kept.slot_map.clone(),
            steered: None,
            groups,
            raw,
            tuns,
            udp,
            slots,
            rings,
            xdp: XdpPorts::restore(&kept.xdp, baggage)?,
        };
        if kept.steered {
            restored.steered = restored.steering().ok();
        }
        Ok(restored)
    }
}

pub(super) fn pack(
    luggage: &mut Luggage,
    fds: impl IntoIterator<Item: AsFd>,
) -> Result<Vec<u32>, netio::Error> {
    fds.into_iter().map(|fd| luggage.pack(fd)).collect()
}

pub(super) fn take(baggage: &mut Baggage, numbers: &[u32]) -> Result<Vec<OwnedFd>, String> {
    numbers.iter().map(|number| take_one(baggage, *number)).collect()
}

pub(super) fn take_one(baggage: &mut Baggage, number: u32) -> Result<OwnedFd, String> {
    baggage.take(number).map_err(|error| error.to_string())
}

fn socket(baggage: &mut Baggage, number: u32) -> Result<DatagramSocket, String> {
    DatagramSocket::adopt(take_one(baggage, number)?).map_err(|error| error.to_string())
}

fn holders(by: &BTreeSet<Address>) -> Vec<KeptAddress> {
    by.iter().copied().map(KeptAddress::from).collect()
}

fn holders_of(kept: &[KeptAddress]) -> Result<BTreeSet<Address>, String> {
    kept.iter().map(KeptAddress::address).collect()
}

pub(super) fn parse<T: std::str::FromStr>(text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("'{text}' is no address"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bus::Facility;
    use bus::messages::rmctrl::SlotMap;
    use netio::SocketOptions;

    /// As if another program had begun here: what was packed has no owner.
    fn handed_over(descriptors: &Descriptors) -> Result<Descriptors, String> {
        let mut luggage = Luggage::default();
        let kept = descriptors.save(&mut luggage).unwrap();
        std::mem::forget(luggage);
        Descriptors::restore(&kept, descriptors.workers, &mut Baggage::default())
    }

    #[test]
    fn sockets_segments_and_rings_are_the_same_afterwards() {
        let mut before = Descriptors::new(2).unwrap();
        let slot = Slot::new(7).unwrap();
        before.slots.insert(slot, SlotSegments::create(slot).unwrap());
        before
            .rings
            .insert((Facility::Iftask, 1, 2), StrayRing::create(1 << 18).unwrap());
        let aaamgr = Address::only(Facility::Aaamgr);
        let socket = DatagramSocket::bind_udp(([127, 0, 0, 1], 0).into(), SocketOptions::default()).unwrap();
        let local = socket.local();
        before
            .udp
            .insert((aaamgr, ("local".into(), String::new(), 0, 3)), socket);
        let map = SlotMap::of_workers((1..=255).map(|slot| 1 + slot % 2).collect());
        before.set_slot_map(&map).unwrap();
        let after = handed_over(&before).unwrap();
        assert_eq!((after.key, after.slot_map), (before.key, Some(map)));
        assert!(after.steered.is_some() && after.steered == before.steered);
        let again = &after.udp[&(aaamgr, ("local".into(), String::new(), 0, 3))];
        assert_eq!(again.local(), local);
        assert_eq!(after.slots.keys().collect::<Vec<_>>(), [&slot]);
        assert!(after.rings.contains_key(&(Facility::Iftask, 1, 2)));
    }

    #[test]
    fn a_segment_in_the_place_of_another_is_refused() {
        let mut before = Descriptors::new(1).unwrap();
        let (one, two) = (Slot::new(1).unwrap(), Slot::new(2).unwrap());
        before.slots.insert(one, SlotSegments::create(two).unwrap());
        let error = handed_over(&before).map(drop).unwrap_err();
        assert!(error.starts_with("slot 1: "), "{error}");
    }
}

//! Devices that packets of tunnels come from and go to by AF_XDP.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bus::messages::sit::OpenXdp;
use bus::{Address, Facility};
use netio::{Baggage, ControlSocket, Luggage, XdpPort, XdpQueue};
use telemetry::events::{AfXdpUnavailable, emit};

use super::kept::{pack, parse, take, take_one};
use super::{Descriptors, Given, NAT_T_PORT, Refusal, context, index};
use crate::contexts::{Context, Contexts};
use crate::upgrade::state::{KeptXdp, KeptXdpPort};

/// Queues of a worker in one answer: two descriptors each.
const MOST_QUEUES: u32 = ControlSocket::MAX_FDS as u32 / 2;

/// Devices with AF_XDP, by name. A device belongs to one context at a time.
#[derive(Debug, Default)]
pub(crate) struct XdpPorts {
    /// Context of each device that is to have it.
    wanted: BTreeMap<String, String>,
    open: BTreeMap<String, XdpPort>,
    /// Why a device has it not; said once for as long as it lasts.
    failures: BTreeMap<String, String>,
    /// Workers that take packets of the clear side from a device: none are given to anybody before all do, for the queues belong to all. After an upgrade they ask anew.
    takers: BTreeMap<String, BTreeSet<u32>>,
}

impl XdpPorts {
    /// Takes over what is configured: the context of each device. What is no longer wanted where it is goes back to the kernel at once.
    pub fn configure(&mut self, wanted: BTreeMap<String, String>) {
        self.open
            .retain(|device, _| wanted.contains_key(device) && wanted.get(device) == self.wanted.get(device));
        self.failures.retain(|device, _| wanted.contains_key(device));
        self.takers.retain(|device, _| wanted.contains_key(device));
        self.wanted = wanted;
    }

    /// Closes all that is in a context.
    pub fn close_context(&mut self, name: &str) {
        self.open
            .retain(|device, _| self.wanted.get(device).is_none_or(|context| context != name));
    }

    /// Packs everything. Failures are told anew.
    pub fn save(&self, luggage: &mut Luggage) -> Result<Vec<KeptXdp>, netio::Error> {
        let port = |port: &XdpPort, luggage: &mut Luggage| {
            Ok::<_, netio::Error>(KeptXdpPort {
                device: port.device,
                native: port.native,
                link: luggage.pack(&port.link)?,
                addresses: luggage.pack(&port.addresses)?,
                taken: port.taken.iter().map(IpAddr::to_string).collect(),
                sockets: pack(luggage, port.queues.iter().map(|queue| &queue.socket))?,
                memories: pack(luggage, port.queues.iter().map(|queue| &queue.memory))?,
            })
        };
        self.wanted
            .iter()
            .map(|(name, context)| {
                let open = self.open.get(name).map(|open| port(open, luggage));
                Ok(KeptXdp {
                    name: name.clone(),
                    context: context.clone(),
                    port: open.transpose()?,
                })
            })
            .collect()
    }

    /// Takes everything over.
    pub fn restore(kept: &[KeptXdp], baggage: &mut Baggage) -> Result<Self, String> {
        let mut ports = Self::default();
        for device in kept {
            ports.wanted.insert(device.name.clone(), device.context.clone());
            let Some(port) = &device.port else { continue };
            let sockets = take(baggage, &port.sockets)?;
            let memories = take(baggage, &port.memories)?;
            let queues = (0..).zip(sockets.into_iter().zip(memories));
            let open = XdpPort {
                device: port.device,
                native: port.native,
                link: take_one(baggage, port.link)?,
                addresses: take_one(baggage, port.addresses)?,
                taken: port
                    .taken
                    .iter()
                    .map(|text| parse(text))
                    .collect::<Result<_, _>>()?,
                // Its program may be another version's.
                tun: None,
                queues: queues
                    .map(|(number, (socket, memory))| XdpQueue {
                        number,
                        socket,
                        memory,
                    })
                    .collect(),
            };
            ports.open.insert(device.name.clone(), open);
        }
        Ok(ports)
    }

    /// Whether every worker takes packets of the clear side from a device.
    fn all_take(&self, device: &str, workers: u32) -> bool {
        let takers = self.takers.get(device);
        takers.is_some_and(|takers| takers.len() >= workers as usize)
    }

    /// The port of a device in a context, opened if it is not yet.
    fn port(&mut self, context: &Context, device: &str, workers: u32) -> Result<&mut XdpPort, String> {
        if self.open.get(device).is_some_and(XdpPort::is_gone) {
            tracing::warn!("device {device} went away with its AF_XDP sockets: they are made again");
            self.open.remove(device);
        }
        let port = match self.open.entry(device.to_owned()) {
            std::collections::btree_map::Entry::Occupied(entry) => entry.into_mut(),
            std::collections::btree_map::Entry::Vacant(entry) => {
                let open = || XdpPort::open(device, MOST_QUEUES.saturating_mul(workers));
                let opened = context.namespace.run(open).and_then(|opened| opened);
                entry.insert(opened.map_err(|error| error.to_string())?)
            }
        };
        Ok(port)
    }

    /// Remembers how it went, and tells a failure that is new.
    fn note(&mut self, device: &str, failure: Option<&str>) {
        let Some(reason) = failure else {
            self.failures.remove(device);
            return;
        };
        if self.failures.get(device).is_none_or(|last| last != reason) {
            emit(&AfXdpUnavailable { device, reason });
            self.failures.insert(device.to_owned(), reason.to_owned());
        }
    }
}

impl Descriptors {
    /// The queues of a worker: those whose number, divided by the number of workers, leaves the worker's.
    pub(super) fn open_xdp(
        &mut self,
        contexts: &Contexts,
        who: Address,
        request: &OpenXdp,
    ) -> Result<Given, Refusal> {
        let worker = self.worker(who, &[Facility::Iftask])?;
        let (name, device) = (&request.context, &request.device);
        if self.xdp.wanted.get(device) != Some(name) {
            return Err(Refusal::NotYet(format!(
                "device {device} is not configured for AF_XDP in context {name}"
            )));
        }
        let (context, addresses) = (context(contexts, name)?, self.esp_addresses(name));
        let tun = self.tun_number(context, name);
        let takers = self.xdp.takers.entry(device.clone()).or_default();
        if request.takes_clear {
            takers.insert(worker);
        } else {
            takers.remove(&worker);
        }
        let tun = tun.filter(|_| self.xdp.all_take(device, self.workers));
        let opened = self.xdp.port(context, device, self.workers).and_then(|port| {
            port.set_addresses(&addresses)
                .and_then(|()| port.set_tun(tun))
                .map_err(|error| error.to_string())?;
            let mut given = Given::default();
            given.opened.native = port.native;
            let own = |number: u32| number as usize % (index(self.workers) + 1) == index(worker);
            for queue in port.queues.iter().filter(|queue| own(queue.number)) {
                let add = given
                    .add(format!("xdp-socket-{}", queue.number), &queue.socket)
                    .and_then(|()| given.add(format!("xdp-memory-{}", queue.number), &queue.memory));
                add.map_err(|error| error.to_string())?;
            }
            Ok(given)
        });
        self.xdp.note(device, opened.as_ref().err().map(String::as_str));
        opened.map_err(Refusal::Failed)
    }

    /// ESP to the addresses of a context that an `iftask` serves goes by AF_XDP, where that is.
    pub(super) fn share_addresses(&mut self, name: &str) {
        let addresses = self.esp_addresses(name);
        let wanted = &self.xdp.wanted;
        let here = |device: &String| wanted.get(device).is_some_and(|context| context == name);
        let ports = self.xdp.open.iter_mut().filter(|(device, _)| here(device));
        for (device, port) in ports {
            if let Err(error) = port.set_addresses(&addresses) {
                // They go by sockets.
                tracing::error!("device {device}: {error}");
            }
        }
    }

    /// What the kernel would forward into the TUN of a context goes by AF_XDP, where that is.
    pub(super) fn share_tun(&mut self, context: &Context, name: &str) {
        let tun = self.tun_number(context, name);
        let wanted = &self.xdp.wanted;
        let here = |device: &String| wanted.get(device).is_some_and(|context| context == name);
        let devices: Vec<String> = self
            .xdp
            .open
            .keys()
            .filter(|device| here(device))
            .cloned()
            .collect();
        for device in devices {
            let tun = tun.filter(|_| self.xdp.all_take(&device, self.workers));
            let Some(port) = self.xdp.open.get_mut(&device) else {
                continue;
            };
            if let Err(error) = port.set_tun(tun) {
                // They go by the TUN.
                tracing::error!("device {device}: {error}");
            }
        }
    }

    /// The number of a context's TUN, if it has one.
    fn tun_number(&self, context: &Context, name: &str) -> Option<u32> {
        let tun = self.tuns.get(name)?;
        let number = || netio::interface::index(&tun.name);
        context.namespace.run(number).ok()?.ok()
    }

    fn esp_addresses(&self, name: &str) -> BTreeSet<IpAddr> {
        let served = self.groups.iter().filter(|((context, socket), held)| {
            context == name
                && socket.port() == NAT_T_PORT
                && held.by.iter().any(|task| task.facility == Facility::Iftask)
        });
        served.map(|((_, socket), _)| socket.ip()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        let pairs = pairs.iter();
        pairs
            .map(|(device, context)| ((*device).to_owned(), (*context).to_owned()))
            .collect()
    }

    /// In a namespace that is the node's, with a device of name `swn-xdp`; skipped without root.
    fn at_home(test: impl FnOnce(&Contexts) + Send) {
        let Ok(home) = netio::Namespace::create() else {
            return eprintln!("skipped: needs root");
        };
        home.run(|| {
            let _device = netio::Tun::create("swn-xdp", 1, 1400).unwrap();
            let directory = std::env::temp_dir().join(format!("sit-xdp-{}", std::process::id()));
            test(&Contexts::new(directory).unwrap());
        })
        .unwrap();
    }

    #[test]
    fn a_device_that_is_not_configured_is_not_touched() {
        at_home(|contexts| {
            let mut descriptors = Descriptors::new(1).unwrap();
            let iftask = Address::new(Facility::Iftask, 1);
            let request = OpenXdp {
                context: "local".to_owned(),
                device: "swn-xdp".to_owned(),
                takes_clear: true,
            };
            let refused = descriptors.open_xdp(contexts, iftask, &request);
            assert!(matches!(refused, Err(Refusal::NotYet(_))), "{refused:?}");
            descriptors.xdp.configure(wanted(&[("swn-xdp", "elsewhere")]));
            let refused = descriptors.open_xdp(contexts, iftask, &request);
            assert!(matches!(refused, Err(Refusal::NotYet(_))), "{refused:?}");
            let other = Address::new(Facility::Vpnmgr, 1);
            let refused = descriptors.open_xdp(contexts, other, &request);
            assert!(matches!(refused, Err(Refusal::Failed(_))), "{refused:?}");
        });
    }

    #[test]
    fn queues_are_given_to_their_workers_and_go_with_the_configuration() {
        at_home(|contexts| {
            let mut descriptors = Descriptors::new(2).unwrap();
            descriptors.xdp.configure(wanted(&[("swn-xdp", "local")]));
            let request = OpenXdp {
                context: "local".to_owned(),
                device: "swn-xdp".to_owned(),
                takes_clear: true,
            };
            let mut open = |worker| {
                let who = Address::new(Facility::Iftask, worker);
                let given = descriptors.open_xdp(contexts, who, &request).unwrap();
                assert_eq!(given.fds.len(), given.opened.names.len());
                given.opened.names
            };
            // A TUN of one queue.
            assert_eq!(open(1), ["xdp-socket-0", "xdp-memory-0"]);
            assert_eq!(open(1), ["xdp-socket-0", "xdp-memory-0"]);
            assert_eq!(open(2), [""; 0]);
            descriptors.xdp.configure(wanted(&[("swn-xdp", "local")]));
            assert_eq!(descriptors.xdp.open.len(), 1);
            descriptors.xdp.configure(wanted(&[("swn-xdp", "apn")]));
            assert_eq!(descriptors.xdp.open.len(), 0);
        });
    }

    #[test]
    fn what_cannot_be_had_is_noted_until_it_can() {
        at_home(|contexts| {
            let mut descriptors = Descriptors::new(1).unwrap();
            descriptors.xdp.configure(wanted(&[("swn-none", "local")]));
            let request = OpenXdp {
                context: "local".to_owned(),
                device: "swn-none".to_owned(),
                takes_clear: true,
            };
            let who = Address::new(Facility::Iftask, 1);
            for _ in 0..2 {
                let refused = descriptors.open_xdp(contexts, who, &request);
                assert!(matches!(refused, Err(Refusal::Failed(_))), "{refused:?}");
            }
            let [reason] = descriptors.xdp.failures.values().collect::<Vec<_>>()[..] else {
                panic!("{:?}", descriptors.xdp)
            };
            assert!(reason.starts_with("cannot find interface swn-none"), "{reason}");
            descriptors.xdp.configure(BTreeMap::new());
            assert!(descriptors.xdp.failures.is_empty());
        });
    }
}

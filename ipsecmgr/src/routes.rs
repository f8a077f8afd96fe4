//! Routes to what is behind sites: wished for here, made by the `vpnmgr` of the clear context.

use std::collections::HashMap;
use std::net::IpAddr;

use bus::messages::sit::TaskStarted;
use bus::messages::vpnmgr::{AddRoutes, RemoveRoutes, Route};
use bus::{Address, Bus, Facility, Heard};
use ikev2::TrafficSelector;
use tokio::sync::mpsc::{Sender, UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::questions::Found;
use crate::session_desk::insist;
use crate::slots::slot_of;

/// Routes in one request.
const BATCH: usize = 512;
/// Prefixes of one child SA. A range that is not made of few prefixes is hardly meant.
const MOST_PREFIXES: usize = 64;

/// Takes wishes. Never waits. Its queues hold no more than the child SAs that come and go while a `vpnmgr` is away.
pub(crate) struct RouteDesk {
    bus: Bus,
    found: UnboundedSender<Found>,
    contexts: HashMap<u32, UnboundedSender<Wish>>,
    /// Child SAs with routes, and where.
    by_spi: HashMap<u32, u32>,
}

/// A network: its address and the length of its prefix.
type Prefix = (IpAddr, u8);

enum Wish {
    /// By this tenure of the child SA's slot.
    Add {
        tenure: u64,
        spi: u32,
        prefixes: Box<[Prefix]>,
    },
    Remove {
        spi: u32,
    },
    /// Forget what only former owners of these slots wished for, which we have by this tenure.
    Clear(u64, Vec<u32>),
    /// These slots are another's from now on.
    LetGo(Vec<u8>),
    /// Nothing: what was wished for before it is done when it is dropped.
    Mark(Sender<()>),
}

impl RouteDesk {
    /// No routes yet.
    pub(crate) fn new(bus: &Bus, found: UnboundedSender<Found>) -> Self {
        Self {
            bus: bus.clone(),
            found,
            contexts: HashMap::new(),
            by_spi: HashMap::new(),
        }
    }

    /// Has `selectors` routed to the TUN of a context, for the child SA `spi`, whose slot we have by this tenure. True if there is anything to route:
    /// [`Found::Routed`] will tell when it is done.
    pub(crate) fn add(&mut self, context: u32, tenure: u64, spi: u32, selectors: &[TrafficSelector]) -> bool {
        let prefixes: Box<[Prefix]> = selectors
            .iter()
            .flat_map(|selector| prefixes(selector.start, selector.end))
            .collect();
        if prefixes.is_empty() {
            return false;
        }
        self.by_spi.insert(spi, context);
        self.wish(
            context,
            Wish::Add {
                tenure,
                spi,
                prefixes,
            },
        );
        true
    }

    /// Takes back the routes of a child SA.
    pub(crate) fn remove(&mut self, spi: u32) {
        if let Some(context) = self.by_spi.remove(&spi) {
            self.wish(context, Wish::Remove { spi });
        }
    }

    /// Takes back whatever only former owners of these slots, which we have by this tenure, had routed in a context.
    pub(crate) fn clear(&mut self, context: u32, tenure: u64, slots: &[u8]) {
        let slots = slots.iter().map(|slot| u32::from(*slot)).collect();
        self.wish(context, Wish::Clear(tenure, slots));
    }

    /// Forgets the routes in these slots, which are another's from now on; they stand.
    pub(crate) fn let_go(&mut self, slots: &[u8]) {
        self.by_spi.retain(|spi, _| !slots.contains(&slot_of(*spi)));
        for desk in self.contexts.values() {
            // The task ends only with the process.
            let _ = desk.send(Wish::LetGo(slots.to_vec()));
        }
    }

    /// `mark` is dropped everywhere when all that was wished for before is done.
    pub(crate) fn mark(&self, mark: &Sender<()>) {
        for desk in self.contexts.values() {
            let _ = desk.send(Wish::Mark(mark.clone()));
        }
    }

    fn wish(&mut self, context: u32, wish: Wish) {
        let (bus, found) = (&self.bus, &self.found);
        let desk = self.contexts.entry(context).or_insert_with(|| {
            let (wishes, incoming) = unbounded_channel();
            let vpnmgr = Address::new(Facility::Vpnmgr, context);
            tokio::spawn(
                Context {
                    bus: bus.clone(),
                    vpnmgr,
                    found: found.clone(),
                    wanted: HashMap::new(),
                    tenures: HashMap::new(),
                }
                .run(incoming),
            );
            wishes
        });
        // The task ends only with the process.
        let _ = desk.send(wish);
    }
}

/// The wishes for one context.
struct Context {
    bus: Bus,
    vpnmgr: Address,
    found: UnboundedSender<Found>,
    /// What is wanted now, by child SA: a restarted `vpnmgr` is told again.
    wanted: HashMap<u32, Box<[Prefix]>>,
    /// By slot: it is ours by one tenure as long as we have it.
    tenures: HashMap<u8, u64>,
}

impl Context {
    async fn run(mut self, mut incoming: UnboundedReceiver<Wish>) {
        let mut starts = self.bus.subscribe::<TaskStarted>();
        starts.follow(Address::only(Facility::Sit));
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = incoming.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.grant(&mut batch).await;
                }
                heard = starts.next() => {
                    let restarted = match heard {
                        Heard::Event(_, started) => {
                            started.facility == Facility::Vpnmgr as u32 && started.instance == self.vpnmgr.instance && started.lives > 0
                        }
                        // It may have been that.
                        Heard::Missed(_) => !self.wanted.is_empty(),
                    };
                    if restarted {
                        let routes = self.wanted.iter().flat_map(|(spi, prefixes)| self.routes(*spi, prefixes));
                        let routes = routes.collect();
                        self.add(routes).await;
                    }
                }
            }
        }
    }

    async fn grant(&mut self, batch: &mut Vec<Wish>) {
        let (mut spis, mut added, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        let (mut clear, mut marks) = (Vec::new(), Vec::new());
        for wish in batch.drain(..) {
            match wish {
                Wish::Add {
                    tenure,
                    spi,
                    prefixes,
                } => {
                    self.tenures.insert(slot_of(spi), tenure);
                    spis.push(spi);
                    added.extend(self.routes(spi, &prefixes));
                    self.wanted.insert(spi, prefixes);
                }
                Wish::Remove { spi } => {
                    let prefixes = self.wanted.remove(&spi).unwrap_or_default();
                    removed.extend(self.routes(spi, &prefixes));
                }
                Wish::Clear(tenure, slots) => clear.push((tenure, slots)),
                Wish::LetGo(slots) => {
                    self.wanted.retain(|spi, _| !slots.contains(&slot_of(*spi)));
                    self.tenures.retain(|slot, _| !slots.contains(slot));
                }
                Wish::Mark(mark) => marks.push(mark),
            }
        }
        // New before old: in a rekeying the prefix is wanted all the time. SPIs do not come back soon, so nothing is taken away by mistake.
        self.add(added).await;
        if !spis.is_empty() {
            // The loop ends only with the process.
            let _ = self.found.send(Found::Routed(spis));
        }
        // After those that outlived the former owner with their child SAs were asked for: they stand all the time.
        for (tenure, slots) in clear {
            let others = RemoveRoutes {
                routes: Vec::new(),
                slots,
                tenure,
            };
            insist(&self.bus, self.vpnmgr, &others).await;
        }
        for routes in removed.chunks(BATCH) {
            insist(
                &self.bus,
                self.vpnmgr,
                &RemoveRoutes {
                    routes: routes.to_vec(),
                    ..RemoveRoutes::default()
                },
            )
            .await;
        }
    }

    /// Routes to these networks for a child SA.
    fn routes(&self, spi: u32, prefixes: &[Prefix]) -> impl Iterator<Item = Route> {
        let tenure = self.tenures.get(&slot_of(spi)).copied().unwrap_or_default();
        prefixes.iter().map(move |(network, length)| Route {
            network: octets(*network),
            length: (*length).into(),
            spi,
            tenure,
        })
    }

    async fn add(&self, routes: Vec<Route>) {
        for routes in routes.chunks(BATCH) {
            insist(
                &self.bus,
                self.vpnmgr,
                &AddRoutes {
                    routes: routes.to_vec(),
                },
            )
            .await;
        }
    }
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// The prefixes that make up a range, both ends of one family, at most [`MOST_PREFIXES`] of them.
fn prefixes(start: IpAddr, end: IpAddr) -> Vec<Prefix> {
    let (mut at, last, bits): (u128, u128, u32) = match (start, end) {
        (IpAddr::V4(start), IpAddr::V4(end)) => (start.to_bits().into(), end.to_bits().into(), 32),
        (IpAddr::V6(start), IpAddr::V6(end)) => (start.to_bits(), end.to_bits(), 128),
        _ => return Vec::new(),
    };
    let mut prefixes = Vec::new();
    while at <= last && prefixes.len() < MOST_PREFIXES {
        // The largest block that begins here and does not go beyond the end.
        let aligned = at.trailing_zeros().min(bits);
        let room = match (last - at).checked_add(1) {
            Some(count) => count.ilog2(),
            None => bits,
        };
        let size = aligned.min(room);
        let network = match bits {
            32 => IpAddr::V4(u32::try_from(at).unwrap_or(u32::MAX).into()),
            _ => IpAddr::V6(at.into()),
        };
        prefixes.push((network, u8::try_from(bits - size).unwrap_or(u8::MAX)));
        let next = 1u128.checked_shl(size).and_then(|count| at.checked_add(count));
        let Some(next) = next else { break };
        at = next;
    }
    prefixes
}

#[cfg(test)]
mod tests {
    use super::*;

    use bus::messages::vpnmgr::RoutesChanged;
    use bus::{Hub, dispatch};

    #[tokio::test]
    async fn a_restarted_vpnmgr_is_told_again_and_rekeying_leaves_no_gap() {
        let hub = Hub::new();
        let (bus, _server) = Bus::in_process(&hub, Address::new(Facility::Ipsecmgr, 2)).unwrap();
        let (_vpnmgr, mut server) = Bus::in_process(&hub, Address::new(Facility::Vpnmgr, 7)).unwrap();
        let (found, mut told) = unbounded_channel();
        let mut desk = RouteDesk::new(&bus, found);
        let site = [TrafficSelector::prefix("10.1.0.0".parse().unwrap(), 16)];
        let mut next = async || {
            let incoming = server.next().await.unwrap();
            let mut seen = None;
            let spis = |routes: &[Route]| {
                let of = |route: &Route| (route.spi, route.length, route.tenure);
                routes.iter().map(of).collect::<Vec<_>>()
            };
            dispatch!(incoming, {
                AddRoutes => |request, responder| {
                    seen = Some(("add", spis(&request.routes), Vec::new()));
                    responder.reply(RoutesChanged::default())
                },
                RemoveRoutes => |request, responder| {
                    assert_eq!(request.tenure == 3, request.routes.is_empty());
                    seen = Some(("remove", spis(&request.routes), request.slots));
                    responder.reply(RoutesChanged::default())
                },
            });
            seen.unwrap()
        };
        const FIRST: u32 = 1 << 24 | 100;
        const SECOND: u32 = 1 << 24 | 101;
        const OTHER: u32 = 2 << 24 | 102;
        desk.clear(7, 3, &[1, 2]);
        assert!(desk.add(7, 3, FIRST, &site));
        assert!(!desk.add(7, 3, FIRST, &[]), "nothing to route");
        assert_eq!(next().await, ("add", vec![(FIRST, 16, 3)], vec![]));
        assert_eq!(next().await, ("remove", vec![], vec![1, 2]), "all others");
        assert!(matches!(told.recv().await, Some(Found::Routed(spis)) if spis == [FIRST]));
        desk.remove(FIRST);
        desk.add(7, 3, SECOND, &site);
        desk.add(7, 5, OTHER, &site);
        assert_eq!(
            next().await,
            ("add", vec![(SECOND, 16, 3), (OTHER, 16, 5)], vec![])
        );
        assert_eq!(next().await, ("remove", vec![(FIRST, 16, 3)], vec![]));
        // What is in a slot that left is no business of ours, and stands.
        desk.let_go(&[2]);
        desk.remove(OTHER);
        let (mark, mut marked) = tokio::sync::mpsc::channel(1);
        desk.mark(&mark);
        drop(mark);
        assert_eq!(marked.recv().await, None, "all is done");
        // First it may have missed a restart, then it hears of one.
        let (sit, _sit_server) = Bus::in_process(&hub, Address::only(Facility::Sit)).unwrap();
        assert_eq!(next().await, ("add", vec![(SECOND, 16, 3)], vec![]));
        let started = TaskStarted {
            facility: Facility::Vpnmgr as u32,
            instance: 7,
            lives: 1,
            ..TaskStarted::default()
        };
        sit.publish(&started);
        assert_eq!(next().await, ("add", vec![(SECOND, 16, 3)], vec![]));
        desk.remove(999);
    }

    fn of(start: &str, end: &str) -> Vec<String> {
        let list = prefixes(start.parse().unwrap(), end.parse().unwrap());
        list.into_iter()
            .map(|(network, length)| format!("{network}/{length}"))
            .collect()
    }

    #[test]
    fn ranges_are_made_of_the_fewest_prefixes() {
        assert_eq!(of("10.1.2.3", "10.1.2.3"), ["10.1.2.3/32"]);
        assert_eq!(of("10.0.0.0", "10.0.255.255"), ["10.0.0.0/16"]);
        assert_eq!(
            of("10.0.0.1", "10.0.0.6"),
            ["10.0.0.1/32", "10.0.0.2/31", "10.0.0.4/31", "10.0.0.6/32"]
        );
        assert_eq!(of("0.0.0.0", "255.255.255.255"), ["0.0.0.0/0"]);
        assert_eq!(of("255.255.255.254", "255.255.255.255"), ["255.255.255.254/31"]);
        assert_eq!(of("2001:db8::", "2001:db8::1:ffff"), ["2001:db8::/111"]);
        assert_eq!(of("::", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"), ["::/0"]);
        assert_eq!(
            of(
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
            )
            .len(),
            1
        );
        assert!(of("::1", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe").len() <= MOST_PREFIXES);
        assert!(prefixes("::1".parse().unwrap(), "10.0.0.1".parse().unwrap()).is_empty());
    }
}

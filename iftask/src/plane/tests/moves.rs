//! A slot goes from one worker to another and back, with traffic at every step, in any order of what can happen, and with deaths.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use proptest::prelude::*;
use sadb::{
    Encapsulation, Slot, SlotOwner, SlotSegments, SlotWorker, Spi, StrayConsumer, StrayProducer, StrayRing,
};

use super::world::*;
use crate::counters::Count;

const SLOT: Slot = Slot::MIN;

/// Where a move is. The worker that has the slot when it begins is `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Settled,
    Preparing,
    Expected,
    /// Of protocol 50: the new owner's filter takes the slot's packets, the old one's still does.
    Between,
    Steered,
    LetGo,
    Taken,
}

/// What can happen.
#[derive(Clone, Copy, Debug)]
enum Happening {
    PeerSends(u8),
    /// The clear side, to the queue of a worker.
    NetworkSends(usize),
    Reads(usize),
    TakesStrays(usize),
    HearsMap(usize),
    /// `rmctrl` does the next step.
    Step,
    Dies(usize),
}

/// Two workers, their kernel, `rmctrl`, and a peer with one tunnel of the slot that moves.
struct Node {
    workers: Vec<World>,
    rings: HashMap<(u16, u16), StrayRing>,
    segments: Arc<SlotSegments>,
    _owner: SlotOwner,
    inbound: Spi,
    peer: World,
    encapsulation: Encapsulation,
    /// What waits in the sockets of the workers.
    sockets: [VecDeque<Sent>; 2],
    from: usize,
    phase: Phase,
    next: u32,
    arrived: Vec<u32>,
    sent_back: u32,
    came_back: Vec<u32>,
    numbers: Vec<u32>,
    doubled: u64,
}

impl Node {
    fn new(encapsulation: Encapsulation, replay_window: u16) -> Self {
        let segments = Arc::new(SlotSegments::with_capacity(SLOT, 16).unwrap());
        let mut owner = SlotOwner::map(&segments.owner_fds().unwrap()).unwrap();
        let mut peer = World::new(1, 9, PEER);
        let (inbound, outbound) = (owner.allocate().unwrap(), peer.owner.allocate().unwrap());
        let mut sa = gateway_sa(inbound, outbound.to_u32(), 7);
        (sa.encapsulation, sa.replay_window) = (encapsulation, replay_window);
        owner.install(&sa).unwrap();
        peer.install(&mirrored(&sa, outbound));
        let mut rings = HashMap::new();
        for ends in [(1, 2), (2, 1)] {
            rings.insert(ends, StrayRing::create(0).unwrap());
        }
        let mut node = Self {
            workers: Vec::new(),
            rings,
            segments,
            _owner: owner,
            inbound,
            peer,
            encapsulation,
            sockets: Default::default(),
            from: 0,
            phase: Phase::Settled,
            next: 0,
            arrived: Vec::new(),
            sent_back: 0,
            came_back: Vec::new(),
            numbers: Vec::new(),
            doubled: 0,
        };
        node.workers = (0..2).map(|worker| node.life(worker)).collect();
        let segment = node.segment();
        node.workers[0].engine.add_slot(segment);
        node
    }

    fn segment(&self) -> SlotWorker {
        SlotWorker::map(&self.segments.worker_fds().unwrap()).unwrap()
    }

    /// A new life of a worker, with the rings that `sit` keeps and what is in them.
    fn life(&self, worker: usize) -> World {
        let number = worker as u16 + 1;
        let mut world = World::new(number, 100 + number as u8, GATEWAY);
        let other = 3 - number;
        let end = |ends| {
            let (memory, event) = self.rings[&ends].fds();
            (
                memory.try_clone_to_owned().unwrap(),
                event.try_clone_to_owned().unwrap(),
            )
        };
        let (memory, event) = end((number, other));
        let to = StrayProducer::map(memory, event).unwrap();
        let (memory, event) = end((other, number));
        let from = StrayConsumer::map(memory, event).unwrap();
        world.engine.strays.add_ring(other, to, from);
        world
    }

    fn to(&self) -> usize {
        1 - self.from
    }

    /// The worker that the map says serves the slot.
    fn served_by(&self) -> usize {
        match self.phase {
            Phase::Settled | Phase::Preparing | Phase::Expected => self.from,
            _ => self.to(),
        }
    }

    fn happens(&mut self, happening: Happening) {
        match happening {
            Happening::PeerSends(count) => self.peer_sends(count.into()),
            Happening::NetworkSends(worker) => self.network_sends(worker),
            Happening::Reads(worker) => drop(self.reads(worker)),
            Happening::TakesStrays(worker) => {
                let other = 2 - worker as u16;
                self.workers[worker].engine.take_strays(other);
            }
            Happening::HearsMap(worker) => {
                let mut owners = vec![0; 255];
                owners[0] = self.served_by() as u16 + 1;
                self.workers[worker].engine.strays.set_owners(&owners, &owners);
            }
            Happening::Step => self.step(),
            Happening::Dies(worker) => self.dies(worker),
        }
        self.collect();
    }

    fn peer_sends(&mut self, count: u32) {
        for _ in 0..count {
            let (header, packet) = udp("10.2.0.7", "10.1.0.1", &self.next.to_be_bytes(), None);
            self.next += 1;
            self.peer.send(header, &packet);
            for mut sent in self.peer.flushed() {
                // The place of a socket is that of its encapsulation; raw sockets of IPv4 see the header.
                if self.encapsulation == Encapsulation::Esp {
                    let mut header = vec![0; 20];
                    header[0] = 0x45;
                    let length = (20 + sent.data.len()) as u16;
                    header[2..4].copy_from_slice(&length.to_be_bytes());
                    sent.data.splice(0..0, header);
                    sent.socket = 1;
                }
                let to = self.served_by();
                if self.phase == Phase::Between {
                    self.doubled += 1;
                    self.sockets[1 - to].push_back(sent.clone());
                }
                self.sockets[to].push_back(sent);
            }
        }
    }

    fn network_sends(&mut self, worker: usize) {
        let (header, packet) = udp("10.1.0.1", "10.2.0.7", &self.sent_back.to_be_bytes(), None);
        self.sent_back += 1;
        self.workers[worker].send(header, &packet);
    }

    /// A worker reads a few packets; false when none waits.
    fn reads(&mut self, worker: usize) -> bool {
        let waiting = &mut self.sockets[worker];
        let batch: Vec<_> = waiting.drain(..waiting.len().min(3)).collect();
        self.workers[worker].receive(&batch, PEER);
        !batch.is_empty()
    }

    fn step(&mut self) {
        let (from, to) = (self.from, self.to());
        self.phase = match self.phase {
            Phase::Settled => Phase::Preparing,
            Phase::Preparing => {
                let segment = self.segment();
                self.workers[to].engine.expect_slot(segment, from as u16 + 1);
                Phase::Expected
            }
            Phase::Expected if self.encapsulation == Encapsulation::Esp => Phase::Between,
            Phase::Expected | Phase::Between => Phase::Steered,
            Phase::Steered => {
                while self.reads(from) {}
                if self.workers[from].engine.table.owns(SLOT) {
                    self.workers[from].engine.let_go(SLOT, to as u16 + 1);
                }
                Phase::LetGo
            }
            Phase::LetGo => {
                if !self.workers[to].engine.take_slot(SLOT) {
                    // A new life that has not heard of the move.
                    let segment = self.segment();
                    self.workers[to].engine.add_slot(segment);
                }
                Phase::Taken
            }
            Phase::Taken => {
                // `rmctrl` gives all time to take what waits in rings.
                for worker in [from, to, from, to] {
                    while self.workers[worker].engine.take_strays(2 - worker as u16) {}
                }
                if !self.workers[from].engine.table.owns(SLOT) {
                    self.workers[from].engine.forget_slot(SLOT);
                }
                self.from = to;
                Phase::Settled
            }
        };
    }

    /// The next life of a worker begins with what the map says.
    fn dies(&mut self, worker: usize) {
        self.collect();
        self.workers[worker] = self.life(worker);
        let segment = self.segment();
        let engine = &mut self.workers[worker].engine;
        let is_former = worker == self.from;
        match self.phase {
            Phase::Settled | Phase::Preparing | Phase::Expected if is_former => engine.add_slot(segment),
            Phase::Settled => {}
            Phase::Taken if !is_former => engine.add_slot(segment),
            _ if !is_former => engine.expect_slot(segment, self.from as u16 + 1),
            _ => {}
        }
        if self.phase == Phase::Preparing && !is_former {
            self.phase = Phase::Expected;
        }
        self.happens(Happening::HearsMap(worker));
    }

    /// What left the workers arrives.
    fn collect(&mut self) {
        for worker in 0..2 {
            for sent in self.workers[worker].flushed() {
                let number = sent.data[4..8].try_into().unwrap();
                self.numbers.push(u32::from_be_bytes(number));
                self.peer.receive(&[Sent { socket: 0, ..sent }], GATEWAY);
            }
            let delivered = self.workers[worker].delivered();
            self.arrived
                .extend(delivered.iter().map(|packet| number_of(packet)));
        }
        let back = self.peer.delivered();
        self.came_back.extend(back.iter().map(|packet| number_of(packet)));
    }

    /// Lets everything that waits be done, and the move end.
    fn settle(&mut self) {
        while self.phase != Phase::Settled {
            self.happens(Happening::Step);
            self.quiet();
        }
        (0..2).for_each(|worker| self.happens(Happening::HearsMap(worker)));
        self.quiet();
    }

    fn quiet(&mut self) {
        for _ in 0..6 {
            for worker in 0..2 {
                while self.reads(worker) {}
                self.happens(Happening::TakesStrays(worker));
                while self.workers[worker].engine.take_strays(2 - worker as u16) {}
                self.collect();
            }
        }
    }

    fn nothing_twice(&self) {
        for list in [&self.arrived, &self.came_back, &self.numbers] {
            let different: HashSet<_> = list.iter().collect();
            assert_eq!(different.len(), list.len(), "{list:?}");
        }
    }

    fn count(&mut self, count: Count) -> u64 {
        self.workers.iter_mut().map(|worker| worker.count(count)).sum()
    }
}

/// The number that a packet carries.
fn number_of(packet: &[u8]) -> u32 {
    u32::from_be_bytes(*packet.last_chunk().unwrap())
}

fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        3 => (1u8..12).prop_map(Happening::PeerSends),
        3 => (0usize..2).prop_map(Happening::NetworkSends),
        3 => (0usize..2).prop_map(Happening::Reads),
        2 => (0usize..2).prop_map(Happening::TakesStrays),
        1 => (0usize..2).prop_map(Happening::HearsMap),
        2 => Just(Happening::Step),
    ]
}

fn encapsulation() -> impl Strategy<Value = Encapsulation> {
    prop_oneof![Just(Encapsulation::Udp), Just(Encapsulation::Esp)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn moves_lose_nothing_and_repeat_nothing(
        encapsulation in encapsulation(),
        window in prop_oneof![Just(32u16), Just(64)],
        happenings in proptest::collection::vec(happening(), 1..120),
    ) {
        let mut node = Node::new(encapsulation, window);
        (0..2).for_each(|worker| node.happens(Happening::HearsMap(worker)));
        for happening in happenings {
            node.happens(happening);
        }
        node.settle();
        node.nothing_twice();
        prop_assert_eq!(node.arrived.len() as u32, node.next, "all that the peer sent arrived");
        prop_assert_eq!(node.came_back.len() as u32, node.sent_back, "all that the network sent arrived");
        // In order: the window was never needed.
        prop_assert!(node.arrived.is_sorted(), "{:?}", node.arrived);
        for count in [Count::NoSa, Count::ClearNoSa, Count::StrayLost, Count::HeldLost] {
            prop_assert_eq!(node.count(count), 0, "{:?}", count);
        }
        // Only what came to both raw sockets came twice; the second is known whether it was held, or read late.
        let twice = node.count(Count::HeldDouble) + node.count(Count::Replayed);
        prop_assert_eq!(twice, node.doubled);
    }

    #[test]
    fn deaths_in_a_move_cost_what_died_and_no_more(
        encapsulation in encapsulation(),
        happenings in proptest::collection::vec(
            prop_oneof![8 => happening(), 1 => (0usize..2).prop_map(Happening::Dies)],
            1..120,
        ),
    ) {
        let mut node = Node::new(encapsulation, 64);
        (0..2).for_each(|worker| node.happens(Happening::HearsMap(worker)));
        for happening in happenings {
            node.happens(happening);
        }
        node.settle();
        node.nothing_twice();
        let (before, back) = (node.arrived.len(), node.came_back.len());
        for _ in 0..5 {
            node.happens(Happening::PeerSends(3));
            (0..2).for_each(|worker| node.happens(Happening::NetworkSends(worker)));
            node.quiet();
        }
        node.nothing_twice();
        prop_assert_eq!((node.arrived.len() - before, node.came_back.len() - back), (15, 10), "it goes on");
        let owners: Vec<_> = node.workers.iter().map(|worker| worker.engine.table.owns(SLOT)).collect();
        prop_assert_eq!(owners.iter().filter(|owns| **owns).count(), 1, "one writer");
    }
}

#[test]
fn what_was_learned_of_a_peer_goes_along() {
    let mut node = Node::new(Encapsulation::Udp, 64);
    let learn = |node: &mut Node, source: &str| {
        node.peer_sends(1);
        let sent: Vec<_> = node.sockets[0].drain(..).collect();
        node.workers[0].receive(&sent, source);
    };
    learn(&mut node, PEER);
    (0..2).for_each(|_| node.happens(Happening::Step));
    // After the new owner has got ready, and before it takes over.
    learn(&mut node, "203.0.113.5:61000");
    let now_ns = node.workers[0].engine.now_ns;
    let sa = node.workers[0]
        .engine
        .table
        .split()
        .1
        .get_mut(node.inbound)
        .unwrap();
    assert!(sa.learn_path(1300, now_ns));
    let (slots, entries) = node.workers[0].engine.table.split();
    assert!(super::super::paths::learn(
        slots,
        entries.get_mut(node.inbound).unwrap(),
        1200,
        now_ns
    ));
    let fits = entries.get(node.inbound).unwrap().limits.fits();
    node.settle();
    assert!(!node.workers[0].engine.table.owns(SLOT));
    let (header, packet) = udp("10.1.0.1", "10.2.0.7", b"reply", None);
    node.workers[1].send(header, &packet);
    let sent = node.workers[1].flushed();
    assert_eq!(sent[0].destination.to_string(), "203.0.113.5:61000");
    let sa = node.workers[1].engine.table.entries().get(node.inbound).unwrap();
    assert_eq!(sa.limits.fits(), fits, "the path MTU");
    assert_eq!(sa.sent_ns, node.workers[1].engine.now_ns);
}

#[test]
fn a_move_that_is_taken_back_loses_nothing() {
    let mut node = Node::new(Encapsulation::Udp, 64);
    (0..2).for_each(|worker| node.happens(Happening::HearsMap(worker)));
    (0..2).for_each(|_| node.happens(Happening::Step));
    // Coalesced by the kernel with what is the other worker's, or from one who has heard of the move already.
    node.peer_sends(3);
    let sent: Vec<_> = node.sockets[0].drain(..).collect();
    node.workers[1].receive(&sent, PEER);
    assert_eq!(node.count(Count::Held), 3);
    node.workers[1].engine.forgo_slot(SLOT);
    node.phase = Phase::Settled;
    node.quiet();
    assert_eq!(node.arrived.len(), 3);
    assert!(node.workers[0].engine.table.owns(SLOT) && !node.workers[1].engine.table.owns(SLOT));
}

#[test]
fn what_is_held_is_bounded() {
    let mut node = Node::new(Encapsulation::Udp, 64);
    (0..2).for_each(|_| node.happens(Happening::Step));
    node.peer_sends(1);
    let sent: Vec<_> = node.sockets[0].drain(..).collect();
    let mut large = sent.clone();
    large[0].data.resize(60_000, 0);
    for _ in 0..200 {
        node.workers[1].receive(&large, PEER);
    }
    let (held, lost) = (node.count(Count::Held), node.count(Count::HeldLost));
    assert!(
        held * 60_000 <= 8 << 20 && lost > 0 && held + lost == 200,
        "{held} {lost}"
    );
    node.settle();
    assert_eq!(node.count(Count::BadIcv), held, "all are looked at");
    // And there is room again.
    (0..2).for_each(|_| node.happens(Happening::Step));
    node.workers[0].receive(&large, PEER);
    assert_eq!(node.count(Count::HeldLost), lost);
}

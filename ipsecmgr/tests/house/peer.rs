//! A peer with an engine of its own.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::{Secret, SystemRandom};
use ikev2::{Answer, Engine, EngineConfig, Event, IkeSaId, Output, Path, Profile, Question, Sad, Usage};
use netio::{Datagram, DatagramSocket, ReceiveBatch, SendBatch, SocketOptions};

use super::PATIENCE;

/// A peer: an initiator on ports 500 and 4500 of its own address.
pub struct Peer {
    pub engine: Engine,
    pub events: VecDeque<Event>,
    pub children: HashMap<u32, ikev2::ChildSa>,
    secret: Vec<u8>,
    sockets: [DatagramSocket; 2],
    pub sad: PeerSad,
}

#[derive(Default)]
pub struct PeerSad {
    next: u32,
}

impl Sad for PeerSad {
    fn allocate_spi(&mut self, slot: u8) -> Option<u32> {
        self.next += 1;
        Some(u32::from(slot) << 24 | self.next)
    }

    fn free_spi(&mut self, _spi: u32) {}

    fn usage(&self, _spi: u32) -> Usage {
        Usage::default()
    }
}

impl Peer {
    /// A peer at `address` with this pre-shared key.
    pub fn new(address: &str, secret: &str) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let socket = |port| {
            DatagramSocket::bind_udp(SocketAddr::new(address, port), SocketOptions::default()).unwrap()
        };
        Self {
            engine: Engine::new(EngineConfig::default(), Box::new(SystemRandom)),
            events: VecDeque::new(),
            children: HashMap::new(),
            secret: secret.as_bytes().to_vec(),
            sockets: [socket(500), socket(4500)],
            sad: PeerSad::default(),
        }
    }

    /// Begins an IKE SA with the gateway.
    pub fn initiate(&mut self, profile: &Arc<Profile>, gateway: &str) -> IkeSaId {
        let path = Path {
            local: self.sockets[0].local(),
            remote: SocketAddr::new(gateway.parse().unwrap(), 500),
        };
        let ike = self
            .engine
            .initiate(Instant::now(), profile.clone(), path, &mut self.sad)
            .unwrap();
        self.pump();
        ike
    }

    /// Does something with an IKE SA.
    pub fn act(&mut self, ike: IkeSaId, action: ikev2::Action) {
        self.engine
            .action(Instant::now(), ike, action, &mut self.sad)
            .unwrap();
        self.pump();
    }

    /// Goes on until something happens that is looked for.
    pub async fn until<T>(&mut self, what: &str, mut find: impl FnMut(&Event) -> Option<T>) -> T {
        let start = Instant::now();
        loop {
            while let Some(event) = self.events.pop_front() {
                if let Some(found) = find(&event) {
                    return found;
                }
            }
            assert!(start.elapsed() < PATIENCE, "the peer waited in vain: {what}");
            self.step();
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Takes in what waits and does what is due.
    pub fn step(&mut self) {
        let now = Instant::now();
        let mut batch = ReceiveBatch::new(16, 4096);
        for socket in &self.sockets {
            if batch.receive(socket).is_err() {
                continue;
            }
            for received in batch.iter_mut() {
                let path = Path {
                    local: socket.local(),
                    remote: received.source,
                };
                let marker = usize::from(socket.local().port() == 4500) * 4;
                if let Some(message) = received.data.get(marker..) {
                    self.engine.receive(now, path, message, &mut self.sad);
                }
            }
        }
        if self.engine.next_timeout().is_some_and(|timeout| timeout <= now) {
            self.engine.expire(now, &mut self.sad);
        }
        self.pump();
    }

    fn pump(&mut self) {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Transmit { path, bytes } => {
                    let socket = self
                        .sockets
                        .iter()
                        .find(|socket| socket.local() == path.local)
                        .unwrap();
                    SendBatch::new(1)
                        .send(socket, &[Datagram::to(path.remote, &bytes)])
                        .unwrap();
                }
                Output::Ask {
                    ticket,
                    question: Question::Psk { .. },
                    ..
                } => {
                    let key = || Some(Secret::new(self.secret.clone()));
                    let keys = Answer::Psk {
                        remote: key(),
                        local: key(),
                    };
                    self.engine.answer(Instant::now(), ticket, keys, &mut self.sad);
                }
                Output::Ask { question, .. } => panic!("nobody answers {question:?}"),
                Output::Install(child) => {
                    self.children.insert(child.inbound_spi, *child);
                }
                Output::Remove { inbound_spi, .. } => {
                    self.children.remove(&inbound_spi);
                }
                Output::Beside { .. } => {}
                Output::Event(event) => self.events.push_back(event),
                Output::Activate { .. } | Output::Move { .. } => {}
            }
        }
    }
}

//! Two engines and the network between them. Time stands still unless it is moved.

mod host;
mod profiles;
mod restart;
mod wire;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ikev2::{Action, IkeSaId, Output, Path, Profile};

pub use host::Host;
pub use profiles::{change_child, esp_proposal, ike_proposal, net, profile, ranges};
pub use restart::{Death, Plan, RESTART_VARIABLE};
pub use wire::Log;

pub const SECOND: Duration = Duration::from_secs(1);
pub const MARKER: [u8; 4] = [0; 4];

/// One of the two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Usually the initiator.
    A,
    /// Usually the responder.
    B,
}

use Side::{A, B};

/// A datagram on the wire, without non-ESP marker; `path` as the receiver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    pub to: Side,
    pub path: Path,
    pub bytes: Vec<u8>,
}

pub struct World {
    pub now: Instant,
    pub a: Host,
    pub b: Host,
    pub wire: VecDeque<Datagram>,
    /// A's address as B sees it; a NAT is between when it is not A's own.
    pub a_outside: SocketAddr,
    /// The same seen from outside port 4500.
    pub nat: bool,
    /// What was sent so far.
    pub log: Log,
    /// When who dies.
    pub plan: Plan,
}

impl World {
    pub fn new() -> Self {
        let now = Instant::now();
        let mut world = Self {
            now,
            a: Host::new(now, 1, 0x11, "192.0.2.1:500"),
            b: Host::new(now, 2, 0x22, "192.0.2.2:500"),
            wire: VecDeque::new(),
            a_outside: "192.0.2.1:500".parse().unwrap(),
            nat: false,
            log: Log::default(),
            plan: Plan::of_this_run(),
        };
        world.serve(profile(B));
        world
    }

    /// B serves this profile.
    pub fn serve(&mut self, profile: Profile) {
        self.b.serve(profile);
    }

    pub fn host(&mut self, side: Side) -> &mut Host {
        match side {
            A => &mut self.a,
            B => &mut self.b,
        }
    }

    pub fn look(&self, side: Side) -> &Host {
        match side {
            A => &self.a,
            B => &self.b,
        }
    }

    /// A begins; nothing is delivered yet.
    pub fn initiate(&mut self, profile: Profile) -> IkeSaId {
        let path = Path {
            local: self.a.address,
            remote: self.b.address,
        };
        let now = self.now;
        let profile = self.a.know(profile);
        let id = self
            .a
            .engine
            .initiate(now, profile, path, &mut self.a.sad)
            .unwrap();
        self.collect(A);
        id
    }

    /// Both are connected, with one child SA.
    pub fn connected() -> Self {
        Self::connected_with(profile(A), profile(B))
    }

    /// The same, both profiles changed alike.
    pub fn connected_both(change: impl Fn(&mut Profile)) -> Self {
        let [ours, theirs] = [A, B].map(|side| {
            let mut profile = profile(side);
            change(&mut profile);
            profile
        });
        Self::connected_with(ours, theirs)
    }

    /// The same with A behind a NAT, at 198.51.100.7.
    pub fn connected_through_nat() -> Self {
        let mut world = Self::new();
        world.nat = true;
        world.a_outside = "198.51.100.7:500".parse().unwrap();
        world.initiate(profile(A));
        world.settle();
        world.check_pairs(1);
        world
    }

    pub fn connected_with(ours: Profile, theirs: Profile) -> Self {
        let mut world = Self::new();
        world.serve(theirs);
        world.initiate(ours);
        world.settle();
        assert_eq!((world.a.established(), world.b.established()), (1, 1));
        world.check_pairs(1);
        world
    }

    /// The established IKE SA of a side; there must be one only.
    pub fn ike(&self, side: Side) -> IkeSaId {
        let views = self.look(side).views(self.now);
        let established: Vec<_> = views
            .iter()
            .filter(|view| view.state == ikev2::IkeState::Established)
            .collect();
        assert_eq!(established.len(), 1, "{views:?}");
        established[0].id
    }

    /// The one child SA in use of a side.
    pub fn child(&self, side: Side) -> u32 {
        let sending: Vec<u32> = self.look(side).sending.iter().copied().collect();
        assert_eq!(sending.len(), 1, "{sending:x?}");
        sending[0]
    }

    pub fn action(&mut self, side: Side, action: Action) {
        self.try_action(side, action).unwrap();
    }

    pub fn try_action(&mut self, side: Side, action: Action) -> Result<(), ikev2::Error> {
        let (now, ike) = (self.now, self.ike(side));
        let host = self.host(side);
        let result = host.engine.action(now, ike, action, &mut host.sad);
        self.collect(side);
        result
    }

    /// Puts what an engine wants to say on the wire, and does the shell's part. It may die at this.
    pub fn collect(&mut self, side: Side) {
        match self.plan.death_at_call_of(side) {
            None => self.pump(side),
            Some(Death::AfterAll) => {
                self.pump(side);
                self.restart(side);
            }
            Some(Death::Move) => {
                self.pump(side);
                self.move_slots(side);
            }
            Some(death) => {
                self.host(side).die(death);
                self.restart(side);
            }
        }
    }

    fn pump(&mut self, side: Side) {
        let now = self.now;
        loop {
            let host = self.host(side);
            let Some(output) = host.engine.poll() else {
                return host.checkpoint(now);
            };
            match output {
                Output::Transmit { path, bytes } => self.transmit(side, path, bytes),
                Output::Ask { ticket, question, .. } => {
                    host.asked.push(format!("{question:?}"));
                    if host.answers.hold {
                        host.held.push((ticket, question));
                        continue;
                    }
                    let answer = host.reply(&question);
                    host.engine.answer(now, ticket, answer, &mut host.sad);
                }
                Output::Install(child) => {
                    if child.outbound_active {
                        host.sending.insert(child.inbound_spi);
                    }
                    host.install(*child);
                }
                Output::Activate {
                    inbound_spi,
                    replaces,
                } => {
                    assert!(host.installed.contains_key(&inbound_spi));
                    host.sending.remove(&replaces);
                    host.sending.insert(inbound_spi);
                }
                Output::Remove {
                    inbound_spi, reason, ..
                } => {
                    assert!(host.installed.remove(&inbound_spi).is_some());
                    assert!(host.sad.allocated.remove(&inbound_spi));
                    host.sending.remove(&inbound_spi);
                    host.removed.push((inbound_spi, reason));
                }
                Output::Move {
                    path, inbound_spis, ..
                } => {
                    for spi in inbound_spis {
                        host.installed.get_mut(&spi).unwrap().path = path;
                    }
                }
                Output::Beside { ike, groups } => {
                    let known = groups.iter().flatten();
                    assert!(known.into_iter().all(|spi| host.installed.contains_key(spi)));
                    host.groups.insert(ike, groups);
                }
                Output::Event(event) => host.events.push(event),
            }
        }
    }

    /// Answers what was held.
    pub fn answer_held(&mut self, side: Side) {
        let now = self.now;
        let host = self.host(side);
        for (ticket, question) in std::mem::take(&mut host.held) {
            let answer = host.reply(&question);
            host.engine.answer(now, ticket, answer, &mut host.sad);
        }
        self.collect(side);
    }

    fn transmit(&mut self, from: Side, path: Path, bytes: Vec<u8>) {
        let marked = path.local.port() == 4500;
        let bytes = match bytes.as_slice() {
            [0xff] => bytes,
            _ if marked => bytes.strip_prefix(&MARKER).expect("non-ESP marker").to_vec(),
            _ => bytes,
        };
        let path = match from {
            A => Path {
                local: path.remote,
                remote: match self.nat {
                    true => SocketAddr::new(self.a_outside.ip(), path.local.port() + 10_000),
                    false => path.local,
                },
            },
            B => Path {
                local: match self.nat {
                    true => SocketAddr::new(self.a.address.ip(), path.remote.port() - 10_000),
                    false => path.remote,
                },
                remote: path.local,
            },
        };
        self.log.note(from, &bytes);
        let to = if from == A { B } else { A };
        self.wire.push_back(Datagram { to, path, bytes });
    }

    pub fn deliver(&mut self, datagram: &Datagram) {
        let (now, side) = (self.now, datagram.to);
        let host = self.host(side);
        host.engine
            .receive(now, datagram.path, &datagram.bytes, &mut host.sad);
        self.collect(side);
    }

    /// Delivers the oldest datagram to this side; true if there was one.
    pub fn deliver_next(&mut self, to: Side) -> bool {
        let Some(at) = self.wire.iter().position(|datagram| datagram.to == to) else {
            return false;
        };
        let datagram = self.wire.remove(at).unwrap();
        self.deliver(&datagram);
        true
    }

    /// Takes the oldest datagram to this side off the wire.
    pub fn intercept(&mut self, to: Side) -> Datagram {
        let at = self
            .wire
            .iter()
            .position(|datagram| datagram.to == to)
            .expect("a datagram");
        self.wire.remove(at).unwrap()
    }

    /// Delivers until the wire is empty.
    pub fn settle(&mut self) {
        for _ in 0..10_000 {
            let Some(datagram) = self.wire.pop_front() else {
                return;
            };
            self.deliver(&datagram);
        }
        panic!("they never stop talking");
    }

    /// Moves time, doing what is due on the way; what is sent stays on the wire.
    pub fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        loop {
            let next = [self.a.engine.next_timeout(), self.b.engine.next_timeout()]
                .into_iter()
                .flatten()
                .min();
            match next {
                Some(at) if at <= end => {
                    self.now = self.now.max(at);
                    for side in [A, B] {
                        let now = self.now;
                        let host = self.host(side);
                        host.engine.expire(now, &mut host.sad);
                        self.collect(side);
                    }
                }
                _ => break,
            }
        }
        self.now = end;
    }

    /// Moves time in steps, delivering after each.
    pub fn run(&mut self, time: Duration, step: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.settle();
            self.advance(step.min(end - self.now));
        }
        self.settle();
    }

    /// Each child SA in use of one side is that of the other with keys and SPIs exchanged; there are `count` of them.
    pub fn check_pairs(&self, count: usize) {
        assert_eq!(self.a.sending.len(), count, "A sends with {:x?}", self.a.sending);
        assert_eq!(self.b.sending.len(), count, "B sends with {:x?}", self.b.sending);
        for spi in &self.a.sending {
            let ours = &self.a.installed[spi];
            let theirs = &self.b.installed[&ours.outbound_spi];
            assert!(self.b.sending.contains(&ours.outbound_spi));
            assert_eq!(theirs.outbound_spi, ours.inbound_spi);
            assert_eq!(theirs.outbound_keys.encryption, ours.inbound_keys.encryption);
            assert_eq!(theirs.inbound_keys.encryption, ours.outbound_keys.encryption);
            assert_eq!(theirs.outbound_keys.salt, ours.inbound_keys.salt);
            assert_eq!(theirs.outbound_keys.integrity, ours.inbound_keys.integrity);
            assert_eq!(theirs.inbound_keys.integrity, ours.outbound_keys.integrity);
            assert_eq!(theirs.local_selectors, ours.remote_selectors);
            assert_eq!(theirs.remote_selectors, ours.local_selectors);
            assert_eq!(
                (theirs.cipher, theirs.integrity, theirs.esn),
                (ours.cipher, ours.integrity, ours.esn)
            );
        }
    }

    /// Dead IKE SAs answer no retransmissions any more; nothing may be left then.
    pub fn check_ended(&mut self) {
        self.run(11 * SECOND, SECOND);
        self.check_nothing_left();
    }

    /// Nothing is left on either side: no IKE SA, no child SA, no SPI.
    pub fn check_nothing_left(&self) {
        for host in [&self.a, &self.b] {
            let totals = host.engine.totals();
            assert_eq!(totals, ikev2::Totals::default());
            assert!(host.installed.is_empty(), "{:?}", host.installed);
            assert!(host.sad.allocated.is_empty(), "{:x?}", host.sad.allocated);
        }
    }
}

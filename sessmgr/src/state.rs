//! Everything a `sessmgr` knows, and what happens to it. No I/O: what has to leave is put into queues for the loop.

mod addresses;
mod recovery;
mod sweep;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bus::messages::aaamgr::AccountingKind;
use bus::messages::sessmgr::{ConnectedSession, Released};
use config::Config;
use ikev2::Identity;
use services::DisconnectReason as Reason;
use telemetry::Counters;
use telemetry::counters::{session as counted, wsg};

use crate::accounting::{Outbox, record};
use crate::blocks::Blocks;
use crate::counters::{PoolGauges, ServiceCounters};
use crate::journal::Past;
use crate::policy::{Policy, PoolKey, Service};
use crate::session::{Assigned, Phase, Session, Sessions, Source, Usage};
use crate::usage::Meter;

pub use recovery::slot;
pub use sweep::SWEEP_STEP;

/// Something that has to be told to another task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Errand {
    /// A block or single address goes back to `vpnmgr`.
    GiveBack {
        /// Number of the context.
        context: u32,
        /// Pool; empty for a single address.
        pool: String,
        /// First address.
        first: IpAddr,
    },
    /// Sessions are to be ended by `ipsecmgr`.
    End(Vec<u64>, Reason),
    /// A session of an identity was admitted then: other workers are to end older ones.
    Newer(Arc<Service>, Identity, u64),
}

impl Errand {
    /// Of a new session: that other workers end older ones of its identity, where there is to be only one.
    fn newer(session: &Session, only_one: bool) -> Option<Self> {
        let alone = session.service.duplicate_session_detection || only_one;
        alone.then(|| Self::Newer(session.service.clone(), session.identity.clone(), session.began))
    }
}

/// What has to be written down.
#[derive(Debug, Default)]
pub struct Changed {
    /// IKE SPIs of sessions that have changed or are gone.
    pub sessions: BTreeSet<u64>,
    /// Blocks came or went.
    pub blocks: bool,
}

/// The state of one worker's sessions.
pub struct State {
    /// What the configuration says.
    pub policy: Policy,
    /// The configuration, for `show`.
    pub config: Config,
    /// Addresses.
    pub blocks: Blocks,
    /// Single addresses in use, by number of the context.
    pub singles: HashSet<(u32, IpAddr)>,
    /// Sessions.
    pub sessions: Sessions,
    /// Accounting records.
    pub outbox: Outbox,
    /// What others are to be told.
    pub errands: Vec<Errand>,
    /// Traffic.
    pub meter: Box<dyn Meter>,
    /// Our worker.
    pub worker: u32,
    /// Directory of the counter pages of all tasks.
    pub pages: PathBuf,
    counters: Counters,
    services: ServiceCounters,
    pools: PoolGauges,
    dry: HashMap<PoolKey, Instant>,
    changed: Changed,
    next_call: u64,
    sweep: Option<u64>,
    /// By which tenures the `ipsecmgr`s that were heard last have the slots, by number.
    tenures: [u64; 256],
    /// The worker whose `ipsecmgr` has slot 1, 2, ...; empty until it is known.
    managers: Vec<u32>,
}

impl State {
    /// No sessions yet.
    pub fn new(worker: u32, pages: PathBuf, counters: Counters, meter: Box<dyn Meter>) -> Self {
        // Calls are numbered from the time of our birth on, so that no number comes twice, whatever restarts.
        let born = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        Self {
            policy: Policy::default(),
            config: Config::default(),
            blocks: Blocks::default(),
            singles: HashSet::new(),
            sessions: Sessions::default(),
            outbox: Outbox::default(),
            errands: Vec::new(),
            meter,
            worker,
            pages,
            services: ServiceCounters::new(counters.clone()),
            pools: PoolGauges::new(counters.clone()),
            counters,
            dry: HashMap::new(),
            changed: Changed::default(),
            next_call: born << 32 | u64::from(worker & 0xff) << 24,
            sweep: None,
            tenures: [0; 256],
            managers: Vec::new(),
        }
    }

    /// Takes a new configuration. Sessions keep what they began with.
    pub fn configure(&mut self, config: Config) {
        self.policy = Policy::new(&config);
        self.services
            .keep(|context, service| self.policy.find(context, service).is_some());
        // A service has counters from the moment it is configured.
        for service in self.policy.services() {
            self.services.of(service);
        }
        self.config = config;
        self.return_spare_blocks();
    }

    /// Goes on where an earlier life ended.
    pub fn restore(&mut self, past: &Past, now: Instant) {
        for (key, lease) in past.blocks() {
            self.blocks.add(&key, lease);
        }
        let sessions: Vec<(u64, Box<Session>)> = past.sessions(&self.policy, now).collect();
        for (ike_spi, session) in sessions {
            for given in [&session.ipv4, &session.ipv6].into_iter().flatten() {
                match &given.source {
                    Source::Block(key) => {
                        let taken = self
                            .blocks
                            .take_exactly(key.context, given.address, &session.identity);
                        if !matches!(taken, Some(Ok(_))) {
                            tracing::error!(
                                "address {} of {} is in no block of ours",
                                given.address,
                                session.user()
                            );
                        }
                    }
                    Source::Single(context) => drop(self.singles.insert((*context, given.address))),
                }
            }
            self.counters.inc(counted::CURRENT_CALLS);
            self.counters.inc(counted::WSG_CURRENT);
            let page = self.services.of(&session.service);
            page.inc(wsg::CURRENT_SESSIONS);
            if session.phase == Phase::Arrived {
                self.counters.inc(counted::CURRENT_ARRIVED);
            } else {
                for gauge in [
                    counted::CURRENT_ACTIVE,
                    counted::CURRENT_SIMPLE_IP,
                    counted::WSG_ACTIVE,
                ] {
                    self.counters.inc(gauge);
                }
                let (ipv4, ipv6) = (session.ipv4.is_some(), session.ipv6.is_some());
                page.restored(ipv4, ipv6);
            }
            self.hear(ike_spi, session.tenure);
            self.sessions.add(ike_spi, session);
        }
    }

    /// What has changed since this was asked last.
    pub fn take_changed(&mut self) -> Changed {
        std::mem::take(&mut self.changed)
    }

    /// An attempt to set up a session has begun.
    pub fn attempted(&mut self, service: Option<&Service>) {
        self.counters.inc(counted::ARRIVED);
        if let Some(counters) = service.map(|service| self.services.of(service)) {
            counters.inc(wsg::SETUP_ATTEMPTS);
            counters.inc(wsg::SIMPLE_IP_ATTEMPTS);
        }
    }

    /// A peer was not admitted.
    pub fn refused(&mut self, context: &str, service: &str, found: Vec<Assigned>, now: Instant) {
        self.counters.inc(counted::REJECTED);
        let service = self.policy.find(context, service).cloned();
        if let Some(counters) = service.map(|service| self.services.of(&service)) {
            counters.inc(wsg::ATTEMPTS_FAILED);
            counters.inc(wsg::SIMPLE_IP_FAILURES);
        }
        // Nothing was used, so nothing is held for anybody.
        for assigned in found {
            self.release_address(&assigned, None, now);
        }
    }

    /// Adds an admitted session and tells which older one must go. `only_one`: the peer says that it has no other session; those in slots of the
    /// same `ipsecmgr` that one ends by itself, others [`Self::end_older_elsewhere`] ends, and other workers are told.
    pub fn admit(&mut self, ike_spi: u64, session: Box<Session>, only_one: bool) -> &Session {
        self.counters.inc(counted::CURRENT_CALLS);
        self.counters.inc(counted::CURRENT_ARRIVED);
        self.counters.inc(counted::WSG_CURRENT);
        self.services.of(&session.service).inc(wsg::CURRENT_SESSIONS);
        self.changed.sessions.insert(ike_spi);
        self.errands.extend(Errand::newer(&session, only_one));
        let detect = session.service.duplicate_session_detection;
        let (session, older) = self.sessions.add(ike_spi, session);
        session.displaced = older.filter(|_| detect).and_then(NonZeroU64::new);
        session
    }

    /// Takes an address over from an older session of the same identity that has to go anyway.
    pub fn take_over(&mut self, service: &Service, identity: &Identity, address: IpAddr) -> Option<Source> {
        if !service.duplicate_session_detection {
            return None;
        }
        let mut of_identity = self.sessions.of(&service.context, &service.name, identity);
        let older = of_identity.next_back()?;
        drop(of_identity);
        self.changed.sessions.insert(older);
        let session = self.sessions.get_mut(older)?;
        let slot = [&mut session.ipv4, &mut session.ipv6]
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(|given| given.address == address))?;
        slot.take().map(|given| given.source)
    }

    /// Another worker admitted a session of this identity, to be the only one. Both workers hear of each other; the younger session stays.
    pub fn newer_elsewhere(&mut self, context: &str, service: &str, identity: &Identity, began: u64) {
        let older = self.sessions.of(context, service, identity);
        let older: Vec<u64> = older
            .filter(|spi| {
                self.sessions
                    .get(*spi)
                    .is_some_and(|session| session.began < began)
            })
            .collect();
        self.end_all(older, Reason::Duplicate);
    }

    /// Takes note of who has which slot: by worker, slot 1 first.
    pub fn set_managers(&mut self, managers: Vec<u32>) {
        self.managers = managers;
    }

    /// Ends older sessions of the peer of a session that another `ipsecmgr` has: its own does so by itself.
    pub fn end_older_elsewhere(&mut self, ike_spi: u64) {
        let manager = |ike_spi: u64| self.managers.get(usize::from(slot(ike_spi)).checked_sub(1)?);
        let Some(session) = self.sessions.get(ike_spi) else {
            return;
        };
        let service = &session.service;
        let older = self
            .sessions
            .of(&service.context, &service.name, &session.identity)
            .take_while(|other| *other != ike_spi)
            .filter(|older| manager(*older) != manager(ike_spi))
            .collect();
        self.end_all(older, Reason::Duplicate);
    }

    /// The child SAs of a session are these now, possibly under another IKE SPI.
    pub fn connected(&mut self, connected: &ConnectedSession, now: Instant) {
        if connected.was != 0 && connected.was != connected.ike_spi {
            self.sessions.rename(connected.was, connected.ike_spi);
            self.changed.sessions.insert(connected.was);
        }
        let time = self.unix_seconds();
        let Some(session) = self.sessions.get_mut(connected.ike_spi) else {
            return;
        };
        let gone = session.spis.iter().filter(|spi| !connected.spis.contains(spi));
        let past = gone
            .filter_map(|spi| self.meter.read(*spi))
            .fold(session.past, Usage::plus);
        session.past = past;
        self.changed.sessions.insert(connected.ike_spi);
        session.spis = connected.spis.iter().copied().collect();
        session.displaced = None;
        if session.phase != Phase::Arrived {
            return;
        }
        session.phase = Phase::Connected;
        session.connected = Some(now);
        session.accounted = Some(now);
        session.active = now;
        if session.service.accounting {
            self.outbox
                .push(record(session, AccountingKind::Start, 0, time, None));
        }
        for gauge in [
            counted::CURRENT_ACTIVE,
            counted::CURRENT_SIMPLE_IP,
            counted::WSG_ACTIVE,
        ] {
            self.counters.inc(gauge);
        }
        self.counters.dec(counted::CURRENT_ARRIVED);
        self.counters.inc(counted::CONNECTED);
        self.counters.inc(counted::WSG_SETUP);
        let (ipv4, ipv6) = (session.ipv4.is_some(), session.ipv6.is_some());
        self.services.of(&session.service).connected(ipv4, ipv6);
    }

    /// A session ended.
    pub fn released(&mut self, released: &Released, now: Instant) {
        let reported = Usage {
            bytes_in: released.bytes_in,
            bytes_out: released.bytes_out,
            packets_in: released.packets_in,
            packets_out: released.packets_out,
        };
        self.read_usage(released.ike_spi, Some(reported), now);
        let time = self.unix_seconds();
        let Some(session) = self.sessions.remove(released.ike_spi) else {
            return;
        };
        self.changed.sessions.insert(released.ike_spi);
        // When it was us who wanted the end, we know best why.
        let told = Reason::from_number(released.reason).unwrap_or(Reason::Local);
        let reason = session.ending.unwrap_or(told);
        self.counters.inc(counted::DISCONNECTED);
        self.counters.dec(counted::CURRENT_CALLS);
        self.counters.dec(counted::WSG_CURRENT);
        let connected = session.connected.is_some();
        match session.phase {
            Phase::Arrived => {
                self.counters.dec(counted::CURRENT_ARRIVED);
                self.counters.inc(counted::FAILED);
            }
            Phase::Disconnecting => self.counters.dec(counted::CURRENT_DISCONNECTING),
            Phase::Connected => {}
        }
        if connected {
            for gauge in [
                counted::CURRENT_ACTIVE,
                counted::CURRENT_SIMPLE_IP,
                counted::WSG_ACTIVE,
            ] {
                self.counters.dec(gauge);
            }
        }
        self.services.of(&session.service).released(
            connected,
            session.ipv4.is_some(),
            session.ipv6.is_some(),
            reason,
        );
        if let Some(begin) = session.connected.filter(|_| session.service.accounting) {
            let seconds = u32::try_from(now.saturating_duration_since(begin).as_secs()).unwrap_or(u32::MAX);
            self.outbox.push(record(
                &session,
                AccountingKind::Stop,
                seconds,
                time,
                Some(reason),
            ));
        }
        for assigned in [&session.ipv4, &session.ipv6].into_iter().flatten() {
            self.release_address(assigned, Some(&session.identity), now);
        }
    }

    /// A number for the next call.
    pub fn next_call(&mut self) -> u64 {
        self.next_call += 1;
        self.next_call
    }

    /// Now, as accounting writes it.
    pub fn unix_seconds(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs()
    }
}

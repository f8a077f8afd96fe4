//! Everything a `sessmgr` knows, and what happens to it. No I/O: what has to leave is put into queues for the loop.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bus::messages::aaamgr::AccountingKind;
use bus::messages::sessmgr::{ConnectedSession, HeldBlock, Released};
use config::Config;
use ikev2::Identity;
use services::DisconnectReason as Reason;
use telemetry::Counters;
use telemetry::counters::{session as counted, wsg};

use crate::accounting::{Outbox, record};
use crate::admission::octets;
use crate::blocks::{Blocks, Lease};
use crate::counters::{PoolGauges, ServiceCounters};
use crate::journal::Past;
use crate::policy::{Policy, PoolKey, Service};
use crate::session::{Assigned, Phase, Session, Sessions, Source, Usage};
use crate::usage::Meter;

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
        let mut sessions: Vec<(u64, Session)> = past.sessions(&self.policy, now).collect();
        sessions.sort_by_key(|(_, session)| session.began);
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
                                session.user
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

    /// Adds an admitted session. Returns the older session that must go. `only_one`: the peer says that it has no other session; those of
    /// this worker `ipsecmgr` ends by itself, those of other workers are told.
    pub fn admit(&mut self, ike_spi: u64, session: Session, only_one: bool) -> Option<u64> {
        self.counters.inc(counted::CURRENT_CALLS);
        self.counters.inc(counted::CURRENT_ARRIVED);
        self.counters.inc(counted::WSG_CURRENT);
        self.services.of(&session.service).inc(wsg::CURRENT_SESSIONS);
        let service = session.service.clone();
        if service.duplicate_session_detection || only_one {
            self.errands.push(Errand::Newer(
                service.clone(),
                session.identity.clone(),
                session.began,
            ));
        }
        let older = self.sessions.add(ike_spi, session);
        self.changed.sessions.insert(ike_spi);
        older.filter(|_| service.duplicate_session_detection)
    }

    /// Takes an address over from an older session of the same identity that has to go anyway.
    pub fn take_over(&mut self, service: &Service, identity: &Identity, address: IpAddr) -> Option<Source> {
        if !service.duplicate_session_detection {
            return None;
        }
        let of_identity = self.sessions.of(&service.context, &service.name, identity);
        let older = *of_identity.last()?;
        self.changed.sessions.insert(older);
        let session = self.sessions.get_mut(older)?;
        let slot = [&mut session.ipv4, &mut session.ipv6]
            .into_iter()
            .find(|slot| slot.as_ref().is_some_and(|given| given.address == address))?;
        slot.take().map(|given| given.source)
    }

    /// Another worker admitted a session of this identity, to be the only one. Both workers hear of each other; the younger session stays.
    pub fn newer_elsewhere(&mut self, context: &str, service: &str, identity: &Identity, began: u64) {
        let older = self.sessions.of(context, service, identity).iter().copied();
        let older: Vec<u64> = older
            .filter(|spi| {
                self.sessions
                    .get(*spi)
                    .is_some_and(|session| session.began < began)
            })
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
        session.spis = connected.spis.clone();
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

    /// The `ipsecmgr` of this worker lost all its tunnels.
    pub fn release_all(&mut self, now: Instant) {
        let all: Vec<u64> = self.sessions.after(None).map(|(ike_spi, _)| ike_spi).collect();
        for ike_spi in all {
            self.released(
                &Released {
                    ike_spi,
                    reason: Reason::IpsecmgrDeath.number(),
                    ..Released::default()
                },
                now,
            );
        }
    }

    /// Looks after a share of the sessions: traffic, time limits, interim records. Called every [`SWEEP_STEP`].
    pub fn sweep(&mut self, now: Instant) {
        let share = self.sessions.len() / SWEEP_STEPS + 1;
        let due: Vec<u64> = self
            .sessions
            .after(self.sweep)
            .map(|(ike_spi, _)| ike_spi)
            .take(share)
            .collect();
        self.sweep = (due.len() == share).then(|| due.last().copied()).flatten();
        for ike_spi in due {
            self.look_after(ike_spi, now);
        }
        if self.sweep.is_none() {
            self.blocks.end_holds(now);
            self.return_spare_blocks();
        }
        let name = |number| {
            let mut contexts = self.config.contexts.iter();
            contexts.find_map(|(name, context)| (context.id == number).then(|| name.clone()))
        };
        self.pools.set(self.blocks.occupancy(), name);
    }

    /// Sessions are to end.
    pub fn end_all(&mut self, ike_spis: Vec<u64>, reason: Reason) {
        let first = self.errands.len();
        ike_spis.into_iter().for_each(|ike_spi| self.end(ike_spi, reason));
        // One errand for all of them.
        let ended: Vec<u64> = self
            .errands
            .drain(first..)
            .flat_map(|errand| match errand {
                Errand::End(ike_spis, _) => ike_spis,
                Errand::GiveBack { .. } | Errand::Newer(..) => Vec::new(),
            })
            .collect();
        let parts = ended
            .chunks(END_AT_ONCE)
            .map(|part| Errand::End(part.to_vec(), reason));
        self.errands.extend(parts);
    }

    /// The blocks and single addresses held of a context, for its restarted `vpnmgr`.
    pub fn held(&self, context: u32) -> Vec<HeldBlock> {
        let blocks = self
            .blocks
            .iter()
            .filter(|(key, _)| key.context == context)
            .map(|(key, lease)| HeldBlock {
                pool: key.name.to_string(),
                first: octets(lease.first),
                count: lease.count,
                single: false,
            });
        let singles = self
            .singles
            .iter()
            .filter(|(of, _)| *of == context)
            .map(|(_, address)| HeldBlock {
                pool: String::new(),
                first: octets(*address),
                count: 1,
                single: true,
            });
        blocks.chain(singles).collect()
    }

    /// A pool has no block for us: it is not asked again for a while, unless a peer waits.
    pub fn pool_is_dry(&mut self, key: &PoolKey, now: Instant) {
        self.dry.insert(key.clone(), now + DRY_SPELL);
    }

    /// A block came from `vpnmgr`.
    pub fn add_block(&mut self, key: &PoolKey, lease: Lease) {
        self.blocks.add(key, lease);
        self.changed.blocks = true;
    }

    /// Pools of services that will soon run out here.
    pub fn low_pools(&mut self, now: Instant) -> Vec<PoolKey> {
        self.dry.retain(|_, until| *until > now);
        let services = self
            .policy
            .services()
            .filter(|service| service.bound && service.remote_access);
        let first = |pools: &[PoolKey]| pools.iter().find(|key| self.policy.is_dynamic(key)).cloned();
        let mut low: Vec<PoolKey> = services
            .flat_map(|service| [first(&service.ipv4_pools), first(&service.ipv6_pools)])
            .flatten()
            .filter(|key| !self.dry.contains_key(key))
            .filter(|key| self.blocks.free(key) * 2 <= self.blocks.size(key).min(PREFETCH))
            .collect();
        low.sort();
        low.dedup();
        low
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

    fn look_after(&mut self, ike_spi: u64, now: Instant) {
        self.read_usage(ike_spi, None, now);
        let time = self.unix_seconds();
        let Some(session) = self.sessions.get_mut(ike_spi) else {
            return;
        };
        // Its set-up failed and nobody told us: the verdict came too late for `ipsecmgr`.
        if session.phase == Phase::Arrived && now.saturating_duration_since(session.active) > LONGEST_SETUP {
            let reason = Reason::SetupTimeout.number();
            return self.released(
                &Released {
                    ike_spi,
                    reason,
                    ..Released::default()
                },
                now,
            );
        }
        let Some(begin) = session.connected.filter(|_| session.phase == Phase::Connected) else {
            return;
        };
        let service = &session.service;
        let over = |limit: Option<u32>, since: Instant| {
            limit.is_some_and(|limit| {
                now.saturating_duration_since(since) >= Duration::from_secs(limit.into())
            })
        };
        let absolute = session.authorized.session_timeout.or(service.absolute_timeout);
        let idle = session.authorized.idle_timeout.or(service.idle_timeout);
        let interim = session.authorized.interim_interval.or(service.interim_interval);
        if over(absolute, begin) {
            return self.end(ike_spi, Reason::AbsoluteTimeout);
        }
        if over(idle, session.active) {
            return self.end(ike_spi, Reason::IdleTimeout);
        }
        if service.accounting && session.accounted.is_some_and(|last| over(interim, last)) {
            session.accounted = Some(now);
            let seconds = u32::try_from(now.saturating_duration_since(begin).as_secs()).unwrap_or(u32::MAX);
            self.outbox
                .push(record(session, AccountingKind::Interim, seconds, time, None));
        }
    }

    fn end(&mut self, ike_spi: u64, reason: Reason) {
        let Some(session) = self.sessions.get_mut(ike_spi) else {
            return;
        };
        if session.phase == Phase::Disconnecting {
            return;
        }
        if session.phase == Phase::Arrived {
            self.counters.dec(counted::CURRENT_ARRIVED);
        }
        session.phase = Phase::Disconnecting;
        session.ending = Some(reason);
        self.counters.inc(counted::CURRENT_DISCONNECTING);
        self.errands.push(Errand::End(vec![ike_spi], reason));
    }

    /// Adds what has been carried since the last look to the counters.
    fn read_usage(&mut self, ike_spi: u64, reported: Option<Usage>, now: Instant) {
        let Some(session) = self.sessions.get_mut(ike_spi) else {
            return;
        };
        let present = session.spis.iter().filter_map(|spi| self.meter.read(*spi));
        let seen = present.fold(session.past, Usage::plus).max(session.usage);
        let total = reported.map_or(seen, |reported| seen.max(reported));
        if session.restored {
            let known = reported.is_some() || session.spis.iter().all(|spi| self.meter.read(*spi).is_some());
            if known {
                // What was carried until now has been counted by an earlier life.
                session.restored = false;
                session.usage = total;
            }
            return;
        }
        let new = total.since(session.usage);
        if new == Usage::default() {
            return;
        }
        session.usage = total;
        session.active = now;
        for (counter, amount) in [
            (counted::RX_OCTETS, new.bytes_in),
            (counted::TX_OCTETS, new.bytes_out),
            (counted::RX_PACKETS, new.packets_in),
            (counted::TX_PACKETS, new.packets_out),
        ] {
            self.counters.add(counter, amount);
        }
        self.services.of(&session.service).carried(new);
    }

    fn release_address(&mut self, assigned: &Assigned, user: Option<&Identity>, now: Instant) {
        match &assigned.source {
            Source::Block(key) => {
                let hold = user.map_or(0, |_| self.policy.hold(key));
                let nobody = Identity::ip(assigned.address);
                let hold = Duration::from_secs(hold.into());
                self.blocks
                    .give_back(key, assigned.address, hold, user.unwrap_or(&nobody), now);
            }
            Source::Single(context) => {
                self.singles.remove(&(*context, assigned.address));
                let (context, first) = (*context, assigned.address);
                self.errands.push(Errand::GiveBack {
                    context,
                    pool: String::new(),
                    first,
                });
            }
        }
    }

    fn return_spare_blocks(&mut self) {
        while let Some((key, lease)) = self.blocks.spare(|key| !self.policy.is_dynamic(key)) {
            self.changed.blocks = true;
            let pool = key.name.to_string();
            self.errands.push(Errand::GiveBack {
                context: key.context,
                pool,
                first: lease.first,
            });
        }
    }
}

/// A sweep over all sessions takes so many steps ...
const SWEEP_STEPS: usize = 20;
/// ... at this distance.
pub const SWEEP_STEP: Duration = Duration::from_millis(100);
/// With fewer than half of so many addresses free, the next block is fetched.
const PREFETCH: usize = 512;
/// How long a pool that had no block is left alone.
const DRY_SPELL: Duration = Duration::from_secs(5);
/// Sessions ended by one request.
const END_AT_ONCE: usize = 1_000;
/// A session that is not connected after so long is not coming: IKE gives up its half-open SAs much earlier.
const LONGEST_SETUP: Duration = Duration::from_secs(600);

//! What the IKE SAs of an engine share, and what one has at hand while it works.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Random;

use crate::cookie::Cookies;
use crate::engine::EngineConfig;
use crate::event::{Count, DropCause, Event};
use crate::identity::Identity;
use crate::message::{DecodeError, HEADER_LEN};
use crate::output::{IkeSaId, Output, Path, Question, Ticket};
use crate::profile::Profile;
use crate::record::{ROOM, Sink};
use crate::sa::{IkeSa, Proved};
use crate::sad::Sad;
use crate::show::Totals;
use crate::source::Sources;
use crate::table::{Table, Taken};
use crate::timer::Timers;
use crate::unprotected::Limit;

/// RFC 3948 2.2: tells IKE from ESP on the NAT port.
const NON_ESP_MARKER: [u8; 4] = [0; 4];
/// What a NAT keepalive consists of (RFC 3948 2.3).
const NAT_KEEPALIVE: u8 = 0xff;

/// State of the engine apart from the IKE SA that is being worked on.
pub(crate) struct Core {
    pub config: EngineConfig,
    pub random: Box<dyn Random>,
    pub outputs: VecDeque<Output>,
    pub table: Table,
    pub timers: Timers,
    pub profiles: HashMap<IpAddr, Arc<Profile>>,
    pub cookies: Cookies,
    /// Half-open IKE SAs by initiator SPI and addresses, to know a retransmitted IKE_SA_INIT (RFC 7296 2.1).
    pub half_open: HashMap<(u64, Path), IkeSaId>,
    /// How many half-open IKE SAs come from where.
    pub sources: Sources,
    /// Octets that IKE SAs in set-up keep.
    pub setup_octets: usize,
    /// IKE SAs whose set-up failed and that linger.
    pub failed: u32,
    /// Established IKE SAs by hash of the identities, for INITIAL_CONTACT.
    pub peers: BTreeSet<(u64, IkeSaId)>,
    pub totals: Totals,
    /// Answers to requests for IKE SAs that do not exist.
    pub unknown_answers: Limit,
    pub next_serial: u32,
    /// IKE SAs that were worked on, or went, since the last checkpoint, in this order.
    pub changed: Vec<IkeSaId>,
    /// Where records are written; kept for its room.
    pub sink: Option<Sink>,
    /// Restored IKE SAs whose rekey met one of the peer.
    pub contested: Vec<IkeSaId>,
    /// Child SAs that were restored, until all are.
    pub claimed: HashSet<u32>,
    /// Where records are read from; kept for its room.
    pub loaded: Vec<u8>,
    /// No new IKE SAs are accepted.
    pub congested: bool,
}

/// What an IKE SA has at hand while it works: the time, the SAD, and everything but itself.
pub(crate) struct Env<'a> {
    pub now: Instant,
    pub sad: &'a mut dyn Sad,
    pub core: &'a mut Core,
    /// Where the request came from that is being answered.
    pub reply_path: Option<Path>,
}

impl Core {
    pub fn new(config: EngineConfig, random: Box<dyn Random>) -> Self {
        Self {
            table: Table::new(&config.slots, config.max_ike_sas),
            random,
            outputs: VecDeque::new(),
            timers: Timers::default(),
            profiles: HashMap::new(),
            cookies: Cookies::new(),
            half_open: HashMap::new(),
            sources: Sources::default(),
            setup_octets: 0,
            failed: 0,
            peers: BTreeSet::new(),
            totals: Totals::default(),
            unknown_answers: Limit::default(),
            next_serial: 0,
            changed: Vec::new(),
            sink: config.epoch.map(Sink::new),
            contested: Vec::new(),
            claimed: HashSet::new(),
            loaded: Vec::with_capacity(if config.rests { ROOM } else { 0 }),
            congested: false,
            config,
        }
    }
}

impl Env<'_> {
    pub fn event(&mut self, event: Event) {
        self.core.outputs.push_back(Output::Event(event));
    }

    pub fn count(&mut self, count: Count) {
        self.event(Event::Count(count));
    }

    pub fn drop(&mut self, remote: SocketAddr, cause: DropCause) {
        self.event(Event::Dropped { remote, cause });
    }

    pub fn undecodable(&mut self, remote: SocketAddr, error: DecodeError) {
        self.event(Event::Undecodable { remote, error });
        self.drop(remote, DropCause::Undecodable);
    }

    /// Sends datagrams, one after the other in `datagrams`, each stating its length in its IKE header.
    pub fn transmit(&mut self, path: Path, datagrams: &[u8]) {
        let mut rest = datagrams;
        while let Some(length) = stated_length(rest) {
            let (datagram, after) = rest.split_at(length);
            rest = after;
            let marked = path.local.port() == self.core.config.nat_port;
            let mut bytes = Vec::with_capacity(datagram.len() + NON_ESP_MARKER.len());
            if marked {
                bytes.extend_from_slice(&NON_ESP_MARKER);
            }
            bytes.extend_from_slice(datagram);
            self.core.outputs.push_back(Output::Transmit { path, bytes });
        }
    }

    pub fn transmit_keepalive(&mut self, path: Path) {
        self.core.outputs.push_back(Output::Transmit {
            path,
            bytes: vec![NAT_KEEPALIVE],
        });
    }

    /// True if IKE SAs in set-up keep as much as they may.
    pub fn is_setup_memory_full(&self) -> bool {
        self.core.setup_octets >= self.core.config.max_setup_octets
    }

    /// Asks the shell. The serial is to be remembered; an answer with another is late.
    pub fn ask(&mut self, ike: IkeSaId, profile: &Arc<Profile>, question: Question) -> u32 {
        self.core.next_serial = self.core.next_serial.wrapping_add(1);
        let serial = self.core.next_serial;
        self.core.outputs.push_back(Output::Ask {
            ticket: Ticket { ike, serial },
            profile: Arc::clone(profile),
            question,
        });
        serial
    }

    pub fn random(&mut self) -> &mut dyn Random {
        &mut *self.core.random
    }

    pub fn nonce(&mut self) -> [u8; 32] {
        self.random().array()
    }

    /// A part of `whole` between `low` and `high` per mille, at random.
    pub fn jitter(&mut self, whole: Duration, low: u32, high: u32) -> Duration {
        let spread = high.saturating_sub(low).max(1);
        let mille = low + self.random().u32() % spread;
        whole.saturating_mul(mille) / 1000
    }

    /// Takes an IKE SA out of the table, to work on it; one that rests wakes up.
    pub fn take(&mut self, id: IkeSaId) -> Option<Box<IkeSa>> {
        match self.core.table.take(id)? {
            Taken::Awake(sa) => Some(sa),
            Taken::Resting(rest) => rest.wake(self, id),
        }
    }

    /// Works on another IKE SA than the one in hand, and cleans up after it.
    pub fn with(&mut self, id: IkeSaId, work: impl FnOnce(&mut IkeSa, &mut Env<'_>)) -> bool {
        let Some(mut sa) = self.take(id) else {
            return false;
        };
        let reply_path = self.reply_path.take();
        work(&mut sa, self);
        self.reply_path = reply_path;
        self.put_back(sa);
        true
    }

    /// Puts an IKE SA that was worked on back into the table, or lets it go if it is dead.
    pub fn put_back(&mut self, mut sa: Box<IkeSa>) {
        if sa.is_dead() {
            sa.forget(self);
            sa.note_groups(self);
            self.note_changed(&mut sa);
            self.core.table.release(sa.id);
            return;
        }
        sa.note_memory(self);
        sa.note_groups(self);
        sa.arm(self);
        self.note_changed(&mut sa);
        self.core.table.put(sa);
    }

    /// The next checkpoint is to look at this IKE SA.
    pub fn note_changed(&mut self, sa: &mut IkeSa) {
        if self.core.sink.is_some() && !sa.touched {
            sa.touched = true;
            self.core.changed.push(sa.id);
        }
    }
}

/// Hash of the two ends of an IKE SA: where to look for others between the same.
pub(crate) fn peer_key(local: &Identity, peer: Proved<'_>) -> u64 {
    let mut hasher = DefaultHasher::new();
    (local, peer).hash(&mut hasher);
    hasher.finish()
}

/// The length that the IKE header at the front states, if that much is there.
pub(crate) fn stated_length(datagrams: &[u8]) -> Option<usize> {
    let field = datagrams.get(24..HEADER_LEN)?;
    let length = u32::from_be_bytes(field.try_into().ok()?) as usize;
    (HEADER_LEN..=datagrams.len()).contains(&length).then_some(length)
}

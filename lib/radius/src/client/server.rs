//! One server as the client sees it: identifiers in use, health, counters.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::config::{DeadServer, IDENTIFIERS, Server};
use crate::counter::{Counter, Counters};

/// Whether a server gets new requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerState {
    /// It does.
    Active,
    /// Only if no other server is active, until this moment.
    Down {
        /// When it becomes active again, repaired or not.
        until: Instant,
    },
}

/// What there is to show about a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerStatus<'a> {
    /// Where it listens.
    pub address: SocketAddr,
    /// Smaller is better.
    pub priority: u32,
    /// Whether it gets new requests.
    pub state: ServerState,
    /// Requests that wait for its answer.
    pub pending: usize,
    /// Requests in a row that it has not answered.
    pub consecutive_failures: u32,
    /// Time its last answer took.
    pub roundtrip: Option<Duration>,
    /// What has happened so far.
    pub counters: &'a Counters,
}

/// A server with its state.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) server: Server,
    pub(super) state: ServerState,
    pub(super) counters: Counters,
    /// The ticket that uses an identifier; index = port * 256 + identifier.
    slots: Vec<Option<u64>>,
    next_slot: usize,
    used: usize,
    consecutive_failures: u32,
    /// First transmission since the last answer.
    silent_since: Option<Instant>,
    roundtrip: Option<Duration>,
}

impl Record {
    pub(super) fn new(server: Server) -> Self {
        Self {
            server,
            state: ServerState::Active,
            counters: Counters::default(),
            slots: Vec::new(),
            next_slot: 0,
            used: 0,
            consecutive_failures: 0,
            silent_since: None,
            roundtrip: None,
        }
    }

    /// Makes room for the identifiers of so many ports. Never shrinks: requests may be under way.
    pub(super) fn reserve(&mut self, ports: u16) {
        let slots = usize::from(ports) * usize::from(IDENTIFIERS);
        if slots > self.slots.len() {
            self.slots.resize(slots, None);
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.state == ServerState::Active
    }

    /// Takes the identifier that has rested longest.
    pub(super) fn take_slot(&mut self, ticket: u64) -> Option<usize> {
        let length = self.slots.len();
        let slot = (0..length)
            .map(|step| (self.next_slot + step) % length)
            .find(|&slot| self.slots.get(slot).is_some_and(Option::is_none))?;
        *self.slots.get_mut(slot)? = Some(ticket);
        self.next_slot = slot + 1;
        self.used += 1;
        Some(slot)
    }

    pub(super) fn free_slot(&mut self, slot: usize) {
        if self.slots.get_mut(slot).and_then(Option::take).is_some() {
            self.used -= 1;
        }
    }

    /// Who waits for an answer with this identifier on this port.
    pub(super) fn waiting(&self, port: u16, identifier: u8) -> Option<u64> {
        let slot = usize::from(port) * usize::from(IDENTIFIERS) + usize::from(identifier);
        self.slots.get(slot).copied().flatten()
    }

    pub(super) fn sent(&mut self, now: Instant) {
        self.silent_since.get_or_insert(now);
    }

    /// An answer came. True when the server was down before.
    pub(super) fn answered(&mut self, roundtrip: Duration) -> bool {
        self.roundtrip = Some(roundtrip);
        let was_down = !self.is_active();
        self.revive();
        was_down
    }

    /// The server counts as healthy from now on.
    pub(super) fn revive(&mut self) {
        self.state = ServerState::Active;
        self.consecutive_failures = 0;
        self.silent_since = None;
    }

    /// A request got no answer after all its retries. True when the server is dead by that.
    pub(super) fn failed(&mut self, now: Instant, rule: DeadServer, deadtime: Duration) -> bool {
        self.counters.add(Counter::RequestTimeouts);
        self.consecutive_failures = self.consecutive_failures.saturating_add(1);
        let silent = self
            .silent_since
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let conditions = [
            rule.consecutive_failures
                .map(|limit| self.consecutive_failures >= limit),
            rule.response_timeout.map(|limit| silent >= limit),
        ];
        let mut set = conditions.into_iter().flatten().peekable();
        let dead = self.is_active() && set.peek().is_some() && set.all(|met| met);
        if dead {
            self.counters.add(Counter::DeclaredDead);
            self.state = ServerState::Down {
                until: now + deadtime,
            };
        }
        dead
    }

    pub(super) fn status(&self) -> ServerStatus<'_> {
        ServerStatus {
            address: self.server.address,
            priority: self.server.priority,
            state: self.state,
            pending: self.used,
            consecutive_failures: self.consecutive_failures,
            roundtrip: self.roundtrip,
            counters: &self.counters,
        }
    }
}

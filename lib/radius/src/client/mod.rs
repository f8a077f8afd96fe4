//! The client: hands requests to servers, repeats them, moves on from servers that do not answer.
//!
//! A request is sent to one server, then again after each `timeout` up to `max_retries` times. After that the server has failed once
//! more and the request goes to the next server it has not been to. A server that failed often enough is down for `deadtime`: it gets
//! requests only if no server is active, and any answer brings it back.
//!
//! ```text
//!  submit --> queue --> waiting for an answer of server 1 --timeouts--> ... of server 2 --timeouts--> Completed(Timeout)
//!                           | verified reply
//!                           '--> Completed(Reply)
//! ```
//!
//! What the shell does: after every call take all [`Output`]s, and call [`Client::handle_timeout`] at [`Client::next_timeout`].

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crypto::Random;

mod config;
mod server;
#[cfg(test)]
mod tests;

pub use config::{Algorithm, Config, DeadServer, MAX_OUTSTANDING, Server, Service};
pub use server::{ServerState, ServerStatus};

use crate::counter::{Counter, Counters};
use crate::error::{EncodeError, SubmitError};
use crate::packet::{Code, Packet};
use crate::reply::{Reply, verify};
use crate::request::{Encoded, Request};
use config::IDENTIFIERS;
use server::Record;

/// Names a request that has been submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What the shell has to do.
#[derive(Debug)]
pub enum Output {
    /// Send a datagram.
    Transmit {
        /// To whom.
        server: SocketAddr,
        /// From which of the source ports, counted from 0.
        port: u16,
        /// What.
        bytes: Vec<u8>,
    },
    /// A request is over.
    Completed(Completion),
    /// A server counts as dead from now on.
    ServerDown(SocketAddr),
    /// A dead server counts as alive again: it answered, or its deadtime is over.
    ServerUp(SocketAddr),
}

/// The end of a request.
#[derive(Debug)]
pub struct Completion {
    /// Which.
    pub ticket: Ticket,
    /// The reply, verified, or why there is none.
    pub result: Result<Reply, Failure>,
}

/// Why a request got no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No server answered.
    Timeout,
    /// The only server that could be asked is no longer configured.
    ServerRemoved,
    /// The request cannot be written as a packet.
    Encode(EncodeError),
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Timeout => f.write_str("no RADIUS server answered"),
            Self::ServerRemoved => f.write_str("the RADIUS server of this conversation was removed"),
            Self::Encode(error) => write!(f, "request cannot be encoded: {error}"),
        }
    }
}

/// A RADIUS client for the servers of one service. One exists per AAA group and service; it lives as long as the group is configured.
pub struct Client {
    service: Service,
    config: Config,
    random: Box<dyn Random>,
    /// By priority.
    servers: Vec<Record>,
    requests: HashMap<u64, Pending>,
    queue: VecDeque<u64>,
    timers: BTreeSet<(Instant, u64)>,
    outputs: VecDeque<Output>,
    next_ticket: u64,
    round: usize,
    strays: u64,
}

/// A request that has not completed.
#[derive(Debug)]
struct Pending {
    request: Request,
    tried: Vec<SocketAddr>,
    transmissions: u32,
    sent: Option<Sent>,
}

/// A request under way to a server.
#[derive(Debug)]
struct Sent {
    server: SocketAddr,
    slot: usize,
    encoded: Encoded,
    retries: u32,
    last: Instant,
    deadline: Instant,
}

impl Client {
    /// A client without requests. `random` makes Request Authenticators.
    pub fn new(service: Service, config: Config, random: Box<dyn Random>) -> Self {
        let mut client = Self {
            service,
            config: Config::default(),
            random,
            servers: Vec::new(),
            requests: HashMap::new(),
            queue: VecDeque::new(),
            timers: BTreeSet::new(),
            outputs: VecDeque::new(),
            next_ticket: 1,
            round: 0,
            strays: 0,
        };
        client.adopt(config);
        client
    }

    /// Takes other settings. Servers that stay keep their state and counters; requests under way to a server that is gone, or whose
    /// secret has changed, start anew.
    pub fn reconfigure(&mut self, now: Instant, config: Config) {
        let changed: Vec<SocketAddr> = self
            .servers
            .iter()
            .map(|record| &record.server)
            .filter(|old| {
                !config
                    .servers
                    .iter()
                    .any(|new| new.address == old.address && new.secret == old.secret)
            })
            .map(|old| old.address)
            .collect();
        let mut restart: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, pending)| {
                pending
                    .sent
                    .as_ref()
                    .is_some_and(|sent| changed.contains(&sent.server))
            })
            .map(|(&id, _)| id)
            .collect();
        restart.sort_unstable();
        for &id in &restart {
            self.withdraw(id);
        }
        self.adopt(config);
        for id in restart {
            self.dispatch(now, id);
        }
        self.advance(now);
    }

    /// Takes a request. It is sent at once if the number of outstanding requests allows, otherwise it waits.
    pub fn submit(&mut self, now: Instant, request: Request) -> Result<Ticket, SubmitError> {
        if self.servers.is_empty() {
            return Err(SubmitError::NoServer);
        }
        if request
            .server
            .is_some_and(|address| self.record(address).is_none())
        {
            return Err(SubmitError::UnknownServer);
        }
        if self.queue.len() >= self.config.queue_limit {
            return Err(SubmitError::QueueFull);
        }
        let id = self.next_ticket;
        self.next_ticket += 1;
        self.requests.insert(
            id,
            Pending {
                request,
                tried: Vec::new(),
                transmissions: 0,
                sent: None,
            },
        );
        self.queue.push_back(id);
        self.advance(now);
        Ok(Ticket(id))
    }

    /// Forgets a request: no more transmissions, no completion.
    pub fn cancel(&mut self, now: Instant, ticket: Ticket) {
        self.withdraw(ticket.0);
        if self.requests.remove(&ticket.0).is_some() {
            self.queue.retain(|&id| id != ticket.0);
        }
        self.advance(now);
    }

    /// A datagram came from `from` to source port number `port`. Whatever is wrong with it is counted, and it is ignored.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, port: u16, datagram: &[u8]) {
        let service = self.service;
        let Some(record) = self
            .servers
            .iter_mut()
            .find(|record| record.server.address == from)
        else {
            self.strays += 1;
            return;
        };
        let packet = match Packet::decode(datagram) {
            Ok(packet) => packet,
            Err(_) => return record.counters.add(Counter::Malformed),
        };
        let Some(kind) = reply_counter(service, packet.code()) else {
            return record.counters.add(Counter::UnknownType);
        };
        let waiting = record.waiting(port, packet.identifier());
        let Some((id, sent)) = waiting.and_then(|id| Some((id, self.requests.get(&id)?.sent.as_ref()?)))
        else {
            return record.counters.add(Counter::Dropped);
        };
        if let Err(cause) = verify(
            packet,
            service,
            &sent.encoded.authenticator,
            &record.server.secret,
        ) {
            return record.counters.add(cause);
        }
        if packet.check_values().is_err() {
            return record.counters.add(Counter::MalformedAttribute);
        }
        record.counters.add(kind);
        if record.answered(now.saturating_duration_since(sent.last)) {
            self.outputs.push_back(Output::ServerUp(from));
        }
        let reply = Reply::new(
            from,
            packet,
            sent.encoded.authenticator,
            record.server.secret.clone(),
        );
        self.complete(id, Ok(reply));
        self.advance(now);
    }

    /// The moment to call [`Self::handle_timeout`], if any.
    pub fn next_timeout(&self) -> Option<Instant> {
        let revival = self.servers.iter().filter_map(|record| match record.state {
            ServerState::Down { until } => Some(until),
            ServerState::Active => None,
        });
        self.timers
            .first()
            .map(|&(deadline, _)| deadline)
            .into_iter()
            .chain(revival)
            .min()
    }

    /// Does what is due at `now`: repeats requests, moves them on, gives them up, revives servers.
    pub fn handle_timeout(&mut self, now: Instant) {
        for record in &mut self.servers {
            if matches!(record.state, ServerState::Down { until } if until <= now) {
                record.revive();
                self.outputs.push_back(Output::ServerUp(record.server.address));
            }
        }
        while let Some(&(deadline, id)) = self.timers.first() {
            if deadline > now {
                break;
            }
            self.timers.pop_first();
            self.expire(now, id);
        }
        self.advance(now);
    }

    /// What the shell has to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The servers, by priority.
    pub fn servers(&self) -> impl Iterator<Item = ServerStatus<'_>> {
        self.servers.iter().map(Record::status)
    }

    /// Sets all counters to zero.
    pub fn clear_counters(&mut self) {
        self.servers
            .iter_mut()
            .for_each(|record| record.counters = Counters::default());
        self.strays = 0;
    }

    /// Requests that wait because too many are outstanding.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Requests that wait for an answer.
    pub fn outstanding(&self) -> usize {
        self.requests.len() - self.queue.len()
    }

    /// Datagrams from addresses that are no servers of ours.
    pub fn strays(&self) -> u64 {
        self.strays
    }

    fn adopt(&mut self, config: Config) {
        let mut old = std::mem::take(&mut self.servers);
        let mut wanted = config.servers.clone();
        wanted.sort_by_key(|server| server.priority);
        for server in wanted {
            if self.record(server.address).is_some() {
                continue;
            }
            let known = old
                .iter()
                .position(|record| record.server.address == server.address);
            let mut record = match known {
                Some(index) => {
                    let mut record = old.swap_remove(index);
                    record.server = server;
                    record
                }
                None => Record::new(server),
            };
            record.reserve(config.ports());
            self.servers.push(record);
        }
        let timeout = config.timeout.max(MIN_TIMEOUT);
        self.config = Config { timeout, ..config };
    }

    /// Sends requests from the queue as far as the limit allows.
    fn advance(&mut self, now: Instant) {
        while self.outstanding() < usize::from(self.config.outstanding()) {
            let Some(id) = self.queue.pop_front() else { break };
            self.dispatch(now, id);
        }
    }

    /// Sends a request to the next server, or completes it when there is none left.
    fn dispatch(&mut self, now: Instant, id: u64) {
        let Some(pending) = self.requests.get(&id) else {
            return;
        };
        let server = match pending.request.server {
            Some(address) if self.record(address).is_none() => {
                return self.complete(id, Err(Failure::ServerRemoved));
            }
            Some(address) => Some(address).filter(|address| !pending.tried.contains(address)),
            None => self.choose(id),
        };
        match server {
            Some(server) => self.send(now, id, server),
            None => self.complete(id, Err(Failure::Timeout)),
        }
    }

    /// The best server a request has not been to: an active one, or any if none is active.
    fn choose(&mut self, id: u64) -> Option<SocketAddr> {
        let tried = &self.requests.get(&id)?.tried;
        let none_active = !self.servers.iter().any(Record::is_active);
        let candidates: Vec<SocketAddr> = self
            .servers
            .iter()
            .filter(|record| none_active || record.is_active())
            .map(|record| record.server.address)
            .filter(|address| !tried.contains(address))
            .collect();
        if candidates.is_empty() || self.config.algorithm == Algorithm::FirstServer {
            return candidates.first().copied();
        }
        self.round = self.round.wrapping_add(1);
        candidates
            .get(self.round.wrapping_sub(1) % candidates.len())
            .copied()
    }

    fn send(&mut self, now: Instant, id: u64, server: SocketAddr) {
        let authenticator = self.random.array();
        let deadline = now + self.config.timeout;
        let Some(record) = self
            .servers
            .iter_mut()
            .find(|record| record.server.address == server)
        else {
            return;
        };
        let Some(pending) = self.requests.get_mut(&id) else {
            return;
        };
        // There is an identifier for every outstanding request, so this only fails if the limit was lowered meanwhile.
        let Some(slot) = record.take_slot(id) else {
            return self.queue.push_back(id);
        };
        let (port, identifier) = split(slot);
        let encoded = pending
            .request
            .encode(self.service, identifier, &record.server.secret, authenticator);
        let encoded = match encoded {
            Ok(encoded) => encoded,
            Err(error) => {
                record.free_slot(slot);
                return self.complete(id, Err(Failure::Encode(error)));
            }
        };
        record.counters.add(Counter::RequestsSent);
        record.sent(now);
        self.outputs.push_back(Output::Transmit {
            server,
            port,
            bytes: encoded.bytes.clone(),
        });
        pending.transmissions += 1;
        pending.sent = Some(Sent {
            server,
            slot,
            encoded,
            retries: 0,
            last: now,
            deadline,
        });
        self.timers.insert((deadline, id));
    }

    /// The timer of a request ran out: again to the same server, or on to the next.
    fn expire(&mut self, now: Instant, id: u64) {
        let config = &self.config;
        let other_active = |server| {
            self.servers
                .iter()
                .any(|record| record.is_active() && record.server.address != server)
        };
        let Some(pending) = self.requests.get_mut(&id) else {
            return;
        };
        let Some(sent) = pending.sent.as_mut() else { return };
        let exhausted = config
            .max_transmissions
            .is_some_and(|limit| pending.transmissions >= limit);
        let deserted = pending.request.server.is_none() && other_active(sent.server);
        let Some(record) = self
            .servers
            .iter_mut()
            .find(|record| record.server.address == sent.server)
        else {
            return;
        };
        if sent.retries < config.max_retries && !exhausted && (record.is_active() || !deserted) {
            sent.retries += 1;
            sent.last = now;
            sent.deadline = now + config.timeout;
            pending.transmissions += 1;
            record.counters.add(Counter::RequestsRetried);
            record.sent(now);
            let (port, _) = split(sent.slot);
            let bytes = sent.encoded.bytes.clone();
            self.outputs.push_back(Output::Transmit {
                server: sent.server,
                port,
                bytes,
            });
            self.timers.insert((sent.deadline, id));
            return;
        }
        if record.failed(now, config.dead_server, config.deadtime) {
            self.outputs.push_back(Output::ServerDown(sent.server));
        }
        pending.tried.push(sent.server);
        self.withdraw(id);
        match exhausted {
            true => self.complete(id, Err(Failure::Timeout)),
            false => self.dispatch(now, id),
        }
    }

    /// Takes a request back from the server it is under way to.
    fn withdraw(&mut self, id: u64) {
        let Some(sent) = self.requests.get_mut(&id).and_then(|pending| pending.sent.take()) else {
            return;
        };
        self.timers.remove(&(sent.deadline, id));
        if let Some(record) = self
            .servers
            .iter_mut()
            .find(|record| record.server.address == sent.server)
        {
            record.free_slot(sent.slot);
        }
    }

    fn complete(&mut self, id: u64, result: Result<Reply, Failure>) {
        self.withdraw(id);
        self.requests.remove(&id);
        self.outputs.push_back(Output::Completed(Completion {
            ticket: Ticket(id),
            result,
        }));
    }

    fn record(&self, address: SocketAddr) -> Option<&Record> {
        self.servers
            .iter()
            .find(|record| record.server.address == address)
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("service", &self.service)
            .field("servers", &self.servers.len())
            .field("outstanding", &self.outstanding())
            .finish_non_exhaustive()
    }
}

/// What a packet type counts as, if it answers a request of the service.
fn reply_counter(service: Service, code: Code) -> Option<Counter> {
    match (service, code) {
        (Service::Authentication, Code::AccessAccept) => Some(Counter::AcceptsReceived),
        (Service::Authentication, Code::AccessReject) => Some(Counter::RejectsReceived),
        (Service::Authentication, Code::AccessChallenge) => Some(Counter::ChallengesReceived),
        (Service::Accounting, Code::AccountingResponse) => Some(Counter::ResponsesReceived),
        _ => None,
    }
}

/// Port number and identifier of a slot.
fn split(slot: usize) -> (u16, u8) {
    let identifiers = usize::from(IDENTIFIERS);
    ((slot / identifiers) as u16, (slot % identifiers) as u8)
}

/// A timeout of zero would repeat requests without end in one call.
const MIN_TIMEOUT: Duration = Duration::from_millis(1);

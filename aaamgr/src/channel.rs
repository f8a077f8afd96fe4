//! The servers of a group for one service, with what has happened to them.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use crypto::SystemRandom;
use radius::{Client, Completion, Counter, Output, ServerState, ServerStatus};
use telemetry::Counters;
use telemetry::counters::aaa;
use telemetry::events::{
    self, AaaAccServerReachable, AaaAccServerUnreachable, AaaAuthServerReachable, AaaAuthServerUnreachable,
    AaaServerMisconfigured,
};

use crate::settings::{ChannelKey, ChannelSettings, Secrets};

/// A datagram to be sent from one of the ports of a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    /// The channel.
    pub channel: ChannelKey,
    /// Which of its source ports.
    pub port: u16,
    /// To whom.
    pub server: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// A change of the state of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// When.
    pub time: SystemTime,
    /// Active from then on, or down.
    pub active: bool,
}

/// A client with its servers' history.
pub struct Channel {
    key: ChannelKey,
    client: Client,
    history: HashMap<SocketAddr, VecDeque<Change>>,
    counters: Counters,
    /// What the client had counted when it was last looked at: retries, dropped replies, wrong authenticators by server.
    seen: Seen,
}

#[derive(Default)]
struct Seen {
    sent: u64,
    retried: u64,
    dropped: u64,
    forged: HashMap<SocketAddr, u64>,
}

impl Channel {
    /// A channel without requests.
    pub fn new(key: ChannelKey, settings: &ChannelSettings, secrets: &Secrets, counters: Counters) -> Self {
        let client = Client::new(key.service(), settings.client(secrets), Box::new(SystemRandom));
        Self {
            key,
            client,
            history: HashMap::new(),
            counters,
            seen: Seen::default(),
        }
    }

    /// Takes other settings.
    pub fn reconfigure(&mut self, settings: &ChannelSettings, secrets: &Secrets, now: Instant) {
        self.client.reconfigure(now, settings.client(secrets));
    }

    /// The client.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The client, to be used. Take what came of it with [`Self::drain`].
    pub fn client_mut(&mut self) -> &mut Client {
        &mut self.client
    }

    /// Changes of the state of a server, the latest last.
    pub fn history(&self, server: SocketAddr) -> impl Iterator<Item = &Change> {
        self.history.get(&server).into_iter().flatten()
    }

    /// Takes what has come of using the client: datagrams to be sent, requests that are over. Tells events, moves counters.
    pub fn drain(&mut self, datagrams: &mut Vec<Datagram>) -> Vec<Completion> {
        let mut completions = Vec::new();
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Transmit { server, port, bytes } => {
                    datagrams.push(Datagram {
                        channel: self.key.clone(),
                        port,
                        server,
                        bytes,
                    });
                }
                Output::Completed(completion) => completions.push(completion),
                Output::ServerDown(server) => self.changed(server, false),
                Output::ServerUp(server) => self.changed(server, true),
            }
        }
        self.count();
        completions
    }

    fn changed(&mut self, server: SocketAddr, active: bool) {
        let history = self.history.entry(server).or_default();
        if history.len() >= HISTORY {
            history.pop_front();
        }
        history.push_back(Change {
            time: SystemTime::now(),
            active,
        });
        let (index, address) = (self.index(server), server.ip());
        match (self.key.accounting, active) {
            (false, false) => events::emit(&AaaAuthServerUnreachable { index, address }),
            (false, true) => events::emit(&AaaAuthServerReachable { index, address }),
            (true, false) => events::emit(&AaaAccServerUnreachable { index, address }),
            (true, true) => events::emit(&AaaAccServerReachable { index, address }),
        }
    }

    /// Moves the counters of the node by what the client has counted since the last time.
    fn count(&mut self) {
        let mut now = Seen::default();
        for status in self.client.servers() {
            let of = |counter| status.counters.get(counter);
            now.sent += of(Counter::RequestsSent);
            now.retried += of(Counter::RequestsRetried);
            now.dropped += of(Counter::Dropped);
            now.forged.insert(status.address, forged(&status));
        }
        let (sent, retried, dropped) = match self.key.accounting {
            false => (
                aaa::RADIUS_AUTH_REQUESTS,
                aaa::RADIUS_AUTH_RETRIED,
                aaa::RADIUS_AUTH_DROPPED,
            ),
            true => (
                aaa::RADIUS_ACCT_REQUESTS,
                aaa::RADIUS_ACCT_RETRIED,
                aaa::RADIUS_ACCT_DROPPED,
            ),
        };
        // Counters of servers that are gone or were cleared count from zero again.
        self.counters.add(sent, now.sent.saturating_sub(self.seen.sent));
        self.counters
            .add(retried, now.retried.saturating_sub(self.seen.retried));
        self.counters
            .add(dropped, now.dropped.saturating_sub(self.seen.dropped));
        for (&server, &count) in &now.forged {
            if count > self.seen.forged.get(&server).copied().unwrap_or(0) {
                events::emit(&AaaServerMisconfigured {
                    index: self.index(server),
                    address: server.ip(),
                });
            }
        }
        self.seen = now;
    }

    /// Number of a server in its list, from 1.
    fn index(&self, server: SocketAddr) -> u32 {
        let place = self.client.servers().position(|status| status.address == server);
        place.map_or(0, |place| u32::try_from(place + 1).unwrap_or(u32::MAX))
    }
}

/// Replies of a server that were not believed.
fn forged(status: &ServerStatus<'_>) -> u64 {
    let causes = [
        Counter::BadAuthenticator,
        Counter::BadMessageAuthenticator,
        Counter::NoMessageAuthenticator,
    ];
    causes.iter().map(|counter| status.counters.get(*counter)).sum()
}

/// The word for a state in `show`.
pub fn state_name(state: ServerState) -> &'static str {
    match state {
        ServerState::Active => "Active",
        ServerState::Down { .. } => "Down",
    }
}

/// Changes remembered for each server.
const HISTORY: usize = 20;

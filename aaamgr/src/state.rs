//! Everything `aaamgr` knows, and what happens to it. No I/O but the spool's file: datagrams to be sent are collected for the loop.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bus::messages::aaamgr::{AccountingRecord, EapAnswer, EapRound};
use radius::{Completion, Ticket};
use telemetry::Counters;
use telemetry::counters::aaa;

use crate::attributes::{access_request, accounting_request};
use crate::channel::{Channel, Datagram};
use crate::conversations::{Answer, Conversation, ConversationKey, Conversations, Next, Wiped};
use crate::repeats::Asked;
use crate::settings::{ChannelKey, GroupKey, Nas, Secrets, Settings};
use crate::spool::Spool;

/// The state.
pub struct State {
    /// What the configuration says.
    pub settings: Settings,
    /// Clients by group and service.
    pub channels: BTreeMap<ChannelKey, Channel>,
    /// EAP under way.
    pub conversations: Conversations,
    /// Accounting records that are not delivered.
    pub spool: Spool,
    /// Datagrams to be sent.
    pub datagrams: Vec<Datagram>,
    /// Our addresses towards the servers of groups that configure none.
    pub found_addresses: HashMap<GroupKey, IpAddr>,
    /// Records under way, by channel and ticket.
    sending: HashMap<(ChannelKey, Ticket), u64>,
    /// The counters of this task.
    pub counters: Counters,
}

impl State {
    /// No groups yet; the records of an earlier life.
    pub fn new(counters: Counters, spool: Spool) -> Self {
        Self {
            settings: Settings::default(),
            channels: BTreeMap::new(),
            conversations: Conversations::default(),
            spool,
            datagrams: Vec::new(),
            found_addresses: HashMap::new(),
            sending: HashMap::new(),
            counters,
        }
    }

    /// Takes a new configuration, with the secrets that could be revealed.
    pub fn configure(&mut self, settings: Settings, secrets: &Secrets, now: Instant) {
        for (key, channel) in &mut self.channels {
            if !settings.channels.contains_key(key) {
                // Requests under way complete without an answer.
                channel.client_mut().reconfigure(now, radius::Config::default());
            }
        }
        for (key, wanted) in &settings.channels {
            match self.channels.get_mut(key) {
                Some(channel) => channel.reconfigure(wanted, secrets, now),
                None => {
                    let channel = Channel::new(key.clone(), wanted, secrets, self.counters.clone());
                    self.channels.insert(key.clone(), channel);
                }
            }
        }
        self.settings = settings;
        self.settle(now);
        self.channels
            .retain(|key, _| self.settings.channels.contains_key(key));
        self.deliver(now);
    }

    /// A round of EAP came from an `ipsecmgr`.
    pub fn round(&mut self, round: EapRound, answer: Answer, now: Instant) {
        let key = round.ike_spi;
        if round.abandon {
            self.give_up(&key, now);
            return answer(Wiped::default());
        }
        let asked = Asked::of(&round);
        let Some(answer) = self.conversations.repeat(&key, &asked, answer) else {
            return;
        };
        if round.eap.is_empty() {
            self.give_up(&key, now);
            return self.begin(key, &round, answer, now);
        }
        let Some(conversation) = self.conversations.get_mut(&key) else {
            return fail(
                answer,
                "the conversation is not known here (aaamgr was restarted)",
            );
        };
        if conversation.pending.is_some() {
            return fail(answer, "the last round of this peer is not answered yet");
        }
        let next = conversation.peer_answered(asked, now);
        self.go_on(key, next, answer, now);
    }

    /// Takes accounting records over.
    pub fn account(&mut self, records: Vec<AccountingRecord>, now: Instant) {
        let count = records.len() as u64;
        self.counters.add(aaa::REQUESTS, count);
        self.counters.add(aaa::ACCT_REQUESTS, count);
        self.spool.push(records);
        self.deliver(now);
    }

    /// A datagram came to a port of a channel.
    pub fn receive(
        &mut self,
        channel: &ChannelKey,
        port: u16,
        from: SocketAddr,
        datagram: &[u8],
        now: Instant,
    ) {
        if let Some(channel) = self.channels.get_mut(channel) {
            channel.client_mut().receive(now, from, port, datagram);
        }
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        for channel in self.channels.values_mut() {
            channel.client_mut().handle_timeout(now);
        }
        self.settle(now);
        self.deliver(now);
    }

    /// Gives up peers that have been silent for too long. To be called from time to time.
    pub fn give_up_silent(&mut self, now: Instant) {
        for key in self.conversations.stale(now) {
            self.give_up(&key, now);
        }
        self.conversations.last_words.forget_old(now);
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn next_timeout(&self) -> Option<Instant> {
        let channels = self
            .channels
            .values()
            .filter_map(|channel| channel.client().next_timeout());
        channels.chain(self.spool.next_timeout()).min()
    }

    fn begin(&mut self, key: ConversationKey, round: &EapRound, answer: Answer, now: Instant) {
        self.counters.inc(aaa::REQUESTS);
        self.counters.inc(aaa::AUTH_REQUESTS);
        let Some(group) = self.settings.group_of(&round.context) else {
            self.counters.inc(aaa::AUTH_FAIL);
            return fail(answer, &format!("there is no context {}", round.context));
        };
        let mut conversation = Conversation::new(group, round, now);
        let next = conversation.start(round);
        if !self.conversations.begin(key, conversation) {
            self.counters.inc(aaa::AUTH_FAIL);
            return fail(answer, "too many peers authenticate at once");
        }
        self.go_on(key, next, answer, now);
    }

    /// Does what a conversation wants next.
    fn go_on(&mut self, key: ConversationKey, next: Next, answer: Answer, now: Instant) {
        match next {
            Next::Continue(reply) => {
                if let Some(conversation) = self.conversations.get_mut(&key) {
                    conversation.said(&reply);
                }
                answer(reply);
            }
            Next::End(reply) => {
                let counter = if reply.0.success {
                    aaa::AUTH_SUCCESS
                } else {
                    aaa::AUTH_FAIL
                };
                self.counters.inc(counter);
                self.conversations.conclude(&key, &reply, now);
                answer(reply);
            }
            Next::Ask(response) => match self.ask(&key, &response, now) {
                Ok(ticket) => self.conversations.wait(key, ticket, answer),
                Err(reason) => {
                    let Some(conversation) = self.conversations.get_mut(&key) else {
                        return;
                    };
                    let next = conversation.server_failed(&reason);
                    return self.go_on(key, next, answer, now);
                }
            },
        }
        self.count_current();
        self.settle(now);
    }

    fn ask(&mut self, key: &ConversationKey, response: &[u8], now: Instant) -> Result<Ticket, String> {
        let Some(conversation) = self.conversations.get_mut(key) else {
            return Err("the conversation is over".to_owned());
        };
        let channel = ChannelKey {
            group: conversation.group.clone(),
            accounting: false,
        };
        let (user, station) = (conversation.user().to_vec(), conversation.calling_station.clone());
        let last = conversation.last.take();
        let nas = nas(&self.settings, &self.found_addresses, &channel.group);
        let request = access_request(&nas, &user, &station, response, last.as_ref())
            .map_err(|error| format!("request cannot be encoded: {error}"))?;
        let channel = self.channels.get_mut(&channel).ok_or_else(|| {
            format!(
                "context {} has no radius server in aaa group {}",
                channel.group.context, channel.group.name
            )
        })?;
        channel
            .client_mut()
            .submit(now, request)
            .map_err(|error| error.to_string())
    }

    /// Takes what has come of using the clients, until nothing more comes.
    fn settle(&mut self, now: Instant) {
        loop {
            let mut completions: Vec<(ChannelKey, Completion)> = Vec::new();
            for (key, channel) in &mut self.channels {
                let done = channel.drain(&mut self.datagrams);
                completions.extend(done.into_iter().map(|completion| (key.clone(), completion)));
            }
            if completions.is_empty() {
                return;
            }
            for (key, completion) in completions {
                match key.accounting {
                    true => self.accounted(key, completion, now),
                    false => self.authenticated(&key.group, completion, now),
                }
            }
        }
    }

    fn authenticated(&mut self, group: &GroupKey, completion: Completion, now: Instant) {
        let Some((key, answer)) = self.conversations.completed(group, completion.ticket) else {
            return;
        };
        let Some(conversation) = self.conversations.get_mut(&key) else {
            return;
        };
        let next = match completion.result {
            Ok(reply) => conversation.server_answered(reply, now),
            Err(failure) => {
                self.counters.inc(aaa::AUTH_PURGED);
                conversation.server_failed(&failure.to_string())
            }
        };
        self.go_on(key, next, answer, now);
    }

    fn accounted(&mut self, channel: ChannelKey, completion: Completion, now: Instant) {
        let Some(number) = self.sending.remove(&(channel, completion.ticket)) else {
            return;
        };
        match completion.result {
            Ok(_) => {
                self.counters.inc(aaa::ACCT_SUCCESS);
                self.spool.done(number);
            }
            Err(failure) => {
                tracing::warn!("accounting record {number} waits: {failure}");
                self.counters.inc(aaa::RADIUS_ACCT_PURGED);
                self.spool.postpone(number, now);
            }
        }
    }

    /// Hands records to the clients as far as they have room.
    fn deliver(&mut self, now: Instant) {
        while self.sending.len() < MAX_SENDING {
            let Some((number, record)) = self.spool.next(now) else {
                break;
            };
            let group = self.settings.group_of(&record.context);
            let key = group.map(|group| ChannelKey {
                group,
                accounting: true,
            });
            let Some((key, channel)) = key.and_then(|key| Some((key.clone(), self.channels.get_mut(&key)?)))
            else {
                // Nobody is configured to want it.
                self.counters.inc(aaa::ACCT_PURGED);
                self.spool.done(number);
                continue;
            };
            let nas = nas(&self.settings, &self.found_addresses, &key.group);
            let request = accounting_request(&nas, record).map_err(|error| error.to_string());
            let ticket = request.and_then(|request| {
                channel
                    .client_mut()
                    .submit(now, request)
                    .map_err(|error| error.to_string())
            });
            match ticket {
                Ok(ticket) => drop(self.sending.insert((key, ticket), number)),
                Err(reason) => {
                    tracing::warn!("accounting record {number} waits: {reason}");
                    self.spool.postpone(number, now);
                }
            }
        }
        self.spool.flush();
        self.settle(now);
        self.count_current();
    }

    fn give_up(&mut self, key: &ConversationKey, now: Instant) {
        self.conversations.last_words.forget(key);
        let Some((group, ticket)) = self.conversations.end(key) else {
            return;
        };
        self.counters.inc(aaa::AUTH_CANCELLED);
        if let Some(ticket) = ticket
            && let Some(channel) = self.channels.get_mut(&ChannelKey {
                group,
                accounting: false,
            })
        {
            channel.client_mut().cancel(now, ticket);
        }
        self.count_current();
    }

    fn count_current(&self) {
        let (auth, acct) = (self.conversations.len() as u64, self.spool.len() as u64);
        self.counters.set(aaa::CURRENT_AUTH_REQUESTS, auth);
        self.counters.set(aaa::CURRENT_ACCT_REQUESTS, acct);
        self.counters.set(aaa::CURRENT_REQUESTS, auth + acct);
        let channels = self.channels.iter().filter(|(key, _)| !key.accounting);
        let outstanding = channels
            .map(|(_, channel)| channel.client().outstanding() as u64)
            .sum();
        self.counters.set(aaa::RADIUS_AUTH_CURRENT, outstanding);
    }
}

/// Who we are to the servers of a group.
fn nas(settings: &Settings, found: &HashMap<GroupKey, IpAddr>, group: &GroupKey) -> Nas {
    let configured = settings.groups.get(group).cloned().unwrap_or_default();
    let address = configured.address.or_else(|| found.get(group).copied());
    Nas {
        address,
        ..configured
    }
}

fn fail(answer: Answer, reason: &str) {
    answer(Wiped(EapAnswer {
        failure: reason.to_owned(),
        ..EapAnswer::default()
    }));
}

/// Accounting records handed to clients at a time; the others wait in the spool, in order.
const MAX_SENDING: usize = 512;

#[cfg(test)]
mod tests;

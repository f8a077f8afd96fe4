//! EAP conversations under way: one for each peer that authenticates, between its `ipsecmgr` and a RADIUS server.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bus::messages::aaamgr::{EapAnswer, EapRound};
use eap::{Action, Authenticator, Failure, Start, Verdict};
use radius::{Code, Reply, Ticket};
use zeroize::Zeroize;

use crate::attributes::authorization;
use crate::repeats::{Asked, LastWords};
use crate::settings::GroupKey;

/// Our side of a conversation: the IKE SPI. Its slot is one in the node, and may move from one `ipsecmgr` to another in the middle of a conversation.
pub type ConversationKey = u64;

/// Who gets the answer of a round.
pub type Answer = Box<dyn FnOnce(Wiped) + Send>;

/// An answer whose keys are overwritten when it is dropped.
#[derive(Debug, Default)]
pub struct Wiped(pub EapAnswer);

impl Wiped {
    /// The same once more.
    pub fn again(&self) -> Self {
        Self(self.0.clone())
    }
}

impl Drop for Wiped {
    fn drop(&mut self) {
        self.0.msk.zeroize();
    }
}

/// A conversation.
pub struct Conversation {
    /// The group whose servers are asked.
    pub group: GroupKey,
    /// Outer address of the peer, for the servers.
    pub calling_station: String,
    /// The last reply, which the next request continues.
    pub last: Option<Reply>,
    /// The request under way, and who waits for what comes of it.
    pub pending: Option<(Ticket, Answer)>,
    /// What the peer's last round asked.
    pub asked: Asked,
    /// What it was answered, unless that is pending.
    said: Option<Wiped>,
    authenticator: Authenticator,
    touched: Instant,
}

/// What to do after a round of the peer or a reply of a server.
pub enum Next {
    /// Ask the server, with this EAP response.
    Ask(Vec<u8>),
    /// Answer the peer; the conversation goes on.
    Continue(Wiped),
    /// Answer the peer; the conversation is over.
    End(Wiped),
}

/// All conversations.
#[derive(Default)]
pub struct Conversations {
    all: HashMap<ConversationKey, Conversation>,
    /// Of those that are over.
    pub last_words: LastWords,
    by_ticket: HashMap<(GroupKey, Ticket), ConversationKey>,
}

impl Conversations {
    /// The conversation of a peer.
    pub fn get_mut(&mut self, key: &ConversationKey) -> Option<&mut Conversation> {
        self.all.get_mut(key)
    }

    /// A round that is the same as the last one of its peer is answered like that one, now or when that one is. Gives `answer` back if it
    /// is another round.
    pub fn repeat(&mut self, key: &ConversationKey, asked: &Asked, answer: Answer) -> Option<Answer> {
        let Some(conversation) = self.all.get_mut(key) else {
            match self.last_words.answer(key, asked) {
                Some(said) => answer(said),
                None => return Some(answer),
            }
            return None;
        };
        if conversation.asked != *asked {
            return Some(answer);
        }
        match (&mut conversation.pending, &conversation.said) {
            // Who asked first is gone.
            (Some((_, waiting)), _) => *waiting = answer,
            (None, Some(said)) => answer(said.again()),
            (None, None) => return Some(answer),
        }
        None
    }

    /// Adds a conversation. False when there are too many.
    pub fn begin(&mut self, key: ConversationKey, conversation: Conversation) -> bool {
        let room = self.all.len() < MAX_CONVERSATIONS;
        if room {
            self.all.insert(key, conversation);
        }
        room
    }

    /// Notes that a conversation waits for a server.
    pub fn wait(&mut self, key: ConversationKey, ticket: Ticket, answer: Answer) {
        if let Some(conversation) = self.all.get_mut(&key) {
            conversation.pending = Some((ticket, answer));
            self.by_ticket.insert((conversation.group.clone(), ticket), key);
        }
    }

    /// A request is over: whose it was, and who waits.
    pub fn completed(&mut self, group: &GroupKey, ticket: Ticket) -> Option<(ConversationKey, Answer)> {
        let key = self.by_ticket.remove(&(group.clone(), ticket))?;
        let (_, answer) = self.all.get_mut(&key)?.pending.take()?;
        Some((key, answer))
    }

    /// A conversation ends with this answer.
    pub fn conclude(&mut self, key: &ConversationKey, answer: &Wiped, now: Instant) {
        if let Some(conversation) = self.all.remove(key) {
            self.last_words
                .remember(*key, conversation.asked, answer.again(), now);
        }
    }

    /// Gives a conversation up. Returns its group and the ticket of the request under way.
    pub fn end(&mut self, key: &ConversationKey) -> Option<(GroupKey, Option<Ticket>)> {
        let conversation = self.all.remove(key)?;
        let ticket = conversation.pending.map(|(ticket, _)| ticket);
        if let Some(ticket) = ticket {
            self.by_ticket.remove(&(conversation.group.clone(), ticket));
        }
        Some((conversation.group, ticket))
    }

    /// Conversations that nobody has continued for too long.
    pub fn stale(&self, now: Instant) -> Vec<ConversationKey> {
        let stale = |conversation: &Conversation| {
            now.saturating_duration_since(conversation.touched) > LONGEST_SILENCE
        };
        self.all
            .iter()
            .filter(|(_, conversation)| stale(conversation))
            .map(|(key, _)| *key)
            .collect()
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.all.len()
    }
}

impl Conversation {
    /// A conversation that has not begun.
    pub fn new(group: GroupKey, round: &EapRound, now: Instant) -> Self {
        Self {
            group,
            calling_station: round.calling_station.clone(),
            asked: Asked::of(round),
            said: None,
            last: None,
            pending: None,
            authenticator: Authenticator::new(),
            touched: now,
        }
    }

    /// The first round: the IKE identity, or without one the question for it.
    pub fn start(&mut self, round: &EapRound) -> Next {
        let start = match round.identity.as_slice() {
            [] => Start::AskIdentity,
            identity => Start::Identity(identity),
        };
        let action = self.authenticator.start(start);
        self.after(action, None)
    }

    /// The peer answered.
    pub fn peer_answered(&mut self, asked: Asked, now: Instant) -> Next {
        self.touched = now;
        let action = self.authenticator.from_peer(&asked.eap);
        self.asked = asked;
        self.said = None;
        self.after(action, None)
    }

    /// The peer's last round is answered, and another one follows.
    pub fn said(&mut self, answer: &Wiped) {
        self.said = Some(answer.again());
    }

    /// A server answered.
    pub fn server_answered(&mut self, reply: Reply, now: Instant) -> Next {
        self.touched = now;
        let verdict = match reply.code() {
            Code::AccessAccept => Verdict::Accept,
            Code::AccessChallenge => Verdict::Challenge,
            _ => Verdict::Reject,
        };
        let action = self
            .authenticator
            .from_aaa(verdict, reply.packet().eap().as_deref());
        let next = self.after(action, Some(&reply));
        self.last = Some(reply);
        next
    }

    /// No server answered.
    pub fn server_failed(&mut self, reason: &str) -> Next {
        let action = self.authenticator.aaa_timeout();
        let mut next = self.after(action, None);
        if let Next::End(answer) = &mut next {
            answer.0.failure = reason.to_owned();
        }
        next
    }

    /// Who the peer says it is.
    pub fn user(&self) -> &[u8] {
        self.authenticator.identity()
    }

    fn after(&self, action: Result<Action, eap::Discard>, reply: Option<&Reply>) -> Next {
        let method = self.authenticator.method().map_or(0, |method| method.0.into());
        let answer = |eap: Vec<u8>| EapAnswer {
            eap,
            method,
            ..EapAnswer::default()
        };
        match action {
            Ok(Action::ToAaa(response)) => Next::Ask(response),
            Ok(Action::ToPeer(request)) => Next::Continue(Wiped(answer(request))),
            Ok(Action::Succeed(success)) => Next::End(self.success(answer(success), reply)),
            Ok(Action::Fail(failure, cause)) => {
                let failure_text = match (
                    cause,
                    reply.and_then(|reply| reply.packet().text(radius::Attribute::ReplyMessage)),
                ) {
                    (Failure::Rejected, Some(message)) => format!("{cause}: {message:?}"),
                    _ => cause.to_string(),
                };
                Next::End(Wiped(EapAnswer {
                    failure: failure_text,
                    ..answer(failure)
                }))
            }
            // IKE has authenticated nothing yet but has delivered exactly this once: there will be no better one.
            Err(discard) => Next::End(Wiped(EapAnswer {
                failure: discard.to_string(),
                ..answer(Vec::new())
            })),
        }
    }

    fn success(&self, answer: EapAnswer, reply: Option<&Reply>) -> Wiped {
        let mut answer = Wiped(EapAnswer {
            success: true,
            user: self.user().to_vec(),
            ..answer
        });
        let Some(reply) = reply else { return answer };
        if let Some(user) = reply.packet().value(radius::Attribute::UserName) {
            answer.0.user = user.to_vec();
        }
        if let Some(msk) = reply.mppe_keys().and_then(|keys| keys.msk()) {
            answer.0.msk = msk.to_vec();
        }
        answer.0.authorization = Some(authorization(reply.packet()));
        answer
    }
}

/// Conversations at a time: what the IKE side lets half-open peers be.
const MAX_CONVERSATIONS: usize = 50_000;
/// Time between two rounds of a peer after which it is given up.
const LONGEST_SILENCE: Duration = Duration::from_secs(120);

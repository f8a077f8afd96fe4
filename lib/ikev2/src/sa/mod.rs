//! One IKE SA: its state, and what it does with messages, answers, deadlines and wishes.
//!
//! | state         | we are    | waits for                                   | goes to                          |
//! |---------------|-----------|---------------------------------------------|----------------------------------|
//! | `InitSent`    | initiator | IKE_SA_INIT response (cookie, KE: again)    | `AuthSent`                       |
//! | `AuthSent`    | initiator | answers, IKE_AUTH responses                 | `Established`                    |
//! | `InitReplied` | responder | IKE_AUTH request                            | `AuthReceived`                   |
//! | `AuthReceived`| responder | answers, further IKE_AUTH requests (EAP)    | `Established`, `Lingering`       |
//! | `Established` | either    | anything                                    | `Replaced`, `Closing`, `Lingering` |
//! | `Replaced`    | either    | the delete after a rekey, the peer's or ours| `Closing`, `Lingering`           |
//! | `Closing`     | either    | the answer to our delete                    | dead                             |
//! | `Lingering`   | responder | retransmissions of the last request         | dead                             |
//!
//! Silence, expiry and protocol errors lead from each to dead. Life cycle: made by a received IKE_SA_INIT, by
//! [`Engine::initiate`](crate::Engine::initiate) or by a rekey; lives in the table under its own SPI; dead, it gives back its SPIs and leaves.

mod accept;
mod answers;
mod auth;
mod auth_initiator;
mod auth_responder;
mod child;
mod child_initiator;
mod child_responder;
mod informational;
mod init_initiator;
mod init_responder;
mod nat;
mod offer;
mod per_resource;
mod receive;
mod record;
mod rekey_ike;
mod request;
mod rest;
mod tasks;
mod timers;
mod view;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::env::{Core, Env, peer_key};
use crate::event::{DropCause, Event, RemoveReason, SetupFailure};
use crate::identity::{Identity, UserName};
use crate::keys::IkeKeys;
use crate::output::{AuthMethod, IkeSaId, Output, Path};
use crate::profile::{Configuration, Profile};
use crate::record::stored;
use crate::show::Totals;
use crate::source::Source;

use auth_initiator::AuthSent;
use auth_responder::AuthReceived;
use child::Child;
use init_initiator::InitSent;
use init_responder::InitReplied;
use receive::Reassembly;
use request::Outstanding;
use tasks::Task;
use timers::Deadlines;

pub(crate) use init_initiator::initiate;
pub(crate) use init_responder::respond_init;
pub(crate) use record::Head;
pub(crate) use rest::Rest;

/// An IKE SA.
pub(crate) struct IkeSa {
    /// Our SPI.
    pub id: IkeSaId,
    /// The peer's SPI; 0 before its first message.
    pub peer_spi: u64,
    /// Are we the original initiator? Decides flags and keys (RFC 7296 2.2).
    pub initiator: bool,
    pub profile: Arc<Profile>,
    pub path: Path,
    pub nat: Nat,
    /// The peer can reassemble fragments (RFC 7383 2.3).
    pub peer_fragments: bool,
    pub state: State,
    pub keys: Option<IkeKeys>,
    /// Counts messages that we encrypted; the IV of AEADs.
    next_iv: u64,
    /// Message ID of the next request of the peer.
    expected: u32,
    /// Our response to the one before, as datagrams one after the other.
    last_response: Option<Box<[u8]>>,
    /// Message ID of our next request.
    next_request: u32,
    outstanding: Option<Box<Outstanding>>,
    reassembly: Option<Box<Reassembly>>,
    /// What waits for the outstanding request to be answered.
    tasks: VecDeque<Task>,
    children: Vec<Child>,
    /// The groups of child SAs that the shell was told of last.
    told_groups: Vec<Vec<u32>>,
    parties: Option<Arc<Parties>>,
    created: Instant,
    deadlines: Deadlines,
    /// For which instant it is in the timer queue.
    armed: Option<Instant>,
    /// Where it came from, while it counts as half-open.
    source: Option<Source>,
    /// Its set-up failed, and it is counted as one of those that linger.
    failed: bool,
    /// Octets that it was charged for when it was last put back.
    charged: usize,
    /// When the last authentic message came that was new.
    last_heard: Instant,
    /// When the last response was sent first.
    responded: Instant,
    /// Since when, and how often, the last response was sent again.
    repeats: (Instant, u8),
    /// TEMPORARY_FAILUREs in a row.
    temporary_failures: u8,
    /// The one that this replaces, while our own rekey of that is under way and may still win.
    contested_by: Option<IkeSaId>,
    /// The one that this was made to replace.
    predecessor: Option<IkeSaId>,
    /// It is in the list of those that the next checkpoint looks at.
    pub touched: bool,
    /// Digest of its record as it was saved last; `None`: never, or it could not be.
    pub saved: Option<u64>,
    /// It came from an earlier life, and its IVs go on with a gap that is not saved yet.
    pub resumed: bool,
}

/// Who is behind a NAT.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Nat {
    pub local: bool,
    pub remote: bool,
}

/// Who talks: known once both are authenticated, and shared with the IKE SAs that replace this one.
#[derive(Debug)]
pub(crate) struct Parties {
    pub local: Identity,
    pub peer: Identity,
    pub method: AuthMethod,
    pub eap_identity: Option<UserName>,
    pub configuration: Option<Arc<Configuration>>,
}

/// Who the peer is as far as it has proved that. With EAP it proves who the user is, and IDi may be anything (RFC 7296 2.16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Proved<'a> {
    Identity(&'a Identity),
    User(&'a UserName),
}

stored!(Nat { local, remote });
stored!(Parties {
    local,
    peer,
    method,
    eap_identity,
    configuration,
});

impl Parties {
    /// Who the peer is; `None` where EAP did not say.
    pub fn proved(&self) -> Option<Proved<'_>> {
        match self.method {
            AuthMethod::Eap => self.eap_identity.as_ref().map(Proved::User),
            _ => Some(Proved::Identity(&self.peer)),
        }
    }

    /// Is the peer of both the same, and so are we?
    pub fn is_same(&self, other: &Parties) -> bool {
        let proved = self.proved();
        proved.is_some() && proved == other.proved() && self.local == other.local
    }
}

/// See the table above.
pub(crate) enum State {
    InitSent(Box<InitSent>),
    AuthSent(Box<AuthSent>),
    InitReplied(Box<InitReplied>),
    AuthReceived(Box<AuthReceived>),
    Established,
    /// By this one.
    Replaced {
        by: IkeSaId,
    },
    Closing(RemoveReason),
    Lingering,
    Dead,
}

/// What a state counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Class {
    HalfOpen,
    Connecting,
    Established,
    Closing,
    /// Nothing to be seen any more.
    Gone,
}

impl State {
    fn class(&self) -> Class {
        match self {
            // Whoever has not proved who he is counts against the limits, also in the middle of EAP.
            State::InitReplied(_) | State::AuthReceived(_) => Class::HalfOpen,
            State::InitSent(_) | State::AuthSent(_) => Class::Connecting,
            State::Established => Class::Established,
            State::Replaced { .. } | State::Closing(_) => Class::Closing,
            State::Lingering | State::Dead => Class::Gone,
        }
    }
}

impl IkeSa {
    /// An IKE SA in its first state. It is counted; [`Env::put_back`] brings it into the table.
    fn new(
        env: &mut Env<'_>,
        id: IkeSaId,
        initiator: bool,
        profile: Arc<Profile>,
        path: Path,
        state: State,
    ) -> Self {
        let mut sa = Self {
            id,
            peer_spi: 0,
            initiator,
            profile,
            path,
            nat: Nat::default(),
            peer_fragments: false,
            state,
            keys: None,
            next_iv: 1,
            expected: 0,
            last_response: None,
            next_request: 0,
            outstanding: None,
            reassembly: None,
            tasks: VecDeque::new(),
            children: Vec::new(),
            told_groups: Vec::new(),
            parties: None,
            created: env.now,
            deadlines: Deadlines::default(),
            armed: None,
            source: None,
            failed: false,
            charged: 0,
            last_heard: env.now,
            responded: env.now,
            repeats: (env.now, 0),
            temporary_failures: 0,
            contested_by: None,
            predecessor: None,
            touched: false,
            saved: None,
            resumed: false,
        };
        bump(&mut env.core.totals, sa.state.class(), initiator, 1);
        sa.note_source(env);
        sa
    }

    /// The SPIs as they stand in the IKE header: initiator, responder.
    fn spis(&self) -> (u64, u64) {
        if self.initiator {
            (self.id.0, self.peer_spi)
        } else {
            (self.peer_spi, self.id.0)
        }
    }

    fn set_state(&mut self, env: &mut Env<'_>, state: State) {
        self.replace_state(env, state);
    }

    /// Goes into another state, keeping the totals and indexes right; gives back the one before.
    fn replace_state(&mut self, env: &mut Env<'_>, state: State) -> State {
        let (before, after) = (self.state.class(), state.class());
        if let State::InitReplied(_) = self.state {
            env.core.half_open.remove(&(self.peer_spi, self.path));
        }
        bump(&mut env.core.totals, before, self.initiator, -1);
        bump(&mut env.core.totals, after, self.initiator, 1);
        if before == Class::Established
            && let Some(key) = self.peer_key()
        {
            env.core.peers.remove(&key);
        }
        let before = std::mem::replace(&mut self.state, state);
        self.note_source(env);
        if after == Class::Established
            && let Some(key) = self.peer_key()
        {
            env.core.peers.insert(key);
        }
        before
    }

    /// Keeps the number of half-open IKE SAs of its source right.
    fn note_source(&mut self, env: &mut Env<'_>) {
        let half_open = self.state.class() == Class::HalfOpen;
        match self.source {
            None if half_open => {
                let source = Source::from(self.path);
                env.core.sources.add(source);
                self.source = Some(source);
            }
            Some(source) if !half_open => {
                env.core.sources.remove(source);
                self.source = None;
            }
            _ => {}
        }
    }

    /// Keeps the number of octets right that IKE SAs in set-up keep. Called when one is put back, so nothing that happens to it
    /// need remember it.
    pub fn note_memory(&mut self, env: &mut Env<'_>) {
        let keeps = self.setup_octets();
        let others = env.core.setup_octets.saturating_sub(self.charged);
        env.core.setup_octets = others.saturating_add(keeps);
        self.charged = keeps;
    }

    /// What it keeps of what its peer sent before that has proved who it is, and our last response.
    fn setup_octets(&self) -> usize {
        let state = match &self.state {
            State::InitReplied(replied) => replied.context.octets(),
            State::AuthReceived(auth) => auth.octets(),
            State::Lingering => 0,
            _ => return 0,
        };
        let response = self.last_response.as_ref().map_or(0, |response| response.len());
        let reassembly = self.reassembly.as_ref().map_or(0, |pieces| pieces.octets());
        state + response + reassembly
    }

    fn peer_key(&self) -> Option<(u64, IkeSaId)> {
        let parties = self.parties.as_ref()?;
        Some((peer_key(&parties.local, parties.proved()?), self.id))
    }

    /// Is there nothing to be seen of it any more?
    pub fn is_gone(&self) -> bool {
        self.state.class() == Class::Gone
    }

    pub fn is_dead(&self) -> bool {
        matches!(self.state, State::Dead)
    }

    /// Set-up is over without success: nothing is left of it but, if `linger`, the last response for retransmissions.
    fn fail(&mut self, env: &mut Env<'_>, reason: SetupFailure, linger: bool) {
        let peer = match &self.state {
            State::AuthReceived(auth) => auth.claimed_identity(),
            _ => None,
        };
        env.event(Event::SetupFailed {
            ike: self.id,
            path: self.path,
            initiator: self.initiator,
            profile: Arc::clone(&self.profile),
            peer,
            reason,
        });
        self.end(env, linger);
    }

    /// An established IKE SA, or one that is replaced or closing, is over.
    fn close(&mut self, env: &mut Env<'_>, reason: RemoveReason, linger: bool) {
        if !matches!(self.state, State::Closing(_)) {
            self.go_down(env, reason);
        }
        self.end(env, linger);
    }

    /// An IKE SA goes out of use with all its child SAs. One that is replaced has none and goes quietly.
    fn go_down(&mut self, env: &mut Env<'_>, reason: RemoveReason) {
        self.remove_children(env, reason);
        if matches!(self.state, State::Replaced { .. }) {
            return;
        }
        if let Some(parties) = &self.parties {
            env.event(Event::Deleted {
                ike: self.id,
                path: self.path,
                profile: Arc::clone(&self.profile),
                peer: parties.peer.clone(),
                reason,
            });
        }
    }

    fn end(&mut self, env: &mut Env<'_>, linger: bool) {
        self.abandon_request(env);
        if let State::AuthSent(auth) = &self.state
            && let Some(spi) = auth.reserved_spi()
        {
            env.sad.free_spi(spi);
        }
        self.tasks.clear();
        self.reassembly = None;
        self.deadlines = Deadlines::default();
        if linger && self.last_response.is_some() && self.may_linger(env) {
            self.linger(env);
            self.set_state(env, State::Lingering);
        } else {
            self.set_state(env, State::Dead);
        }
    }

    /// May it be kept for retransmissions? Of those that never proved who they are only so many.
    fn may_linger(&mut self, env: &mut Env<'_>) -> bool {
        if self.parties.is_some() || self.failed {
            return true;
        }
        if env.core.failed >= env.core.config.max_failed {
            env.drop(self.path.remote, DropCause::SetupMemory);
            return false;
        }
        env.core.failed += 1;
        self.failed = true;
        true
    }

    /// Last act before it is dropped: the totals forget it.
    pub fn forget(&mut self, env: &mut Env<'_>) {
        self.remove_children(env, RemoveReason::Local);
        env.core.setup_octets = env.core.setup_octets.saturating_sub(self.charged);
        env.core.failed = env.core.failed.saturating_sub(u32::from(self.failed));
        bump(&mut env.core.totals, self.state.class(), self.initiator, -1);
    }

    /// It goes on in another engine: the totals forget it, and nothing else happens.
    pub fn leave(&self, core: &mut Core) {
        if let Some(source) = self.source {
            core.sources.remove(source);
        }
        core.setup_octets = core.setup_octets.saturating_sub(self.charged);
        core.failed = core.failed.saturating_sub(u32::from(self.failed));
        let children = u32::try_from(self.children.len()).unwrap_or(u32::MAX);
        core.totals.children = core.totals.children.saturating_sub(children);
        bump(&mut core.totals, self.state.class(), self.initiator, -1);
    }

    fn remove_children(&mut self, env: &mut Env<'_>, reason: RemoveReason) {
        for child in self.children.drain(..) {
            env.core.totals.children = env.core.totals.children.saturating_sub(1);
            env.core.outputs.push_back(Output::Remove {
                ike: self.id,
                inbound_spi: child.inbound_spi,
                reason,
            });
        }
    }
}

fn bump(totals: &mut Totals, class: Class, initiator: bool, by: i32) {
    let place = match class {
        Class::HalfOpen => Some(&mut totals.half_open),
        Class::Connecting => Some(&mut totals.connecting),
        Class::Established => Some(&mut totals.established),
        Class::Closing => None,
        Class::Gone => return,
    };
    if let Some(place) = place {
        *place = place.saturating_add_signed(by);
    }
    totals.ike_sas = totals.ike_sas.saturating_add_signed(by);
    if initiator {
        totals.initiated = totals.initiated.saturating_add_signed(by);
    }
}

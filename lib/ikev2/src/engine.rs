//! The engine: all IKE SAs of one process.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Random;

use crate::env::{Core, Env};
use crate::event::{Count, DropCause};
use crate::message::{Exchange, Header};
use crate::output::{Action, Answer, IkeSaId, Output, Path, Ticket};
use crate::profile::Profile;
use crate::sa::{initiate, respond_init};
use crate::sad::Sad;
use crate::show::{Cursor, IkeSaView, Totals};
use crate::table::Found;
use crate::unprotected::{on_bad_header, on_unknown_ike_sa};

/// What the engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Slots whose IKE SAs are ours at first, none 0. New IKE SAs go round them; where there is none, nobody is served.
    pub slots: Vec<u8>,
    /// IKE SAs in all, at most. While they are rekeyed there may be a sixteenth more: a flood must not keep peers that are there from
    /// going on.
    pub max_ike_sas: u32,
    /// Half-open IKE SAs, at most. Above a quarter cookies are asked for, whatever the profile says (RFC 7296 2.6).
    pub max_half_open: u32,
    /// Half-open IKE SAs from one IPv4 address or one IPv6 /64 network to one address of ours, at most. Above a quarter it is asked for
    /// cookies, so that nobody else can use up its share in its name (RFC 8019 4.2).
    pub max_half_open_of_source: u32,
    /// IKE SAs whose set-up failed and that are kept for retransmissions of the peer's last request, at most. They need room in the table
    /// like any other, and whoever likes can make them.
    pub max_failed: u32,
    /// Octets of messages and certificates that IKE SAs in set-up keep in all, at most.
    pub max_setup_octets: usize,
    /// The port without non-ESP marker.
    pub ike_port: u16,
    /// The port with non-ESP marker, where peers go when there is a NAT.
    pub nat_port: u16,
    /// Hash algorithms we say we can verify (RFC 7427 4); empty: legacy signatures only.
    pub signature_hashes: Vec<u16>,
    /// Selectors of one side of a child SA, at most.
    pub max_selectors: usize,
    /// Requests for IKE SAs that do not exist are answered this often in a second, at most.
    pub max_unknown_answers: u32,
    /// A replaced child SA receives this long after its delete, for packets on the way.
    pub rekeyed_child_linger: Duration,
    /// From when records of IKE SAs count time: the same moment in each life of the process. `None`: no records are made.
    pub epoch: Option<Instant>,
    /// Established IKE SAs where nothing is going on are dropped when their records are saved, and read again when something comes up.
    pub rests: bool,
}

/// A secret from which cookies are made (RFC 7296 2.6).
#[derive(Clone, zeroize::ZeroizeOnDrop)]
pub struct CookieSecret {
    /// Tells one secret from the next; it begins the cookie.
    pub version: u8,
    /// The secret.
    pub secret: [u8; 32],
}

/// What can be wrong with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {
    /// No such IKE SA.
    NoSuchIkeSa(IkeSaId),
    /// No such child SA in this IKE SA, or no such child profile.
    NoSuchChild,
    /// No IKE SA can be added: [`EngineConfig::max_ike_sas`].
    Full,
    /// The profile cannot initiate: it has no proposals or no child profiles.
    IncompleteProfile,
    /// The IKE SA is not in a state for this.
    NotEstablished,
    /// Local and remote address are of different families.
    PathFamilies,
    /// Cryptography failed.
    Crypto(crypto::Error),
}

/// All IKE SAs of one process.
pub struct Engine {
    pub(crate) core: Core,
    /// Where messages are decrypted; kept for its room.
    scratch: Vec<u8>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            slots: vec![1],
            max_ike_sas: 100_000,
            max_half_open: 50_000,
            max_half_open_of_source: 256,
            max_failed: 10_000,
            max_setup_octets: 128 << 20,
            ike_port: 500,
            nat_port: 4500,
            signature_hashes: vec![2, 3, 4],
            max_selectors: 4,
            max_unknown_answers: 100,
            rekeyed_child_linger: Duration::from_secs(5),
            epoch: None,
            rests: false,
        }
    }
}

impl Engine {
    /// An engine without IKE SAs.
    pub fn new(config: EngineConfig, random: Box<dyn Random>) -> Self {
        Self {
            core: Core::new(config, random),
            scratch: Vec::new(),
        }
    }

    /// Serves peers that call `local` with this profile from now on. IKE SAs that are there keep theirs.
    pub fn set_profile(&mut self, local: IpAddr, profile: Arc<Profile>) {
        self.core.profiles.insert(local, profile);
    }

    /// Serves nobody at `local` any more; gives back its profile. IKE SAs that are there stay.
    pub fn remove_profile(&mut self, local: IpAddr) -> Option<Arc<Profile>> {
        self.core.profiles.remove(&local)
    }

    /// Takes secrets for cookies from outside, so that all workers make and know the same: the current, and the one before.
    /// Without them the engine makes its own and changes them by itself.
    pub fn set_cookie_secrets(&mut self, current: CookieSecret, previous: Option<CookieSecret>) {
        self.core.cookies.set_secrets(current, previous);
    }

    /// Takes in a datagram of `path`, without non-ESP marker.
    pub fn receive(&mut self, now: Instant, path: Path, datagram: &[u8], sad: &mut dyn Sad) {
        let mut env = env(&mut self.core, now, sad);
        if let [0xff] = datagram {
            return env.drop(path.remote, DropCause::Keepalive);
        }
        let header = match Header::decode(datagram) {
            Ok(header) => header,
            Err(error) => return on_bad_header(&mut env, path, datagram, error),
        };
        if header.exchange == Exchange::IkeSaInit && !header.response {
            return respond_init(&mut env, &header, path, datagram);
        }
        let (ours, theirs) = match header.from_initiator {
            true => (header.responder_spi, header.initiator_spi),
            false => (header.initiator_spi, header.responder_spi),
        };
        let id = IkeSaId(ours);
        let Some(mut sa) = env.take(id) else {
            let cause = match (env.core.table.is_ours(id), header.response) {
                (false, _) => DropCause::ForeignSlot,
                _ if env.core.table.is_parked(id) => DropCause::Parked,
                (true, true) => DropCause::ResponseNoSa,
                (true, false) => DropCause::RequestNoSa,
            };
            env.drop(path.remote, cause);
            if cause == DropCause::RequestNoSa {
                on_unknown_ike_sa(&mut env, &header, path);
            }
            return;
        };
        // RFC 7296 2.2: the sender has the other role, and its own SPI. Another address of ours may be another service in another context,
        // from where nobody may go on with this IKE SA, even with its keys.
        let fits = sa.initiator != header.from_initiator && sa.path.local.ip() == path.local.ip();
        if header.exchange == Exchange::IkeSaInit && fits {
            sa.on_init_response(&mut env, &header, path, datagram);
        } else if fits && sa.peer_spi == theirs {
            sa.on_message(&mut env, &header, path, datagram, &mut self.scratch);
        } else {
            let cause = if header.response {
                DropCause::ResponseNoSa
            } else {
                DropCause::RequestNoSa
            };
            env.drop(path.remote, cause);
        }
        env.put_back(sa);
    }

    /// Whether a peer's IKE_SA_INIT request with this SPI by this path was answered, and its set-up is still under way.
    pub fn is_setting_up(&self, initiator_spi: u64, path: Path) -> bool {
        self.core.half_open.contains_key(&(initiator_spi, path))
    }

    /// Takes in an answer. One that comes too late is counted and has no other effect.
    pub fn answer(&mut self, now: Instant, ticket: Ticket, answer: Answer, sad: &mut dyn Sad) {
        let mut env = env(&mut self.core, now, sad);
        let found = env.with(ticket.ike, |sa, env| sa.on_answer(env, ticket.serial, answer));
        if !found {
            env.count(Count::LateAnswer);
        }
    }

    /// Begins an IKE SA with the first child profile as its first child SA.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::IncompleteProfile`], [`Error::PathFamilies`], [`Error::Crypto`].
    pub fn initiate(
        &mut self,
        now: Instant,
        profile: Arc<Profile>,
        path: Path,
        sad: &mut dyn Sad,
    ) -> Result<IkeSaId, Error> {
        initiate(&mut env(&mut self.core, now, sad), profile, path)
    }

    /// Does something with an IKE SA. While one of our requests is under way it waits.
    ///
    /// # Errors
    /// [`Error::NoSuchIkeSa`], [`Error::NoSuchChild`], [`Error::NotEstablished`].
    pub fn action(
        &mut self,
        now: Instant,
        ike: IkeSaId,
        action: Action,
        sad: &mut dyn Sad,
    ) -> Result<(), Error> {
        let mut result = Err(Error::NoSuchIkeSa(ike));
        env(&mut self.core, now, sad).with(ike, |sa, env| result = sa.on_action(env, action));
        result
    }

    /// The next thing for the shell to do, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.core.outputs.pop_front()
    }

    /// When [`Engine::expire`] must be called at the latest. It may be earlier than anything is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.core.timers.next()
    }

    /// Does what is due.
    pub fn expire(&mut self, now: Instant, sad: &mut dyn Sad) {
        let mut env = env(&mut self.core, now, sad);
        while let Some((at, id)) = env.core.timers.pop(now) {
            if let (Some(Found::Resting(rest)), Some(epoch)) =
                (env.core.table.find(id), env.core.config.epoch)
                && !rest.is_armed_for(at, epoch)
            {
                continue;
            }
            env.with(id, |sa, env| {
                if sa.disarm(at) {
                    sa.on_timer(env);
                }
            });
        }
    }

    /// Up to `limit` IKE SAs from `cursor` on, and where the next page begins; `None`: that was the last.
    pub fn ike_sas(
        &self,
        now: Instant,
        cursor: Cursor,
        limit: usize,
        sad: &dyn Sad,
    ) -> (Vec<IkeSaView>, Option<Cursor>) {
        let Cursor { mut slot, mut index } = cursor;
        let mut views = Vec::new();
        while views.len() < limit {
            let Some((id, found, next_slot, next_index)) = self.core.table.next_from(slot, index) else {
                return (views, None);
            };
            views.extend(self.view(now, id, found, sad));
            (slot, index) = (next_slot, next_index);
        }
        (views, Some(Cursor { slot, index }))
    }

    /// One IKE SA.
    pub fn ike_sa(&self, now: Instant, ike: IkeSaId, sad: &dyn Sad) -> Option<IkeSaView> {
        self.view(now, ike, self.core.table.find(ike)?, sad)
    }

    fn view(&self, now: Instant, id: IkeSaId, found: Found<'_>, sad: &dyn Sad) -> Option<IkeSaView> {
        match found {
            Found::Awake(sa) => (!sa.is_gone()).then(|| sa.view(now)),
            Found::Resting(rest) => {
                let epoch = self.core.config.epoch?;
                Some(rest.read(id, epoch, sad)?.view(now))
            }
        }
    }

    /// What the peer of an IKE SA would send: for fuzzing.
    pub(crate) fn forge(
        &self,
        ike: IkeSaId,
        exchange: Exchange,
        response: bool,
        first: u8,
        plaintext: &[u8],
    ) -> Option<Vec<u8>> {
        self.core
            .table
            .get(ike)?
            .forge(exchange, response, first, plaintext)
    }

    /// How many IKE SAs there are in each of our slots, also half-open ones.
    pub fn counts(&self) -> impl Iterator<Item = (u8, usize)> {
        self.core.table.counts()
    }

    /// How many there are.
    pub fn totals(&self) -> Totals {
        Totals {
            resting: self.core.table.resting(),
            cookies_active: self.core.cookies.is_active(),
            ..self.core.totals
        }
    }
}

pub(crate) fn env<'a>(core: &'a mut Core, now: Instant, sad: &'a mut dyn Sad) -> Env<'a> {
    Env {
        now,
        sad,
        core,
        reply_path: None,
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("totals", &self.totals())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for CookieSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CookieSecret(version {})", self.version)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchIkeSa(ike) => write!(f, "no IKE SA {ike}"),
            Self::NoSuchChild => f.write_str("no such child SA"),
            Self::Full => f.write_str("the limit of IKE SAs is reached"),
            Self::IncompleteProfile => f.write_str("the profile has no proposals or no child profile"),
            Self::NotEstablished => f.write_str("the IKE SA is not established"),
            Self::PathFamilies => f.write_str("local and remote address are of different families"),
            Self::Crypto(error) => write!(f, "cryptography: {error}"),
        }
    }
}

impl std::error::Error for Error {}

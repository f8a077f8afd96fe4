//! The engine: all IKE SAs of one process.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::Random;

use crate::output::{Action, Answer, IkeSaId, Output, Path, Ticket};
use crate::profile::Profile;
use crate::sad::Sad;
use crate::show::{Cursor, IkeSaView, Totals};

/// What the engine is told once.
#[derive(Debug, Clone)]
pub struct EngineConfig {
    /// Slots whose IKE SAs are ours; at least one, none 0. New IKE SAs go round them.
    pub slots: Vec<u8>,
    /// IKE SAs in all, at most.
    pub max_ike_sas: u32,
    /// Half-open IKE SAs, at most.
    pub max_half_open: u32,
    /// The port without non-ESP marker.
    pub ike_port: u16,
    /// The port with non-ESP marker, where peers go when there is a NAT.
    pub nat_port: u16,
    /// Hash algorithms we say we can verify (RFC 7427 4); empty: legacy signatures only.
    pub signature_hashes: Vec<u16>,
    /// Selectors of one side of a child SA, at most.
    pub max_selectors: usize,
    /// A replaced child SA receives this long after its delete, for packets on the way.
    pub rekeyed_child_linger: Duration,
}

/// A secret from which cookies are made (RFC 7296 2.6).
#[derive(Clone)]
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
    config: EngineConfig,
    random: Box<dyn Random>,
    profiles: HashMap<IpAddr, Arc<Profile>>,
    outputs: VecDeque<Output>,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            slots: vec![1],
            max_ike_sas: 100_000,
            max_half_open: 50_000,
            ike_port: 500,
            nat_port: 4500,
            signature_hashes: vec![2, 3, 4],
            max_selectors: 4,
            rekeyed_child_linger: Duration::from_secs(5),
        }
    }
}

impl Engine {
    /// An engine without IKE SAs.
    pub fn new(config: EngineConfig, random: Box<dyn Random>) -> Self {
        Self {
            config,
            random,
            profiles: HashMap::new(),
            outputs: VecDeque::new(),
        }
    }
}

impl Engine {
    /// Serves peers that call `local` with this profile from now on. IKE SAs that are there keep theirs.
    pub fn set_profile(&mut self, local: IpAddr, profile: Arc<Profile>) {
        self.profiles.insert(local, profile);
    }

    /// Serves nobody at `local` any more; gives back its profile. IKE SAs that are there stay.
    pub fn remove_profile(&mut self, local: IpAddr) -> Option<Arc<Profile>> {
        self.profiles.remove(&local)
    }

    /// Takes secrets for cookies from outside, so that all workers make and know the same: the current, and the one before.
    /// Without them the engine makes its own and changes them by itself.
    pub fn set_cookie_secrets(&mut self, _current: CookieSecret, _previous: Option<CookieSecret>) {}

    /// Takes in a datagram of `path`, without non-ESP marker.
    pub fn receive(&mut self, _now: Instant, _path: Path, _datagram: &[u8], _sad: &mut dyn Sad) {}

    /// Takes in an answer. One that comes too late is counted and has no other effect.
    pub fn answer(&mut self, _now: Instant, _ticket: Ticket, _answer: Answer, _sad: &mut dyn Sad) {}

    /// Begins an IKE SA with the first child profile as its first child SA.
    ///
    /// # Errors
    /// [`Error::Full`], [`Error::IncompleteProfile`], [`Error::PathFamilies`], [`Error::Crypto`].
    pub fn initiate(
        &mut self,
        _now: Instant,
        _profile: Arc<Profile>,
        _path: Path,
        _sad: &mut dyn Sad,
    ) -> Result<IkeSaId, Error> {
        Err(Error::Full)
    }

    /// Does something with an IKE SA. While one of our requests is under way it waits.
    ///
    /// # Errors
    /// [`Error::NoSuchIkeSa`], [`Error::NoSuchChild`], [`Error::NotEstablished`].
    pub fn action(
        &mut self,
        _now: Instant,
        ike: IkeSaId,
        _action: Action,
        _sad: &mut dyn Sad,
    ) -> Result<(), Error> {
        Err(Error::NoSuchIkeSa(ike))
    }

    /// The next thing for the shell to do, in order.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Engine::expire`] must be called at the latest.
    pub fn next_timeout(&self) -> Option<Instant> {
        None
    }

    /// Does what is due.
    pub fn expire(&mut self, _now: Instant, _sad: &mut dyn Sad) {}

    /// Up to `limit` IKE SAs from `cursor` on, and where the next page begins; `None`: that was the last.
    pub fn ike_sas(&self, _now: Instant, _cursor: Cursor, _limit: usize) -> (Vec<IkeSaView>, Option<Cursor>) {
        (Vec::new(), None)
    }

    /// One IKE SA.
    pub fn ike_sa(&self, _now: Instant, _ike: IkeSaId) -> Option<IkeSaView> {
        None
    }

    /// How many there are.
    pub fn totals(&self) -> Totals {
        Totals::default()
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

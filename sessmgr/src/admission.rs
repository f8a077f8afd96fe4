//! Admission: from what `ipsecmgr` asks for one peer to a session with its addresses.
//!
//! [`Draft::step`] goes as far as it can with what this worker has. When it lacks something that only `vpnmgr` can give, it says what;
//! the loop gets it and steps again. Almost always one step is enough, because blocks are fetched before they run out.

use std::net::IpAddr;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use bus::messages::sessmgr::{Admission, Authorization, Verdict};
use ikev2::{Identity, IdentityKind, UserName};
use sadb::Spis;

use crate::policy::{PoolKey, Service};
use crate::session::{Assigned, Authorized, Phase, Session, Source, Usage};
use crate::state::State;

/// What only `vpnmgr` can give.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Need {
    /// A block of a pool.
    Block(PoolKey),
    /// An address that AAA chose or that a peer has already, in this context.
    Address(u32, IpAddr),
}

/// How `vpnmgr` answered a need.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Grant {
    /// It gave: the block is there, or the address is ours.
    Given,
    /// It refused, in words.
    Refused(String),
}

/// Why a peer is not admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// In words.
    pub text: String,
    /// For want of an address or another resource.
    pub no_address: bool,
}

/// An admission under way.
#[derive(Debug)]
pub struct Draft {
    admission: Admission,
    service: Option<Arc<Service>>,
    identity: Option<Identity>,
    ipv4: Search,
    ipv6: Search,
}

/// The search for one address.
#[derive(Debug)]
enum Search {
    /// None is wanted.
    Unwanted,
    /// AAA chose this one, or the peer has it already.
    Chosen(IpAddr),
    /// These pools are left to try.
    Pools(Vec<PoolKey>),
    /// Found.
    Found(Assigned),
}

/// What came of a step.
#[derive(Debug)]
pub enum Step {
    /// Admitted.
    Admitted(Box<Session>),
    /// Not admitted; what had been found is to be given back.
    Refused(Refusal, Vec<Assigned>),
    /// `vpnmgr` must give something first.
    Waiting(Need),
}

impl Draft {
    /// Begins.
    pub fn new(state: &State, admission: Admission) -> Self {
        let service = state.policy.find(&admission.context, &admission.service).cloned();
        let kind = u8::try_from(admission.identity_type)
            .ok()
            .and_then(IdentityKind::from_u8);
        let identity = kind.and_then(|kind| Identity::new(kind, &admission.identity));
        let authorization = admission.authorization.as_ref();
        let chosen = |octets: &dyn Fn(&Authorization) -> &Vec<u8>| {
            let address = address(octets(authorization?))?;
            (!left_to_us(address)).then_some(Search::Chosen(address))
        };
        let search = |wanted: bool, chosen: Option<Search>, ipv6: bool| match (&service, wanted) {
            (Some(service), true) => {
                chosen.unwrap_or_else(|| Search::Pools(pools(state, service, authorization, ipv6)))
            }
            _ => Search::Unwanted,
        };
        let (ipv4, ipv6) = match &admission.claim {
            Some(claim) => (claimed(&claim.ipv4), claimed(&claim.ipv6)),
            None => (
                search(
                    admission.wants_ipv4,
                    chosen(&|authorization| &authorization.framed_ipv4),
                    false,
                ),
                search(
                    admission.wants_ipv6,
                    chosen(&|authorization| &authorization.framed_ipv6),
                    true,
                ),
            ),
        };
        Self {
            admission,
            service,
            identity,
            ipv4,
            ipv6,
        }
    }

    /// Our IKE SPI of the peer.
    pub fn ike_spi(&self) -> u64 {
        self.admission.ike_spi
    }

    /// The peer says that it has no other session.
    pub fn is_only_one(&self) -> bool {
        self.admission.initial_contact
    }

    /// Service and identity in words, for the log.
    pub fn names(&self) -> (&str, &str, String) {
        let identity = self
            .identity
            .as_ref()
            .map_or_else(|| "unknown".to_owned(), ToString::to_string);
        (&self.admission.context, &self.admission.service, identity)
    }

    /// Goes on. `answer` is what became of the need of the last step.
    pub fn step(&mut self, state: &mut State, answer: Option<(Need, Grant)>, now: Instant) -> Step {
        let refused = |text: String, no_address| Refusal { text, no_address };
        let (Some(service), Some(identity)) = (self.service.clone(), self.identity.clone()) else {
            let text = match &self.service {
                None => format!(
                    "there is no wsg-service {} in context {}",
                    self.admission.service, self.admission.context
                ),
                Some(_) => "the peer's identity is malformed".to_owned(),
            };
            return self.refuse(refused(text, false));
        };
        if !service.bound {
            return self.refuse(refused(
                format!("wsg-service {} is not bound", service.name),
                false,
            ));
        }
        if state.sessions.len() >= MAX_SESSIONS {
            return self.refuse(refused(
                format!("{MAX_SESSIONS} sessions, the limit of one worker"),
                true,
            ));
        }
        // Which of the two is the older one cannot be told any more.
        if self.admission.claim.is_some()
            && service.duplicate_session_detection
            && state
                .sessions
                .of(&service.context, &service.name, &identity)
                .next()
                .is_some()
        {
            return self.refuse(refused("its identity has another session".to_owned(), false));
        }
        for ipv6 in [false, true] {
            let search = if ipv6 { &mut self.ipv6 } else { &mut self.ipv4 };
            match search.step(state, &service, &identity, answer.as_ref()) {
                Ok(None) => {}
                Ok(Some(need)) => return Step::Waiting(need),
                Err(text) => return self.refuse(refused(text, true)),
            }
        }
        if self.admission.claim.is_none() && (self.admission.wants_ipv4 || self.admission.wants_ipv6) {
            // RFC 7296 section 3.15.4: one family refused is no failure while the peer got the other.
            if self.ipv4.found().is_none() && self.ipv6.found().is_none() {
                let text = "no pool of the service has a free address";
                return self.refuse(refused(text.to_owned(), true));
            }
        }
        Step::Admitted(Box::new(self.session(state, service, identity, now)))
    }

    /// What has been found so far, to be given back when the peer is given up.
    pub fn abandon(&mut self) -> Vec<Assigned> {
        [&mut self.ipv4, &mut self.ipv6]
            .into_iter()
            .filter_map(Search::take)
            .collect()
    }

    fn refuse(&mut self, refusal: Refusal) -> Step {
        Step::Refused(refusal, self.abandon())
    }

    fn session(
        &mut self,
        state: &mut State,
        service: Arc<Service>,
        identity: Identity,
        now: Instant,
    ) -> Session {
        let admission = &self.admission;
        let some = |seconds: u32| (seconds != 0).then_some(seconds);
        let authorized = admission.authorization.as_ref().map(|said| {
            Box::new(Authorized {
                class: said.class.clone(),
                session_timeout: some(said.session_timeout),
                idle_timeout: some(said.idle_timeout),
                interim_interval: some(said.interim_interval),
                dns: said.dns.iter().filter_map(|server| address(server)).collect(),
            })
        });
        Session {
            user: UserName::new(&admission.user),
            peer: address(&admission.peer).unwrap_or(IpAddr::from([0; 4])),
            ipv4: self.ipv4.take().map(Box::new),
            ipv6: self.ipv6.take().map(Box::new),
            phase: Phase::Arrived,
            ending: None,
            call: state.next_call(),
            began: unix_nanoseconds(),
            connected: None,
            authorized,
            spis: Spis::default(),
            past: Usage::default(),
            usage: Usage::default(),
            restored: false,
            active: now,
            accounted: None,
            tenure: 0,
            displaced: None,
            service,
            identity,
        }
    }
}

impl Search {
    fn step(
        &mut self,
        state: &mut State,
        service: &Service,
        identity: &Identity,
        answer: Option<&(Need, Grant)>,
    ) -> Result<Option<Need>, String> {
        let context = service.clear_context;
        match self {
            Self::Unwanted | Self::Found(_) => Ok(None),
            Self::Chosen(address) => {
                let (address, prefix_length) = (*address, if address.is_ipv4() { 32 } else { 64 });
                let in_use = || format!("address {address} is in use");
                let source = match (state.blocks.take_exactly(context, address, identity), answer) {
                    (Some(Ok(key)), _) => Source::Block(key),
                    (Some(Err(())), _) => state.take_over(service, identity, address).ok_or_else(in_use)?,
                    (None, Some((Need::Address(of, asked), grant)))
                        if (*of, *asked) == (context, address) =>
                    {
                        match grant {
                            // `vpnmgr` gives the same worker the same address twice, so we look ourselves.
                            Grant::Given if state.singles.insert((context, address)) => {
                                Source::Single(context)
                            }
                            Grant::Given => state.take_over(service, identity, address).ok_or_else(in_use)?,
                            Grant::Refused(text) => {
                                return Err(format!("address {address} is refused: {text}"));
                            }
                        }
                    }
                    (None, _) => return Ok(Some(Need::Address(context, address))),
                };
                *self = Self::Found(Assigned {
                    address,
                    prefix_length,
                    source,
                });
                Ok(None)
            }
            Self::Pools(pools) => {
                while let Some(key) = pools.first().cloned() {
                    if let Some((unit, prefix_length)) = state.blocks.take(&key, identity) {
                        let address = peer_address(unit);
                        *self = Self::Found(Assigned {
                            address,
                            prefix_length,
                            source: Source::Block(key),
                        });
                        return Ok(None);
                    }
                    match answer {
                        Some((Need::Block(asked), Grant::Refused(_))) if *asked == key => pools.remove(0),
                        _ => return Ok(Some(Need::Block(key))),
                    };
                }
                Ok(None)
            }
        }
    }

    fn found(&self) -> Option<&Assigned> {
        match self {
            Self::Found(assigned) => Some(assigned),
            _ => None,
        }
    }

    fn take(&mut self) -> Option<Assigned> {
        match std::mem::replace(self, Self::Unwanted) {
            Self::Found(assigned) => Some(assigned),
            _ => None,
        }
    }
}

/// The verdict for `ipsecmgr`.
pub fn admitted(ike_spi: u64, session: &Session) -> Verdict {
    let octets_of = |assigned: &Option<Box<Assigned>>| {
        assigned
            .as_ref()
            .map_or_else(Vec::new, |given| octets(given.address))
    };
    let usable = |server: &&IpAddr| match server {
        IpAddr::V4(_) => session.ipv4.is_some(),
        IpAddr::V6(_) => session.ipv6.is_some(),
    };
    Verdict {
        ike_spi,
        refusal: String::new(),
        ipv4: octets_of(&session.ipv4),
        ipv6: octets_of(&session.ipv6),
        ipv6_prefix_length: session
            .ipv6
            .as_ref()
            .map_or(0, |given| given.prefix_length.into()),
        dns: session
            .dns()
            .iter()
            .filter(usable)
            .map(|server| octets(*server))
            .collect(),
        displaced: session.displaced.map(NonZeroU64::get).into_iter().collect(),
        no_address: false,
    }
}

/// Octets of an address.
pub fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// An address of 4 or 16 octets.
pub fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(IpAddr::from),
        _ => None,
    }
}

/// Now, in nanoseconds since the Unix epoch.
fn unix_nanoseconds() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// The search for an address that the peer has already.
fn claimed(octets: &[u8]) -> Search {
    address(octets).map_or(Search::Unwanted, Search::Chosen)
}

/// RFC 2865 section 5.8: the peer or the NAS is to choose.
fn left_to_us(address: IpAddr) -> bool {
    matches!(address, IpAddr::V4(address) if u32::from(address) >= 0xffff_fffe || address.is_unspecified())
        || matches!(address, IpAddr::V6(address) if address.is_unspecified())
}

/// The address in a unit that the peer is told: of a prefix the one with interface identifier 1.
fn peer_address(unit: IpAddr) -> IpAddr {
    match unit {
        IpAddr::V4(_) => unit,
        IpAddr::V6(prefix) => std::net::Ipv6Addr::from(u128::from(prefix) | 1).into(),
    }
}

/// The pools to try: those that AAA names, or those of the service.
fn pools(
    state: &State,
    service: &Service,
    authorization: Option<&Authorization>,
    ipv6: bool,
) -> Vec<PoolKey> {
    let named = authorization.map_or("", |said| said.pool.as_str());
    if !named.is_empty() {
        let pools = state.policy.pools_named(service.clear_context, named, ipv6);
        if !pools.is_empty() {
            return pools;
        }
    }
    if ipv6 {
        service.ipv6_pools.clone()
    } else {
        service.ipv4_pools.clone()
    }
}

/// Sessions of one worker: what 16 slots of child SAs could hold.
const MAX_SESSIONS: usize = 262_144;

//! What a service wants of its IKE SAs: immutable, shared by all of them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use crypto::{Cipher, DhGroup, Integrity, Prf};

use crate::identity::Identity;
use crate::selectors::TrafficSelector;

/// Everything the engine must know to serve, or to call, one kind of peer. The shell builds it from a crypto template and its service.
#[derive(Debug, Clone)]
pub struct Profile {
    /// Name for logs and `show`, e.g. that of the crypto template.
    pub name: String,
    /// Name of the service, which it keeps in every life of the process: records of IKE SAs name their profile by it.
    pub service: String,
    /// The shell's own key, which the engine hands back. Profiles with one key are of one service, at whichever address, now or before:
    /// INITIAL_CONTACT ends older IKE SAs of the same service only.
    pub tag: u64,
    /// IKE proposals, most preferred first. As responder the first that the peer offers is taken.
    pub proposals: Vec<IkeProposal>,
    /// What a child SA may be, most preferred first; the first whose selectors fit is taken.
    pub children: Vec<Arc<ChildProfile>>,
    /// Our identity; `None` is our address.
    pub local_identity: Option<Identity>,
    /// The only identity that the peer may have; `None` leaves it to the credentials.
    pub remote_identity: Option<Identity>,
    /// How we prove who we are.
    pub local_auth: LocalAuth,
    /// How the peer may prove who it is.
    pub remote_auth: RemoteAuth,
    /// SHA-1 hashes of the trust anchors' public keys, sent in CERTREQ (RFC 7296 3.7).
    pub trust_hashes: Vec<[u8; 20]>,
    /// Retransmission of our requests.
    pub retransmission: Retransmission,
    /// From the first message to the end of IKE_AUTH.
    pub setup_timeout: Duration,
    /// From our IKE_SA_INIT response to the peer's IKE_AUTH request.
    pub half_open_timeout: Duration,
    /// Lifetime of the IKE SA.
    pub lifetime: IkeLifetime,
    /// Dead peer detection; `None`: we only answer the peer's.
    pub liveness: Option<Liveness>,
    /// When to ask for cookies; `None`: never.
    pub cookies: Option<CookieThresholds>,
    /// Child SAs of one IKE SA at most, not counting those in rekeying.
    pub max_children: u8,
    /// Keep an IKE SA whose last child SA is gone.
    pub allow_empty: bool,
    /// Which errors are told to peers outside an IKE SA.
    pub notifies: NotifyPolicy,
    /// Ask [`Question::Admit`](crate::Question::Admit) before a peer gets its first child SA (responder).
    pub admission: bool,
    /// What to ask for in CFG_REQUEST (initiator).
    pub configuration_request: Option<ConfigurationRequest>,
    /// Interval of NAT keepalives while we are behind a NAT (RFC 3948 4); `None`: none.
    pub nat_keepalive: Option<Duration>,
    /// Make the peer believe in a NAT, so that ESP goes over UDP.
    pub force_encapsulation: bool,
    /// Split messages to a peer that can reassemble them (RFC 7383) so that no IP packet is longer than this many bytes.
    pub fragment_mtu: FragmentMtu,
    /// Send INITIAL_CONTACT when no other IKE SA to the peer exists (initiator).
    pub initial_contact: bool,
    /// Answer TEMPORARY_FAILURE and CHILD_SA_NOT_FOUND where RFC 7296 2.25 wants them; otherwise NO_ADDITIONAL_SAS and INVALID_SPI.
    pub rfc7296_notifies: bool,
}

/// One IKE proposal: any combination of these. Lists are most preferred first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeProposal {
    /// Encryption. Not NULL; AEADs and others must not stand in one proposal (RFC 7296 3.3).
    pub ciphers: Vec<Cipher>,
    /// Integrity; not used with an AEAD.
    pub integrities: Vec<Integrity>,
    /// Pseudorandom functions.
    pub prfs: Vec<Prf>,
    /// Diffie-Hellman groups.
    pub groups: Vec<DhGroup>,
}

/// One ESP proposal: any combination of these. Lists are most preferred first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EspProposal {
    /// Encryption. AEADs and others must not stand in one proposal.
    pub ciphers: Vec<Cipher>,
    /// Integrity; not used with an AEAD.
    pub integrities: Vec<Integrity>,
    /// Groups for perfect forward secrecy; empty: none. Not used for the first child SA.
    pub groups: Vec<DhGroup>,
    /// Extended sequence numbers we take: `[false]`, `[true]`, or both in order of preference.
    pub esn: Vec<bool>,
}

/// What one kind of child SA may be.
#[derive(Debug, Clone)]
pub struct ChildProfile {
    /// Name for logs and `show`, e.g. that of the payload. Records name it by this, so it is the only one of this name in its profile.
    pub name: String,
    /// The shell's own key; the engine only hands it back.
    pub tag: u64,
    /// ESP proposals, most preferred first.
    pub proposals: Vec<EspProposal>,
    /// Which peers it is for.
    pub family: FamilyMatch,
    /// Addresses behind us.
    pub local: SelectorPolicy,
    /// Addresses behind the peer.
    pub remote: SelectorPolicy,
    /// When it is rekeyed or deleted.
    pub lifetime: ChildLifetime,
    /// How many there may be with the same traffic selectors.
    pub per_resource: PerResource,
}

/// Child SAs beside one with the same traffic selectors, so that each processor has its own (RFC 9611). None by default.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PerResource {
    /// So many may be beside one when the peer wants another.
    pub accept: u8,
    /// So many we make ourselves.
    pub make: u8,
}

/// What one side of a child SA may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SelectorPolicy {
    /// These, narrowed to what the peer wants.
    Ranges(Vec<TrafficSelector>),
    /// Whatever the peer proposes (site-to-site, received selectors).
    Received,
    /// The addresses assigned to the peer by configuration payload (to us, when we initiate), narrowed to what it wants.
    Assigned,
}

/// Family of the peer's inner addresses that a [`ChildProfile`] is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FamilyMatch {
    /// Both.
    Any,
    /// IPv4 only.
    Ipv4,
    /// IPv6 only.
    Ipv6,
}

/// How we prove who we are.
#[derive(Debug, Clone)]
pub enum LocalAuth {
    /// With a pre-shared key, asked with [`Question::Psk`](crate::Question::Psk).
    Psk,
    /// With a certificate; signatures are asked with [`Question::Sign`](crate::Question::Sign).
    Certificate {
        /// DER certificates, our own first, anchor left out.
        chain: Arc<[Vec<u8>]>,
    },
    /// With EAP (initiator only), asked with [`Question::EapPeer`](crate::Question::EapPeer).
    Eap,
}

/// How the peer may prove who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoteAuth {
    /// With a pre-shared key.
    pub psk: bool,
    /// With a certificate.
    pub certificate: bool,
    /// With EAP (responder only).
    pub eap: bool,
}

/// Retransmission of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retransmission {
    /// Wait for the response this long.
    pub timeout: Duration,
    /// Double the wait each time.
    pub exponential: bool,
    /// Send again this many times, then the peer is dead.
    pub max: u8,
}

/// Lifetime of an IKE SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IkeLifetime {
    /// It is deleted when it is this old; `None`: never.
    pub time: Option<Duration>,
    /// Rekey it before, at about nine tenths; earlier when it carries so much that it would pass them before it is looked at again.
    pub rekey: bool,
}

/// Lifetime of a child SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChildLifetime {
    /// It is deleted when it is this old; `None`: never.
    pub time: Option<Duration>,
    /// It is deleted when it carried this many kilobytes (1000 bytes) in one direction; `None`: never.
    pub kilobytes: Option<u64>,
    /// Rekey it before, at about nine tenths; earlier when it carries so much that it would pass them before it is looked at again.
    pub rekey: bool,
    /// Rekey it even if it carried nothing (`rekey keepalive`).
    pub rekey_idle: bool,
}

/// Dead peer detection: when nothing was heard for `interval`, ask; `retries` more times every `timeout`; then the peer is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Liveness {
    /// Silence before we ask.
    pub interval: Duration,
    /// Wait for an answer this long.
    pub timeout: Duration,
    /// Ask again this many times.
    pub retries: u8,
}

/// Half-open IKE SAs of the engine at which cookies are asked for (RFC 7296 2.6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieThresholds {
    /// Start when there are more than this many; 0: always.
    pub start: u32,
    /// Stop when there are fewer than this many.
    pub stop: u32,
}

/// Which errors are told to peers outside an IKE SA. Telling nobody is a defence against floods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotifyPolicy {
    /// INVALID_MAJOR_VERSION.
    pub invalid_major_version: bool,
    /// INVALID_MESSAGE_ID.
    pub invalid_message_id: bool,
    /// INVALID_SYNTAX in IKE_SA_INIT.
    pub invalid_syntax: bool,
    /// NO_PROPOSAL_CHOSEN in IKE_SA_INIT.
    pub no_proposal_chosen: bool,
}

/// What a peer asks for, or we ask a peer for, in CFG_REQUEST (RFC 7296 3.15).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConfigurationRequest {
    /// INTERNAL_IP4_ADDRESS; the unspecified address asks for any.
    pub ipv4: Option<Ipv4Addr>,
    /// INTERNAL_IP6_ADDRESS; the unspecified address asks for any.
    pub ipv6: Option<Ipv6Addr>,
    /// INTERNAL_IP4_DNS.
    pub dns4: bool,
    /// INTERNAL_IP6_DNS.
    pub dns6: bool,
    /// INTERNAL_IP4_NETMASK.
    pub netmask: bool,
}

/// What CFG_REPLY carries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Configuration {
    /// INTERNAL_IP4_ADDRESS.
    pub ipv4: Option<Ipv4Addr>,
    /// INTERNAL_IP4_NETMASK.
    pub netmask: Option<Ipv4Addr>,
    /// INTERNAL_IP6_ADDRESS with its prefix length.
    pub ipv6: Option<(Ipv6Addr, u8)>,
    /// INTERNAL_IP4_DNS and INTERNAL_IP6_DNS.
    pub dns: Vec<IpAddr>,
}

/// Longest IP packet that carries an IKE fragment, by outer family, in bytes. 0: never split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FragmentMtu {
    /// Over IPv4.
    pub ipv4: u16,
    /// Over IPv6.
    pub ipv6: u16,
}

impl Default for Profile {
    /// No proposals, no credentials; timers as StarOS has them.
    fn default() -> Self {
        Self {
            name: String::new(),
            service: String::new(),
            tag: 0,
            proposals: Vec::new(),
            children: Vec::new(),
            local_identity: None,
            remote_identity: None,
            local_auth: LocalAuth::Psk,
            remote_auth: RemoteAuth::default(),
            trust_hashes: Vec::new(),
            retransmission: Retransmission::default(),
            setup_timeout: Duration::from_secs(60),
            half_open_timeout: Duration::from_secs(60),
            lifetime: IkeLifetime::default(),
            liveness: None,
            cookies: None,
            max_children: 2,
            allow_empty: false,
            notifies: NotifyPolicy::default(),
            admission: false,
            configuration_request: None,
            nat_keepalive: Some(Duration::from_secs(20)),
            force_encapsulation: false,
            fragment_mtu: FragmentMtu::default(),
            initial_contact: false,
            rfc7296_notifies: true,
        }
    }
}

impl Default for Retransmission {
    fn default() -> Self {
        Self {
            timeout: Duration::from_millis(500),
            exponential: true,
            max: 5,
        }
    }
}

impl Default for IkeLifetime {
    fn default() -> Self {
        Self {
            time: Some(Duration::from_secs(86_400)),
            rekey: false,
        }
    }
}

impl Default for ChildLifetime {
    fn default() -> Self {
        Self {
            time: Some(Duration::from_secs(86_400)),
            kilobytes: None,
            rekey: false,
            rekey_idle: false,
        }
    }
}

impl Default for NotifyPolicy {
    fn default() -> Self {
        Self {
            invalid_major_version: true,
            invalid_message_id: false,
            invalid_syntax: true,
            no_proposal_chosen: true,
        }
    }
}

impl Default for FragmentMtu {
    fn default() -> Self {
        Self {
            ipv4: 1384,
            ipv6: 1364,
        }
    }
}

impl ChildProfile {
    /// A child SA with these proposals and selectors, for both families, with default lifetimes.
    pub fn new(
        name: &str,
        proposals: Vec<EspProposal>,
        local: SelectorPolicy,
        remote: SelectorPolicy,
    ) -> Self {
        Self {
            name: name.to_owned(),
            tag: 0,
            proposals,
            family: FamilyMatch::Any,
            local,
            remote,
            lifetime: ChildLifetime::default(),
            per_resource: PerResource::default(),
        }
    }
}

impl FamilyMatch {
    /// True if a selector is of this family.
    pub(crate) fn takes(self, selector: &TrafficSelector) -> bool {
        match self {
            FamilyMatch::Any => true,
            FamilyMatch::Ipv4 => selector.is_ipv4(),
            FamilyMatch::Ipv6 => !selector.is_ipv4(),
        }
    }
}

impl Configuration {
    /// The assigned addresses as selectors. An IPv6 address with a prefix shorter than 128 stands for the whole prefix.
    pub fn selectors(&self) -> Vec<TrafficSelector> {
        let ipv4 = self.ipv4.map(|address| TrafficSelector::host(address.into()));
        let ipv6 = self
            .ipv6
            .map(|(address, length)| TrafficSelector::prefix(address.into(), length));
        ipv4.into_iter().chain(ipv6).collect()
    }

    /// True if no address is assigned.
    pub fn is_empty(&self) -> bool {
        self.ipv4.is_none() && self.ipv6.is_none()
    }
}

impl ConfigurationRequest {
    /// True if an address is asked for.
    pub fn wants_address(&self) -> bool {
        self.ipv4.is_some() || self.ipv6.is_some()
    }
}

impl Liveness {
    /// As the retransmission of the liveness check itself.
    pub(crate) fn retransmission(self) -> Retransmission {
        Retransmission {
            timeout: self.timeout,
            exponential: false,
            max: self.retries,
        }
    }
}

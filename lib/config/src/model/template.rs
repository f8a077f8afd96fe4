//! Crypto templates.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{DEFAULT_LIFETIME, Identity};
use crate::SecretText;

/// `crypto template NAME ikev2-dynamic`: the IKEv2 policy of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CryptoTemplate {
    /// `authentication ...`.
    pub authentication: PeerAuthentication,
    /// `ikev2-ikesa auth-method-set list`: further ways to authenticate, at most 3.
    pub auth_method_sets: Vec<String>,
    /// `certificate NAME`: our certificate.
    pub certificate: Option<String>,
    /// `ca-certificate list ca-cert-name NAME ...`: accepted authorities, at most 4.
    pub ca_certificates: Vec<String>,
    /// `control-dont-fragment`, default copy.
    pub dont_fragment: DontFragment,
    /// `dos cookie-challenge notify-payload`: `None` is off, the default.
    pub cookie_challenge: Option<CookieChallenge>,
    /// `identity local`.
    pub identity: Option<Identity>,
    /// `nai`.
    pub nai: Option<Nai>,
    /// `ikev2-ikesa ...`.
    pub ikesa: IkeSaPolicy,
    /// `ip ikev2-mtu`: largest IKE message over IPv4, 460 to 1932 octets.
    pub ipv4_ikev2_mtu: u16,
    /// `ipv6 ikev2-mtu`: largest IKE message over IPv6, 1144 to 1912 octets.
    pub ipv6_ikev2_mtu: u16,
    /// `ip mtu`: largest user packet inside an IPv4 tunnel, 576 to 2048 octets.
    pub ipv4_mtu: u16,
    /// `ipv6 mtu`: largest user packet inside an IPv6 tunnel, 1280 to 2048 octets.
    pub ipv6_mtu: u16,
    /// `keepalive`: dead peer detection; `None` is off, the default. The peer's is always answered.
    pub keepalive: Option<Keepalive>,
    /// `max-childsa`.
    pub max_child_sa: MaxChildSa,
    /// `natt`: what a NAT on the way gets beyond UDP encapsulation, which every peer behind one gets (RFC 7296 2.23); `None` is nothing.
    pub natt: Option<Natt>,
    /// `payload NAME match childsa`.
    pub payloads: BTreeMap<String, Payload>,
    /// `peer network`: accepted peer addresses, all when empty.
    pub peer_networks: Vec<PeerNetwork>,
    /// `remote-secret-list`: see [`crate::Config::remote_secrets`].
    pub remote_secret_list: Option<String>,
}

/// How both sides prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PeerAuthentication {
    /// `authentication local`.
    pub local: Option<LocalAuthentication>,
    /// `authentication remote`.
    pub remote: Option<RemoteAuthentication>,
}

/// `ikev2-ikesa auth-method-set NAME`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AuthMethodSet(pub PeerAuthentication);

/// How we authenticate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalAuthentication {
    /// With the template's certificate.
    Certificate,
    /// With a shared secret.
    PreSharedKey(SecretText),
}

/// How the peer authenticates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RemoteAuthentication {
    /// With a certificate that leads to one of the template's authorities.
    Certificate,
    /// With EAP, as this profile says.
    EapProfile(String),
    /// With a shared secret. A remote secret list and `peer network` secrets go first.
    PreSharedKey(SecretText),
}

/// `eap-profile NAME`: what happens to EAP messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EapProfile {
    /// `mode`: `None` until it is said.
    pub mode: Option<EapMode>,
}

command::keywords! {
    /// What we do with the EAP messages of a peer.
    pub enum EapMode {
        AuthenticatorPassThrough = "authenticator-pass-through", "EAP messages are passed to and from the AAA server";
    }
}

command::keywords! {
    /// The DF bit of the outer header.
    pub enum DontFragment {
        Clear = "clear-bit", "The outer DF bit is always clear";
        Copy = "copy-bit", "The outer DF bit is the inner one";
        Set = "set-bit", "The outer DF bit is always set";
    }
}

/// Cookies are asked for while more than `start` and until less than `stop` half-open SAs exist in an ipsecmgr.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CookieChallenge {
    /// 0 to 100000; 0 means always.
    pub start: u32,
    /// 0 to 100000, not above `start`.
    pub stop: u32,
}

/// `nai ...`: what we say in IDr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nai {
    /// `idr NAME id-type TYPE`.
    Idr(Identity),
    /// `use-received-idr`: what the peer asked for.
    UseReceivedIdr,
}

/// `ikev2-ikesa ...`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IkeSaPolicy {
    /// `allow-empty-ikesa`: an IKE SA may outlive its last child. Default off.
    pub allow_empty: bool,
    /// `ignore-rekeying-requests`: the peer's IKE SA rekeying is refused. Default off.
    pub ignore_rekeying_requests: bool,
    /// `keepalive-user-activity`: the peer's keepalives count as activity of the session. Default off.
    pub keepalive_user_activity: bool,
    /// `max-retransmissions`: 1 to 8.
    pub max_retransmissions: u8,
    /// `retransmission-timeout`: 300 to 15000 milliseconds.
    pub retransmission_timeout: u16,
    /// `retransmission-timeout ... exponential`: the time doubles after each retransmission.
    pub exponential: bool,
    /// `policy error-notification`.
    pub error_notification: ErrorNotification,
    /// `policy congestion-rejection notify-status-value`: the notification that refuses new peers in congestion, 40960 to 65535 (private
    /// status types of RFC 7296 3.10.1); `None` is TEMPORARY_FAILURE.
    pub congestion_notify: Option<u16>,
    /// `policy use-rfc5996-notification`: TEMPORARY_FAILURE and CHILD_SA_NOT_FOUND are sent. On by default, as RFC 7296 2.25 wants it
    /// (StarOS: off).
    pub use_rfc5996_notification: bool,
    /// `rekey`: we rekey IKE SAs at about 90 % of their lifetime; `None` is off, the default.
    pub rekey: Option<Rekey>,
    /// `setup-timer`: seconds for a set-up, 1 to 3600.
    pub setup_timer: u32,
    /// `transform-set list`: names in order of preference, at most 6.
    pub transform_sets: Vec<String>,
}

/// What is answered with an error notification. Default: all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorNotification {
    /// `invalid-major-version`.
    pub invalid_major_version: bool,
    /// `invalid-message-id`.
    pub invalid_message_id: bool,
    /// `invalid-syntax`.
    pub invalid_syntax: bool,
}

/// Own rekeying of IKE SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rekey {
    /// `disallow-param-change`: the peer may not choose other parameters than before.
    pub disallow_param_change: bool,
}

/// Dead peer detection: a probe after `interval` seconds without a packet from the peer, again after each `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keepalive {
    /// `interval`: 1 to 65535 seconds, default 3600.
    pub interval: u32,
    /// `timeout`: 1 to 65535 seconds, default 10.
    pub timeout: u32,
    /// `num-retry`: 0 to 65535, default 2.
    pub num_retry: u32,
}

/// `max-childsa`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxChildSa {
    /// 1 to 5.
    pub number: u8,
    /// `overload-action`.
    pub overload: OverloadAction,
}

command::keywords! {
    /// What happens when a peer asks for one child SA too many.
    pub enum OverloadAction {
        Ignore = "ignore", "The limit is ignored";
        Terminate = "terminate", "The new child SA is refused";
    }
}

/// NAT traversal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Natt {
    /// `include-header`: user MTU counts the UDP header.
    pub include_header: bool,
    /// `send-keepalive`: the gateway itself sends NAT keepalives.
    pub send_keepalive: Option<NatKeepalive>,
}

/// NAT keepalives of the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NatKeepalive {
    /// `idle-interval`: seconds of silence before the first, 20 to 86400.
    pub idle_interval: u32,
    /// `interval`: seconds between two, 20 to 86400.
    pub interval: u32,
}

/// `peer network`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerNetwork {
    /// Outer addresses of peers.
    pub network: IpNet,
    /// Their shared secret, if it is another than the template's.
    pub secret: Option<SecretText>,
}

/// `payload NAME match childsa match ...`: policy of child SAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payload {
    /// Which child SAs this payload is for.
    pub family: PayloadFamily,
    /// `ip-address-allocation`: default home-address.
    pub allocation: AddressAllocation,
    /// `ipsec transform-set list`: names in order of preference, at most 4.
    pub transform_sets: Vec<String>,
    /// `lifetime`: 60 to 604800 seconds.
    pub lifetime: u32,
    /// `lifetime ... kilo-bytes`: 1 to 2147483647, `None` for no limit.
    pub lifetime_kilobytes: Option<u32>,
    /// `maximum-child-sa`: 1 to 4.
    pub maximum_child_sa: u8,
    /// `per-resource-sa`: child SAs with the same selectors are spread over the workers. `None`, the default: there are none, and peers that want one are refused.
    pub per_resource: Option<PerResourceSa>,
    /// `rekey`: we rekey child SAs; `None` is off, the default: they end with their lifetime.
    pub rekey: Option<PayloadRekey>,
    /// `ignore-rekeying-requests`: the peer's rekeying is refused. Default off.
    pub ignore_rekeying_requests: bool,
    /// `tsi`.
    pub tsi: PayloadTsi,
    /// `tsr start-address A end-address B`: what peers may reach, at most 4 that do not overlap; all when empty.
    pub tsr: Vec<AddressRange>,
}

command::keywords! {
    /// Address family of a payload.
    pub enum PayloadFamily {
        Any = "any", "IPv4 and IPv6 child SAs";
        Ipv4 = "ipv4", "IPv4 child SAs";
        Ipv6 = "ipv6", "IPv6 child SAs";
    }
}

command::keywords! {
    /// Where a peer's inner address comes from.
    pub enum AddressAllocation {
        Dynamic = "dynamic", "An address from a pool or from AAA";
        HomeAddress = "home-address", "The home address of the peer";
    }
}

/// Child SAs beside one with the same traffic selectors (RFC 9611).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PerResourceSa {
    /// `max`: peers may have so many beside one, 1 to 15.
    pub max: u8,
    /// `initiate`: so many we make ourselves, 0 to 15.
    pub initiate: u8,
}

impl Default for PerResourceSa {
    fn default() -> Self {
        Self { max: 8, initiate: 0 }
    }
}

/// Own rekeying of child SAs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PayloadRekey {
    /// `keepalive`: also when there was no traffic.
    pub keepalive: bool,
}

command::keywords! {
    /// Traffic selectors of the initiator.
    pub enum PayloadTsi {
        Endpoint = "endpoint", "The address given to the peer";
        Any = "any", "Whatever the peer asks for";
    }
}

/// First and last address of a range, same family, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    /// First address.
    pub start: IpAddr,
    /// Last address.
    pub end: IpAddr,
}

impl Default for CookieChallenge {
    fn default() -> Self {
        Self {
            start: 50_000,
            stop: 20_000,
        }
    }
}

impl Default for Keepalive {
    fn default() -> Self {
        Self {
            interval: 3_600,
            timeout: 10,
            num_retry: 2,
        }
    }
}

impl Default for NatKeepalive {
    fn default() -> Self {
        Self {
            idle_interval: 60,
            interval: 60,
        }
    }
}

impl Default for MaxChildSa {
    fn default() -> Self {
        Self {
            number: 2,
            overload: OverloadAction::Ignore,
        }
    }
}

impl Default for ErrorNotification {
    fn default() -> Self {
        Self {
            invalid_major_version: true,
            invalid_message_id: true,
            invalid_syntax: true,
        }
    }
}

impl Default for IkeSaPolicy {
    fn default() -> Self {
        Self {
            allow_empty: false,
            ignore_rekeying_requests: false,
            keepalive_user_activity: false,
            max_retransmissions: 5,
            retransmission_timeout: 500,
            exponential: false,
            error_notification: ErrorNotification::default(),
            congestion_notify: None,
            use_rfc5996_notification: true,
            rekey: None,
            setup_timer: 60,
            transform_sets: Vec::new(),
        }
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self {
            family: PayloadFamily::Any,
            allocation: AddressAllocation::HomeAddress,
            transform_sets: Vec::new(),
            lifetime: DEFAULT_LIFETIME,
            lifetime_kilobytes: None,
            maximum_child_sa: 1,
            per_resource: None,
            rekey: None,
            ignore_rekeying_requests: false,
            tsi: PayloadTsi::Endpoint,
            tsr: Vec::new(),
        }
    }
}

impl Default for CryptoTemplate {
    fn default() -> Self {
        Self {
            authentication: PeerAuthentication::default(),
            auth_method_sets: Vec::new(),
            certificate: None,
            ca_certificates: Vec::new(),
            dont_fragment: DontFragment::Copy,
            cookie_challenge: None,
            identity: None,
            nai: None,
            ikesa: IkeSaPolicy::default(),
            ipv4_ikev2_mtu: 1_384,
            ipv6_ikev2_mtu: 1_364,
            ipv4_mtu: 1_438,
            ipv6_mtu: 1_422,
            keepalive: None,
            max_child_sa: MaxChildSa::default(),
            natt: None,
            payloads: BTreeMap::new(),
            peer_networks: Vec::new(),
            remote_secret_list: None,
        }
    }
}

impl CryptoTemplate {
    /// What we call ourselves: `nai idr` goes before `identity local`; `None` leaves the service's address.
    pub fn local_identity(&self) -> Option<&Identity> {
        match &self.nai {
            Some(Nai::Idr(identity)) => Some(identity),
            _ => self.identity.as_ref(),
        }
    }
}

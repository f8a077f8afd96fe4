//! One context.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::{
    AaaGroup, AccessList, Administrator, AuthMethodSet, CryptoTemplate, EapProfile, IkeTransformSet,
    Interface, IpsecTransformSet, Ipv4Pool, Ipv6Pool, LocalAuthentication, PeerAuthentication,
    RemoteAuthentication, Route, SyslogServer, WsgService,
};

/// Name of the AAA group that holds what `radius ...` says outside any group.
pub const DEFAULT_AAA_GROUP: &str = "default";

/// `context NAME`: a virtual router; a network namespace of its own, except `local`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Identifier, in the order of creation; `local` has 1.
    pub id: u32,
    /// `administrator`, `operator`, ... by name.
    pub administrators: BTreeMap<String, Administrator>,
    /// `interface NAME`.
    pub interfaces: BTreeMap<String, Interface>,
    /// `ip route` and `ipv6 route`, in the order of their destinations.
    pub routes: Vec<Route>,
    /// `ip pool NAME`.
    pub ipv4_pools: BTreeMap<String, Ipv4Pool>,
    /// `ipv6 pool NAME`.
    pub ipv6_pools: BTreeMap<String, Ipv6Pool>,
    /// `ip access-list NAME`.
    pub ipv4_access_lists: BTreeMap<String, AccessList>,
    /// `ipv6 access-list NAME`.
    pub ipv6_access_lists: BTreeMap<String, AccessList>,
    /// `aaa group NAME`; [`DEFAULT_AAA_GROUP`] also holds `radius ...` of the context.
    pub aaa_groups: BTreeMap<String, AaaGroup>,
    /// `subscriber default`.
    pub subscriber: Subscriber,
    /// `eap-profile NAME`.
    pub eap_profiles: BTreeMap<String, EapProfile>,
    /// `ikev2-ikesa auth-method-set NAME`.
    pub auth_method_sets: BTreeMap<String, AuthMethodSet>,
    /// `ipsec transform-set NAME`.
    pub ipsec_transform_sets: BTreeMap<String, IpsecTransformSet>,
    /// `ikev2-ikesa transform-set NAME`.
    pub ike_transform_sets: BTreeMap<String, IkeTransformSet>,
    /// `ipsec replay`: anti-replay window in packets, `None` when switched off. Default 64.
    pub replay_window: Option<u32>,
    /// `crypto template NAME`.
    pub crypto_templates: BTreeMap<String, CryptoTemplate>,
    /// `wsg-service NAME`.
    pub wsg_services: BTreeMap<String, WsgService>,
    /// `logging syslog ADDRESS`.
    pub syslog: Vec<SyslogServer>,
}

/// Anti-replay window when nothing is configured, in packets.
pub const DEFAULT_REPLAY_WINDOW: u32 = 64;

/// `subscriber default`: what sessions of this context's services get when neither service nor AAA says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Subscriber {
    /// `aaa group NAME`: who authenticates and accounts; `None` means [`DEFAULT_AAA_GROUP`].
    pub aaa_group: Option<String>,
    /// `dns primary` and `dns secondary`: name servers handed to IPv4 peers.
    pub dns: DnsServers<Ipv4Addr>,
    /// `ipv6 dns primary` and `ipv6 dns secondary`: name servers handed to IPv6 peers.
    pub ipv6_dns: DnsServers<Ipv6Addr>,
    /// `ip context-name`: context of the clear side; `None` means the service's own.
    pub context_name: Option<String>,
    /// `ip address pool name`, in order.
    pub ip_pools: Vec<String>,
    /// `timeout absolute`: longest session in seconds, `None` for no limit.
    pub absolute_timeout: Option<u32>,
    /// `timeout idle`: longest silence in seconds, `None` for no limit.
    pub idle_timeout: Option<u32>,
}

/// A primary and a secondary name server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DnsServers<A> {
    /// Asked first.
    pub primary: Option<A>,
    /// Asked when the first does not answer.
    pub secondary: Option<A>,
}

impl<A> Default for DnsServers<A> {
    fn default() -> Self {
        Self {
            primary: None,
            secondary: None,
        }
    }
}

impl<A: Copy> DnsServers<A> {
    /// The servers that are set, primary first.
    pub fn iter(&self) -> impl Iterator<Item = A> {
        [self.primary, self.secondary].into_iter().flatten()
    }
}

impl Context {
    /// An empty context.
    pub fn new(id: u32) -> Self {
        Self {
            id,
            administrators: BTreeMap::new(),
            interfaces: BTreeMap::new(),
            routes: Vec::new(),
            ipv4_pools: BTreeMap::new(),
            ipv6_pools: BTreeMap::new(),
            ipv4_access_lists: BTreeMap::new(),
            ipv6_access_lists: BTreeMap::new(),
            aaa_groups: BTreeMap::new(),
            subscriber: Subscriber::default(),
            eap_profiles: BTreeMap::new(),
            auth_method_sets: BTreeMap::new(),
            ipsec_transform_sets: BTreeMap::new(),
            ike_transform_sets: BTreeMap::new(),
            replay_window: Some(DEFAULT_REPLAY_WINDOW),
            crypto_templates: BTreeMap::new(),
            wsg_services: BTreeMap::new(),
            syslog: Vec::new(),
        }
    }

    /// The ways in which a peer of this template may authenticate, most preferred first: the template's own, then its method sets.
    pub fn authentication_of(&self, template: &CryptoTemplate) -> Vec<PeerAuthentication> {
        let own = std::iter::once(&template.authentication);
        let sets = template
            .auth_method_sets
            .iter()
            .filter_map(|name| self.auth_method_sets.get(name));
        own.chain(sets.map(|set| &set.0))
            .filter(|methods| methods.remote.is_some() || methods.local.is_some())
            .cloned()
            .collect()
    }

    /// What keeps peers of this template from using EAP, which it allows: whoever asks for EAP is shown our AUTH before he has proved
    /// anything, so it must be a signature (RFC 7296 section 2.16). With a pre-shared key anybody could guess the key at leisure.
    pub fn eap_obstacle(&self, template: &CryptoTemplate) -> Option<&'static str> {
        let methods = self.authentication_of(template);
        let allows_eap = methods
            .iter()
            .any(|method| matches!(method.remote, Some(RemoteAuthentication::EapProfile(_))));
        // We prove ourselves in the first way there is.
        let local = methods.iter().find_map(|method| method.local.as_ref());
        let has_key = matches!(local, Some(LocalAuthentication::PreSharedKey(_)));
        (allows_eap && has_key).then_some(
            "authentication remote eap-profile needs \"authentication local certificate\": with EAP anybody is shown what a pre-shared key makes",
        )
    }
}

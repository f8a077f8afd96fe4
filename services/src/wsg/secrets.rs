//! Which pre-shared key proves whom.

use std::net::IpAddr;

use config::{
    Config, CryptoTemplate, LocalAuthentication, PeerAuthentication, RemoteAuthentication, SecretText,
};
use ikev2::Identity;
use ipnet::IpNet;

use super::identity;

/// A pre-shared key, sealed; only `sct` can say what it is.
pub type Secret = SecretText;

/// The pre-shared keys of a service, sealed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Secrets {
    local: Option<Secret>,
    remote: Option<Secret>,
    by_identity: Vec<(config::Identity, Secret)>,
    by_network: Vec<(IpNet, Secret)>,
}

impl Secrets {
    pub(super) fn new(config: &Config, template: &CryptoTemplate, methods: &[PeerAuthentication]) -> Self {
        let local = methods.iter().find_map(|method| match &method.local {
            Some(LocalAuthentication::PreSharedKey(secret)) => Some(secret.clone()),
            _ => None,
        });
        let remote = methods.iter().find_map(|method| match &method.remote {
            Some(RemoteAuthentication::PreSharedKey(secret)) => Some(secret.clone()),
            _ => None,
        });
        let by_identity = config
            .remote_secrets(template)
            .map(|list| list.secrets.clone().into_iter().collect());
        let mut by_network: Vec<_> = template
            .peer_networks
            .iter()
            .filter_map(|peer| Some((peer.network, peer.secret.clone()?)))
            .collect();
        // The narrowest network decides.
        by_network.sort_by_key(|(network, _)| std::cmp::Reverse(network.prefix_len()));
        Self {
            local,
            remote,
            by_identity: by_identity.unwrap_or_default(),
            by_network,
        }
    }

    /// The key that proves a peer of this identity at this address: from the remote secret list, else of its network, else the template's.
    pub fn remote(&self, peer: &Identity, address: IpAddr) -> Option<&Secret> {
        let listed = self
            .by_identity
            .iter()
            .find(|(listed, _)| identity::is(listed, peer));
        let network = || {
            self.by_network
                .iter()
                .find(|(network, _)| network.contains(&address))
        };
        listed
            .map(|(_, secret)| secret)
            .or_else(|| network().map(|(_, secret)| secret))
            .or(self.remote.as_ref())
    }

    /// The key that proves us.
    pub fn local(&self) -> Option<&Secret> {
        self.local.as_ref()
    }

    /// Whether a peer can prove itself by a key at all.
    pub fn is_empty(&self) -> bool {
        self.remote.is_none() && self.by_identity.is_empty() && self.by_network.is_empty()
    }

    /// Every key, for whoever keeps copies.
    pub fn all(&self) -> impl Iterator<Item = &Secret> {
        let lists = self
            .by_identity
            .iter()
            .map(|(_, s)| s)
            .chain(self.by_network.iter().map(|(_, s)| s));
        self.local.iter().chain(&self.remote).chain(lists)
    }
}

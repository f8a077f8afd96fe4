//! What both roles of IKE_AUTH share (RFC 7296 2.15, 2.16; RFC 7427).

use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use crypto::{Prf, Secret, constant_time_eq};

use super::{IkeSa, Parties, Proved, State};
use crate::env::{Env, peer_key};
use crate::event::{Count, Established, Event, RemoveReason};
use crate::identity::Identity;
use crate::keys::{AuthKeys, shared_key_auth, signed_octets};
use crate::message::{Builder, CERT_X509, Configured, NotifyKind, Payloads, attribute};
use crate::output::{AuthMethod, IkeSaId};
use crate::profile::{Configuration, ConfigurationRequest, LocalAuth};
use crate::record::stored;

/// AUTH method: shared key (RFC 7296 3.8).
pub(super) const METHOD_SHARED_KEY: u8 = 2;
/// Certificates taken from one message, at most.
pub(super) const MAX_CERTIFICATES: usize = 8;
/// Hash algorithms of the peer that we remember.
const MAX_HASHES: usize = 16;

/// What IKE_SA_INIT leaves for IKE_AUTH.
pub(crate) struct AuthContext {
    pub keys: AuthKeys,
    /// Our first message and the peer's, as they went over the wire.
    pub own_message: Vec<u8>,
    pub peer_message: Vec<u8>,
    pub own_nonce: [u8; 32],
    pub peer_nonce: Vec<u8>,
    /// SIGNATURE_HASH_ALGORITHMS of the peer.
    pub peer_hashes: Vec<u16>,
}

stored!(AuthContext {
    keys,
    own_message,
    peer_message,
    own_nonce,
    peer_nonce,
    peer_hashes,
});

impl AuthContext {
    /// What we sign. `initiator`: are we?
    pub fn own_octets(&self, prf: Prf, initiator: bool, id_body: &[u8]) -> Vec<u8> {
        signed_octets(
            prf,
            &self.own_message,
            &self.peer_nonce,
            self.sk_p(initiator),
            id_body,
        )
    }

    /// What the peer signs. `initiator`: are we?
    pub fn peer_octets(&self, prf: Prf, initiator: bool, id_body: &[u8]) -> Vec<u8> {
        signed_octets(
            prf,
            &self.peer_message,
            &self.own_nonce,
            self.sk_p(!initiator),
            id_body,
        )
    }

    /// How much it keeps.
    pub fn octets(&self) -> usize {
        self.own_message.len() + self.peer_message.len() + self.peer_nonce.len()
    }

    /// SK_pi or SK_pr.
    pub fn sk_p(&self, initiator: bool) -> &Secret {
        if initiator {
            &self.keys.initiator
        } else {
            &self.keys.responder
        }
    }
}

/// SIGNATURE_HASH_ALGORITHMS of an IKE_SA_INIT (RFC 7427 4).
pub(super) fn peer_hashes(payloads: &Payloads<'_>) -> Vec<u16> {
    let Some(notify) = payloads.notify(NotifyKind::SIGNATURE_HASH_ALGORITHMS) else {
        return Vec::new();
    };
    let (hashes, _) = notify.data.as_chunks::<2>();
    hashes
        .iter()
        .take(MAX_HASHES)
        .map(|hash| u16::from_be_bytes(*hash))
        .collect()
}

/// The way an AUTH payload proves something.
pub(super) fn method_of(number: u8) -> Option<AuthMethod> {
    match number {
        METHOD_SHARED_KEY => Some(AuthMethod::Psk),
        1 | 9 | 10 | 11 | 14 => Some(AuthMethod::Signature(number)),
        _ => None,
    }
}

/// Is this the AUTH data that the key gives? An empty key proves nothing.
pub(super) fn verify_shared_key(prf: Prf, key: &[u8], octets: &[u8], data: &[u8]) -> bool {
    !key.is_empty() && constant_time_eq(shared_key_auth(prf, key, octets).as_bytes(), data)
}

/// X.509 certificates of a message, the sender's own first. Other encodings are counted out.
pub(super) fn certificates(payloads: &Payloads<'_>) -> Vec<Vec<u8>> {
    payloads
        .certificates
        .iter()
        .filter(|(encoding, _)| *encoding == CERT_X509)
        .take(MAX_CERTIFICATES)
        .map(|(_, data)| data.to_vec())
        .collect()
}

/// Appends our certificate chain, if we have one.
pub(super) fn write_certificates(env: &mut Env<'_>, builder: &mut Builder, auth: &LocalAuth) {
    let LocalAuth::Certificate { chain } = auth else {
        return;
    };
    for certificate in chain.iter() {
        builder.certificate(CERT_X509, certificate);
    }
    env.count(Count::CertificateSent(
        u16::try_from(chain.len()).unwrap_or(u16::MAX),
    ));
}

/// A CFG_REQUEST, as far as it asks for what there is.
pub(super) fn requested(configured: &Configured<'_>) -> ConfigurationRequest {
    let mut request = ConfigurationRequest::default();
    for found in &configured.attributes {
        match found.kind {
            attribute::IP4_ADDRESS => request.ipv4 = Some(ipv4(found.value).unwrap_or(Ipv4Addr::UNSPECIFIED)),
            attribute::IP6_ADDRESS => {
                request.ipv6 = Some(ipv6(found.value).map_or(Ipv6Addr::UNSPECIFIED, |(address, _)| address));
            }
            attribute::IP4_NETMASK => request.netmask = true,
            attribute::IP4_DNS => request.dns4 = true,
            attribute::IP6_DNS => request.dns6 = true,
            _ => {}
        }
    }
    request
}

/// A CFG_REPLY, as far as we know its attributes.
pub(super) fn replied(configured: &Configured<'_>) -> Configuration {
    let mut configuration = Configuration::default();
    for found in &configured.attributes {
        match found.kind {
            attribute::IP4_ADDRESS => configuration.ipv4 = configuration.ipv4.or(ipv4(found.value)),
            attribute::IP4_NETMASK => configuration.netmask = ipv4(found.value),
            attribute::IP6_ADDRESS => configuration.ipv6 = configuration.ipv6.or(ipv6(found.value)),
            attribute::IP4_DNS => configuration
                .dns
                .extend(ipv4(found.value).map(std::net::IpAddr::V4)),
            attribute::IP6_DNS => {
                configuration
                    .dns
                    .extend(ipv6_address(found.value).map(std::net::IpAddr::V6));
            }
            _ => {}
        }
    }
    configuration
}

fn ipv4(value: &[u8]) -> Option<Ipv4Addr> {
    <[u8; 4]>::try_from(value).ok().map(Ipv4Addr::from)
}

/// An INTERNAL_IP6_ADDRESS: address and prefix length.
fn ipv6(value: &[u8]) -> Option<(Ipv6Addr, u8)> {
    let (length, address) = value.split_last()?;
    Some((ipv6_address(address)?, (*length).min(128)))
}

fn ipv6_address(value: &[u8]) -> Option<Ipv6Addr> {
    <[u8; 16]>::try_from(value).ok().map(Ipv6Addr::from)
}

impl IkeSa {
    /// Who we are to this peer.
    pub(super) fn own_identity(&self) -> Identity {
        match &self.profile.local_identity {
            Some(identity) => identity.clone(),
            None => Identity::ip(self.path.local.ip()),
        }
    }

    pub(super) fn prf(&self) -> Option<Prf> {
        self.keys.as_ref().map(|keys| keys.algorithms.prf)
    }

    /// Both are authenticated. What IKE_AUTH needed is dropped; timers begin.
    pub(super) fn establish(&mut self, env: &mut Env<'_>, parties: Parties) {
        self.parties = Some(Arc::new(parties));
        self.set_state(env, State::Established);
        self.start_lifetime(env);
    }

    /// Tells that it is established. Its child SA is installed and the peer knows.
    pub(super) fn announce(&mut self, env: &mut Env<'_>, child: Option<u32>) {
        let Some(parties) = &self.parties else { return };
        env.event(Event::Established(Box::new(Established {
            ike: self.id,
            path: self.path,
            initiator: self.initiator,
            profile: Arc::clone(&self.profile),
            local: parties.local.clone(),
            peer: parties.peer.clone(),
            peer_auth: parties.method,
            eap_identity: parties.eap_identity.clone(),
            configuration: parties.configuration.clone(),
            child,
            nat: self.nat.any(),
        })));
    }

    /// RFC 7296 2.4: the peer has no other IKE SA between these identities, so ours are left-overs. What counts is who it proved to be, and
    /// which service it called: services are parties of their own, even where identity and peers are the same (those of two contexts).
    pub(super) fn on_initial_contact(&mut self, env: &mut Env<'_>) {
        let Some(parties) = self.parties.clone() else {
            return;
        };
        let service = self.profile.tag;
        for other in others(env, &parties, self.id) {
            env.with(other, |other, env| {
                let same = |theirs: &Arc<Parties>| theirs.is_same(&parties);
                if other.profile.tag == service && other.parties.as_ref().is_some_and(same) {
                    other.close(env, RemoveReason::InitialContact, false);
                }
            });
        }
        // Others know the peer by IDi only.
        if let Some(Proved::Identity(peer)) = parties.proved() {
            env.event(Event::InitialContact {
                ike: self.id,
                peer: peer.clone(),
            });
        }
    }
}

/// Established IKE SAs that may be between the same identities.
fn others(env: &Env<'_>, parties: &Parties, except: IkeSaId) -> Vec<IkeSaId> {
    let Some(proved) = parties.proved() else {
        return Vec::new();
    };
    let key = peer_key(&parties.local, proved);
    env.core
        .peers
        .range((key, IkeSaId(0))..=(key, IkeSaId(u64::MAX)))
        .map(|(_, id)| *id)
        .filter(|id| *id != except)
        .collect()
}

/// True if an established IKE SA between these identities may exist.
pub(super) fn is_known(env: &Env<'_>, local: &Identity, peer: &Identity) -> bool {
    let key = peer_key(local, Proved::Identity(peer));
    env.core
        .peers
        .range((key, IkeSaId(0))..=(key, IkeSaId(u64::MAX)))
        .next()
        .is_some()
}

//! What `show` sees of an IKE SA.

use std::sync::Arc;
use std::time::Instant;

use super::child::{Child, Phase};
use super::{IkeSa, State};
use crate::show::{ChildSaView, ChildState, IkeSaView, IkeState};

impl IkeSa {
    /// A copy of what is to be seen.
    pub fn view(&self, now: Instant) -> IkeSaView {
        let (initiator_spi, responder_spi) = self.spis();
        let parties = self.parties.as_ref();
        IkeSaView {
            id: self.id,
            initiator_spi,
            responder_spi,
            initiator: self.initiator,
            state: match self.state {
                State::InitSent(_) | State::InitReplied(_) => IkeState::HalfOpen,
                State::AuthSent(_) | State::AuthReceived(_) => IkeState::Authenticating,
                State::Established => IkeState::Established,
                _ => IkeState::Deleting,
            },
            profile: Arc::clone(&self.profile),
            path: self.path,
            nat: (self.nat.local, self.nat.remote),
            local: parties.map(|parties| parties.local.clone()),
            peer: match (&self.state, parties) {
                (_, Some(parties)) => Some(parties.peer.clone()),
                (State::AuthReceived(auth), None) => auth.claimed_identity(),
                _ => None,
            },
            peer_auth: parties.map(|parties| parties.method),
            eap_identity: parties.and_then(|parties| parties.eap_identity.clone()),
            algorithms: self.keys.as_ref().map(|keys| keys.algorithms),
            created: self.created,
            rekey_in: self.deadlines.rekey.map(|at| at.saturating_duration_since(now)),
            expires_in: self.deadlines.expire.map(|at| at.saturating_duration_since(now)),
            configuration: parties.and_then(|parties| parties.configuration.clone()),
            children: self
                .children
                .iter()
                .map(|child| self.child_view(child, now))
                .collect(),
        }
    }

    fn child_view(&self, child: &Child, now: Instant) -> ChildSaView {
        ChildSaView {
            child: Arc::clone(&child.profile),
            inbound_spi: child.inbound_spi,
            outbound_spi: child.outbound_spi,
            state: match child.phase {
                Phase::Draining => ChildState::Rekeyed,
                Phase::Deleting(_) => ChildState::Deleting,
                _ if child.replaced_by.is_some() => ChildState::Rekeyed,
                Phase::Active => ChildState::Installed,
                Phase::Pending(_) => ChildState::Pending,
            },
            cipher: child.algorithms.cipher,
            integrity: child.algorithms.integrity,
            group: child.algorithms.group,
            esn: child.algorithms.esn,
            per_resource: child.per_resource,
            udp_encapsulation: self.nat.any(),
            local_selectors: Arc::clone(&child.local),
            remote_selectors: Arc::clone(&child.remote),
            created: child.created,
            rekey_in: child.rekey.map(|at| at.saturating_duration_since(now)),
            expires_in: child.expire.map(|at| at.saturating_duration_since(now)),
        }
    }
}

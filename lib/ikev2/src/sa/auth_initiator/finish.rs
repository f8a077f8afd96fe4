//! The end of IKE_AUTH as initiator: the first child SA, or a refusal of the responder.

use std::sync::Arc;

use super::Rest;
use crate::env::Env;
use crate::event::{ChildFailure, Count, Event, RemoveReason, SetupFailure};
use crate::message::{Exchange, NotifyKind};
use crate::sa::accept::{PeerOffer, check_answer};
use crate::sa::auth::AuthContext;
use crate::sa::child::NewChild;
use crate::sa::offer::ChildOffer;
use crate::sa::request::Pending;
use crate::sa::{IkeSa, Parties, State};

impl IkeSa {
    pub(super) fn finish_initiator(&mut self, env: &mut Env<'_>, rest: Rest) {
        let local = self.own_identity();
        if !matches!(self.state, State::AuthSent(_)) {
            return;
        }
        let State::AuthSent(auth) = self.replace_state(env, State::Lingering) else {
            return;
        };
        let (Some((peer, _)), Some(method), Some(offer)) = (auth.peer, auth.peer_method, auth.offer) else {
            return;
        };
        let configuration = rest
            .configuration
            .clone()
            .filter(|configuration| !configuration.is_empty());
        let parties = Parties {
            local,
            peer,
            method,
            eap_identity: None,
            configuration: configuration.map(Arc::new),
        };
        self.establish(env, parties);
        let spi = offer.inbound_spi;
        let child = match self.first_child_of(env, *offer, &rest, &auth.context) {
            Ok(()) => Some(spi),
            Err(reason) => {
                env.sad.free_spi(spi);
                env.event(Event::ChildFailed {
                    ike: self.id,
                    initiator: true,
                    reason,
                });
                None
            }
        };
        self.announce(env, child);
        if child.is_none() && !self.profile.allow_empty {
            self.start_delete(env, RemoveReason::Empty);
        }
    }

    fn first_child_of(
        &mut self,
        env: &mut Env<'_>,
        offer: ChildOffer,
        rest: &Rest,
        context: &AuthContext,
    ) -> Result<(), ChildFailure> {
        let (Some(proposals), Some(tsi), Some(tsr)) = (&rest.proposals, &rest.tsi, &rest.tsr) else {
            return Err(match rest.error {
                Some(kind) => ChildFailure::Refused(kind),
                None => ChildFailure::BadAnswer("SA, TSi or TSr missing"),
            });
        };
        let answer = PeerOffer { proposals, tsi, tsr };
        let accepted = check_answer(&offer, &answer)?;
        let outbound_spi = accepted.outbound_spi().ok_or(ChildFailure::BadAnswer("no SPI"))?;
        let keys = self.keys.as_ref().ok_or(ChildFailure::Temporary)?;
        let (outbound_keys, inbound_keys) = keys
            .child(
                &accepted.chosen.algorithms,
                None,
                &context.own_nonce,
                &context.peer_nonce,
            )
            .map_err(ChildFailure::Crypto)?;
        self.install_child(
            env,
            NewChild {
                accepted,
                inbound_spi: offer.inbound_spi,
                outbound_spi,
                inbound_keys,
                outbound_keys,
                replaces: None,
                per_resource: false,
                initiator: true,
            },
        );
        Ok(())
    }

    pub(super) fn on_responder_rejected(&mut self, env: &mut Env<'_>, reason: String) {
        let State::AuthSent(auth) = &self.state else {
            return;
        };
        let Some(method) = auth.peer_method else { return };
        env.count(Count::AuthFailed(method));
        self.reject_peer(env, SetupFailure::PeerAuthentication { method, reason });
    }

    /// The responder believes that all is well, and is told otherwise (RFC 7296 2.21.2).
    pub(super) fn reject_peer(&mut self, env: &mut Env<'_>, failure: SetupFailure) {
        let mut builder = self.builder();
        builder.notify(NotifyKind::AUTHENTICATION_FAILED, &[]);
        env.count(Count::NotifySent(NotifyKind::AUTHENTICATION_FAILED));
        self.send_request(env, Exchange::Informational, builder, Pending::Inform);
        self.fail(env, failure, false);
    }
}

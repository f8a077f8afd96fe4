//! The end of IKE_AUTH as responder: the first child SA and the response, or a refusal.

use std::sync::Arc;

use super::AuthReceived;
use crate::env::Env;
use crate::event::{ChildFailure, Count, Event, RemoveReason, SetupFailure};
use crate::message::{Builder, Exchange, NotifyKind, payload};
use crate::negotiate::{Pfs, answer_esp};
use crate::output::{AuthMethod, Refusal};
use crate::profile::{Configuration, ConfigurationRequest};
use crate::sa::accept::{PeerOffer, accept, failure_notify};
use crate::sa::auth::write_certificates;
use crate::sa::child::NewChild;
use crate::sa::{IkeSa, Parties, State};

impl IkeSa {
    /// Everybody is who he says: the first child SA, then the response.
    pub(super) fn finish(&mut self, env: &mut Env<'_>, method: u8, data: &[u8]) {
        let own = self.own_identity();
        let Some(auth) = self.take_auth(env) else { return };
        let mut builder = self.builder();
        if auth.method != AuthMethod::Eap {
            builder.identity(payload::IDR, &own.payload_body());
            write_certificates(env, &mut builder, &self.profile.local_auth);
        }
        builder.auth(method, data);
        let configuration = auth
            .configuration
            .clone()
            .filter(|configuration| !configuration.is_empty());
        let parties = Parties {
            local: own,
            peer: auth.peer.clone(),
            method: auth.method,
            eap_identity: auth.eap_identity.clone(),
            configuration: configuration.clone().map(Arc::new),
        };
        self.establish(env, parties);
        let child = match self.first_child(env, &auth, configuration.as_ref(), &mut builder) {
            Ok(spi) => Some(spi),
            Err(reason) => {
                // RFC 7296 2.21.2: the IKE SA is there all the same.
                let kind = failure_notify(&reason, true);
                builder.notify(kind, &[]);
                env.count(Count::NotifySent(kind));
                env.event(Event::ChildFailed {
                    ike: self.id,
                    initiator: false,
                    reason,
                });
                None
            }
        };
        self.send_response(env, Exchange::IkeAuth, builder);
        env.count(Count::AuthResponseSent(false));
        self.announce(env, child);
        if auth.initial_contact {
            self.on_initial_contact(env);
        }
        // One that was not given a session may not ask for another child SA later.
        if child.is_none() && (auth.no_address.is_some() || !self.profile.allow_empty) {
            self.start_delete(env, RemoveReason::Empty);
        }
    }

    /// Takes the state of IKE_AUTH out, as it is about to end one way or the other.
    fn take_auth(&mut self, env: &mut Env<'_>) -> Option<Box<AuthReceived>> {
        if !matches!(self.state, State::AuthReceived(_)) {
            return None;
        }
        match self.replace_state(env, State::Lingering) {
            State::AuthReceived(auth) => Some(auth),
            _ => None,
        }
    }

    fn first_child(
        &mut self,
        env: &mut Env<'_>,
        auth: &AuthReceived,
        configuration: Option<&Configuration>,
        builder: &mut Builder,
    ) -> Result<u32, ChildFailure> {
        if let Some(reason) = &auth.no_address {
            return Err(ChildFailure::NoAddress(reason.clone()));
        }
        let asked = auth
            .request
            .as_ref()
            .is_some_and(ConfigurationRequest::wants_address);
        if let Some(configuration) = configuration.filter(|_| asked) {
            builder.configuration_reply(configuration);
        }
        let offer = PeerOffer {
            proposals: &auth.proposals,
            tsi: &auth.tsi,
            tsr: &auth.tsr,
        };
        let limit = env.core.config.max_selectors;
        // An address that the peer did not ask for it cannot know of.
        let known = configuration.filter(|_| asked);
        let accepted = match accept(&self.profile.children, &offer, Pfs::Never, known, limit) {
            Err(ChildFailure::ConfigurationRequired) if asked => {
                return Err(ChildFailure::NoAddress("none was assigned".to_owned()));
            }
            accepted => accepted?,
        };
        let outbound_spi = accepted.outbound_spi().ok_or(ChildFailure::BadAnswer("no SPI"))?;
        let keys = self.keys.as_ref().ok_or(ChildFailure::Temporary)?;
        let (inbound_keys, outbound_keys) = keys
            .child(
                &accepted.chosen.algorithms,
                None,
                &auth.context.peer_nonce,
                &auth.context.own_nonce,
            )
            .map_err(ChildFailure::Crypto)?;
        let inbound_spi = env.sad.allocate_spi(self.id.slot()).ok_or(ChildFailure::NoSpi)?;
        builder.sa(&[answer_esp(&accepted.chosen, inbound_spi)]);
        builder.selectors(payload::TSI, &accepted.remote);
        builder.selectors(payload::TSR, &accepted.local);
        if accepted.more {
            builder.notify(NotifyKind::ADDITIONAL_TS_POSSIBLE, &[]);
        }
        // RFC 9611 3: there may be more of them.
        if auth.per_resource && accepted.profile.per_resource.accept > 0 {
            builder.notify(NotifyKind::SA_RESOURCE_INFO, &[]);
        }
        self.install_child(
            env,
            NewChild {
                accepted,
                inbound_spi,
                outbound_spi,
                inbound_keys,
                outbound_keys,
                replaces: None,
                per_resource: false,
                initiator: false,
            },
        );
        Ok(inbound_spi)
    }

    pub(super) fn on_peer_rejected(&mut self, env: &mut Env<'_>, reason: String) {
        let State::AuthReceived(auth) = &self.state else {
            return;
        };
        let method = auth.method;
        env.count(Count::AuthFailed(method));
        let failure = SetupFailure::PeerAuthentication { method, reason };
        self.reject(env, NotifyKind::AUTHENTICATION_FAILED, failure);
    }

    pub(super) fn on_refused(&mut self, env: &mut Env<'_>, refusal: Refusal) {
        let kind = match &refusal {
            Refusal::Denied(_) => NotifyKind::AUTHENTICATION_FAILED,
            // RFC 7296 2.21.2: this is about the child SA. The IKE SA comes up, so that the peer can believe what it is told.
            Refusal::NoAddress(reason) => {
                if let State::AuthReceived(auth) = &mut self.state {
                    auth.no_address = Some(reason.clone());
                }
                return self.on_admitted(env, Configuration::default());
            }
            Refusal::Notify(kind, _) => NotifyKind(*kind),
        };
        self.reject(env, kind, SetupFailure::NotAdmitted(refusal));
    }

    pub(super) fn refuse_policy(&mut self, env: &mut Env<'_>, reason: String) {
        let failure = SetupFailure::AuthenticationPolicy(reason);
        self.reject(env, NotifyKind::AUTHENTICATION_FAILED, failure);
    }

    pub(super) fn fail_locally(&mut self, env: &mut Env<'_>, reason: String) {
        let failure = SetupFailure::LocalAuthentication(reason);
        self.reject(env, NotifyKind::AUTHENTICATION_FAILED, failure);
    }

    /// Answers with an error, which ends the IKE SA (RFC 7296 2.21.2).
    pub(super) fn reject(&mut self, env: &mut Env<'_>, kind: NotifyKind, failure: SetupFailure) {
        self.send_notify_response(env, Exchange::IkeAuth, kind, &[]);
        env.count(Count::AuthResponseSent(true));
        self.fail(env, failure, true);
    }
}

//! IKE_AUTH as initiator (RFC 7296 1.2, 2.15, 2.16, 2.19).
//!
//! ```text
//!   Psk or Sign ─► request ─► response ─► (Psk or VerifyPeer) ─► established
//!   with EAP:      request ─► response ─► (Psk or VerifyPeer) ─► EapPeer ⇄ peer ... AUTH from MSK ─► established
//! ```

use std::sync::Arc;

use crypto::Secret;

use super::auth::{
    AuthContext, METHOD_SHARED_KEY, certificates, is_known, method_of, replied, verify_shared_key,
    write_certificates,
};
use super::offer::{ChildOffer, OfferError};
use super::request::Pending;
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, SetupFailure};
use crate::identity::Identity;
use crate::keys::shared_key_auth;
use crate::message::{CERT_X509, CFG_REPLY, Exchange, NotifyKind, Payloads, Proposal, payload};
use crate::negotiate::Pfs;
use crate::output::{Answer, AuthMethod, EapStep, Question};
use crate::profile::{Configuration, LocalAuth};
use crate::record::{stored, stored_enum};
use crate::selectors::TrafficSelector;

mod finish;

/// IKE_AUTH is under way.
pub(crate) struct AuthSent {
    context: AuthContext,
    step: Step,
    /// Serial of the question that must be answered before we go on.
    question: Option<u32>,
    /// Until its child SA is installed.
    offer: Option<Box<ChildOffer>>,
    peer_psk: Option<Secret>,
    /// The peer, and the octets of its ID payload, once it said so.
    peer: Option<(Identity, Vec<u8>)>,
    peer_method: Option<AuthMethod>,
    /// AUTH of the peer, while it is checked.
    peer_auth: Option<(u8, Vec<u8>)>,
    /// The rest of a response whose AUTH is being checked.
    rest: Option<Box<Rest>>,
    msk: Option<Secret>,
}

/// What is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The keys of both sides.
    Psk,
    /// Our signature.
    Sign,
    /// The first response.
    Response,
    /// The key of the peer.
    PeerPsk,
    /// The verdict on the peer's signature.
    Verify,
    /// Our next EAP packet.
    Eap,
    /// The peer's next EAP packet.
    EapResponse,
    /// The response to our AUTH after EAP.
    Final,
}

/// What a response holds beside identity and AUTH.
struct Rest {
    proposals: Option<Vec<Proposal>>,
    tsi: Option<Vec<TrafficSelector>>,
    tsr: Option<Vec<TrafficSelector>>,
    configuration: Option<Configuration>,
    error: Option<NotifyKind>,
    eap: Option<Vec<u8>>,
}

// Between a request and its response there is no question open, and nothing of the peer is being checked. Keys that are shared before
// are not kept: they are asked for again.
stored!(AuthSent { context, step, offer, peer, peer_method, msk } without {
    question: None,
    peer_psk: None,
    peer_auth: None,
    rest: None,
});

stored_enum!(Step {
    1 => Psk,
    2 => Sign,
    3 => Response,
    4 => PeerPsk,
    5 => Verify,
    6 => Eap,
    7 => EapResponse,
    8 => Final,
});

impl AuthSent {
    /// A question is open.
    pub fn is_waiting(&self) -> bool {
        self.question.is_some()
    }

    /// Is this the open question? It is answered then.
    pub fn take_question(&mut self, serial: u32) -> bool {
        let awaited = self.question == Some(serial);
        if awaited {
            self.question = None;
        }
        awaited
    }

    /// The SPI that is reserved for the first child SA.
    pub fn reserved_spi(&self) -> Option<u32> {
        self.offer.as_ref().map(|offer| offer.inbound_spi)
    }
}

impl Rest {
    fn of(payloads: &Payloads<'_>) -> Self {
        Self {
            proposals: payloads.sa.clone(),
            tsi: payloads.tsi.clone(),
            tsr: payloads.tsr.clone(),
            configuration: payloads
                .configuration
                .as_ref()
                .filter(|configured| configured.kind == CFG_REPLY)
                .map(replied),
            error: payloads.error(),
            eap: payloads.eap.map(<[u8]>::to_vec),
        }
    }
}

// Our first request.

impl IkeSa {
    /// The keys are there: on to IKE_AUTH.
    pub(super) fn begin_auth(&mut self, env: &mut Env<'_>, context: AuthContext) {
        let Some(profile) = self.profile.children.first().map(Arc::clone) else {
            return;
        };
        let offer = match ChildOffer::new(env, self.id.slot(), profile, None, Pfs::Never, None) {
            Ok(offer) => offer,
            Err(OfferError::NoSpi) => {
                let reason = "no SPI left".to_owned();
                return self.fail(env, SetupFailure::Unavailable(reason), false);
            }
            Err(OfferError::Unconfigured) => return self.fail(env, SetupFailure::Cancelled, false),
            Err(OfferError::Crypto(error)) => return self.fail(env, SetupFailure::Crypto(error), false),
        };
        let auth = AuthSent {
            context,
            step: Step::Psk,
            question: None,
            offer: Some(Box::new(offer)),
            peer_psk: None,
            peer: None,
            peer_method: None,
            peer_auth: None,
            rest: None,
            msk: None,
        };
        self.set_state(env, State::AuthSent(Box::new(auth)));
        self.prove_self_first(env);
    }

    /// Whom we expect.
    fn expected_peer(&self) -> Identity {
        match &self.profile.remote_identity {
            Some(identity) => identity.clone(),
            None => Identity::ip(self.path.remote.ip()),
        }
    }

    fn prove_self_first(&mut self, env: &mut Env<'_>) {
        let (Some(prf), own, expected) = (self.prf(), self.own_identity(), self.expected_peer()) else {
            return;
        };
        let initiator = self.initiator;
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        let question = match &self.profile.local_auth {
            LocalAuth::Psk => {
                auth.step = Step::Psk;
                Question::Psk {
                    local: own,
                    remote: expected,
                    wants_remote: self.profile.remote_auth.psk,
                    wants_local: true,
                }
            }
            LocalAuth::Certificate { .. } => {
                auth.step = Step::Sign;
                Question::Sign {
                    octets: auth.context.own_octets(prf, initiator, &own.payload_body()),
                    hashes: auth.context.peer_hashes.clone(),
                }
            }
            LocalAuth::Eap => return self.send_first_auth_request(env, None),
        };
        auth.question = Some(env.ask(self.id, &self.profile, question));
    }

    fn send_first_auth_request(&mut self, env: &mut Env<'_>, proof: Option<(u8, &[u8])>) {
        let own = self.own_identity();
        let mut builder = self.builder();
        let profile = Arc::clone(&self.profile);
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        auth.step = Step::Response;
        builder.identity(payload::IDI, &own.payload_body());
        write_certificates(env, &mut builder, &profile.local_auth);
        if profile.initial_contact {
            let known = profile
                .remote_identity
                .as_ref()
                .is_some_and(|peer| is_known(env, &own, peer));
            if !known {
                builder.notify(NotifyKind::INITIAL_CONTACT, &[]);
                env.count(Count::NotifySent(NotifyKind::INITIAL_CONTACT));
            }
        }
        if profile.remote_auth.certificate {
            builder.certificate_request(CERT_X509, &profile.trust_hashes);
            env.count(Count::CertificateRequestSent);
        }
        if let Some(peer) = &profile.remote_identity {
            builder.identity(payload::IDR, &peer.payload_body());
        }
        if let Some((method, data)) = proof {
            builder.auth(method, data);
        }
        if let Some(request) = &profile.configuration_request {
            builder.configuration_request(request);
        }
        if let Some(offer) = &auth.offer {
            offer.write(&mut builder);
            if offer.profile.per_resource.make > 0 {
                builder.notify(NotifyKind::SA_RESOURCE_INFO, &[]);
            }
        }
        self.send_request(env, Exchange::IkeAuth, builder, Pending::Auth);
    }
}

// Responses.

impl IkeSa {
    pub(super) fn on_auth_response(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) {
        if !payloads.certificates.is_empty() {
            let count = u16::try_from(payloads.certificates.len()).unwrap_or(u16::MAX);
            env.count(Count::CertificateReceived(count));
        }
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        match (auth.step, payloads.error(), payloads.auth) {
            (Step::Response, _, Some((number, data))) => {
                let auth_data = (number, data.to_vec());
                self.check_first_response(env, payloads, auth_data);
            }
            (Step::EapResponse, None, _) if payloads.eap.is_some() => {
                self.ask_eap(env, payloads.eap.unwrap_or_default().to_vec());
            }
            (Step::Final, _, Some((METHOD_SHARED_KEY, data))) => {
                self.check_final_response(env, payloads, data)
            }
            (_, Some(kind), None) => self.fail(env, SetupFailure::Refused(kind), false),
            _ => self.fail(env, SetupFailure::BadAnswer("AUTH or EAP missing"), false),
        }
    }

    fn check_first_response(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>, proof: (u8, Vec<u8>)) {
        let (own, expected) = (self.own_identity(), self.expected_peer());
        let allowed = self.profile.remote_auth;
        let Some(idr) = &payloads.idr else {
            return self.fail(env, SetupFailure::BadAnswer("IDr missing"), false);
        };
        if let Some(only) = &self.profile.remote_identity
            && *only != idr.identity
        {
            let reason = format!("peer says it is {}, expected {only}", idr.identity);
            return self.reject_peer(env, SetupFailure::AuthenticationPolicy(reason));
        }
        let (prf, initiator) = (self.prf(), self.initiator);
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        let method = method_of(proof.0);
        auth.peer = Some((idr.identity.clone(), idr.body.to_vec()));
        auth.peer_method = method;
        auth.rest = Some(Box::new(Rest::of(payloads)));
        match method {
            Some(AuthMethod::Psk) if allowed.psk => {
                auth.peer_auth = Some(proof);
                let key = auth.peer_psk.take().filter(|_| idr.identity == expected);
                if key.is_some() {
                    return self.check_peer_psk(env, key);
                }
                auth.step = Step::PeerPsk;
                let question = Question::Psk {
                    local: own,
                    remote: idr.identity.clone(),
                    wants_remote: true,
                    wants_local: false,
                };
                auth.question = Some(env.ask(self.id, &self.profile, question));
            }
            Some(AuthMethod::Signature(number)) if allowed.certificate => {
                let Some(prf) = prf else { return };
                auth.step = Step::Verify;
                let question = Question::VerifyPeer {
                    certificates: certificates(payloads),
                    identity: idr.identity.clone(),
                    method: number,
                    signature: proof.1,
                    octets: auth.context.peer_octets(prf, initiator, idr.body),
                };
                auth.question = Some(env.ask(self.id, &self.profile, question));
            }
            Some(method) => {
                let reason = format!("peer uses {method} authentication");
                self.reject_peer(env, SetupFailure::AuthenticationPolicy(reason));
            }
            None => {
                let reason = "peer uses an unknown AUTH method".to_owned();
                self.reject_peer(env, SetupFailure::AuthenticationPolicy(reason));
            }
        }
    }

    fn check_peer_psk(&mut self, env: &mut Env<'_>, key: Option<Secret>) {
        let (Some(prf), initiator) = (self.prf(), self.initiator) else {
            return;
        };
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        let (Some((_, data)), Some((_, body))) = (auth.peer_auth.take(), &auth.peer) else {
            return;
        };
        let octets = auth.context.peer_octets(prf, initiator, body);
        let right = key.is_some_and(|key| verify_shared_key(prf, key.as_bytes(), &octets, &data));
        if right {
            self.on_responder_authenticated(env);
        } else {
            self.on_responder_rejected(env, "pre-shared key does not match".to_owned());
        }
    }

    /// The peer is who it says: the end, or on to EAP.
    fn on_responder_authenticated(&mut self, env: &mut Env<'_>) {
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        if let Some(method) = auth.peer_method {
            env.count(Count::AuthSucceeded(method));
        }
        let Some(rest) = auth.rest.take() else { return };
        match (&self.profile.local_auth, &rest.eap) {
            (LocalAuth::Eap, Some(message)) => {
                let message = message.clone();
                self.ask_eap(env, message);
            }
            (LocalAuth::Eap, None) => self.fail(env, SetupFailure::BadAnswer("EAP missing"), false),
            _ => self.finish_initiator(env, *rest),
        }
    }

    fn ask_eap(&mut self, env: &mut Env<'_>, message: Vec<u8>) {
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        auth.step = Step::Eap;
        auth.question = Some(env.ask(self.id, &self.profile, Question::EapPeer { message }));
    }

    fn check_final_response(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>, data: &[u8]) {
        let (Some(prf), initiator) = (self.prf(), self.initiator) else {
            return;
        };
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        let Some((_, body)) = &auth.peer else { return };
        let octets = auth.context.peer_octets(prf, initiator, body);
        let key = auth.msk.as_ref().unwrap_or(auth.context.sk_p(!initiator));
        if !verify_shared_key(prf, key.as_bytes(), &octets, data) {
            return self.on_responder_rejected(env, "AUTH does not fit the key of EAP".to_owned());
        }
        self.finish_initiator(env, Rest::of(payloads));
    }
}

// Answers.

impl IkeSa {
    pub(super) fn on_initiator_answer(&mut self, env: &mut Env<'_>, answer: Answer) {
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        match (auth.step, answer) {
            (
                Step::Psk,
                Answer::Psk {
                    remote,
                    local: Some(key),
                },
            ) => {
                auth.peer_psk = remote;
                self.send_shared_key_auth(env, &key);
            }
            (Step::Psk, Answer::Psk { local: None, .. }) => {
                let reason = "no pre-shared key for us".to_owned();
                self.fail(env, SetupFailure::LocalAuthentication(reason), false);
            }
            (Step::Sign, Answer::Signature { method, data }) => {
                self.send_first_auth_request(env, Some((method, &data)));
            }
            (Step::Sign, Answer::Unavailable(reason)) => {
                self.fail(env, SetupFailure::LocalAuthentication(reason), false);
            }
            (Step::PeerPsk, Answer::Psk { remote, .. }) => self.check_peer_psk(env, remote),
            (Step::Verify, Answer::Verified(Ok(()))) => self.on_responder_authenticated(env),
            (Step::Verify, Answer::Verified(Err(reason))) => self.on_responder_rejected(env, reason),
            (Step::Eap, Answer::Eap(step)) => self.on_own_eap_step(env, step),
            (_, Answer::Unavailable(reason)) => self.fail(env, SetupFailure::Unavailable(reason), false),
            (_, _) => {
                let reason = "the answer does not fit the question".to_owned();
                self.fail(env, SetupFailure::Unavailable(reason), false);
            }
        }
    }

    fn send_shared_key_auth(&mut self, env: &mut Env<'_>, key: &Secret) {
        let (Some(prf), own) = (self.prf(), self.own_identity()) else {
            return;
        };
        let State::AuthSent(auth) = &self.state else {
            return;
        };
        let octets = auth.context.own_octets(prf, self.initiator, &own.payload_body());
        let data = shared_key_auth(prf, key.as_bytes(), &octets);
        self.send_first_auth_request(env, Some((METHOD_SHARED_KEY, data.as_bytes())));
    }

    fn on_own_eap_step(&mut self, env: &mut Env<'_>, eap: EapStep) {
        let (Some(prf), own) = (self.prf(), self.own_identity()) else {
            return;
        };
        let initiator = self.initiator;
        let mut builder = self.builder();
        let State::AuthSent(auth) = &mut self.state else {
            return;
        };
        match eap {
            EapStep::Continue(message) => {
                auth.step = Step::EapResponse;
                builder.eap(&message);
            }
            EapStep::Success { msk, .. } => {
                auth.step = Step::Final;
                let octets = auth.context.own_octets(prf, initiator, &own.payload_body());
                let key = msk.as_ref().unwrap_or(auth.context.sk_p(initiator));
                let data = shared_key_auth(prf, key.as_bytes(), &octets);
                auth.msk = msk;
                builder.auth(METHOD_SHARED_KEY, data.as_bytes());
            }
            EapStep::Failure { reason, .. } => {
                return self.fail(env, SetupFailure::LocalAuthentication(reason), false);
            }
        }
        self.send_request(env, Exchange::IkeAuth, builder, Pending::Auth);
    }
}

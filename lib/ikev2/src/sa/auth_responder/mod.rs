//! IKE_AUTH as responder (RFC 7296 1.2, 2.15, 2.16, 2.19).
//!
//! ```text
//!   PSK:          Psk ───────────────► Admit ─► answer
//!   certificate:  VerifyPeer ────────► Admit ─► Sign (or Psk) ─► answer
//!   EAP:          Sign (or Psk) ─► EapAuthenticator ⇄ peer ... AUTH from MSK ─► Admit ─► answer
//! ```

use crypto::Secret;

use super::auth::{
    AuthContext, METHOD_SHARED_KEY, certificates, method_of, requested, verify_shared_key, write_certificates,
};
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{Count, SetupFailure};
use crate::identity::{Identity, UserName};
use crate::keys::shared_key_auth;
use crate::message::{CFG_REQUEST, DecodeError, Exchange, NotifyKind, Payloads, Proposal, payload};
use crate::output::{AdmitRequest, Answer, AuthMethod, EapStep, Question, Refusal};
use crate::profile::{Configuration, ConfigurationRequest, LocalAuth};
use crate::record::{stored, stored_enum};
use crate::selectors::TrafficSelector;

mod finish;

/// IKE_AUTH is under way.
pub(crate) struct AuthReceived {
    context: AuthContext,
    peer: Identity,
    peer_body: Vec<u8>,
    called: Option<Identity>,
    method: AuthMethod,
    /// AUTH of the peer: method and data.
    auth: Option<(u8, Vec<u8>)>,
    certificates: Vec<Vec<u8>>,
    proposals: Vec<Proposal>,
    tsi: Vec<TrafficSelector>,
    tsr: Vec<TrafficSelector>,
    request: Option<ConfigurationRequest>,
    initial_contact: bool,
    /// It sent SA_RESOURCE_INFO.
    per_resource: bool,
    step: Step,
    /// Serial of the question that must be answered before we go on.
    question: Option<u32>,
    local_psk: Option<Secret>,
    /// Our AUTH, before EAP.
    own_auth: Option<(u8, Vec<u8>)>,
    msk: Option<Secret>,
    eap_identity: Option<UserName>,
    configuration: Option<Configuration>,
    /// There is no address for it, for this reason: the IKE SA comes up without child SA.
    no_address: Option<String>,
}

/// What is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// The keys of both sides.
    Psk,
    /// The verdict on the peer's signature.
    Verify,
    /// Our key, to prove ourselves.
    LocalPsk,
    /// Our signature.
    Sign,
    /// The next step of EAP.
    Eap,
    /// The peer's next EAP packet.
    EapRequest,
    /// The peer's AUTH after EAP.
    EapAuth,
    /// The session.
    Admit,
}

// Before a request there is no question open. Keys that are shared before are not kept: they are asked for again.
stored!(AuthReceived {
    context,
    peer,
    peer_body,
    called,
    method,
    auth,
    certificates,
    proposals,
    tsi,
    tsr,
    request,
    initial_contact,
    step,
    own_auth,
    msk,
    eap_identity,
    configuration,
    no_address,
} without {
    // At worst the peer is not told that it may have more of them.
    per_resource: false,
    question: None,
    local_psk: None,
});

stored_enum!(Step {
    1 => Psk,
    2 => Verify,
    3 => LocalPsk,
    4 => Sign,
    5 => Eap,
    6 => EapRequest,
    7 => EapAuth,
    8 => Admit,
});

impl AuthReceived {
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

    /// How much it keeps, roughly.
    pub fn octets(&self) -> usize {
        let certificates: usize = self.certificates.iter().map(Vec::len).sum();
        let auth = self.auth.as_ref().map_or(0, |(_, data)| data.len());
        self.context.octets() + self.peer_body.len() + auth + certificates
    }

    pub fn claimed_identity(&self) -> Option<Identity> {
        Some(self.peer.clone())
    }
}

// Messages.

impl IkeSa {
    /// The first IKE_AUTH request.
    pub(super) fn on_first_auth_request(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) {
        env.count(Count::AuthRequestReceived);
        let (Some(idi), Some(proposals), Some(tsi), Some(tsr)) =
            (&payloads.idi, &payloads.sa, &payloads.tsi, &payloads.tsr)
        else {
            let failure = SetupFailure::Malformed(DecodeError::Syntax);
            return self.reject(env, NotifyKind::INVALID_SYNTAX, failure);
        };
        let Some(context) = self.leave_init(env) else {
            return;
        };
        let method = match payloads.auth {
            None => Some(AuthMethod::Eap),
            Some((number, _)) => method_of(number),
        };
        let auth = AuthReceived {
            context,
            peer: idi.identity.clone(),
            peer_body: idi.body.to_vec(),
            called: payloads.idr.as_ref().map(|idr| idr.identity.clone()),
            method: method.unwrap_or(AuthMethod::Psk),
            auth: payloads.auth.map(|(number, data)| (number, data.to_vec())),
            // Nobody else has a use for them.
            certificates: match method {
                Some(AuthMethod::Signature(_)) => certificates(payloads),
                _ => Vec::new(),
            },
            proposals: proposals.clone(),
            tsi: tsi.clone(),
            tsr: tsr.clone(),
            request: payloads
                .configuration
                .as_ref()
                .filter(|configured| configured.kind == CFG_REQUEST)
                .map(requested),
            initial_contact: payloads.notify(NotifyKind::INITIAL_CONTACT).is_some(),
            per_resource: payloads.notify(NotifyKind::SA_RESOURCE_INFO).is_some(),
            step: Step::Psk,
            question: None,
            local_psk: None,
            own_auth: None,
            msk: None,
            eap_identity: None,
            configuration: None,
            no_address: None,
        };
        self.enter_auth(env, auth);
        if !payloads.certificates.is_empty() {
            let count = u16::try_from(payloads.certificates.len()).unwrap_or(u16::MAX);
            env.count(Count::CertificateReceived(count));
        }
        if !payloads.certificate_requests.is_empty() {
            env.count(Count::CertificateRequestReceived);
        }
        self.check_peer(env, method);
    }

    /// Half-open no more. The state in between is counted as none at all.
    fn leave_init(&mut self, env: &mut Env<'_>) -> Option<AuthContext> {
        if !matches!(self.state, State::InitReplied(_)) {
            return None;
        }
        match self.replace_state(env, State::Lingering) {
            State::InitReplied(replied) => Some(replied.context),
            _ => None,
        }
    }

    fn enter_auth(&mut self, env: &mut Env<'_>, auth: AuthReceived) {
        self.deadlines.phase = Some(self.created + self.profile.setup_timeout);
        self.set_state(env, State::AuthReceived(Box::new(auth)));
    }

    /// Is the peer's way of authentication allowed? Then check it.
    fn check_peer(&mut self, env: &mut Env<'_>, method: Option<AuthMethod>) {
        let own = self.own_identity();
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        let allowed = self.profile.remote_auth;
        if let Some(only) = &self.profile.remote_identity
            && *only != auth.peer
        {
            let reason = format!("peer says it is {}, expected {only}", auth.peer);
            return self.refuse_policy(env, reason);
        }
        match method {
            Some(AuthMethod::Psk) if allowed.psk => {
                auth.step = Step::Psk;
                let question = Question::Psk {
                    local: own,
                    remote: auth.peer.clone(),
                    wants_remote: true,
                    wants_local: matches!(self.profile.local_auth, LocalAuth::Psk),
                };
                auth.question = Some(env.ask(self.id, &self.profile, question));
            }
            Some(AuthMethod::Signature(_)) if allowed.certificate => self.ask_verify(env),
            // RFC 7296 2.16: whoever asks gets our AUTH before he has proved anything, and could guess the key at leisure.
            Some(AuthMethod::Eap) if matches!(self.profile.local_auth, LocalAuth::Psk) => {
                self.refuse_policy(env, "EAP needs a certificate of ours".to_owned());
            }
            // The peer leaves AUTH out to ask for EAP (RFC 7296 2.16). We prove ourselves first.
            Some(AuthMethod::Eap) if allowed.eap => self.prove_self(env),
            Some(method) => self.refuse_policy(env, format!("peer wants {method} authentication")),
            None => self.refuse_policy(env, "peer uses an unknown AUTH method".to_owned()),
        }
    }

    fn ask_verify(&mut self, env: &mut Env<'_>) {
        let Some(prf) = self.prf() else { return };
        let initiator = self.initiator;
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        let Some((method, signature)) = auth.auth.take() else {
            return;
        };
        auth.step = Step::Verify;
        let question = Question::VerifyPeer {
            certificates: std::mem::take(&mut auth.certificates),
            identity: auth.peer.clone(),
            method,
            signature,
            octets: auth.context.peer_octets(prf, initiator, &auth.peer_body),
        };
        auth.question = Some(env.ask(self.id, &self.profile, question));
    }

    /// A further IKE_AUTH request: EAP, or AUTH after it.
    pub(super) fn on_next_auth_request(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) {
        env.count(Count::AuthRequestReceived);
        let prf = self.prf();
        let initiator = self.initiator;
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        match (auth.step, payloads.eap, payloads.auth) {
            (Step::EapRequest, Some(message), _) => {
                auth.step = Step::Eap;
                let question = Question::EapAuthenticator {
                    identity: auth.peer.clone(),
                    message: Some(message.to_vec()),
                };
                auth.question = Some(env.ask(self.id, &self.profile, question));
            }
            (Step::EapAuth, None, Some((METHOD_SHARED_KEY, data))) => {
                let Some(prf) = prf else { return };
                let octets = auth.context.peer_octets(prf, initiator, &auth.peer_body);
                // RFC 7296 2.16: without an MSK the peer proves that it holds SK_pi.
                let key = auth.msk.as_ref().unwrap_or(auth.context.sk_p(!initiator));
                if verify_shared_key(prf, key.as_bytes(), &octets, data) {
                    self.on_peer_authenticated(env);
                } else {
                    self.on_peer_rejected(env, "AUTH does not fit the key of EAP".to_owned());
                }
            }
            _ => {
                let failure = SetupFailure::Malformed(DecodeError::Syntax);
                self.reject(env, NotifyKind::INVALID_SYNTAX, failure);
            }
        }
    }
}

// Answers.

impl IkeSa {
    pub(super) fn on_responder_answer(&mut self, env: &mut Env<'_>, answer: Answer) {
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        match (auth.step, answer) {
            (Step::Psk, Answer::Psk { remote, local }) => {
                auth.local_psk = local;
                self.check_psk(env, remote);
            }
            (Step::Verify, Answer::Verified(Ok(()))) => self.on_peer_authenticated(env),
            (Step::Verify, Answer::Verified(Err(reason))) => self.on_peer_rejected(env, reason),
            (Step::Admit, Answer::Admit(Ok(configuration))) => self.on_admitted(env, configuration),
            (Step::Admit, Answer::Admit(Err(refusal))) => self.on_refused(env, refusal),
            (Step::LocalPsk, Answer::Psk { local: Some(key), .. }) => {
                auth.local_psk = Some(key);
                self.prove_self(env);
            }
            (Step::LocalPsk, Answer::Psk { local: None, .. }) => {
                self.fail_locally(env, "no pre-shared key for us".to_owned());
            }
            (Step::Sign, Answer::Signature { method, data }) => self.on_proved(env, method, data),
            (Step::Sign | Step::LocalPsk, Answer::Unavailable(reason)) => self.fail_locally(env, reason),
            (Step::Eap, Answer::Eap(step)) => self.on_eap_step(env, step),
            (Step::Admit, Answer::Unavailable(reason)) => self.on_refused(env, Refusal::NoAddress(reason)),
            (_, Answer::Unavailable(reason)) => {
                self.reject(
                    env,
                    NotifyKind::AUTHENTICATION_FAILED,
                    SetupFailure::Unavailable(reason),
                );
            }
            (_, _) => {
                let reason = "the answer does not fit the question".to_owned();
                self.reject(
                    env,
                    NotifyKind::AUTHENTICATION_FAILED,
                    SetupFailure::Unavailable(reason),
                );
            }
        }
    }

    fn check_psk(&mut self, env: &mut Env<'_>, key: Option<Secret>) {
        let (Some(prf), initiator) = (self.prf(), self.initiator) else {
            return;
        };
        let State::AuthReceived(auth) = &self.state else {
            return;
        };
        let Some((_, data)) = &auth.auth else { return };
        let Some(key) = key else {
            return self.on_peer_rejected(env, "no pre-shared key for this peer".to_owned());
        };
        let octets = auth.context.peer_octets(prf, initiator, &auth.peer_body);
        if verify_shared_key(prf, key.as_bytes(), &octets, data) {
            self.on_peer_authenticated(env);
        } else {
            self.on_peer_rejected(env, "pre-shared key does not match".to_owned());
        }
    }

    fn on_peer_authenticated(&mut self, env: &mut Env<'_>) {
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        env.count(Count::AuthSucceeded(auth.method));
        if !self.profile.admission {
            return self.on_admitted(env, Configuration::default());
        }
        auth.step = Step::Admit;
        let question = Question::Admit(Box::new(AdmitRequest {
            identity: auth.peer.clone(),
            called: auth.called.clone(),
            path: self.path,
            method: auth.method,
            eap_identity: auth.eap_identity.clone(),
            request: auth.request.clone(),
            initial_contact: auth.initial_contact,
        }));
        auth.question = Some(env.ask(self.id, &self.profile, question));
    }

    fn on_admitted(&mut self, env: &mut Env<'_>, configuration: Configuration) {
        let (prf, initiator, own) = (self.prf(), self.initiator, self.own_identity().payload_body());
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        auth.configuration = Some(configuration);
        if auth.method != AuthMethod::Eap {
            return self.prove_self(env);
        }
        // After EAP both prove that they know its key (RFC 7296 2.16).
        let Some(prf) = prf else { return };
        let octets = auth.context.own_octets(prf, initiator, &own);
        let key = auth.msk.as_ref().unwrap_or(auth.context.sk_p(initiator));
        let data = shared_key_auth(prf, key.as_bytes(), &octets);
        self.finish(env, METHOD_SHARED_KEY, data.as_bytes());
    }

    /// Computes our AUTH, or asks for what it takes.
    fn prove_self(&mut self, env: &mut Env<'_>) {
        let (Some(prf), initiator, own) = (self.prf(), self.initiator, self.own_identity()) else {
            return;
        };
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        match (&self.profile.local_auth, &auth.local_psk) {
            (LocalAuth::Psk, Some(key)) => {
                let octets = auth.context.own_octets(prf, initiator, &own.payload_body());
                let data = shared_key_auth(prf, key.as_bytes(), &octets);
                self.on_proved(env, METHOD_SHARED_KEY, data.as_bytes().to_vec());
            }
            (LocalAuth::Psk, None) => {
                auth.step = Step::LocalPsk;
                let question = Question::Psk {
                    local: own,
                    remote: auth.peer.clone(),
                    wants_remote: false,
                    wants_local: true,
                };
                auth.question = Some(env.ask(self.id, &self.profile, question));
            }
            (LocalAuth::Certificate { .. }, _) => {
                auth.step = Step::Sign;
                let question = Question::Sign {
                    octets: auth.context.own_octets(prf, initiator, &own.payload_body()),
                    hashes: auth.context.peer_hashes.clone(),
                };
                auth.question = Some(env.ask(self.id, &self.profile, question));
            }
            (LocalAuth::Eap, _) => self.fail_locally(env, "a responder cannot use EAP".to_owned()),
        }
    }

    /// Our AUTH is there: the end, or the beginning of EAP.
    fn on_proved(&mut self, env: &mut Env<'_>, method: u8, data: Vec<u8>) {
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        if auth.method != AuthMethod::Eap {
            return self.finish(env, method, &data);
        }
        auth.own_auth = Some((method, data));
        auth.step = Step::Eap;
        let question = Question::EapAuthenticator {
            identity: auth.peer.clone(),
            message: None,
        };
        auth.question = Some(env.ask(self.id, &self.profile, question));
    }

    fn on_eap_step(&mut self, env: &mut Env<'_>, eap: EapStep) {
        let mut builder = self.builder();
        let own = self.own_identity().payload_body();
        let State::AuthReceived(auth) = &mut self.state else {
            return;
        };
        if let Some((method, data)) = auth.own_auth.take() {
            builder.identity(payload::IDR, &own);
            write_certificates(env, &mut builder, &self.profile.local_auth);
            builder.auth(method, &data);
        }
        match eap {
            EapStep::Continue(message) => {
                auth.step = Step::EapRequest;
                builder.eap(&message);
                self.send_response(env, Exchange::IkeAuth, builder);
                env.count(Count::AuthResponseSent(false));
            }
            EapStep::Success {
                message,
                msk,
                identity,
            } => {
                auth.step = Step::EapAuth;
                auth.msk = msk;
                auth.eap_identity = identity;
                builder.eap(&message);
                self.send_response(env, Exchange::IkeAuth, builder);
                env.count(Count::AuthResponseSent(false));
            }
            EapStep::Failure { message, reason } => {
                env.count(Count::AuthFailed(AuthMethod::Eap));
                if message.is_empty() {
                    builder.notify(NotifyKind::AUTHENTICATION_FAILED, &[]);
                    env.count(Count::NotifySent(NotifyKind::AUTHENTICATION_FAILED));
                } else {
                    builder.eap(&message);
                }
                self.send_response(env, Exchange::IkeAuth, builder);
                env.count(Count::AuthResponseSent(true));
                let method = AuthMethod::Eap;
                self.fail(env, SetupFailure::PeerAuthentication { method, reason }, true);
            }
        }
    }
}

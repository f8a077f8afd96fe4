//! Questions of the engine: who is asked, and what is made of the answers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Instant;

use bus::messages::aaamgr::EapRound;
use bus::messages::certmgr::VerifyPeer;
use bus::messages::sessmgr::{Admission, Claim, Released, Verdict};
use config::SecretText;
use ikev2::{
    AdmitRequest, Answer, AuthMethod, Configuration, EapStep, Identity, IdentityKind, IkeSaId, Path, Profile,
    Question, Refusal, Ticket,
};
use services::DisconnectReason;
use services::wsg::Wsg;
use telemetry::counters::ikev2_auth as auth;

use crate::questions::{Found, KeysWanted};
use crate::session_desk::{Asked, News};
use crate::sessions::EAP_MSCHAPV2;
use crate::state::State;

impl State {
    /// Takes in what tasks found out: what came together is committed together.
    pub(crate) fn found(&mut self, all: impl Iterator<Item = Found>) {
        let now = Instant::now();
        for found in all {
            self.take_answer(now, found);
            // This life ends: what depends on it must not go on.
            if self.failure.is_some() {
                return;
            }
        }
        self.pump(now);
    }

    fn take_answer(&mut self, now: Instant, found: Found) {
        match found {
            Found::Answer(ticket, answer) => self.answered(now, ticket, answer),
            Found::Routed(spis) => self.routed(&spis),
            Found::Prefetched(sealed, plain) => self.secrets.insert(sealed, plain),
            Found::Secrets(ticket, wanted, revealed) => {
                let mut failure = None;
                for (sealed, plain) in revealed {
                    match plain {
                        Ok(plain) => self.secrets.insert(sealed, plain),
                        Err(reason) => failure = Some(reason),
                    }
                }
                let answer = match failure {
                    Some(reason) => Answer::Unavailable(format!("pre-shared key: {reason}")),
                    None => self.keys(&wanted),
                };
                self.engine.answer(now, ticket, answer, &mut self.slots);
            }
            Found::Eap {
                ticket,
                answer,
                authorization,
                method,
            } => {
                self.eap_answered(ticket.ike, &answer, method);
                if let Some(session) = self.sessions.get_mut(ticket.ike) {
                    session.authorization = authorization.map(Box::new).or(session.authorization.take());
                }
                self.engine.answer(now, ticket, answer, &mut self.slots);
            }
            Found::Verdicts(verdicts) => {
                for (asked, verdict) in verdicts {
                    match asked {
                        Asked::Engine(ticket) => self.decided(now, ticket, verdict),
                        Asked::Outlived(ike) => self.claimed(now, ike, verdict),
                    }
                }
            }
            Found::Renamed(ikes) => self.sessions.told(&ikes),
            Found::Unknown(ikes) => ikes.into_iter().for_each(|ike| self.claim(now, IkeSaId(ike))),
            Found::Opened(slot, result) => self.opened(now, slot, result),
            Found::LetGo(request, responder) => self.hand_over(now, &request, responder),
        }
    }

    /// Finds an answer, at once or through a task.
    pub(crate) fn ask(&mut self, now: Instant, ticket: Ticket, profile: &Arc<Profile>, question: Question) {
        let Some(wsg) = self.services.get(&profile.tag).cloned() else {
            let answer = Answer::Unavailable(format!("the service of {} is gone", profile.name));
            return self.engine.answer(now, ticket, answer, &mut self.slots);
        };
        match question {
            Question::Psk {
                remote,
                wants_remote,
                wants_local,
                ..
            } => {
                let from = self
                    .sessions
                    .get(ticket.ike)
                    .map(|session| session.path.remote.ip());
                let wanted = KeysWanted {
                    remote: from
                        .filter(|_| wants_remote)
                        .and_then(|from| wsg.secrets.remote(&remote, from))
                        .cloned(),
                    local: wsg.secrets.local().filter(|_| wants_local).cloned(),
                };
                if let Some(session) = self.sessions.get_mut(ticket.ike) {
                    session.peer = Some(remote.to_string().into());
                }
                let missing: Vec<_> = [&wanted.remote, &wanted.local]
                    .into_iter()
                    .flatten()
                    .filter(|sealed| self.secrets.get(sealed).is_none())
                    .cloned()
                    .collect();
                if missing.is_empty() {
                    let answer = self.keys(&wanted);
                    self.engine.answer(now, ticket, answer, &mut self.slots);
                } else {
                    self.asker.secrets(ticket, wanted, missing);
                }
            }
            Question::Sign { octets, hashes } => {
                self.counters.inc(auth::LOCAL_CERT_ATTEMPT);
                self.asker.sign(ticket, &wsg, octets, &hashes);
            }
            Question::VerifyPeer {
                certificates,
                identity,
                method,
                signature,
                octets,
            } => {
                let request = VerifyPeer {
                    certificates,
                    anchors: wsg.authorities.clone(),
                    identity_type: (identity.kind() as u8).into(),
                    identity: identity.data().to_vec(),
                    method: method.into(),
                    data: signature,
                    octets,
                };
                self.asker.verify(ticket, request);
            }
            Question::EapAuthenticator { identity, message } => {
                let round = EapRound {
                    ike_spi: ticket.ike.0,
                    context: wsg.context.clone(),
                    identity: user(&identity),
                    eap: message.unwrap_or_default(),
                    calling_station: self
                        .sessions
                        .get(ticket.ike)
                        .map_or_else(String::new, |session| session.path.remote.ip().to_string()),
                    abandon: false,
                    profile: wsg.eap_profile.clone().unwrap_or_default(),
                };
                if let Some(session) = self.sessions.get_mut(ticket.ike) {
                    session.in_eap = true;
                }
                self.asker.eap(ticket, round);
            }
            Question::EapPeer { .. } => {
                let answer = Answer::Unavailable("the gateway never is an EAP peer".to_owned());
                self.engine.answer(now, ticket, answer, &mut self.slots);
            }
            Question::Admit(request) => {
                let authorization = self
                    .sessions
                    .get_mut(ticket.ike)
                    .and_then(|session| session.authorization.as_deref().cloned());
                self.desks.admit(
                    self.sessions.sessmgr_of(ticket.ike),
                    Asked::Engine(ticket),
                    Admission {
                        authorization,
                        tenure: self.moves.tenure(ticket.ike.slot()),
                        ..admission(ticket.ike, &wsg, *request)
                    },
                );
            }
        }
    }

    /// The answer to a question for keys, all of which are known if they are configured.
    fn keys(&self, wanted: &KeysWanted) -> Answer {
        let plain = |sealed: &Option<SecretText>| {
            sealed
                .as_ref()
                .and_then(|sealed| self.secrets.get(sealed))
                .cloned()
        };
        Answer::Psk {
            remote: plain(&wanted.remote),
            local: plain(&wanted.local),
        }
    }

    fn answered(&mut self, now: Instant, ticket: Ticket, answer: Answer) {
        if let Answer::Signature { .. } = answer {
            self.counters.inc(auth::LOCAL_CERT_SUCCESS);
            if let Some(session) = self.sessions.get_mut(ticket.ike) {
                session.signed = true;
            }
        }
        self.engine.answer(now, ticket, answer, &mut self.slots);
    }

    fn decided(&mut self, now: Instant, ticket: Ticket, verdict: Result<Verdict, String>) {
        // Its manager is another one now, which asks for itself.
        if !self.moves.is_ours(ticket.ike.slot()) {
            return;
        }
        let admitted = verdict.as_ref().is_ok_and(|verdict| verdict.refusal.is_empty());
        match self.sessions.get_mut(ticket.ike) {
            Some(session) => session.admitted = admitted,
            // Gone meanwhile, or nobody knows whether the request was carried out.
            None if admitted => self.release(ticket.ike, DisconnectReason::SetupTimeout),
            None => {}
        }
        let answer = match verdict {
            Ok(verdict) if admitted => {
                self.displace(now, &verdict.displaced);
                Answer::Admit(Ok(configuration(&verdict)))
            }
            Ok(verdict) if verdict.no_address => Answer::Admit(Err(Refusal::NoAddress(verdict.refusal))),
            Ok(verdict) => Answer::Admit(Err(Refusal::Denied(verdict.refusal))),
            Err(reason) => {
                self.release(ticket.ike, DisconnectReason::Internal);
                Answer::Unavailable(reason)
            }
        };
        self.engine.answer(now, ticket, answer, &mut self.slots);
    }

    /// Has `sessmgr` take up again a session that it has forgotten, with the address that the peer has.
    fn claim(&mut self, now: Instant, ike: IkeSaId) {
        let view = self.engine.ike_sa(now, ike, &self.slots);
        let session = self.sessions.get(ike);
        let wsg = session.and_then(|session| self.services.get(&session.service));
        let (Some(view), Some(session), Some(wsg)) = (view, session, wsg) else {
            return;
        };
        let (Some(identity), Some(method)) = (view.peer, view.peer_auth) else {
            return;
        };
        let request = AdmitRequest {
            identity,
            called: None,
            path: view.path,
            method,
            eap_identity: view.eap_identity,
            request: None,
            initial_contact: false,
        };
        let has = view.configuration.unwrap_or_default();
        let claim = Claim {
            ipv4: has
                .ipv4
                .map_or_else(Vec::new, |address| address.octets().to_vec()),
            ipv6: has
                .ipv6
                .map_or_else(Vec::new, |(address, _)| address.octets().to_vec()),
        };
        let admission = Admission {
            wants_ipv4: has.ipv4.is_some(),
            wants_ipv6: has.ipv6.is_some(),
            authorization: session.authorization.as_deref().cloned(),
            claim: Some(claim),
            tenure: self.moves.tenure(ike.slot()),
            ..admission(ike, wsg, request)
        };
        self.desks.admit(session.sessmgr, Asked::Outlived(ike), admission);
    }

    /// What `sessmgr` says to a claim: without a session there is no tunnel.
    fn claimed(&mut self, now: Instant, ike: IkeSaId, verdict: Result<Verdict, String>) {
        if !self.moves.is_ours(ike.slot()) {
            return;
        }
        match verdict {
            // Gone meanwhile.
            Ok(verdict) if verdict.refusal.is_empty() && self.sessions.get(ike).is_none() => {
                self.release(ike, DisconnectReason::Internal);
            }
            Ok(verdict) if verdict.refusal.is_empty() => {
                self.displace(now, &verdict.displaced);
                self.sessions.tell_again(ike);
            }
            Ok(verdict) => {
                tracing::warn!("IKE SA {ike} has no session any more: {}", verdict.refusal);
                self.delete(now, &[ike], DisconnectReason::NoResource);
            }
            // `sessmgr` is away again: once more.
            Err(_) => self.claim(now, ike),
        }
    }

    /// Deletes older IKE SAs of a peer that has another one now, whoever has their slots.
    fn displace(&mut self, now: Instant, ikes: &[u64]) {
        let ikes = ikes.iter().map(|ike| IkeSaId(*ike));
        let (ours, others): (Vec<IkeSaId>, Vec<IkeSaId>) =
            ikes.partition(|ike| self.moves.is_ours(ike.slot()));
        if !ours.is_empty() {
            self.delete(now, &ours, DisconnectReason::Duplicate);
        }
        if !others.is_empty() {
            self.asker.delete_elsewhere(&others, DisconnectReason::Duplicate);
        }
    }

    /// Has `sessmgr` forget a session that never came to be.
    pub(crate) fn release(&self, ike: IkeSaId, reason: DisconnectReason) {
        self.release_at(self.sessions.sessmgr_of(ike), ike, reason);
    }

    /// The same for one that only its record knows of: which `sessmgr` has it.
    pub(crate) fn release_at(&self, sessmgr: u32, ike: IkeSaId, reason: DisconnectReason) {
        let released = Released {
            ike_spi: ike.0,
            reason: reason.number(),
            ..Default::default()
        };
        self.desks.tell(sessmgr, News::Released(released));
    }

    fn eap_answered(&mut self, ike: IkeSaId, answer: &Answer, method: u32) {
        let Some(session) = self.sessions.get_mut(ike) else {
            return;
        };
        if method == EAP_MSCHAPV2 && session.eap_method != method {
            self.counters.inc(auth::MSCHAPV2_ATTEMPT);
        }
        if method != 0 {
            session.eap_method = method;
        }
        let over = match answer {
            Answer::Eap(EapStep::Success { .. }) => Some(auth::MSCHAPV2_SUCCESS),
            Answer::Eap(EapStep::Failure { .. }) => Some(auth::MSCHAPV2_FAIL),
            _ => None,
        };
        if let Some(counter) = over {
            session.in_eap = false;
            if session.eap_method == EAP_MSCHAPV2 {
                self.counters.inc(counter);
            }
        }
    }
}

/// Whom EAP begins with (RFC 7296 2.16): the name in IDi. One that is no name, as the address that Windows sends, is empty: the peer
/// is asked who it is.
fn user(identity: &Identity) -> Vec<u8> {
    if identity.is_user() {
        identity.data().to_vec()
    } else {
        Vec::new()
    }
}

fn admission(ike: IkeSaId, wsg: &Wsg, request: AdmitRequest) -> Admission {
    let wanted = request.request.unwrap_or_default();
    // With EAP the peer has proved who the user is, and IDi may be anything (RFC 7296 2.16): whoever shares it must not share sessions.
    let identity = match (&request.eap_identity, request.method) {
        (Some(user), AuthMethod::Eap) => Identity::new(IdentityKind::KeyId, user.as_bytes()),
        _ => None,
    };
    let identity = identity.unwrap_or(request.identity);
    Admission {
        ike_spi: ike.0,
        context: wsg.context.clone(),
        service: wsg.service.clone(),
        identity_type: (identity.kind() as u8).into(),
        identity: identity.data().to_vec(),
        peer: octets(request.path),
        user: request
            .eap_identity
            .map_or_else(Vec::new, |user| user.as_bytes().to_vec()),
        wants_ipv4: wanted.ipv4.is_some(),
        wants_ipv6: wanted.ipv6.is_some(),
        authorization: None,
        initial_contact: request.initial_contact,
        claim: None,
        tenure: 0,
    }
}

fn octets(path: Path) -> Vec<u8> {
    match path.remote.ip() {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn configuration(verdict: &Verdict) -> Configuration {
    let ipv6 = verdict
        .ipv6
        .first_chunk()
        .map(|octets: &[u8; 16]| Ipv6Addr::from(*octets));
    let length = u8::try_from(verdict.ipv6_prefix_length)
        .ok()
        .filter(|length| (1..=128).contains(length))
        .unwrap_or(128);
    Configuration {
        ipv4: verdict
            .ipv4
            .first_chunk()
            .map(|octets: &[u8; 4]| Ipv4Addr::from(*octets)),
        netmask: None,
        ipv6: ipv6.map(|address| (address, length)),
        dns: verdict.dns.iter().filter_map(|octets| address(octets)).collect(),
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => octets.first_chunk().map(|octets: &[u8; 4]| IpAddr::from(*octets)),
        16 => octets
            .first_chunk()
            .map(|octets: &[u8; 16]| IpAddr::from(*octets)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eap_begins_with_a_name_and_asks_where_there_is_none() {
        let of = |kind, data: &[u8]| user(&Identity::new(kind, data).unwrap());
        assert_eq!(of(IdentityKind::Rfc822, b"bob@example.org"), b"bob@example.org");
        assert_eq!(of(IdentityKind::Fqdn, b"enb1.example.org"), b"enb1.example.org");
        assert_eq!(of(IdentityKind::KeyId, b"bob"), b"bob");
        assert_eq!(of(IdentityKind::KeyId, b"a\\b\xff"), b"a\\b\xff");
        // Windows sends its address.
        assert_eq!(of(IdentityKind::Ipv4, &[192, 168, 1, 7]), b"");
        assert_eq!(of(IdentityKind::Ipv6, &[1; 16]), b"");
        assert_eq!(of(IdentityKind::Dn, b"0\x00"), b"");
    }
}

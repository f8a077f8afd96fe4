//! IKE_SA_INIT as responder (RFC 7296 1.2, 2.6). Until the request is found good, nothing is remembered of it.

use std::sync::Arc;

use super::auth::{AuthContext, peer_hashes};
use super::{IkeSa, State, nat};
use crate::cookie::CookieVerdict;
use crate::env::Env;
use crate::event::{Count, DropCause, Event};
use crate::keys::{Exchanged, initial};
use crate::message::{
    Builder, CERT_X509, DecodeError, Exchange, HEADER_LEN, Header, NotifyKind, Payloads, Proposal,
    ProposalSpi,
};
use crate::negotiate::{answer_ike, choose_ike};
use crate::output::{IkeSaId, Path};
use crate::profile::{LocalAuth, Profile};
use crate::record::stored;

/// Octets of an IKE_SA_INIT request, at most: any set of algorithms fits with the longest public value.
const MAX_INIT: usize = 4 * 1024;

/// Our response is sent; the peer is to go on.
pub(crate) struct InitReplied {
    pub context: AuthContext,
}

stored!(InitReplied { context });

/// The mandatory payloads of the request.
struct Request<'a> {
    proposals: &'a [Proposal],
    group: u16,
    public: &'a [u8],
    nonce: &'a [u8],
}

/// Takes in an IKE_SA_INIT request.
pub(crate) fn respond_init(env: &mut Env<'_>, header: &Header, path: Path, datagram: &[u8]) {
    if let Some(&id) = env.core.half_open.get(&(header.initiator_spi, path)) {
        return repeat(env, id, header, path, datagram);
    }
    let Some(profile) = env.core.profiles.get(&path.local.ip()).map(Arc::clone) else {
        return env.drop(path.remote, DropCause::NoProfile);
    };
    if datagram.len() > MAX_INIT {
        return env.drop(path.remote, DropCause::SetupMemory);
    }
    let body = datagram.get(HEADER_LEN..).unwrap_or_default();
    let payloads = match Payloads::decode(header.next_payload, body) {
        Ok(payloads) => payloads,
        Err(error) => return refuse_malformed(env, header, path, &profile, error),
    };
    if header.message_id != 0 {
        return env.drop(path.remote, DropCause::MessageId);
    }
    for notify in &payloads.notifies {
        env.count(Count::NotifyReceived(notify.kind));
    }
    let (Some(proposals), Some((group, public)), Some(nonce)) = (&payloads.sa, payloads.ke, payloads.nonce)
    else {
        return refuse_malformed(env, header, path, &profile, DecodeError::Syntax);
    };
    if !cookie_is_good(env, header, path, &profile, nonce, &payloads) {
        return;
    }
    let (core, config) = (&env.core, &env.core.config);
    let of_source = core.sources.of(path.into());
    if core.totals.half_open >= config.max_half_open
        || of_source >= config.max_half_open_of_source
        || core.table.is_full()
        || core.congested
    {
        return env.drop(path.remote, DropCause::Congestion);
    }
    if env.is_setup_memory_full() {
        return env.drop(path.remote, DropCause::SetupMemory);
    }
    let request = Request {
        proposals,
        group,
        public,
        nonce,
    };
    answer(env, header, path, datagram, profile, &request, &payloads);
}

/// The peer sent it again, as our response was lost or late.
fn repeat(env: &mut Env<'_>, id: IkeSaId, header: &Header, path: Path, datagram: &[u8]) {
    let Some(State::InitReplied(replied)) = env.core.table.get(id).map(|sa| &sa.state) else {
        return env.drop(path.remote, DropCause::Retransmission);
    };
    let before = &replied.context.peer_message;
    // A copy of the first request was taken when no cookie was asked for any more. The peer proves itself by the request that it sent last (RFC 7296 2.15).
    let with_cookie = after_cookie(datagram).is_some_and(|rest| Some(rest) == payloads(before));
    if !with_cookie && before != datagram || with_cookie && !has_good_cookie(env, header, path, datagram) {
        return env.drop(path.remote, DropCause::Retransmission);
    }
    env.with(id, |sa, env| {
        if let State::InitReplied(replied) = &mut sa.state
            && with_cookie
        {
            replied.context.peer_message = datagram.to_vec();
        }
        sa.repeat_response(env, path);
    });
}

/// The payloads of a message: type of the first, and all octets.
fn payloads(message: &[u8]) -> Option<(u8, &[u8])> {
    Some((*message.get(16)?, message.get(HEADER_LEN..)?))
}

/// The payloads behind a COOKIE notification in front, where a peer puts it that is asked for one, changing nothing else (RFC 7296 2.6).
fn after_cookie(message: &[u8]) -> Option<(u8, &[u8])> {
    const NOTIFY: u8 = 41;
    let (NOTIFY, body) = payloads(message)? else {
        return None;
    };
    let [next, _, high, low, _, _, kind @ ..] = body.first_chunk::<8>()?;
    let is_cookie = NotifyKind(u16::from_be_bytes(*kind)) == NotifyKind::COOKIE;
    let rest = body.get(usize::from(u16::from_be_bytes([*high, *low]))..)?;
    is_cookie.then_some((*next, rest))
}

/// Whether a request has a cookie of ours.
fn has_good_cookie(env: &Env<'_>, header: &Header, path: Path, datagram: &[u8]) -> bool {
    let body = datagram.get(HEADER_LEN..).unwrap_or_default();
    let Ok(payloads) = Payloads::decode(header.next_payload, body) else {
        return false;
    };
    let (Some(nonce), Some(cookie)) = (payloads.nonce, payloads.notify(NotifyKind::COOKIE)) else {
        return false;
    };
    let verdict = env
        .core
        .cookies
        .check(cookie.data, nonce, path, header.initiator_spi);
    verdict == CookieVerdict::Match
}

/// Asks for a cookie if that is called for (RFC 7296 2.6). False ends the matter.
fn cookie_is_good(
    env: &mut Env<'_>,
    header: &Header,
    path: Path,
    profile: &Profile,
    nonce: &[u8],
    payloads: &Payloads<'_>,
) -> bool {
    let spi = header.initiator_spi;
    let core = &mut *env.core;
    let (half_open, config) = (core.totals.half_open, &core.config);
    let crowded = core.sources.of(path.into()) > config.max_half_open_of_source / 4;
    let flooded = core
        .cookies
        .required(profile.cookies, half_open, config.max_half_open);
    if !flooded && !crowded {
        return true;
    }
    if let Some(cookie) = payloads.notify(NotifyKind::COOKIE) {
        if env.core.cookies.check(cookie.data, nonce, path, spi) == CookieVerdict::Match {
            env.count(Count::CookieMatched);
            return true;
        }
        // As if there were none: it may be good and only too old.
        env.count(Count::CookieMismatched);
    }
    let core = &mut *env.core;
    let cookie = core.cookies.make(env.now, &mut *core.random, nonce, path, spi);
    refuse(env, header, path, NotifyKind::COOKIE, &cookie);
    false
}

fn answer(
    env: &mut Env<'_>,
    header: &Header,
    path: Path,
    datagram: &[u8],
    profile: Arc<Profile>,
    request: &Request<'_>,
    payloads: &Payloads<'_>,
) {
    let chosen = match choose_ike(request.proposals, &profile.proposals) {
        Ok(chosen) => chosen,
        Err(mismatch) => {
            if profile.notifies.no_proposal_chosen {
                refuse(env, header, path, NotifyKind::NO_PROPOSAL_CHOSEN, &[]);
            }
            return env.event(Event::NoProposal {
                path,
                profile,
                mismatch,
            });
        }
    };
    let algorithms = chosen.algorithms;
    let group = algorithms.group;
    if request.group != group.transform_id() {
        let wanted = group.transform_id().to_be_bytes();
        return refuse(env, header, path, NotifyKind::INVALID_KE_PAYLOAD, &wanted);
    }
    if request.public.len() != group.public_len() {
        return refuse_malformed(env, header, path, &profile, DecodeError::KeGroupLength);
    }
    let Ok(key) = group.generate(env.random()) else {
        return env.drop(path.remote, DropCause::Congestion);
    };
    let public = key.public().to_vec();
    let Ok(shared) = key.agree(request.public) else {
        return refuse_malformed(env, header, path, &profile, DecodeError::KeGroupLength);
    };
    let nonce = env.nonce();
    let random = &mut *env.core.random;
    let Some(id) = env.core.table.reserve(random) else {
        return env.drop(path.remote, DropCause::Congestion);
    };
    let exchanged = Exchanged {
        initiator_nonce: request.nonce,
        responder_nonce: &nonce,
        initiator_spi: header.initiator_spi,
        responder_spi: id.0,
    };
    let Ok((keys, auth_keys)) = initial(algorithms, &shared, &exchanged) else {
        env.core.table.release(id);
        return env.drop(path.remote, DropCause::Congestion);
    };
    let nat = nat::detect(payloads, &profile, path, (header.initiator_spi, 0));
    let mut builder = Builder::new(HEADER_LEN);
    builder.sa(&[answer_ike(&chosen, ProposalSpi::None)]);
    builder.key_exchange(group.transform_id(), &public);
    builder.nonce(&nonce);
    if nat.is_some() {
        nat::announce(env, &mut builder, &profile, path, (header.initiator_spi, id.0));
    }
    if profile.remote_auth.certificate {
        builder.certificate_request(CERT_X509, &profile.trust_hashes);
        env.count(Count::CertificateRequestSent);
    }
    let peer_fragments = payloads
        .notify(NotifyKind::IKEV2_FRAGMENTATION_SUPPORTED)
        .is_some();
    let extras = Extras {
        fragmentation: peer_fragments,
        signatures: payloads.notify(NotifyKind::SIGNATURE_HASH_ALGORITHMS).is_some(),
    };
    extras.write(env, &mut builder, &profile);
    let response = builder.finish(Header {
        responder_spi: id.0,
        from_initiator: false,
        response: true,
        ..*header
    });
    let context = AuthContext {
        keys: auth_keys,
        own_message: response.clone(),
        peer_message: datagram.to_vec(),
        own_nonce: nonce,
        peer_nonce: request.nonce.to_vec(),
        peer_hashes: peer_hashes(payloads),
    };
    env.event(Event::Attempt {
        ike: id,
        path,
        initiator: false,
        profile: Arc::clone(&profile),
    });
    let half_open_timeout = profile.half_open_timeout;
    let state = State::InitReplied(Box::new(InitReplied { context }));
    let mut sa = Box::new(IkeSa::new(env, id, false, profile, path, state));
    sa.peer_spi = header.initiator_spi;
    sa.keys = Some(keys);
    sa.nat = nat.unwrap_or_default();
    sa.peer_fragments = peer_fragments;
    sa.deadlines.phase = Some(env.now + half_open_timeout);
    env.transmit(path, &response);
    sa.keep_response(response);
    env.core.half_open.insert((header.initiator_spi, path), id);
    env.put_back(sa);
}

/// Extensions that are announced in IKE_SA_INIT.
pub(super) struct Extras {
    pub fragmentation: bool,
    pub signatures: bool,
}

impl Extras {
    /// Appends the notifies.
    pub fn write(&self, env: &mut Env<'_>, builder: &mut Builder, profile: &Profile) {
        if self.fragmentation {
            builder.notify(NotifyKind::IKEV2_FRAGMENTATION_SUPPORTED, &[]);
            env.count(Count::NotifySent(NotifyKind::IKEV2_FRAGMENTATION_SUPPORTED));
        }
        let certificates =
            profile.remote_auth.certificate || matches!(profile.local_auth, LocalAuth::Certificate { .. });
        if self.signatures && certificates && !env.core.config.signature_hashes.is_empty() {
            let hashes: Vec<u8> = env
                .core
                .config
                .signature_hashes
                .iter()
                .flat_map(|hash| hash.to_be_bytes())
                .collect();
            builder.notify(NotifyKind::SIGNATURE_HASH_ALGORITHMS, &hashes);
        }
    }
}

fn refuse_malformed(env: &mut Env<'_>, header: &Header, path: Path, profile: &Profile, error: DecodeError) {
    env.undecodable(path.remote, error);
    match error {
        DecodeError::CriticalPayload(kind) => {
            refuse(
                env,
                header,
                path,
                NotifyKind::UNSUPPORTED_CRITICAL_PAYLOAD,
                &[kind],
            );
        }
        _ if profile.notifies.invalid_syntax => refuse(env, header, path, NotifyKind::INVALID_SYNTAX, &[]),
        _ => {}
    }
}

/// Answers with nothing but a notify, and with no SPI of ours (RFC 7296 2.6).
fn refuse(env: &mut Env<'_>, header: &Header, path: Path, kind: NotifyKind, data: &[u8]) {
    let mut builder = Builder::new(HEADER_LEN);
    builder.notify(kind, data);
    let response = builder.finish(Header {
        responder_spi: 0,
        exchange: Exchange::IkeSaInit,
        from_initiator: false,
        response: true,
        message_id: 0,
        ..*header
    });
    env.count(Count::NotifySent(kind));
    env.transmit(path, &response);
}

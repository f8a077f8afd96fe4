//! IKE_SA_INIT as initiator (RFC 7296 1.2, 2.6, 2.23).

use std::sync::Arc;

use crypto::{DhGroup, DhKeyPair};

use super::auth::{AuthContext, peer_hashes};
use super::child_initiator::group_wanted;
use super::init_responder::Extras;
use super::request::Pending;
use super::{IkeSa, State, nat};
use crate::engine::Error;
use crate::env::Env;
use crate::event::{Count, DropCause, Event, SetupFailure};
use crate::keys::{Exchanged, initial};
use crate::message::{Builder, Exchange, HEADER_LEN, Header, NotifyKind, Payloads, ProposalSpi};
use crate::negotiate::{choose_ike, is_answer, offer_ike};
use crate::output::{IkeSaId, Path};
use crate::profile::Profile;
use crate::record::stored;

/// How often the peer may send us back for a cookie or another group.
const MAX_RETRIES: u8 = 5;

/// Our request is sent.
pub(crate) struct InitSent {
    nonce: [u8; 32],
    /// Taken when the answer is there.
    key: Option<DhKeyPair>,
    message: Vec<u8>,
    cookie: Option<Vec<u8>>,
    retries: u8,
}

stored!(InitSent {
    nonce,
    key,
    message,
    cookie,
    retries,
});

/// Begins an IKE SA.
pub(crate) fn initiate(env: &mut Env<'_>, profile: Arc<Profile>, path: Path) -> Result<IkeSaId, Error> {
    let group = profile
        .proposals
        .first()
        .and_then(|proposal| proposal.groups.first().copied());
    let (Some(group), false) = (group, profile.children.is_empty()) else {
        return Err(Error::IncompleteProfile);
    };
    if path.local.is_ipv4() != path.remote.is_ipv4() {
        return Err(Error::PathFamilies);
    }
    let key = group.generate(env.random()).map_err(Error::Crypto)?;
    let nonce = env.nonce();
    let random = &mut *env.core.random;
    let id = env.core.table.reserve(random).ok_or(Error::Full)?;
    env.event(Event::Attempt {
        ike: id,
        path,
        initiator: true,
        profile: Arc::clone(&profile),
    });
    let setup_timeout = profile.setup_timeout;
    let state = State::InitSent(Box::new(InitSent {
        nonce,
        key: Some(key),
        message: Vec::new(),
        cookie: None,
        retries: 0,
    }));
    let mut sa = Box::new(IkeSa::new(env, id, true, profile, path, state));
    sa.deadlines.phase = Some(env.now + setup_timeout);
    sa.send_init(env);
    env.put_back(sa);
    Ok(id)
}

impl IkeSa {
    fn send_init(&mut self, env: &mut Env<'_>) {
        let State::InitSent(sent) = &mut self.state else {
            return;
        };
        let profile = &self.profile;
        let mut builder = Builder::new(HEADER_LEN);
        if let Some(cookie) = &sent.cookie {
            // RFC 7296 2.6: it comes first, and all else stays as it was.
            builder.notify(NotifyKind::COOKIE, cookie);
        }
        builder.sa(&offer_ike(&profile.proposals, ProposalSpi::None));
        if let Some(key) = &sent.key {
            builder.key_exchange(key.group().transform_id(), key.public());
        }
        builder.nonce(&sent.nonce);
        nat::announce(env, &mut builder, profile, self.path, (self.id.0, 0));
        let extras = Extras {
            fragmentation: true,
            signatures: true,
        };
        extras.write(env, &mut builder, profile);
        let message = builder.finish(Header {
            initiator_spi: self.id.0,
            responder_spi: 0,
            next_payload: 0,
            exchange: Exchange::IkeSaInit,
            from_initiator: true,
            response: false,
            message_id: 0,
        });
        sent.message = message.clone();
        let policy = profile.retransmission;
        self.next_request = 0;
        self.send_clear_request(env, message, Pending::Init, policy);
    }

    /// Takes in an IKE_SA_INIT response. It is not authenticated yet, so it is dropped where in doubt.
    pub fn on_init_response(&mut self, env: &mut Env<'_>, header: &Header, path: Path, datagram: &[u8]) {
        let awaited =
            matches!(self.state, State::InitSent(_)) && header.message_id == 0 && self.peer_spi == 0;
        if !awaited || path.remote != self.path.remote {
            return env.drop(path.remote, DropCause::UnexpectedResponse);
        }
        let body = datagram.get(HEADER_LEN..).unwrap_or_default();
        let payloads = match Payloads::decode(header.next_payload, body) {
            Ok(payloads) => payloads,
            Err(error) => return env.undecodable(path.remote, error),
        };
        for notify in &payloads.notifies {
            env.count(Count::NotifyReceived(notify.kind));
        }
        if payloads.sa.is_none() {
            return self.on_init_refused(env, path, &payloads);
        }
        if let Err(failure) = self.take_init_answer(env, header, path, datagram, &payloads) {
            self.fail(env, failure, false);
        }
        self.run_tasks(env);
    }

    fn on_init_refused(&mut self, env: &mut Env<'_>, path: Path, payloads: &Payloads<'_>) {
        let State::InitSent(sent) = &mut self.state else {
            return;
        };
        let cookie = payloads.notify(NotifyKind::COOKIE);
        let Some(kind) = cookie.map(|notify| notify.kind).or(payloads.error()) else {
            return env.drop(path.remote, DropCause::UnexpectedResponse);
        };
        sent.retries = sent.retries.saturating_add(1);
        if sent.retries > MAX_RETRIES {
            return self.fail(env, SetupFailure::Refused(kind), false);
        }
        if let Some(cookie) = cookie {
            sent.cookie = Some(cookie.data.to_vec());
            self.abandon_request(env);
            return self.send_init(env);
        }
        let tried = sent.key.as_ref().map(DhKeyPair::group);
        let wanted = match kind {
            NotifyKind::INVALID_KE_PAYLOAD => payloads
                .notify(kind)
                .and_then(|notify| group_wanted(notify.data))
                .filter(|group| Some(*group) != tried && offers(&self.profile, *group)),
            _ => None,
        };
        let Some(group) = wanted else {
            return self.fail(env, SetupFailure::Refused(kind), false);
        };
        match group.generate(env.random()) {
            Ok(key) => sent.key = Some(key),
            Err(error) => return self.fail(env, SetupFailure::Crypto(error), false),
        }
        self.abandon_request(env);
        self.send_init(env);
    }

    fn take_init_answer(
        &mut self,
        env: &mut Env<'_>,
        header: &Header,
        path: Path,
        datagram: &[u8],
        payloads: &Payloads<'_>,
    ) -> Result<(), SetupFailure> {
        let (Some(proposals), Some((group, public)), Some(peer_nonce)) =
            (&payloads.sa, payloads.ke, payloads.nonce)
        else {
            return Err(SetupFailure::BadAnswer("SA, KE or nonce missing"));
        };
        if !is_answer(proposals) {
            return Err(SetupFailure::BadAnswer("not exactly one proposal"));
        }
        if header.responder_spi == 0 {
            return Err(SetupFailure::BadAnswer("no responder SPI"));
        }
        let chosen = choose_ike(proposals, &self.profile.proposals).map_err(SetupFailure::NoProposal)?;
        let State::InitSent(sent) = &mut self.state else {
            return Ok(());
        };
        let tried = sent.key.as_ref().map(DhKeyPair::group);
        if Some(chosen.algorithms.group) != tried || group != chosen.algorithms.group.transform_id() {
            return Err(SetupFailure::BadAnswer("key exchange of another group"));
        }
        let Some(key) = sent.key.take() else { return Ok(()) };
        let shared = key.agree(public).map_err(SetupFailure::Crypto)?;
        let exchanged = Exchanged {
            initiator_nonce: &sent.nonce,
            responder_nonce: peer_nonce,
            initiator_spi: self.id.0,
            responder_spi: header.responder_spi,
        };
        let (keys, auth_keys) =
            initial(chosen.algorithms, &shared, &exchanged).map_err(SetupFailure::Crypto)?;
        let context = AuthContext {
            keys: auth_keys,
            own_message: std::mem::take(&mut sent.message),
            peer_message: datagram.to_vec(),
            own_nonce: sent.nonce,
            peer_nonce: peer_nonce.to_vec(),
            peer_hashes: peer_hashes(payloads),
        };
        self.outstanding = None;
        self.keys = Some(keys);
        self.peer_spi = header.responder_spi;
        self.peer_fragments = payloads
            .notify(NotifyKind::IKEV2_FRAGMENTATION_SUPPORTED)
            .is_some();
        let spis = (self.id.0, header.responder_spi);
        self.nat = nat::detect(payloads, &self.profile, path, spis).unwrap_or_default();
        if self.nat.any() {
            self.float(env);
        }
        self.begin_auth(env, context);
        Ok(())
    }

    /// RFC 7296 2.23: with a NAT between, on to the other port.
    fn float(&mut self, env: &Env<'_>) {
        let (from, to) = (env.core.config.ike_port, env.core.config.nat_port);
        for end in [&mut self.path.local, &mut self.path.remote] {
            if end.port() == from {
                end.set_port(to);
            }
        }
    }
}

fn offers(profile: &Profile, group: DhGroup) -> bool {
    profile
        .proposals
        .iter()
        .any(|proposal| proposal.groups.contains(&group))
}

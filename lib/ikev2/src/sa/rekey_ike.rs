//! CREATE_CHILD_SA for the IKE SA itself: rekeying by either side (RFC 7296 1.3.2, 2.18, 2.25).

use std::sync::Arc;

use crypto::DhGroup;

use super::child_initiator::group_wanted;
use super::offer::{Collision, IkeOffer};
use super::request::Pending;
use super::tasks::Task;
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{ChildExchange, ChildFailure, Count, Event, RemoveReason};
use crate::keys::{Exchanged, IkeKeys, rekeyed};
use crate::message::{Exchange, NotifyKind, Payloads, ProposalSpi};
use crate::negotiate::{Chosen, answer_ike, choose_ike, is_answer, offer_ike};
use crate::output::IkeSaId;
use crate::show::IkeAlgorithms;

/// So many of the IKE SAs that led to this one may still be there, waiting for their delete or for retransmissions, when the peer
/// rekeys it again. Else a peer that does nothing but rekey could take the room of all others.
const MAX_PREDECESSORS: usize = 4;

/// Why the peer's request is answered with a notify.
enum Refused {
    Failure(ChildFailure, NotifyKind),
    Group(DhGroup),
}

// The peer asks.

impl IkeSa {
    pub(super) fn on_ike_rekey_request(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) {
        env.count(Count::ChildRequestReceived(ChildExchange::RekeyIke));
        match self.answer_ike_rekey(env, payloads) {
            Ok(()) => {}
            Err(Refused::Group(group)) => {
                let data = group.transform_id().to_be_bytes();
                self.send_notify_response(
                    env,
                    Exchange::CreateChildSa,
                    NotifyKind::INVALID_KE_PAYLOAD,
                    &data,
                );
            }
            Err(Refused::Failure(reason, kind)) => {
                env.event(Event::ChildFailed {
                    ike: self.id,
                    initiator: false,
                    reason,
                });
                self.send_notify_response(env, Exchange::CreateChildSa, kind, &[]);
            }
        }
        env.count(Count::ChildResponseSent(ChildExchange::RekeyIke));
    }

    fn answer_ike_rekey(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) -> Result<(), Refused> {
        let malformed = || {
            Refused::Failure(
                ChildFailure::BadAnswer("SA, nonce or KE missing"),
                NotifyKind::INVALID_SYNTAX,
            )
        };
        let (Some(proposals), Some(peer_nonce), Some((group, public))) =
            (&payloads.sa, payloads.nonce, payloads.ke)
        else {
            return Err(malformed());
        };
        // RFC 7296 2.25.2: not while a child SA of ours is being made or deleted, nor when this IKE SA is on its way out.
        let busy = self.is_exchanging_child() || self.is_deleting_child();
        if !matches!(self.state, State::Established) || busy {
            return Err(Refused::Failure(ChildFailure::Temporary, self.temporary_notify()));
        }
        if self.is_rekey_unfinished(env) {
            env.count(Count::RekeyIgnored(ChildExchange::RekeyIke));
            return Err(Refused::Failure(ChildFailure::Temporary, self.temporary_notify()));
        }
        let chosen = choose_ike(proposals, &self.profile.proposals).map_err(|mismatch| {
            Refused::Failure(ChildFailure::NoProposal(mismatch), NotifyKind::NO_PROPOSAL_CHOSEN)
        })?;
        let ProposalSpi::Ike(peer_spi @ 1..) = chosen.spi else {
            return Err(malformed());
        };
        if group != chosen.algorithms.group.transform_id() {
            return Err(Refused::Group(chosen.algorithms.group));
        }
        let crypto = |error| Refused::Failure(ChildFailure::Crypto(error), NotifyKind::INVALID_SYNTAX);
        let key = chosen.algorithms.group.generate(env.random()).map_err(crypto)?;
        let ours = key.public().to_vec();
        let shared = key.agree(public).map_err(crypto)?;
        let nonce = env.nonce();
        let random = &mut *env.core.random;
        let Some(id) = env.core.table.reserve_for_rekey(self.id.slot(), random) else {
            return Err(Refused::Failure(
                ChildFailure::NoSpi,
                NotifyKind::NO_ADDITIONAL_SAS,
            ));
        };
        let exchanged = Exchanged {
            initiator_nonce: peer_nonce,
            responder_nonce: &nonce,
            initiator_spi: peer_spi,
            responder_spi: id.0,
        };
        let keys = self
            .keys
            .as_ref()
            .map(|old| rekeyed(chosen.algorithms, &shared, &exchanged, old));
        let Some(Ok(keys)) = keys else {
            env.core.table.release(id);
            return Err(Refused::Failure(ChildFailure::Temporary, self.temporary_notify()));
        };
        let mut builder = self.builder();
        builder.sa(&[answer_ike(&chosen, ProposalSpi::Ike(id.0))]);
        builder.nonce(&nonce);
        builder.key_exchange(group, &ours);
        self.send_response(env, Exchange::CreateChildSa, builder);
        self.succeed(env, id, peer_spi, false, keys);
        match self
            .outstanding
            .as_mut()
            .map(|outstanding| &mut outstanding.pending)
        {
            Some(Pending::RekeyIke(offer)) => {
                // Ours is under way too; its response decides which of the two stays (RFC 7296 2.8.1).
                offer.collision = Some(Collision::new(id, peer_nonce, &nonce));
                let contested_by = self.id;
                env.with(id, |rival, _| rival.contested_by = Some(contested_by));
                env.count(Count::Collision(ChildExchange::RekeyIke));
            }
            _ => self.step_back(env, id),
        }
        Ok(())
    }

    /// Is a rekey of this IKE SA, or are those that led to it, not over yet?
    fn is_rekey_unfinished(&self, env: &Env<'_>) -> bool {
        let table = &env.core.table;
        let contested = self.contested_by.is_some_and(|by| table.exists(by));
        let before = |id: &IkeSaId| table.get(*id).and_then(|sa| sa.predecessor);
        let chain = std::iter::successors(self.predecessor, before).filter(|id| table.exists(*id));
        self.successor().is_some() || contested || chain.take(MAX_PREDECESSORS).count() == MAX_PREDECESSORS
    }

    fn temporary_notify(&self) -> NotifyKind {
        if self.profile.rfc7296_notifies {
            NotifyKind::TEMPORARY_FAILURE
        } else {
            NotifyKind::NO_ADDITIONAL_SAS
        }
    }
}

// We ask.

impl IkeSa {
    /// Asks for new keys of the IKE SA. `group` is the one the peer wants, if it said so.
    pub(super) fn request_ike_rekey(&mut self, env: &mut Env<'_>, group: Option<DhGroup>) {
        let group_asked = group.is_some();
        let current = self.keys.as_ref().map(|keys| keys.algorithms.group);
        let Some(group) = group.or(current) else { return };
        let key = match group.generate(env.random()) {
            Ok(key) => key,
            Err(error) => return self.child_failed(env, ChildFailure::Crypto(error)),
        };
        let random = &mut *env.core.random;
        let Some(id) = env.core.table.reserve_for_rekey(self.id.slot(), random) else {
            return self.child_failed(env, ChildFailure::NoSpi);
        };
        let nonce = env.nonce();
        let mut builder = self.builder();
        builder.sa(&offer_ike(&self.profile.proposals, ProposalSpi::Ike(id.0)));
        builder.nonce(&nonce);
        builder.key_exchange(group.transform_id(), key.public());
        env.count(Count::ChildRequestSent(ChildExchange::RekeyIke));
        let offer = IkeOffer {
            id,
            nonce,
            key,
            group_asked,
            collision: None,
        };
        self.send_request(
            env,
            Exchange::CreateChildSa,
            builder,
            Pending::RekeyIke(Box::new(offer)),
        );
    }

    pub(super) fn on_ike_rekey_response(
        &mut self,
        env: &mut Env<'_>,
        offer: IkeOffer,
        payloads: &Payloads<'_>,
    ) {
        env.count(Count::ChildResponseReceived(ChildExchange::RekeyIke));
        let (id, nonce, collision) = (offer.id, offer.nonce, offer.collision.clone());
        if let Some(kind) = payloads.error() {
            env.core.table.release(id);
            return self.on_ike_rekey_refused(env, kind, &offer, payloads);
        }
        let (peer_spi, keys) = match self.check_ike_answer(offer, payloads) {
            Ok(answer) => answer,
            Err(failure) => {
                env.core.table.release(id);
                self.child_failed(env, failure);
                if let Some(collision) = collision {
                    self.step_back(env, collision.rival);
                }
                return;
            }
        };
        self.temporary_failures = 0;
        let peer_nonce = payloads.nonce.unwrap_or_default();
        let rival = collision.as_ref().map(|collision| collision.rival);
        let lost = collision.is_some_and(|collision| collision.rival_wins(&nonce, peer_nonce));
        match rival {
            Some(rival) if lost => {
                // Ours is redundant: we delete it, the peer deletes this one.
                self.make_redundant(env, id, peer_spi, keys);
                self.step_back(env, rival);
            }
            Some(rival) => {
                // The peer deletes the rival. The child SAs went there already, and come to ours now.
                self.succeed_from(env, rival, id, peer_spi, keys);
                self.set_state(env, State::Replaced { by: id });
                self.wait_for_delete(env);
                self.start_delete(env, RemoveReason::Rekeyed);
            }
            None => {
                self.succeed(env, id, peer_spi, true, keys);
                self.set_state(env, State::Replaced { by: id });
                self.wait_for_delete(env);
                self.start_delete(env, RemoveReason::Rekeyed);
            }
        }
    }

    fn check_ike_answer(
        &self,
        offer: IkeOffer,
        payloads: &Payloads<'_>,
    ) -> Result<(u64, IkeKeys), ChildFailure> {
        let missing = ChildFailure::BadAnswer("SA, nonce or KE missing");
        let (Some(proposals), Some(peer_nonce), Some((group, public))) =
            (&payloads.sa, payloads.nonce, payloads.ke)
        else {
            return Err(missing);
        };
        if !is_answer(proposals) {
            return Err(ChildFailure::BadAnswer("not exactly one proposal"));
        }
        let chosen: Chosen<IkeAlgorithms> =
            choose_ike(proposals, &self.profile.proposals).map_err(ChildFailure::NoProposal)?;
        let ProposalSpi::Ike(peer_spi @ 1..) = chosen.spi else {
            return Err(ChildFailure::BadAnswer("no SPI"));
        };
        if chosen.algorithms.group != offer.key.group() || group != offer.key.group().transform_id() {
            return Err(ChildFailure::BadAnswer("key exchange of another group"));
        }
        let shared = offer.key.agree(public).map_err(ChildFailure::Crypto)?;
        let exchanged = Exchanged {
            initiator_nonce: &offer.nonce,
            responder_nonce: peer_nonce,
            initiator_spi: offer.id.0,
            responder_spi: peer_spi,
        };
        let old = self.keys.as_ref().ok_or(ChildFailure::Temporary)?;
        let keys = rekeyed(chosen.algorithms, &shared, &exchanged, old).map_err(ChildFailure::Crypto)?;
        Ok((peer_spi, keys))
    }

    fn on_ike_rekey_refused(
        &mut self,
        env: &mut Env<'_>,
        kind: NotifyKind,
        offer: &IkeOffer,
        payloads: &Payloads<'_>,
    ) {
        if let Some(collision) = &offer.collision {
            return self.step_back(env, collision.rival);
        }
        match kind {
            NotifyKind::INVALID_KE_PAYLOAD if !offer.group_asked => {
                let wanted = payloads.notify(kind).and_then(|notify| group_wanted(notify.data));
                let ours = |group: &DhGroup| self.profile.proposals.iter().any(|p| p.groups.contains(group));
                match wanted.filter(|group| *group != offer.key.group() && ours(group)) {
                    Some(group) => self.request_ike_rekey(env, Some(group)),
                    None => self.child_failed(env, ChildFailure::Refused(kind)),
                }
            }
            NotifyKind::TEMPORARY_FAILURE => self.try_later(env, Task::RekeyIke),
            _ => self.child_failed(env, ChildFailure::Refused(kind)),
        }
    }
}

// What comes of it.

impl IkeSa {
    /// Makes the IKE SA that replaces this one, with its child SAs and wishes.
    fn succeed(&mut self, env: &mut Env<'_>, id: IkeSaId, peer_spi: u64, initiator: bool, keys: IkeKeys) {
        let mut successor = self.make_successor(env, id, peer_spi, initiator, keys);
        successor.inherit(self);
        env.event(Event::IkeRekeyed {
            old: self.id,
            new: id,
            initiator,
        });
        if initiator {
            // The peer has it already. As responder we wait for the delete of the old one, for it proves the same.
            successor.run_tasks(env);
        }
        env.put_back(successor);
    }

    /// The same, with the child SAs from the rival that lost.
    fn succeed_from(&mut self, env: &mut Env<'_>, rival: IkeSaId, id: IkeSaId, peer_spi: u64, keys: IkeKeys) {
        let mut successor = self.make_successor(env, id, peer_spi, true, keys);
        successor.inherit(self);
        env.with(rival, |rival, env| {
            successor.inherit(rival);
            rival.step_back(env, id);
        });
        env.event(Event::IkeRekeyed {
            old: rival,
            new: id,
            initiator: true,
        });
        successor.run_tasks(env);
        env.put_back(successor);
    }

    /// Ours lost: it exists, for the peer made it too, and is deleted at once.
    fn make_redundant(&mut self, env: &mut Env<'_>, id: IkeSaId, peer_spi: u64, keys: IkeKeys) {
        let mut redundant = self.make_successor(env, id, peer_spi, true, keys);
        redundant.set_state(env, State::Replaced { by: self.id });
        redundant.wait_for_delete(env);
        redundant.start_delete(env, RemoveReason::Redundant);
        env.put_back(redundant);
    }

    fn make_successor(
        &self,
        env: &mut Env<'_>,
        id: IkeSaId,
        peer_spi: u64,
        initiator: bool,
        keys: IkeKeys,
    ) -> Box<IkeSa> {
        let profile = Arc::clone(&self.profile);
        let mut successor = IkeSa::new(env, id, initiator, profile, self.path, State::Lingering);
        successor.peer_spi = peer_spi;
        successor.nat = self.nat;
        successor.peer_fragments = self.peer_fragments;
        successor.keys = Some(keys);
        successor.parties = self.parties.clone();
        successor.predecessor = Some(self.id);
        successor.set_state(env, State::Established);
        successor.start_lifetime(env);
        Box::new(successor)
    }

    fn inherit(&mut self, from: &mut IkeSa) {
        self.children.append(&mut from.children);
        let tasks = std::mem::take(&mut from.tasks);
        for task in tasks {
            // What was wanted of the old IKE SA itself has been done, or does not concern the new one.
            let personal = matches!(
                task,
                Task::RekeyIke
                    | Task::Liveness
                    | Task::InvalidMessageId(_)
                    | Task::DeleteIke(RemoveReason::Lifetime | RemoveReason::Rekeyed)
            );
            if !personal {
                self.add_task(task);
            }
        }
    }

    /// This IKE SA is replaced, and the peer is to delete it.
    fn step_back(&mut self, env: &mut Env<'_>, by: IkeSaId) {
        env.with(by, |by, _| by.contested_by = None);
        self.set_state(env, State::Replaced { by });
        self.tasks.clear();
        self.wait_for_delete(env);
    }

    /// The IKE SA that has our child SAs now: the one we are replaced by, or the peer's in a collision that is not settled yet.
    pub(super) fn successor(&self) -> Option<IkeSaId> {
        if let State::Replaced { by } = self.state {
            return Some(by);
        }
        match self.outstanding.as_ref().map(|outstanding| &outstanding.pending) {
            Some(Pending::RekeyIke(offer)) => offer.collision.as_ref().map(|collision| collision.rival),
            _ => None,
        }
    }

    /// No answer to our rekey will come any more: if the peer's crossed it, that one stands.
    pub(super) fn concede_ike_rekey(&mut self, env: &mut Env<'_>) {
        if let (State::Established, Some(rival)) = (&self.state, self.successor()) {
            self.step_back(env, rival);
        }
    }

    /// The peer deletes this one, which it made in a collision, so it knows that ours wins, before we do: what we got with it
    /// goes back to the one that awaits the response to our rekey.
    pub(super) fn yield_to_contester(&mut self, env: &mut Env<'_>) {
        let Some(contester) = self.contested_by.take() else {
            return;
        };
        let old = self.id;
        let returned = env.with(contester, |contester, _| {
            contester.inherit(self);
            if let Some(outstanding) = &mut contester.outstanding
                && let Pending::RekeyIke(offer) = &mut outstanding.pending
            {
                offer.collision = None;
            }
        });
        if !returned {
            return;
        }
        env.event(Event::IkeRekeyed {
            old,
            new: contester,
            initiator: false,
        });
        self.set_state(env, State::Replaced { by: contester });
    }

    pub(super) fn is_rekeying_ike(&self) -> bool {
        self.outstanding
            .as_ref()
            .is_some_and(|outstanding| matches!(outstanding.pending, Pending::RekeyIke(_)))
    }

    fn is_exchanging_child(&self) -> bool {
        self.outstanding.as_ref().is_some_and(|outstanding| {
            matches!(
                outstanding.pending,
                Pending::CreateChild(_) | Pending::DeleteChildren(_)
            )
        })
    }
}

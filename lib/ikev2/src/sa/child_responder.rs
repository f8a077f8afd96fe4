//! CREATE_CHILD_SA for child SAs as responder: new ones and rekeying (RFC 7296 1.3, 2.8, 2.25).

use crypto::{DhGroup, Secret};

use super::accept::{Accepted, PeerOffer, accept, failure_notify};
use super::child::{Child, NewChild, Phase};
use super::offer::Collision;
use super::per_resource::slot_of;
use super::request::Pending;
use super::tasks::Task;
use super::{IkeSa, State};
use crate::env::Env;
use crate::event::{ChildExchange, ChildFailure, Count, Event};
use crate::message::{Exchange, NotifyKind, Payloads, Protocol, payload};
use crate::negotiate::{Pfs, answer_esp};
use crate::profile::PerResource;

/// For each child SA that the profile allows there are so many at most, with those that are being replaced or still receive what
/// is on the way.
const CHILDREN_SHARE: usize = 4;

/// Why a request for a child SA is answered with a notify.
enum Refused {
    Failure(ChildFailure),
    /// Another group is wanted.
    Group(DhGroup),
    Malformed,
}

impl From<ChildFailure> for Refused {
    fn from(failure: ChildFailure) -> Self {
        Self::Failure(failure)
    }
}

impl IkeSa {
    pub(super) fn on_create_child_request(&mut self, env: &mut Env<'_>, payloads: &Payloads<'_>) {
        let is_ike = payloads.sa.as_ref().is_some_and(|proposals| {
            proposals
                .iter()
                .any(|proposal| proposal.protocol == Protocol::Ike)
        });
        if is_ike {
            return self.on_ike_rekey_request(env, payloads);
        }
        let rekeying = payloads
            .notify(NotifyKind::REKEY_SA)
            .and_then(|notify| notify.spi);
        let exchange = match rekeying {
            Some(_) => ChildExchange::RekeyChild,
            None => ChildExchange::Create,
        };
        env.count(Count::ChildRequestReceived(exchange));
        if let Err(refused) = self.answer_child_request(env, payloads, rekeying) {
            if let (Refused::Failure(ChildFailure::Temporary), Some(_)) = (&refused, rekeying) {
                env.count(Count::RekeyIgnored(exchange));
            }
            self.refuse_child(env, refused, rekeying);
        }
        env.count(Count::ChildResponseSent(exchange));
    }

    fn answer_child_request(
        &mut self,
        env: &mut Env<'_>,
        payloads: &Payloads<'_>,
        rekeying: Option<u32>,
    ) -> Result<(), Refused> {
        let (Some(offer), Some(peer_nonce)) = (PeerOffer::of(payloads), payloads.nonce) else {
            return Err(Refused::Malformed);
        };
        let resource = payloads.notify(NotifyKind::SA_RESOURCE_INFO).is_some();
        let old = self.may_create(rekeying)?;
        let accepted = self.accept_child(env, &offer, old)?;
        let (accepted, slot) = match old {
            // RFC 9611 3: whatever the notify says, it is for the same resource.
            Some(old) => (accepted, slot_of(old)),
            None if resource => self.accept_beside(env, &offer, accepted)?,
            None => (accepted, self.id.slot()),
        };
        let per_resource = resource && self.others_like(&accepted).next().is_some();
        if old.is_none() && !per_resource {
            self.has_room()?;
        }
        let algorithms = accepted.chosen.algorithms;
        let (key, shared) = match algorithms.group {
            None => (None, None),
            Some(group) => {
                let Some((offered_group, public)) = payloads.ke else {
                    return Err(Refused::Group(group));
                };
                if offered_group != group.transform_id() {
                    return Err(Refused::Group(group));
                }
                let key = group.generate(env.random()).map_err(ChildFailure::Crypto)?;
                let ours = key.public().to_vec();
                let shared = key.agree(public).map_err(ChildFailure::Crypto)?;
                (Some((group, ours)), Some(shared))
            }
        };
        let nonce = env.nonce();
        let inbound_spi = env.sad.allocate_spi(slot).ok_or(ChildFailure::NoSpi)?;
        let answer = answer_esp(&accepted.chosen, inbound_spi);
        let (tsi, tsr, more) = (accepted.remote.clone(), accepted.local.clone(), accepted.more);
        let installed = self.install_as_responder(
            env,
            accepted,
            inbound_spi,
            shared.as_ref(),
            peer_nonce,
            &nonce,
            (old, per_resource && old.is_none()),
        );
        if let Err(failure) = installed {
            env.sad.free_spi(inbound_spi);
            return Err(failure.into());
        }
        if let Some(old) = old {
            self.note_child_collision(env, old, inbound_spi, peer_nonce, &nonce);
        }
        let mut builder = self.builder();
        builder.sa(&[answer]);
        builder.nonce(&nonce);
        if let Some((group, public)) = key {
            builder.key_exchange(group.transform_id(), &public);
        }
        builder.selectors(payload::TSI, &tsi);
        builder.selectors(payload::TSR, &tsr);
        if more {
            builder.notify(NotifyKind::ADDITIONAL_TS_POSSIBLE, &[]);
        }
        if resource {
            builder.notify(NotifyKind::SA_RESOURCE_INFO, &[]);
        }
        self.send_response(env, Exchange::CreateChildSa, builder);
        Ok(())
    }

    /// Is now the time (RFC 7296 2.25)? Gives our SPI of the child SA that is rekeyed.
    fn may_create(&self, rekeying: Option<u32>) -> Result<Option<u32>, ChildFailure> {
        if !matches!(self.state, State::Established) || self.is_rekeying_ike() {
            return Err(ChildFailure::Temporary);
        }
        let Some(outbound_spi) = rekeying else {
            return Ok(None);
        };
        let child = self
            .children
            .iter()
            .find(|child| child.outbound_spi == outbound_spi)
            .ok_or(ChildFailure::NotFound)?;
        // The one that this replaces: as long as it is not deleted the rekey before is not over. Else chains of them had no end.
        let predecessor =
            |other: &Child| other.replaced_by == Some(child.inbound_spi) && other.phase != Phase::Draining;
        match child.phase {
            Phase::Deleting(_) => Err(ChildFailure::Temporary),
            Phase::Draining => Err(ChildFailure::NotFound),
            // Rekeyed already: the peer may do it again only when the one before is settled.
            _ if child.replaced_by.is_some() => Err(ChildFailure::Temporary),
            _ if self.children.iter().any(predecessor) => Err(ChildFailure::Temporary),
            _ if self.is_full() => Err(ChildFailure::Temporary),
            _ => Ok(Some(child.inbound_spi)),
        }
    }

    /// May there be another child SA that does not stand beside one?
    fn has_room(&self) -> Result<(), ChildFailure> {
        let own = self
            .children
            .iter()
            .filter(|child| child.is_current() && !child.per_resource);
        match own.count() >= usize::from(self.profile.max_children) || self.is_full() {
            true => Err(ChildFailure::TooMany),
            false => Ok(()),
        }
    }

    /// It has as many child SAs as it may, with those that are about to go.
    pub(super) fn is_full(&self) -> bool {
        let beside = self.children.iter().filter(|child| child.per_resource).count();
        let own = usize::from(self.profile.max_children).saturating_mul(CHILDREN_SHARE);
        let either = self.profile.children.iter().map(|child| {
            let PerResource { accept, make } = child.per_resource;
            accept.max(make)
        });
        let most = usize::from(either.max().unwrap_or(0)).saturating_mul(CHILDREN_SHARE);
        self.children.len() >= own.saturating_add(beside.min(most))
    }

    fn accept_child(
        &self,
        env: &Env<'_>,
        offer: &PeerOffer<'_>,
        old: Option<u32>,
    ) -> Result<Accepted, ChildFailure> {
        let configuration = self
            .parties
            .as_ref()
            .and_then(|parties| parties.configuration.as_deref());
        let limit = env.core.config.max_selectors;
        match old.and_then(|spi| self.child(spi)) {
            Some(child) => {
                let profiles = std::slice::from_ref(&child.profile);
                accept(profiles, offer, Pfs::AsConfigured, configuration, limit)
            }
            None => accept(
                &self.profile.children,
                offer,
                Pfs::AsConfigured,
                configuration,
                limit,
            ),
        }
    }

    #[expect(clippy::too_many_arguments, reason = "what an exchange consists of")]
    fn install_as_responder(
        &mut self,
        env: &mut Env<'_>,
        accepted: Accepted,
        inbound_spi: u32,
        shared: Option<&Secret>,
        peer_nonce: &[u8],
        nonce: &[u8],
        (old, per_resource): (Option<u32>, bool),
    ) -> Result<(), ChildFailure> {
        let outbound_spi = accepted.outbound_spi().ok_or(ChildFailure::BadAnswer("no SPI"))?;
        let keys = self.keys.as_ref().ok_or(ChildFailure::Temporary)?;
        let (inbound_keys, outbound_keys) = keys
            .child(&accepted.chosen.algorithms, shared, peer_nonce, nonce)
            .map_err(ChildFailure::Crypto)?;
        self.install_child(
            env,
            NewChild {
                accepted,
                inbound_spi,
                outbound_spi,
                inbound_keys,
                outbound_keys,
                replaces: old,
                per_resource,
                initiator: false,
            },
        );
        Ok(())
    }

    /// If we rekey the same child SA ourselves, remember what the peer's request made (RFC 7296 2.8.1).
    fn note_child_collision(
        &mut self,
        env: &mut Env<'_>,
        old: u32,
        rival: u32,
        peer_nonce: &[u8],
        nonce: &[u8],
    ) {
        if let Some(outstanding) = &mut self.outstanding
            && let Pending::CreateChild(offer) = &mut outstanding.pending
            && offer.rekeying == Some(old)
        {
            offer.collision = Some(Collision::new(rival, peer_nonce, nonce));
            env.count(Count::Collision(ChildExchange::RekeyChild));
        }
        self.tasks
            .retain(|task| !matches!(task, Task::RekeyChild(spi) if *spi == old));
    }

    fn refuse_child(&mut self, env: &mut Env<'_>, refused: Refused, rekeying: Option<u32>) {
        let exchange = Exchange::CreateChildSa;
        match refused {
            Refused::Malformed => self.send_notify_response(env, exchange, NotifyKind::INVALID_SYNTAX, &[]),
            Refused::Group(group) => {
                let data = group.transform_id().to_be_bytes();
                self.send_notify_response(env, exchange, NotifyKind::INVALID_KE_PAYLOAD, &data);
            }
            Refused::Failure(failure) => {
                if failure == ChildFailure::TooManyBeside {
                    env.count(Count::PerResourceRefused(false));
                }
                let kind = failure_notify(&failure, self.profile.rfc7296_notifies);
                env.event(Event::ChildFailed {
                    ike: self.id,
                    initiator: false,
                    reason: failure,
                });
                match (kind, rekeying) {
                    (NotifyKind::CHILD_SA_NOT_FOUND, Some(spi)) => {
                        // RFC 7296 2.25: the notify says which.
                        let mut builder = self.builder();
                        builder.notify_esp(kind, spi);
                        env.count(Count::NotifySent(kind));
                        self.send_response(env, exchange, builder);
                    }
                    _ => self.send_notify_response(env, exchange, kind, &[]),
                }
            }
        }
    }
}

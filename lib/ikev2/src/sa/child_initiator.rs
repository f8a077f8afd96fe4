//! CREATE_CHILD_SA for child SAs as initiator: new ones and rekeying (RFC 7296 1.3, 2.8, 2.25).

use std::sync::Arc;
use std::time::Duration;

use crypto::DhGroup;

use super::IkeSa;
use super::accept::{PeerOffer, check_answer};
use super::child::{NewChild, Phase};
use super::offer::{ChildOffer, Lost, OfferError};
use super::per_resource::slot_of;
use super::request::Pending;
use super::tasks::Task;
use crate::env::Env;
use crate::event::{ChildExchange, ChildFailure, Count, Event, RemoveReason};
use crate::message::{Exchange, NotifyKind, Payloads};
use crate::negotiate::Pfs;
use crate::profile::ChildProfile;

/// How long to wait after a TEMPORARY_FAILURE, at least (RFC 7296 2.25); the wait is spread up to twice as long.
const RETRY: Duration = Duration::from_secs(2);
/// After so many in a row the wish is given up.
const MAX_TEMPORARY_FAILURES: u8 = 30;

impl IkeSa {
    /// Asks for another child SA. `group` is the one the peer wants, if it said so.
    pub(super) fn request_child(
        &mut self,
        env: &mut Env<'_>,
        profile: Arc<ChildProfile>,
        group: Option<DhGroup>,
    ) {
        let configuration = self
            .parties
            .as_ref()
            .and_then(|parties| parties.configuration.clone());
        let offer = ChildOffer::new(
            env,
            self.id.slot(),
            profile,
            configuration.as_deref(),
            Pfs::AsConfigured,
            group,
        );
        self.send_child_request(env, offer, group);
    }

    /// Asks for a child SA in place of one that the peer has no more, between the same networks.
    pub(super) fn request_restored_child(
        &mut self,
        env: &mut Env<'_>,
        lost: Arc<Lost>,
        group: Option<DhGroup>,
    ) {
        let profile = Arc::clone(&lost.profile);
        let offer = ChildOffer::new(env, self.id.slot(), profile, None, Pfs::AsConfigured, group);
        let offer = offer.map(|offer| ChildOffer {
            local: lost.local.to_vec(),
            remote: lost.remote.to_vec(),
            restores: Some(lost),
            ..offer
        });
        self.send_child_request(env, offer, group);
    }

    /// Asks for new keys of a child SA.
    pub(super) fn request_child_rekey(&mut self, env: &mut Env<'_>, spi: u32, group: Option<DhGroup>) {
        let Some(child) = self.child(spi).filter(|child| child.is_current()) else {
            // It went while this waited for its turn, or for a better time.
            return self.check_empty(env);
        };
        let (profile, local, remote) = (
            Arc::clone(&child.profile),
            child.local.to_vec(),
            child.remote.to_vec(),
        );
        let first = group.or(child.algorithms.group);
        // RFC 9611 3: the new one is for the same resource.
        let offer = ChildOffer::new(env, slot_of(spi), profile, None, Pfs::AsConfigured, first);
        let offer = offer.map(|offer| ChildOffer {
            // RFC 7296 2.9.2: never narrower than what is in use.
            local,
            remote,
            rekeying: Some(spi),
            ..offer
        });
        self.send_child_request(env, offer, group);
    }

    pub(super) fn send_child_request(
        &mut self,
        env: &mut Env<'_>,
        offer: Result<ChildOffer, OfferError>,
        asked: Option<DhGroup>,
    ) {
        let offer = match offer {
            Ok(offer) => ChildOffer {
                group_asked: asked.is_some(),
                ..offer
            },
            Err(error) => {
                let failure = match error {
                    OfferError::Unconfigured => ChildFailure::Unconfigured,
                    OfferError::NoSpi => ChildFailure::NoSpi,
                    OfferError::Crypto(error) => ChildFailure::Crypto(error),
                };
                self.child_failed(env, failure);
                return self.check_empty(env);
            }
        };
        let mut builder = self.builder();
        if let Some(spi) = offer.rekeying {
            builder.notify_esp(NotifyKind::REKEY_SA, spi);
        }
        if self.is_per_resource(&offer) {
            builder.notify(NotifyKind::SA_RESOURCE_INFO, &[]);
        }
        offer.write(&mut builder);
        env.count(Count::ChildRequestSent(exchange_of(&offer)));
        self.send_request(
            env,
            Exchange::CreateChildSa,
            builder,
            Pending::CreateChild(Box::new(offer)),
        );
    }

    pub(super) fn on_create_child_response(
        &mut self,
        env: &mut Env<'_>,
        offer: Box<ChildOffer>,
        payloads: &Payloads<'_>,
    ) {
        env.count(Count::ChildResponseReceived(exchange_of(&offer)));
        if let Some(kind) = payloads.error() {
            env.sad.free_spi(offer.inbound_spi);
            return self.on_child_refused(env, &offer, kind, payloads);
        }
        self.temporary_failures = 0;
        let (spi, rekeying, collision) = (offer.inbound_spi, offer.rekeying, offer.collision.clone());
        let (nonce, beside) = (offer.nonce, offer.beside);
        match self.install_as_initiator(env, *offer, payloads) {
            Err(failure) => {
                env.sad.free_spi(spi);
                self.child_failed(env, failure);
                self.check_empty(env);
            }
            Ok(()) => {
                if let Some(first) = beside {
                    self.made_beside(first, spi);
                }
                let Some(old) = rekeying else { return };
                let peer_nonce = payloads.nonce.unwrap_or_default();
                let rival = collision.as_ref().map(|collision| collision.rival);
                let lost = collision.is_some_and(|collision| collision.rival_wins(&nonce, peer_nonce));
                self.settle_child_rekey(env, old, spi, rival, lost);
            }
        }
    }

    fn install_as_initiator(
        &mut self,
        env: &mut Env<'_>,
        offer: ChildOffer,
        payloads: &Payloads<'_>,
    ) -> Result<(), ChildFailure> {
        let answer = PeerOffer::of(payloads).ok_or(ChildFailure::BadAnswer("SA, TSi or TSr missing"))?;
        let peer_nonce = payloads.nonce.ok_or(ChildFailure::BadAnswer("nonce missing"))?;
        let accepted = check_answer(&offer, &answer)?;
        let shared = match (accepted.chosen.algorithms.group, offer.key) {
            (None, _) => None,
            (Some(group), Some(key)) => {
                let public = payloads
                    .ke
                    .filter(|(offered, _)| key.group() == group && *offered == group.transform_id())
                    .map(|(_, public)| public)
                    .ok_or(ChildFailure::BadAnswer("key exchange of another group"))?;
                Some(key.agree(public).map_err(ChildFailure::Crypto)?)
            }
            (Some(_), None) => return Err(ChildFailure::BadAnswer("key exchange not offered")),
        };
        let outbound_spi = accepted.outbound_spi().ok_or(ChildFailure::BadAnswer("no SPI"))?;
        let keys = self.keys.as_ref().ok_or(ChildFailure::Temporary)?;
        let (outbound_keys, inbound_keys) = keys
            .child(
                &accepted.chosen.algorithms,
                shared.as_ref(),
                &offer.nonce,
                peer_nonce,
            )
            .map_err(ChildFailure::Crypto)?;
        // With other traffic than that of the first it does not stand beside it.
        let same = accepted.local == offer.local && accepted.remote == offer.remote;
        let (replaces, per_resource) = (offer.rekeying, offer.beside.is_some() && same);
        self.install_child(
            env,
            NewChild {
                accepted,
                inbound_spi: offer.inbound_spi,
                outbound_spi,
                inbound_keys,
                outbound_keys,
                replaces,
                per_resource,
                initiator: true,
            },
        );
        Ok(())
    }

    /// Our rekey is answered: send with the new child SA and delete the old one; or, if the peer's rekey of the same wins
    /// (RFC 7296 2.8.1), delete ours, and the peer will delete the old one.
    fn settle_child_rekey(&mut self, env: &mut Env<'_>, old: u32, new: u32, rival: Option<u32>, lost: bool) {
        if lost {
            if let Some(child) = self.child_mut(old) {
                child.replaced_by = rival;
            }
            return self.start_child_delete(new, RemoveReason::Redundant);
        }
        // The rival is in use already if its delete of the old one overtook this response.
        let in_use = |rival: &u32| {
            self.child(*rival)
                .is_some_and(|child| child.phase == Phase::Active)
        };
        let rival = rival.filter(in_use);
        self.activate_child(env, new, rival.unwrap_or(old));
        for replaced in rival.into_iter().chain([old]) {
            if let Some(child) = self.child_mut(replaced) {
                child.replaced_by = Some(new);
            }
        }
        self.start_child_delete(old, RemoveReason::Rekeyed);
    }

    fn on_child_refused(
        &mut self,
        env: &mut Env<'_>,
        offer: &ChildOffer,
        kind: NotifyKind,
        payloads: &Payloads<'_>,
    ) {
        let again = match (offer.rekeying, offer.beside, &offer.restores) {
            (Some(spi), ..) => Task::RekeyChild(spi),
            (_, Some(spi), _) => Task::CreateBeside(spi),
            (.., Some(lost)) => Task::RestoreChild(Arc::clone(lost)),
            (None, None, None) => Task::CreateChild(Arc::clone(&offer.profile)),
        };
        match kind {
            NotifyKind::INVALID_KE_PAYLOAD if !offer.group_asked => {
                let wanted = payloads.notify(kind).and_then(|notify| group_wanted(notify.data));
                let tried = offer.key.as_ref().map(crypto::DhKeyPair::group);
                let ours = offer
                    .profile
                    .proposals
                    .iter()
                    .flat_map(|proposal| &proposal.groups);
                match wanted.filter(|group| Some(*group) != tried && ours.clone().any(|ours| ours == group)) {
                    Some(group) => match again {
                        Task::RekeyChild(spi) => self.request_child_rekey(env, spi, Some(group)),
                        Task::CreateBeside(spi) => self.request_beside(env, spi, Some(group)),
                        Task::RestoreChild(lost) => self.request_restored_child(env, lost, Some(group)),
                        _ => self.request_child(env, Arc::clone(&offer.profile), Some(group)),
                    },
                    None => self.child_failed(env, ChildFailure::Refused(kind)),
                }
            }
            // The peer's rekey of the same stands.
            _ if offer.collision.is_some() => {}
            NotifyKind::TEMPORARY_FAILURE => self.try_later(env, again),
            // RFC 9611 3: the peer has enough of them. Those that there are stay.
            NotifyKind::TS_MAX_QUEUE | NotifyKind::NO_ADDITIONAL_SAS if offer.beside.is_some() => {
                env.count(Count::PerResourceRefused(true));
            }
            NotifyKind::CHILD_SA_NOT_FOUND => {
                // RFC 7296 2.25: the peer has it no more; forget it, and make a new one for the same traffic.
                if let Some(spi) = offer.rekeying
                    && let Some(child) = self.child(spi).filter(|child| child.is_current())
                {
                    let lost = Lost {
                        profile: Arc::clone(&child.profile),
                        local: Arc::clone(&child.local),
                        remote: Arc::clone(&child.remote),
                    };
                    let others: Vec<u32> = self.others_beside(spi).map(|other| other.inbound_spi).collect();
                    self.remove_child(env, spi, RemoveReason::Peer);
                    // Unless others carry its traffic.
                    if !self.make_again_beside(&others) {
                        self.add_task(Task::RestoreChild(Arc::new(lost)));
                    }
                }
            }
            _ => self.child_failed(env, ChildFailure::Refused(kind)),
        }
        // The child SA that was to be rekeyed may have gone meanwhile.
        self.check_empty(env);
    }

    /// RFC 7296 2.25: again later; not for ever.
    pub(super) fn try_later(&mut self, env: &mut Env<'_>, task: Task) {
        self.temporary_failures = self.temporary_failures.saturating_add(1);
        if self.temporary_failures > MAX_TEMPORARY_FAILURES {
            return self.child_failed(env, ChildFailure::Refused(NotifyKind::TEMPORARY_FAILURE));
        }
        self.deadlines.retry = Some(env.now + env.jitter(RETRY, 1000, 2000));
        self.add_task(task);
    }

    pub(super) fn child_failed(&mut self, env: &mut Env<'_>, reason: ChildFailure) {
        env.event(Event::ChildFailed {
            ike: self.id,
            initiator: true,
            reason,
        });
    }
}

/// The group that an INVALID_KE_PAYLOAD names.
pub(super) fn group_wanted(data: &[u8]) -> Option<DhGroup> {
    DhGroup::from_transform_id(u16::from_be_bytes(data.try_into().ok()?))
}

fn exchange_of(offer: &ChildOffer) -> ChildExchange {
    match offer.rekeying {
        Some(_) => ChildExchange::RekeyChild,
        None => ChildExchange::Create,
    }
}

//! Child SAs beside another with the same traffic selectors, so that each processor of either end has its own (RFC 9611). The first of them is for every
//! packet; those beside it come and go one by one, and are otherwise like any.

use std::sync::Arc;
use std::time::Duration;

use crypto::DhGroup;

use super::IkeSa;
use super::accept::{Accepted, PeerOffer, accept};
use super::child::Child;
use super::offer::ChildOffer;
use super::tasks::Task;
use crate::env::Env;
use crate::event::{ChildFailure, RemoveReason};
use crate::negotiate::Pfs;
use crate::output::Output;
use crate::profile::{ChildProfile, EspProposal};
use crate::selectors::TrafficSelector;

/// The first request waits so long: the peer may not know yet that the IKE SA is established.
const PAUSE: Duration = Duration::from_secs(1);

/// The slot of an ESP SPI.
pub(super) fn slot_of(spi: u32) -> u8 {
    let [slot, ..] = spi.to_be_bytes();
    slot
}

impl Child {
    /// What it carries.
    fn traffic(&self) -> (&str, &[TrafficSelector], &[TrafficSelector]) {
        (&self.profile.name, &self.local, &self.remote)
    }

    /// Its kind, with nothing but its own algorithms: RFC 9611 3 wants the same of all.
    fn profile_beside(&self) -> Arc<ChildProfile> {
        let own = EspProposal::from(self.algorithms);
        let has_own = |proposal: &&EspProposal| {
            proposal.ciphers.contains(&self.algorithms.cipher)
                && self
                    .algorithms
                    .integrity
                    .is_none_or(|own| proposal.integrities.contains(&own))
                && proposal.esn.contains(&self.algorithms.esn)
        };
        let proposals = self.profile.proposals.iter().filter(has_own);
        Arc::new(ChildProfile {
            // The first of an IKE SA has no key exchange of its own, whatever the groups.
            proposals: proposals
                .map(|proposal| EspProposal {
                    groups: proposal.groups.clone(),
                    ..own.clone()
                })
                .collect(),
            ..(*self.profile).clone()
        })
    }
}

impl IkeSa {
    /// Child SAs in use that carry the same as one that is accepted.
    pub(super) fn others_like(&self, accepted: &Accepted) -> impl Iterator<Item = &Child> {
        let traffic = (
            accepted.profile.name.as_str(),
            &accepted.local[..],
            &accepted.remote[..],
        );
        self.children
            .iter()
            .filter(move |child| child.is_current() && child.traffic() == traffic)
    }

    /// Other child SAs in use that carry the same as this one.
    pub(super) fn others_beside(&self, spi: u32) -> impl Iterator<Item = &Child> {
        let child = self.child(spi);
        self.children.iter().filter(move |other| {
            other.inbound_spi != spi
                && other.is_current()
                && child.is_some_and(|child| child.traffic() == other.traffic())
        })
    }

    /// Is it for a resource, as far as we know when we ask for it?
    pub(super) fn is_per_resource(&self, offer: &ChildOffer) -> bool {
        let rekeyed = offer.rekeying.and_then(|spi| self.child(spi));
        offer.beside.is_some() || rekeyed.is_some_and(|child| child.per_resource)
    }

    /// This child SA, or what has taken its place, if it is in use.
    fn current(&self, spi: u32) -> Option<&Child> {
        let mut child = self.child(spi)?;
        // Each was made later than what it replaces: no more steps than there are child SAs.
        for _ in &self.children {
            match child.replaced_by {
                Some(successor) => child = self.child(successor)?,
                None => break,
            }
        }
        Some(child).filter(|child| child.is_current())
    }

    /// This child SA, or what has taken its place, if another is to be made beside it: it is the first, the profile wants more of them than there are,
    /// and we have not made as many for it already. A peer that deletes them is not asked for ever.
    fn wanting(&self, spi: u32) -> Option<&Child> {
        let child = self.current(spi).filter(|child| !child.per_resource)?;
        let make = child.profile.per_resource.make;
        let others = self.others_beside(child.inbound_spi).count();
        let wants = others < make.into() && child.made_beside < make && !self.is_full();
        wants.then_some(child)
    }

    /// Asks for another child SA beside this one, or what has taken its place, when our turn comes, if another is wanted.
    pub(super) fn want_beside(&mut self, spi: u32) {
        if let Some(first) = self.wanting(spi).map(|child| child.inbound_spi) {
            self.add_task(Task::CreateBeside(first));
        }
    }

    /// One that was to stand beside `first` is installed. If the peer has made another traffic of it, it does not, and it goes again; and no more are asked for.
    pub(super) fn made_beside(&mut self, first: u32, spi: u32) {
        if self.child(spi).is_some_and(|child| !child.per_resource) {
            return self.start_child_delete(spi, RemoveReason::Redundant);
        }
        let first = self.current(first).map(|child| child.inbound_spi);
        if let Some(first) = first.and_then(|spi| self.child_mut(spi)) {
            first.made_beside = first.made_beside.saturating_add(1);
            let spi = first.inbound_spi;
            self.want_beside(spi);
        }
    }

    /// The peer has lost one of these: it is made again. False: there is none that it could stand beside.
    pub(super) fn make_again_beside(&mut self, others: &[u32]) -> bool {
        let first = self
            .children
            .iter_mut()
            .find(|child| others.contains(&child.inbound_spi) && !child.per_resource);
        let Some(first) = first else { return false };
        first.made_beside = first.made_beside.saturating_sub(1);
        let spi = first.inbound_spi;
        self.want_beside(spi);
        true
    }

    /// A child SA goes: if it was the first of several, another of them is the first from now on.
    pub(super) fn promote_beside(&mut self, gone: u32) {
        let heir = self.others_beside(gone).next().map(|other| other.inbound_spi);
        if self.others_beside(gone).all(|other| other.per_resource)
            && let Some(heir) = heir.and_then(|spi| self.child_mut(spi))
        {
            heir.per_resource = false;
        }
    }

    /// The same for one that has just come, after a pause.
    pub(super) fn want_beside_new(&mut self, env: &mut Env<'_>, spi: u32) {
        self.want_beside(spi);
        let waits = |task: &Task| matches!(task, Task::CreateBeside(_));
        if self.deadlines.retry.is_none() && self.tasks.iter().any(waits) {
            self.deadlines.retry = Some(env.now + env.jitter(PAUSE, 500, 1000));
        }
    }

    /// Asks for a child SA beside this one, or what has taken its place, if it is wanted still.
    pub(super) fn request_beside(&mut self, env: &mut Env<'_>, spi: u32, group: Option<DhGroup>) {
        let Some(child) = self.wanting(spi) else { return };
        let spi = child.inbound_spi;
        let (profile, local, remote) = (
            child.profile_beside(),
            child.local.to_vec(),
            child.remote.to_vec(),
        );
        let slot = self.slot_beside(env, self.others_beside(spi).chain([child]));
        let offer = ChildOffer::new(env, slot, profile, None, Pfs::AsConfigured, group);
        let offer = offer.map(|offer| ChildOffer {
            local,
            remote,
            beside: Some(spi),
            ..offer
        });
        self.send_child_request(env, offer, group);
    }

    /// The peer wants a child SA for a resource, of what we would accept: beside those with the same traffic selectors, if there are any, and then with the same
    /// algorithms. Gives its slot, too.
    pub(super) fn accept_beside(
        &self,
        env: &Env<'_>,
        offer: &PeerOffer<'_>,
        accepted: Accepted,
    ) -> Result<(Accepted, u8), ChildFailure> {
        let others = || self.others_like(&accepted);
        let Some(first) = others().next() else {
            return Ok((accepted, self.id.slot()));
        };
        let most = usize::from(first.profile.per_resource.accept);
        if others().filter(|child| child.per_resource).count() >= most {
            return Err(ChildFailure::TooManyBeside);
        }
        // TS_MAX_QUEUE would be final, but some of them are about to go.
        if self.is_full() {
            return Err(ChildFailure::TooMany);
        }
        let slot = self.slot_beside(env, others());
        let configuration = self
            .parties
            .as_ref()
            .and_then(|parties| parties.configuration.as_deref());
        let limit = env.core.config.max_selectors;
        let profiles = [first.profile_beside()];
        let accepted = accept(&profiles, offer, Pfs::AsConfigured, configuration, limit)?;
        Ok((accepted, slot))
    }

    fn slot_beside<'a>(&self, env: &Env<'_>, others: impl Iterator<Item = &'a Child>) -> u8 {
        let taken: Vec<u8> = others.map(|child| slot_of(child.inbound_spi)).collect();
        env.sad.slot_beside(self.id.slot(), &taken)
    }

    /// Child SAs that send with the same traffic selectors: each group of at least two.
    pub(super) fn groups(&self) -> Vec<Vec<u32>> {
        let mut rest: Vec<&Child> = self.children.iter().filter(|child| child.carries()).collect();
        let mut groups = Vec::new();
        while let Some(first) = rest.pop() {
            let (same, others) = rest.iter().partition(|child| child.traffic() == first.traffic());
            rest = others;
            let mut group: Vec<u32> = Vec::into_iter(same).map(|child| child.inbound_spi).collect();
            if !group.is_empty() {
                group.push(first.inbound_spi);
                group.sort_unstable();
                groups.push(group);
            }
        }
        groups
    }

    /// Tells the shell which child SAs stand beside each other, if that has changed.
    pub fn note_groups(&mut self, env: &mut Env<'_>) {
        if self.children.len() < 2 && self.told_groups.is_empty() {
            return;
        }
        let groups = self.groups();
        if groups != self.told_groups {
            self.told_groups.clone_from(&groups);
            let ike = self.id;
            env.core.outputs.push_back(Output::Beside { ike, groups });
        }
    }
}

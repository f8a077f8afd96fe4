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
use crate::event::ChildFailure;
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

    /// Asks for another child SA beside this one, when our turn comes, if the profile wants more of them than there are.
    pub(super) fn want_beside(&mut self, spi: u32) {
        let Some(child) = self.child(spi) else { return };
        let wanted = usize::from(child.profile.per_resource.make);
        let first = !child.per_resource;
        if wanted == 0 || !first || self.others_beside(spi).count() >= wanted {
            return;
        }
        self.add_task(Task::CreateBeside(spi));
    }

    /// The same for one that has just come, after a pause.
    pub(super) fn want_beside_new(&mut self, env: &mut Env<'_>, spi: u32) {
        self.want_beside(spi);
        let waits = |task: &Task| matches!(task, Task::CreateBeside(_));
        if self.deadlines.retry.is_none() && self.tasks.iter().any(waits) {
            self.deadlines.retry = Some(env.now + env.jitter(PAUSE, 500, 1000));
        }
    }

    /// Asks for a child SA beside this one, or what has taken its place.
    pub(super) fn request_beside(&mut self, env: &mut Env<'_>, spi: u32, group: Option<DhGroup>) {
        let successor = self.child(spi).and_then(|child| child.replaced_by);
        let spi = successor.unwrap_or(spi);
        let Some(child) = self.child(spi).filter(|child| child.is_current()) else {
            return;
        };
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
        if others().filter(|child| child.per_resource).count() >= most || self.is_full() {
            return Err(ChildFailure::TooManyBeside);
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

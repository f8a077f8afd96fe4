//! Choosing what a child SA becomes from what the peer offers (RFC 7296 2.7, 2.9).

use std::sync::Arc;

use crate::event::ChildFailure;
use crate::message::{NotifyKind, Payloads, Proposal, ProposalSpi};
use crate::negotiate::{Chosen, EspAlgorithms, Mismatch, Pfs, choose_esp, is_answer};
use crate::profile::{ChildProfile, Configuration, SelectorPolicy};
use crate::selectors::{Narrowed, TrafficSelector, narrow};

use super::offer::ChildOffer;

/// SA, TSi and TSr of a message.
#[derive(Debug, Clone, Copy)]
pub(super) struct PeerOffer<'a> {
    pub proposals: &'a [Proposal],
    pub tsi: &'a [TrafficSelector],
    pub tsr: &'a [TrafficSelector],
}

/// What we take of it.
#[derive(Debug)]
pub(super) struct Accepted {
    pub profile: Arc<ChildProfile>,
    pub chosen: Chosen<EspAlgorithms>,
    pub local: Vec<TrafficSelector>,
    pub remote: Vec<TrafficSelector>,
    /// ADDITIONAL_TS_POSSIBLE.
    pub more: bool,
}

impl Accepted {
    /// The SPI that the peer chose.
    pub fn outbound_spi(&self) -> Option<u32> {
        match self.chosen.spi {
            ProposalSpi::Esp(spi) => Some(spi),
            _ => None,
        }
    }
}

/// As responder: the first profile whose selectors and proposals fit. The failure is that of the one that came closest.
pub(super) fn accept(
    profiles: &[Arc<ChildProfile>],
    offer: &PeerOffer<'_>,
    pfs: Pfs,
    configuration: Option<&Configuration>,
    max_selectors: usize,
) -> Result<Accepted, ChildFailure> {
    let mut failure = None;
    for profile in profiles {
        match accept_one(profile, offer, pfs, configuration, max_selectors) {
            Ok(accepted) => return Ok(accepted),
            Err(new) => {
                if failure
                    .as_ref()
                    .is_none_or(|old| closeness(&new) > closeness(old))
                {
                    failure = Some(new);
                }
            }
        }
    }
    Err(failure.unwrap_or_else(|| unacceptable(offer)))
}

/// As initiator: the answer must be one of what we offered (RFC 7296 2.7, 2.9).
pub(super) fn check_answer(offer: &ChildOffer, answer: &PeerOffer<'_>) -> Result<Accepted, ChildFailure> {
    if !is_answer(answer.proposals) {
        return Err(ChildFailure::BadAnswer("not exactly one proposal"));
    }
    let chosen = choose_esp(answer.proposals, &offer.profile.proposals, offer.pfs)
        .map_err(ChildFailure::NoProposal)?;
    let within = |answered: &[TrafficSelector], offered: &[TrafficSelector]| {
        !answered.is_empty()
            && answered
                .iter()
                .all(|ts| offered.iter().any(|ours| ours.contains(ts)))
    };
    if !within(answer.tsi, &offer.local) || !within(answer.tsr, &offer.remote) {
        return Err(ChildFailure::BadAnswer("traffic selectors wider than offered"));
    }
    Ok(Accepted {
        profile: Arc::clone(&offer.profile),
        chosen,
        local: answer.tsi.to_vec(),
        remote: answer.tsr.to_vec(),
        more: false,
    })
}

/// The notify that tells the peer of this failure.
pub(super) fn failure_notify(failure: &ChildFailure, rfc7296: bool) -> NotifyKind {
    match failure {
        ChildFailure::Selectors { .. } => NotifyKind::TS_UNACCEPTABLE,
        ChildFailure::ConfigurationRequired => NotifyKind::FAILED_CP_REQUIRED,
        ChildFailure::NoAddress(_) => NotifyKind::INTERNAL_ADDRESS_FAILURE,
        ChildFailure::NotFound if rfc7296 => NotifyKind::CHILD_SA_NOT_FOUND,
        ChildFailure::NotFound => NotifyKind::INVALID_SPI,
        ChildFailure::Temporary if rfc7296 => NotifyKind::TEMPORARY_FAILURE,
        ChildFailure::Temporary | ChildFailure::TooMany | ChildFailure::NoSpi => {
            NotifyKind::NO_ADDITIONAL_SAS
        }
        ChildFailure::TooManyBeside => NotifyKind::TS_MAX_QUEUE,
        ChildFailure::Crypto(_) => NotifyKind::INVALID_SYNTAX,
        _ => NotifyKind::NO_PROPOSAL_CHOSEN,
    }
}

impl<'a> PeerOffer<'a> {
    /// What a message offers, if it has all three payloads.
    pub fn of(payloads: &'a Payloads<'_>) -> Option<Self> {
        Some(Self {
            proposals: payloads.sa.as_deref()?,
            tsi: payloads.tsi.as_deref()?,
            tsr: payloads.tsr.as_deref()?,
        })
    }
}

fn accept_one(
    profile: &Arc<ChildProfile>,
    offer: &PeerOffer<'_>,
    pfs: Pfs,
    configuration: Option<&Configuration>,
    max_selectors: usize,
) -> Result<Accepted, ChildFailure> {
    let side = |offered: &[TrafficSelector], policy: &SelectorPolicy| -> Result<Narrowed, ChildFailure> {
        let fitting: Vec<TrafficSelector> = offered
            .iter()
            .copied()
            .filter(|selector| profile.family.takes(selector))
            .collect();
        let narrowed = match policy {
            SelectorPolicy::Ranges(ranges) => narrow(&fitting, Some(ranges), max_selectors),
            SelectorPolicy::Received => narrow(&fitting, None, max_selectors),
            SelectorPolicy::Assigned => match configuration {
                Some(configuration) if !configuration.is_empty() => {
                    narrow(&fitting, Some(&configuration.selectors()), max_selectors)
                }
                _ => return Err(ChildFailure::ConfigurationRequired),
            },
        };
        narrowed.ok_or_else(|| unacceptable(offer))
    };
    let remote = side(offer.tsi, &profile.remote)?;
    let local = side(offer.tsr, &profile.local)?;
    let chosen = choose_esp(offer.proposals, &profile.proposals, pfs).map_err(ChildFailure::NoProposal)?;
    if !matches!(chosen.spi, ProposalSpi::Esp(256..)) {
        // RFC 4303 2.1: SPIs up to 255 are reserved.
        return Err(ChildFailure::BadAnswer("reserved SPI"));
    }
    Ok(Accepted {
        profile: Arc::clone(profile),
        chosen,
        more: local.more || remote.more,
        local: local.selectors,
        remote: remote.selectors,
    })
}

fn unacceptable(offer: &PeerOffer<'_>) -> ChildFailure {
    ChildFailure::Selectors {
        initiator: offer.tsi.to_vec(),
        responder: offer.tsr.to_vec(),
    }
}

/// How far a profile got before it failed.
fn closeness(failure: &ChildFailure) -> usize {
    match failure {
        ChildFailure::NoProposal(mismatch) => {
            let Mismatch { differences, .. } = &**mismatch;
            100usize.saturating_sub(differences.len())
        }
        ChildFailure::Selectors { .. } => 2,
        ChildFailure::ConfigurationRequired => 1,
        _ => 0,
    }
}

//! What we offered in a request of ours: kept until its response comes.

use std::sync::Arc;

use crypto::{DhGroup, DhKeyPair};

use crate::env::Env;
use crate::message::{Builder, payload};
use crate::negotiate::{Pfs, offer_esp};
use crate::output::IkeSaId;
use crate::profile::{ChildProfile, Configuration, EspProposal, SelectorPolicy};
use crate::record::stored;
use crate::selectors::TrafficSelector;

/// A child SA that we want: in IKE_AUTH or CREATE_CHILD_SA.
pub(crate) struct ChildOffer {
    pub profile: Arc<ChildProfile>,
    pub inbound_spi: u32,
    pub nonce: [u8; 32],
    pub key: Option<DhKeyPair>,
    /// The group of the key is the one that the peer asked for. It may ask once, else it could keep us busy for ever.
    pub group_asked: bool,
    pub local: Vec<TrafficSelector>,
    pub remote: Vec<TrafficSelector>,
    /// Our SPI of the child SA that is rekeyed.
    pub rekeying: Option<u32>,
    /// What it is to be in place of.
    pub restores: Option<Arc<Lost>>,
    /// Our SPI of the child SA that it is to stand beside (RFC 9611).
    pub beside: Option<u32>,
    /// The peer rekeys the same at the same time: what came of its request.
    pub collision: Option<Collision<u32>>,
    pub pfs: Pfs,
}

stored!(ChildOffer {
    profile,
    inbound_spi,
    nonce,
    key,
    group_asked,
    local,
    remote,
    rekeying,
    restores,
    collision,
    pfs,
} without {
    beside: None,
});

stored!(Lost {
    profile,
    local,
    remote
});

stored!(IkeOffer {
    id,
    nonce,
    key,
    group_asked,
    collision,
});

stored!(Collision<u32> { rival, lowest_nonce });
stored!(Collision<IkeSaId> { rival, lowest_nonce });

/// A child SA that the peer turned out to have no more (RFC 7296 2.25).
#[derive(Debug)]
pub(crate) struct Lost {
    pub profile: Arc<ChildProfile>,
    pub local: Arc<[TrafficSelector]>,
    pub remote: Arc<[TrafficSelector]>,
}

/// An IKE SA that we want in place of this one.
pub(crate) struct IkeOffer {
    pub id: IkeSaId,
    pub nonce: [u8; 32],
    pub key: DhKeyPair,
    /// See [`ChildOffer::group_asked`].
    pub group_asked: bool,
    pub collision: Option<Collision<IkeSaId>>,
}

/// The SA that the peer's simultaneous rekey made, and the lower nonce of that exchange (RFC 7296 2.8.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collision<I> {
    pub rival: I,
    pub lowest_nonce: Vec<u8>,
}

impl<I> Collision<I> {
    pub fn new(rival: I, nonce: &[u8], other: &[u8]) -> Self {
        Self {
            rival,
            lowest_nonce: nonce.min(other).to_vec(),
        }
    }

    /// RFC 7296 2.8.1: the SA made with the lowest of the four nonces is closed. True if that is ours, made with these.
    pub fn rival_wins(&self, nonce: &[u8], other: &[u8]) -> bool {
        nonce.min(other) < self.lowest_nonce.as_slice()
    }
}

impl ChildOffer {
    /// An offer of this profile, with an SPI and, for `pfs`, a fresh key; `group` is the one the peer wants.
    pub fn new(
        env: &mut Env<'_>,
        slot: u8,
        profile: Arc<ChildProfile>,
        configuration: Option<&Configuration>,
        pfs: Pfs,
        group: Option<DhGroup>,
    ) -> Result<Self, OfferError> {
        if profile.proposals.is_empty() {
            return Err(OfferError::Unconfigured);
        }
        let key = match (pfs, group.or_else(|| first_group(&profile.proposals))) {
            (Pfs::AsConfigured, Some(group)) => {
                Some(group.generate(env.random()).map_err(OfferError::Crypto)?)
            }
            _ => None,
        };
        let local = offered_selectors(&profile, &profile.local, configuration);
        let remote = offered_selectors(&profile, &profile.remote, configuration);
        let inbound_spi = env.sad.allocate_spi(slot).ok_or(OfferError::NoSpi)?;
        Ok(Self {
            profile,
            inbound_spi,
            nonce: env.nonce(),
            key,
            group_asked: false,
            local,
            remote,
            rekeying: None,
            restores: None,
            beside: None,
            collision: None,
            pfs,
        })
    }

    /// Appends SA, TSi and TSr, and before them nonce and key where the exchange has its own.
    pub fn write(&self, builder: &mut Builder) {
        builder.sa(&offer_esp(&self.profile.proposals, self.inbound_spi, self.pfs));
        if self.pfs == Pfs::AsConfigured {
            builder.nonce(&self.nonce);
        }
        if let Some(key) = &self.key {
            builder.key_exchange(key.group().transform_id(), key.public());
        }
        builder.selectors(payload::TSI, &self.local);
        builder.selectors(payload::TSR, &self.remote);
    }
}

/// Why nothing could be offered.
#[derive(Debug)]
pub(crate) enum OfferError {
    /// Its profile has gone from the configuration.
    Unconfigured,
    NoSpi,
    Crypto(crypto::Error),
}

fn first_group(proposals: &[EspProposal]) -> Option<DhGroup> {
    proposals.first()?.groups.first().copied()
}

/// Selectors to begin with; the responder narrows them.
fn offered_selectors(
    profile: &ChildProfile,
    policy: &SelectorPolicy,
    configuration: Option<&Configuration>,
) -> Vec<TrafficSelector> {
    let any = || vec![TrafficSelector::ANY_IPV4, TrafficSelector::ANY_IPV6];
    let mut selectors = match policy {
        SelectorPolicy::Ranges(ranges) => ranges.clone(),
        SelectorPolicy::Received => any(),
        SelectorPolicy::Assigned => match configuration {
            Some(configuration) if !configuration.is_empty() => configuration.selectors(),
            _ => any(),
        },
    };
    selectors.retain(|selector| profile.family.takes(selector));
    selectors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_of_four_nonces_loses() {
        let collision = Collision::new((), &[5; 16], &[3; 16]);
        assert!(collision.rival_wins(&[9; 16], &[2; 16]));
        assert!(!collision.rival_wins(&[9; 16], &[4; 16]));
        // A prefix is lower than what it begins.
        assert!(collision.rival_wins(&[3; 15], &[9; 16]));
    }
}

//! Choosing a proposal (RFC 7296 2.7), and saying what was wrong when none fits.

use std::fmt;

use crypto::{Cipher, DhGroup, Integrity, Prf};

use crate::message::{Proposal, ProposalSpi, Protocol, Transform, TransformKind};
use crate::profile::{EspProposal, IkeProposal};
use crate::show::IkeAlgorithms;

/// Algorithms of a child SA.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EspAlgorithms {
    pub cipher: Cipher,
    pub integrity: Option<Integrity>,
    pub group: Option<DhGroup>,
    pub esn: bool,
}

/// Nothing but these.
impl From<EspAlgorithms> for EspProposal {
    fn from(algorithms: EspAlgorithms) -> Self {
        Self {
            ciphers: vec![algorithms.cipher],
            integrities: algorithms.integrity.into_iter().collect(),
            groups: algorithms.group.into_iter().collect(),
            esn: vec![algorithms.esn],
        }
    }
}

/// A choice: the algorithms, and the proposal of the peer that has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Chosen<A> {
    pub algorithms: A,
    pub number: u8,
    pub spi: ProposalSpi,
}

/// Why no proposal fits: how the closest pair of proposals differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// IKE or ESP.
    pub protocol: Protocol,
    /// Each transform type that differs; at least one.
    pub differences: Vec<Difference>,
}

/// One transform type in which the peer's proposal and ours have nothing in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The transform type.
    pub transform: TransformKind,
    /// What the peer offers, by name.
    pub offered: String,
    /// What we would take, by name.
    pub configured: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Ike => "IKE",
            Protocol::Ah => "AH",
            Protocol::Esp => "ESP",
        };
        for (at, difference) in self.differences.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            write!(
                f,
                "{separator}{protocol} {} differs: peer offers {}, configured {}",
                difference.transform, difference.offered, difference.configured
            )?;
        }
        Ok(())
    }
}

/// Whether Diffie-Hellman belongs to a child SA's proposal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pfs {
    /// In IKE_AUTH there is none, whatever is configured (RFC 7296 1.2).
    Never,
    /// In CREATE_CHILD_SA it is as configured.
    AsConfigured,
}

/// Takes the first of `ours` that the peer offers. The mismatch is that of the closest pair.
pub(crate) fn choose_ike(
    offered: &[Proposal],
    ours: &[IkeProposal],
) -> Result<Chosen<IkeAlgorithms>, Box<Mismatch>> {
    choose(offered, ours, Protocol::Ike, |proposal, ours| {
        match_ike(proposal, ours)
    })
}

/// The same for ESP.
pub(crate) fn choose_esp(
    offered: &[Proposal],
    ours: &[EspProposal],
    pfs: Pfs,
) -> Result<Chosen<EspAlgorithms>, Box<Mismatch>> {
    choose(offered, ours, Protocol::Esp, |proposal, ours| {
        match_esp(proposal, ours, pfs)
    })
}

/// Our IKE proposals on the wire.
pub(crate) fn offer_ike(ours: &[IkeProposal], spi: ProposalSpi) -> Vec<Proposal> {
    let mut proposals = Vec::with_capacity(ours.len());
    for ours in ours {
        for aead in [true, false] {
            let ciphers: Vec<Cipher> = ours
                .ciphers
                .iter()
                .copied()
                .filter(|c| c.is_aead() == aead)
                .collect();
            if ciphers.is_empty() {
                continue;
            }
            let mut transforms: Vec<Transform> = ciphers.into_iter().map(encryption).collect();
            if !aead {
                transforms.extend(ours.integrities.iter().copied().map(integrity));
            }
            transforms.extend(ours.prfs.iter().copied().map(prf));
            transforms.extend(ours.groups.iter().copied().map(group));
            push(&mut proposals, Protocol::Ike, spi, transforms);
        }
    }
    proposals
}

/// Our ESP proposals on the wire. `pfs` adds the groups.
pub(crate) fn offer_esp(ours: &[EspProposal], spi: u32, pfs: Pfs) -> Vec<Proposal> {
    let mut proposals = Vec::with_capacity(ours.len());
    for ours in ours {
        for aead in [true, false] {
            let ciphers: Vec<Cipher> = ours
                .ciphers
                .iter()
                .copied()
                .filter(|c| c.is_aead() == aead)
                .collect();
            if ciphers.is_empty() {
                continue;
            }
            let mut transforms: Vec<Transform> = ciphers.into_iter().map(encryption).collect();
            if !aead {
                transforms.extend(ours.integrities.iter().copied().map(integrity));
            }
            if pfs == Pfs::AsConfigured {
                transforms.extend(ours.groups.iter().copied().map(group));
            }
            transforms.extend(ours.esn.iter().copied().map(esn));
            push(&mut proposals, Protocol::Esp, ProposalSpi::Esp(spi), transforms);
        }
    }
    proposals
}

/// The answer to an IKE proposal: exactly what was chosen.
pub(crate) fn answer_ike(chosen: &Chosen<IkeAlgorithms>, spi: ProposalSpi) -> Proposal {
    let algorithms = &chosen.algorithms;
    let mut transforms = vec![encryption(algorithms.cipher)];
    transforms.extend(algorithms.integrity.map(integrity));
    transforms.push(prf(algorithms.prf));
    transforms.push(group(algorithms.group));
    Proposal {
        number: chosen.number,
        protocol: Protocol::Ike,
        spi,
        transforms,
    }
}

/// The answer to an ESP proposal: exactly what was chosen.
pub(crate) fn answer_esp(chosen: &Chosen<EspAlgorithms>, spi: u32) -> Proposal {
    let algorithms = &chosen.algorithms;
    let mut transforms = vec![encryption(algorithms.cipher)];
    transforms.extend(algorithms.integrity.map(integrity));
    transforms.extend(algorithms.group.map(group));
    transforms.push(esn(algorithms.esn));
    Proposal {
        number: chosen.number,
        protocol: Protocol::Esp,
        spi: ProposalSpi::Esp(spi),
        transforms,
    }
}

/// Is this a proper answer: one proposal, each transform type at most once (RFC 7296 2.7)?
pub(crate) fn is_answer(proposals: &[Proposal]) -> bool {
    let [proposal] = proposals else { return false };
    let mut seen = [false; 6];
    proposal.transforms.iter().all(|transform| {
        let kind = transform.kind.map_or(0, |kind| kind as usize);
        seen.get_mut(kind)
            .is_some_and(|seen| !std::mem::replace(seen, true))
    })
}

fn push(proposals: &mut Vec<Proposal>, protocol: Protocol, spi: ProposalSpi, transforms: Vec<Transform>) {
    let number = u8::try_from(proposals.len() + 1).unwrap_or(u8::MAX);
    proposals.push(Proposal {
        number,
        protocol,
        spi,
        transforms,
    });
}

fn choose<P, A>(
    offered: &[Proposal],
    ours: &[P],
    protocol: Protocol,
    matches: impl Fn(&Proposal, &P) -> Result<A, Vec<Difference>>,
) -> Result<Chosen<A>, Box<Mismatch>> {
    let mut closest: Option<Vec<Difference>> = None;
    for ours in ours {
        for proposal in offered.iter().filter(|p| p.protocol == protocol) {
            match matches(proposal, ours) {
                Ok(algorithms) => {
                    return Ok(Chosen {
                        algorithms,
                        number: proposal.number,
                        spi: proposal.spi,
                    });
                }
                Err(differences) => {
                    if closest.as_ref().is_none_or(|best| differences.len() < best.len()) {
                        closest = Some(differences);
                    }
                }
            }
        }
    }
    let differences = closest.unwrap_or_else(|| {
        vec![Difference {
            transform: TransformKind::Encryption,
            offered: "no such proposal".to_owned(),
            configured: if ours.is_empty() { "none" } else { "any" }.to_owned(),
        }]
    });
    Err(Box::new(Mismatch {
        protocol,
        differences,
    }))
}

fn match_ike(offered: &Proposal, ours: &IkeProposal) -> Result<IkeAlgorithms, Vec<Difference>> {
    let mut search = Search::new(offered);
    let (cipher, integrity) = search.protection(&ours.ciphers, &ours.integrities);
    let prf = search.pick(TransformKind::Prf, &ours.prfs, prf);
    let group = search.pick(TransformKind::Group, &ours.groups, group);
    search.reject(TransformKind::Esn);
    match (cipher, prf, group, search.differences.is_empty()) {
        (Some(cipher), Some(prf), Some(group), true) if cipher != Cipher::Null => Ok(IkeAlgorithms {
            cipher,
            integrity,
            prf,
            group,
        }),
        _ => Err(search.differences),
    }
}

fn match_esp(offered: &Proposal, ours: &EspProposal, pfs: Pfs) -> Result<EspAlgorithms, Vec<Difference>> {
    let mut search = Search::new(offered);
    let (cipher, integrity) = search.protection(&ours.ciphers, &ours.integrities);
    let group = match pfs {
        Pfs::Never => None,
        Pfs::AsConfigured if ours.groups.is_empty() => {
            search.reject(TransformKind::Group);
            None
        }
        Pfs::AsConfigured => search.pick(TransformKind::Group, &ours.groups, group),
    };
    // Peers that leave ESN out mean "no" (RFC 7296 3.3.3 demands it, RFC 4306 did not).
    let esn = if search.offers(TransformKind::Esn) {
        search.pick(TransformKind::Esn, &ours.esn, esn)
    } else {
        Some(false)
    };
    search.reject(TransformKind::Prf);
    match (cipher, esn, search.differences.is_empty()) {
        (Some(cipher), Some(esn), true) => Ok(EspAlgorithms {
            cipher,
            integrity,
            group,
            esn,
        }),
        _ => Err(search.differences),
    }
}

/// Compares one proposal of the peer with one of ours, collecting differences.
struct Search<'a> {
    offered: &'a Proposal,
    differences: Vec<Difference>,
}

impl<'a> Search<'a> {
    fn new(offered: &'a Proposal) -> Self {
        let mut search = Self {
            offered,
            differences: Vec::new(),
        };
        // RFC 7296 3.3.6: a proposal with a transform type that we do not know cannot be taken.
        if let Some(unknown) = offered.transforms.iter().find(|t| t.kind.is_none()) {
            search.differences.push(Difference {
                transform: TransformKind::Encryption,
                offered: format!("a transform of unknown type, {unknown}"),
                configured: "known types only".to_owned(),
            });
        }
        search
    }

    fn of(&self, kind: TransformKind) -> impl Iterator<Item = &'a Transform> + use<'a> {
        self.offered
            .transforms
            .iter()
            .filter(move |t| t.kind == Some(kind))
    }

    fn offers(&self, kind: TransformKind) -> bool {
        self.of(kind).next().is_some()
    }

    fn has(&self, wanted: Transform) -> bool {
        self.offered.transforms.contains(&wanted)
    }

    /// The first of ours that is offered; otherwise a difference.
    fn pick<T: Copy>(
        &mut self,
        kind: TransformKind,
        ours: &[T],
        transform: impl Fn(T) -> Transform,
    ) -> Option<T> {
        let found = ours
            .iter()
            .copied()
            .find(|&candidate| self.has(transform(candidate)));
        if found.is_none() {
            self.differ(kind, list(ours.iter().map(|&candidate| transform(candidate))));
        }
        found
    }

    /// Encryption and integrity together: the first cipher of ours for which both can be had.
    fn protection(
        &mut self,
        ciphers: &[Cipher],
        integrities: &[Integrity],
    ) -> (Option<Cipher>, Option<Integrity>) {
        let none = Transform::new(TransformKind::Integrity, 0);
        let no_integrity = !self.offers(TransformKind::Integrity) || self.has(none);
        let common = integrities.iter().copied().find(|&i| self.has(integrity(i)));
        let mut first_cipher = None;
        for cipher in ciphers.iter().copied().filter(|&c| self.has(encryption(c))) {
            first_cipher.get_or_insert(cipher);
            if cipher.is_aead() && no_integrity {
                return (Some(cipher), None);
            }
            if !cipher.is_aead() && common.is_some() {
                return (Some(cipher), common);
            }
        }
        match first_cipher {
            None => self.differ(
                TransformKind::Encryption,
                list(ciphers.iter().copied().map(encryption)),
            ),
            Some(cipher) if cipher.is_aead() => self.differ(TransformKind::Integrity, "none".to_owned()),
            Some(_) => self.differ(
                TransformKind::Integrity,
                list(integrities.iter().copied().map(integrity)),
            ),
        }
        if first_cipher.is_none() && common.is_none() && !integrities.is_empty() && !no_integrity {
            self.differ(
                TransformKind::Integrity,
                list(integrities.iter().copied().map(integrity)),
            );
        }
        (None, None)
    }

    /// This type must not be there, or may be none.
    fn reject(&mut self, kind: TransformKind) {
        if self.offers(kind) && !self.has(Transform::new(kind, 0)) {
            self.differ(kind, "none".to_owned());
        }
    }

    fn differ(&mut self, transform: TransformKind, configured: String) {
        let offered = list(self.of(transform).copied());
        self.differences.push(Difference {
            transform,
            offered,
            configured,
        });
    }
}

fn list(transforms: impl Iterator<Item = Transform>) -> String {
    let names: Vec<String> = transforms.map(|t| t.to_string()).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn encryption(cipher: Cipher) -> Transform {
    Transform {
        key_length: cipher.key_length_attribute(),
        ..Transform::new(TransformKind::Encryption, cipher.transform_id())
    }
}

fn integrity(integrity: Integrity) -> Transform {
    Transform::new(TransformKind::Integrity, integrity.transform_id())
}

fn prf(prf: Prf) -> Transform {
    Transform::new(TransformKind::Prf, prf.transform_id())
}

fn group(group: DhGroup) -> Transform {
    Transform::new(TransformKind::Group, group.transform_id())
}

fn esn(esn: bool) -> Transform {
    Transform::new(TransformKind::Esn, u16::from(esn))
}

#[cfg(test)]
mod tests;

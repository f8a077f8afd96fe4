//! The whole of a peer's proof: its chain, its identity and its signature.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use openssl::pkey::{PKey, Public};

use crate::auth::verify_auth;
use crate::identity::check_claim;
use crate::trust::{check_count, digest};
use crate::{AuthScheme, Certificate, Error, Identity, TrustAnchors, ValidChain, ValidationPolicy};

/// All that a peer presents to prove its identity with a certificate.
#[derive(Debug, Clone, Copy)]
pub struct PeerProof<'a> {
    /// CERT payloads (encoding 4) in DER, the peer's own first (RFC 7296, 3.6).
    pub certificates: &'a [Vec<u8>],
    /// Type of the ID payload.
    pub identity_type: u8,
    /// Data of the ID payload.
    pub identity: &'a [u8],
    /// Method of the AUTH payload.
    pub method: u8,
    /// Data of the AUTH payload.
    pub data: &'a [u8],
    /// The octets that the peer has to sign (RFC 7296, 2.15).
    pub octets: &'a [u8],
}

/// A peer whose proof holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPeer {
    /// Subject of its certificate.
    pub subject: String,
    /// Its chain.
    pub chain: ValidChain,
    /// How it signed.
    pub scheme: AuthScheme,
}

/// Checks the chain, the identity and the signature of a peer.
///
/// # Errors
/// Why the peer is not who it says it is.
pub fn verify_peer(
    proof: PeerProof<'_>,
    anchors: &TrustAnchors,
    now: SystemTime,
    policy: ValidationPolicy,
) -> Result<VerifiedPeer, Error> {
    let identity = Identity::from_ike(proof.identity_type, proof.identity)?;
    Owner::of(proof.certificates, anchors, now, policy)?.verify(&identity, proof)
}

/// Remembers whose chains were found valid, so that a peer that comes again with the same certificates, before any of its chain expires, need prove
/// only its identity and its possession of the key. Of [`MOST`] peers those that came last. Refusals are not remembered. May be shared by threads.
#[derive(Default)]
pub struct KnownPeers(Mutex<Generations>);

/// What is asked for moves to the younger generation; when that is full the older one is forgotten.
#[derive(Default)]
struct Generations {
    young: HashMap<[u8; 32], Arc<Owner>>,
    old: HashMap<[u8; 32], Arc<Owner>>,
}

/// What a chain that is valid says of the peer, who owns its first certificate.
struct Owner {
    subject: String,
    identities: Vec<Identity>,
    key: PKey<Public>,
    chain: ValidChain,
    valid: Range<SystemTime>,
}

impl KnownPeers {
    /// What [`verify_peer`] says.
    ///
    /// # Errors
    /// As there.
    pub fn verify(
        &self,
        proof: PeerProof<'_>,
        anchors: &TrustAnchors,
        now: SystemTime,
        policy: ValidationPolicy,
    ) -> Result<VerifiedPeer, Error> {
        check_count(proof.certificates.len())?;
        let identity = Identity::from_ike(proof.identity_type, proof.identity)?;
        let limit = policy.max_chain_len.to_be_bytes();
        let judged: [&[u8]; 2] = [anchors.digest(), &limit];
        let name = digest(
            judged
                .into_iter()
                .chain(proof.certificates.iter().map(Vec::as_slice)),
        );
        let known = self.generations().find(&name);
        let owner = match known.filter(|owner| owner.valid.contains(&now)) {
            Some(owner) => owner,
            None => {
                let owner = Arc::new(Owner::of(proof.certificates, anchors, now, policy)?);
                self.generations().insert(name, owner.clone());
                owner
            }
        };
        owner.verify(&identity, proof)
    }

    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn find(&mut self, name: &[u8; 32]) -> Option<Arc<Owner>> {
        if let Some(owner) = self.young.get(name) {
            return Some(owner.clone());
        }
        let owner = self.old.remove(name)?;
        self.insert(*name, owner.clone());
        Some(owner)
    }

    fn insert(&mut self, name: [u8; 32], owner: Arc<Owner>) {
        if self.young.len() >= MOST / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(name, owner);
    }
}

impl Owner {
    /// Validates the chain of a peer's certificates, its own first.
    fn of(
        certificates: &[Vec<u8>],
        anchors: &TrustAnchors,
        now: SystemTime,
        policy: ValidationPolicy,
    ) -> Result<Self, Error> {
        check_count(certificates.len())?;
        let certificates: Vec<Certificate> = certificates
            .iter()
            .map(|der| Certificate::from_der(der))
            .collect::<Result<_, _>>()?;
        let (leaf, others) = certificates.split_first().ok_or(Error::NoPeerCertificate)?;
        let (chain, valid) = anchors.judge(leaf, others, now, policy)?;
        Ok(Self {
            subject: leaf.subject(),
            identities: leaf.identities(),
            key: leaf.public_key()?,
            chain,
            valid,
        })
    }

    /// Checks identity and signature.
    fn verify(&self, identity: &Identity, proof: PeerProof<'_>) -> Result<VerifiedPeer, Error> {
        check_claim(&self.identities, identity)?;
        let subject = || self.subject.clone();
        let scheme = verify_auth(&self.key, subject, proof.method, proof.data, proof.octets)?;
        Ok(VerifiedPeer {
            subject: subject(),
            chain: self.chain.clone(),
            scheme,
        })
    }
}

/// Most peers that are remembered. Each takes some 3 KiB.
const MOST: usize = 4096;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test_pki::{DAY, Issued, NOW, Request, now};
    use crate::{MAX_PEER_CERTIFICATES, PrivateKey};

    /// What a peer presents, for the identity in its certificate.
    struct Presented {
        certificates: Vec<Vec<u8>>,
        method: u8,
        data: Vec<u8>,
    }

    impl Presented {
        fn by(owner: &Issued) -> Self {
            let key = PrivateKey::from_file(&owner.key.private_key_to_pem_pkcs8().unwrap(), None).unwrap();
            let signature = key.sign_auth(key.scheme_for(&[2]).unwrap(), b"octets").unwrap();
            Self {
                certificates: vec![owner.certificate.der().to_vec()],
                method: signature.method,
                data: signature.data,
            }
        }

        fn proof(&self) -> PeerProof<'_> {
            PeerProof {
                certificates: &self.certificates,
                identity_type: 2,
                identity: b"enb1.example.com",
                method: self.method,
                data: &self.data,
                octets: b"octets",
            }
        }
    }

    fn enb(root: &Issued) -> Issued {
        let request = Request {
            dns: vec!["enb1.example.com"],
            ..Request::new("enb1")
        };
        request.issued_by(root)
    }

    #[test]
    fn a_whole_proof() {
        let root = Request::ca("Root").self_signed();
        let anchors = TrustAnchors::new(vec![root.certificate.clone()]);
        let presented = Presented::by(&enb(&root));
        let proof = presented.proof();
        let known = KnownPeers::default();
        // Both ways, and the second time as the first.
        let check = |proof| {
            let verdict = verify_peer(proof, &anchors, now(), ValidationPolicy::default());
            for _ in 0..2 {
                let again = known.verify(proof, &anchors, now(), ValidationPolicy::default());
                assert_eq!(again, verdict);
            }
            verdict
        };
        let verified = check(proof).unwrap();
        assert_eq!(verified.subject, "CN=enb1");
        assert_eq!(
            (verified.chain.len, verified.chain.anchor.as_str()),
            (2, "CN=Root")
        );
        assert_eq!(verified.scheme.method(), 14);

        assert_eq!(
            check(PeerProof {
                certificates: &[],
                ..proof
            }),
            Err(Error::NoPeerCertificate)
        );
        let other = PeerProof {
            identity: b"enb2.example.com",
            ..proof
        };
        assert!(matches!(check(other), Err(Error::IdentityMismatch { .. })));
        let other = PeerProof {
            octets: b"other octets",
            ..proof
        };
        assert!(matches!(check(other), Err(Error::BadAuthSignature { .. })));
        let other = PeerProof {
            certificates: &vec![vec![0]; MAX_PEER_CERTIFICATES + 1],
            ..proof
        };
        assert!(matches!(check(other), Err(Error::TooLarge { .. })));
    }

    #[test]
    fn who_is_known_is_judged_again_by_other_anchors_and_when_the_chain_expires() {
        let root = Request {
            not_after: NOW + 2 * DAY,
            ..Request::ca("Root")
        }
        .self_signed();
        let anchors = TrustAnchors::new(vec![root.certificate.clone()]);
        let others = TrustAnchors::new(vec![Request::ca("Other").self_signed().certificate]);
        let short = ValidationPolicy { max_chain_len: 1 };
        let presented = Presented::by(&enb(&root));
        let known = KnownPeers::default();
        let check = |anchors: &TrustAnchors, seconds, policy| {
            let at = now() + Duration::from_secs(seconds);
            known.verify(presented.proof(), anchors, at, policy)
        };
        let policy = ValidationPolicy::default();
        assert!(check(&anchors, 0, policy).is_ok());
        assert_eq!(known.generations().young.len(), 1);
        assert!(matches!(
            check(&others, 0, policy),
            Err(Error::UnknownIssuer { .. })
        ));
        assert!(matches!(
            check(&anchors, 0, short),
            Err(Error::ChainTooLong { limit: 1 })
        ));
        assert!(check(&anchors, DAY - 1, policy).is_ok());
        assert!(matches!(check(&anchors, DAY, policy), Err(Error::Expired { .. })));
        assert_eq!(known.generations().young.len(), 1, "refusals are not remembered");
    }

    #[test]
    fn those_that_came_last_are_remembered() {
        let root = Request::ca("Root").self_signed();
        let anchors = TrustAnchors::new(vec![root.certificate.clone()]);
        let policy = ValidationPolicy::default();
        let owner = Owner::of(&[enb(&root).certificate.der().to_vec()], &anchors, now(), policy);
        let owner = Arc::new(owner.unwrap());
        let name = |number: usize| digest([&number.to_be_bytes()[..]].into_iter());
        let mut generations = Generations::default();
        for number in 0..3 * MOST {
            generations.insert(name(number), owner.clone());
            assert!(generations.find(&name(0)).is_some(), "asked for all the time");
            assert!(generations.young.len() + generations.old.len() <= MOST);
        }
        assert!(generations.find(&name(3 * MOST - MOST / 4)).is_some());
        assert!(generations.find(&name(1)).is_none());
    }
}

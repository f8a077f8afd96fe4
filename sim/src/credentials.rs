//! How simulated peers prove who they are, and how they check the gateway.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crypto::Secret;
use ikev2::{Answer, Identity, IdentityKind, LocalAuth, Profile, Question, RemoteAuth};
use pki::{Certificate, PeerProof, PrivateKey, TrustAnchors, ValidationPolicy, verify_peer};

/// A pre-shared key, or certificates.
#[derive(Debug, Clone, clap::Args)]
pub struct Credentials {
    /// Pre-shared key of every peer
    #[arg(long, required_unless_present = "certificate", conflicts_with = "certificate")]
    pub psk: Option<String>,
    /// Certificates of the peers, used in turn: files (PEM or DER), or folders of *.pem. Identities are those in the certificates
    #[arg(long, value_name = "PATH", value_delimiter = ',', requires = "ca")]
    pub certificate: Vec<PathBuf>,
    /// Private key of every certificate [default: beside each certificate, with .key for .pem]
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub key: Option<PathBuf>,
    /// Authority that the gateway's certificate must come from
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub ca: Option<PathBuf>,
}

/// Credentials that were read.
#[derive(Debug)]
pub(crate) enum Known {
    Secret(Secret),
    Certificates {
        holders: Vec<Holder>,
        anchors: TrustAnchors,
    },
}

/// A certificate and its key.
#[derive(Debug)]
pub(crate) struct Holder {
    identity: Identity,
    chain: Arc<[Vec<u8>]>,
    key: Arc<PrivateKey>,
}

impl Credentials {
    /// Reads what they name.
    ///
    /// # Errors
    /// One line that names the file and what is wrong with it.
    pub(crate) fn read(&self) -> Result<Known, String> {
        if let Some(psk) = &self.psk {
            return Ok(Known::Secret(Secret::new(psk.clone().into_bytes())));
        }
        let anchors = self
            .ca
            .as_deref()
            .map(certificates)
            .transpose()?
            .unwrap_or_default();
        let shared = self.key.as_deref().map(key).transpose()?.map(Arc::new);
        let mut holders = Vec::new();
        for file in self.files()? {
            let key = match &shared {
                Some(key) => Arc::clone(key),
                None => Arc::new(key(&file.with_extension("key"))?),
            };
            holders.push(Holder::new(&file, key)?);
        }
        Ok(Known::Certificates {
            holders,
            anchors: TrustAnchors::new(anchors),
        })
    }

    /// Every certificate file, those of a folder by name.
    fn files(&self) -> Result<Vec<PathBuf>, String> {
        let mut files = Vec::new();
        for path in &self.certificate {
            if !path.is_dir() {
                files.push(path.clone());
                continue;
            }
            let entries = std::fs::read_dir(path).map_err(|error| in_file(path, error))?;
            let mut found: Vec<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|file| file.extension().is_some_and(|end| end == "pem"))
                .collect();
            if found.is_empty() {
                return Err(in_file(path, "no *.pem in this folder"));
            }
            found.sort();
            files.append(&mut found);
        }
        Ok(files)
    }
}

impl Known {
    /// Fills in how peer `number` authenticates itself and the gateway. A certificate's identity stands in for the one that is there.
    pub(crate) fn apply(&self, number: usize, profile: &mut Profile) {
        match self {
            Self::Secret(_) => {
                profile.local_auth = LocalAuth::Psk;
                profile.remote_auth.psk = true;
            }
            Self::Certificates { anchors, .. } => {
                let Some(holder) = self.holder(number) else { return };
                profile.local_identity = Some(holder.identity.clone());
                profile.local_auth = LocalAuth::Certificate {
                    chain: Arc::clone(&holder.chain),
                };
                profile.remote_auth = RemoteAuth {
                    certificate: true,
                    ..RemoteAuth::default()
                };
                profile.trust_hashes = anchors.certreq_hashes();
            }
        }
    }

    /// Answers what peer `number` is asked.
    pub(crate) fn answer(&self, number: usize, question: &Question) -> Answer {
        let result = match (self, question) {
            (
                Self::Secret(secret),
                Question::Psk {
                    wants_local,
                    wants_remote,
                    ..
                },
            ) => Ok(Answer::Psk {
                local: wants_local.then(|| secret.clone()),
                remote: wants_remote.then(|| secret.clone()),
            }),
            (Self::Certificates { .. }, Question::Sign { octets, hashes }) => {
                self.sign(number, octets, hashes)
            }
            (
                Self::Certificates { anchors, .. },
                Question::VerifyPeer {
                    certificates,
                    identity,
                    method,
                    signature,
                    octets,
                },
            ) => {
                let proof = PeerProof {
                    certificates,
                    identity_type: identity.kind() as u8,
                    identity: identity.data(),
                    method: *method,
                    data: signature,
                    octets,
                };
                let verdict = verify_peer(proof, anchors, SystemTime::now(), ValidationPolicy::default());
                Ok(Answer::Verified(
                    verdict.map(drop).map_err(|error| error.to_string()),
                ))
            }
            _ => Err("a simulated peer has one kind of credentials and no other".to_owned()),
        };
        result.unwrap_or_else(Answer::Unavailable)
    }

    fn sign(&self, number: usize, octets: &[u8], hashes: &[u16]) -> Result<Answer, String> {
        let holder = self.holder(number).ok_or("no certificate")?;
        let signed = holder
            .key
            .scheme_for(hashes)
            .and_then(|scheme| holder.key.sign_auth(scheme, octets))
            .map_err(|error| error.to_string())?;
        Ok(Answer::Signature {
            method: signed.method,
            data: signed.data,
        })
    }

    fn holder(&self, number: usize) -> Option<&Holder> {
        match self {
            Self::Secret(_) => None,
            Self::Certificates { holders, .. } => holders.get(number % holders.len().max(1)),
        }
    }
}

impl Holder {
    fn new(file: &Path, key: Arc<PrivateKey>) -> Result<Self, String> {
        let chain = certificates(file)?;
        let own = chain.first().ok_or_else(|| in_file(file, "no certificate"))?;
        key.check_certificate(own).map_err(|error| in_file(file, error))?;
        // A name is what gateways tell peers apart by; the subject will do where there is none.
        let mut identities = own.identities();
        identities.sort_by_key(|identity| matches!(identity, pki::Identity::DistinguishedName(_)));
        let identity = identities
            .iter()
            .find_map(identity)
            .ok_or_else(|| in_file(file, "no identity in this certificate"))?;
        Ok(Self {
            identity,
            chain: chain
                .iter()
                .map(|certificate| certificate.der().to_vec())
                .collect(),
            key,
        })
    }
}

/// An identity of a certificate as that of an ID payload.
fn identity(of: &pki::Identity) -> Option<Identity> {
    let kind = IdentityKind::from_u8(of.ike_type())?;
    match of {
        pki::Identity::Address(address) => Some(Identity::ip(*address)),
        pki::Identity::Fqdn(name) | pki::Identity::Rfc822(name) => Identity::new(kind, name.as_bytes()),
        pki::Identity::DistinguishedName(name) => Identity::new(kind, name),
    }
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, String> {
    let contents = std::fs::read(file).map_err(|error| in_file(file, error))?;
    Certificate::from_file(&contents).map_err(|error| in_file(file, error))
}

fn key(file: &Path) -> Result<PrivateKey, String> {
    let contents = std::fs::read(file).map_err(|error| in_file(file, error))?;
    PrivateKey::from_file(&contents, None).map_err(|error| in_file(file, error))
}

fn in_file(file: &Path, error: impl std::fmt::Display) -> String {
    format!("{}: {error}", file.display())
}

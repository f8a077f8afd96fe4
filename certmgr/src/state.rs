//! What this task holds: the certificates of the node with their keys, and the trust anchors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use pki::{Certificate, KnownPeers, PrivateKey, TrustAnchors};

use crate::Error;

/// One loading of the configuration. It is never changed, only replaced by the next: what was found out with it goes with it.
#[derive(Default)]
pub(crate) struct Store {
    /// `certificate name NAME`, or why it cannot be used.
    pub(crate) own: BTreeMap<String, Result<Own, Error>>,
    /// `ca-certificate name NAME`, or why it cannot be used.
    pub(crate) anchors: BTreeMap<String, Result<Anchor, Error>>,
    /// Peers with a valid chain.
    pub(crate) known: Arc<KnownPeers>,
    /// What the lists of names that were asked for say.
    trusted: Mutex<BTreeMap<Vec<String>, Arc<Trusted>>>,
}

/// The anchors with certain names.
pub(crate) struct Trusted {
    /// Those that can be used.
    pub(crate) anchors: TrustAnchors,
    /// Of those that cannot the reasons, as sentences; empty if there are none.
    pub(crate) missing: String,
}

/// A certificate of this node.
#[derive(Debug)]
pub(crate) struct Own {
    /// What is sent to a peer: the certificate, then the intermediates.
    pub(crate) chain: Vec<Certificate>,
    /// Its key.
    pub(crate) key: Arc<PrivateKey>,
}

/// A trust anchor; its file may hold several certificates.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// The certificates.
    pub(crate) certificates: Vec<Certificate>,
}

impl Store {
    /// What was loaded, or why it was not.
    pub(crate) fn new(
        own: BTreeMap<String, Result<Own, Error>>,
        anchors: BTreeMap<String, Result<Anchor, Error>>,
    ) -> Self {
        Self {
            own,
            anchors,
            ..Self::default()
        }
    }

    /// True if everything that is configured could be loaded.
    pub(crate) fn is_whole(&self) -> bool {
        self.own.values().all(Result::is_ok) && self.anchors.values().all(Result::is_ok)
    }

    /// The certificate with this name.
    ///
    /// # Errors
    /// Why there is none, as a sentence.
    pub(crate) fn own(&self, name: &str) -> Result<&Own, String> {
        match self.own.get(name) {
            Some(Ok(own)) => Ok(own),
            Some(Err(error)) => Err(format!("certificate {name}: {error}")),
            None => Err(Error::Unknown {
                kind: "certificate",
                name: name.to_owned(),
            }
            .to_string()),
        }
    }

    /// The anchors with these names.
    pub(crate) fn trusted(&self, names: &[String]) -> Arc<Trusted> {
        let mut trusted = self.trusted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(trusted) = trusted.get(names) {
            return trusted.clone();
        }
        if trusted.len() >= MOST_LISTS {
            trusted.clear();
        }
        let found = Arc::new(self.find(names));
        trusted.insert(names.to_vec(), found.clone());
        found
    }

    fn find(&self, names: &[String]) -> Trusted {
        let mut certificates = Vec::new();
        let mut reasons = Vec::new();
        for name in names {
            match self.anchors.get(name) {
                Some(Ok(anchor)) => certificates.extend_from_slice(&anchor.certificates),
                Some(Err(error)) => reasons.push(format!("ca-certificate {name}: {error}")),
                None => {
                    reasons.push(
                        Error::Unknown {
                            kind: "ca-certificate",
                            name: name.clone(),
                        }
                        .to_string(),
                    );
                }
            }
        }
        Trusted {
            anchors: TrustAnchors::new(certificates),
            missing: reasons.join("; "),
        }
    }
}

/// Where a certificate stands in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Validity {
    /// Not yet.
    Future,
    /// Valid for a while.
    Valid,
    /// Valid, but for less than [`SHORT_LIFETIME`].
    Short,
    /// No more.
    Expired,
}

impl Validity {
    /// The validity of a certificate at a time.
    pub(crate) fn of(certificate: &Certificate, now: SystemTime) -> Self {
        if now < certificate.not_before() {
            Self::Future
        } else if now > certificate.not_after() {
            Self::Expired
        } else if now + SHORT_LIFETIME > certificate.not_after() {
            Self::Short
        } else {
            Self::Valid
        }
    }

    /// As `show certificate` prints it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Future => "Not yet valid",
            Self::Valid => "Valid",
            Self::Short => "Valid (expires soon)",
            Self::Expired => "Expired",
        }
    }
}

/// How long before its end a certificate is warned about.
pub(crate) const SHORT_LIFETIME: Duration = Duration::from_secs(30 * 86_400);

/// Lists of anchors that are kept together: each template has one.
const MOST_LISTS: usize = 256;

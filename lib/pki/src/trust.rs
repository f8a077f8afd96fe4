//! Validation of a peer's certificate chain (RFC 5280, 6).

use std::ops::Range;
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::error::ErrorStack;
use openssl::sha::Sha256;
use openssl::stack::Stack;
use openssl::x509::store::{X509Store, X509StoreBuilder};
use openssl::x509::verify::{X509VerifyFlags, X509VerifyParam};
use openssl::x509::{X509, X509StoreContext, X509StoreContextRef};

use crate::certificate::system_time;
use crate::identity::name_to_text;
use crate::{Certificate, Error};

/// Most certificates that are accepted from a peer.
pub const MAX_PEER_CERTIFICATES: usize = 12;

/// What a chain must satisfy beyond RFC 5280.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ValidationPolicy {
    /// Most certificates in a chain, the peer's own and the anchor included.
    pub max_chain_len: usize,
}

impl Default for ValidationPolicy {
    fn default() -> Self {
        Self { max_chain_len: 4 }
    }
}

/// The certificates that are trusted without further proof. An anchor need not be self-signed: with an intermediate
/// CA as the anchor the chain ends there.
#[derive(Debug, Clone, Default)]
pub struct TrustAnchors {
    certificates: Vec<Certificate>,
    digest: [u8; 32],
}

impl TrustAnchors {
    /// Trust in these certificates.
    pub fn new(anchors: Vec<Certificate>) -> Self {
        Self {
            digest: digest(anchors.iter().map(Certificate::der)),
            certificates: anchors,
        }
    }

    /// The anchors.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// Tells these anchors from others: the SHA2-256 of them all.
    pub(crate) fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// What a CERTREQ payload says of these anchors: the SHA-1 of each one's SubjectPublicKeyInfo (RFC 7296, 3.7).
    pub fn certreq_hashes(&self) -> Vec<[u8; 20]> {
        self.certificates.iter().map(Certificate::spki_sha1).collect()
    }

    /// Validates `leaf` up to one of the anchors, with help of `others` in any order, as of `now`.
    ///
    /// # Errors
    /// The chain errors of [`Error`].
    pub fn validate(
        &self,
        leaf: &Certificate,
        others: &[Certificate],
        now: SystemTime,
        policy: ValidationPolicy,
    ) -> Result<ValidChain, Error> {
        self.judge(leaf, others, now, policy).map(|(chain, _)| chain)
    }

    /// [`validate`](Self::validate) that also tells during what time the verdict is this one: while all certificates of the chain are valid.
    pub(crate) fn judge(
        &self,
        leaf: &Certificate,
        others: &[Certificate],
        now: SystemTime,
        policy: ValidationPolicy,
    ) -> Result<(ValidChain, Range<SystemTime>), Error> {
        if self.certificates.is_empty() {
            return Err(Error::NoTrustAnchor);
        }
        check_count(others.len() + 1)?;
        for certificate in others.iter().chain([leaf]) {
            check_key_size(certificate)?;
        }
        let store = self
            .store(now, policy)
            .map_err(|_| Error::Library("certificate store set-up"))?;
        let verdict = verify(&store, leaf, others).map_err(|_| Error::Library("chain validation"))?;
        let (chain, valid) = verdict.map_err(|failure| failure.into_error(policy))?;
        if chain.len > policy.max_chain_len {
            return Err(Error::ChainTooLong {
                limit: policy.max_chain_len,
            });
        }
        leaf.check_usage()?;
        Ok((chain, valid))
    }

    fn store(&self, now: SystemTime, policy: ValidationPolicy) -> Result<X509Store, ErrorStack> {
        let mut param = X509VerifyParam::new()?;
        param.set_flags(X509VerifyFlags::PARTIAL_CHAIN | X509VerifyFlags::TRUSTED_FIRST)?;
        param.set_time(unix_time(now));
        // OpenSSL counts only what is between the peer's certificate and the anchor.
        param.set_depth(i32::try_from(policy.max_chain_len.saturating_sub(2)).unwrap_or(i32::MAX));
        param.set_auth_level(SECURITY_LEVEL);
        let mut builder = X509StoreBuilder::new()?;
        builder.set_param(&param)?;
        for anchor in &self.certificates {
            builder.add_cert(anchor.x509().clone())?;
        }
        Ok(builder.build())
    }
}

/// A chain that was found valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValidChain {
    /// Certificates in it, the peer's own and the anchor included.
    pub len: usize,
    /// Subject of the anchor.
    pub anchor: String,
}

/// OpenSSL's verdict on a chain that is not valid.
struct Failure {
    code: i32,
    reason: String,
    subject: String,
    issuer: String,
    not_before: String,
    not_after: String,
}

impl Failure {
    fn of(context: &X509StoreContextRef, leaf: &X509) -> Self {
        let certificate = context.current_cert().unwrap_or(leaf);
        Self {
            code: context.error().as_raw(),
            reason: context.error().error_string().to_owned(),
            subject: name_to_text(certificate.subject_name()),
            issuer: name_to_text(certificate.issuer_name()),
            not_before: certificate.not_before().to_string(),
            not_after: certificate.not_after().to_string(),
        }
    }

    fn into_error(self, policy: ValidationPolicy) -> Error {
        let Self {
            code,
            reason,
            subject,
            issuer,
            not_before,
            not_after,
        } = self;
        match code {
            UNABLE_TO_GET_ISSUER_CERT
            | UNABLE_TO_GET_ISSUER_CERT_LOCALLY
            | UNABLE_TO_VERIFY_LEAF_SIGNATURE
            | DEPTH_ZERO_SELF_SIGNED_CERT
            | SELF_SIGNED_CERT_IN_CHAIN => Error::UnknownIssuer { subject, issuer },
            CERT_SIGNATURE_FAILURE => Error::BadCertificateSignature { subject, issuer },
            CERT_NOT_YET_VALID => Error::NotYetValid {
                subject,
                from: not_before,
            },
            CERT_HAS_EXPIRED => Error::Expired {
                subject,
                on: not_after,
            },
            CERT_CHAIN_TOO_LONG => Error::ChainTooLong {
                limit: policy.max_chain_len,
            },
            INVALID_CA => Error::NotCa { subject },
            EE_KEY_TOO_SMALL | CA_KEY_TOO_SMALL => Error::Weak {
                subject,
                what: "key of less than 112 bits of strength",
            },
            CA_MD_TOO_WEAK => Error::Weak {
                subject,
                what: "signature with a weak hash algorithm",
            },
            _ => Error::Chain { subject, reason },
        }
    }
}

fn verify(
    store: &X509Store,
    leaf: &Certificate,
    others: &[Certificate],
) -> Result<Result<(ValidChain, Range<SystemTime>), Failure>, ErrorStack> {
    let mut untrusted = Stack::new()?;
    for certificate in others {
        untrusted.push(certificate.x509().clone())?;
    }
    X509StoreContext::new()?.init(store, leaf.x509(), &untrusted, |context| {
        // An internal error is a refusal too: it sets the error of the context.
        if !context.verify_cert().unwrap_or(false) {
            return Ok(Err(Failure::of(context, leaf.x509())));
        }
        let chain: Vec<_> = context.chain().iter().flat_map(|chain| chain.iter()).collect();
        let anchor = chain
            .last()
            .map(|anchor| name_to_text(anchor.subject_name()))
            .unwrap_or_default();
        let begins = chain.iter().map(|one| system_time(one.not_before())).max();
        let ends = chain.iter().map(|one| system_time(one.not_after())).min();
        let valid = begins.unwrap_or(UNIX_EPOCH)..ends.unwrap_or(UNIX_EPOCH);
        let len = chain.len();
        Ok(Ok((ValidChain { len, anchor }, valid)))
    })
}

/// The SHA2-256 of octet strings, each with its length.
pub(crate) fn digest<'a>(strings: impl Iterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for string in strings {
        hash.update(&(string.len() as u64).to_be_bytes());
        hash.update(string);
    }
    hash.finish()
}

pub(crate) fn check_count(count: usize) -> Result<(), Error> {
    if count > MAX_PEER_CERTIFICATES {
        return Err(Error::TooLarge {
            what: "number of peer certificates",
            limit: MAX_PEER_CERTIFICATES,
            actual: count,
        });
    }
    Ok(())
}

/// Verifying with a huge RSA key takes long; nobody needs one.
fn check_key_size(certificate: &Certificate) -> Result<(), Error> {
    let bits = certificate.public_key()?.bits() as usize;
    if bits > MAX_KEY_BITS {
        return Err(Error::TooLarge {
            what: "public key of a certificate (bits)",
            limit: MAX_KEY_BITS,
            actual: bits,
        });
    }
    Ok(())
}

fn unix_time(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => i64::try_from(after.as_secs()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_secs()).map_or(i64::MIN, |seconds| -seconds),
    }
}

const MAX_KEY_BITS: usize = 8192;

/// OpenSSL's security level 2: 112 bits, i.e. RSA of 2048 bits, ECDSA of 224 bits, no SHA-1 in signatures. This is also the
/// least that the profile of 3GPP TS 33.310 allows. The signature of an anchor on itself is not looked at.
const SECURITY_LEVEL: i32 = 2;

// X509_V_ERR_* of OpenSSL 3, which the openssl crate does not name.
const UNABLE_TO_GET_ISSUER_CERT: i32 = 2;
const CERT_SIGNATURE_FAILURE: i32 = 7;
const CERT_NOT_YET_VALID: i32 = 9;
const CERT_HAS_EXPIRED: i32 = 10;
const DEPTH_ZERO_SELF_SIGNED_CERT: i32 = 18;
const SELF_SIGNED_CERT_IN_CHAIN: i32 = 19;
const UNABLE_TO_GET_ISSUER_CERT_LOCALLY: i32 = 20;
const UNABLE_TO_VERIFY_LEAF_SIGNATURE: i32 = 21;
const CERT_CHAIN_TOO_LONG: i32 = 22;
const EE_KEY_TOO_SMALL: i32 = 66;
const CA_KEY_TOO_SMALL: i32 = 67;
const CA_MD_TOO_WEAK: i32 = 68;
const INVALID_CA: i32 = 79;

#[cfg(test)]
mod tests;

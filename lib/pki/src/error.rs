//! Why a certificate, key, chain or signature is not accepted.

use std::fmt;

/// A refusal, with the facts an operator needs to act on it. Names in it come from certificates; control characters
/// in them are escaped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    // Input.
    /// More bytes or items than are accepted.
    TooLarge {
        /// What was given, e.g. "certificate".
        what: &'static str,
        /// Most that is accepted.
        limit: usize,
        /// What was given.
        actual: usize,
    },
    /// Not the structure it should be.
    Malformed(&'static str),
    /// A certificate file without a certificate.
    NoCertificateInFile,
    /// A private key that is encrypted, without a pass phrase for it.
    PassPhraseNeeded,
    /// A private key that the pass phrase does not open.
    PassPhraseWrong,
    /// A key of a kind that IKEv2 signatures are not made with.
    UnsupportedKey(String),
    /// A private key that is not the one of the certificate.
    KeyMismatch {
        /// Subject of the certificate.
        subject: String,
    },

    // Chain.
    /// The peer sent no certificate.
    NoPeerCertificate,
    /// No trust anchor is configured.
    NoTrustAnchor,
    /// The validity of a certificate is over.
    Expired {
        /// Its subject.
        subject: String,
        /// Its last moment.
        on: String,
    },
    /// The validity of a certificate has not begun.
    NotYetValid {
        /// Its subject.
        subject: String,
        /// Its first moment.
        from: String,
    },
    /// No certificate of the issuer was sent, nor is it a trust anchor.
    UnknownIssuer {
        /// Subject of the last certificate that was found.
        subject: String,
        /// Its issuer, which is missing.
        issuer: String,
    },
    /// The chain has more certificates than the policy allows.
    ChainTooLong {
        /// Most certificates, the peer's own and the anchor included.
        limit: usize,
    },
    /// The issuer's key did not make the signature of a certificate.
    BadCertificateSignature {
        /// Its subject.
        subject: String,
        /// The issuer whose certificate was at hand.
        issuer: String,
    },
    /// A certificate in the middle of the chain is not one of a certification authority.
    NotCa {
        /// Its subject.
        subject: String,
    },
    /// A key or signature in the chain is too weak.
    Weak {
        /// Subject of the certificate.
        subject: String,
        /// What is weak.
        what: &'static str,
    },
    /// The peer's certificate does not permit signatures (key usage).
    KeyUsage {
        /// Its subject.
        subject: String,
    },
    /// The peer's certificate is not for IPsec (extended key usage).
    ExtendedKeyUsage {
        /// Its subject.
        subject: String,
    },
    /// Another rule of RFC 5280 is broken.
    Chain {
        /// Subject of the certificate that breaks it.
        subject: String,
        /// The rule, in OpenSSL's words.
        reason: String,
    },

    // Identity.
    /// The peer claims an identity that its certificate does not have.
    IdentityMismatch {
        /// The claim.
        claimed: String,
        /// Subject and alternative names of the certificate.
        certificate: String,
    },
    /// An identity of a type that certificates do not have.
    IdentityType(u8),

    // Signature.
    /// An AUTH method that is not a signature, or not supported.
    AuthMethod(u8),
    /// An algorithm of RFC 7427 that is not accepted.
    SignatureAlgorithm(&'static str),
    /// An AUTH method that does not go with the key.
    KeyUnfit {
        /// The method or algorithm.
        scheme: String,
        /// The key.
        key: String,
    },
    /// The peer supports no hash algorithm that our key can be used with.
    NoCommonHash {
        /// The key.
        key: String,
    },
    /// The signature in the AUTH payload is wrong.
    BadAuthSignature {
        /// The method or algorithm.
        scheme: String,
        /// Subject of the certificate whose key should have made it.
        subject: String,
    },

    /// OpenSSL failed for a reason of its own.
    Library(&'static str),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::TooLarge { what, limit, actual } => {
                write!(f, "{what} is too large: {actual}, at most {limit} are accepted")
            }
            Error::Malformed(what) => write!(f, "{what} is malformed"),
            Error::NoCertificateInFile => f.write_str("no certificate found, PEM or DER is expected"),
            Error::PassPhraseNeeded => f.write_str(
                "private key is encrypted and no pass phrase is known; store it without encryption",
            ),
            Error::PassPhraseWrong => f.write_str("pass phrase does not decrypt the private key"),
            Error::UnsupportedKey(kind) => {
                write!(
                    f,
                    "key type {kind} is not supported, use RSA, ECDSA (P-256, P-384, P-521) or Ed25519"
                )
            }
            Error::KeyMismatch { subject } => {
                write!(f, "private key does not belong to the certificate of {subject}")
            }
            Error::NoPeerCertificate => f.write_str("peer sent no certificate"),
            Error::NoTrustAnchor => f.write_str("no CA certificate is configured to validate the peer with"),
            Error::Expired { subject, on } => write!(f, "certificate of {subject} expired on {on}"),
            Error::NotYetValid { subject, from } => {
                write!(f, "certificate of {subject} is not valid before {from}")
            }
            Error::UnknownIssuer { subject, issuer } if subject == issuer => {
                write!(
                    f,
                    "self-signed certificate of {subject} is not a configured CA certificate"
                )
            }
            Error::UnknownIssuer { subject, issuer } => {
                write!(f, "unknown issuer {issuer} of the certificate of {subject}")
            }
            Error::ChainTooLong { limit } => {
                write!(f, "certificate chain is longer than {limit} certificates")
            }
            Error::BadCertificateSignature { subject, issuer } => write!(
                f,
                "certificate of {subject} was not signed with the key in the CA certificate of its issuer {issuer}"
            ),
            Error::NotCa { subject } => {
                write!(
                    f,
                    "certificate of {subject} issued another one but is not a CA certificate"
                )
            }
            Error::Weak { subject, what } => write!(f, "certificate of {subject} has a {what}"),
            Error::KeyUsage { subject } => {
                write!(
                    f,
                    "key usage of the certificate of {subject} does not include digitalSignature"
                )
            }
            Error::ExtendedKeyUsage { subject } => write!(
                f,
                "extended key usage of the certificate of {subject} includes none of ipsecIKE, serverAuth, clientAuth, anyExtendedKeyUsage"
            ),
            Error::Chain { subject, reason } => write!(f, "certificate of {subject}: {reason}"),
            Error::IdentityMismatch { claimed, certificate } => {
                write!(
                    f,
                    "identity mismatch: certificate has {certificate}, peer claims {claimed}"
                )
            }
            Error::IdentityType(id) => {
                write!(f, "identity type {id} cannot be compared with a certificate")
            }
            Error::AuthMethod(method) => {
                write!(
                    f,
                    "authentication method {method} is not a supported signature method"
                )
            }
            Error::SignatureAlgorithm(what) => write!(f, "signature algorithm is not accepted: {what}"),
            Error::KeyUnfit { scheme, key } => write!(f, "{scheme} cannot be used with a key of type {key}"),
            Error::NoCommonHash { key } => {
                write!(
                    f,
                    "peer supports no hash algorithm that a key of type {key} can sign with"
                )
            }
            Error::BadAuthSignature { scheme, subject } => {
                write!(
                    f,
                    "{scheme} signature was not made with the key of the certificate of {subject}"
                )
            }
            Error::Library(operation) => write!(f, "OpenSSL failed in {operation}"),
        }
    }
}

impl std::error::Error for Error {}

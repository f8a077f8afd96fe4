//! Certificates for IKEv2: reading them, validating a peer's chain, matching its identity, and making and checking
//! the signature of an AUTH payload.
//!
//! The library is sans-IO: files are read, and the time is told, by the caller. What a peer sends is bounded
//! ([`MAX_CERTIFICATE_LEN`], [`MAX_PEER_CERTIFICATES`]) and every refusal is an [`Error`] that tells an operator what to change.
//!
//! | module | contents |
//! |---|---|
//! | `certificate` | [`Certificate`]: parsing, names, validity, the hash for CERTREQ, [`issuing_path`] |
//! | `identity` | [`Identity`]: the identity of an ID payload or a certificate, and whether they match |
//! | `trust` | [`TrustAnchors`]: chain validation |
//! | `peer` | [`verify_peer`]: the whole of a peer's proof; [`KnownPeers`] |
//! | `private_key` | [`PrivateKey`]: loading and signing |
//! | `auth` | [`AuthScheme`]: the AUTH methods (RFC 7296, RFC 4754, RFC 7427) |

mod algorithm_id;
mod auth;
mod certificate;
mod der;
mod error;
pub mod fuzz;
mod identity;
mod peer;
mod private_key;
#[cfg(test)]
mod test_pki;
mod trust;

pub use auth::{AuthScheme, AuthSignature, Curve, Hash, SignatureAlgorithm};
pub use certificate::{Certificate, MAX_CERTIFICATE_LEN, MAX_FILE_LEN, issuing_path};
pub use error::Error;
pub use identity::{Identity, MAX_IDENTITY_LEN};
pub use peer::{KnownPeers, PeerProof, VerifiedPeer, verify_peer};
pub use private_key::PrivateKey;
pub use trust::{MAX_PEER_CERTIFICATES, TrustAnchors, ValidChain, ValidationPolicy};

//! Keys and certificates. Nothing here is secret: octets to sign and signatures, never keys.

use crate::message::requests;

requests! {
    0x0901 idempotent GetCertificate => CertificateChain;
    0x0902 idempotent GetTrust => Trust;
    0x0905 idempotent Prove => Proved;
}

/// The certificate a template presents.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetCertificate {
    /// `certificate NAME` of the template.
    #[prost(string, tag = "1")]
    pub name: String,
}

/// The chain, own certificate first, anchor left out.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CertificateChain {
    /// DER certificates.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub certificates: Vec<Vec<u8>>,
    /// Subject as a DER name, for ID_DER_ASN1_DN.
    #[prost(bytes = "vec", tag = "2")]
    pub subject: Vec<u8>,
    /// Why there is none.
    #[prost(string, tag = "3")]
    pub failure: String,
}

/// Trust anchors of a template, as IKE asks for them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetTrust {
    /// `ca-certificate list` of the template.
    #[prost(string, repeated, tag = "1")]
    pub names: Vec<String>,
}

/// CERTREQ contents.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Trust {
    /// SHA-1 of the SubjectPublicKeyInfo of each anchor (RFC 7296 section 3.7).
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub hashes: Vec<Vec<u8>>,
    /// Names that are not loaded, in words.
    #[prost(string, tag = "2")]
    pub failure: String,
}

/// Signatures to be made and peers to be judged: many at a time, for set-ups come in bursts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Prove {
    /// Signatures of ours.
    #[prost(message, repeated, tag = "1")]
    pub sign: Vec<Sign>,
    /// Proofs of peers.
    #[prost(message, repeated, tag = "2")]
    pub verify: Vec<VerifyPeer>,
}

/// What came of it, in the same order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Proved {
    /// One for each signature.
    #[prost(message, repeated, tag = "1")]
    pub signed: Vec<Signed>,
    /// One for each peer.
    #[prost(message, repeated, tag = "2")]
    pub verified: Vec<Verified>,
}

/// Sign the octets of an AUTH payload.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sign {
    /// `certificate NAME` whose key signs.
    #[prost(string, tag = "1")]
    pub name: String,
    /// The octets (RFC 7296 section 2.15).
    #[prost(bytes = "vec", tag = "2")]
    pub octets: Vec<u8>,
    /// Hash algorithms the peer announced (RFC 7427 section 4); empty: only the legacy methods.
    #[prost(uint32, repeated, tag = "3")]
    pub hashes: Vec<u32>,
    /// Our IKE SPI, for the log.
    #[prost(fixed64, tag = "4")]
    pub ike_spi: u64,
}

/// The signature.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Signed {
    /// AUTH method number.
    #[prost(uint32, tag = "1")]
    pub method: u32,
    /// AUTH data (for method 14 with its AlgorithmIdentifier in front).
    #[prost(bytes = "vec", tag = "2")]
    pub data: Vec<u8>,
    /// Why there is none.
    #[prost(string, tag = "3")]
    pub failure: String,
}

/// Validate a peer's chain, its identity and its AUTH payload in one go.
#[derive(Clone, PartialEq, prost::Message)]
pub struct VerifyPeer {
    /// DER certificates as they came, the peer's own first.
    #[prost(bytes = "vec", repeated, tag = "1")]
    pub certificates: Vec<Vec<u8>>,
    /// `ca-certificate list` of the template.
    #[prost(string, repeated, tag = "2")]
    pub anchors: Vec<String>,
    /// IKE identity type the peer claims.
    #[prost(uint32, tag = "3")]
    pub identity_type: u32,
    /// IKE identity octets.
    #[prost(bytes = "vec", tag = "4")]
    pub identity: Vec<u8>,
    /// AUTH method number.
    #[prost(uint32, tag = "5")]
    pub method: u32,
    /// AUTH data.
    #[prost(bytes = "vec", tag = "6")]
    pub data: Vec<u8>,
    /// The octets that were signed.
    #[prost(bytes = "vec", tag = "7")]
    pub octets: Vec<u8>,
}

/// The verdict.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Verified {
    /// Empty when the peer is who it says, otherwise the reason for the log.
    #[prost(string, tag = "1")]
    pub failure: String,
    /// Subject of the peer's certificate, as text.
    #[prost(string, tag = "2")]
    pub subject: String,
}

//! Certificates, keys, remote secrets.

use std::collections::BTreeMap;

use crate::SecretText;

command::keywords! {
    /// Encoding of a certificate or key file.
    pub enum Encoding {
        Pem = "pem", "Text form (PEM)";
        Der = "der", "Binary form (DER)";
    }
}

/// `certificate name NAME`: a certificate of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, in PEM with its chain behind it.
    pub source: CertificateSource,
    /// Its key; `None` means [`crate::Config::private_key`].
    pub private_key: Option<PrivateKey>,
}

/// `ca-certificate name NAME`: a certificate authority that peers' chains may end at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaCertificate {
    /// The certificate.
    pub source: CertificateSource,
}

/// Where a certificate is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificateSource {
    /// `pem data`: in the configuration.
    Data(String),
    /// `pem url` or `der url`: `file:/...` or a path like `/flash/...`.
    Url(Encoding, String),
}

/// Where a private key is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrivateKey {
    /// `private-key pem encrypted data`: sealed in the configuration.
    Data(SecretText),
    /// `private-key pem url`: `file:/...` or a path like `/flash/...`.
    Url(Encoding, String),
}

command::keywords! {
    /// Type of an IKE identity.
    pub enum IdType {
        DerAsn1Dn = "der-asn1-dn", "Distinguished name (ID_DER_ASN1_DN)";
        Fqdn = "fqdn", "Domain name (ID_FQDN)";
        IpAddr = "ip-addr", "IPv4 or IPv6 address (ID_IPV4_ADDR, ID_IPV6_ADDR)";
        KeyId = "key-id", "Opaque octets (ID_KEY_ID)";
        Rfc822Addr = "rfc822-addr", "Mail address (ID_RFC822_ADDR)";
    }
}

/// An IKE identity as configured.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    /// Its type.
    pub kind: IdType,
    /// Its value as text; an address for [`IdType::IpAddr`].
    pub value: String,
}

/// `crypto remote-secret-list NAME`: pre-shared keys by the peer's identity, at most [`MAX_REMOTE_SECRETS`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RemoteSecretList {
    /// `remote-id id-type TYPE id VALUE secret ...`.
    pub secrets: BTreeMap<Identity, SecretText>,
}

/// Most entries of a remote secret list.
pub const MAX_REMOTE_SECRETS: usize = 1_000;

//! Certificates, keys, remote secrets.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

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

impl crate::Config {
    /// The files that it names, as it names them: certificates and private keys.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        let own = self.certificates.values().map(|own| &own.source);
        let authorities = self.ca_certificates.values().map(|authority| &authority.source);
        let sources = own.chain(authorities).filter_map(|source| match source {
            CertificateSource::Url(_, url) => Some(url.as_str()),
            CertificateSource::Data(_) => None,
        });
        let keys = self
            .certificates
            .values()
            .filter_map(|own| own.private_key.as_ref());
        let keys = keys.chain(&self.private_key).filter_map(|key| match key {
            PrivateKey::Url(_, url) => Some(url.as_str()),
            PrivateKey::Data(_) => None,
        });
        sources.chain(keys)
    }
}

/// The file that a URL of the configuration names: `file:/PATH`, `/PATH`, or below `/flash`, which is a folder of the
/// state directory. Other schemes name none.
pub fn local_path(url: &str, state_dir: &Path) -> Option<PathBuf> {
    let path = url.strip_prefix("file:").unwrap_or(url).trim_start();
    // file:///PATH is the same as file:/PATH.
    let path = path
        .strip_prefix("//")
        .filter(|rest| rest.starts_with('/'))
        .unwrap_or(path);
    if !path.starts_with('/') {
        return None;
    }
    Some(match path.strip_prefix("/flash/") {
        Some(below) => state_dir.join("flash").join(below),
        None => PathBuf::from(path),
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_name_local_files_only() {
        let at = |url| local_path(url, Path::new("/state"));
        for url in [
            "/etc/gw.pem",
            "file:/etc/gw.pem",
            "file:///etc/gw.pem",
            "file: /etc/gw.pem",
        ] {
            assert_eq!(at(url), Some(PathBuf::from("/etc/gw.pem")), "{url}");
        }
        assert_eq!(
            at("/flash/pki/gw.pem"),
            Some(PathBuf::from("/state/flash/pki/gw.pem"))
        );
        for url in ["http://host/gw.pem", "gw.pem", "file:gw.pem", "", "sftp://a@b/c"] {
            assert_eq!(at(url), None, "{url}");
        }
    }
}

//! Identities of the configuration as identities of IKE.

use std::net::IpAddr;

use config::IdType;
use ikev2::{Identity, IdentityKind};

/// The IKE identity that the configuration means. A distinguished name has to be that of our own certificate, whose `subject` is at hand in DER.
pub(super) fn of_ours(identity: &config::Identity, subject: &[u8]) -> Result<Identity, String> {
    if identity.kind == IdType::DerAsn1Dn {
        return Identity::new(IdentityKind::Dn, subject).ok_or_else(|| {
            "identity local id-type der-asn1-dn needs a certificate, whose subject is then sent".to_owned()
        });
    }
    plain(identity).ok_or_else(|| format!("identity local: '{}' is not a {}", identity.value, identity.kind))
}

/// Whether the peer's identity is the one that the configuration means. Distinguished names are compared as text by whoever verifies the
/// certificate, so none matches here.
pub(super) fn is(configured: &config::Identity, peer: &Identity) -> bool {
    plain(configured).is_some_and(|identity| same(&identity, peer))
}

fn plain(identity: &config::Identity) -> Option<Identity> {
    match identity.kind {
        IdType::IpAddr => Some(Identity::ip(identity.value.parse::<IpAddr>().ok()?)),
        IdType::Fqdn => Identity::fqdn(&identity.value),
        IdType::Rfc822Addr => Identity::rfc822(&identity.value),
        IdType::KeyId => Identity::new(IdentityKind::KeyId, identity.value.as_bytes()),
        IdType::DerAsn1Dn => None,
    }
}

/// Domain names are compared without regard to case (RFC 4343), everything else octet by octet.
fn same(one: &Identity, two: &Identity) -> bool {
    if one.kind() != two.kind() {
        return false;
    }
    match one.kind() {
        IdentityKind::Fqdn => one.data().eq_ignore_ascii_case(two.data()),
        _ => one.data() == two.data(),
    }
}

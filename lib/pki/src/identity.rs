//! Identities of IKEv2 peers (RFC 7296, 3.5) and of certificates, and how they compare (RFC 4945, 3.1).

use std::cmp::Ordering;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use openssl::x509::{X509Name, X509NameRef};

use crate::Error;

/// The longest identity that is accepted, in bytes.
pub const MAX_IDENTITY_LEN: usize = 2048;

/// An identity that a certificate can confirm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    Address(IpAddr),
    /// ID_FQDN.
    Fqdn(String),
    /// ID_RFC822_ADDR.
    Rfc822(String),
    /// ID_DER_ASN1_DN, in DER.
    DistinguishedName(Vec<u8>),
}

impl Identity {
    /// The identity of an ID payload.
    ///
    /// # Errors
    /// [`Error::IdentityType`] if certificates have no such identities (e.g. ID_KEY_ID), [`Error::Malformed`] or
    /// [`Error::TooLarge`] if the data is not what the type says.
    pub fn from_ike(id_type: u8, data: &[u8]) -> Result<Self, Error> {
        if data.len() > MAX_IDENTITY_LEN {
            return Err(Error::TooLarge {
                what: "identity",
                limit: MAX_IDENTITY_LEN,
                actual: data.len(),
            });
        }
        match id_type {
            ID_IPV4_ADDR => <[u8; 4]>::try_from(data)
                .map(|octets| Self::Address(Ipv4Addr::from(octets).into()))
                .map_err(|_| Error::Malformed("IPv4 address identity")),
            ID_IPV6_ADDR => <[u8; 16]>::try_from(data)
                .map(|octets| Self::Address(Ipv6Addr::from(octets).into()))
                .map_err(|_| Error::Malformed("IPv6 address identity")),
            ID_FQDN => ascii(data)
                .map(Self::Fqdn)
                .ok_or(Error::Malformed("FQDN identity")),
            ID_RFC822_ADDR => ascii(data)
                .map(Self::Rfc822)
                .ok_or(Error::Malformed("RFC822 identity")),
            ID_DER_ASN1_DN => X509Name::from_der(data)
                .ok()
                // OpenSSL accepts bytes behind the name.
                .filter(|name| name.to_der().is_ok_and(|der| der.len() == data.len()))
                .map(|_| Self::DistinguishedName(data.to_vec()))
                .ok_or(Error::Malformed("distinguished name identity")),
            other => Err(Error::IdentityType(other)),
        }
    }

    /// The type of the ID payload that carries this identity.
    pub fn ike_type(&self) -> u8 {
        match self {
            Identity::Address(IpAddr::V4(_)) => ID_IPV4_ADDR,
            Identity::Address(IpAddr::V6(_)) => ID_IPV6_ADDR,
            Identity::Fqdn(_) => ID_FQDN,
            Identity::Rfc822(_) => ID_RFC822_ADDR,
            Identity::DistinguishedName(_) => ID_DER_ASN1_DN,
        }
    }

    /// True if both name the same: host names without regard to case, mail addresses without regard to the case of
    /// the host, distinguished names by the rules of RFC 5280, 7.1. There are no wildcards (RFC 4945, 3.1.2).
    pub fn matches(&self, other: &Identity) -> bool {
        match (self, other) {
            (Identity::Address(a), Identity::Address(b)) => a == b,
            (Identity::Fqdn(a), Identity::Fqdn(b)) => a.eq_ignore_ascii_case(b),
            (Identity::Rfc822(a), Identity::Rfc822(b)) => match (a.rsplit_once('@'), b.rsplit_once('@')) {
                (Some((user_a, host_a)), Some((user_b, host_b))) => {
                    user_a == user_b && host_a.eq_ignore_ascii_case(host_b)
                }
                _ => a == b,
            },
            (Identity::DistinguishedName(a), Identity::DistinguishedName(b)) => {
                a == b || same_name(a, b).unwrap_or(false)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Identity::Address(address) => write!(f, "address {address}"),
            Identity::Fqdn(name) => write!(f, "FQDN {}", printable(name)),
            Identity::Rfc822(name) => write!(f, "RFC822 {}", printable(name)),
            Identity::DistinguishedName(der) => match X509Name::from_der(der) {
                Ok(name) => write!(f, "DN {}", name_to_text(&name)),
                Err(_) => f.write_str("DN (malformed)"),
            },
        }
    }
}

/// Checks that one of the identities that a certificate confirms is the one that its owner claims (RFC 4945, 3.1).
pub(crate) fn check_claim(confirmed: &[Identity], claimed: &Identity) -> Result<(), Error> {
    if confirmed.iter().any(|identity| identity.matches(claimed)) {
        return Ok(());
    }
    let shown: Vec<String> = confirmed
        .iter()
        .take(MAX_SHOWN_IDENTITIES)
        .map(ToString::to_string)
        .collect();
    let more = confirmed.len() - shown.len();
    let suffix = if more == 0 {
        String::new()
    } else {
        format!(" and {more} more")
    };
    Err(Error::IdentityMismatch {
        claimed: claimed.to_string(),
        certificate: format!("{}{suffix}", shown.join("; ")),
    })
}

/// A distinguished name for people: `CN=enb1, O=Operator`, in the order of the certificate.
pub(crate) fn name_to_text(name: &X509NameRef) -> String {
    let entries: Vec<String> = name
        .entries()
        .take(MAX_NAME_ENTRIES)
        .map(|entry| {
            let key = entry.object().nid().short_name().unwrap_or("OID");
            let value = entry.data().to_string().map(|text| printable(&text));
            format!("{key}={}", value.unwrap_or_else(|_| "?".to_owned()))
        })
        .collect();
    if entries.is_empty() {
        "(empty name)".to_owned()
    } else {
        entries.join(", ")
    }
}

/// Text from a certificate made safe for a log or a terminal: of bounded length, without control characters.
fn printable(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars().take(MAX_PRINTED_CHARS) {
        if c.is_control() {
            out.extend(c.escape_unicode());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(MAX_PRINTED_CHARS).is_some() {
        out.push_str("...");
    }
    out
}

fn same_name(a: &[u8], b: &[u8]) -> Option<bool> {
    let (a, b) = (X509Name::from_der(a).ok()?, X509Name::from_der(b).ok()?);
    a.try_cmp(&b).ok().map(|order| order == Ordering::Equal)
}

fn ascii(data: &[u8]) -> Option<String> {
    let graphic = !data.is_empty() && data.iter().all(u8::is_ascii_graphic);
    graphic.then(|| data.iter().map(|&byte| char::from(byte)).collect())
}

// IANA "IKEv2 Identification Payload ID Types".
const ID_IPV4_ADDR: u8 = 1;
const ID_FQDN: u8 = 2;
const ID_RFC822_ADDR: u8 = 3;
const ID_IPV6_ADDR: u8 = 5;
const ID_DER_ASN1_DN: u8 = 9;

/// Most identities of a certificate that are named in an error.
const MAX_SHOWN_IDENTITIES: usize = 8;
/// Most entries of a name that are printed.
const MAX_NAME_ENTRIES: usize = 16;
/// Most characters of one name that are printed.
const MAX_PRINTED_CHARS: usize = 128;

#[cfg(test)]
mod tests {
    use openssl::asn1::Asn1Type;

    use super::*;

    fn dn(entries: &[(&str, &str, Asn1Type)]) -> Vec<u8> {
        let mut builder = X509Name::builder().unwrap();
        for (key, value, kind) in entries {
            builder.append_entry_by_text_with_type(key, value, *kind).unwrap();
        }
        builder.build().to_der().unwrap()
    }

    #[test]
    fn ike_types_round_trip() {
        let name = dn(&[("CN", "enb1", Asn1Type::UTF8STRING)]);
        let cases: [(u8, &[u8], &str); 5] = [
            (1, &[192, 0, 2, 1], "address 192.0.2.1"),
            (2, b"enb1.example.com", "FQDN enb1.example.com"),
            (3, b"a@example.com", "RFC822 a@example.com"),
            (
                5,
                &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
                "address 2001:db8::1",
            ),
            (9, &name, "DN CN=enb1"),
        ];
        for (id_type, data, text) in cases {
            let identity = Identity::from_ike(id_type, data).unwrap();
            assert_eq!(identity.ike_type(), id_type);
            assert_eq!(identity.to_string(), text);
            assert!(identity.matches(&identity));
        }
    }

    #[test]
    fn bad_identities_are_refused() {
        let name = dn(&[("CN", "enb1", Asn1Type::UTF8STRING)]);
        let trailing = [name.as_slice(), &[0]].concat();
        let cases: [(u8, &[u8]); 8] = [
            (1, &[1, 2, 3]),
            (5, &[0; 4]),
            (2, b""),
            (2, b"nul\0byte"),
            (2, "\u{e4}".as_bytes()),
            (3, b"a b@c"),
            (9, b"not DER"),
            (9, &trailing),
        ];
        for (id_type, data) in cases {
            assert!(
                matches!(Identity::from_ike(id_type, data), Err(Error::Malformed(_))),
                "{id_type} {data:?}"
            );
        }
        assert_eq!(Identity::from_ike(11, b"key"), Err(Error::IdentityType(11)));
        assert!(matches!(
            Identity::from_ike(2, &[b'a'; 5000]),
            Err(Error::TooLarge { .. })
        ));
    }

    #[test]
    fn matching_follows_rfc_4945() {
        let fqdn = |name: &str| Identity::Fqdn(name.to_owned());
        let mail = |name: &str| Identity::Rfc822(name.to_owned());
        assert!(fqdn("ENB1.example.COM").matches(&fqdn("enb1.EXAMPLE.com")));
        assert!(!fqdn("enb1.example.com").matches(&fqdn("enb2.example.com")));
        assert!(!fqdn("enb1.example.com").matches(&fqdn("*.example.com")));
        assert!(mail("User@Example.com").matches(&mail("User@example.COM")));
        assert!(!mail("user@example.com").matches(&mail("User@example.com")));
        assert!(!mail("enb1.example.com").matches(&fqdn("enb1.example.com")));
        assert!(!Identity::Address([192, 0, 2, 1].into()).matches(&Identity::Address([192, 0, 2, 2].into())));
    }

    #[test]
    fn distinguished_names_compare_by_value_not_by_encoding() {
        let a = Identity::DistinguishedName(dn(&[
            ("O", "Example Org", Asn1Type::UTF8STRING),
            ("CN", "enb1", Asn1Type::UTF8STRING),
        ]));
        let b = Identity::DistinguishedName(dn(&[
            ("O", "example  ORG", Asn1Type::PRINTABLESTRING),
            ("CN", "ENB1", Asn1Type::PRINTABLESTRING),
        ]));
        let swapped = Identity::DistinguishedName(dn(&[
            ("CN", "enb1", Asn1Type::UTF8STRING),
            ("O", "Example Org", Asn1Type::UTF8STRING),
        ]));
        assert!(a.matches(&b));
        assert!(!a.matches(&swapped));
        assert_eq!(a.to_string(), "DN O=Example Org, CN=enb1");
    }

    #[test]
    fn names_are_printed_without_control_characters() {
        let name = dn(&[("CN", "a\u{1b}[31m\nb", Asn1Type::UTF8STRING)]);
        let text = Identity::DistinguishedName(name).to_string();
        assert_eq!(text, "DN CN=a\\u{1b}[31m\\u{a}b");
    }
}

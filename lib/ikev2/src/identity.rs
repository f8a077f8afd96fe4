//! IKE identities (RFC 7296 3.5).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The longest identity we take from the network, in bytes.
pub const MAX_IDENTITY_LEN: usize = 1024;

/// ID type of an identification payload (RFC 7296 3.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum IdentityKind {
    /// ID_IPV4_ADDR: 4 octets.
    Ipv4 = 1,
    /// ID_FQDN: a domain name.
    Fqdn = 2,
    /// ID_RFC822_ADDR: an e-mail address or NAI.
    Rfc822 = 3,
    /// ID_IPV6_ADDR: 16 octets.
    Ipv6 = 5,
    /// ID_DER_ASN1_DN: a DER distinguished name.
    Dn = 9,
    /// ID_DER_ASN1_GN: a DER general name.
    Gn = 10,
    /// ID_KEY_ID: opaque octets.
    KeyId = 11,
}

/// An identity as it stands in IDi and IDr: a type and its octets.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Identity {
    kind: IdentityKind,
    data: Box<[u8]>,
}

/// The name of a user in the octets that AAA knows it by (User-Name, RFC 2865 5.1). What is displayed is escaped, and for people only.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Box<[u8]>);

impl IdentityKind {
    /// The kind with this number, if there is one.
    pub fn from_u8(value: u8) -> Option<Self> {
        Some(match value {
            1 => Self::Ipv4,
            2 => Self::Fqdn,
            3 => Self::Rfc822,
            5 => Self::Ipv6,
            9 => Self::Dn,
            10 => Self::Gn,
            11 => Self::KeyId,
            _ => return None,
        })
    }
}

impl Identity {
    /// An identity of these octets, or `None` if they cannot be one: an address of the wrong length, nothing at all, or
    /// more than [`MAX_IDENTITY_LEN`].
    pub fn new(kind: IdentityKind, data: &[u8]) -> Option<Self> {
        let fits = match kind {
            IdentityKind::Ipv4 => data.len() == 4,
            IdentityKind::Ipv6 => data.len() == 16,
            _ => (1..=MAX_IDENTITY_LEN).contains(&data.len()),
        };
        fits.then(|| Self {
            kind,
            data: data.into(),
        })
    }

    /// ID_IPV4_ADDR or ID_IPV6_ADDR.
    pub fn ip(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => Self {
                kind: IdentityKind::Ipv4,
                data: Box::new(address.octets()),
            },
            IpAddr::V6(address) => Self {
                kind: IdentityKind::Ipv6,
                data: Box::new(address.octets()),
            },
        }
    }

    /// ID_FQDN, or `None` if `name` is empty or too long.
    pub fn fqdn(name: &str) -> Option<Self> {
        Self::new(IdentityKind::Fqdn, name.as_bytes())
    }

    /// ID_RFC822_ADDR, or `None` if `address` is empty or too long.
    pub fn rfc822(address: &str) -> Option<Self> {
        Self::new(IdentityKind::Rfc822, address.as_bytes())
    }

    /// The identity an operator means by `text`: an IP address, an e-mail address if it has an `@`, otherwise a domain
    /// name.
    pub fn from_text(text: &str) -> Option<Self> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Some(Self::ip(address));
        }
        if text.contains('@') {
            return Self::rfc822(text);
        }
        Self::fqdn(text)
    }

    /// Its type.
    pub fn kind(&self) -> IdentityKind {
        self.kind
    }

    /// Its octets.
    pub fn data(&self) -> &[u8] {
        &self.data
    }

    /// True if its octets are a name as AAA knows users by: not an address, and not a name of X.509. Peers whose users have
    /// a name of their own (RFC 7296 2.16) send such as IDi, e.g. their address.
    pub fn is_user(&self) -> bool {
        matches!(
            self.kind,
            IdentityKind::Fqdn | IdentityKind::Rfc822 | IdentityKind::KeyId
        )
    }

    /// What AAA is told where nobody has another name for the peer: its octets, and for an address or a name of X.509 its text.
    pub fn user_name(&self) -> UserName {
        if self.is_user() {
            UserName(self.data.clone())
        } else {
            UserName(self.to_string().into_bytes().into())
        }
    }

    /// The body of an identification payload: type, three reserved octets, data. AUTH covers it (RFC 7296 2.15).
    pub(crate) fn payload_body(&self) -> Vec<u8> {
        let mut body = Vec::with_capacity(4 + self.data.len());
        body.extend_from_slice(&[self.kind as u8, 0, 0, 0]);
        body.extend_from_slice(&self.data);
        body
    }
}

impl UserName {
    /// A name of these octets, or `None` if there are none.
    pub fn new(octets: &[u8]) -> Option<Self> {
        (!octets.is_empty()).then(|| Self(octets.into()))
    }

    /// The octets.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.escape_ascii().to_string())
    }
}

impl fmt::Debug for UserName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            IdentityKind::Ipv4 => {
                if let Ok(octets) = <[u8; 4]>::try_from(&*self.data) {
                    return write!(f, "{}", Ipv4Addr::from(octets));
                }
            }
            IdentityKind::Ipv6 => {
                if let Ok(octets) = <[u8; 16]>::try_from(&*self.data) {
                    return write!(f, "{}", Ipv6Addr::from(octets));
                }
            }
            IdentityKind::Fqdn | IdentityKind::Rfc822 | IdentityKind::KeyId => {
                // Peers choose these octets: what could upset a terminal is escaped.
                if std::str::from_utf8(&self.data).is_ok() {
                    return write!(f, "{}", self.data.escape_ascii());
                }
            }
            IdentityKind::Dn | IdentityKind::Gn => {}
        }
        for byte in &self.data {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_decides_the_kind() {
        let kind = |text| Identity::from_text(text).unwrap().kind();
        assert_eq!(kind("192.0.2.1"), IdentityKind::Ipv4);
        assert_eq!(kind("2001:db8::1"), IdentityKind::Ipv6);
        assert_eq!(kind("user@example.org"), IdentityKind::Rfc822);
        assert_eq!(kind("enb1.example.org"), IdentityKind::Fqdn);
        assert!(Identity::from_text("").is_none());
    }

    #[test]
    fn display_escapes_what_a_terminal_would_obey() {
        let id = Identity::new(IdentityKind::KeyId, b"a\x1b[2J").unwrap();
        assert_eq!(id.to_string(), "a\\x1b[2J");
        let id = Identity::new(IdentityKind::KeyId, &[0xff, 0x00]).unwrap();
        assert_eq!(id.to_string(), "ff00");
    }

    #[test]
    fn a_user_name_is_the_octets_and_not_what_is_displayed() {
        let of = |kind, data: &[u8]| Identity::new(kind, data).unwrap().user_name();
        let umlaut = of(IdentityKind::Rfc822, "j\u{f6}rg\\x@example.org".as_bytes());
        assert_eq!(umlaut.as_bytes(), "j\u{f6}rg\\x@example.org".as_bytes());
        assert_eq!(umlaut.to_string(), r"j\xc3\xb6rg\\x@example.org");
        assert_eq!(of(IdentityKind::KeyId, &[0xff, 1]).as_bytes(), [0xff, 1]);
        assert_eq!(of(IdentityKind::Ipv4, &[192, 0, 2, 1]).as_bytes(), b"192.0.2.1");
        assert_eq!(of(IdentityKind::Dn, &[0x30, 0]).as_bytes(), b"3000");
        assert_eq!(UserName::new(b""), None);
    }

    #[test]
    fn addresses_have_their_length() {
        assert!(Identity::new(IdentityKind::Ipv4, &[1, 2, 3]).is_none());
        assert!(Identity::new(IdentityKind::Ipv6, &[0; 15]).is_none());
        assert!(Identity::new(IdentityKind::Fqdn, &[b'a'; MAX_IDENTITY_LEN + 1]).is_none());
    }
}

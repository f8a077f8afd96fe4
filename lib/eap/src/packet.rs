//! The EAP packet format (RFC 3748 section 4).

use std::fmt;

/// Packet type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// From the authenticator; expects a response.
    Request,
    /// From the peer.
    Response,
    /// The conversation is over, the peer is authenticated.
    Success,
    /// The conversation is over, the peer is not authenticated.
    Failure,
}

/// An authentication method, or one of the special types (RFC 3748 section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Method(
    /// The type octet.
    pub u8,
);

impl Method {
    /// Identity.
    pub const IDENTITY: Self = Self(1);
    /// Notification.
    pub const NOTIFICATION: Self = Self(2);
    /// Nak: the peer wants another method.
    pub const NAK: Self = Self(3);
    /// MD5-Challenge.
    pub const MD5: Self = Self(4);
    /// Generic Token Card.
    pub const GTC: Self = Self(6);
    /// EAP-TLS (RFC 5216).
    pub const TLS: Self = Self(13);
    /// EAP-SIM (RFC 4186).
    pub const SIM: Self = Self(18);
    /// EAP-TTLS (RFC 5281).
    pub const TTLS: Self = Self(21);
    /// EAP-AKA (RFC 4187).
    pub const AKA: Self = Self(23);
    /// Protected EAP.
    pub const PEAP: Self = Self(25);
    /// EAP-MSCHAPv2.
    pub const MSCHAPV2: Self = Self(26);
    /// EAP-AKA' (RFC 9048).
    pub const AKA_PRIME: Self = Self(50);
    /// EAP-PWD (RFC 5931).
    pub const PWD: Self = Self(52);
    /// Expanded types: vendor and number follow.
    pub const EXPANDED: Self = Self(254);

    /// Whether it authenticates, unlike Identity, Notification and Nak.
    pub const fn authenticates(self) -> bool {
        self.0 >= 4
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match *self {
            Self::IDENTITY => "Identity",
            Self::NOTIFICATION => "Notification",
            Self::NAK => "Nak",
            Self::MD5 => "EAP-MD5",
            Self::GTC => "EAP-GTC",
            Self::TLS => "EAP-TLS",
            Self::SIM => "EAP-SIM",
            Self::TTLS => "EAP-TTLS",
            Self::AKA => "EAP-AKA",
            Self::PEAP => "EAP-PEAP",
            Self::MSCHAPV2 => "EAP-MSCHAPv2",
            Self::AKA_PRIME => "EAP-AKA'",
            Self::PWD => "EAP-PWD",
            Self::EXPANDED => "EAP-Expanded",
            Self(number) => return write!(f, "EAP type {number}"),
        };
        f.write_str(name)
    }
}

/// Why octets are no EAP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header, or than its own length field says.
    Truncated,
    /// The length field does not fit the code: Success and Failure have 4 octets, the others at least 5.
    Length(usize),
    /// The code is none of the four.
    Code(u8),
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("EAP packet is truncated"),
            Self::Length(length) => write!(f, "EAP packet length {length} does not fit its code"),
            Self::Code(code) => write!(f, "EAP code {code} is unknown"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// An EAP packet. Borrows the octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Packet type.
    pub code: Code,
    /// Matches a response to its request.
    pub identifier: u8,
    /// Type of a request or response.
    pub method: Option<Method>,
    /// What follows the type.
    pub data: &'a [u8],
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the header. Octets after the packet's own length are padding of the lower layer and dropped.
    pub fn decode(octets: &'a [u8]) -> Result<Self, DecodeError> {
        let &[code, identifier, high, low, ..] = octets else {
            return Err(DecodeError::Truncated);
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        let code = match code {
            1 => Code::Request,
            2 => Code::Response,
            3 => Code::Success,
            4 => Code::Failure,
            other => return Err(DecodeError::Code(other)),
        };
        let ends = matches!(code, Code::Success | Code::Failure);
        if length < HEADER || ends != (length == HEADER) {
            return Err(DecodeError::Length(length));
        }
        let bytes = octets.get(..length).ok_or(DecodeError::Truncated)?;
        let (method, data) = match bytes.get(HEADER..).and_then(<[u8]>::split_first) {
            Some((&method, data)) => (Some(Method(method)), data),
            None => (None, &[][..]),
        };
        Ok(Self {
            code,
            identifier,
            method,
            data,
            bytes,
        })
    }

    /// The whole packet without padding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// EAP-Request/Identity.
pub fn identity_request(identifier: u8) -> Vec<u8> {
    vec![1, identifier, 0, 5, Method::IDENTITY.0]
}

/// EAP-Response/Identity. The identity is cut at [`MAX_IDENTITY`] octets.
pub fn identity_response(identifier: u8, identity: &[u8]) -> Vec<u8> {
    let identity = identity.get(..MAX_IDENTITY).unwrap_or(identity);
    let mut bytes = vec![2, identifier];
    bytes.extend(((HEADER + 1 + identity.len()) as u16).to_be_bytes());
    bytes.push(Method::IDENTITY.0);
    bytes.extend_from_slice(identity);
    bytes
}

/// EAP-Success or EAP-Failure.
pub(crate) fn end(code: Code, identifier: u8) -> Vec<u8> {
    let code = if code == Code::Success { 3 } else { 4 };
    vec![code, identifier, 0, HEADER as u8]
}

/// Longest identity: the longest NAI (RFC 7542 section 2.2), which is also the longest RADIUS User-Name.
pub const MAX_IDENTITY: usize = 253;
/// Code, identifier, length.
const HEADER: usize = 4;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lengths_must_fit_the_code() {
        assert_eq!(Packet::decode(&[1, 0, 0]), Err(DecodeError::Truncated));
        assert_eq!(Packet::decode(&[1, 0, 0, 4]), Err(DecodeError::Length(4)));
        assert_eq!(Packet::decode(&[3, 0, 0, 5, 1]), Err(DecodeError::Length(5)));
        assert_eq!(Packet::decode(&[2, 0, 0, 3, 1]), Err(DecodeError::Length(3)));
        assert_eq!(Packet::decode(&[2, 0, 0, 6, 1]), Err(DecodeError::Truncated));
        assert_eq!(Packet::decode(&[9, 0, 0, 4]), Err(DecodeError::Code(9)));
        let padded = Packet::decode(&[3, 7, 0, 4, 0xff]).unwrap();
        assert_eq!(
            (padded.code, padded.method, padded.bytes()),
            (Code::Success, None, &[3, 7, 0, 4][..])
        );
    }

    proptest! {
        #[test]
        fn identity_comes_back(identifier: u8, identity in prop::collection::vec(any::<u8>(), 0..400)) {
            let bytes = identity_response(identifier, &identity);
            let packet = Packet::decode(&bytes).unwrap();
            prop_assert_eq!((packet.code, packet.identifier), (Code::Response, identifier));
            prop_assert_eq!(packet.method, Some(Method::IDENTITY));
            prop_assert_eq!(packet.data, &identity[..identity.len().min(MAX_IDENTITY)]);
        }
    }
}

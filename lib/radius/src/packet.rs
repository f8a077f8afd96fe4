//! Decoding of a datagram: bounded, without copying, without panicking on anything.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::dictionary::{Attribute, Kind, Vendor};
use crate::error::DecodeError;

/// Longest packet (RFC 2865 section 3).
pub const MAX_PACKET: usize = 4096;
/// Code, identifier, length, authenticator.
pub const HEADER: usize = 20;

/// Packet type (RFC 2865 section 3, RFC 2866 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// Access-Request.
    AccessRequest,
    /// Access-Accept.
    AccessAccept,
    /// Access-Reject.
    AccessReject,
    /// Accounting-Request.
    AccountingRequest,
    /// Accounting-Response.
    AccountingResponse,
    /// Access-Challenge.
    AccessChallenge,
    /// Anything else.
    Other(u8),
}

impl Code {
    /// The octet on the wire.
    pub const fn number(self) -> u8 {
        match self {
            Self::AccessRequest => 1,
            Self::AccessAccept => 2,
            Self::AccessReject => 3,
            Self::AccountingRequest => 4,
            Self::AccountingResponse => 5,
            Self::AccessChallenge => 11,
            Self::Other(number) => number,
        }
    }
}

impl From<u8> for Code {
    fn from(number: u8) -> Self {
        match number {
            1 => Self::AccessRequest,
            2 => Self::AccessAccept,
            3 => Self::AccessReject,
            4 => Self::AccountingRequest,
            5 => Self::AccountingResponse,
            11 => Self::AccessChallenge,
            other => Self::Other(other),
        }
    }
}

/// A packet whose lengths are known to add up. Borrows the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    bytes: &'a [u8],
}

impl<'a> Packet<'a> {
    /// Checks the header and the length of every attribute; octets after the packet's own length are padding and dropped.
    pub fn decode(datagram: &'a [u8]) -> Result<Self, DecodeError> {
        let got = datagram.len();
        let &[_, _, high, low, ..] = datagram else {
            return Err(DecodeError::Truncated { needed: HEADER, got });
        };
        let length = usize::from(u16::from_be_bytes([high, low]));
        if !(HEADER..=MAX_PACKET).contains(&length) {
            return Err(DecodeError::Length(length));
        }
        let bytes = datagram
            .get(..length)
            .ok_or(DecodeError::Truncated { needed: length, got })?;
        let packet = Self { bytes };
        let mut attributes = packet.attributes();
        attributes.by_ref().for_each(drop);
        match attributes.rest {
            [] => Ok(packet),
            rest => Err(DecodeError::AttributeLength {
                offset: length - rest.len(),
            }),
        }
    }

    /// Wraps octets that came out of [`Packet::bytes`].
    pub(crate) fn verified(bytes: &'a [u8]) -> Self {
        debug_assert!(Self::decode(bytes).is_ok());
        Self { bytes }
    }

    /// The packet type.
    pub fn code(&self) -> Code {
        Code::from(self.bytes[0])
    }

    /// The identifier.
    pub fn identifier(&self) -> u8 {
        self.bytes[1]
    }

    /// The request or response authenticator.
    pub fn authenticator(&self) -> &'a [u8] {
        &self.bytes[4..HEADER]
    }

    /// The whole packet without padding.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The plain attributes in order; vendor-specific ones appear as number 26.
    pub fn attributes(&self) -> Attributes<'a> {
        Attributes {
            rest: &self.bytes[HEADER..],
            width: 1,
        }
    }

    /// Every value of an attribute, in order.
    pub fn values(&self, attribute: Attribute) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let number = attribute.number();
        let vendor = attribute.vendor();
        let plain = (vendor == Vendor::Standard).then(|| self.attributes());
        let specific = (vendor != Vendor::Standard).then(|| self.vendor_attributes(vendor));
        let all = plain.into_iter().flatten().chain(specific.into_iter().flatten());
        all.filter(move |raw| raw.number == number).map(|raw| raw.value)
    }

    /// The first value of an attribute, if it has the form of its kind.
    pub fn value(&self, attribute: Attribute) -> Option<&'a [u8]> {
        self.values(attribute)
            .next()
            .filter(|value| attribute.kind().accepts(value))
    }

    /// The first value as text.
    pub fn text(&self, attribute: Attribute) -> Option<&'a str> {
        self.value(attribute)
            .and_then(|value| std::str::from_utf8(value).ok())
    }

    /// The first value as a number.
    pub fn integer(&self, attribute: Attribute) -> Option<u32> {
        self.value(attribute)
            .and_then(|value| value.try_into().ok())
            .map(u32::from_be_bytes)
    }

    /// The first value as an IPv4 address.
    pub fn ipv4(&self, attribute: Attribute) -> Option<Ipv4Addr> {
        self.value(attribute)
            .and_then(|value| <[u8; 4]>::try_from(value).ok())
            .map(Ipv4Addr::from)
    }

    /// The first value as an IPv6 address.
    pub fn ipv6(&self, attribute: Attribute) -> Option<Ipv6Addr> {
        self.value(attribute)
            .and_then(|value| <[u8; 16]>::try_from(value).ok())
            .map(Ipv6Addr::from)
    }

    /// The first value as an IPv6 prefix: address with zeroes after the prefix, and its length.
    pub fn ipv6_prefix(&self, attribute: Attribute) -> Option<(Ipv6Addr, u8)> {
        let (_, rest) = self
            .value(attribute)
            .filter(|_| attribute.kind() == Kind::Ipv6Prefix)?
            .split_first()?;
        let (&length, prefix) = rest.split_first()?;
        let mut address = [0; 16];
        address.get_mut(..prefix.len())?.copy_from_slice(prefix);
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Some((Ipv6Addr::from(u128::from_be_bytes(address) & mask), length))
    }

    /// The EAP packet, joined from all EAP-Message attributes (RFC 3579 section 3.1); none when there is no such attribute.
    pub fn eap(&self) -> Option<Vec<u8>> {
        let mut joined: Option<Vec<u8>> = None;
        for piece in self.values(Attribute::EapMessage) {
            joined.get_or_insert_default().extend_from_slice(piece);
        }
        joined
    }

    /// Checks the form of the value of every attribute in the table. Unknown attributes and vendors are fine.
    pub fn check_values(&self) -> Result<(), DecodeError> {
        for raw in self.attributes() {
            if raw.number == VENDOR_SPECIFIC {
                check_vendor(raw.value)?;
                continue;
            }
            check_value(Vendor::Standard, raw)?;
        }
        Ok(())
    }

    fn vendor_attributes(&self, vendor: Vendor) -> impl Iterator<Item = Raw<'a>> + use<'a> {
        self.attributes()
            .filter(|raw| raw.number == VENDOR_SPECIFIC)
            .filter_map(move |raw| raw.value.strip_prefix(&vendor.number().to_be_bytes()))
            .flat_map(move |rest| Attributes {
                rest,
                width: vendor.field_width(),
            })
    }

    /// Offset of the value of the only Message-Authenticator; none when it is missing, twice there or not 16 octets.
    pub(crate) fn message_authenticator(&self) -> Result<usize, MessageAuthenticatorFault> {
        let mut found = None;
        let mut offset = HEADER;
        for raw in self.attributes() {
            let value = offset + ATTRIBUTE_HEADER;
            if raw.number == Attribute::MessageAuthenticator.number() {
                if found.is_some() || !Kind::Authenticator.accepts(raw.value) {
                    return Err(MessageAuthenticatorFault::Malformed);
                }
                found = Some(value);
            }
            offset = value + raw.value.len();
        }
        found.ok_or(MessageAuthenticatorFault::Missing)
    }
}

/// Why a packet has no usable Message-Authenticator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageAuthenticatorFault {
    /// There is none.
    Missing,
    /// There are several, or one of a wrong length.
    Malformed,
}

/// An attribute as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Raw<'a> {
    /// Number (of the vendor, inside a vendor-specific attribute).
    pub number: u16,
    /// Value without number and length.
    pub value: &'a [u8],
}

/// Walks attributes; ends at the end or at the first whose length does not fit.
#[derive(Debug, Clone)]
pub struct Attributes<'a> {
    rest: &'a [u8],
    width: usize,
}

impl<'a> Iterator for Attributes<'a> {
    type Item = Raw<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (number, length) = match (self.width, self.rest) {
            (1, &[number, length, ..]) => (u16::from(number), usize::from(length)),
            (2, &[n0, n1, l0, l1, ..]) => (
                u16::from_be_bytes([n0, n1]),
                usize::from(u16::from_be_bytes([l0, l1])),
            ),
            _ => return None,
        };
        let value = self.rest.get(2 * self.width..length)?;
        self.rest = self.rest.get(length..)?;
        Some(Raw { number, value })
    }
}

fn check_value(vendor: Vendor, raw: Raw<'_>) -> Result<(), DecodeError> {
    match Attribute::find(vendor, raw.number) {
        Some(attribute) if !attribute.kind().accepts(raw.value) => {
            Err(DecodeError::AttributeValue(attribute))
        }
        _ => Ok(()),
    }
}

fn check_vendor(value: &[u8]) -> Result<(), DecodeError> {
    let Some((number, rest)) = value.split_first_chunk() else {
        return Err(DecodeError::VendorAttribute { vendor: 0 });
    };
    let number = u32::from_be_bytes(*number);
    let Some(vendor) = Vendor::from_number(number) else {
        return Ok(());
    };
    let mut attributes = Attributes {
        rest,
        width: vendor.field_width(),
    };
    for raw in attributes.by_ref() {
        check_value(vendor, raw)?;
    }
    match attributes.rest {
        [] => Ok(()),
        _ => Err(DecodeError::VendorAttribute { vendor: number }),
    }
}

/// Number of the attribute that wraps those of vendors (RFC 2865 section 5.26).
pub(crate) const VENDOR_SPECIFIC: u16 = 26;
/// Number and length of a plain attribute.
pub(crate) const ATTRIBUTE_HEADER: usize = 2;

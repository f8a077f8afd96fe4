//! What can go wrong with a packet or a request.

use std::fmt;

use crate::dictionary::{Attribute, Kind};

/// Why a datagram is no acceptable RADIUS packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeError {
    /// Shorter than a header, or than its own length field says.
    Truncated {
        /// Octets that are needed.
        needed: usize,
        /// Octets there are.
        got: usize,
    },
    /// The length field is outside 20..=4096 (RFC 2865 section 3).
    Length(usize),
    /// The attribute at this offset has a length below 2 or runs over the end of the packet.
    AttributeLength {
        /// Offset of the attribute from the start of the packet.
        offset: usize,
    },
    /// The value of a known attribute does not have the form its kind demands.
    AttributeValue(Attribute),
    /// A vendor-specific attribute of a known vendor has sub-attributes that do not add up.
    VendorAttribute {
        /// The vendor's enterprise number.
        vendor: u32,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { needed, got } => write!(f, "packet of {got} octets where {needed} are needed"),
            Self::Length(length) => write!(f, "packet length {length} is outside 20..4096"),
            Self::AttributeLength { offset } => write!(f, "attribute at offset {offset} has a wrong length"),
            Self::AttributeValue(attribute) => write!(f, "value of {attribute} is malformed"),
            Self::VendorAttribute { vendor } => write!(f, "sub-attributes of vendor {vendor} are malformed"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Why an attribute or a packet cannot be built.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The value is longer than an attribute of this kind can carry.
    ValueTooLong {
        /// The attribute.
        attribute: Attribute,
        /// Octets offered.
        length: usize,
    },
    /// The attribute holds another kind of value.
    WrongKind {
        /// The attribute.
        attribute: Attribute,
        /// What it holds.
        kind: Kind,
    },
    /// All attributes together do not fit into a packet.
    PacketTooLong,
    /// The cryptographic library refused to work (MD5 is switched off by policy).
    Digest,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ValueTooLong { attribute, length } => {
                write!(f, "{length} octets are too long for {attribute}")
            }
            Self::WrongKind { attribute, kind } => write!(f, "{attribute} holds a value of kind {kind:?}"),
            Self::PacketTooLong => f.write_str("attributes do not fit into a packet of 4096 octets"),
            Self::Digest => f.write_str("MD5 is not available in this system's cryptographic policy"),
        }
    }
}

impl std::error::Error for EncodeError {}

/// Why a client does not take a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubmitError {
    /// There is no server configured.
    NoServer,
    /// The server the request is bound to is not configured (any more).
    UnknownServer,
    /// As many requests as allowed are waiting already.
    QueueFull,
}

impl fmt::Display for SubmitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoServer => f.write_str("no RADIUS server is configured"),
            Self::UnknownServer => {
                f.write_str("the RADIUS server of this conversation is no longer configured")
            }
            Self::QueueFull => f.write_str("too many requests wait for a RADIUS server"),
        }
    }
}

impl std::error::Error for SubmitError {}

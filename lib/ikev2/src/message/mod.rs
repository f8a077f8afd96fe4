//! The wire format of IKEv2 (RFC 7296 3): bounded decoding, encoding, encrypted payloads, fragments.
//!
//! Decoding borrows from the datagram; only proposals, selectors and lists of small payloads are collected.

mod build;
mod decode;
mod error;
mod header;
mod notify;
mod proposal;
mod sk;
mod wire;

pub use error::DecodeError;
pub use header::{Exchange, HEADER_LEN, Header};
pub use notify::NotifyKind;
pub use proposal::{Proposal, ProposalSpi, Protocol, Transform, TransformKind};

pub(crate) use build::Builder;
pub(crate) use decode::{Configured, Delete, MAX_PAYLOADS, Payloads, next_payload};
pub(crate) use sk::{Fragment, Opened, Protection, open, seal};
pub(crate) use wire::{Reader, Writer};

/// Payload types (RFC 7296 3.2).
pub(crate) mod payload {
    pub const NONE: u8 = 0;
    pub const SA: u8 = 33;
    pub const KE: u8 = 34;
    pub const IDI: u8 = 35;
    pub const IDR: u8 = 36;
    pub const CERT: u8 = 37;
    pub const CERTREQ: u8 = 38;
    pub const AUTH: u8 = 39;
    pub const NONCE: u8 = 40;
    pub const NOTIFY: u8 = 41;
    pub const DELETE: u8 = 42;
    pub const VENDOR: u8 = 43;
    pub const TSI: u8 = 44;
    pub const TSR: u8 = 45;
    pub const SK: u8 = 46;
    pub const CP: u8 = 47;
    pub const EAP: u8 = 48;
    pub const SKF: u8 = 53;
}

/// Length of the generic payload header.
pub(crate) const PAYLOAD_HEADER_LEN: usize = 4;
/// Certificate encoding X.509 - Signature (RFC 7296 3.6).
pub(crate) const CERT_X509: u8 = 4;
/// CFG_TYPE (RFC 7296 3.15).
pub(crate) const CFG_REQUEST: u8 = 1;
/// CFG_TYPE (RFC 7296 3.15).
pub(crate) const CFG_REPLY: u8 = 2;

/// Configuration attribute types (RFC 7296 3.15.1).
pub(crate) mod attribute {
    pub const IP4_ADDRESS: u16 = 1;
    pub const IP4_NETMASK: u16 = 2;
    pub const IP4_DNS: u16 = 3;
    pub const IP6_ADDRESS: u16 = 8;
    pub const IP6_DNS: u16 = 10;
}

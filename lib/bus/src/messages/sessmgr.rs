//! Sessions. Requests carry many sessions at a time, because set-ups come in bursts.

use crate::message::{events, requests};

requests! {
    0x0701 idempotent Admit => Admitted;
    0x0702 idempotent Connected => Noted;
    0x0703 idempotent Release => Noted;
    0x0705 idempotent HeldBlocks => Held;
    0x0706 idempotent WorkerRecovered => Recovered;
}

events! {
    0x0780 SessionAdmitted;
}

/// Peers that have authenticated and want a session. Asked again of the same IKE SPI, it gets the same verdict, also when it is the next life
/// of the `ipsecmgr` that asks, or another one that has the slot now.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Admit {
    /// One entry a peer.
    #[prost(message, repeated, tag = "1")]
    pub admissions: Vec<Admission>,
}

/// One peer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Admission {
    /// Our IKE SPI: names the session from now on.
    #[prost(fixed64, tag = "1")]
    pub ike_spi: u64,
    /// Context of the service.
    #[prost(string, tag = "2")]
    pub context: String,
    /// Service name.
    #[prost(string, tag = "3")]
    pub service: String,
    /// Who the peer proved to be, its IKE identity or with EAP the user: type as in RFC 7296 section 3.5.
    #[prost(uint32, tag = "4")]
    pub identity_type: u32,
    /// The same: octets.
    #[prost(bytes = "vec", tag = "5")]
    pub identity: Vec<u8>,
    /// Peer's outer address, 4 or 16 octets.
    #[prost(bytes = "vec", tag = "6")]
    pub peer: Vec<u8>,
    /// The identity that AAA authenticated, if any.
    #[prost(bytes = "vec", tag = "7")]
    pub user: Vec<u8>,
    /// Asked for an IPv4 address (CFG_REQUEST).
    #[prost(bool, tag = "8")]
    pub wants_ipv4: bool,
    /// Asked for an IPv6 address.
    #[prost(bool, tag = "9")]
    pub wants_ipv6: bool,
    /// What AAA authorised (over EAP), if anything.
    #[prost(message, optional, tag = "10")]
    pub authorization: Option<Authorization>,
    /// It says that it has no other IKE SA (INITIAL_CONTACT).
    #[prost(bool, tag = "11")]
    pub initial_contact: bool,
    /// It was admitted once, and `sessmgr` has forgotten it ([`Recovered::unknown`]): the peer has these addresses and can have no others.
    #[prost(message, optional, tag = "12")]
    pub claim: Option<Claim>,
    /// By which [`tenure`](super::slots::tenure) the one who asks has the slot of the IKE SPI.
    #[prost(uint64, tag = "13")]
    pub tenure: u64,
}

/// What a peer has already. Both empty: no address.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Claim {
    /// IPv4 address.
    #[prost(bytes = "vec", tag = "1")]
    pub ipv4: Vec<u8>,
    /// IPv6 address.
    #[prost(bytes = "vec", tag = "2")]
    pub ipv6: Vec<u8>,
}

/// What AAA said about a user; nothing secret.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Authorization {
    /// Framed-IP-Address; empty when AAA left it to the pool.
    #[prost(bytes = "vec", tag = "1")]
    pub framed_ipv4: Vec<u8>,
    /// Framed-IPv6-Prefix: 16 octets of address; empty when AAA left it to the pool.
    #[prost(bytes = "vec", tag = "2")]
    pub framed_ipv6: Vec<u8>,
    /// Session-Timeout, seconds; 0: none.
    #[prost(uint32, tag = "3")]
    pub session_timeout: u32,
    /// Idle-Timeout, seconds; 0: none.
    #[prost(uint32, tag = "4")]
    pub idle_timeout: u32,
    /// Class attributes, to be echoed in accounting.
    #[prost(bytes = "vec", repeated, tag = "5")]
    pub class: Vec<Vec<u8>>,
    /// DNS servers given by AAA, 4 or 16 octets each.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub dns: Vec<Vec<u8>>,
    /// SN-IP-Pool-Name.
    #[prost(string, tag = "7")]
    pub pool: String,
    /// Acct-Interim-Interval, seconds; 0: none.
    #[prost(uint32, tag = "8")]
    pub interim_interval: u32,
}

/// One verdict an admission, in order.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Admitted {
    /// The verdicts.
    #[prost(message, repeated, tag = "1")]
    pub verdicts: Vec<Verdict>,
}

/// What became of one peer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Verdict {
    /// As asked.
    #[prost(fixed64, tag = "1")]
    pub ike_spi: u64,
    /// Why not; empty when admitted.
    #[prost(string, tag = "2")]
    pub refusal: String,
    /// IPv4 address, if one was given.
    #[prost(bytes = "vec", tag = "3")]
    pub ipv4: Vec<u8>,
    /// IPv6 address, if one was given.
    #[prost(bytes = "vec", tag = "4")]
    pub ipv6: Vec<u8>,
    /// Prefix length of the IPv6 address.
    #[prost(uint32, tag = "5")]
    pub ipv6_prefix_length: u32,
    /// DNS servers, 4 or 16 octets each.
    #[prost(bytes = "vec", repeated, tag = "6")]
    pub dns: Vec<Vec<u8>>,
    /// Older sessions of the same identity that must go (duplicate session detection): our IKE SPIs, in whichever slot.
    #[prost(fixed64, repeated, tag = "7")]
    pub displaced: Vec<u64>,
    /// The refusal is for want of an address or a resource rather than of permission: INTERNAL_ADDRESS_FAILURE.
    #[prost(bool, tag = "8")]
    pub no_address: bool,
}

/// Sessions whose first child SA is installed: accounting starts now.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Connected {
    /// Our IKE SPIs.
    #[prost(message, repeated, tag = "1")]
    pub sessions: Vec<ConnectedSession>,
}

/// A session and where its traffic is counted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct ConnectedSession {
    /// Our IKE SPI; after a rekey of the IKE SA, the new one.
    #[prost(fixed64, tag = "1")]
    pub ike_spi: u64,
    /// The IKE SPI before a rekey of the IKE SA, otherwise 0.
    #[prost(fixed64, tag = "2")]
    pub was: u64,
    /// Inbound SPIs of its child SAs.
    #[prost(uint32, repeated, tag = "3")]
    pub spis: Vec<u32>,
}

/// Sessions that ended.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Release {
    /// The sessions.
    #[prost(message, repeated, tag = "1")]
    pub sessions: Vec<Released>,
}

/// One session that ended, with its last counts.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Released {
    /// Our IKE SPI.
    #[prost(fixed64, tag = "1")]
    pub ike_spi: u64,
    /// Disconnect reason number (`show session disconnect-reasons`).
    #[prost(uint32, tag = "2")]
    pub reason: u32,
    /// Octets from the peer.
    #[prost(uint64, tag = "3")]
    pub bytes_in: u64,
    /// Octets to the peer.
    #[prost(uint64, tag = "4")]
    pub bytes_out: u64,
    /// Packets from the peer.
    #[prost(uint64, tag = "5")]
    pub packets_in: u64,
    /// Packets to the peer.
    #[prost(uint64, tag = "6")]
    pub packets_out: u64,
}

/// An `ipsecmgr` has slots from now on, after a former life of its own or after another worker's, with these sessions. Sessions in these slots that
/// it does not list are over. Many sessions come in several requests, one after the other. Every `sessmgr` is told, for a session stays where it was
/// admitted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct WorkerRecovered {
    /// The sessions of the `sessmgr` that go on. Empty when there are none.
    #[prost(message, repeated, tag = "2")]
    pub sessions: Vec<RecoveredSession>,
    /// Others follow: nothing is over yet.
    #[prost(bool, tag = "3")]
    pub more: bool,
    /// By which [`tenure`](super::slots::tenure) it has the slots.
    #[prost(uint64, tag = "4")]
    pub tenure: u64,
    /// The slots.
    #[prost(uint32, repeated, tag = "5")]
    pub slots: Vec<u32>,
}

/// An established session that outlived its `ipsecmgr`, or moved to another.
#[derive(Clone, PartialEq, prost::Message)]
pub struct RecoveredSession {
    /// Our IKE SPI.
    #[prost(fixed64, tag = "1")]
    pub ike_spi: u64,
    /// The IKE SPI under which `sessmgr` may still know it, otherwise 0.
    #[prost(fixed64, tag = "2")]
    pub known_as: u64,
    /// Inbound SPIs of its child SAs.
    #[prost(uint32, repeated, tag = "3")]
    pub spis: Vec<u32>,
}

/// What `sessmgr` makes of it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Recovered {
    /// Our IKE SPIs of those that it does not know: to be admitted with a [`Claim`], and deleted when that is refused.
    #[prost(fixed64, repeated, tag = "1")]
    pub unknown: Vec<u64>,
}

/// Noted.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Noted {}

/// Which pool blocks do you hold? (asked by a restarted `vpnmgr`)
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeldBlocks {
    /// Of this context.
    #[prost(string, tag = "1")]
    pub context: String,
}

/// The blocks.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Held {
    /// One entry a block.
    #[prost(message, repeated, tag = "1")]
    pub blocks: Vec<HeldBlock>,
}

/// A block held by a worker.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HeldBlock {
    /// Pool name.
    #[prost(string, tag = "1")]
    pub pool: String,
    /// First address.
    #[prost(bytes = "vec", tag = "2")]
    pub first: Vec<u8>,
    /// Number of addresses or prefixes.
    #[prost(uint32, tag = "3")]
    pub count: u32,
    /// Single addresses leased with `LeaseAddress` have this set.
    #[prost(bool, tag = "4")]
    pub single: bool,
}

/// A session was admitted that is to be the only one of its identity, because of duplicate session detection or of INITIAL_CONTACT: other
/// workers end older ones.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SessionAdmitted {
    /// Context of the service.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Service name.
    #[prost(string, tag = "2")]
    pub service: String,
    /// Peer's IKE identity: type as in RFC 7296 section 3.5.
    #[prost(uint32, tag = "3")]
    pub identity_type: u32,
    /// Peer's IKE identity: octets.
    #[prost(bytes = "vec", tag = "4")]
    pub identity: Vec<u8>,
    /// When: nanoseconds since the Unix epoch. The younger of two sessions stays.
    #[prost(uint64, tag = "5")]
    pub began: u64,
}

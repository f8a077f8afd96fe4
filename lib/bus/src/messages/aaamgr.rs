//! Authentication and accounting.

use super::sessmgr::Authorization;
use crate::message::{link_messages, requests};

requests! {
    0x0801 once Account => Accounted;
}

link_messages! {
    0x0840 EapRound => EapAnswer;
}

/// Accounting records to send. The answer means: taken over, will be delivered.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Account {
    /// The records.
    #[prost(message, repeated, tag = "1")]
    pub records: Vec<AccountingRecord>,
}

/// Kind of an accounting record: Acct-Status-Type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum AccountingKind {
    /// Not set.
    Unset = 0,
    /// Start.
    Start = 1,
    /// Stop.
    Stop = 2,
    /// Interim-Update.
    Interim = 3,
}

/// One accounting record.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AccountingRecord {
    /// Start, stop or interim.
    #[prost(enumeration = "AccountingKind", tag = "1")]
    pub kind: i32,
    /// Context whose AAA group is used.
    #[prost(string, tag = "2")]
    pub context: String,
    /// Acct-Session-Id.
    #[prost(string, tag = "3")]
    pub session: String,
    /// User-Name.
    #[prost(bytes = "vec", tag = "4")]
    pub user: Vec<u8>,
    /// Framed-IP-Address; may be empty.
    #[prost(bytes = "vec", tag = "5")]
    pub ipv4: Vec<u8>,
    /// Framed-IPv6-Prefix, 16 octets; may be empty.
    #[prost(bytes = "vec", tag = "6")]
    pub ipv6: Vec<u8>,
    /// Class attributes of the authorization.
    #[prost(bytes = "vec", repeated, tag = "7")]
    pub class: Vec<Vec<u8>>,
    /// Seconds since the start.
    #[prost(uint32, tag = "8")]
    pub seconds: u32,
    /// Octets from the peer.
    #[prost(uint64, tag = "9")]
    pub bytes_in: u64,
    /// Octets to the peer.
    #[prost(uint64, tag = "10")]
    pub bytes_out: u64,
    /// Packets from the peer.
    #[prost(uint64, tag = "11")]
    pub packets_in: u64,
    /// Packets to the peer.
    #[prost(uint64, tag = "12")]
    pub packets_out: u64,
    /// Acct-Terminate-Cause (RFC 2866 section 5.10).
    #[prost(uint32, tag = "13")]
    pub terminate_cause: u32,
    /// Calling-Station-Id: the peer's outer address.
    #[prost(string, tag = "14")]
    pub calling_station: String,
    /// Service name.
    #[prost(string, tag = "15")]
    pub service: String,
    /// When it happened: seconds since the Unix epoch (Event-Timestamp).
    #[prost(uint64, tag = "16")]
    pub time: u64,
}

/// Taken over.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Accounted {
    /// Why not; empty when taken over. Without accounting servers records are taken over and dropped, counted.
    #[prost(string, tag = "1")]
    pub failure: String,
}

/// One round of EAP from a peer (over the link: the answer can carry the MSK).
#[derive(Clone, PartialEq, prost::Message)]
pub struct EapRound {
    /// Our IKE SPI: names the conversation.
    #[prost(fixed64, tag = "1")]
    pub ike_spi: u64,
    /// Context whose AAA group is used.
    #[prost(string, tag = "2")]
    pub context: String,
    /// Who the peer says it is, for the first round; empty: it is asked (EAP-Identity).
    #[prost(bytes = "vec", tag = "3")]
    pub identity: Vec<u8>,
    /// The EAP packet from the peer; empty to begin.
    #[prost(bytes = "vec", tag = "4")]
    pub eap: Vec<u8>,
    /// Calling-Station-Id: the peer's outer address.
    #[prost(string, tag = "5")]
    pub calling_station: String,
    /// The conversation is over on our side (peer gone): forget it, no answer needed.
    #[prost(bool, tag = "6")]
    pub abandon: bool,
    /// EAP profile of the template.
    #[prost(string, tag = "7")]
    pub profile: String,
}

/// The next EAP packet for the peer.
#[derive(Clone, PartialEq, prost::Message)]
pub struct EapAnswer {
    /// EAP packet for the peer; empty only with a failure that has none.
    #[prost(bytes = "vec", tag = "1")]
    pub eap: Vec<u8>,
    /// The conversation is over, successfully.
    #[prost(bool, tag = "2")]
    pub success: bool,
    /// Why it is over without success; empty otherwise.
    #[prost(string, tag = "3")]
    pub failure: String,
    /// MSK, with success and a key-generating method.
    #[prost(bytes = "vec", tag = "4")]
    pub msk: Vec<u8>,
    /// What AAA authorised, with success.
    #[prost(message, optional, tag = "5")]
    pub authorization: Option<Authorization>,
    /// The identity AAA authenticated, with success.
    #[prost(bytes = "vec", tag = "6")]
    pub user: Vec<u8>,
    /// EAP method number seen last, for counters.
    #[prost(uint32, tag = "7")]
    pub method: u32,
}

//! IKE.

use crate::message::requests;

requests! {
    0x0501 once DeleteTunnels => Deleted;
    0x0502 once Drain => Deleted;
}

/// Delete tunnels, with IKE deletes to the peers (asked by `sessmgr` and `aaamgr`; the shell uses `Execute`).
#[derive(Clone, PartialEq, prost::Message)]
pub struct DeleteTunnels {
    /// Our IKE SPIs.
    #[prost(fixed64, repeated, tag = "1")]
    pub ike_spis: Vec<u64>,
    /// Disconnect reason, as in `show session disconnect-reasons`.
    #[prost(string, tag = "2")]
    pub reason: String,
}

/// The node stops: send a delete for every IKE SA, take no new ones.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Drain {}

/// How many there were.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Deleted {
    /// IKE SAs deleted.
    #[prost(uint64, tag = "1")]
    pub count: u64,
    /// Those in slots of another manager, our IKE SPIs: that one is to be asked.
    #[prost(fixed64, repeated, tag = "2")]
    pub moved: Vec<u64>,
}

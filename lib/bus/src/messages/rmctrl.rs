//! Resource manager.

use crate::message::{events, requests};

requests! {
    0x0301 idempotent GetSlotMap => SlotMap;
}

events! {
    0x0380 SlotMapChanged;
}

/// Which worker has which slot?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSlotMap {}

/// The slot map of this node.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SlotMap {
    /// Grows with every change.
    #[prost(uint64, tag = "1")]
    pub version: u64,
    /// Worker of slot 1, 2, ... 255 (0: not owned by this node).
    #[prost(uint32, repeated, tag = "2")]
    pub workers: Vec<u32>,
}

/// The slot map has a new version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SlotMapChanged {
    /// The new version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

//! Resource manager.

use crate::message::{events, requests};

requests! {
    0x0301 idempotent GetSlotMap => SlotMap;
    0x0302 idempotent GetCongestion => Congestion;
    0x0303 idempotent GetDataPlaneCores => DataPlaneCores;
}

events! {
    0x0380 SlotMapChanged;
    0x0381 CongestionChanged;
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
    /// Worker whose `ipsecmgr` has slot 1, 2, ... 255 (0: not owned by this node).
    #[prost(uint32, repeated, tag = "2")]
    pub managers: Vec<u32>,
    /// Worker whose `iftask` has it.
    #[prost(uint32, repeated, tag = "3")]
    pub data: Vec<u32>,
    /// Moves under way: `managers` and `data` name the new owners already.
    #[prost(message, repeated, tag = "4")]
    pub leaving: Vec<Leaving>,
    /// Worker whose `iftask` takes the last step, the call of the kernel, for packets of slot 1, 2, ... 255 (0: the one that has its data). Empty: so it is for all.
    #[prost(uint32, repeated, tag = "5")]
    pub outputs: Vec<u32>,
}

impl SlotMap {
    /// The first version of a map: of each slot 1, 2, ... 255, one worker has both parts.
    pub fn of_workers(workers: Vec<u32>) -> Self {
        Self {
            version: 1,
            managers: workers.clone(),
            data: workers,
            leaving: Vec::new(),
            outputs: Vec::new(),
        }
    }
}

/// One part of a slot on its way to its new owner.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Leaving {
    /// The slot.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Which of its parts.
    #[prost(enumeration = "SlotPart", tag = "2")]
    pub part: i32,
    /// The worker that had it.
    #[prost(uint32, tag = "3")]
    pub from: u32,
    /// How far the move is.
    #[prost(enumeration = "MovePhase", tag = "4")]
    pub phase: i32,
    /// The version of the map with which it began.
    #[prost(uint64, tag = "5")]
    pub version: u64,
}

/// How far a move is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, prost::Enumeration)]
#[repr(i32)]
pub enum MovePhase {
    /// The kernel steers to the former owner, who serves the slot; the new one gets ready.
    Preparing = 0,
    /// The kernel steers to the new owner, who holds what comes; the former one serves what still waits at it, and lets go.
    Steered = 1,
    /// The former owner has let go: it writes nothing of the slot any more.
    Released = 2,
}

/// What can be owned of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
pub enum SlotPart {
    /// IKE: `ipsecmgr`.
    Manager = 0,
    /// ESP: `iftask`.
    Data = 1,
    /// What an `iftask` does last for packets of ESP: hands them to the kernel. Moves at once, without phases.
    Output = 2,
}

/// The slot map has a new version.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SlotMapChanged {
    /// The new version.
    #[prost(uint64, tag = "1")]
    pub version: u64,
}

/// What do new peers get now?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetCongestion {}

/// What new peers get, by the policy of `congestion-control`. Who is connected is served in any case.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Congestion {
    /// What is done where there is congestion.
    #[prost(enumeration = "CongestionAction", tag = "1")]
    pub action: i32,
    /// All services are congested.
    #[prost(bool, tag = "2")]
    pub everywhere: bool,
    /// These services are, in any case.
    #[prost(message, repeated, tag = "3")]
    pub services: Vec<CongestedService>,
}

/// A service that has as many sessions as it should.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, prost::Message)]
pub struct CongestedService {
    /// Its context.
    #[prost(string, tag = "1")]
    pub context: String,
    /// Its name.
    #[prost(string, tag = "2")]
    pub service: String,
}

/// What is done about new peers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum CongestionAction {
    /// They are served.
    Nothing = 0,
    /// They are told that it cannot be now.
    Reject = 1,
    /// They get no answer.
    Drop = 2,
    /// They are sent to other gateways, if they can be and the service names some; otherwise told that it cannot be now.
    Redirect = 3,
}

/// [`Congestion`] has changed.
#[derive(Clone, PartialEq, prost::Message)]
pub struct CongestionChanged {}

/// How busy are the processors of the data plane?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetDataPlaneCores {}

/// The processors that the data plane runs on.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataPlaneCores {
    /// In ascending order.
    #[prost(message, repeated, tag = "1")]
    pub cores: Vec<DataPlaneCore>,
}

/// One processor.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DataPlaneCore {
    /// Its number.
    #[prost(uint32, tag = "1")]
    pub number: u32,
    /// Its use in the latest sampling interval, hundredths of a percent.
    #[prost(uint32, tag = "2")]
    pub used: u32,
}

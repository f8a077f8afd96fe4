//! Moves of slots between workers: what `rmctrl` asks of the two processes of a worker that have slots, `ipsecmgr` and `iftask`, each for its part.
//! Every step may be asked again, also after either end has begun a new life.

use crate::message::requests;

requests! {
    0x0010 idempotent PrepareSlots => SlotsHeld;
    0x0011 idempotent HandOverSlots => SlotsHeld;
    0x0012 idempotent TakeSlots => SlotsHeld;
    0x0013 idempotent DrainSlots => SlotsHeld;
}

/// Get ready to have these slots: open and read them, write nothing yet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PrepareSlots {
    /// Slot numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
}

/// Let go of these slots: from the answer on, this process writes nothing of them, and passes on what reaches it for them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HandOverSlots {
    /// Slot numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
    /// The worker that has them next.
    #[prost(uint32, tag = "2")]
    pub to: u32,
}

/// These slots are yours: who had them writes nothing any more.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TakeSlots {
    /// Slot numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
    /// The worker that had them.
    #[prost(uint32, tag = "2")]
    pub from: u32,
}

/// The kernel steers to the new owner now: pass on what still waits here, and tell it when that was all.
#[derive(Clone, PartialEq, prost::Message)]
pub struct DrainSlots {
    /// Slot numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
    /// The worker that has them now.
    #[prost(uint32, tag = "2")]
    pub to: u32,
}

/// The step is done, or why not.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SlotsHeld {
    /// Slots that this process has and may write, after the step.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
    /// Why the step cannot be done now; it may be asked again. Empty: it is done.
    #[prost(string, tag = "2")]
    pub failure: String,
}

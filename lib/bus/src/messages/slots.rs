//! Moves of slots between workers: what `rmctrl` asks of the two processes of a worker that have slots, `ipsecmgr` and `iftask`, each for its part.
//! Every step may be asked again, also after either end has begun a new life.

use crate::message::requests;

requests! {
    0x0010 idempotent PrepareSlots => SlotsHeld;
    0x0011 idempotent HandOverSlots => SlotsHeld;
    0x0012 idempotent TakeSlots => SlotsHeld;
    0x0013 idempotent GetSlotLoads => SlotLoads;
}

/// What orders all that the owners of a slot say of it, whoever they are: an owner that has opened the slot later has a higher one. `version`: of the
/// slot map by which it opened it; `life`: the lives of its process before.
pub const fn tenure(version: u64, life: u32) -> u64 {
    /// More lives than this are not told apart.
    const LIVES: u64 = (1 << 24) - 1;
    let life = if (life as u64) < LIVES { life as u64 } else { LIVES };
    version << 24 | life
}

const _: () = assert!(tenure(1, 0) < tenure(1, 7) && tenure(1, u32::MAX) < tenure(2, 0));

/// Get ready to have these slots: hold what comes for them from now on, write nothing yet.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PrepareSlots {
    /// Slot numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
    /// The worker that has them.
    #[prost(uint32, tag = "2")]
    pub from: u32,
    /// [`Leaving::version`](super::rmctrl::Leaving) of the move.
    #[prost(uint64, tag = "3")]
    pub version: u64,
    /// The version of the configuration that the one who has them has applied: whoever is older is not ready yet.
    #[prost(uint64, tag = "4")]
    pub configuration: u64,
}

/// The kernel steers to the new owner now: serve what still waits here, then let go of these slots. From the answer on, this process writes nothing of them,
/// and passes on what reaches it for them.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HandOverSlots {
    /// Slot numbers.
    #[prost(uint32, repeated, tag = "1")]
    pub slots: Vec<u32>,
    /// The worker that has them next.
    #[prost(uint32, tag = "2")]
    pub to: u32,
    /// [`Leaving::version`](super::rmctrl::Leaving) of the move.
    #[prost(uint64, tag = "3")]
    pub version: u64,
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
    /// [`Leaving::version`](super::rmctrl::Leaving) of the move.
    #[prost(uint64, tag = "3")]
    pub version: u64,
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
    /// How often this process had been started before it answered: a higher number than that of who was asked proves that one dead.
    #[prost(uint32, tag = "3")]
    pub lives: u32,
}

/// What do your slots carry?
#[derive(Clone, PartialEq, prost::Message)]
pub struct GetSlotLoads {}

/// What the slots carry that have anything.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SlotLoads {
    /// One for each of them.
    #[prost(message, repeated, tag = "1")]
    pub loads: Vec<SlotLoad>,
    /// Nanoseconds that the data plane has worked, since this process began.
    #[prost(uint64, tag = "2")]
    pub busy_ns: u64,
    /// This data plane takes the last step for packets that another one hands on (not so versions before there was such a thing).
    #[prost(bool, tag = "3")]
    pub takes_output: bool,
}

/// What a slot carries.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct SlotLoad {
    /// Slot number.
    #[prost(uint32, tag = "1")]
    pub slot: u32,
    /// Packets that crossed here since this process began, both ways (`iftask`).
    #[prost(uint64, tag = "2")]
    pub packets: u64,
    /// Child SAs (`iftask`).
    #[prost(uint32, tag = "3")]
    pub child_sas: u32,
    /// IKE SAs (`ipsecmgr`).
    #[prost(uint32, tag = "4")]
    pub ike_sas: u32,
}

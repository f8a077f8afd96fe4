//! ESP (RFC 4303) in tunnel mode, and what a gateway does to inner packets: sans-IO, in place, without allocation per packet.
//!
//! ```text
//! out:  super-packet ─ Segments ─┐                         ┌─> one packet, or many of a length
//!       packet ─ Limits::fit ────┼─> OutboundSa::seal ─────┤   for one GSO send
//!       too long ─ Fragments ────┘   (sequence reserved)   └─> icmp::too_big to its sender
//!
//! in:   ESP ─ InboundSa::open ─ Packet::parse ─ Policy ─ propagate_ecn ─ Coalescer ─> super-packet
//!             (window, integrity, window)
//! ```
//!
//! An SA has one [`OutboundSa`] and one [`InboundSa`], with their key schedules prepared; they live in the memory of one process. Sequence numbers and
//! replay windows are shared state and come from outside: [`Replay`] is implemented for the slot's segment and for plain memory.
//! ESP in UDP and ESP as protocol 50 have the same bytes; the headers before them are the kernel's.

mod bytes;
mod checksum;
mod coalesce;
mod delivery;
mod error;
mod fragment;
pub mod fuzz;
pub mod icmp;
mod inbound;
mod offload;
mod outbound;
mod outer;
mod packet;
mod path;
mod protection;
mod segment;
mod selector;
mod sequence;
mod transform;
mod vnet;

pub use checksum::Checksum;
pub use coalesce::{Coalescer, CoalescerSpace};
pub use delivery::{Delivery, MOST_JOINED, MOST_PARTS};
pub use error::{Cause, Error};
pub use fragment::Fragments;
pub use inbound::{InboundSa, Opened, spi_of};
pub use offload::{Offload, PartialChecksum, SegmentKind, Segmentation};
pub use outbound::OutboundSa;
pub use outer::{Fit, Limits, propagate_ecn, traffic_class};
pub use packet::{Addresses, IPV4, IPV6, NO_NEXT_HEADER, Packet, destination_of};
pub use path::NarrowPath;
pub use segment::{Segments, finish_checksum};
pub use selector::Policy;
pub use sequence::{Replay, ReplayWindow, SharedReplay, extended};
pub use transform::Transform;
pub use vnet::VnetHeader;

#[cfg(test)]
mod tests;

//! The message bus: how the processes of the node talk to each other.
//!
//! ```text
//!   caller ── Bus::request ──> Peer (one per address: window, correlation ids, back-off)
//!                                │  Connection: two bounded channels
//!                       Transport│  ipc.rs: DEALER ~~> ROUTER      hub.rs: in this process
//!                                v
//!   Server::next <── receive loop (checks frames, answers Ping and Replay, refuses what it cannot queue)
//!
//!   Bus::publish ──> numbers, ring, beacons ──> PUB ~~> SUB ──> Subscription::next (one follower per address)
//! ```
//!
//! * A request has a deadline and ends in a reply or in a [`BusError`]; never in silence. A [`Responder`] that is dropped refuses.
//! * A peer that died is connected to again as soon as it is back; nothing else has to be restarted.
//! * Events are lossy by nature (a slow subscriber, a restarted publisher): they are numbered, and a subscriber that may have missed
//!   some is told so by [`Heard::Missed`], always at least once when it starts to listen to a publisher.
//! * Events that their publisher retains ([`Event::RETAINED`]) are asked for again: whoever comes late or misses some gets them all the same,
//!   each once and in order, and is told only of those that are no longer retained.
//! * Everything runs in tokio tasks on the runtime that opened the bus, which is meant to be a current-thread runtime.
//! * Secrets travel on [`link`]s, beside the bus.

mod error;
mod events;
pub mod facility;
pub mod frame;
pub mod fuzz;
mod handle;
mod hub;
mod ipc;
pub mod link;
pub mod message;
pub mod messages;
mod peer;
mod publisher;
mod server;
mod statistics;
mod transport;

pub use error::{BusError, RefusalCode};
pub use events::{Heard, Position, Subscription};
pub use facility::{Address, Facility};
pub use frame::{FrameError, MAX_MESSAGE};
pub use handle::{Bus, Leaving};
pub use hub::Hub;
pub use ipc::Sockets;
pub use message::{Event, LinkMessage, Message, Request};
pub use publisher::{History, HistoryOfType};
pub use server::{Incoming, Responder, Server};
pub use statistics::Statistics;

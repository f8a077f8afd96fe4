//! The message bus: how the processes of the node talk to each other.

pub mod facility;
pub mod message;
pub mod messages;

pub use facility::{Address, Facility};
pub use message::{Event, LinkMessage, Message, Request};

//! What may travel: requests, events and link messages, each with a number of its own.
//!
//! A message is a prost structure. Tags are never reused and unknown tags are skipped, so two neighbouring versions of the software
//! understand each other. Messages that carry secrets implement [`LinkMessage`] only: the bus encoder takes [`Request`] and
//! [`Event`] and therefore cannot encode them.

/// A structure with a number on the wire.
pub trait Message: prost::Message + Default + Send + 'static {
    /// The message type in the frame header. Unique among requests, replies and events; never reused.
    const TYPE: u16;
    /// The name in logs.
    const NAME: &'static str;
}

/// A question with one answer, sent over the bus.
pub trait Request: Message {
    /// What the answer looks like.
    type Reply: prost::Message + Default + Send + 'static;
    /// Asking twice does no harm: the client side may send it again after a reconnect.
    const IDEMPOTENT: bool;
}

/// Something that happened, published to whoever listens.
pub trait Event: Message {
    /// How many of the latest the publisher keeps for subscribers that come late or miss some; 0: none.
    const RETAINED: usize;
}

/// A question that carries or brings secrets: travels over a private link, never over the bus.
pub trait LinkMessage: Message {
    /// What the answer looks like.
    type Reply: prost::Message + Default + Send + 'static;
}

/// Declares requests: `0x0101 idempotent GetConfig => ConfigText;`.
macro_rules! requests {
    ($($number:literal $again:ident $name:ident => $reply:ident;)*) => {$(
        impl $crate::message::Message for $name {
            const TYPE: u16 = $number;
            const NAME: &'static str = stringify!($name);
        }
        impl $crate::message::Request for $name {
            type Reply = $reply;
            const IDEMPOTENT: bool = $crate::message::repeatable!($again);
        }
    )*};
}

/// The words of the tables of requests: may the client side send it again by itself?
macro_rules! repeatable {
    (idempotent) => {
        true
    };
    (once) => {
        false
    };
}

/// Declares events: `0x0180 ConfigChanged;`. With `retains 100`, the publisher keeps the latest 100 of them.
macro_rules! events {
    ($($number:literal $name:ident $(retains $count:literal)?;)*) => {$(
        impl $crate::message::Message for $name {
            const TYPE: u16 = $number;
            const NAME: &'static str = stringify!($name);
        }
        impl $crate::message::Event for $name {
            const RETAINED: usize = 0 $(+ $count)?;
        }
    )*};
}

/// Declares messages of links: `0x0140 RevealSecret => Secret;`.
macro_rules! link_messages {
    ($($number:literal $name:ident => $reply:ident;)*) => {$(
        impl $crate::message::Message for $name {
            const TYPE: u16 = $number;
            const NAME: &'static str = stringify!($name);
        }
        impl $crate::message::LinkMessage for $name {
            type Reply = $reply;
        }
    )*};
}

pub(crate) use {events, link_messages, repeatable, requests};

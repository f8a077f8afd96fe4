//! RADIUS client side, without I/O: RFC 2865 (authentication), 2866 and 2869 (accounting, extensions), 3579 (EAP), 2548 (MPPE keys).
//!
//! Nothing here opens a socket or reads a clock. [`Client`] takes requests, received datagrams and the time, and gives back datagrams to
//! send, results and the moment it wants to be called again. One `Client` serves one list of servers of one kind (authentication or
//! accounting); whoever owns it owns the sockets.
//!
//! Every Access-Request carries a Message-Authenticator in front of everything else, and every reply to one must carry a valid one:
//! a reply without it is counted and ignored, so a forged Accept built on MD5 collisions gets nowhere.
//!
//! | module | what |
//! |---|---|
//! | [`dictionary`] | the table of attributes: name, number, vendor, kind of value |
//! | [`packet`] | bounded decoding of a datagram |
//! | [`request`] | what to send, before it is known to which server |
//! | [`reply`] | what a server said, verified, with the keys in it |
//! | [`client`] | servers, identifiers, retransmission, dead servers |
//! | [`counter`] | everything that can happen, counted by cause |

pub mod client;
pub mod counter;
pub mod dictionary;
mod digest;
mod error;
pub mod fuzz;
pub mod hiding;
pub mod packet;
pub mod reply;
pub mod request;
mod secret;
pub mod testing;

pub use client::{
    Algorithm, Client, Completion, Config, DeadServer, Failure, Output, Server, ServerState, ServerStatus,
    Service, Ticket,
};
pub use counter::{Counter, Counters};
pub use dictionary::{Attribute, Kind, Vendor};
pub use error::{DecodeError, EncodeError, SubmitError};
pub use packet::{Code, Packet};
pub use reply::{MppeKeys, Reply};
pub use request::{AttributeList, Request};
pub use secret::Secret;

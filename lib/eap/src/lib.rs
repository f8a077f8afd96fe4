//! EAP without I/O: packets (RFC 3748 section 4) and the pass-through authenticator (RFC 3748 section 2.3, RFC 4137 section 6).
//!
//! The lower layers keep order and repeat what is lost: IKEv2 towards the peer (RFC 7296 section 2.16), RADIUS (RFC 3579) or Diameter
//! (RFC 4072) towards the AAA server. So there are no timers here.
//!
//! ```text
//!   peer --IKE_AUTH--> [Authenticator] --EAP-Message--> AAA server
//! ```

mod authenticator;
pub mod fuzz;
mod packet;

pub use authenticator::{Action, Authenticator, Discard, Failure, MAX_ROUNDS, Start, Verdict};
pub use packet::{Code, DecodeError, MAX_IDENTITY, Method, Packet, identity_request, identity_response};

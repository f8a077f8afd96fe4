//! IKEv2 (RFC 7296), initiator and responder, without I/O: datagrams, answers and instants come in; datagrams, questions, child SAs and events come out.
//!
//! ```text
//!   receive(datagram) ──┐                            ┌── Transmit(datagram)
//!   answer(ticket) ─────┤        ┌──────────┐        ├── Ask(ticket, question)
//!   expire(now) ────────┼──────► │  Engine  │ ─poll─►├── Install / Activate / Remove (child SA)
//!   initiate(profile) ──┤        └────┬─────┘        └── Event
//!   action(id, ...) ────┘          │     │ Sad: SPIs, usage, records
//!                                  │
//!             checkpoint, restore: records for the next life
//! ```
//!
//! How many, where, what ends it: one [`Engine`] in an `ipsecmgr`, for as long as it lives. It holds every IKE SA of its slots in a table;
//! an IKE SA ends by delete, expiry, silence of the peer or failure, and takes its child SAs along. It outlives the process by its record, and one
//! where nothing is going on may be there as nothing else. It holds no thread, socket or
//! clock, so the same bytes in give the same bytes out.

mod cookie;
mod engine;
mod env;
mod event;
pub mod fuzz;
mod identity;
mod keys;
mod message;
mod negotiate;
mod output;
mod profile;
mod record;
mod recovery;
mod redirect;
mod sa;
mod sad;
mod selectors;
mod show;
mod source;
mod table;
mod timer;
mod unprotected;

pub use engine::{CookieSecret, Engine, EngineConfig, Error};
pub use event::{
    ChildExchange, ChildFailure, Count, DropCause, Established, Event, RemoveReason, SetupFailure,
};
pub use identity::{Identity, IdentityKind, MAX_IDENTITY_LEN, UserName};
pub use message::{DecodeError, Exchange, NotifyKind, Protocol, TransformKind};
pub use negotiate::{Difference, Mismatch};
pub use output::{
    Action, AdmitRequest, Answer, AuthMethod, ChildKeys, ChildSa, EapStep, IkeSaId, Output, Path, Question,
    Refusal, Ticket,
};
pub use profile::{
    ChildLifetime, ChildProfile, Configuration, ConfigurationRequest, CookieThresholds, EspProposal,
    FamilyMatch, FragmentMtu, IkeLifetime, IkeProposal, Liveness, LocalAuth, NotifyPolicy, PerResource,
    Profile, RemoteAuth, Retransmission, SelectorPolicy,
};
pub use record::{OLDEST_VERSION as OLDEST_RECORD_VERSION, VERSION as RECORD_VERSION};
pub use recovery::{Changed, Claim, RestoreError, Restored, RestoredChild};
pub use redirect::Redirectable;
pub use sad::{Sad, Usage};
pub use selectors::TrafficSelector;
pub use show::{ChildSaView, ChildState, Cursor, IkeAlgorithms, IkeSaView, IkeState, Totals};

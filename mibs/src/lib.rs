//! The management information base of the node: which objects and notifications exist, and how they follow from counters and events.
//!
//! - [`objects`] is the table of objects: name, identifier, type, index.
//! - [`View`] is a snapshot of every readable instance, sorted, for get, get-next and get-bulk.
//! - [`notification`] turns an event of `telemetry::events` into its notification.
//!
//! Object and notification numbers are those of SNMPv2-MIB (RFC 3418), the RADIUS client MIBs (RFC 4668, RFC 4670) and STARENT-MIB.
//! Nothing here knows the SNMP protocol.

mod data;
mod notification;
pub mod objects;
mod oid;
mod reference;
mod view;

pub use data::Data;
pub use notification::{Notification, notification};
pub use oid::Oid;
pub use reference::reference;
pub use view::{AgentStatistics, Lookup, Node, Service, ServiceType, Task, View};

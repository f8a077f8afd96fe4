//! Counters and events: declaration, storage, reading, logging.
//!
//! - [`counters`] is the table of every number the node keeps; [`Counters`] is the writer's handle on the page of one process,
//!   [`Reader`] adds the pages of all processes up.
//! - [`events`] is the table of everything worth telling; [`events::emit`] writes the log line and hands the record to the sink
//!   that the task installed (the bus).
//! - [`time`] is the calendar.
//! - [`show`] prints blocks of counters, [`reference`] the generated documentation.
//!
//! Nothing here knows the bus, SNMP or bulkstats: they read these tables.

pub mod counters;
mod error;
pub mod events;
mod names;
mod reader;
pub mod reference;
mod scope;
pub mod show;
mod storage;
pub mod time;

pub use counters::Counter;
pub use error::Error;
pub use reader::Reader;
pub use scope::Scope;
pub use storage::Counters;

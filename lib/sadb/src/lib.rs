//! Shared memory of the data plane: slot segments, stray rings, counter pages.
//!
//! A tunnel belongs to a [`Slot`]. Each slot has four memory segments, created by `sit` ([`SlotSegments`]) and mapped by role:
//!
//! | segment  | [`SlotOwner`] (`ipsecmgr`)   | [`SlotWorker`] (`iftask`) | [`SlotReader`] (everybody) |
//! |----------|------------------------------|---------------------------|----------------------------|
//! | keys     | reads, writes                | reads                     | -                          |
//! | hot      | reads, resets a fresh record | reads, writes             | -                          |
//! | counters | reads, resets a fresh record | reads, writes             | reads                      |
//! | IKE      | [`IkeStore`]: reads, writes  | -                         | -                          |
//!
//! The roles are types: a method that a role must not use does not exist on it, and the mapping of a segment that a role only reads is
//! read-only. All shared words are atomics, so nothing the other process does can be undefined behaviour here; what it can do at worst
//! is give a wrong answer, which decoding checks.
//!
//! How many, where, who ends it: one [`SlotSegments`] per slot in `sit`, for the life of the node; one [`SlotOwner`], one [`IkeStore`] and one
//! [`SlotWorker`] per slot in the processes of its worker; one [`StrayProducer`]/[`StrayConsumer`] pair per ordered pair of
//! `iftask`s, and per direction between the `iftask` and the `ipsecmgr` of a worker; one [`CounterPage`] per process.

mod change_log;
mod codec;
mod counters;
mod error;
mod hot;
mod ike_store;
mod key;
mod layout;
mod map;
mod owner;
mod page;
mod record;
mod ring;
mod sa;
mod segment;
mod slot;
mod spis;
mod stray;
mod word;
mod worker;

pub use change_log::Change;
pub use codec::{address_bytes, address_from};
pub use counters::{CounterCells, SaCounter, SaCounters};
pub use error::Error;
pub use hot::{Activity, Hot, PathMtu, ReplayVerdict, SequenceExhausted};
pub use ike_store::{IkeStore, IkeStoreUsage};
pub use key::SecretBytes;
pub use layout::LAYOUT_VERSION;
pub use map::{prefetch, prefetch_front, prefetch_line};
pub use owner::SlotOwner;
pub use page::{CounterPage, CounterPageReader};
pub use ring::{StrayConsumer, StrayHeader, StrayProducer, StrayRing};
pub use sa::{
    Algorithms, ChildSa, DfPolicy, DscpPolicy, Encapsulation, Lifetimes, MAX_REPLAY_WINDOW, MAX_SELECTORS,
    Mode, SaKeys, Selector, Selectors,
};
pub use segment::{DEFAULT_CAPACITY, SegmentFds, SlotSegments};
pub use slot::{IkeSpi, SaIndex, Slot, Spi};
pub use spis::Spis;
pub use stray::StrayOrigin;
pub use worker::{SlotReader, SlotWorker};

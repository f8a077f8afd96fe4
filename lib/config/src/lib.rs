//! The configuration of a node: plain types, and the table of commands that fills and prints them.
//!
//! [`tree`] has every configuration command, [`Exec`] every command of exec mode. [`load`] reads a file as StarOS does (a bad line is
//! reported, the rest applied), [`Config::to_text`] prints the canonical text, which [`Config::parse`] reads back; that text is what managers
//! get from `sct`. [`Config::findings`] says what does not fit together.

pub mod bulkstats;
mod check;
mod commands;
pub mod exec;
mod file;
mod findings;
pub mod fuzz;
pub mod model;
mod objects;
pub mod reference;
mod refused;
mod secret;
mod text;

pub use check::{Checked, boot_tasks, check};
pub use commands::tree;
pub use exec::{Answer, Exec, FACILITIES};
pub use file::read;
pub use findings::{Finding, Section};
pub use model::*;
pub use objects::Object;
pub use secret::{PlacedSecret, SealError, Sealer, SecretText, is_sealed, placed_secrets};
pub use text::{LineError, Loaded, MAX_TEXT, load};

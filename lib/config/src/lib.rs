//! The configuration of a node: plain types, and the table of commands that fills and prints them.

pub mod exec;
pub mod model;
mod secret;

pub use exec::{Answer, Exec};
pub use model::*;
pub use secret::{SealError, Sealer, SecretText};

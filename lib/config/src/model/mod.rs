//! Plain types of everything that can be configured.
//!
//! Every type is `PartialEq`, so that a manager can compare the piece it cares about with what it runs, and apply the difference.
//! References between objects are names; [`crate::Config::findings`] says which of them lead nowhere.

mod aaa;
mod access_list;
mod algorithm;
mod context;
mod management;
mod network;
mod pki;
mod pool;
mod resources;
mod service;
mod system;
mod template;

pub use aaa::*;
pub use access_list::*;
pub use algorithm::*;
pub use context::*;
pub use management::*;
pub use network::*;
pub use pki::*;
pub use pool::*;
pub use resources::*;
pub use service::*;
pub use system::*;
pub use template::*;

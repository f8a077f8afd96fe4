//! The messages of every process, one file per process that answers them.
//!
//! Numbers: the high byte is the facility ([`crate::Facility`]), 0x00 is for what several facilities answer; the low byte counts requests from
//! 0x01, link messages from 0x40 and events from 0x80.

pub mod aaamgr;
pub mod certmgr;
pub mod common;
pub mod ipsecmgr;
pub mod rmctrl;
pub mod sct;
pub mod sessmgr;
pub mod sit;
mod slot_map;
pub mod slots;
pub mod vpnmgr;

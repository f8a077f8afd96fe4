//! sessmgr.

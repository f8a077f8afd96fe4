//! certmgr.

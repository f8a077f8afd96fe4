//! aaamgr.

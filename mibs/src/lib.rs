//! mibs.

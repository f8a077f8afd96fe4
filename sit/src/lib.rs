//! sit.

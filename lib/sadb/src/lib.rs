//! sadb.

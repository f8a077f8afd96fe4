//! netio.

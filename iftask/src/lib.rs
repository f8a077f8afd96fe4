//! iftask.

//! sct.

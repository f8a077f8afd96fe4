//! The node itself: killed processes, refused starts, bad input.

#![expect(clippy::expect_used, reason = "tests")]

mod congestion;
mod contexts;
mod gro;
mod hostile;
mod processes;
mod protocol_50;
mod shell;
mod tools;

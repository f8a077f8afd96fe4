//! Two engines talk to each other in memory, over a network that does as it is told.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "the harness of tests fails by panic"
)]

mod auth;
mod bad_input;
mod collisions;
mod first_child;
mod informational;
mod loss;
mod moves;
mod nat;
mod per_resource;
mod records;
mod rekey;
mod restarts;
mod setup;
mod world;

//! starward.
fn main() {}

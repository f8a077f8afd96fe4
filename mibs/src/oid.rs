//! Object identifiers.

use std::fmt;

/// An object identifier, ordered as the MIB is walked.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Oid(Vec<u32>);

impl Oid {
    /// The identifier with these arcs.
    pub fn new(arcs: &[u32]) -> Self {
        Self(arcs.to_vec())
    }

    /// This identifier with more arcs behind it.
    pub fn child(&self, arcs: &[u32]) -> Self {
        Self([&self.0, arcs].concat())
    }

    /// The arcs.
    pub fn arcs(&self) -> &[u32] {
        &self.0
    }

    /// Whether this identifier lies in the subtree of `root`, or is it.
    pub fn is_under(&self, root: &Self) -> bool {
        self.0.starts_with(&root.0)
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let arcs: Vec<_> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&arcs.join("."))
    }
}

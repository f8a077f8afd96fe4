//! Places in a tree.

/// A place in the tree: the commands that lead there, and the objects they named. The root is the empty path.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Path {
    pub(super) steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    /// Mode the command belongs to, and which of its declarations it is.
    pub(super) from: usize,
    pub(super) declaration: usize,
    pub(super) mode: usize,
    pub(super) key: String,
    pub(super) line: String,
}

impl Path {
    /// Is this the root?
    pub fn is_root(&self) -> bool {
        self.steps.is_empty()
    }

    /// How many modes deep.
    pub fn depth(&self) -> usize {
        self.steps.len()
    }

    /// The commands that lead here, outermost first.
    pub fn lines(&self) -> Vec<String> {
        self.steps.iter().map(|step| step.line.clone()).collect()
    }

    /// The keys of the objects on the way, outermost first.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.steps.iter().map(|step| step.key.as_str())
    }

    /// One mode up; `false` at the root.
    pub fn leave(&mut self) -> bool {
        self.steps.pop().is_some()
    }
}

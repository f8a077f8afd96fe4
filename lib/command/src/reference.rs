//! The manual, made from the declarations.

use std::any::Any;
use std::fmt::Write;

use crate::Tree;
use crate::syntax::{self, Node};

/// One command of the manual.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManualEntry {
    /// Its syntax.
    pub syntax: String,
    /// What it does.
    pub help: String,
    /// Its `no` and `default` forms.
    pub forms: Vec<String>,
    /// Its parameters: name, and what they may be.
    pub parameters: Vec<(String, String)>,
}

impl ManualEntry {
    pub(crate) fn new(node: &Node, help: &str) -> Self {
        let mut parameters: Vec<(String, String)> = Vec::new();
        for parameter in syntax::parameters(node) {
            let shown = parameter.shown();
            if parameters.iter().all(|(name, _)| *name != shown) {
                let kind = parameter.kind.describe();
                let meaning = if parameter.help.is_empty() {
                    kind
                } else {
                    format!("{}: {kind}", parameter.help)
                };
                parameters.push((shown, meaning));
            }
        }
        Self {
            syntax: syntax::render(node),
            help: help.to_owned(),
            forms: Vec::new(),
            parameters,
        }
    }

    /// The entry of a command with this syntax (see the [crate]); `None` when nobody may see it.
    pub fn of(declaration: &str, help: &str) -> Option<Self> {
        let node = syntax::parse(declaration).ok()?;
        syntax::is_visible(&node).then(|| Self::new(&node, help))
    }

    /// The entry in markdown; `remark` follows the help.
    pub fn markdown(&self, remark: &str) -> String {
        let mut text = format!("### `{}`\n\n{}.{remark}", self.syntax, self.help);
        if !self.forms.is_empty() {
            let forms: Vec<String> = self.forms.iter().map(|form| format!("`{form}`")).collect();
            let _ = write!(text, " Also {}.", forms.join(", "));
        }
        text.push_str("\n\n");
        for (name, meaning) in &self.parameters {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "- `{name}`: {meaning}");
        }
        if !self.parameters.is_empty() {
            text.push('\n');
        }
        text
    }
}

/// The commands of every mode.
pub fn tree<R: Any>(tree: &Tree<R>) -> String {
    let mut text = String::new();
    for (title, entries) in tree.manual() {
        if entries.is_empty() {
            continue;
        }
        let _ = write!(text, "## {title}\n\n");
        for entry in entries {
            text.push_str(&entry.markdown(""));
        }
    }
    text
}

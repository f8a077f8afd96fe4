//! The manual, made from the declarations.

use std::any::Any;
use std::fmt::Write;

use crate::syntax;
use crate::{Grammar, Tree};

/// The commands of a grammar as a markdown table.
pub fn grammar<A>(title: &str, grammar: &Grammar<A>) -> String {
    let entries: Vec<(String, &str)> = grammar
        .entries()
        .iter()
        .filter(|entry| syntax::is_visible(&entry.node))
        .map(|entry| (syntax::render(&entry.node), entry.help.as_str()))
        .collect();
    section(title, &entries)
}

/// The commands of every mode as markdown tables.
pub fn tree<R: Any>(tree: &Tree<R>) -> String {
    tree.manual()
        .map(|(_, title, entries)| section(title, &entries))
        .collect()
}

fn section(title: &str, entries: &[(String, &str)]) -> String {
    let mut text = format!("## {title}\n\n| command | what it does |\n|---|---|\n");
    for (syntax, help) in entries {
        // `no` and `default` rows would repeat the command's own help.
        let help = if syntax.starts_with("no ") || syntax.starts_with("default ") {
            ""
        } else {
            help
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "| `{}` | {help} |", syntax.replace('|', "\\|"));
    }
    text.push('\n');
    text
}

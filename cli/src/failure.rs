//! What the shell says when a line failed.

use std::io::Write as _;

use crate::terminal;

/// Why a line failed.
pub(crate) enum Failure {
    /// The line itself: the word at fault is pointed at.
    Line(command::Error),
    /// The same, as `sct` said it.
    At(String, Option<usize>),
    /// What the tasks said, one sentence each.
    Sentences(Vec<String>),
}

impl Failure {
    pub(crate) fn sentence(text: impl Into<String>) -> Self {
        Self::At(text.into(), None)
    }

    pub(crate) fn bus(error: bus::BusError) -> Self {
        Self::At(error.to_string(), None)
    }

    /// `Failure: ...`, with a caret under the word at fault where a person types.
    pub(crate) fn print(&self, prompt: &str, line: &str) {
        let (sentences, column) = match self {
            Self::Line(error) => (vec![error.to_string()], error.column()),
            Self::At(text, column) => (vec![text.clone()], *column),
            Self::Sentences(sentences) => (sentences.clone(), None),
        };
        if let Some(column) = column
            && terminal::is_interactive()
        {
            let before = line.get(..column).unwrap_or(line).chars().count();
            let _ = writeln!(
                std::io::stderr(),
                "{}^",
                " ".repeat(prompt.chars().count() + before)
            );
        }
        for sentence in sentences {
            say(&sentence);
        }
    }
}

/// `Failure: ...`. Nobody may be listening any more.
pub(crate) fn say(sentence: &str) {
    let _ = writeln!(std::io::stderr(), "Failure: {}", terminal::harmless(sentence));
}

impl From<command::Error> for Failure {
    fn from(error: command::Error) -> Self {
        Self::Line(error)
    }
}

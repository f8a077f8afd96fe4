//! What can be wrong with a line.

use std::fmt;

/// Why a line was not accepted. `Display` is the sentence after `Failure: `.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// The line or its number of words exceeds a limit.
    TooLong {
        /// Where the limit is passed.
        column: usize,
    },
    /// A quote is not closed.
    OpenQuote {
        /// Where it was opened.
        column: usize,
    },
    /// No command begins with this word.
    UnknownCommand {
        /// Where it stands.
        column: usize,
        /// The word.
        token: String,
    },
    /// A word that does not fit here.
    Unexpected {
        /// Where it stands.
        column: usize,
        /// The word.
        token: String,
        /// What would fit; empty when the command ends here.
        expected: Vec<String>,
    },
    /// An abbreviation of several keywords.
    Ambiguous {
        /// Where it stands.
        column: usize,
        /// The word.
        token: String,
        /// The keywords.
        keywords: Vec<String>,
    },
    /// A parameter is out of range or malformed.
    Value {
        /// Where it stands.
        column: usize,
        /// The word.
        token: String,
        /// What the parameter is, in words: `<mtu>: an integer from 576 to 2048`.
        wanted: String,
    },
    /// The line ends too early.
    Incomplete {
        /// The end of the line.
        column: usize,
        /// What could follow.
        expected: Vec<String>,
    },
    /// A command or keyword of StarOS that this version does not have.
    NotSupported {
        /// Where it stands.
        column: usize,
        /// The words up to and with it.
        what: String,
    },
    /// Well formed, but refused by what it would change.
    Refused {
        /// Where the reason stands, if it is in the line.
        column: Option<usize>,
        /// Why.
        message: String,
    },
    /// The administrator's level is too low.
    NotAuthorized {
        /// The level needed.
        needs: &'static str,
    },
}

impl Error {
    /// A refusal that concerns the whole line.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::Refused {
            column: None,
            message: message.into(),
        }
    }

    /// Offset in the line of what is wrong.
    pub fn column(&self) -> Option<usize> {
        match self {
            Self::TooLong { column }
            | Self::OpenQuote { column }
            | Self::UnknownCommand { column, .. }
            | Self::Unexpected { column, .. }
            | Self::Ambiguous { column, .. }
            | Self::Value { column, .. }
            | Self::Incomplete { column, .. }
            | Self::NotSupported { column, .. } => Some(*column),
            Self::Refused { column, .. } => *column,
            Self::NotAuthorized { .. } => Some(0),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong { .. } => write!(f, "Line too long"),
            Self::OpenQuote { .. } => write!(f, "Quote not closed"),
            Self::UnknownCommand { token, .. } => write!(f, "Unknown command - \"{}\"", shown(token)),
            Self::Unexpected { token, expected, .. } if expected.is_empty() => {
                write!(f, "Unexpected \"{}\": the command ends before it", shown(token))
            }
            Self::Unexpected { token, expected, .. } => {
                write!(f, "Unexpected \"{}\": expected {}", shown(token), list(expected))
            }
            Self::Ambiguous { token, keywords, .. } => {
                write!(f, "Ambiguous \"{}\": {}", shown(token), list(keywords))
            }
            Self::Value { token, wanted, .. } => write!(f, "\"{}\" is not {wanted}", shown(token)),
            Self::Incomplete { expected, .. } => write!(f, "Incomplete command: expected {}", list(expected)),
            Self::NotSupported { what, .. } => write!(f, "not supported: {}", shown(what)),
            Self::Refused { message, .. } => f.write_str(message),
            Self::NotAuthorized { needs } => write!(f, "Not authorized: this command needs level {needs}"),
        }
    }
}

impl std::error::Error for Error {}

/// Longest part of a wrong word that is repeated in a message, in characters.
const MAX_SHOWN: usize = 64;
/// Most alternatives that a message lists.
const MAX_LISTED: usize = 12;

/// A word as a message may repeat it: cut and without control characters.
fn shown(token: &str) -> String {
    let mut text: String = token
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(MAX_SHOWN)
        .collect();
    if token.chars().count() > MAX_SHOWN {
        text.push_str("...");
    }
    text
}

/// `a`, `a or b`, `a, b or c`, `a, b, ...`.
fn list(items: &[String]) -> String {
    match items {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        _ if items.len() > MAX_LISTED => {
            let first: Vec<&str> = items.iter().take(MAX_LISTED).map(String::as_str).collect();
            format!("{}, ...", first.join(", "))
        }
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_read_like_sentences() {
        let items = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(list(&items(&["a"])), "a");
        assert_eq!(list(&items(&["a", "b", "c"])), "a, b or c");
        assert!(list(&items(&["x"; 20])).ends_with(", ..."));
    }

    #[test]
    fn control_characters_are_not_repeated() {
        let error = Error::UnknownCommand {
            column: 0,
            token: "a\u{1b}[2Jb".to_owned(),
        };
        assert_eq!(error.to_string(), "Unknown command - \"a?[2Jb\"");
    }
}

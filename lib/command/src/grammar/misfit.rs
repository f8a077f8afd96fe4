//! What is said of a line that fits no command.

use super::Grammar;
use crate::Error;
use crate::kind::Kind;
use crate::machine::{Leaf, Move, Thread};
use crate::syntax::{Class, Parameter};
use crate::token::Token;

impl<A> Grammar<A> {
    /// No command goes on with this word: says what would have fitted.
    pub(super) fn misfit(
        &self,
        threads: &[Thread<'_>],
        moves: &[Move<'_, '_>],
        token: &Token,
        first: bool,
    ) -> Error {
        let column = token.start;
        if first {
            return Error::UnknownCommand {
                column,
                token: token.text.clone(),
            };
        }
        let mut parameters: Vec<&Parameter> = Vec::new();
        let mut only_parameters = true;
        for one in moves {
            match one.leaf {
                Leaf::Parameter(parameter) if !parameters.contains(&parameter) => parameters.push(parameter),
                Leaf::Word(word) if word.class == Class::Plain => only_parameters = false,
                _ => {}
            }
        }
        match parameters.as_slice() {
            [only] if only_parameters => Error::Value {
                column,
                token: if matches!(only.kind, Kind::Secret(_)) {
                    "***".to_owned()
                } else {
                    token.text.clone()
                },
                wanted: format!("{} ({})", only.kind.describe(), only.shown()),
            },
            _ => Error::Unexpected {
                column,
                token: token.text.clone(),
                expected: self.expected(threads),
            },
        }
    }

    /// What may follow, for messages.
    pub(super) fn expected(&self, threads: &[Thread<'_>]) -> Vec<String> {
        let mut expected: Vec<String> = Vec::new();
        for (leaf, _) in threads.iter().flat_map(|thread| thread.state.next().leaves) {
            let text = match leaf {
                Leaf::Word(word) if word.class == Class::Plain => word.text.clone(),
                Leaf::Word(_) => continue,
                Leaf::Parameter(parameter) => {
                    format!("{} ({})", parameter.shown(), parameter.kind.describe())
                }
            };
            if !expected.contains(&text) {
                expected.push(text);
            }
        }
        expected
    }
}

pub(super) fn not_supported(token: &Token, tokens: &[Token]) -> Error {
    let words: Vec<&str> = tokens
        .iter()
        .take_while(|other| other.start <= token.start)
        .map(|other| other.text.as_str())
        .collect();
    Error::NotSupported {
        column: token.start,
        what: words.join(" "),
    }
}

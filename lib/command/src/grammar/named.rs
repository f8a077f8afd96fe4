//! Which command a line means, whatever is wrong with the rest of it.

use super::{Grammar, abbreviates};
use crate::machine::{Frame, Leaf, State};
use crate::syntax::{Class, Node};
use crate::token::Token;

impl<A> Grammar<A> {
    /// The commands whose keywords a line begins with, whatever is wrong with the rest of it, and how many keywords these are. Those that
    /// know most of the line, and of them those that it names in full.
    pub(crate) fn named(&self, tokens: &[Token]) -> Option<(usize, Vec<&A>)> {
        let scores: Vec<((usize, usize), &A)> = self
            .entries
            .iter()
            .filter_map(|entry| Some((keywords_of(&entry.node, tokens)?, &entry.action)))
            .collect();
        let best = scores.iter().map(|(score, _)| *score).max()?;
        let named = scores.into_iter().filter(|(score, _)| *score == best);
        Some((best.0, named.map(|(_, action)| action).collect()))
    }
}

/// With how many keywords of a command the words begin, and how many of them are written in full; `None` when they do not name the command.
fn keywords_of(node: &Node, tokens: &[Token]) -> Option<(usize, usize)> {
    let mut state = State(vec![Frame::Node(node)]);
    let (mut words, mut in_full) = (0, 0);
    for token in tokens.iter().take_while(|token| !token.quoted) {
        let keywords = || {
            state
                .next()
                .leaves
                .into_iter()
                .filter_map(|(leaf, rest)| match leaf {
                    Leaf::Word(word) => Some((word, rest)),
                    Leaf::Parameter(_) => None,
                })
        };
        let exact = keywords().find(|(word, _)| word.text.eq_ignore_ascii_case(&token.text));
        in_full += usize::from(exact.is_some());
        let abbreviated = || {
            keywords().find(|(word, _)| word.class != Class::Hidden && abbreviates(&word.text, &token.text))
        };
        let Some((_, rest)) = exact.or_else(abbreviated) else {
            break;
        };
        state = rest;
        words += 1;
    }
    (words > 0 && state.is_end_or_value()).then_some((words, in_full))
}

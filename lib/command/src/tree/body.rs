//! What belongs to a line that was refused: when it would have led into a mode, the lines up to the end of that mode.

use std::any::Any;

use super::{Path, Rule, Tree};
use crate::token::tokenize;

/// A mode that a refused line would have led into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Body(Kind);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A mode of the tree.
    Known(usize),
    /// A mode that this version does not have, of which only these commands are known: they lead to further ones.
    Missing(&'static [&'static str]),
}

impl<R: Any> Tree<R> {
    /// The mode that a line, refused at `path`, would have led into. The line is known by the keywords it begins with; the mode that knows
    /// most of them decides, the inner one when they are even.
    pub fn body(&self, path: &Path, line: &str) -> Option<Body> {
        let mut best: Option<(usize, Option<Body>)> = None;
        for depth in (0..=path.steps.len()).rev() {
            let mode = depth
                .checked_sub(1)
                .and_then(|last| path.steps.get(last))
                .map_or(0, |step| step.mode);
            let Some((words, body)) = self.named(mode, line) else {
                continue;
            };
            if best.is_none_or(|(most, _)| words > most) {
                best = Some((words, body));
            }
        }
        best?.1
    }

    /// The further mode that a line inside of such a mode leads into.
    pub fn nested(&self, body: Body, line: &str) -> Option<Body> {
        match body.0 {
            Kind::Known(mode) => self.named(mode, line)?.1,
            Kind::Missing(commands) => commands
                .iter()
                .any(|command| begins_with(line, command))
                .then_some(Body(Kind::Missing(&[]))),
        }
    }

    /// How many keywords of a command of this mode the line begins with, and the mode that command leads into. A line that fits a command as a
    /// whole is that command, however few keywords it has.
    fn named(&self, mode: usize, line: &str) -> Option<(usize, Option<Body>)> {
        let mode = self.modes.get(mode)?;
        let leads_to = |rule: &Rule| {
            let Rule::Set(index) = rule else { return None };
            let declaration = mode.declarations.get(*index)?;
            match (&declaration.enter, declaration.missing_mode) {
                (Some(enter), _) => Some(Body(Kind::Known(*self.names.get(enter.mode)?))),
                (None, Some(nested)) => Some(Body(Kind::Missing(nested))),
                (None, None) => None,
            }
        };
        let tokens = tokenize(line).ok()?;
        if let Ok(fits) = mode.grammar.parse_tokens(&tokens, line.len()) {
            return Some((usize::MAX, leads_to(fits.action)));
        }
        let (words, rules) = mode.grammar.named(&tokens)?;
        let mut bodies = rules.into_iter().map(leads_to);
        // Where the keywords leave several commands open, nothing is known about the line.
        let first = bodies.next()?;
        let same = bodies.all(|other| other == first);
        Some((words, first.filter(|_| same)))
    }
}

fn begins_with(line: &str, command: &str) -> bool {
    let mut words = line.split_whitespace();
    command
        .split_whitespace()
        .all(|wanted| words.next().is_some_and(|word| word.eq_ignore_ascii_case(wanted)))
}

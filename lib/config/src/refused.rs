//! The lines that belong to a refused one.
//!
//! A file closes its modes with `#exit` or `exit`, indented in any way or not at all. So the end of a mode that was refused is found by two
//! things together: how deep its lines are indented, and what the command table knows of modes.

use command::Body;

use crate::tree;

/// A refused line, and the modes that are open in what follows it.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Number of the line.
    pub(crate) line: usize,
    /// The refused line itself first; empty when its mode was closed.
    open: Vec<Open>,
    /// Indentation of the line before.
    last: usize,
    /// A line deeper than the refused one was seen: from then on, one that is not deeper belongs no more.
    indented: bool,
}

#[derive(Debug)]
struct Open {
    indentation: usize,
    /// The mode, as far as the table knows it; otherwise only the indentation says that there is one.
    body: Option<Body>,
}

impl Refused {
    pub(crate) fn new(line: usize, indentation: usize, body: Option<Body>) -> Self {
        Self {
            line,
            open: vec![Open { indentation, body }],
            last: indentation,
            indented: false,
        }
    }

    /// Does this line belong to the refused one? When not, neither does any after it.
    pub(crate) fn takes(&mut self, indentation: usize, line: &str) -> bool {
        let Some(first) = self.open.first() else {
            return false;
        };
        let (own, is_mode) = (first.indentation, first.body.is_some());
        if indentation < own || (indentation == own && (self.indented || !is_mode)) {
            return false;
        }
        self.indented |= indentation > own;
        let innermost = |open: &[Open]| open.last().map_or(own, |open| open.indentation);
        if indentation > self.last && innermost(&self.open) != self.last {
            // The line before had deeper ones: it began a mode.
            self.open.push(Open {
                indentation: self.last,
                body: None,
            });
        }
        while indentation < self.last && self.open.len() > 1 && innermost(&self.open) >= indentation {
            self.open.pop();
        }
        let around = self.open.last().and_then(|open| open.body);
        if let Some(body) = around.and_then(|body| tree().nested(body, line)) {
            self.open.push(Open {
                indentation,
                body: Some(body),
            });
        }
        self.last = indentation;
        true
    }

    /// Does this `exit` or (with a `#`) `#exit` close something that belongs to the refused line? When not, nothing after it belongs.
    pub(crate) fn takes_exit(&mut self, indentation: usize, with_hash: bool) -> bool {
        let Some(first) = self.open.first() else {
            return false;
        };
        let own = first.indentation;
        // `#exit` is printed where the mode began, so that it closes even a mode nobody knows. At the margin that says nothing.
        let known = first.body.is_some() || self.indented || (with_hash && own > 0);
        if indentation < own || (indentation == own && !known) {
            return false;
        }
        self.indented |= indentation > own;
        while indentation < self.last
            && self.open.len() > 1
            && self
                .open
                .last()
                .is_some_and(|open| open.indentation > indentation)
        {
            self.open.pop();
        }
        // Deeper than a line that began nothing so far: that line began an empty mode.
        let closes_the_line_before =
            indentation > self.last && self.open.last().is_some_and(|open| open.indentation != self.last);
        if !closes_the_line_before {
            self.open.pop();
        }
        self.last = indentation;
        true
    }
}

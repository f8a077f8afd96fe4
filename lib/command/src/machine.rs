//! Following several syntaxes at once, word by word.

use crate::args::{Args, Item};
use crate::kind::Kind;
use crate::syntax::{Node, Parameter, Word};
use crate::token::Token;

/// A command that still fits, how far it has come, and what it took.
#[derive(Debug, Clone)]
pub(crate) struct Thread<'t> {
    pub(crate) entry: usize,
    pub(crate) state: State<'t>,
    pub(crate) args: Args<'t>,
}

/// What is left of a syntax, the next piece last.
#[derive(Debug, Clone)]
pub(crate) struct State<'t>(pub(crate) Vec<Frame<'t>>);

#[derive(Debug, Clone, Copy)]
pub(crate) enum Frame<'t> {
    Node(&'t Node),
    /// Options of which those in the mask are used up.
    Options(&'t [Node], u64),
    /// May come so many times more.
    Again(&'t Node, u16),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Leaf<'t> {
    Word(&'t Word),
    Parameter(&'t Parameter),
}

/// What can come next: each word or value with what would be left after it.
pub(crate) struct Next<'t> {
    pub(crate) leaves: Vec<(Leaf<'t>, State<'t>)>,
    pub(crate) end: bool,
}

pub(crate) struct Move<'t, 'a> {
    pub(crate) thread: &'a Thread<'t>,
    pub(crate) leaf: Leaf<'t>,
    pub(crate) state: State<'t>,
}

impl<'t> State<'t> {
    pub(crate) fn next(&self) -> Next<'t> {
        let mut next = Next {
            leaves: Vec::new(),
            end: false,
        };
        self.clone().expand(&mut next);
        next
    }

    fn expand(mut self, next: &mut Next<'t>) {
        let Some(frame) = self.0.pop() else {
            next.end = true;
            return;
        };
        match frame {
            Frame::Node(Node::Word(word)) => next.leaves.push((Leaf::Word(word), self)),
            Frame::Node(Node::Parameter(parameter)) => next.leaves.push((Leaf::Parameter(parameter), self)),
            Frame::Node(Node::Sequence(nodes)) => {
                self.0.extend(nodes.iter().rev().map(Frame::Node));
                self.expand(next);
            }
            Frame::Node(Node::Choice(nodes)) => {
                for node in nodes {
                    self.with(&[Frame::Node(node)]).expand(next);
                }
            }
            Frame::Node(Node::Options(nodes)) => self.options(nodes, 0, next),
            Frame::Options(nodes, used) => self.options(nodes, used, next),
            Frame::Node(Node::Repeat(node, times)) => {
                self.with(&[Frame::Again(node, times - 1), Frame::Node(node)])
                    .expand(next);
            }
            Frame::Again(node, times) => {
                if times > 0 {
                    self.with(&[Frame::Again(node, times - 1), Frame::Node(node)])
                        .expand(next);
                }
                self.expand(next);
            }
        }
    }

    fn options(self, nodes: &'t [Node], used: u64, next: &mut Next<'t>) {
        for (position, node) in nodes.iter().enumerate().take(64) {
            let bit = 1 << position;
            if used & bit == 0 {
                self.with(&[Frame::Options(nodes, used | bit), Frame::Node(node)])
                    .expand(next);
            }
        }
        self.expand(next);
    }

    fn with(&self, frames: &[Frame<'t>]) -> Self {
        let mut state = self.clone();
        state.0.extend_from_slice(frames);
        state
    }

    /// Nothing or a value comes next: the word before is the one that names the command.
    pub(crate) fn is_end_or_value(&self) -> bool {
        let next = self.next();
        next.end
            || next
                .leaves
                .iter()
                .any(|(leaf, _)| matches!(leaf, Leaf::Parameter(_)))
    }
}

pub(crate) fn take<'t>(moves: &[&Move<'t, '_>], token: &Token) -> Vec<Thread<'t>> {
    moves
        .iter()
        .map(|one| {
            let mut args = one.thread.args.clone();
            args.items.push(match one.leaf {
                Leaf::Word(word) => Item::Word { word: &word.text },
                Leaf::Parameter(parameter) => Item::Value {
                    name: &parameter.name,
                    value: token.text.clone(),
                    column: token.start,
                    quoted: token.quoted,
                    secret: matches!(parameter.kind, Kind::Secret(_)),
                },
            });
            Thread {
                entry: one.thread.entry,
                state: one.state.clone(),
                args,
            }
        })
        .collect()
}

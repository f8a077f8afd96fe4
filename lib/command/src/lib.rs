//! The machinery of command declarations: parse, abbreviate, help, complete, render.
//!
//! A command is declared once, as data: its syntax with help texts ([`Grammar`] for exec commands, [`Command`] in a [`Tree`] of modes
//! for configuration), its `no` and `default` forms, what it sets and how it is printed. Parsing with unique abbreviations, errors that
//! point at a word, `?`, Tab, `show configuration` and the manual ([`mod@reference`]) follow from that. No input or output happens here.
//!
//! # Syntax
//! ```text
//! keyword'help'          a keyword and what `?` says about it
//! !keyword               a keyword of StarOS that is answered with "not supported"
//! ~keyword               accepted when written in full, but not shown (old spellings)
//! <name:kind'help'>      a parameter, see [`Kind`]
//! { a | b }              one of them
//! [ a ] [ b ]            each at most once, neighbours in any order
//! item*4                 the item one to four times
//! ```

mod args;
mod declaration;
mod error;
mod grammar;
mod keyword;
mod kind;
mod lines;
mod machine;
mod pipe;
pub mod reference;
mod syntax;
mod token;
mod tree;

pub use args::Args;
pub use declaration::{Command, Lens};
pub use error::Error;
pub use grammar::{Completion, END_OF_LINE, Grammar, Match, Suggestion};
pub use keyword::Keyword;
pub use kind::Kind;
pub use lines::Lines;
pub use pipe::{Filter, complete_after_pipe, help_after_pipe, pipeline};
pub use token::{MAX_LINE, MAX_TOKENS, Token, is_remark, quote, split_pipe, tokenize};
pub use tree::{Body, ModeBuilder, Outcome, Path, Tree};

//! Declaring the commands of a mode.

use std::any::Any;

use super::{Declaration, ModeBuilder, Rule};
use crate::{Command, Lines};

impl<T: Any> ModeBuilder<'_, T> {
    /// Adds a command. `show configuration` prints in the order of the declarations.
    pub fn add(&mut self, command: Command<T>) -> &mut Self {
        let index = self.mode.declarations.len();
        let grammar = &mut self.mode.grammar;
        grammar.add(&command.syntax, command.help, Rule::Set(index));
        if let Some(no) = &command.no {
            grammar.add(&format!("no {no}"), command.help, Rule::Unset(index));
        }
        if command.no.is_some() && command.unset.is_some() {
            // What `show configuration` prints can be removed as it stands, also where `no` needs less.
            grammar.add(&format!("~no {}", command.syntax), "", Rule::Unset(index));
        }
        if let Some(default) = &command.default {
            grammar.add(&format!("default {default}"), command.help, Rule::Reset(index));
        }
        self.mode.declarations.push(Declaration {
            set: command.set,
            unset: command.unset,
            reset: command.reset,
            show: command.show,
            enter: command.enter,
            missing_mode: command.missing_mode,
        });
        self
    }

    /// Lines that `show configuration` prints at this place, for settings that several commands share.
    pub fn print(&mut self, show: impl Fn(&T, &mut Lines) + Send + Sync + 'static) -> &mut Self {
        let command = Command::<T>::new("", "").show(show);
        self.mode.declarations.push(Declaration {
            set: None,
            unset: None,
            reset: None,
            show: command.show,
            enter: None,
            missing_mode: None,
        });
        self
    }

    /// Adds commands of StarOS that this version does not have.
    pub fn unsupported(&mut self, commands: &[&str]) -> &mut Self {
        for words in commands {
            self.add(Command::unsupported(words));
            self.add(Command::unsupported(&format!("no {words}")));
            self.add(Command::unsupported(&format!("default {words}")));
        }
        self
    }

    /// Adds commands of StarOS that lead to a mode this version does not have, as syntaxes (`crypto !map`), each with the commands of that
    /// mode that lead on to further ones. [`Tree::body`](super::Tree::body) tells what belongs to them.
    pub fn unsupported_modes(&mut self, commands: &[(&str, &'static [&'static str])]) -> &mut Self {
        for (syntax, nested) in commands {
            self.add(Command::new(*syntax, "").missing_mode(nested));
            self.add(Command::new(format!("no {syntax}"), ""));
            self.add(Command::new(format!("default {syntax}"), ""));
        }
        self
    }

    /// Explains a keyword that several commands share.
    pub fn explain(&mut self, word: &str, help: &str) -> &mut Self {
        self.mode.grammar.explain(word, help);
        self
    }
}

//! What a tree says about a line that is not applied.

use std::any::Any;

use super::{Path, Rule, Tree};
use crate::{Args, Completion, Error, Suggestion};

impl<R: Any> Tree<R> {
    /// The answer to `?` at `path` (see [`Grammar::help`]).
    ///
    /// # Errors
    /// What is wrong with the words before.
    pub fn help(&self, path: &Path, line: &str) -> Result<Vec<Suggestion>, Error> {
        self.mode_at(path, path.steps.len())?.grammar.help(line)
    }

    /// The answer to the Tab key at `path`: keywords, and where a mode is entered or removed the objects there are.
    pub fn complete(&self, root: &R, path: &Path, line: &str) -> Completion {
        let Ok(mode) = self.mode_at(path, path.steps.len()) else {
            return Completion {
                start: line.len(),
                words: Vec::new(),
            };
        };
        let mut completion = mode.grammar.complete(line);
        let Some(object) = self.object(root, path) else {
            return completion;
        };
        for (rule, _) in mode.grammar.parameters(line) {
            let (Rule::Set(index) | Rule::Unset(index) | Rule::Reset(index)) = rule else {
                continue;
            };
            let declaration = mode.declarations.get(*index);
            if let Some(enter) = declaration.and_then(|declaration| declaration.enter.as_ref()) {
                completion.add(line, (enter.list)(object).into_iter().map(|(key, _)| key));
            }
        }
        completion
    }

    /// Does the line hold a plain secret? Lines that do belong in no history.
    pub fn has_plain_secret(&self, path: &Path, line: &str) -> bool {
        self.says(path, line).any(|args| args.has_plain_secret())
    }

    /// Does the line, at `path`, hold this keyword, be it abbreviated?
    pub fn has_keyword(&self, path: &Path, line: &str, keyword: &str) -> bool {
        self.says(path, line).any(|args| args.has(keyword))
    }

    /// What a line says in the mode at `path` and those around it, as far as it fits them.
    fn says<'a>(&'a self, path: &'a Path, line: &'a str) -> impl Iterator<Item = Args<'a>> {
        (0..=path.steps.len()).rev().filter_map(move |depth| {
            let mode = self.mode_at(path, depth).ok()?;
            mode.grammar.parse(line).ok().map(|found| found.args)
        })
    }
}

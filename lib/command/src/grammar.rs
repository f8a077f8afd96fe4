//! A set of commands, and the matching of lines against it.

mod misfit;
mod named;

use std::collections::BTreeMap;

use crate::Error;
use crate::args::Args;
use crate::machine::{Frame, Leaf, Move, State, Thread, take};
use crate::syntax::{self, Class, Node, Parameter, Word};
use crate::token::{Token, tokenize};
use misfit::not_supported;

/// The commands of a mode, each with what it means to the owner of the table.
#[derive(Debug)]
pub struct Grammar<A> {
    entries: Vec<Entry<A>>,
    glossary: BTreeMap<String, String>,
    defects: Vec<String>,
}

/// One command.
#[derive(Debug)]
pub(crate) struct Entry<A> {
    pub(crate) node: Node,
    pub(crate) help: String,
    pub(crate) action: A,
}

/// A line that fits a command.
#[derive(Debug)]
pub struct Match<'t, A> {
    /// The command.
    pub action: &'t A,
    /// What the line said.
    pub args: Args<'t>,
}

/// One line of the answer to `?`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Suggestion {
    /// Keyword, `<parameter>` or `<cr>`.
    pub word: String,
    /// What it is.
    pub help: String,
}

/// The answer to the Tab key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Completion {
    /// Offset in the line of the word to complete.
    pub start: usize,
    /// The keywords and names that fit, sorted.
    pub words: Vec<String>,
}

/// What `?` shows where the line may end.
pub const END_OF_LINE: &str = "<cr>";

impl Completion {
    /// Adds names that fit the word to complete.
    pub fn add(&mut self, line: &str, names: impl IntoIterator<Item = String>) {
        let partial = line.get(self.start..).unwrap_or_default();
        let fitting = names.into_iter().filter(|name| name.starts_with(partial));
        self.words.extend(fitting);
        self.words.sort();
        self.words.dedup();
    }
}

impl<A> Default for Grammar<A> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            glossary: BTreeMap::new(),
            defects: Vec::new(),
        }
    }
}

impl<A> Grammar<A> {
    /// Adds a command. A syntax that cannot be read is kept in [`Grammar::defects`] instead.
    pub fn add(&mut self, syntax: &str, help: &str, action: A) {
        match syntax::parse(syntax) {
            Ok(node) => {
                // A keyword explained in one command is explained in its `no` form too.
                for word in syntax::words(&node) {
                    if !word.help.is_empty() && !self.glossary.contains_key(&word.text) {
                        self.glossary.insert(word.text.clone(), word.help.clone());
                    }
                }
                self.entries.push(Entry {
                    node,
                    help: help.to_owned(),
                    action,
                });
            }
            Err(defect) => self.defects.push(format!("{syntax}: {defect}")),
        }
    }

    /// Explains a keyword that several commands begin with or share.
    pub fn explain(&mut self, word: &str, help: &str) {
        self.glossary.insert(word.to_owned(), help.to_owned());
    }

    /// Declarations that could not be read, and keywords nobody explains. A test asserts that there are none.
    pub fn defects(&self) -> Vec<String> {
        let mut defects = self.defects.clone();
        for entry in self
            .entries
            .iter()
            .filter(|entry| syntax::is_visible(&entry.node))
        {
            let mut seen = Vec::new();
            for word in syntax::words(&entry.node) {
                if word.class == Class::Plain
                    && word.help.is_empty()
                    && !self.glossary.contains_key(&word.text)
                    && !seen.contains(&&word.text)
                {
                    seen.push(&word.text);
                }
            }
            // The last keyword before the parameters is explained by the command's own help.
            let own = syntax::leading_words(&entry.node);
            seen.retain(|text| own.last() != Some(&text.as_str()));
            defects.extend(
                seen.iter()
                    .map(|text| format!("{}: '{text}' is not explained", syntax::render(&entry.node))),
            );
        }
        defects
    }

    /// Finds the command that a line means.
    ///
    /// # Errors
    /// What is wrong with the line, and where.
    pub fn parse(&self, line: &str) -> Result<Match<'_, A>, Error> {
        let tokens = tokenize(line)?;
        self.parse_tokens(&tokens, line.trim_end().len())
    }

    /// Like [`Grammar::parse`], for a line that is already split; `end` is its length.
    pub(crate) fn parse_tokens(&self, tokens: &[Token], end: usize) -> Result<Match<'_, A>, Error> {
        let threads = self.run(tokens)?;
        let done = threads.iter().find(|thread| thread.state.next().end);
        let Some(thread) = done else {
            let expected = self.expected(&threads);
            return Err(match tokens.last() {
                // Whatever could follow is not supported.
                Some(last) if expected.is_empty() => not_supported(last, tokens),
                _ => Error::Incomplete {
                    column: end,
                    expected,
                },
            });
        };
        let entry = self.entries.get(thread.entry).ok_or(Error::Incomplete {
            column: end,
            expected: Vec::new(),
        })?;
        Ok(Match {
            action: &entry.action,
            args: thread.args.clone(),
        })
    }

    /// The answer to `?` at the end of a line: what may follow, or how the last word may go on.
    ///
    /// # Errors
    /// What is wrong with the words before.
    pub fn help(&self, line: &str) -> Result<Vec<Suggestion>, Error> {
        let (before, partial, _) = split_partial(line)?;
        let threads = self.run(&before)?;
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut keywords: BTreeMap<&str, Vec<(&Word, &str, bool)>> = BTreeMap::new();
        for thread in threads.iter().filter(|thread| self.is_visible(thread)) {
            let next = thread.state.next();
            let command = self
                .entries
                .get(thread.entry)
                .map_or("", |entry| entry.help.as_str());
            for (leaf, rest) in &next.leaves {
                match leaf {
                    Leaf::Word(word) if word.class == Class::Plain && fits(&word.text, &partial) => {
                        let known = keywords.entry(&word.text).or_default();
                        known.push((word, command, rest.is_end_or_value()));
                    }
                    Leaf::Parameter(parameter)
                        if partial.is_empty()
                            || parameter.kind.is_free_text()
                            || parameter.kind.accepts(&partial) =>
                    {
                        found
                            .entry(parameter.shown())
                            .or_insert_with(|| help_of_parameter(parameter));
                    }
                    _ => {}
                }
            }
            if next.end && partial.is_empty() {
                found.insert(END_OF_LINE.to_owned(), "Ends the command".to_owned());
            }
        }
        for (word, uses) in keywords {
            found.insert(word.to_owned(), self.help_of_keyword(word, &uses));
        }
        Ok(found
            .into_iter()
            .map(|(word, help)| Suggestion { word, help })
            .collect())
    }

    /// The answer to the Tab key at the end of a line. Nothing fits a line that is already wrong.
    pub fn complete(&self, line: &str) -> Completion {
        let Ok((before, partial, start)) = split_partial(line) else {
            return Completion {
                start: line.len(),
                words: Vec::new(),
            };
        };
        let threads = self.run(&before).unwrap_or_default();
        let mut words: Vec<String> = threads
            .iter()
            .filter(|thread| self.is_visible(thread))
            .flat_map(|thread| thread.state.next().leaves)
            .filter_map(|(leaf, _)| match leaf {
                Leaf::Word(word) if word.class == Class::Plain && fits(&word.text, &partial) => {
                    Some(word.text.clone())
                }
                _ => None,
            })
            .collect();
        words.sort();
        words.dedup();
        Completion { start, words }
    }

    /// The parameters that the last word of a line can be: the command of each and its name. Nothing fits a line that is already wrong.
    pub fn parameters(&self, line: &str) -> Vec<(&A, &str)> {
        let Ok((before, _, _)) = split_partial(line) else {
            return Vec::new();
        };
        let threads = self.run(&before).unwrap_or_default();
        let mut found = Vec::new();
        for thread in &threads {
            let Some(entry) = self.entries.get(thread.entry) else {
                continue;
            };
            for (leaf, _) in thread.state.next().leaves {
                if let Leaf::Parameter(parameter) = leaf {
                    found.push((&entry.action, parameter.name.as_str()));
                }
            }
        }
        found
    }

    pub(crate) fn entries(&self) -> &[Entry<A>] {
        &self.entries
    }

    /// Runs the words through every command at once; the result is what is still possible.
    fn run(&self, tokens: &[Token]) -> Result<Vec<Thread<'_>>, Error> {
        let mut threads: Vec<Thread<'_>> = self
            .entries
            .iter()
            .enumerate()
            .map(|(entry, command)| Thread {
                entry,
                state: State(vec![Frame::Node(&command.node)]),
                args: Args::default(),
            })
            .collect();
        for (position, token) in tokens.iter().enumerate() {
            threads = self.step(&threads, token, position == 0, tokens)?;
        }
        Ok(threads)
    }

    /// One word further. Order of preference: a keyword in full, a value that is no free text, the abbreviation of one keyword, free text.
    fn step<'t>(
        &'t self,
        threads: &[Thread<'t>],
        token: &Token,
        first: bool,
        tokens: &[Token],
    ) -> Result<Vec<Thread<'t>>, Error> {
        let moves: Vec<Move<'t, '_>> = threads
            .iter()
            .flat_map(|thread| {
                thread
                    .state
                    .next()
                    .leaves
                    .into_iter()
                    .map(move |(leaf, state)| Move { thread, leaf, state })
            })
            .collect();
        let choose = |wanted: &dyn Fn(&Leaf<'t>) -> bool| -> Vec<&Move<'t, '_>> {
            moves.iter().filter(|one| wanted(&one.leaf)).collect()
        };
        let not_quoted = !token.quoted;

        let exact = choose(&|leaf| {
            not_quoted
                && matches!(leaf, Leaf::Word(word) if word.class != Class::Unsupported && word.text.eq_ignore_ascii_case(&token.text))
        });
        if !exact.is_empty() {
            return Ok(take(&exact, token));
        }
        let unsupported = choose(&|leaf| {
            not_quoted
                && matches!(leaf, Leaf::Word(word) if word.class == Class::Unsupported && word.text.eq_ignore_ascii_case(&token.text))
        });
        if !unsupported.is_empty() {
            return Err(not_supported(token, tokens));
        }
        let typed = choose(
            &|leaf| matches!(leaf, Leaf::Parameter(parameter) if !parameter.kind.is_free_text() && parameter.kind.accepts(&token.text)),
        );
        if !typed.is_empty() {
            return Ok(take(&typed, token));
        }
        let abbreviated = choose(&|leaf| {
            not_quoted
                && matches!(leaf, Leaf::Word(word) if word.class == Class::Plain && abbreviates(&word.text, &token.text))
        });
        let keywords = distinct_words(&abbreviated);
        if keywords.len() == 1 {
            return Ok(take(&abbreviated, token));
        }
        let free = choose(
            &|leaf| matches!(leaf, Leaf::Parameter(parameter) if parameter.kind.is_free_text() && parameter.kind.accepts(&token.text)),
        );
        if !free.is_empty() {
            return Ok(take(&free, token));
        }
        if !keywords.is_empty() {
            return Err(Error::Ambiguous {
                column: token.start,
                token: token.text.clone(),
                keywords,
            });
        }
        let unsupported = choose(&|leaf| {
            not_quoted
                && matches!(leaf, Leaf::Word(word) if word.class == Class::Unsupported && abbreviates(&word.text, &token.text))
        });
        if distinct_words(&unsupported).len() == 1 {
            return Err(not_supported(token, tokens));
        }
        if self.expected(threads).is_empty() && !threads.iter().any(|thread| thread.state.next().end) {
            // Nothing that could stand here is supported.
            return Err(not_supported(token, tokens));
        }
        Err(self.misfit(threads, &moves, token, first))
    }

    fn is_visible(&self, thread: &Thread<'_>) -> bool {
        self.entries
            .get(thread.entry)
            .is_some_and(|entry| syntax::is_visible(&entry.node))
    }

    /// What a keyword says about itself; else, if one command goes on with it, what that command does, and if several do, what the glossary
    /// says. Each use: the keyword, its command's help, and whether the command's name ends with it.
    fn help_of_keyword(&self, word: &str, uses: &[(&Word, &str, bool)]) -> String {
        let own = uses
            .iter()
            .map(|(word, _, _)| word.help.as_str())
            .find(|help| !help.is_empty());
        let glossary = self.glossary.get(word).map(String::as_str);
        let command = uses
            .first()
            .map(|(_, help, _)| *help)
            .filter(|help| !help.is_empty());
        let names_the_command = matches!(uses, [(_, _, true)]);
        let help = match names_the_command {
            true => own.or(command).or(glossary),
            false => own.or(glossary).or(command),
        };
        help.unwrap_or_default().to_owned()
    }
}

fn distinct_words(moves: &[&Move<'_, '_>]) -> Vec<String> {
    let mut words: Vec<String> = moves
        .iter()
        .filter_map(|one| match one.leaf {
            Leaf::Word(word) => Some(word.text.clone()),
            Leaf::Parameter(_) => None,
        })
        .collect();
    words.sort();
    words.dedup();
    words
}

/// Numbers are not abbreviated: `group 3` must not mean 31.
fn abbreviates(word: &str, beginning: &str) -> bool {
    !word.starts_with(|c: char| c.is_ascii_digit()) && fits(word, beginning)
}

fn fits(word: &str, beginning: &str) -> bool {
    word.get(..beginning.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(beginning))
}

/// The words before the one under way, that word, and where it starts.
fn split_partial(line: &str) -> Result<(Vec<Token>, String, usize), Error> {
    let mut tokens = tokenize(line)?;
    if line.ends_with(char::is_whitespace) || tokens.is_empty() {
        return Ok((tokens, String::new(), line.len()));
    }
    Ok(match tokens.pop() {
        Some(last) => (tokens, last.text, last.start),
        None => (tokens, String::new(), line.len()),
    })
}

fn help_of_parameter(parameter: &Parameter) -> String {
    let kind = parameter.kind.describe();
    if parameter.help.is_empty() {
        let mut letters = kind.chars();
        letters
            .next()
            .map(|first| first.to_uppercase().chain(letters).collect())
            .unwrap_or_default()
    } else {
        format!("{}: {kind}", parameter.help)
    }
}

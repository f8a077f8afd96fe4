//! A tree of modes over a tree of objects: the configuration.

mod asking;
mod body;
mod builder;
mod path;

use std::any::Any;
use std::collections::BTreeMap;
use std::marker::PhantomData;

pub use body::Body;
pub use path::Path;

use crate::declaration::{Enter, Setter, Shower};
use crate::grammar::Grammar;
use crate::reference::ManualEntry;
use crate::token::tokenize;
use crate::{Args, Error, Lines};
use path::Step;

/// The modes of a configuration of type `R`, each with its commands.
pub struct Tree<R> {
    modes: Vec<Mode>,
    names: BTreeMap<&'static str, usize>,
    defects: Vec<String>,
    root: PhantomData<fn(&mut R)>,
}

/// What a line did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing: an empty line or a remark.
    Nothing,
    /// It changed something, perhaps.
    Applied,
    /// It led into another mode (which it may have created).
    Entered,
    /// It left a mode: `exit`.
    Left,
    /// It left the configuration: `end`, or `exit` at the root.
    Ended,
}

/// One mode while it is declared.
pub struct ModeBuilder<'a, T> {
    mode: &'a mut Mode,
    object: PhantomData<fn(&mut T)>,
}

struct Mode {
    name: &'static str,
    title: &'static str,
    prompt: Box<dyn Fn(&str) -> String + Send + Sync>,
    grammar: Grammar<Rule>,
    declarations: Vec<Declaration>,
}

struct Declaration {
    set: Option<Setter>,
    unset: Option<Setter>,
    reset: Option<Setter>,
    show: Option<Shower>,
    enter: Option<Enter>,
    /// A mode of StarOS that is not supported begins here; these of its commands begin further ones.
    missing_mode: Option<&'static [&'static str]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    Set(usize),
    Unset(usize),
    Reset(usize),
    Exit,
    End,
}

impl<R: Any> Tree<R> {
    /// A tree with nothing but its root mode, which is called `root`; `title` and `prompt` as in [`Tree::mode`].
    pub fn new(title: &'static str, prompt: &'static str) -> Self {
        let mut tree = Self {
            modes: Vec::new(),
            names: BTreeMap::new(),
            defects: Vec::new(),
            root: PhantomData,
        };
        tree.add_mode(ROOT, title, move |_| prompt.to_owned());
        tree
    }

    /// Adds a mode. `prompt` makes the word in the parentheses of the prompt from the object's key.
    pub fn mode<T: Any>(
        &mut self,
        name: &'static str,
        title: &'static str,
        prompt: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> ModeBuilder<'_, T> {
        let index = self.add_mode(name, title, prompt);
        self.builder(index)
    }

    /// Adds commands to a mode that exists. To one that does not: they are lost, and [`Tree::defects`] says so.
    pub fn existing<T: Any>(&mut self, name: &'static str) -> ModeBuilder<'_, T> {
        match self.names.get(name) {
            Some(index) => self.builder(*index),
            None => {
                self.defects.push(format!("there is no mode '{name}' yet"));
                self.mode(name, "", |_| String::new())
            }
        }
    }

    /// Adds commands to the root mode.
    pub fn root(&mut self) -> ModeBuilder<'_, R> {
        self.builder(0)
    }

    /// Mistakes in the declarations; a test asserts that there are none.
    pub fn defects(&self) -> Vec<String> {
        let mut defects = self.defects.clone();
        for mode in &self.modes {
            let named = |defect: String| format!("{}: {defect}", mode.name);
            defects.extend(mode.grammar.defects().into_iter().map(named));
            for declaration in &mode.declarations {
                if let Some(enter) = &declaration.enter
                    && !self.names.contains_key(enter.mode)
                {
                    defects.push(format!("{}: there is no mode '{}'", mode.name, enter.mode));
                }
            }
        }
        defects
    }

    /// Applies a line at `path`, and moves `path` where the line leads. A line that does not fit the mode is tried in the modes around it.
    /// `seal` turns plain secrets into sealed ones.
    ///
    /// # Errors
    /// What is wrong with the line; nothing was changed then.
    pub fn apply(
        &self,
        root: &mut R,
        path: &mut Path,
        line: &str,
        seal: &dyn Fn(&str) -> Result<String, String>,
    ) -> Result<Outcome, Error> {
        let tokens = tokenize(line)?;
        if tokens.is_empty() || line.trim_start().starts_with('#') {
            return Ok(Outcome::Nothing);
        }
        let mut failure: Option<Error> = None;
        for depth in (0..=path.steps.len()).rev() {
            let mode = self.mode_at(path, depth)?;
            match mode.grammar.parse_tokens(&tokens, line.trim_end().len()) {
                Ok(found) => {
                    let rule = *found.action;
                    let mut args = found.args;
                    args.seal(seal)?;
                    return self.execute(root, path, depth, rule, &args);
                }
                Err(error) => failure = Some(farther(failure, error)),
            }
        }
        Err(failure.unwrap_or_else(|| Error::refused("there is no such mode")))
    }

    /// Would this line, at `path` itself, lead into another mode?
    pub fn leads_on(&self, path: &Path, line: &str) -> bool {
        let mode = self.mode_at(path, path.steps.len());
        let found = mode.and_then(|mode| Ok((mode, *mode.grammar.parse(line)?.action)));
        match found {
            Ok((mode, Rule::Set(index))) => mode
                .declarations
                .get(index)
                .is_some_and(|declaration| declaration.enter.is_some()),
            _ => false,
        }
    }

    /// Does a command of any mode begin with these words, the first of them a keyword in full?
    pub fn knows(&self, words: &str) -> bool {
        let line = format!("{words} ");
        let first = words.split_whitespace().next().unwrap_or_default();
        let knows = |mode: &Mode| {
            let keywords = mode.grammar.help("").unwrap_or_default();
            keywords.iter().any(|keyword| keyword.word == first) && mode.grammar.help(&line).is_ok()
        };
        self.modes.iter().any(knows)
    }

    /// Walks the commands that lead to a mode, without creating anything.
    ///
    /// # Errors
    /// A line that leads nowhere, or to an object that does not exist (any more).
    pub fn path(&self, root: &R, lines: &[impl AsRef<str>]) -> Result<Path, Error> {
        let mut path = Path::default();
        for line in lines {
            let line = line.as_ref();
            let from = path.steps.last().map_or(0, |step| step.mode);
            let mode = self.mode_at(&path, path.steps.len())?;
            let gone = || Error::refused(format!("'{line}' does not exist"));
            let object = self.object(root, &path).ok_or_else(gone)?;
            let found = mode
                .declarations
                .iter()
                .enumerate()
                .filter_map(|(index, declaration)| Some((index, declaration.enter.as_ref()?)))
                .find_map(|(index, enter)| {
                    let entries = (enter.list)(object);
                    let (key, header) = entries
                        .into_iter()
                        .find(|(key, header)| names_the_same(key, header, line))?;
                    Some((index, enter, key, header))
                });
            let (declaration, enter, key, header) = found.ok_or_else(gone)?;
            path.steps.push(Step {
                from,
                declaration,
                mode: self.names.get(enter.mode).copied().ok_or_else(gone)?,
                key,
                line: header,
            });
        }
        Ok(path)
    }

    /// The word in the parentheses of the prompt.
    pub fn prompt(&self, path: &Path) -> String {
        let key = path.steps.last().map_or("", |step| step.key.as_str());
        match self.mode_at(path, path.steps.len()) {
            Ok(mode) => (mode.prompt)(key),
            Err(_) => String::new(),
        }
    }

    /// The commands that rebuild an object from nothing, from the root on.
    pub fn print(&self, root: &R) -> String {
        let mut lines = Lines::default();
        self.print_into(root, &mut lines);
        lines.into_text()
    }

    /// Like [`Tree::print`], at the level `lines` is at.
    pub fn print_into(&self, root: &R, lines: &mut Lines) {
        if let Some(mode) = self.modes.first() {
            self.print_mode(mode, root, lines);
        }
    }

    /// The commands that lead to one object, and those that rebuild it.
    ///
    /// # Errors
    /// The path leads to nothing.
    pub fn print_at(&self, root: &R, path: &Path, lines: &mut Lines) -> Result<(), Error> {
        let mode = self.mode_at(path, path.steps.len())?;
        let object = self
            .object(root, path)
            .ok_or_else(|| Error::refused("it does not exist"))?;
        for step in &path.steps {
            lines.line(&step.line);
            lines.indent();
        }
        self.print_mode(mode, object, lines);
        for _ in &path.steps {
            lines.outdent();
            lines.line("#exit");
        }
        Ok(())
    }

    /// Title and commands of every mode, for the manual.
    pub(crate) fn manual(&self) -> impl Iterator<Item = (&'static str, Vec<ManualEntry>)> {
        self.modes.iter().map(|mode| (mode.title, mode.manual()))
    }

    fn execute(
        &self,
        root: &mut R,
        path: &mut Path,
        depth: usize,
        rule: Rule,
        args: &Args<'_>,
    ) -> Result<Outcome, Error> {
        let from = depth
            .checked_sub(1)
            .and_then(|last| path.steps.get(last))
            .map_or(0, |step| step.mode);
        let mut target = path.clone();
        target.steps.truncate(depth);
        let (index, choose): (usize, fn(&Declaration) -> Option<&Setter>) = match rule {
            Rule::End => {
                path.steps.clear();
                return Ok(Outcome::Ended);
            }
            Rule::Exit => {
                // `exit` belongs to every mode, so that it was found in the innermost one.
                return Ok(match path.steps.pop() {
                    Some(_) => Outcome::Left,
                    None => Outcome::Ended,
                });
            }
            Rule::Set(index) => (index, |declaration| declaration.set.as_ref()),
            Rule::Unset(index) => (index, |declaration| declaration.unset.as_ref()),
            Rule::Reset(index) => (index, |declaration| {
                declaration.reset.as_ref().or(declaration.unset.as_ref())
            }),
        };
        let none = || Error::refused("this command does nothing");
        let declaration = self
            .modes
            .get(from)
            .and_then(|mode| mode.declarations.get(index))
            .ok_or_else(none)?;
        let object = self.object_mut(root, &target)?;
        if let Some(setter) = choose(declaration) {
            setter(object, args)?;
        } else if !matches!((rule, &declaration.enter), (Rule::Set(_), Some(_))) {
            return Err(none());
        }
        let mut outcome = Outcome::Applied;
        if let (Rule::Set(_), Some(enter)) = (rule, &declaration.enter) {
            let key = (enter.open)(object, args)?;
            let line = (enter.list)(object)
                .into_iter()
                .find(|(other, _)| *other == key)
                .map(|(_, line)| line)
                .unwrap_or_else(|| args.words().collect::<Vec<_>>().join(" "));
            target.steps.push(Step {
                from,
                declaration: index,
                mode: self.names.get(enter.mode).copied().ok_or_else(none)?,
                key,
                line,
            });
            outcome = Outcome::Entered;
        }
        *path = target;
        Ok(outcome)
    }

    fn print_mode(&self, mode: &Mode, object: &dyn Any, lines: &mut Lines) {
        for declaration in &mode.declarations {
            if let Some(show) = &declaration.show {
                show(object, lines);
            }
            let Some(enter) = &declaration.enter else { continue };
            let Some(child_mode) = self
                .names
                .get(enter.mode)
                .and_then(|index| self.modes.get(*index))
            else {
                continue;
            };
            if !(enter.printed)(object) {
                continue;
            }
            for (key, line) in (enter.list)(object) {
                lines.line(line);
                if let Some(child) = (enter.get)(object, &key) {
                    lines.indent();
                    self.print_mode(child_mode, child, lines);
                    lines.outdent();
                }
                lines.line("#exit");
            }
        }
    }

    fn object<'r>(&self, root: &'r R, path: &Path) -> Option<&'r dyn Any> {
        let mut object: &dyn Any = root;
        for step in &path.steps {
            object = (self.enter(step)?.get)(object, &step.key)?;
        }
        Some(object)
    }

    fn object_mut<'r>(&self, root: &'r mut R, path: &Path) -> Result<&'r mut dyn Any, Error> {
        let mut object: &mut dyn Any = root;
        for step in &path.steps {
            let gone = || Error::refused(format!("'{}' does not exist any more", step.line));
            object = (self.enter(step).ok_or_else(gone)?.get_mut)(object, &step.key).ok_or_else(gone)?;
        }
        Ok(object)
    }

    fn enter(&self, step: &Step) -> Option<&Enter> {
        self.modes
            .get(step.from)?
            .declarations
            .get(step.declaration)?
            .enter
            .as_ref()
    }

    fn mode_at(&self, path: &Path, depth: usize) -> Result<&Mode, Error> {
        let index = depth
            .checked_sub(1)
            .and_then(|last| path.steps.get(last))
            .map_or(0, |step| step.mode);
        self.modes
            .get(index)
            .ok_or_else(|| Error::refused("there is no such mode"))
    }

    fn add_mode(
        &mut self,
        name: &'static str,
        title: &'static str,
        prompt: impl Fn(&str) -> String + Send + Sync + 'static,
    ) -> usize {
        let mut grammar = Grammar::default();
        grammar.add("exit", "Leaves this mode", Rule::Exit);
        grammar.add("end", "Leaves the configuration", Rule::End);
        grammar.explain("no", "Removes or switches off");
        grammar.explain("default", "Restores the default");
        let index = self.modes.len();
        self.modes.push(Mode {
            name,
            title,
            prompt: Box::new(prompt),
            grammar,
            declarations: Vec::new(),
        });
        if self.names.insert(name, index).is_some() {
            self.defects.push(format!("there are two modes '{name}'"));
        }
        index
    }

    fn builder<T>(&mut self, index: usize) -> ModeBuilder<'_, T> {
        // Indices come from `add_mode` alone.
        ModeBuilder {
            mode: &mut self.modes[index],
            object: PhantomData,
        }
    }
}

impl Mode {
    /// The commands in the order of their declarations, each with its `no` and `default` forms.
    fn manual(&self) -> Vec<ManualEntry> {
        let mut manual: Vec<ManualEntry> = Vec::new();
        let mut last = None;
        for entry in self.grammar.entries() {
            match (entry.action, manual.last_mut()) {
                _ if !crate::syntax::is_visible(&entry.node) => {}
                (Rule::Unset(index) | Rule::Reset(index), Some(command)) if last == Some(index) => {
                    command.forms.push(crate::syntax::render(&entry.node));
                }
                (Rule::Set(index), _) => {
                    last = Some(index);
                    manual.push(ManualEntry::new(&entry.node, &entry.help));
                }
                _ => last = None,
            }
        }
        manual
    }
}

/// Name of the root mode.
pub const ROOT: &str = "root";

/// Of two modes' opinions about a line, the one that understood more of it; the inner one when they are even.
fn farther(inner: Option<Error>, outer: Error) -> Error {
    match inner {
        Some(inner) if inner.column() >= outer.column() && !matches!(outer, Error::NotSupported { .. }) => {
            inner
        }
        Some(inner @ Error::NotSupported { .. }) => inner,
        _ => outer,
    }
}

/// Do these two commands lead to the object with this key? What follows the key may have changed meanwhile.
fn names_the_same(key: &str, one: &str, other: &str) -> bool {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let (one_words, other_words) = (words(one), words(other));
    match one_words.iter().position(|word| word == key) {
        Some(place) => one_words.get(..=place) == other_words.get(..=place),
        None => one == other,
    }
}

//! What stands after the `|` of an exec command.

use std::sync::OnceLock;

use regex_lite::{Regex, RegexBuilder};

use crate::token::{Token, split_pipe, tokenize};
use crate::{Completion, Error, Grammar, Suggestion};

/// One stage of a pipe.
#[derive(Debug, Clone)]
pub enum Filter {
    /// `grep [-E] [-i] [-v] PATTERN`: the lines that match, or with `-v` do not.
    Grep {
        /// What to look for.
        pattern: Regex,
        /// Lines that do not match.
        inverted: bool,
    },
    /// `more`: a page at a time.
    More,
}

/// The commands of a stage.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Grep,
    More,
}

/// Most memory of a pattern, in octets: what a line costs grows with it.
const MAX_PATTERN: usize = 1 << 18;

fn stages() -> &'static Grammar<Stage> {
    static STAGES: OnceLock<Grammar<Stage>> = OnceLock::new();
    STAGES.get_or_init(|| {
        let mut grammar = Grammar::default();
        grammar.add(
            "grep [-E'Extended regular expression'] [-i'Upper and lower case are the same'] [-v'The lines that do not match'] \
             <pattern:text(512)'What to look for'>",
            "Prints the lines that match",
            Stage::Grep,
        );
        grammar.add("more", "Prints a page at a time", Stage::More);
        grammar
    })
}

/// The answer to `?` at the end of a line with a pipe, about its last stage; `None` without a pipe.
pub fn help_after_pipe(line: &str) -> Option<Result<Vec<Suggestion>, Error>> {
    last_stage(line).map(|(_, stage)| stages().help(stage))
}

/// The answer to the Tab key at the end of a line with a pipe; `None` without a pipe.
pub fn complete_after_pipe(line: &str) -> Option<Completion> {
    last_stage(line).map(|(offset, stage)| {
        let mut completion = stages().complete(stage);
        completion.start = completion.start.saturating_add(offset);
        completion
    })
}

/// What stands after the last pipe, and where it begins.
fn last_stage(line: &str) -> Option<(usize, &str)> {
    let mut stage = split_pipe(line).1?;
    while let (_, Some(next)) = split_pipe(stage) {
        stage = next;
    }
    Some((line.len().saturating_sub(stage.len()), stage))
}

/// Splits a line into the command and the stages after it.
///
/// # Errors
/// A stage that does not exist, or a pattern that is none.
pub fn pipeline(line: &str) -> Result<(&str, Vec<Filter>), Error> {
    let (command, mut rest) = split_pipe(line);
    let mut filters = Vec::new();
    let mut column = command.len();
    while let Some(text) = rest {
        column = column.saturating_add(1);
        let (stage, more) = split_pipe(text);
        filters.push(filter(stage, column)?);
        column = column.saturating_add(stage.len());
        rest = more;
    }
    Ok((command, filters))
}

impl Filter {
    /// Does this line pass?
    pub fn passes(&self, line: &str) -> bool {
        match self {
            Self::Grep { pattern, inverted } => pattern.is_match(line) != *inverted,
            Self::More => true,
        }
    }
}

fn filter(stage: &str, offset: usize) -> Result<Filter, Error> {
    let mut tokens = options_apart(tokenize(stage)?);
    for token in &mut tokens {
        token.start = token.start.saturating_add(offset);
    }
    let end = offset.saturating_add(stage.trim_end().len());
    let found = stages().parse_tokens(&tokens, end).map_err(|error| match error {
        Error::UnknownCommand { column, token } => Error::Unexpected {
            column,
            token,
            expected: stages().complete("").words,
        },
        other => other,
    })?;
    let args = found.args;
    match found.action {
        Stage::More => Ok(Filter::More),
        Stage::Grep => {
            let text = args.text("pattern").unwrap_or_default();
            let expression = if args.has("-E") {
                text.to_owned()
            } else {
                basic(text)
            };
            let pattern = RegexBuilder::new(&expression)
                .case_insensitive(args.has("-i"))
                .size_limit(MAX_PATTERN)
                .build()
                .map_err(|error| args.refuse("pattern", format!("\"{text}\" is not a pattern: {error}")))?;
            Ok(Filter::Grep {
                pattern,
                inverted: args.has("-v"),
            })
        }
    }
}

/// Options may be written as one word: `-vi`.
fn options_apart(tokens: Vec<Token>) -> Vec<Token> {
    let mut apart = Vec::with_capacity(tokens.len());
    let mut may_be_option = true;
    for (number, token) in tokens.into_iter().enumerate() {
        let options = token
            .text
            .strip_prefix('-')
            .filter(|options| !options.is_empty() && options.chars().all(|c| "Eiv".contains(c)))
            .filter(|_| number > 0 && may_be_option && !token.quoted);
        match options {
            Some(options) => apart.extend(options.chars().map(|option| Token {
                text: format!("-{option}"),
                ..token.clone()
            })),
            None => {
                may_be_option = number == 0;
                apart.push(token);
            }
        }
    }
    apart
}

/// A basic expression as an extended one: `+ ? | ( ) { }` stand for themselves unless a backslash is before them.
fn basic(pattern: &str) -> String {
    let mut extended = String::with_capacity(pattern.len());
    let mut letters = pattern.chars();
    let special = |c| matches!(c, '+' | '?' | '|' | '(' | ')' | '{' | '}');
    while let Some(c) = letters.next() {
        match c {
            '\\' => match letters.next() {
                Some(next) if special(next) => extended.push(next),
                Some(next) => extended.extend(['\\', next]),
                None => extended.push_str("\\\\"),
            },
            _ if special(c) => extended.extend(['\\', c]),
            _ => extended.push(c),
        }
    }
    extended
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &str, lines: &[&str]) -> Vec<String> {
        let (_, filters) = pipeline(line).unwrap();
        lines
            .iter()
            .filter(|line| filters.iter().all(|filter| filter.passes(line)))
            .map(|line| (*line).to_owned())
            .collect()
    }

    #[test]
    fn grep_as_operators_use_it() {
        let card = ["Active", "Standby", "None", "Failed"];
        assert_eq!(
            run(r#"show card table | grep -E -v "Active|Standby|None""#, &card),
            ["Failed"]
        );
        assert_eq!(run("show x | grep -i ACT", &card), ["Active"]);
        assert_eq!(run("show x | grep -vi act | grep e", &card), ["None", "Failed"]);
        assert_eq!(run("show x | grep a|more", &["a|b", "b"]), ["a|b"]);
        assert_eq!(run(r"show x | grep a\+b", &["a+b", "aab"]), ["aab"]);
        assert_eq!(run("show x | grep a+(b", &["a+(b", "aab"]), ["a+(b"]);
        assert_eq!(run("show x | gr -ivE a|mor", &["A", "b"]), ["b"]);
        assert_eq!(run(r#"show x | grep "-v""#, &["a -v", "b"]), ["a -v"]);
        assert_eq!(run("show x | grep -- ", &["a--", "b"]), ["a--"]);
    }

    #[test]
    fn a_stage_is_helped_with_and_completed() {
        let words = |line: &str| -> Vec<String> {
            let found = help_after_pipe(line).unwrap().unwrap();
            found.into_iter().map(|suggestion| suggestion.word).collect()
        };
        assert_eq!(stages().defects(), Vec::<String>::new());
        assert_eq!(words("show x | "), ["grep", "more"]);
        assert_eq!(words("show x | grep a | m"), ["more"]);
        assert_eq!(words("show x | grep "), ["-E", "-i", "-v", "<pattern>"]);
        assert_eq!(words("show x | grep -v -i a "), ["<cr>"]);
        assert!(help_after_pipe("show x").is_none());
        let completion = complete_after_pipe("show x | grep a | m").unwrap();
        assert_eq!(
            (completion.start, completion.words),
            (18, vec!["more".to_owned()])
        );
    }

    #[test]
    fn what_a_pattern_costs_is_bounded() {
        assert!(pipeline("show x | grep -E ((((a{99}){99}){99}){99}){99}").is_err());
        // No pattern takes more than the time of its states for each octet.
        let line = "a".repeat(10_000);
        assert!(run("show x | grep -E (a*)*b", &[&line]).is_empty());
    }

    #[test]
    fn wrong_stages_are_pointed_at() {
        let column = |line: &str| pipeline(line).unwrap_err().column().unwrap();
        assert_eq!(column("show x | less"), 9);
        assert_eq!(column("show x | grep -E ("), 17);
        assert_eq!(column("show x | grep"), 13);
        assert_eq!(column("show x | grep a b"), 16);
        assert_eq!(column("show x |"), 8);
    }
}

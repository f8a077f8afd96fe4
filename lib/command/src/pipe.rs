//! What stands after the `|` of an exec command.

use regex_lite::{Regex, RegexBuilder};

use crate::Error;
use crate::token::{split_pipe, tokenize};

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

/// Longest pattern, in octets.
const MAX_PATTERN: usize = 512;

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
    let tokens = tokenize(stage)?;
    let mut tokens = tokens.iter();
    let Some(name) = tokens.next() else {
        return Err(Error::Incomplete {
            column: offset.saturating_add(stage.len()),
            expected: vec!["grep".to_owned(), "more".to_owned()],
        });
    };
    let column = offset.saturating_add(name.start);
    match name.text.to_ascii_lowercase().as_str() {
        "more" => Ok(Filter::More),
        "grep" => {
            let (mut extended, mut ignore_case, mut inverted) = (false, false, false);
            let mut pattern = None;
            for token in tokens {
                let options = token.text.strip_prefix('-').filter(|options| {
                    pattern.is_none()
                        && !token.quoted
                        && !options.is_empty()
                        && options.chars().all(|c| "Eiv".contains(c))
                });
                match options {
                    Some(options) => {
                        extended |= options.contains('E');
                        ignore_case |= options.contains('i');
                        inverted |= options.contains('v');
                    }
                    None if pattern.is_none() => pattern = Some(token),
                    None => {
                        return Err(Error::Unexpected {
                            column: offset.saturating_add(token.start),
                            token: token.text.clone(),
                            expected: Vec::new(),
                        });
                    }
                }
            }
            let pattern = pattern.ok_or_else(|| Error::Incomplete {
                column: offset.saturating_add(stage.trim_end().len()),
                expected: vec!["a pattern".to_owned()],
            })?;
            let text = if extended {
                pattern.text.clone()
            } else {
                basic(&pattern.text)
            };
            let wrong = |reason: String| Error::Refused {
                column: Some(offset.saturating_add(pattern.start)),
                message: format!("\"{}\" is not a pattern: {reason}", pattern.text),
            };
            if pattern.text.len() > MAX_PATTERN {
                return Err(wrong(format!("longer than {MAX_PATTERN} characters")));
            }
            let pattern = RegexBuilder::new(&text)
                .case_insensitive(ignore_case)
                .build()
                .map_err(|error| wrong(error.to_string()))?;
            Ok(Filter::Grep { pattern, inverted })
        }
        _ => Err(Error::Unexpected {
            column,
            token: name.text.clone(),
            expected: vec!["grep".to_owned(), "more".to_owned()],
        }),
    }
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

//! What `?` and the Tab key say. A line has three places with words of their own: after a pipe, exec mode, configuration mode; in
//! configuration mode some lines are of exec mode.

use command::{Completion, Suggestion};
use config::Exec;

use crate::failure::Failure;
use crate::output::Output;
use crate::session::Session;

/// The words with which a line of configuration mode is one of exec mode, and what they are.
const EXEC_WORDS: [(&str, &str); 2] = [
    (DO, "Runs a show command"),
    (SHOW, "Shows state and configuration"),
];

const DO: &str = "do";
const SHOW: &str = "show";

/// Where the command of exec mode begins in a line of configuration mode, if it is one: at `show`, which is understood everywhere, as
/// operators are used to, or after `do`.
pub(crate) fn exec_begins(line: &str) -> Option<usize> {
    let content = line.trim_start();
    let begin = line.len() - content.len();
    let (word, more) = match content.split_once(char::is_whitespace) {
        Some((word, more)) => (word, !more.trim().is_empty()),
        None => (content, false),
    };
    let lower = word.to_ascii_lowercase();
    // `sh` alone may be `shutdown`.
    if SHOW.starts_with(&lower) && lower.len() >= if more { 2 } else { 3 } {
        Some(begin)
    } else if lower == DO {
        begin.checked_add(word.len())
    } else {
        None
    }
}

/// A line with `?` at its end where it would be typed as a question: what stands before it.
pub(crate) fn before_question(line: &str) -> Option<&str> {
    let before = line.trim_end().strip_suffix('?')?;
    is_outside_quotes(before).then_some(before)
}

/// Inside quotes `?` is a character like any other.
pub(crate) fn is_outside_quotes(before: &str) -> bool {
    before.matches('"').count().is_multiple_of(2)
}

impl Session {
    /// Prints what could come next on this line; false if nothing could.
    pub(crate) fn print_help(&self, line: &str) -> bool {
        let suggestions = match self.help(line) {
            Ok(suggestions) => suggestions,
            Err(error) => {
                Failure::sentence(error.to_string()).print(&self.prompt(), line);
                return false;
            }
        };
        let mut output = Output::new(&self.pages);
        let words = suggestions.iter().map(|suggestion| suggestion.word.len());
        let width = words.max().unwrap_or(0);
        for suggestion in &suggestions {
            output.line(&format!("  {:<width$}  {}", suggestion.word, suggestion.help));
        }
        output.finish();
        true
    }

    fn help(&self, line: &str) -> Result<Vec<Suggestion>, command::Error> {
        let Some(configuration) = &self.configuration else {
            return exec_help(line);
        };
        if let Some(rest) = exec_rest(line) {
            let mut suggestions = exec_help(rest)?;
            if first_word(rest).is_some() {
                suggestions.retain(|suggestion| suggestion.word == SHOW);
            }
            return Ok(suggestions);
        }
        let Some(word) = first_word(line) else {
            return configuration.help(line);
        };
        let mut suggestions = configuration.help(line).unwrap_or_default();
        let also = EXEC_WORDS.iter().filter(|(exec, _)| exec.starts_with(&word));
        suggestions.extend(also.map(|(word, help)| Suggestion {
            word: (*word).to_owned(),
            help: (*help).to_owned(),
        }));
        suggestions.sort();
        Ok(suggestions)
    }

    /// The keywords that complete this line.
    pub(crate) fn complete(&self, line: &str) -> Completion {
        let Some(configuration) = &self.configuration else {
            return self.complete_exec(line);
        };
        if let Some(rest) = exec_rest(line) {
            let mut completion = self.complete_exec(rest);
            if first_word(rest).is_some() {
                completion.words.retain(|word| word == SHOW);
            }
            completion.start += line.len() - rest.len();
            return completion;
        }
        let mut completion = configuration.complete(line);
        if first_word(line).is_some() {
            completion.add(line, EXEC_WORDS.iter().map(|(word, _)| (*word).to_owned()));
        }
        completion
    }

    fn complete_exec(&self, line: &str) -> Completion {
        if let Some(completion) = command::complete_after_pipe(line) {
            return completion;
        }
        let mut completion = Exec::grammar().complete(line);
        for (exec, parameter) in Exec::grammar().parameters(line) {
            if let Some(object) = exec.object(parameter) {
                completion.add(line, object.names(&self.config, &self.context));
            }
        }
        completion
    }
}

fn exec_help(line: &str) -> Result<Vec<Suggestion>, command::Error> {
    command::help_after_pipe(line).unwrap_or_else(|| Exec::grammar().help(line))
}

/// The part of a line of configuration mode that is of exec mode, once its first word is complete.
fn exec_rest(line: &str) -> Option<&str> {
    match first_word(line) {
        Some(_) => None,
        None => line.get(exec_begins(line)?..),
    }
}

/// The first word of a line, in small letters, while it is being typed.
fn first_word(line: &str) -> Option<String> {
    let content = line.trim_start();
    (!content.contains(char::is_whitespace)).then(|| content.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_exec_mode_are_known() {
        assert_eq!(exec_begins("  sh ver"), Some(2));
        assert_eq!(exec_begins("Show clock"), Some(0));
        assert_eq!(exec_begins("do show clock"), Some(2));
        // These are `shutdown` and `snmp` or `system`.
        for line in ["sh", "s x", "shut", "snmp", "", "document x"] {
            assert_eq!(exec_begins(line), None, "{line}");
        }
    }

    #[test]
    fn questions_stand_outside_quotes() {
        assert_eq!(before_question("show ? "), Some("show "));
        assert_eq!(before_question("description \"why?"), None);
        assert_eq!(before_question("show"), None);
    }
}

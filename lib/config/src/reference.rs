//! The manual of every command, as `docs/reference/commands.md` has it.

use command::Keyword;
use command::reference::{self, ManualEntry};

use crate::{Answer, Exec, tree};

/// The manual in markdown.
pub fn commands() -> String {
    let mut text = HEAD.to_owned();
    for exec in Exec::ALL {
        let Some(entry) = ManualEntry::of(exec.syntax(), exec.help()) else {
            continue;
        };
        let answer = match exec.answer() {
            Answer::Shell => "the shell".to_owned(),
            Answer::One(facility) => format!("`{facility}`"),
            Answer::Every(facility) => format!("every `{facility}`"),
            Answer::Context(facility) => format!("the `{facility}` of the context"),
        };
        let remark = format!(" Answered by {answer}; level {}.", exec.privilege().keyword());
        text.push_str(&entry.markdown(&remark));
    }
    text.push_str(&reference::tree(tree()));
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

const HEAD: &str = "# Commands

Generated from `config::exec` and `config::commands`; do not edit. `{ a | b }` is one of several, `[ a ]` may be left out, `...` may be repeated; neighbouring
`[ a ] [ b ]` may come in any order. Keywords may be abbreviated as long as they are unique, in letters of either case. Commands of StarOS that are not listed
here answer `Failure: not supported` or are unknown.

A configuration file is read line by line: a line that does not fit the mode is tried in the modes around it, a bad line is reported and the rest applied.
Secrets are entered as `key TEXT` and printed as `encrypted key ...`, sealed with the master key of the node.

## Exec mode

";

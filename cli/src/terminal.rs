//! The operator's terminal.

use std::borrow::Cow;
use std::io::IsTerminal as _;

use nix::sys::termios::{LocalFlags, SetArg, tcgetattr, tcsetattr};

/// A person types and reads.
pub(crate) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The terminal that a person types at (`pts/3`); `None` for a script.
pub(crate) fn name() -> Option<String> {
    if !is_interactive() {
        return None;
    }
    let path = nix::unistd::ttyname(std::io::stdin()).ok()?;
    let path = path.to_string_lossy();
    Some(path.strip_prefix("/dev/").unwrap_or(&path).to_owned())
}

/// Lines and columns, as far as the environment tells (`LINES`, `COLUMNS`), otherwise what every terminal has.
pub(crate) fn size() -> Option<(usize, usize)> {
    if !is_interactive() {
        return None;
    }
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse().ok());
    Some((number("LINES").unwrap_or(24), number("COLUMNS").unwrap_or(80)))
}

/// A line without control characters but tabs: names come from peers and from files, and what they say is not for the terminal to obey.
pub(crate) fn harmless(line: &str) -> Cow<'_, str> {
    let is_harmful = |c: char| c.is_control() && c != '\t';
    if line.contains(is_harmful) {
        line.replace(is_harmful, "?").into()
    } else {
        line.into()
    }
}

/// The next key. Not one octet more is taken: what was typed ahead belongs to the next command.
pub(crate) fn key() -> Option<u8> {
    let mut key = [0];
    raw(|| nix::unistd::read(std::io::stdin(), &mut key).ok())
        .filter(|count| *count == 1)
        .map(|_| key[0])
}

/// Reads keys without waiting for the end of a line, and without showing them.
fn raw<T>(work: impl FnOnce() -> T) -> T {
    let Ok(before) = tcgetattr(std::io::stdin()) else {
        return work();
    };
    let mut quiet = before.clone();
    quiet
        .local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO | LocalFlags::ISIG);
    if tcsetattr(std::io::stdin(), SetArg::TCSANOW, &quiet).is_err() {
        return work();
    }
    let result = work();
    let _ = tcsetattr(std::io::stdin(), SetArg::TCSANOW, &before);
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_shown_is_obeyed() {
        assert_eq!(harmless("enb1.example\tup"), "enb1.example\tup");
        assert_eq!(
            harmless("\u{1b}]0;title\u{7}\u{9b}2Jx\r\u{85}"),
            "?]0;title??2Jx??"
        );
    }
}

//! The operator's terminal.

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

/// Reads keys without waiting for the end of a line, and without showing them.
pub(crate) fn raw<T>(work: impl FnOnce() -> T) -> T {
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

//! The lines of a script.

use std::io::{BufRead, Read as _};

/// Lines of this input, whatever is in it: octets that are no text come as replacement characters, and of a line that is longer than any
/// command only so much that it is refused.
pub(crate) fn lines(mut input: impl BufRead) -> impl Iterator<Item = String> {
    std::iter::from_fn(move || {
        let mut octets = Vec::new();
        let limit = u64::try_from(command::MAX_LINE).ok()?.checked_add(1)?;
        let read = input.by_ref().take(limit).read_until(b'\n', &mut octets).ok()?;
        if read == 0 {
            return None;
        }
        if octets.last() == Some(&b'\n') {
            octets.pop();
        } else {
            skip_line(&mut input);
        }
        Some(String::from_utf8_lossy(&octets).into_owned())
    })
}

/// Reads up to the end of the line, and keeps nothing.
fn skip_line(input: &mut impl BufRead) {
    while let Ok(some) = input.fill_buf() {
        if some.is_empty() {
            return;
        }
        let end = some.iter().position(|octet| *octet == b'\n');
        let length = end.map_or(some.len(), |end| end.saturating_add(1));
        input.consume(length);
        if end.is_some() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_input_has_lines() {
        let long = "x".repeat(10 * command::MAX_LINE);
        let input = [b"a\r\n\n\xff\n", long.as_bytes(), b"\nlast"].concat();
        let found: Vec<String> = lines(&input[..]).collect();
        let lengths: Vec<usize> = found.iter().map(String::len).collect();
        assert_eq!(lengths, [2, 0, 3, command::MAX_LINE + 1, 4]);
        assert_eq!(found.last().map(String::as_str), Some("last"));
    }
}

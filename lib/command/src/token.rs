//! A line and its tokens.

use crate::Error;

/// Longest line that is read, in octets.
pub const MAX_LINE: usize = 16_384;
/// Most tokens of a line.
pub const MAX_TOKENS: usize = 512;

/// One word of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What was written, without quotes.
    pub text: String,
    /// Offset of its first octet in the line.
    pub start: usize,
    /// It was written in quotes: never a keyword.
    pub quoted: bool,
}

/// Splits a line at blanks. Double quotes keep blanks together; inside them `\"` is a quote and `\\` a backslash, every other
/// backslash stands for itself.
///
/// # Errors
/// [`Error::TooLong`], [`Error::OpenQuote`].
pub fn tokenize(line: &str) -> Result<Vec<Token>, Error> {
    if line.len() > MAX_LINE {
        return Err(Error::TooLong { column: MAX_LINE });
    }
    let mut tokens = Vec::new();
    let mut scan = Scan::new(line);
    while let Some(token) = scan.token()? {
        if tokens.len() == MAX_TOKENS {
            return Err(Error::TooLong { column: token.start });
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// The part of a line before its first unquoted `|`, and the part after it.
pub fn split_pipe(line: &str) -> (&str, Option<&str>) {
    let mut quoted = false;
    let mut escaped = false;
    for (offset, octet) in line.bytes().enumerate() {
        match octet {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'|' if !quoted => {
                let (before, after) = line.split_at(offset);
                return (before, after.get(1..));
            }
            _ => {}
        }
    }
    (line, None)
}

/// A text as it must be written to be read back as one token: in quotes where needed.
pub fn quote(text: &str) -> String {
    let plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '"' | '|');
    if !text.is_empty() && !text.starts_with('#') && text.chars().all(plain) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        let ambiguous = c == '\\' && matches!(rest.peek(), None | Some('\\' | '"'));
        if c == '"' || ambiguous {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

/// Is this line empty or a remark (`#` first)?
pub fn is_remark(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

struct Scan<'a> {
    line: &'a str,
    rest: std::iter::Peekable<std::str::CharIndices<'a>>,
}

impl<'a> Scan<'a> {
    fn new(line: &'a str) -> Self {
        Self {
            line,
            rest: line.char_indices().peekable(),
        }
    }

    fn token(&mut self) -> Result<Option<Token>, Error> {
        while self.rest.next_if(|(_, c)| c.is_whitespace()).is_some() {}
        let Some(&(start, _)) = self.rest.peek() else {
            return Ok(None);
        };
        let mut token = Token {
            text: String::new(),
            start,
            quoted: false,
        };
        while let Some((offset, c)) = self.rest.next_if(|(_, c)| !c.is_whitespace()) {
            if c == '"' {
                token.quoted = true;
                self.quoted(&mut token.text, offset)?;
            } else {
                token.text.push(c);
            }
        }
        Ok(Some(token))
    }

    fn quoted(&mut self, text: &mut String, open: usize) -> Result<(), Error> {
        while let Some((_, c)) = self.rest.next() {
            match c {
                '"' => return Ok(()),
                '\\' => match self.rest.next_if(|(_, next)| matches!(next, '"' | '\\')) {
                    Some((_, escaped)) => text.push(escaped),
                    None => text.push('\\'),
                },
                _ => text.push(c),
            }
        }
        debug_assert!(open < self.line.len());
        Err(Error::OpenQuote { column: open })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(line: &str) -> Vec<String> {
        tokenize(line)
            .unwrap()
            .into_iter()
            .map(|token| token.text)
            .collect()
    }

    #[test]
    fn blanks_and_quotes() {
        assert_eq!(texts("  ip  address\t10.0.0.1 "), ["ip", "address", "10.0.0.1"]);
        assert_eq!(texts(r#"key "two words" """#), ["key", "two words", ""]);
        assert_eq!(texts(r#"f "a\"b\\c\n""#), ["f", r#"a"b\c\n"#]);
        let tokens = tokenize(r#"a "b c""#).unwrap();
        assert_eq!(
            (tokens[1].start, tokens[1].quoted, tokens[0].quoted),
            (2, true, false)
        );
    }

    #[test]
    fn an_open_quote_is_named() {
        assert_eq!(tokenize(r#"key "abc"#), Err(Error::OpenQuote { column: 4 }));
    }

    #[test]
    fn too_much_is_refused() {
        assert!(matches!(
            tokenize(&"a".repeat(MAX_LINE + 1)),
            Err(Error::TooLong { .. })
        ));
        assert!(matches!(
            tokenize(&"a ".repeat(MAX_TOKENS + 1)),
            Err(Error::TooLong { .. })
        ));
    }

    #[test]
    fn pipes_outside_quotes() {
        assert_eq!(
            split_pipe("show clock | grep x"),
            ("show clock ", Some(" grep x"))
        );
        assert_eq!(
            split_pipe(r#"format "a|b\"|" | more"#),
            (r#"format "a|b\"|" "#, Some(" more"))
        );
        assert_eq!(split_pipe("show clock"), ("show clock", None));
    }

    proptest! {
        #[test]
        fn what_is_quoted_reads_back(text in "[^\r\n]{0,40}") {
            let line = format!("x {} y", quote(&text));
            let (before, after) = split_pipe(&line);
            prop_assert!(after.is_none());
            prop_assert_eq!(texts(before), ["x", text.as_str(), "y"]);
        }

        #[test]
        fn any_line_is_read_or_refused(line in "\\PC{0,200}") {
            let _ = tokenize(&line);
            let _ = split_pipe(&line);
        }
    }
}

//! Format strings: static text with `%variables%`.

/// A format string of the configuration, parsed.
///
/// `\n` and `\t` are a line break and a tab, `\\` and `\"` the characters themselves; any other backslash stays as it is. A percent
/// sign that does not begin a `%variable%` stays as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Variable(String),
}

impl Format {
    /// Parses a format string. Every string is one.
    pub fn parse(text: &str) -> Self {
        let mut pieces = Vec::new();
        let mut literal = String::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            if let Some(name) = variable(rest) {
                if !literal.is_empty() {
                    pieces.push(Piece::Text(std::mem::take(&mut literal)));
                }
                pieces.push(Piece::Variable(name.to_owned()));
                rest = rest.get(name.len() + 2..).unwrap_or_default();
                continue;
            }
            let (character, length) = match (first, rest.chars().nth(1)) {
                ('\\', Some('n')) => ('\n', 2),
                ('\\', Some('t')) => ('\t', 2),
                ('\\', Some(escaped @ ('\\' | '"'))) => (escaped, 2),
                _ => (first, first.len_utf8()),
            };
            literal.push(character);
            rest = rest.get(length..).unwrap_or_default();
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Self(pieces)
    }

    /// The string with every variable replaced by its value. One without a value stays as it was written.
    pub fn expand(&self, value: impl Fn(&str) -> Option<String>) -> String {
        self.0.iter().fold(String::new(), |mut line, piece| {
            match piece {
                Piece::Text(text) => line.push_str(text),
                Piece::Variable(name) => match value(name) {
                    Some(value) => line.push_str(&value),
                    None => line.push_str(&format!("%{name}%")),
                },
            }
            line
        })
    }

    /// The variables, in order of appearance.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            Piece::Text(_) => None,
        })
    }
}

/// The name of the variable that the text begins with.
fn variable(text: &str) -> Option<&str> {
    let (name, _) = text.strip_prefix('%')?.split_once('%')?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    (!name.is_empty() && name.chars().all(valid)).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(text: &str) -> String {
        Format::parse(text).expand(|name| match name {
            "date" => Some("20201220".into()),
            "ipaddr" => Some(String::new()),
            "ikev2-cursa" => Some("7".into()),
            _ => None,
        })
    }

    #[test]
    fn variables_are_replaced_and_unknown_ones_stay() {
        assert_eq!(expand("sys,%date%,%ikev2-cursa%,%ipaddr%,x"), "sys,20201220,7,,x");
        assert_eq!(
            expand("radius-groupSch4,%date%,%servname%,0"),
            "radius-groupSch4,20201220,%servname%,0"
        );
        assert_eq!(expand("%date%%date%"), "2020122020201220");
    }

    #[test]
    fn escapes_and_lone_percent_signs() {
        assert_eq!(expand(r"a\tb\nc\\n\x"), "a\tb\nc\\n\\x");
        assert_eq!(expand("100% of %date%, 50%"), "100% of 20201220, 50%");
        assert_eq!(expand("%%date%"), "%20201220");
        assert_eq!(expand("% %date%"), "% 20201220");
        assert_eq!(expand(""), "");
        assert_eq!(expand("\\"), "\\");
    }

    #[test]
    fn the_variables_are_known() {
        let format = Format::parse("%date%,%x y%,%ikev2-cursa%");
        assert_eq!(format.variables().collect::<Vec<_>>(), ["date", "ikev2-cursa"]);
    }
}

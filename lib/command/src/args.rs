//! What a line said.

use std::str::FromStr;

use crate::{Error, Keyword, kind};

/// The keywords and parameters of a line that fits a command.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Args<'t> {
    pub(crate) items: Vec<Item<'t>>,
}

/// One word of the line and what it was taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Item<'t> {
    Word {
        word: &'t str,
    },
    Value {
        name: &'t str,
        value: String,
        column: usize,
        quoted: bool,
        secret: bool,
    },
}

impl<'t> Args<'t> {
    /// Was this keyword there?
    pub fn has(&self, keyword: &str) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item, Item::Word { word } if *word == keyword))
    }

    /// The parameter as it was written.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values()
            .find(|(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// Every value of a parameter that may be repeated.
    pub fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.values()
            .filter(move |(other, _)| *other == name)
            .map(|(_, value)| value)
    }

    /// Every parameter with its name, in the order of the line.
    pub fn values(&self) -> impl Iterator<Item = (&'t str, &str)> {
        self.items.iter().filter_map(|item| match item {
            Item::Value { name, value, .. } => Some((*name, value.as_str())),
            Item::Word { .. } => None,
        })
    }

    /// The keywords, in the order of the line.
    pub fn words(&self) -> impl Iterator<Item = &'t str> {
        self.items.iter().filter_map(|item| match item {
            Item::Word { word } => Some(*word),
            Item::Value { .. } => None,
        })
    }

    /// The parameter as a value of type `V`; `None` when it was not there.
    ///
    /// # Errors
    /// The word fits the declared kind but not `V`.
    pub fn get<V: FromStr>(&self, name: &str) -> Result<Option<V>, Error> {
        match self.text(name) {
            None => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| self.refuse(name, format!("\"{text}\" cannot be used as <{name}>"))),
        }
    }

    /// The parameter as a value of type `V`.
    ///
    /// # Errors
    /// As [`Args::get`], and when the parameter was not there.
    pub fn need<V: FromStr>(&self, name: &str) -> Result<V, Error> {
        self.get(name)?
            .ok_or_else(|| Error::refused(format!("<{name}> is missing")))
    }

    /// A parameter of kind `hex`.
    pub fn hex(&self, name: &str) -> Option<u64> {
        self.text(name).and_then(kind::hex)
    }

    /// The value of `K` whose keyword was there.
    pub fn keyword<K: Keyword>(&self) -> Option<K> {
        K::ALL.iter().copied().find(|value| self.has(value.keyword()))
    }

    /// The value of `K` whose keyword was there.
    ///
    /// # Errors
    /// There was none.
    pub fn need_keyword<K: Keyword>(&self) -> Result<K, Error> {
        self.keyword()
            .ok_or_else(|| Error::refused("a keyword is missing"))
    }

    /// A refusal that points at a parameter.
    pub fn refuse(&self, name: &str, message: impl Into<String>) -> Error {
        Error::Refused {
            column: self.place(name).map(|(column, _)| column),
            message: message.into(),
        }
    }

    /// The same, pointing at a part of this parameter, `offset` octets from the beginning of its text. Escapes before it are not counted.
    pub fn refuse_part(&self, name: &str, offset: usize, message: impl Into<String>) -> Error {
        let text = |(column, quoted): (usize, bool)| column.saturating_add(usize::from(quoted));
        Error::Refused {
            column: self.place(name).map(|place| text(place).saturating_add(offset)),
            message: message.into(),
        }
    }

    /// Where a parameter begins in the line, and whether with a quote.
    fn place(&self, name: &str) -> Option<(usize, bool)> {
        self.items.iter().find_map(|item| match item {
            Item::Value {
                name: other,
                column,
                quoted,
                ..
            } if *other == name => Some((*column, *quoted)),
            _ => None,
        })
    }

    /// Does the line hold a plain secret? Then it belongs in no history and no log.
    pub fn has_plain_secret(&self) -> bool {
        self.items
            .iter()
            .any(|item| matches!(item, Item::Value { secret: true, .. }))
    }

    /// Replaces every plain secret by what `seal` makes of it.
    pub(crate) fn seal(&mut self, seal: &dyn Fn(&str) -> Result<String, String>) -> Result<(), Error> {
        for item in &mut self.items {
            if let Item::Value {
                value,
                column,
                secret: secret @ true,
                ..
            } = item
            {
                *value = seal(value).map_err(|message| Error::Refused {
                    column: Some(*column),
                    message,
                })?;
                *secret = false;
            }
        }
        Ok(())
    }
}

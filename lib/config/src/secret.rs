//! Secrets at rest.

use std::fmt;

use command::{quote, tokenize};
use crypto::MasterKey;

use crate::Config;

/// A secret of the configuration in sealed form: what stands after `encrypted key`. Only `sct` can open it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a sealed text as it stands in a configuration.
    pub fn from_sealed(sealed: impl Into<String>) -> Self {
        Self(sealed.into())
    }

    /// The sealed text.
    pub fn sealed(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretText({})", self.0)
    }
}

/// A sealed secret and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacedSecret {
    /// The lines that lead to the mode, outermost first.
    pub modes: Vec<String>,
    /// The line, with `...` for the secret.
    pub line: String,
    /// The secret.
    pub sealed: String,
}

impl PlacedSecret {
    /// The lines that lead to the secret, in one.
    pub fn place(&self) -> String {
        let lines: Vec<&str> = self
            .modes
            .iter()
            .chain([&self.line])
            .map(String::as_str)
            .collect();
        lines.join(" / ")
    }
}

impl Config {
    /// Every sealed secret, in the order of `show configuration`.
    pub fn secrets(&self) -> Vec<PlacedSecret> {
        placed_secrets(&self.to_text())
    }
}

/// Every sealed secret of a canonical text.
pub fn placed_secrets(text: &str) -> Vec<PlacedSecret> {
    let mut secrets = Vec::new();
    let mut modes: Vec<(usize, &str)> = Vec::new();
    for line in text.lines() {
        let content = line.trim();
        let indentation = line.len() - line.trim_start().len();
        modes.retain(|(other, _)| *other < indentation);
        if let Some((line, sealed)) = sealed_in(content) {
            secrets.push(PlacedSecret {
                // The outermost line is `config`.
                modes: modes.iter().skip(1).map(|(_, line)| (*line).to_owned()).collect(),
                line,
                sealed,
            });
        }
        modes.push((indentation, content));
    }
    secrets
}

/// The sealed secret of a canonical line, and the line without it: it stands after `encrypted` and the word that says what it is.
fn sealed_in(line: &str) -> Option<(String, String)> {
    // Most lines have none.
    if !line.contains(" encrypted ") {
        return None;
    }
    let tokens = tokenize(line).ok()?;
    let marked = tokens
        .iter()
        .position(|token| !token.quoted && token.text == "encrypted")?;
    let place = marked.checked_add(2)?;
    let sealed = tokens.get(place)?.text.clone();
    let words = tokens.iter().enumerate().map(|(number, token)| {
        if number == place {
            "...".to_owned()
        } else {
            quote(&token.text)
        }
    });
    Some((words.collect::<Vec<_>>().join(" "), sealed))
}

/// Has this text the form of a sealed secret? Whether it opens depends on the master key.
pub fn is_sealed(text: &str) -> bool {
    // Any key will do: a key that is not the right one looks at the form first.
    MasterKey::from_bytes(&[0; MasterKey::LEN])
        .is_ok_and(|key| !matches!(key.open(text), Err(crypto::Error::SealedForm)))
}

/// Seals the plain secrets of a configuration.
pub trait Sealer {
    /// The sealed form of a secret, printable and without blanks or quotes.
    ///
    /// # Errors
    /// Fails when there is no master key here or no randomness.
    fn seal(&self, plain: &[u8]) -> Result<String, SealError>;
}

impl Sealer for MasterKey {
    fn seal(&self, plain: &[u8]) -> Result<String, SealError> {
        Self::seal(self, plain).map_err(|error| SealError(error.to_string()))
    }
}

/// Why a secret could not be sealed, as a sentence for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealError(pub String);

impl fmt::Display for SealError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for SealError {}

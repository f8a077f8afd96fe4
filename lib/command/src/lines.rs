//! Writing configuration text.

use crate::token::quote;

/// Collects the lines of a configuration, two blanks of indentation per level.
#[derive(Debug, Default)]
pub struct Lines {
    text: String,
    level: usize,
}

impl Lines {
    /// Adds a line at the current level.
    pub fn line(&mut self, line: impl AsRef<str>) {
        for _ in 0..self.level {
            self.text.push_str("  ");
        }
        self.text.push_str(line.as_ref());
        self.text.push('\n');
    }

    /// Adds a line made of words and one text that is quoted where needed.
    pub fn quoted(&mut self, words: &str, text: &str) {
        self.line(format!("{words} {}", quote(text)));
    }

    /// The following lines are one level deeper.
    pub fn indent(&mut self) {
        self.level = self.level.saturating_add(1);
    }

    /// The following lines are one level higher.
    pub fn outdent(&mut self) {
        self.level = self.level.saturating_sub(1);
    }

    /// The text so far.
    pub fn into_text(self) -> String {
        self.text
    }
}

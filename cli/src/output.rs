//! From the text of a command to the terminal: filters, then pages.

use std::io::Write as _;

use command::Filter;

use crate::terminal;

/// `terminal length` and `terminal width`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pages {
    /// Lines of a page; 0: no pages.
    pub length: usize,
    /// Columns of a line: longer ones are folded. Until it is set, the terminal does that.
    pub width: Option<usize>,
}

impl Pages {
    /// The columns that lines have here.
    pub(crate) fn shown_width(&self) -> usize {
        let terminal = || terminal::size().map_or(DEFAULT_WIDTH, |(_, columns)| columns);
        self.width.unwrap_or_else(terminal)
    }
}

/// Columns of a terminal that says nothing about itself.
const DEFAULT_WIDTH: usize = 80;

impl Default for Pages {
    fn default() -> Self {
        Self {
            length: terminal::size().map_or(0, |(lines, _)| lines),
            width: None,
        }
    }
}

/// The output of one command.
pub(crate) struct Output {
    filters: Vec<Filter>,
    length: usize,
    width: Option<usize>,
    /// Lines since the last page break.
    shown: usize,
    /// The operator has seen enough.
    refused: bool,
    rest: String,
}

impl Output {
    pub(crate) fn new(pages: &Pages) -> Self {
        let length = if terminal::is_interactive() {
            pages.length
        } else {
            0
        };
        Self {
            filters: Vec::new(),
            length,
            width: pages.width,
            shown: 0,
            refused: false,
            rest: String::new(),
        }
    }

    /// Everything from now on goes through these.
    pub(crate) fn filter(&mut self, filters: Vec<Filter>) {
        if filters.iter().any(|filter| matches!(filter, Filter::More)) && self.length == 0 {
            self.length = terminal::size().map_or(0, |(lines, _)| lines);
        }
        self.filters = filters;
    }

    /// Nobody wants to see more of it.
    pub(crate) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Some text, perhaps not whole lines.
    pub(crate) fn text(&mut self, text: &str) {
        self.rest.push_str(text);
        while let Some(end) = self.rest.find('\n') {
            let line: String = self.rest.drain(..=end).collect();
            self.print(line.trim_end_matches('\n'));
        }
    }

    /// One line.
    pub(crate) fn line(&mut self, line: &str) {
        self.text(line);
        self.text("\n");
    }

    /// Prints what is left.
    pub(crate) fn finish(&mut self) {
        let rest = std::mem::take(&mut self.rest);
        if !rest.is_empty() {
            self.print(&rest);
        }
    }

    fn print(&mut self, line: &str) {
        if !self.filters.iter().all(|filter| filter.passes(line)) {
            return;
        }
        let line = terminal::harmless(line);
        let mut rest = &*line;
        while let Some((end, _)) = self.width.and_then(|width| rest.char_indices().nth(width)) {
            let (first, more) = rest.split_at(end);
            self.print_folded(first);
            rest = more;
        }
        self.print_folded(rest);
    }

    /// A line that is not too long.
    fn print_folded(&mut self, line: &str) {
        if self.refused {
            return;
        }
        if self.length > 1 && self.shown + 1 >= self.length {
            self.refused = !self.next_page();
            if self.refused {
                return;
            }
        }
        self.shown += 1;
        // Whoever reads our output may have gone.
        if writeln!(std::io::stdout(), "{line}").is_err() {
            self.refused = true;
        }
    }

    /// `--More--`: space a page, return a line, q the end.
    fn next_page(&mut self) -> bool {
        let mut out = std::io::stdout();
        let _ = write!(out, "--More--");
        let _ = out.flush();
        let key = terminal::key().unwrap_or(b'q');
        let _ = write!(out, "\r        \r");
        let _ = out.flush();
        match key {
            b'q' | b'Q' | 3 | 4 => return false,
            b'\r' | b'\n' => self.shown -= 1,
            _ => self.shown = 0,
        }
        true
    }
}

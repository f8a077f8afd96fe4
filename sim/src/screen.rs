//! The demo's live screen.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use rustix::termios::tcgetwinsize;
use serde_json::Value;

use crate::demo::Interrupts;
use crate::processors::Processors;
use crate::progress::{Counted, Tally, complain};
use crate::rates::Rates;

/// Columns that every terminal has; no line is longer.
pub(crate) const COLUMNS: usize = 80;
/// Lines of a terminal that does not say.
const ROWS: usize = 24;
const BAR: usize = 40;
/// How often a terminal is drawn, and how often a line is printed where there is none. Long enough for the processors to be measured.
const REDRAWN: Duration = Duration::from_millis(500);
const PRINTED: Duration = Duration::from_secs(1);

/// Draws over itself on a terminal, prints now and then otherwise; only notes, and those on standard error, when the result is all that is wanted.
pub(crate) struct Screen {
    wanted: bool,
    interrupts: Interrupts,
    terminal: bool,
    /// Lines that are drawn over.
    drawn: usize,
    next: Instant,
    rates: Rates,
    processors: Processors,
}

impl Screen {
    pub(crate) fn new(wanted: bool, interrupts: Interrupts) -> Self {
        Self {
            wanted,
            interrupts,
            terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            next: Instant::now(),
            rates: Rates::default(),
            processors: Processors::read(),
        }
    }

    /// A sentence on its own line.
    pub(crate) fn say(&self, text: &str) {
        if self.wanted {
            // Only a reader who is gone matters, and he is noted.
            let _ = self.print(&format!("{text}\n"));
        }
    }

    /// A sentence that is said in any case.
    pub(crate) fn note(&self, text: &str) {
        if self.wanted {
            self.say(text);
        } else {
            complain(text);
        }
    }

    /// The result, on a line of its own.
    pub(crate) fn result(&self, value: &Value) -> Result<(), String> {
        match self.print(&format!("{value}\n")) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("standard output: {error}")),
            _ => Ok(()),
        }
    }

    /// Nobody waits for more.
    pub(crate) fn is_over(&self) -> bool {
        self.interrupts.first().is_some()
    }

    /// How far it is, if it is time to tell.
    pub(crate) fn show(&mut self, tally: &Tally, counted: Counted) {
        self.rates.push(
            tally.traffic_seconds,
            [tally.bytes, tally.packets_sent + tally.packets_echoed],
        );
        if Instant::now() >= self.next {
            self.draw(tally, counted);
        }
    }

    /// How far it came.
    pub(crate) fn finish(&mut self, tally: &Tally, counted: Counted) {
        if self.terminal && !self.is_over() {
            self.draw(tally, counted);
        }
    }

    fn draw(&mut self, tally: &Tally, counted: Counted) {
        if !self.wanted {
            return;
        }
        self.next = Instant::now() + if self.terminal { REDRAWN } else { PRINTED };
        let processors = Processors::read();
        let busy = processors.percent_since(&self.processors);
        self.processors = processors;
        let mut lines = figures(tally, counted, self.rates.per_second());
        lines.extend(
            busy.iter()
                .enumerate()
                .map(|(number, percent)| bar(number, *percent)),
        );
        if !self.terminal {
            return self.say(&lines.join("\n"));
        }
        let (rows, columns) = size();
        let text = redraw(self.drawn, &lines, rows, columns);
        self.drawn = lines.len().min(rows.saturating_sub(1));
        let _ = self.print(&text);
    }

    fn print(&self, text: &str) -> std::io::Result<()> {
        let mut out = std::io::stdout().lock();
        let result = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
        {
            self.interrupts.raise(Signal::SIGPIPE);
        }
        result
    }
}

/// Breaks a text between words, so that its lines fit.
pub(crate) fn wrap(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + 1 + word.len() <= COLUMNS => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// Rows and columns of the terminal.
fn size() -> (usize, usize) {
    let size = tcgetwinsize(std::io::stdout()).ok();
    // A serial line does not know.
    let known = |number: u16| Some(usize::from(number)).filter(|number| *number > 0);
    (
        size.and_then(|size| known(size.ws_row)).unwrap_or(ROWS),
        size.and_then(|size| known(size.ws_col)).unwrap_or(COLUMNS),
    )
}

/// What draws `lines` over the last `drawn` ones. One that were broken, or scrolled away, could not be drawn over the next time.
fn redraw(drawn: usize, lines: &[String], rows: usize, columns: usize) -> String {
    let up = match drawn {
        0 => String::new(),
        lines => format!("\x1b[{lines}A"),
    };
    lines
        .iter()
        .take(rows.saturating_sub(1))
        .fold(up, |mut text, line| {
            text.push_str("\x1b[2K");
            text.extend(line.chars().take(columns.min(COLUMNS)));
            text.push('\n');
            text
        })
}

fn figures(tally: &Tally, counted: Counted, [octets, packets]: [f64; 2]) -> Vec<String> {
    vec![
        format!(
            "tunnels up   {:>6} of {:<6}   set-up rate {:>7.0} /s   failed {:>6}",
            tally.tunnels_up,
            tally.tunnels_requested,
            tally.setup_rate(),
            tally.tunnels_failed
        ),
        format!(
            "throughput   {:>7.2} Gbit/s (both directions)   {:>8.0} kpps",
            octets * 8.0 / 1e9,
            packets / 1e3
        ),
        format!(
            "packets   {:>13} sent  {:>13} at the host  {:>13} echoed",
            tally.packets_sent, counted.packets, tally.packets_echoed
        ),
    ]
}

fn bar(number: usize, percent: u64) -> String {
    let filled = usize::try_from(percent).unwrap_or(0).min(100) * BAR / 100;
    format!(
        "core {number:<3}     [{}{}] {percent:>3} %",
        "#".repeat(filled),
        " ".repeat(BAR - filled)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_fits_on_a_terminal() {
        let most = 10_u64.pow(12);
        let tally = Tally {
            tunnels_requested: 100_000,
            tunnels_up: 100_000,
            tunnels_set_up: 100_000,
            tunnels_failed: 100_000,
            setup_seconds: 0.1,
            packets_sent: most,
            packets_echoed: most,
            ..Tally::default()
        };
        let counted = Counted {
            packets: most,
            bytes: most,
        };
        let mut lines = figures(&tally, counted, [1e12, 1e10]);
        lines.push(bar(255, 100));
        for line in lines {
            assert!(line.len() <= COLUMNS, "{line}");
        }
    }

    #[test]
    fn a_small_terminal_is_not_overrun() {
        let lines: Vec<String> = (0..5).map(|n| format!("line {n} is somewhat long")).collect();
        assert_eq!(redraw(0, &lines, 3, 6), "\x1b[2Kline 0\n\x1b[2Kline 1\n");
        assert_eq!(redraw(2, &lines, 3, 6), "\x1b[2A\x1b[2Kline 0\n\x1b[2Kline 1\n");
        assert_eq!(redraw(0, &lines, 1, 6), "");
        assert_eq!(redraw(5, &lines, 24, 300).matches('\n').count(), 5);
    }

    #[test]
    fn a_sentence_is_broken_between_words() {
        assert_eq!(wrap("short"), "short");
        let text = "some words ".repeat(20);
        let wrapped = wrap(text.trim_end());
        assert!(wrapped.lines().all(|line| line.len() <= COLUMNS));
        assert_eq!(wrapped.replace('\n', " "), text.trim_end());
        let path = "/x".repeat(COLUMNS);
        assert_eq!(wrap(&format!("at {path}")), format!("at\n{path}"));
    }
}

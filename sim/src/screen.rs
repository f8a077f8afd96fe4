//! The demo's live screen.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

use crate::progress::{Counted, Tally};

const BAR: usize = 40;

/// Draws over itself on a terminal, one line a second otherwise; nothing at all when it is not wanted.
pub(crate) struct Screen {
    wanted: bool,
    terminal: bool,
    drawn: usize,
    last: Option<(Instant, Tally)>,
    processors: Vec<Processor>,
    last_line: Option<Instant>,
}

/// Jiffies of one processor: busy, all.
#[derive(Debug, Clone, Copy, Default)]
struct Processor {
    busy: u64,
    all: u64,
}

impl Screen {
    pub(crate) fn new(wanted: bool) -> Self {
        Self {
            wanted,
            terminal: std::io::stdout().is_terminal(),
            drawn: 0,
            last: None,
            processors: processors(),
            last_line: None,
        }
    }

    /// A sentence on its own line.
    pub(crate) fn say(&self, text: &str) {
        if self.wanted {
            println!("{text}");
        }
    }

    /// How far it is.
    pub(crate) fn show(&mut self, tally: &Tally, counted: Counted) {
        if !self.wanted {
            return;
        }
        let now = Instant::now();
        if !self.terminal
            && self
                .last_line
                .is_some_and(|last| now.duration_since(last).as_secs() < 1)
        {
            return;
        }
        self.last_line = Some(now);
        let rate = match &self.last {
            Some((then, before)) if now > *then => {
                (tally.bytes.saturating_sub(before.bytes)) as f64 * 8.0
                    / now.duration_since(*then).as_secs_f64()
                    / 1e9
            }
            _ => 0.0,
        };
        let packet_rate = match &self.last {
            Some((then, before)) if now > *then => {
                let packets = tally.packets_sent + tally.packets_echoed;
                packets.saturating_sub(before.packets_sent + before.packets_echoed) as f64
                    / now.duration_since(*then).as_secs_f64()
                    / 1e3
            }
            _ => 0.0,
        };
        self.last = Some((now, tally.clone()));
        let mut lines = vec![
            format!(
                "tunnels up   {:>7} of {:<7} set-up rate {:>8.0} /s   failed {}",
                tally.tunnels_up,
                tally.tunnels_requested,
                tally.setup_rate(),
                tally.tunnels_failed
            ),
            format!("throughput   {rate:>7.2} Gbit/s (both directions)   {packet_rate:>8.0} kpps"),
            format!(
                "packets      {:>10} sent   {:>10} counted by the host   {:>10} echoed",
                tally.packets_sent, counted.packets, tally.packets_echoed
            ),
        ];
        lines.extend(self.cores());
        self.draw(&lines);
    }

    fn cores(&mut self) -> Vec<String> {
        let now = processors();
        let lines = now
            .iter()
            .zip(&self.processors)
            .enumerate()
            .map(|(number, (now, before))| {
                let all = now.all.saturating_sub(before.all).max(1);
                let percent = (now.busy.saturating_sub(before.busy) * 100 / all).min(100);
                let filled = usize::try_from(percent).unwrap_or(0) * BAR / 100;
                format!(
                    "core {number:<3}     [{}{}] {percent:>3} %",
                    "#".repeat(filled),
                    " ".repeat(BAR - filled)
                )
            })
            .collect();
        self.processors = now;
        lines
    }

    fn draw(&mut self, lines: &[String]) {
        let mut out = std::io::stdout().lock();
        if self.terminal && self.drawn > 0 {
            let _ = write!(out, "\x1b[{}A", self.drawn);
        }
        for line in lines {
            let clear = if self.terminal { "\x1b[2K" } else { "" };
            let _ = writeln!(out, "{clear}{line}");
        }
        let _ = out.flush();
        self.drawn = lines.len();
    }
}

/// From /proc/stat; empty where there is none.
fn processors() -> Vec<Processor> {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    text.lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .map(|line| {
            let times: Vec<u64> = line
                .split_whitespace()
                .skip(1)
                .filter_map(|time| time.parse().ok())
                .collect();
            let all: u64 = times.iter().sum();
            // Idle and waiting for I/O.
            let idle: u64 = times.iter().skip(3).take(2).sum();
            Processor {
                busy: all - idle,
                all,
            }
        })
        .collect()
}

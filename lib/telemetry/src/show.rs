//! Blocks of counters as `show ... statistics` prints them.

use crate::counters::{Counter, Descriptor};

/// The sections that `pick` chooses, in table order: a title line, then two counters a line.
///
/// `value` gives the number to print, usually [`crate::Reader::sum`].
///
/// ```
/// let text = telemetry::show::sections(|row| row.section == "Data Path Statistics", |_| 7);
/// assert!(text.starts_with("Data Path Statistics:\n  ESP Packets Sent:"));
/// ```
pub fn sections(pick: impl Fn(&Descriptor) -> bool, value: impl Fn(Counter) -> u64) -> String {
    let mut text = String::new();
    let mut counters = Counter::all()
        .filter(|counter| pick(counter.descriptor()))
        .peekable();
    while let Some(first) = counters.next() {
        let section = first.descriptor().section;
        let mut cells = vec![cell(first, &value)];
        while let Some(next) = counters.next_if(|counter| counter.descriptor().section == section) {
            cells.push(cell(next, &value));
        }
        text.push_str(&format!("{section}:\n"));
        for line in cells.chunks(2) {
            text.push_str(&format!("  {}\n", line.join("  ")));
        }
        text.push('\n');
    }
    text
}

/// Width of a label with its colon.
const LABEL: usize = 34;
/// Width of a value of 32 bits.
const VALUE: usize = 10;

fn cell(counter: Counter, value: &impl Fn(Counter) -> u64) -> String {
    format!(
        "{:<LABEL$}{:>VALUE$}",
        format!("{}:", counter.descriptor().label),
        value(counter)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_has_its_title_and_two_counters_a_line() {
        let text = sections(
            |row| row.section == "Dead Peer Detection Statistics",
            |counter| counter.index() as u64 % 1_000,
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[0], "Dead Peer Detection Statistics:");
        assert_eq!(lines.len(), 5);
        assert!(lines[1].starts_with("  Total DPD Requests Received:"));
        assert!(lines[1].contains("  Total DPD Requests Sent:"));
        assert!(
            lines[1..4]
                .iter()
                .all(|line| line.len() == 2 + 2 * (LABEL + VALUE) + 2),
            "{text}"
        );
    }

    #[test]
    fn every_label_fits_its_column() {
        for counter in Counter::all() {
            let row = counter.descriptor();
            assert!(
                row.label.len() + 1 < LABEL + VALUE - 1,
                "{} is too long",
                row.label
            );
        }
    }
}

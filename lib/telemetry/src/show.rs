//! Blocks of counters as `show ... statistics` prints them.

use std::collections::BTreeSet;

use crate::counters::{Counter, Descriptor, Schema, wsg_state};
use crate::{Reader, Scope};

/// A `show` command that prints counters and nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Report {
    /// `show crypto statistics`: IKEv2 and the data path.
    CryptoStatistics,
    /// `show crypto statistics ikev2`.
    CryptoStatisticsIkev2,
    /// `show aaa statistics`.
    AaaStatistics,
}

impl Report {
    /// The text, with the sums over all processes.
    pub fn print(self, counters: &Reader) -> String {
        let facilities: &[&str] = match self {
            Self::CryptoStatistics => &["ipsecmgr", "iftask"],
            Self::CryptoStatisticsIkev2 => &["ipsecmgr"],
            Self::AaaStatistics => &["aaamgr"],
        };
        let picked = |row: &Descriptor| row.schema == Schema::System && facilities.contains(&row.facility);
        let text = sections(picked, |counter| counters.sum(counter));
        match self {
            Self::AaaStatistics => text,
            Self::CryptoStatistics | Self::CryptoStatisticsIkev2 => {
                format!("Control Statistics for Context: {}\n{text}", contexts(counters))
            }
        }
    }
}

/// The contexts whose services the counters of IKE are about: they are kept for the node, not for each context.
fn contexts(counters: &Reader) -> String {
    let services = counters.scopes(Schema::Wsg);
    let names: BTreeSet<&str> = services.iter().map(|service| service.context.as_str()).collect();
    if names.is_empty() {
        return "none".to_owned();
    }
    names.into_iter().collect::<Vec<_>>().join(", ")
}

/// `show wsg-service statistics`: a block for each service that `wanted` chooses, sorted by context and name.
pub fn wsg_statistics(counters: &Reader, wanted: impl Fn(&Scope) -> bool) -> String {
    let services = counters
        .scopes(Schema::Wsg)
        .into_iter()
        .filter(|scope| wanted(scope));
    services.fold(String::new(), |text, service| {
        let block = sections(
            |row| row.schema == Schema::Wsg,
            |counter| counters.scoped_sum(service, counter),
        );
        text + &format!("Service: {}  Context: {}\n{block}", service.name, service.context)
    })
}

/// The state of a `wsg-service` as every command and every file prints it: some `ipsecmgr` serves it, or it is only configured.
pub fn wsg_state(counters: &Reader, context: &str, service: &str) -> &'static str {
    match counters.scoped_sum(&Scope::wsg(context, service), wsg_state::SERVING) {
        0 => "Initialized",
        _ => "Started",
    }
}

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
    use crate::Counters;
    use crate::counters::{ikev2, wsg};

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
    fn reports_print_sums() {
        let folder = std::env::temp_dir().join(format!("telemetry-show-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for instance in 1..=2 {
            let ike = Counters::open(&folder, "ipsecmgr", instance).unwrap();
            ike.add(ikev2::DPD_RECV, 3);
            let sessions = Counters::open(&folder, "sessmgr", instance).unwrap();
            sessions
                .scoped(&Scope::wsg("isp", "enb"))
                .unwrap()
                .inc(wsg::SETUP_ATTEMPTS);
        }
        let reader = Reader::open(&folder).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        let text = Report::CryptoStatisticsIkev2.print(&reader);
        let line = format!("  {:<LABEL$}{:>VALUE$}", "Total DPD Requests Received:", 6);
        assert!(text.contains(&line), "{text}");
        assert!(
            text.starts_with("Control Statistics for Context: isp\nDetailed IKE Statistics:\n"),
            "{text}"
        );
        assert!(!text.contains("Data Path"));
        assert!(
            Report::CryptoStatistics
                .print(&reader)
                .contains("Data Path Statistics:")
        );
        assert_eq!(super::wsg_state(&reader, "isp", "enb"), "Initialized");
        let text = wsg_statistics(&reader, |service| service.context == "isp");
        assert!(text.starts_with("Service: enb  Context: isp\n"), "{text}");
        assert!(
            text.contains(&format!("{:<LABEL$}{:>VALUE$}", "Total setup attempts:", 2)),
            "{text}"
        );
        assert_eq!(wsg_statistics(&reader, |service| service.name == "other"), "");
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

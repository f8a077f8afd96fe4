//! `show iftask summary` and `show iftask statistics`.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::busy::{self, Busy};
use crate::counters::{CLASSES, Call, Count, Section, Statistics};
use crate::supplier::Ways;

/// Printed once, above the lines of all instances.
pub(crate) const HEADING: &str = concat!(
    "              Child     ESP packets     ESP packets         Drops         Drops  Busy %   Busy %   Busy %\n",
    "Instance        SAs        received            sent       inbound      outbound  second   minute  of life\n",
    "--------  ---------  --------------  --------------  ------------  ------------  ------  -------  -------\n",
);

/// Thousandths of the time that the data plane has worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shares {
    second: u64,
    minute: u64,
    life: u64,
}

impl Shares {
    /// As of now.
    pub(crate) fn new(busy: &Busy, statistics: &Statistics) -> Self {
        let worked = statistics.busy_ns.load(Ordering::Relaxed);
        let alive = statistics.alive_ns.load(Ordering::Relaxed).max(1);
        Self {
            second: busy.permille(busy::SECOND),
            minute: busy.permille(busy::MINUTE),
            life: (u128::from(worked) * 1000 / u128::from(alive)) as u64,
        }
    }
}

/// One line about this worker.
pub(crate) fn summary(instance: u32, statistics: &Statistics, busy: Shares) -> String {
    let [sas, received, sent, inbound, outbound] = totals(statistics).map(|(_, value)| value);
    let [second, minute, life] = [busy.second, busy.minute, busy.life].map(tenths);
    format!(
        "{instance:>8}  {sas:>9}  {received:>14}  {sent:>14}  {inbound:>12}  {outbound:>12}  {second:>6}  {minute:>7}  {life:>7}\n"
    )
}

/// What is added up over all instances.
pub(crate) fn totals(statistics: &Statistics) -> [(&'static str, u64); 5] {
    [
        ("Total Child SAs", statistics.sas.load(Ordering::Relaxed)),
        ("Total ESP packets received", statistics.get(Count::EspReceived)),
        ("Total ESP packets sent", statistics.get(Count::EspSent)),
        ("Total drops inbound", section(statistics, Section::InboundDrops)),
        (
            "Total drops outbound",
            section(statistics, Section::OutboundDrops),
        ),
    ]
}

/// Everything about this worker.
pub(crate) fn statistics(instance: u32, statistics: &Statistics, busy: Shares) -> String {
    let mut text = format!("iftask instance {instance}:\n");
    let mut line = |label: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {label:<36}: {value:>20}");
    };
    line("Child SAs", statistics.sas.load(Ordering::Relaxed).to_string());
    line("Rounds", statistics.rounds.load(Ordering::Relaxed).to_string());
    for (label, share) in [
        ("Busy, last second", busy.second),
        ("Busy, last minute", busy.minute),
        ("Busy, since its start", busy.life),
    ] {
        line(label, format!("{} %", tenths(share)));
    }
    let batches = [
        ("ESP packets a read", Count::EspReceived, Count::GroBuffers),
        ("ESP packets a send", Count::EspSent, Count::GsoSends),
        (
            "Packets a write to the clear side",
            Count::Delivered,
            Count::Writes,
        ),
        (
            "Packets a read from the clear side",
            Count::ClearReceived,
            Count::Reads,
        ),
    ];
    for (label, packets, calls) in batches {
        line(label, ratio(statistics.get(packets), statistics.get(calls)));
    }
    let _ = write!(text, "  {:<38}", "Calls, by Packets at Once:");
    for class in 0..CLASSES {
        let _ = write!(text, " {:>10}", class_label(class));
    }
    text.push('\n');
    for call in Call::ALL {
        let _ = write!(text, "    {:<36}", call.label());
        for number in statistics.calls(call) {
            let _ = write!(text, " {number:>10}");
        }
        text.push('\n');
    }
    for section in Section::ALL {
        let _ = writeln!(text, "  {}:", section.title());
        for count in Count::ALL.iter().filter(|count| count.section() == section) {
            let _ = writeln!(text, "    {:<36}: {:>20}", count.label(), statistics.get(*count));
        }
    }
    text
}

/// How packets come from the devices that are configured for AF_XDP, if there are any.
pub(crate) fn ways(ways: &Ways) -> String {
    let mut text = String::new();
    for (n, ((context, device), way)) in ways.iter().enumerate() {
        if n == 0 {
            text.push_str("  Devices with af-xdp:\n");
        }
        let label = format!("{device} in context {context}");
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {label:<36}: {way}");
    }
    text
}

/// Per cent with tenths, of thousandths.
fn tenths(permille: u64) -> String {
    format!("{}.{}", permille / 10, permille % 10)
}

/// Numbers of packets of a class.
fn class_label(class: usize) -> String {
    let least = 1 << class;
    match class {
        0 => least.to_string(),
        _ if class + 1 == CLASSES => format!("{least}+"),
        _ => format!("{least}-{}", 2 * least - 1),
    }
}

fn ratio(packets: u64, calls: u64) -> String {
    match packets.saturating_mul(10).checked_div(calls) {
        Some(tenths) => format!("{}.{}", tenths / 10, tenths % 10),
        None => "-".to_owned(),
    }
}

fn section(statistics: &Statistics, section: Section) -> u64 {
    let counts = Count::ALL.iter().filter(|count| count.section() == section);
    counts.map(|count| statistics.get(*count)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::counters::Tally;
    use telemetry::Counters;

    #[test]
    fn what_is_shown() {
        let numbers = Statistics::new();
        let mut tally = Tally::new(Counters::in_memory(), numbers.clone());
        tally.add(Count::EspReceived, 1234, 0);
        tally.add(Count::GroBuffers, 100, 0);
        tally.add(Count::Replayed, 5, 0);
        tally.add(Count::BadIcv, 6, 0);
        tally.call(Call::Receive, 64);
        tally.call(Call::Write, 300);
        tally.publish();
        numbers.sas.store(77, Ordering::Relaxed);
        numbers.busy_ns.store(255, Ordering::Relaxed);
        numbers.alive_ns.store(1000, Ordering::Relaxed);
        let mut looks = Busy::default();
        looks.look(0, 0);
        looks.look(1_000_000_000, 400_000_000);
        let busy = Shares::new(&looks, &numbers);
        let text = statistics(3, &numbers, busy);
        for expected in [
            "iftask instance 3:\n",
            "    ESP packets a read                  :                 12.3\n",
            "    ESP packets a send                  :                    -\n",
            "    Busy, last second                   :               40.0 %\n",
            "    Busy, since its start               :               25.5 %\n",
            "      32-63     64-127    128-255       256+\n",
            "    Received from peers                           0          0          0          0          0          0          1          0          0\n",
            "  Drops, From the Peer:\n",
            "    Replayed or too old                 :                    5\n",
        ] {
            assert!(text.contains(expected), "{expected}{text}");
        }
        let known = Ways::from([(
            ("isp".to_owned(), "ran0".to_owned()),
            "AF_XDP by the driver, queues 0 2".to_owned(),
        )]);
        assert_eq!(
            ways(&known),
            "  Devices with af-xdp:\n    ran0 in context isp                 : AF_XDP by the driver, queues 0 2\n"
        );
        assert_eq!(ways(&Ways::default()), "");
        let line = summary(3, &numbers, busy);
        assert_eq!(
            line,
            "       3         77            1234               0            11             0    40.0     40.0     25.5\n"
        );
        assert!(HEADING.lines().all(|heading| heading.len() + 1 == line.len()));
        assert_eq!(totals(&numbers)[3], ("Total drops inbound", 11));
    }
}

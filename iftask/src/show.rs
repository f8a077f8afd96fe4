//! `show iftask summary` and `show iftask statistics`.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use crate::counters::{Count, Section, Statistics};

/// Printed once, above the lines of all instances.
pub(crate) const HEADING: &str = concat!(
    "                    Child      ESP packets      ESP packets           Drops           Drops   Busy\n",
    "Instance              SAs         received             sent         inbound        outbound      %\n",
    "--------  ---------------  ---------------  ---------------  --------------  --------------  -----\n",
);

/// One line about this worker.
pub(crate) fn summary(instance: u32, statistics: &Statistics) -> String {
    let [sas, received, sent, inbound, outbound] = totals(statistics).map(|(_, value)| value);
    let (whole, tenths) = busy(statistics);
    format!(
        "{instance:>8}  {sas:>15}  {received:>15}  {sent:>15}  {inbound:>14}  {outbound:>14}  {whole:>3}.{tenths}\n"
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
pub(crate) fn statistics(instance: u32, statistics: &Statistics) -> String {
    let mut text = format!("iftask instance {instance}:\n");
    let mut line = |label: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "    {label:<36}: {value:>20}");
    };
    let (whole, tenths) = busy(statistics);
    line("Child SAs", statistics.sas.load(Ordering::Relaxed).to_string());
    line("Rounds", statistics.rounds.load(Ordering::Relaxed).to_string());
    line("Busy", format!("{whole}.{tenths} %"));
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
    for section in Section::ALL {
        let _ = writeln!(text, "  {}:", section.title());
        for count in Count::ALL.iter().filter(|count| count.section() == section) {
            let _ = writeln!(text, "    {:<36}: {:>20}", count.label(), statistics.get(*count));
        }
    }
    text.push('\n');
    text
}

/// Per cent of its life that the data plane has worked, with tenths.
fn busy(statistics: &Statistics) -> (u64, u64) {
    let busy = statistics.busy_ns.load(Ordering::Relaxed);
    let alive = statistics.alive_ns.load(Ordering::Relaxed).max(1);
    let permille = (u128::from(busy) * 1000 / u128::from(alive)) as u64;
    (permille / 10, permille % 10)
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
        tally.publish();
        numbers.sas.store(77, Ordering::Relaxed);
        numbers.busy_ns.store(255, Ordering::Relaxed);
        numbers.alive_ns.store(1000, Ordering::Relaxed);
        let text = statistics(3, &numbers);
        for expected in [
            "iftask instance 3:\n",
            "    ESP packets a read                  :                 12.3\n",
            "    ESP packets a send                  :                    -\n",
            "    Busy                                :               25.5 %\n",
            "  Drops, From the Peer:\n",
            "    Replayed or too old                 :                    5\n",
        ] {
            assert!(text.contains(expected), "{expected}{text}");
        }
        let line = summary(3, &numbers);
        assert_eq!(
            line,
            "       3               77             1234                0              11               0   25.5\n"
        );
        assert_eq!(line.len(), HEADING.lines().last().unwrap().len() + 1);
        assert_eq!(totals(&numbers)[3], ("Total drops inbound", 11));
    }
}

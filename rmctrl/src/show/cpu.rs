//! `show cpu`: the node is card 1 with CPU 0.

use std::collections::BTreeSet;
use std::fmt::Write;

use netio::NumaNode;

use crate::processors::{Place, Processors, Share};

/// `show cpu table`.
pub(crate) fn table(processors: &Processors) -> String {
    let [five, fifteen] = Processors::MINUTES;
    let [one_load, five_load, fifteen_load] = processors.load;
    let busy = |intervals| {
        let share = processors.node_over(intervals);
        share.map_or_else(|| "--".to_owned(), |share| format!("{:.1}%", share.busy()))
    };
    let memory = |readings| format!("{}M", processors.memory_used(readings));
    format!(
        "{TABLE_HEADING} 1/0  Actve {one_load:>7.2} {five_load:>6.2} {fifteen_load:>6.2} {:>7} {:>6} {:>6} {:>6} {:>5} {:>5} {:>5}\n",
        busy(1),
        busy(five),
        busy(fifteen),
        memory(1),
        memory(five),
        memory(fifteen),
        format!("{}M", processors.memory_total),
    )
}

const TABLE_HEADING: &str = concat!(
    "             --------Load--------  ------CPU-Usage-----  ---------Memory--------\n",
    " cpu  state     now   5min  15min     now   5min  15min    now  5min 15min total\n",
);

/// `show cpu info`: every processor, or these alone.
pub(crate) fn info(processors: &Processors, only: Option<&BTreeSet<u32>>) -> String {
    let mut text = String::from("Card 1, CPU 0:\n");
    let [one, five, fifteen] = processors.load;
    let nodes: Vec<_> = processors
        .groups
        .iter()
        .map(|group| format!("{}M node-{}", group.memory, group.number))
        .collect();
    let minutes = processors.uptime / 60;
    let _ = write!(
        text,
        "  Status           : Active, Kernel Running, Tasks Running\n  \
           Load Average     : {one:.2}, {five:.2}, {fifteen:.2} ({:.2} max)\n  \
           Total Memory     : {}M ({})\n  \
           Kernel Uptime    : {}D {}H {}M\n",
        processors.load_max,
        processors.memory_total,
        nodes.join(", "),
        minutes / 60 / 24,
        minutes / 60 % 24,
        minutes % 60,
    );
    let mut step = |indent, title, share: &dyn Fn(Place) -> Option<Share>| {
        let _ = writeln!(text, "{indent}{title}:");
        section(&mut text, indent, &processors.groups, only, share);
    };
    // As the reference prints it, each is a step further in.
    step("  ", "Last Reading", &|place| processors.last(place));
    step("    ", "5-Minute Average", &|place| processors.average(place));
    step("      ", "Maximum/Minimum", &|place| processors.extreme(place));
    text
}

fn section(
    text: &mut String,
    indent: &str,
    groups: &[NumaNode],
    only: Option<&BTreeSet<u32>>,
    share: &dyn Fn(Place) -> Option<Share>,
) {
    let mut line = |label: String, place| {
        let _ = writeln!(text, "{indent}{label:<17}: {}", parts(share(place)));
    };
    line("  CPU Usage All".into(), Place::Node);
    for group in groups {
        let wanted = |core: &&u32| only.is_none_or(|only| only.contains(core));
        if !group.cores.iter().any(|core| wanted(&core)) {
            continue;
        }
        line(format!("    Node {}", group.number), Place::Group(group.number));
        for core in group.cores.iter().filter(wanted) {
            line(format!("      Core {core}"), Place::Core(*core));
        }
    }
}

fn parts(share: Option<Share>) -> String {
    let Some(share) = share else {
        return "not known yet".to_owned();
    };
    format!(
        "{:.1}% user, {:.1}% sys, {:.1}% io, {:.1}% irq, {:.1}% idle",
        share.user, share.system, share.io, share.irq, share.idle
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processors::tests::{kernel, two_groups};

    fn processors() -> Processors {
        let mut processors = Processors::default();
        processors.take(&kernel(0, 0), two_groups());
        processors.take(&kernel(300, 100), two_groups());
        processors
    }

    #[test]
    fn the_table_has_the_columns_of_the_reference() {
        let text = table(&processors());
        let sample = " 1/0  Actve    0.14   0.17   0.13   42.9%  42.9%  42.9%  4096M 4096M 4096M 8192M\n";
        assert_eq!(text, format!("{TABLE_HEADING}{sample}"));
        // Nothing is known after one reading.
        let mut fresh = Processors::default();
        fresh.take(&kernel(0, 0), two_groups());
        assert!(
            table(&fresh).contains("      --     --     --"),
            "{}",
            table(&fresh)
        );
    }

    #[test]
    fn every_processor_has_a_line_in_every_section() {
        let text = info(&processors(), None);
        let expected = "\
Card 1, CPU 0:
  Status           : Active, Kernel Running, Tasks Running
  Load Average     : 0.14, 0.17, 0.13 (0.14 max)
  Total Memory     : 8192M (4096M node-0, 4096M node-1)
  Kernel Uptime    : 1D 2H 3M
  Last Reading:
    CPU Usage All  : 42.9% user, 0.0% sys, 0.0% io, 0.0% irq, 57.1% idle
      Node 0       : 0.0% user, 0.0% sys, 0.0% io, 0.0% irq, 100.0% idle
        Core 0     : 0.0% user, 0.0% sys, 0.0% io, 0.0% irq, 100.0% idle
        Core 1     : 0.0% user, 0.0% sys, 0.0% io, 0.0% irq, 100.0% idle
      Node 1       : 60.0% user, 0.0% sys, 0.0% io, 0.0% irq, 40.0% idle
        Core 2     : 0.0% user, 0.0% sys, 0.0% io, 0.0% irq, 100.0% idle
        Core 3     : 75.0% user, 0.0% sys, 0.0% io, 0.0% irq, 25.0% idle
    5-Minute Average:
      CPU Usage All  : 42.9% user";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("\n      Maximum/Minimum:\n        CPU Usage All  : "),
            "{text}"
        );
        assert_eq!(text.matches("Core 3").count(), 3);
    }

    #[test]
    fn those_of_the_data_plane_alone() {
        let text = info(&processors(), Some(&[3].into()));
        assert!(
            text.contains("CPU Usage All") && text.contains("Node 1"),
            "{text}"
        );
        assert!(!text.contains("Node 0") && !text.contains("Core 2"), "{text}");
        assert_eq!(text.matches("Core 3").count(), 3);
    }
}

//! `show session recovery status`.

use std::fmt::Write;

use bus::Facility;
use telemetry::Reader;
use telemetry::counters::recovery as counter;

/// A task, and whether it serves.
pub(super) type Running = (Facility, bool);

/// The tasks without which a tunnel does not outlive the death of another.
const NEEDED: [Facility; 5] = [
    Facility::Ipsecmgr,
    Facility::Iftask,
    Facility::Sessmgr,
    Facility::Aaamgr,
    Facility::Vpnmgr,
];

const HEADING: &str = concat!(
    "\n",
    "              ----sessmgr---  ----aaamgr----  demux\n",
    " cpu state    active standby  active standby  active  status\n",
    "---- -------  ------ -------  ------ -------  ------  -------------------------\n",
);

/// The line that says it.
pub(super) fn status(wanted: bool, tasks: &[Running]) -> String {
    let status = if !wanted {
        "Disabled"
    } else if all_serve(tasks) {
        "Ready For Recovery"
    } else {
        "Not Ready For Recovery"
    };
    format!("Session Recovery Status:\n  Overall Status       : {status}\n")
}

/// The table of tasks. Those that die are started again where they were: nobody stands by, and no other task spreads sessions over them.
pub(super) fn tasks(tasks: &[Running]) -> String {
    let active = |facility: Facility| {
        let mine = tasks.iter().filter(|(other, _)| *other == facility);
        mine.filter(|(_, serves)| *serves).count()
    };
    let status = if all_serve(tasks) { "Good" } else { "Recovering" };
    format!(
        "{HEADING} 1/0 Active   {:<6} {:<7}  {:<6} {:<7}  {:<6}  {status}\n",
        active(Facility::Sessmgr),
        0,
        active(Facility::Aaamgr),
        0,
        0,
    )
}

/// What is kept for the next life of each `ipsecmgr`, and what the last ones made of it.
pub(super) fn kept(reader: &Reader) -> String {
    let mut text = String::from("\n");
    for counter in [
        counter::RECORDS,
        counter::RECORD_BYTES,
        counter::NOT_SAVED,
        counter::RECOVERED,
        counter::LOST,
    ] {
        let label = counter.descriptor().label;
        let _ = writeln!(text, "  {label:<27}: {}", reader.sum(counter));
    }
    text
}

fn all_serve(tasks: &[Running]) -> bool {
    tasks
        .iter()
        .all(|(facility, serves)| *serves || !NEEDED.contains(facility))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_ready_when_all_serve_whom_it_takes() {
        let mut running = vec![
            (Facility::Sessmgr, true),
            (Facility::Sessmgr, true),
            (Facility::Aaamgr, true),
            (Facility::Ipsecmgr, true),
            (Facility::Snmp, false),
        ];
        assert!(status(true, &running).contains("Overall Status       : Ready For Recovery\n"));
        assert!(status(false, &running).contains(": Disabled\n"));
        assert!(tasks(&running).ends_with(" 1/0 Active   2      0        1      0        0       Good\n"));
        running[3].1 = false;
        assert!(status(true, &running).contains(": Not Ready For Recovery\n"));
        running[1].1 = false;
        assert!(
            tasks(&running).ends_with(" 1/0 Active   1      0        1      0        0       Recovering\n")
        );
    }
}

//! The `show` commands of `sit`.

use std::fmt::Write;
use std::time::Duration;

use bus::Address;
use bus::messages::common::Output;
use telemetry::Reader;
use telemetry::time::{Civil, Zone};

use crate::crashes::CrashList;
use crate::manager::{Manager, SIT};
use crate::state::Phase;

mod recovery;

/// One line of the task table. All columns together are as wide as a terminal; a longer name of a context is cut.
struct Row {
    address: Address,
    pid: Option<u32>,
    restarts: u32,
    uptime: Duration,
    state: &'static str,
    context: String,
}

/// `show task table`: heading and lines.
pub(crate) fn task_table(manager: &Manager, facility: Option<&str>) -> Output {
    let mut text = String::new();
    for row in rows(manager, facility) {
        let _ = writeln!(text, "{}", table_line(&row));
    }
    Output {
        heading: TABLE_HEADING.to_owned(),
        text,
        ..Output::default()
    }
}

fn table_line(row: &Row) -> String {
    let pid = row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
    let context = if row.context.is_empty() { "-" } else { &row.context };
    format!(
        " 1/0 {:<10} {:>5} {:<8} {:>8} {:>14} {:<16.16} {:>7}",
        row.address.facility.name(),
        row.address.instance,
        row.state,
        row.restarts,
        duration(row.uptime),
        context,
        pid,
    )
}

/// `show system uptime`.
pub(crate) fn uptime(manager: &Manager) -> String {
    let seconds = manager.since.elapsed().as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    format!("System uptime: {days}D {hours}H {minutes}M\n")
}

/// `show session recovery status`.
pub(crate) fn recovery_status(manager: &Manager, verbose: bool) -> String {
    let tasks: Vec<recovery::Running> = manager
        .tasks
        .values()
        .map(|entry| (entry.address.facility, entry.phase == Phase::Ready))
        .collect();
    let mut text = recovery::status(manager.recovery, &tasks);
    if verbose {
        text.push_str(&recovery::tasks(&tasks));
        if let Ok(reader) = Reader::open(&manager.options.run_dir.join("counters")) {
            text.push_str(&recovery::kept(&reader));
        }
    }
    text
}

/// `show crash list`.
pub(crate) fn crash_list(list: &CrashList) -> String {
    let zone = Zone::local();
    let mut text = CRASH_HEADING.to_owned();
    let first = list.total().saturating_sub(list.crashes().len() as u64) + 1;
    for (number, crash) in (first..).zip(list.crashes()) {
        let time = Civil::local(crash.time, &zone).stamp();
        let process = format!("01/0/{:05}", crash.pid);
        let _ = writeln!(
            text,
            "{number:<3} {time:<20} {:<8} {process:<10} {:<15} {}",
            crash.facility, crash.version, crash.cause
        );
    }
    let _ = writeln!(text, "Total Crashes : {}", list.total());
    text
}

const TABLE_HEADING: &str = concat!(
    "     task\n",
    " cpu facility    inst state    restarts         uptime context              pid\n",
    "---- ---------- ----- -------- -------- -------------- ---------------- -------\n",
);

const CRASH_HEADING: &str = concat!(
    "=== ==================== ======== ========== =============== =======================\n",
    "#           Time         Process  Card/CPU/        SW          HW_SER_NUM\n",
    "                                     PID         VERSION       MIO / Crash Card\n",
    "=== ==================== ======== ========== =============== =======================\n",
    "\n",
);

fn rows(manager: &Manager, facility: Option<&str>) -> Vec<Row> {
    let own = Row {
        address: SIT,
        pid: Some(std::process::id()),
        restarts: 0,
        uptime: manager.since.elapsed(),
        state: "running",
        context: String::new(),
    };
    let others = manager.tasks.values().map(|entry| Row {
        address: entry.address,
        pid: entry.pid(),
        restarts: entry.lives.saturating_sub(1 + entry.replaced),
        uptime: entry.uptime(),
        state: match entry.phase {
            Phase::Waiting => "waiting",
            Phase::Starting => "starting",
            Phase::Ready => "running",
            Phase::Stopping => "stopping",
        },
        context: entry.context.clone(),
    });
    let wanted = |row: &Row| {
        facility.is_none_or(|facility| facility.eq_ignore_ascii_case(row.address.facility.name()))
    };
    std::iter::once(own).chain(others).filter(wanted).collect()
}

/// `2D 3H 4M`, or seconds in the first minute.
fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        return format!("{seconds}S");
    }
    format!(
        "{}D {}H {}M",
        seconds / 86_400,
        seconds / 3_600 % 24,
        seconds / 60 % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_task_table_fits_a_terminal() {
        let row = Row {
            address: Address::new(bus::Facility::Ipsecmgr, 12),
            pid: Some(4_194_304),
            restarts: 1,
            uptime: Duration::from_secs(1_000_000),
            state: "starting",
            context: "a-context-with-a-long-name".to_owned(),
        };
        let line = table_line(&row);
        let heading: Vec<&str> = TABLE_HEADING.lines().collect();
        assert!(line.len() <= 80, "{line}");
        assert_eq!([heading[1].len(), heading[2].len()], [line.len(); 2]);
        // Blanks between columns stand below each other.
        for (place, _) in heading[2].match_indices(' ') {
            assert_eq!(line.as_bytes()[place], b' ', "{line}");
        }
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_secs(59)), "59S");
        assert_eq!(duration(Duration::from_secs(90_061)), "1D 1H 1M");
    }
}

//! The `show` commands of `sit`.

use std::fmt::Write;
use std::time::Duration;

use bus::{Address, Facility};
use telemetry::Reader;
use telemetry::counters::{Counter, session};
use telemetry::time::{Civil, Zone};

use crate::crashes::CrashList;
use crate::manager::{Manager, SIT};
use crate::state::Phase;
use crate::usage::{Usage, Verdict, allocation};

/// Heartbeats missed in a row from which a task is suspect.
const SUSPECT: u32 = 2;

/// One line of the task table.
struct Row {
    address: Address,
    pid: Option<u32>,
    restarts: u32,
    uptime: Duration,
    state: &'static str,
    context: String,
    usage: Usage,
    missed: u32,
}

/// `show task table`: heading and lines.
pub(crate) fn task_table(manager: &Manager, facility: Option<&str>) -> (String, String) {
    let mut text = String::new();
    for row in rows(manager, facility) {
        let Row {
            address,
            restarts,
            uptime,
            state,
            context,
            ..
        } = &row;
        let pid = row.pid.map_or_else(|| "-".to_owned(), |pid| pid.to_string());
        let context = if context.is_empty() { "-" } else { context };
        let _ = writeln!(
            text,
            " 1/0 {:<12}{:>6} {:<9}{:>8} {:>14} {:<16}{:>8}",
            address.facility.name(),
            address.instance,
            state,
            restarts,
            duration(*uptime),
            context,
            pid,
        );
    }
    (TABLE_HEADING.to_owned(), text)
}

/// `show task resources`: heading and lines.
pub(crate) fn task_resources(manager: &Manager, facility: Option<&str>) -> (String, String) {
    let sessions = Reader::open(&manager.options.run_dir.join("counters")).ok();
    let mut text = String::new();
    for row in rows(manager, facility) {
        let sessions = sessions
            .as_ref()
            .and_then(|reader| sessions_of(reader, row.address));
        text.push_str(&resources_line(&row, sessions));
    }
    (RESOURCES_HEADING.to_owned(), text)
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
    "                   task\n",
    " cpu facility      inst state    restarts         uptime context              pid\n",
    "---- ----------------- -------- -------- -------------- --------------- --------\n",
);

const RESOURCES_HEADING: &str = concat!(
    "                   task   cputime        memory     files      sessions\n",
    " cpu facility      inst  used  allc   used  alloc used allc  used  allc S status\n",
    "----------------------- ----------- ------------- --------- ------------- ------\n",
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
        usage: manager.own_usage,
        missed: 0,
    };
    let others = manager.tasks.values().map(|entry| Row {
        address: entry.address,
        pid: entry.pid(),
        restarts: entry.lives.saturating_sub(1),
        uptime: entry.uptime(),
        state: match entry.phase {
            Phase::Waiting => "waiting",
            Phase::Starting => "starting",
            Phase::Ready => "running",
            Phase::Stopping => "stopping",
        },
        context: entry.context.clone(),
        usage: entry.usage,
        missed: entry.missed,
    });
    let wanted = |row: &Row| {
        facility.is_none_or(|facility| facility.eq_ignore_ascii_case(row.address.facility.name()))
    };
    std::iter::once(own).chain(others).filter(wanted).collect()
}

fn resources_line(row: &Row, sessions: Option<u64>) -> String {
    let allowed = allocation(row.address.facility);
    let verdict = match row.usage.verdict(allowed) {
        Verdict::Good if row.missed >= SUSPECT || row.pid.is_none() => Verdict::Warn,
        verdict => verdict,
    };
    let cpu = format!("{}.{:02}%", row.usage.cpu / 100, row.usage.cpu % 100);
    let sessions = sessions.map_or_else(|| "--".to_owned(), |sessions| sessions.to_string());
    // `I`: initialised and in service.
    let service = if row.pid.is_some() { "I" } else { "-" };
    format!(
        " 1/0 {:<12}{:>6}{:>6} {:>4}% {:>6} {:>6} {:>4} {:>4} {:>5} {:>5} {} {:>6}\n",
        row.address.facility.name(),
        row.address.instance,
        cpu,
        allowed.cpu,
        mebibytes(row.usage.memory),
        mebibytes(allowed.memory),
        row.usage.files,
        allowed.files,
        sessions,
        "--",
        service,
        verdict.name(),
    )
}

fn sessions_of(reader: &Reader, address: Address) -> Option<u64> {
    const SESSIONS: Counter = session::CURRENT_CALLS;
    (address.facility == Facility::Sessmgr).then(|| {
        reader
            .instance(address.facility.name(), address.instance, SESSIONS)
            .unwrap_or(0)
    })
}

/// `126.9M`.
fn mebibytes(octets: u64) -> String {
    let tenths = octets.saturating_mul(10) >> 20;
    format!("{}.{}M", tenths / 10, tenths % 10)
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

    fn row() -> Row {
        Row {
            address: Address::new(Facility::Sessmgr, 4),
            pid: Some(4_711),
            restarts: 1,
            uptime: Duration::from_secs(90_061),
            state: "running",
            context: String::new(),
            usage: Usage {
                cpu: 40,
                memory: 224_082_330,
                files: 32,
                ..Usage::default()
            },
            missed: 0,
        }
    }

    #[test]
    fn resources_have_the_columns_of_the_reference() {
        let line = resources_line(&row(), Some(12));
        let columns: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            columns,
            [
                "1/0", "sessmgr", "4", "0.40%", "110%", "213.7M", "2048.0M", "32", "1024", "12", "--", "I",
                "good"
            ]
        );
        let suspect = Row {
            missed: SUSPECT,
            ..row()
        };
        assert!(
            resources_line(&suspect, None).ends_with("--    -- I   warn\n"),
            "{}",
            resources_line(&suspect, None)
        );
        let over = Row {
            usage: Usage {
                files: 5_000,
                ..Usage::default()
            },
            ..row()
        };
        assert!(resources_line(&over, None).ends_with("over\n"));
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(duration(Duration::from_secs(59)), "59S");
        assert_eq!(duration(row().uptime), "1D 1H 1M");
    }
}

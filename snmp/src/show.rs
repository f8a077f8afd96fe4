//! `show snmp ...`.

use std::time::SystemTime;

use telemetry::time::{Civil, Zone, unix_seconds};

use mibs::AgentStatistics;

use crate::outbox::Target;
use crate::protocol::{Access, Community};
use crate::traps::{Entry, PERIOD, Period, TrapCounts};

/// `show snmp communities`.
pub fn communities(communities: &[Community]) -> String {
    let mut text = String::from(
        "Community Name                   Access Level\n-------------------------------- ------------\n",
    );
    for community in communities {
        let access = match community.access {
            Access::ReadOnly => "read-only",
            Access::ReadWrite => "read-write",
        };
        text.push_str(&format!(
            "{:<32} {access}\n",
            String::from_utf8_lossy(&community.name)
        ));
    }
    text
}

/// A line of `show snmp trap history`; with `verbose`, the sentence of the log below it.
pub fn history_line(entry: &Entry, verbose: bool, zone: &Zone) -> String {
    let Entry {
        time,
        number,
        name,
        text,
        sentence,
    } = entry;
    let date = Civil::local(*time, zone).asctime();
    let line = format!("{date} Internal trap notification {number} ({name}) {text}");
    let line = line.trim_end();
    if verbose {
        format!("{line}\n    {sentence}\n")
    } else {
        format!("{line}\n")
    }
}

/// `show snmp notifies`.
pub fn notifies(
    counts: &[(&'static str, TrapCounts)],
    period: Period,
    cleared: Option<SystemTime>,
    sending: bool,
    zone: &Zone,
) -> String {
    let total: u64 = counts.iter().map(|(_, counts)| counts.generated).sum();
    let last = counts
        .iter()
        .filter(|(_, counts)| counts.generated > 0)
        .map(|(_, counts)| counts.last)
        .max();
    let last = last.map_or("Never".to_owned(), |time| long(time, zone));
    let sending = if sending {
        "enabled"
    } else {
        "disabled, no target is configured"
    };
    let cleared = cleared.map_or("Notifications have never been cleared".to_owned(), |time| {
        format!("Notifications last cleared      : {}", long(time, zone))
    });
    let text = format!(
        "SNMP Notification Statistics:\n\
         \x20 Total number of notifications   : {total}\n\
         \x20 Last notification sent          : {last}\n\
         \x20 Notification sending is         : {sending}\n\
         \x20 {cleared}\n\
         \x20 Notifications in current period : {}\n\
         \x20 Notifications in previous period: {}\n\
         \x20 Notification monitor period     : {} seconds\n\n",
        period.current,
        period.previous,
        PERIOD.as_secs()
    );
    text + &statistics(counts, zone)
}

/// `show snmp trap statistics`: a line for each notification.
pub fn statistics(counts: &[(&'static str, TrapCounts)], zone: &Zone) -> String {
    let mut text = String::from(
        "Trap Name                            #Gen #Disc  Disable Last Generated\n\
         ----------------------------------- ----- -----  ------- --------------------\n",
    );
    for (name, counts) in counts {
        let last = if counts.generated == 0 {
            "Never".to_owned()
        } else {
            colons(counts.last, zone)
        };
        text.push_str(&format!(
            "{name:<35} {:>5} {:>5} {:>7}  {last}\n",
            counts.generated, counts.discarded, counts.disabled
        ));
    }
    text
}

/// `show snmp server`: who may ask, what was asked, and who is told.
pub fn server(communities: usize, targets: &[Target], agent: AgentStatistics) -> String {
    let rows = [
        ("Communities", communities as u64),
        ("Requests received", u64::from(agent.packets)),
        ("Bad versions", u64::from(agent.bad_versions)),
        ("Bad community names", u64::from(agent.bad_community_names)),
        ("Bad community uses", u64::from(agent.bad_community_uses)),
        ("Decode errors", u64::from(agent.parse_errors)),
        ("Silent drops", u64::from(agent.silent_drops)),
    ];
    let mut text = String::from("SNMP Server Configuration:\n");
    for (label, value) in rows {
        text.push_str(&format!("  {label:<31} : {value}\n"));
    }
    for target in targets {
        text.push_str(&format!("  Target {:<24} : {}\n", target.name, target.address));
    }
    text
}

/// `Thursday April 04 14:41:03 ART 2024`.
fn long(time: SystemTime, zone: &Zone) -> String {
    Civil::local(time, zone).long(&zone.offset(unix_seconds(time)).abbreviation)
}

/// `2024:03:20:01:08:18`.
fn colons(time: SystemTime, zone: &Zone) -> String {
    let Civil {
        year,
        month,
        day,
        hour,
        minute,
        second,
        ..
    } = Civil::local(time, zone);
    format!("{year:04}:{month:02}:{day:02}:{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    fn counts(generated: u64, disabled: u64) -> TrapCounts {
        // 2024-03-20 01:08:18 UTC.
        let last = UNIX_EPOCH + Duration::from_secs(1_710_896_898);
        TrapCounts {
            generated,
            discarded: 0,
            disabled,
            last,
        }
    }

    #[test]
    fn the_layout_of_communities() {
        let community = Community {
            name: b"public".to_vec(),
            access: Access::ReadOnly,
        };
        let text = communities(&[community]);
        assert_eq!(
            text.lines().nth(2),
            Some("public                           read-only")
        );
    }

    #[test]
    fn the_layout_of_statistics() {
        let text = statistics(
            &[("CardUp", counts(55, 0)), ("CardDown", counts(0, 3))],
            &Zone::utc(),
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[2],
            "CardUp                                 55     0       0  2024:03:20:01:08:18"
        );
        assert_eq!(
            lines[3],
            "CardDown                                0     0       3  Never"
        );
    }

    #[test]
    fn the_layout_of_notifies() {
        let period = Period::default();
        let text = notifies(
            &[("CardUp", counts(55, 0))],
            period,
            None,
            true,
            &Zone::posix("ART3").unwrap(),
        );
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines[1], "  Total number of notifications   : 55");
        assert_eq!(
            lines[2],
            "  Last notification sent          : Tuesday March 19 22:08:18 ART 2024"
        );
        assert_eq!(lines[7], "  Notification monitor period     : 300 seconds");
        assert!(notifies(&[], period, None, false, &Zone::utc()).contains(": Never\n"));
    }

    #[test]
    fn the_layout_of_the_server() {
        let target = Target {
            name: "nms".into(),
            address: "192.0.2.9:162".parse().unwrap(),
            community: Vec::new(),
            form: crate::protocol::Form::TrapV2c,
        };
        let agent = AgentStatistics {
            packets: 17,
            ..AgentStatistics::default()
        };
        let text = server(2, &[target], agent);
        assert!(
            text.contains("  Requests received               : 17\n"),
            "{text}"
        );
        assert!(
            text.ends_with("  Target nms                      : 192.0.2.9:162\n"),
            "{text}"
        );
    }

    #[test]
    fn the_layout_of_the_history() {
        let entry = Entry {
            // 2022-08-10 09:45:32 UTC.
            time: UNIX_EPOCH + Duration::from_secs(1_660_124_732),
            number: 1099,
            name: "ManagerRestart",
            text: "facility certmgr instance 1".into(),
            sentence: "certmgr 1 restarted (pid 7)".into(),
        };
        assert_eq!(
            history_line(&entry, false, &Zone::utc()),
            "Wed Aug 10 09:45:32 2022 Internal trap notification 1099 (ManagerRestart) facility certmgr instance 1\n"
        );
    }
}

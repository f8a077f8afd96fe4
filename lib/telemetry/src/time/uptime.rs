//! How long a process has been running.

use std::time::Duration;

/// How long the parent of this process has been running: for a task, the node. `None` when the kernel does not tell.
pub fn node_uptime() -> Option<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", std::os::unix::process::parent_id())).ok()?;
    let uptime = std::fs::read_to_string("/proc/uptime").ok()?;
    age(&stat, &uptime)
}

/// The age of the process of `/proc/PID/stat`, at the time of `/proc/uptime`.
fn age(stat: &str, uptime: &str) -> Option<Duration> {
    // The name, in parentheses, may contain anything; the start is the 20th field behind it, in hundredths of a second since boot.
    let (_, fields) = stat.rsplit_once(')')?;
    let start: f64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let now: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64((now - start / 100.0).max(0.0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_age_is_the_difference() {
        let stat = "4711 (a) b) S 1 4711 4711 0 -1 4194560 1 0 0 0 1 1 0 0 20 0 1 0 12345 1000 100 18446744073709551615\n";
        assert_eq!(age(stat, "200.50 100.00\n"), Some(Duration::from_millis(77_050)));
        assert_eq!(age("4711 (sit) S 1", "200.50 1"), None);
        assert_eq!(age(stat, ""), None);
        assert!(node_uptime().is_some());
    }
}

//! How busy the data plane was of late: its own account of the time it worked, looked at once in a while.

use std::collections::VecDeque;
use std::time::Duration;

/// The last second, as far as looks are that close together, and the last minute.
pub(crate) const SECOND: Duration = Duration::from_secs(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);
/// Between two looks that are kept: no closer, so that a minute of them is few.
const LEAST: Duration = Duration::from_millis(200);

/// What the account said at earlier times.
#[derive(Debug, Default)]
pub(crate) struct Busy {
    looks: VecDeque<Look>,
}

/// Nanoseconds of CLOCK_MONOTONIC, and of work until then.
#[derive(Clone, Copy, Debug)]
struct Look {
    at_ns: u64,
    busy_ns: u64,
}

impl Busy {
    /// Notes what the account says now.
    pub(crate) fn look(&mut self, at_ns: u64, busy_ns: u64) {
        let is_close = |last: &Look| at_ns.saturating_sub(last.at_ns) < LEAST.as_nanos() as u64;
        if self.looks.back().is_some_and(is_close) {
            return;
        }
        self.looks.push_back(Look { at_ns, busy_ns });
        // One from before the last minute stays, to count from.
        let minute_ago = at_ns.saturating_sub(MINUTE.as_nanos() as u64);
        while self.looks.get(1).is_some_and(|second| second.at_ns <= minute_ago) {
            self.looks.pop_front();
        }
    }

    /// Thousandths of the last `span` (or of what is known of it) that were work; 0 before the second look.
    pub(crate) fn permille(&self, span: Duration) -> u64 {
        let Some(last) = self.looks.back() else { return 0 };
        let from = last.at_ns.saturating_sub(span.as_nanos() as u64);
        let before = self.looks.iter().rev().find(|look| look.at_ns <= from);
        let Some(before) = before.or(self.looks.front()) else {
            return 0;
        };
        let (time, busy) = (
            last.at_ns - before.at_ns,
            last.busy_ns.saturating_sub(before.busy_ns),
        );
        let permille = u128::from(busy) * 1000 / u128::from(time.max(1));
        // A round that began before the span is counted when it ends.
        (permille as u64).min(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn the_last_second_and_the_last_minute() {
        let mut busy = Busy::default();
        assert_eq!(busy.permille(SECOND), 0);
        busy.look(5 * MS, 0);
        assert_eq!(busy.permille(MINUTE), 0);
        // Half of the time for two minutes, then a tenth for one second.
        for step in 1..=600u64 {
            busy.look((5 + step * 200) * MS, step * 100 * MS);
        }
        assert_eq!((busy.permille(SECOND), busy.permille(MINUTE)), (500, 500));
        for step in 1..=5u64 {
            busy.look((120_005 + step * 200) * MS, (60_000 + step * 20) * MS);
        }
        assert_eq!((busy.permille(SECOND), busy.permille(MINUTE)), (100, 493));
        assert!(busy.looks.len() <= 302, "{}", busy.looks.len());
    }

    #[test]
    fn looks_that_are_too_close_are_not_kept_and_nothing_is_more_than_all() {
        let mut busy = Busy::default();
        for step in 0..1000 {
            busy.look(step * MS, step * 2 * MS);
        }
        assert!(busy.looks.len() <= 5);
        assert_eq!(busy.permille(SECOND), 1000);
    }
}

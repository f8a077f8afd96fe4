//! How often peers can make this process say that they were refused: nobody who proved nothing may fill log and trap history. Counters have all.

use std::time::{Duration, Instant};

/// Refusals that are reported one by one, in so much time.
const MOST: u32 = 50;
const WINDOW: Duration = Duration::from_secs(1);

/// Refusals of the present second.
#[derive(Debug)]
pub(crate) struct Refusals {
    begin: Instant,
    reported: u32,
    left_out: u64,
}

impl Refusals {
    /// Nothing was refused yet.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begin: now,
            reported: 0,
            left_out: 0,
        }
    }

    /// Somebody is refused: is it to be reported?
    pub(crate) fn may_report(&mut self, now: Instant) -> bool {
        self.settle(now);
        if self.reported == MOST {
            self.left_out += 1;
            return false;
        }
        self.reported += 1;
        true
    }

    /// Says how many were left out, once their second is over.
    pub(crate) fn settle(&mut self, now: Instant) {
        if let Some(left_out) = self.end(now) {
            tracing::warn!(
                "{left_out} more peers were refused within a second: \"show crypto statistics ikev2\" counts them by cause"
            );
        }
    }

    /// Begins anew when the second is over; returns how many were left out in it, if any were.
    fn end(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.begin) < WINDOW {
            return None;
        }
        let left_out = self.left_out;
        *self = Self::new(now);
        (left_out > 0).then_some(left_out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_reported_in_part_and_counted_whole() {
        let start = Instant::now();
        let mut refusals = Refusals::new(start);
        let reported = (0..1_000).filter(|_| refusals.may_report(start)).count();
        assert_eq!(reported, MOST as usize);
        assert_eq!(refusals.end(start + WINDOW / 2), None);
        assert_eq!(refusals.end(start + WINDOW), Some(1_000 - u64::from(MOST)));
        assert_eq!(refusals.end(start + WINDOW * 2), None);
        assert!(refusals.may_report(start + WINDOW * 2));
    }
}

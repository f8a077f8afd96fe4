//! Rests between reads while much comes, so that whoever sends on the same processor is not interrupted for every packet.
//!
//! A program that waits for packets is woken by each one that finds nothing else waiting, and takes the processor from its sender: two switches a packet, more than
//! reading it costs. Who sleeps for a moment instead finds several.

use std::time::{Duration, Instant};

/// How long is counted before it is judged.
const WINDOW: Duration = Duration::from_millis(1);
/// Packets a second that are much: one within each rest.
const MANY: f64 = 20_000.0;
/// Shorter than what the kernel adds to any sleep.
const REST: Duration = Duration::from_micros(50);

/// How much came lately.
#[derive(Debug)]
pub(crate) struct Pace {
    begun: Instant,
    count: usize,
    is_busy: bool,
    /// More may wait.
    is_behind: bool,
}

impl Pace {
    /// Nothing came yet.
    pub(crate) fn new() -> Self {
        Self {
            begun: Instant::now(),
            count: 0,
            is_busy: false,
            is_behind: false,
        }
    }

    /// So many packets were read, and perhaps more wait.
    pub(crate) fn took(&mut self, packets: usize, more: bool) {
        self.is_behind = more;
        self.took_at(packets, Instant::now());
    }

    /// Sleeps for a moment if much came lately and all of it was read.
    pub(crate) fn rest(&self) {
        if self.is_busy && !self.is_behind {
            std::thread::sleep(REST);
        }
    }

    fn took_at(&mut self, packets: usize, now: Instant) {
        self.count += packets;
        let elapsed = now.saturating_duration_since(self.begun);
        if elapsed >= WINDOW {
            self.is_busy = self.count as f64 > MANY * elapsed.as_secs_f64();
            self.begun = now;
            self.count = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn much_is_judged_by_what_came_lately() {
        let mut pace = Pace::new();
        let start = pace.begun;
        let mut at = |packets, microseconds| {
            pace.took_at(packets, start + Duration::from_micros(microseconds));
            pace.is_busy
        };
        assert!(!at(1000, 999), "too early to say");
        assert!(at(1, 1000));
        assert!(at(21, 2000));
        assert!(!at(19, 3000));
        assert!(at(100, 4000));
        assert!(!at(100, 1_000_000), "they came late");
    }
}

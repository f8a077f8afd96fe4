//! How long to wait before a task that died is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A task that served and lived for so long is in no crash loop: whoever kills it gets it back at once.
const STABLE: Duration = Duration::from_secs(3);

/// Immediately first, then 100 ms doubling to 10 s; a life that was of use begins anew.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// One whose next wait is this.
    pub fn with_next(next: Duration) -> Self {
        Self {
            next: next.min(LONGEST),
        }
    }

    /// The next wait, if the life before was of no use.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// The wait after a life that lasted for `life` and was `ready` or not at its end.
    pub fn after(&mut self, life: Duration, ready: bool) -> Duration {
        if ready && life >= STABLE {
            self.next = Duration::ZERO;
        }
        let wait = self.next;
        self.next = (wait * 2).clamp(FIRST, LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_grows_and_is_forgiven() {
        let mut backoff = Backoff::default();
        let short = Duration::from_secs(1);
        let waits: Vec<_> = (0..10).map(|_| backoff.after(short, true).as_millis()).collect();
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]
        );
        assert_eq!(backoff.after(10 * STABLE, false), LONGEST, "it never served");
        assert_eq!(backoff.after(STABLE, true), Duration::ZERO);
        assert_eq!(backoff.after(short, true), FIRST);
    }

    #[test]
    fn a_served_life_is_followed_by_the_next_at_once_however_often_it_is_killed() {
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            assert_eq!(backoff.after(STABLE, true), Duration::ZERO);
        }
    }
}

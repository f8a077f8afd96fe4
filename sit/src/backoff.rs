//! How long to wait before a task that died is started again.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(10);
/// A life of this length shows that the fault is over.
const STABLE: Duration = Duration::from_secs(60);

/// Immediately first, then 100 ms doubling to 10 s; a life of 60 s begins anew.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    /// The wait after a life that lasted for `life`.
    pub fn after(&mut self, life: Duration) -> Duration {
        if life >= STABLE {
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
        let waits: Vec<_> = (0..10).map(|_| backoff.after(short).as_millis()).collect();
        assert_eq!(
            waits,
            [0, 100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]
        );
        assert_eq!(backoff.after(STABLE), Duration::ZERO);
        assert_eq!(backoff.after(short), FIRST);
    }
}

//! Thresholds in the alarm model: one alarm when a value is reached at the end of a polling interval, one clear when it is below again.

use std::collections::BTreeSet;
use std::time::Duration;

use config::{Threshold, Thresholds};
use telemetry::events::{ThreshCPUCryptoCoresUtilization, ThreshClearCPUCryptoCoresUtilization, emit};
use tokio::time::Instant;

/// The use of the processors of the data plane.
#[derive(Debug)]
pub(crate) struct CoreAlarms {
    settings: Thresholds,
    raised: BTreeSet<u32>,
    next: Instant,
}

/// What to tell of a processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Raised { core: u32, measured: u32 },
    Cleared { core: u32, measured: u32 },
}

impl CoreAlarms {
    /// Nothing is watched yet.
    pub fn new(now: Instant) -> Self {
        Self {
            settings: Thresholds::default(),
            raised: BTreeSet::new(),
            next: now,
        }
    }

    /// The thresholds.
    pub fn settings(&self) -> &Thresholds {
        &self.settings
    }

    /// Takes over the thresholds: an interval begins when they change, and what is no longer watched is cleared at once.
    pub fn configure(&mut self, now: Instant, settings: &Thresholds) {
        if self.settings == *settings {
            return;
        }
        self.settings = settings.clone();
        self.next = now + self.interval();
        if self.settings.crypto_cores.is_none() {
            for core in std::mem::take(&mut self.raised) {
                tell(
                    Change::Cleared { core, measured: 0 },
                    Threshold { high: 0, clear: None },
                );
            }
        }
    }

    /// Looks at the processors, with their use in percent, when an interval ends.
    pub fn look(&mut self, now: Instant, cores: impl IntoIterator<Item = (u32, f64)>) {
        let Some(threshold) = self.settings.crypto_cores else {
            return;
        };
        if now >= self.next {
            self.next = now + self.interval();
            for change in self.judge(threshold, cores) {
                tell(change, threshold);
            }
        }
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(self.settings.crypto_cores_poll.into())
    }

    fn judge(&mut self, threshold: Threshold, cores: impl IntoIterator<Item = (u32, f64)>) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut gone = self.raised.clone();
        for (core, used) in cores {
            gone.remove(&core);
            // Rounded down: what is told to have reached the threshold has.
            let measured = used.clamp(0.0, 100.0) as u32;
            if measured >= threshold.high && self.raised.insert(core) {
                changes.push(Change::Raised { core, measured });
            } else if measured < threshold.low() && self.raised.remove(&core) {
                changes.push(Change::Cleared { core, measured });
            }
        }
        // The data plane has left them.
        for core in gone {
            self.raised.remove(&core);
            changes.push(Change::Cleared { core, measured: 0 });
        }
        changes
    }
}

fn tell(change: Change, threshold: Threshold) {
    match change {
        Change::Raised { core, measured } => emit(&ThreshCPUCryptoCoresUtilization {
            core,
            threshold: threshold.high,
            measured,
        }),
        Change::Cleared { core, measured } => emit(&ThreshClearCPUCryptoCoresUtilization {
            core,
            threshold: threshold.low(),
            measured,
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_alarm_is_raised_once_and_cleared_once() {
        let threshold = Threshold {
            high: 80,
            clear: Some(60),
        };
        let mut alarms = CoreAlarms::new(Instant::now());
        let mut judge = |one: f64, two: f64| alarms.judge(threshold, [(1, one), (2, two)]);
        assert_eq!(judge(79.9, 10.0), []);
        assert_eq!(
            judge(80.1, 10.0),
            [Change::Raised {
                core: 1,
                measured: 80
            }]
        );
        assert_eq!(judge(99.0, 10.0), [], "it is raised already");
        assert_eq!(judge(60.0, 10.0), [], "not below yet");
        assert_eq!(
            judge(59.0, 81.0),
            [
                Change::Cleared {
                    core: 1,
                    measured: 59
                },
                Change::Raised {
                    core: 2,
                    measured: 81
                },
            ]
        );
        assert_eq!(
            alarms.judge(threshold, [(1, 0.0)]),
            [Change::Cleared { core: 2, measured: 0 }],
            "the data plane has left it"
        );
    }

    #[tokio::test]
    async fn it_is_looked_at_when_the_interval_ends() {
        let start = Instant::now();
        let mut alarms = CoreAlarms::new(start);
        let settings = Thresholds {
            crypto_cores: Some(Threshold {
                high: 50,
                clear: None,
            }),
            crypto_cores_poll: 30,
        };
        alarms.configure(start, &settings);
        let second = Duration::from_secs(1);
        alarms.look(start + 29 * second, [(0, 100.0)]);
        assert!(alarms.raised.is_empty());
        alarms.look(start + 30 * second, [(0, 100.0)]);
        assert_eq!(alarms.raised, [0].into());
        alarms.look(start + 59 * second, [(0, 0.0)]);
        assert_eq!(alarms.raised, [0].into());
        alarms.configure(start, &Thresholds::default());
        assert!(alarms.raised.is_empty(), "no longer watched");
    }
}

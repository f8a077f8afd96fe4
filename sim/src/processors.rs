//! How busy the processors are.

/// Jiffies of one processor: busy, all.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Times {
    busy: u64,
    all: u64,
}

/// The processors of the machine.
#[derive(Debug)]
pub(crate) struct Processors(Vec<Times>);

impl Processors {
    /// As they are now.
    pub(crate) fn read() -> Self {
        Self(times(&std::fs::read_to_string("/proc/stat").unwrap_or_default()))
    }

    /// How busy each was since `before`, in percent.
    pub(crate) fn percent_since(&self, before: &Self) -> Vec<u64> {
        let percent = |(now, before): (&Times, &Times)| {
            let all = now.all.saturating_sub(before.all).max(1);
            (now.busy.saturating_sub(before.busy) * 100 / all).min(100)
        };
        self.0.iter().zip(&before.0).map(percent).collect()
    }
}

/// From the text of /proc/stat; empty where there is none.
fn times(text: &str) -> Vec<Times> {
    text.lines()
        .filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "))
        .map(|line| {
            let times: Vec<u64> = line
                .split_whitespace()
                .skip(1)
                .filter_map(|time| time.parse().ok())
                .collect();
            let all: u64 = times.iter().sum();
            // Idle and waiting for I/O.
            let idle: u64 = times.iter().skip(3).take(2).sum();
            Times {
                busy: all - idle,
                all,
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_and_waiting_are_not_busy() {
        let read = |line: &str| Processors(times(&format!("cpu  1 1 1 1\n{line}\nintr 5\n")));
        let before = read("cpu0 100 0 100 700 100 0 0");
        let after = read("cpu0 120 0 110 720 150 0 0");
        assert_eq!(after.percent_since(&before), [30]);
        // Counters that go back, as they may.
        assert_eq!(before.percent_since(&after), [0]);
    }
}

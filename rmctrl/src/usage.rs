//! What each task uses: sampled from the kernel, judged against what a task of its facility is expected to use.

use std::time::Duration;

use bus::Facility;
use netio::Pid;
use netio::task::ResourceUsage;
use tokio::time::Instant;

/// The last sample of a task.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Share of one processor since the sample before, in hundredths of a percent.
    pub cpu: u64,
    /// Resident memory in octets.
    pub memory: u64,
    pub files: u64,
    /// When it was taken, and the CPU time until then.
    pub last: Option<(Instant, Duration)>,
}

/// What a facility is expected to stay below.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allocation {
    /// Percent of one processor.
    pub cpu: u64,
    /// Octets.
    pub memory: u64,
    pub files: u64,
}

/// How a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Good,
    Warn,
    Over,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Warn => "warn",
            Self::Over => "over",
        }
    }
}

impl Usage {
    /// Takes a sample of the process `pid`; keeps the last one when it is gone.
    pub fn sample(&mut self, pid: Pid) {
        let Ok(used) = ResourceUsage::of(pid) else { return };
        let now = Instant::now();
        let time = used.user + used.system;
        if let Some((then, before)) = self.last {
            let elapsed = now.saturating_duration_since(then).as_micros().max(1);
            let share = time.saturating_sub(before).as_micros().saturating_mul(10_000) / elapsed;
            self.cpu = u64::try_from(share).unwrap_or(u64::MAX);
        }
        self.last = Some((now, time));
        self.memory = used.resident_bytes;
        self.files = used.open_files;
    }

    /// Compares with what is allowed: `over` above it, `warn` above nine tenths of it.
    pub fn verdict(&self, allowed: Allocation) -> Verdict {
        let pairs = [
            (self.cpu, allowed.cpu.saturating_mul(100)),
            (self.memory, allowed.memory),
            (self.files, allowed.files),
        ];
        if pairs.iter().any(|(used, allowed)| used > allowed) {
            Verdict::Over
        } else if pairs
            .iter()
            .any(|(used, allowed)| used.saturating_mul(10) > allowed.saturating_mul(9))
        {
            Verdict::Warn
        } else {
            Verdict::Good
        }
    }
}

/// The allocation of a facility.
pub(crate) fn allocation(facility: Facility) -> Allocation {
    const MIB: u64 = 1 << 20;
    let (cpu, memory, files) = match facility {
        // One thread that may well be busy all the time; the segments of its slots count as its memory.
        Facility::Iftask => (110, 4_096 * MIB, 4_096),
        Facility::Ipsecmgr => (110, 4_096 * MIB, 4_096),
        Facility::Sessmgr => (110, 2_048 * MIB, 1_024),
        Facility::Sit => (60, 256 * MIB, 65_536),
        _ => (110, 512 * MIB, 1_024),
    };
    Allocation { cpu, memory, files }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_process_shows() {
        let mut usage = Usage::default();
        usage.sample(Pid::this());
        let until = std::time::Instant::now() + Duration::from_millis(120);
        while std::time::Instant::now() < until {
            std::hint::spin_loop();
        }
        usage.sample(Pid::this());
        assert!(usage.cpu > 1_000, "{usage:?}");
        assert!(usage.memory > 1 << 20 && usage.files >= 3, "{usage:?}");
    }

    #[test]
    fn verdicts_follow_the_worst() {
        let allowed = Allocation {
            cpu: 100,
            memory: 1_000,
            files: 10,
        };
        let usage = |cpu, memory, files| Usage {
            cpu,
            memory,
            files,
            last: None,
        };
        assert_eq!(usage(9_000, 900, 9).verdict(allowed), Verdict::Good);
        assert_eq!(usage(9_001, 0, 0).verdict(allowed), Verdict::Warn);
        assert_eq!(usage(0, 950, 11).verdict(allowed), Verdict::Over);
    }
}

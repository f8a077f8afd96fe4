//! The machine as the card schema sees it: one card, its processors and memory.

use std::path::Path;

use bus::messages::rmctrl::DataPlaneCores;
use config::bulkstats::CRYPTO_CORES;

/// Reads the kernel's accounts; keeps the last one, for use is a difference.
#[derive(Debug, Default)]
pub struct CardMeter {
    crypto: CoreUse,
    last: CpuTimes,
    sample: CardSample,
}

/// Use of processors by their numbers, hundredths of a percent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct CoreUse([u16; CRYPTO_CORES.len()]);

impl Default for CoreUse {
    fn default() -> Self {
        Self([0; CRYPTO_CORES.len()])
    }
}

/// What the machine did since the sample before.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CardSample {
    /// Of those that the data plane runs on.
    crypto: CoreUse,
    /// Share of processor time spent, percent.
    busy: f64,
    user: f64,
    system: f64,
    io: f64,
    irq: f64,
    idle: f64,
    processes: u64,
    processors: u64,
    /// Megabytes.
    memory_used: u64,
    memory_total: u64,
}

impl CardMeter {
    /// Takes a sample: processor use since the call before (since boot, the first time), memory now. What cannot be read is zero.
    pub fn sample(&mut self) -> CardSample {
        let proc = Path::new("/proc");
        let read = |name: &str| std::fs::read_to_string(proc.join(name)).unwrap_or_default();
        let (stat, memory, load) = (read("stat"), read("meminfo"), read("loadavg"));
        let times = CpuTimes::parse(&stat);
        let sample = CardSample {
            crypto: self.crypto,
            ..times.since(&self.last).sample(&stat, &memory, &load)
        };
        self.last = times;
        self.sample = sample;
        sample
    }

    /// Takes note of the processors of the data plane. The schema has no variables for those beyond its last.
    pub fn note_data_plane(&mut self, cores: &DataPlaneCores) {
        let CoreUse(uses) = &mut self.crypto;
        uses.fill(0);
        for core in &cores.cores {
            let number = usize::try_from(core.number).unwrap_or(usize::MAX);
            if let Some(place) = uses.get_mut(number) {
                *place = u16::try_from(core.used).unwrap_or(u16::MAX);
            }
        }
    }

    /// The sample before.
    pub fn last(&self) -> CardSample {
        self.sample
    }
}

impl CardSample {
    /// The value of a variable of the card schema.
    pub fn value(&self, variable: &str) -> Option<String> {
        let percent = |value: f64| Some(format!("{value:.2}"));
        match variable {
            "card" => Some("1".to_owned()),
            "cpubusy" | "cpu0-cpubusy" => percent(self.busy),
            "cpuidle" | "cpu0-cpuidle" | "cpu0-cpuused-idle" => percent(self.idle),
            "cpu0-cpuused-user" => percent(self.user),
            "cpu0-cpuused-sys" => percent(self.system),
            "cpu0-cpuused-io" => percent(self.io),
            "cpu0-cpuused-irq" => percent(self.irq),
            "numproc" | "cpu0-numproc" => Some(self.processes.to_string()),
            "numcpu" => Some(self.processors.to_string()),
            "memused" | "cpu0-memused" => Some(self.memory_used.to_string()),
            "memtotal" | "cpu0-memtotal" => Some(self.memory_total.to_string()),
            _ => {
                let number = CRYPTO_CORES.iter().position(|core| *core == variable)?;
                let CoreUse(uses) = self.crypto;
                percent(f64::from(*uses.get(number)?) / 100.0)
            }
        }
    }
}

/// Processor time since boot in the kernel's ticks, all processors together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct CpuTimes {
    user: u64,
    system: u64,
    idle: u64,
    io: u64,
    irq: u64,
}

impl CpuTimes {
    /// Reads `/proc/stat`: `cpu user nice system idle iowait irq softirq steal ...`.
    fn parse(stat: &str) -> Self {
        let line = stat
            .lines()
            .find_map(|line| line.strip_prefix("cpu "))
            .unwrap_or_default();
        let ticks: Vec<u64> = line
            .split_whitespace()
            .map_while(|word| word.parse().ok())
            .collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or(0);
        Self {
            user: at(0) + at(1),
            system: at(2) + at(7),
            idle: at(3),
            io: at(4),
            irq: at(5) + at(6),
        }
    }

    fn since(&self, last: &Self) -> Self {
        Self {
            user: self.user.saturating_sub(last.user),
            system: self.system.saturating_sub(last.system),
            idle: self.idle.saturating_sub(last.idle),
            io: self.io.saturating_sub(last.io),
            irq: self.irq.saturating_sub(last.irq),
        }
    }

    fn sample(&self, stat: &str, memory: &str, load: &str) -> CardSample {
        let total = self.user + self.system + self.idle + self.io + self.irq;
        let percent = |ticks: u64| {
            if total == 0 {
                0.0
            } else {
                ticks as f64 * 100.0 / total as f64
            }
        };
        let kilobytes = |name: &str| {
            let line = memory
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
                .unwrap_or(0)
        };
        let memory_total = kilobytes("MemTotal");
        // `/proc/loadavg`: three averages, then `running/existing`.
        let processes = load
            .split_whitespace()
            .nth(3)
            .and_then(|pair| pair.split_once('/')?.1.parse().ok());
        let numbered = |line: &&str| {
            line.strip_prefix("cpu")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
        };
        CardSample {
            crypto: CoreUse::default(),
            busy: percent(total - self.idle - self.io),
            user: percent(self.user),
            system: percent(self.system),
            io: percent(self.io),
            irq: percent(self.irq),
            idle: percent(self.idle + self.io),
            processes: processes.unwrap_or(0),
            processors: stat.lines().filter(numbered).count() as u64,
            memory_used: memory_total.saturating_sub(kilobytes("MemAvailable")) / 1_024,
            memory_total: memory_total / 1_024,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::variables::rows;

    const STAT: &str =
        "cpu  100 0 50 800 40 5 5 0 0 0\ncpu0 50 0 25 400 20 5 0 0\ncpu1 50 0 25 400 20 0 5 0\nintr 1\n";
    const MEMORY: &str =
        "MemTotal:       33554432 kB\nMemFree:        1000 kB\nMemAvailable:   18255872 kB\n";

    #[test]
    fn the_kernels_accounts_are_read() {
        let sample = CpuTimes::parse(STAT).sample(STAT, MEMORY, "0.10 0.20 0.30 1/280 4711\n");
        let value = |variable| sample.value(variable).unwrap();
        assert_eq!(value("cpubusy"), "16.00");
        assert_eq!(value("cpuidle"), "84.00");
        assert_eq!(value("cpu0-cpuused-irq"), "1.00");
        assert_eq!((value("numproc"), value("numcpu")), ("280".into(), "2".into()));
        assert_eq!(
            (value("memused"), value("memtotal")),
            ("14940".into(), "32768".into())
        );
        assert_eq!(sample.value("ikev2-cursa"), None);
    }

    #[test]
    fn processors_of_the_data_plane_have_their_use() {
        let core = |number, used| bus::messages::rmctrl::DataPlaneCore { number, used };
        let mut meter = CardMeter::default();
        meter.note_data_plane(&DataPlaneCores {
            cores: vec![core(1, 8_125), core(47, 10_000), core(4_000, 1)],
        });
        let sample = meter.sample();
        let value = |number| sample.value(&format!("cpu0-core{number}-coreused-crypto"));
        assert_eq!(value(0).as_deref(), Some("0.00"));
        assert_eq!(value(1).as_deref(), Some("81.25"));
        assert_eq!(value(47).as_deref(), Some("100.00"));
        assert_eq!(value(48), None);
        meter.note_data_plane(&DataPlaneCores::default());
        assert_eq!(meter.sample().value(CRYPTO_CORES[1]).as_deref(), Some("0.00"));
    }

    #[test]
    fn use_is_a_difference_and_every_row_has_a_value() {
        let (first, second) = (
            CpuTimes {
                user: 10,
                idle: 10,
                ..CpuTimes::default()
            },
            CpuTimes::parse(STAT),
        );
        assert_eq!(second.since(&first).user, 90);
        assert_eq!(first.since(&second), CpuTimes::default());
        let sample = CardMeter::default().sample();
        for row in rows().into_iter().filter(|row| row.schema == "card") {
            assert!(sample.value(row.variable).is_some(), "{}", row.variable);
        }
        assert_ne!(sample.value("memtotal").unwrap(), "0");
    }
}

//! The processors and the memory of the node: what the kernel counts, over the last interval, five and fifteen minutes, and at most.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use netio::{NumaNode, cpu_list};

/// Readings of every processor that are kept: five minutes of them.
const READINGS: usize = 60;
/// Readings of the node as a whole that are kept: fifteen minutes of them.
const TOTALS: usize = 3 * READINGS;

/// What the kernel says, as text.
#[derive(Debug, Clone, Default)]
pub(crate) struct Kernel {
    /// `/proc/stat`.
    pub stat: String,
    /// `/proc/meminfo`.
    pub memory: String,
    /// `/proc/loadavg`.
    pub load: String,
    /// `/proc/uptime`.
    pub uptime: String,
}

impl Kernel {
    /// Reads it; what cannot be read is empty.
    pub fn read() -> Self {
        let read = |name: &str| std::fs::read_to_string(Path::new("/proc").join(name)).unwrap_or_default();
        Self {
            stat: read("stat"),
            memory: read("meminfo"),
            load: read("loadavg"),
            uptime: read("uptime"),
        }
    }
}

/// Shares of processor time, percent.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Share {
    pub user: f64,
    pub system: f64,
    pub io: f64,
    pub irq: f64,
    pub idle: f64,
}

impl Share {
    /// What was spent on work.
    pub fn busy(&self) -> f64 {
        self.user + self.system + self.irq
    }

    /// The most of everything that is spent, the least that is left.
    fn extreme(self, other: Self) -> Self {
        Self {
            user: self.user.max(other.user),
            system: self.system.max(other.system),
            io: self.io.max(other.io),
            irq: self.irq.max(other.irq),
            idle: self.idle.min(other.idle),
        }
    }
}

/// What a share is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// All processors.
    Node,
    /// Those of one NUMA node.
    Group(u32),
    /// One.
    Core(u32),
}

/// Everything that is remembered.
#[derive(Debug, Default)]
pub(crate) struct Processors {
    /// NUMA nodes, in ascending order; there is at least one as soon as there is a reading.
    pub groups: Vec<NumaNode>,
    /// 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// The highest of one minute.
    pub load_max: f64,
    /// Mebibytes.
    pub memory_total: u64,
    /// Seconds that the kernel has been up.
    pub uptime: u64,
    readings: VecDeque<BTreeMap<u32, Ticks>>,
    totals: VecDeque<Total>,
    extremes: BTreeMap<Place, Share>,
}

/// The node at one moment.
#[derive(Debug, Clone, Copy)]
struct Total {
    ticks: Ticks,
    /// Mebibytes.
    memory_used: u64,
}

impl Processors {
    /// Takes a reading. `groups` is where the processors are.
    pub fn take(&mut self, kernel: &Kernel, groups: Vec<NumaNode>) {
        let cores = cores(&kernel.stat);
        let mut load = words(&kernel.load);
        self.load = std::array::from_fn(|_| load.next().unwrap_or(0.0));
        self.load_max = self.load_max.max(self.load.first().copied().unwrap_or(0.0));
        self.uptime = words::<f64>(&kernel.uptime).next().unwrap_or(0.0) as u64;
        let kilobytes = |name| kilobytes(&kernel.memory, name);
        self.memory_total = kilobytes("MemTotal") >> 10;
        let memory_used = kilobytes("MemTotal").saturating_sub(kilobytes("MemAvailable")) >> 10;
        self.groups = match groups.is_empty() {
            // A kernel without NUMA.
            true => vec![NumaNode {
                number: 0,
                cores: cores.keys().copied().collect(),
                memory: self.memory_total,
            }],
            false => groups,
        };
        let ticks = cores.values().copied().fold(Ticks::default(), Ticks::plus);
        keep(&mut self.totals, Total { ticks, memory_used }, TOTALS);
        keep(&mut self.readings, cores, READINGS);
        for place in self.places() {
            let Some(share) = self.last(place) else { continue };
            self.extremes
                .entry(place)
                .and_modify(|extreme| *extreme = extreme.extreme(share))
                .or_insert(share);
        }
    }

    /// Every place there is.
    fn places(&self) -> Vec<Place> {
        let groups = self.groups.iter().map(|group| Place::Group(group.number));
        let cores = self.groups.iter().flat_map(|group| &group.cores);
        [Place::Node]
            .into_iter()
            .chain(groups)
            .chain(cores.map(|core| Place::Core(*core)))
            .collect()
    }

    /// Over the last interval; `None` before there are two readings.
    pub fn last(&self, place: Place) -> Option<Share> {
        self.over(place, 1)
    }

    /// Over five minutes, or since the first reading.
    pub fn average(&self, place: Place) -> Option<Share> {
        self.over(place, READINGS)
    }

    /// The most of each kind, and the least left, in an interval.
    pub fn extreme(&self, place: Place) -> Option<Share> {
        self.extremes.get(&place).copied()
    }

    /// The processor time of the node over so many intervals, at most as many as there are.
    pub fn node_over(&self, intervals: usize) -> Option<Share> {
        let (now, before) = ends(&self.totals, intervals)?;
        now.ticks.since(before.ticks).share()
    }

    /// Five minutes and fifteen, in intervals.
    pub const MINUTES: [usize; 2] = [READINGS, TOTALS];

    /// Memory in use, mebibytes: the average of so many readings, at most of those there are.
    pub fn memory_used(&self, readings: usize) -> u64 {
        let latest = self.totals.iter().rev().take(readings.max(1));
        let (count, sum) = latest.fold((0u64, 0u64), |(count, sum), total| {
            (count + 1, sum + total.memory_used)
        });
        sum.checked_div(count).unwrap_or(0)
    }

    fn over(&self, place: Place, intervals: usize) -> Option<Share> {
        let (now, before) = ends(&self.readings, intervals)?;
        let of = |reading: &BTreeMap<u32, Ticks>| match place {
            Place::Node => reading.values().copied().fold(Ticks::default(), Ticks::plus),
            Place::Core(core) => reading.get(&core).copied().unwrap_or_default(),
            Place::Group(number) => {
                let group = self.groups.iter().find(|group| group.number == number);
                let cores = group.into_iter().flat_map(|group| &group.cores);
                cores
                    .filter_map(|core| reading.get(core).copied())
                    .fold(Ticks::default(), Ticks::plus)
            }
        };
        of(now).since(of(before)).share()
    }
}

/// Processors a process may run on, of its `/proc/PID/status`.
pub(crate) fn allowed_processors(status: &str) -> BTreeSet<u32> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    line.map(cpu_list).unwrap_or_default()
}

/// Processor time since boot in the kernel's ticks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Ticks {
    user: u64,
    system: u64,
    io: u64,
    irq: u64,
    idle: u64,
}

impl Ticks {
    /// `user nice system idle iowait irq softirq steal ...` of `/proc/stat`.
    fn parse(text: &str) -> Self {
        let ticks: Vec<u64> = words(text).collect();
        let at = |place: usize| ticks.get(place).copied().unwrap_or(0);
        Self {
            user: at(0).saturating_add(at(1)),
            system: at(2).saturating_add(at(7)),
            io: at(4),
            irq: at(5).saturating_add(at(6)),
            idle: at(3),
        }
    }

    fn plus(self, other: Self) -> Self {
        self.each(other, u64::saturating_add)
    }

    fn since(self, before: Self) -> Self {
        self.each(before, u64::saturating_sub)
    }

    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            user: of(self.user, other.user),
            system: of(self.system, other.system),
            io: of(self.io, other.io),
            irq: of(self.irq, other.irq),
            idle: of(self.idle, other.idle),
        }
    }

    /// `None` when no time has passed.
    fn share(self) -> Option<Share> {
        let parts = [self.user, self.system, self.io, self.irq, self.idle];
        let total = parts.into_iter().fold(0, u64::saturating_add);
        let [user, system, io, irq, idle] = parts.map(|part| part as f64 * 100.0 / total as f64);
        (total > 0).then_some(Share {
            user,
            system,
            io,
            irq,
            idle,
        })
    }
}

/// Every processor of `/proc/stat`: `cpu0 ...`.
fn cores(stat: &str) -> BTreeMap<u32, Ticks> {
    let lines = stat.lines().filter_map(|line| {
        let (number, ticks) = line.strip_prefix("cpu")?.split_once(' ')?;
        Some((number.parse().ok()?, Ticks::parse(ticks)))
    });
    lines.collect()
}

fn kilobytes(memory: &str, name: &str) -> u64 {
    let line = memory
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|line| words(line).next()).unwrap_or(0)
}

fn words<T: std::str::FromStr>(text: &str) -> impl Iterator<Item = T> {
    text.split_whitespace().map_while(|word| word.parse().ok())
}

fn keep<T>(list: &mut VecDeque<T>, value: T, intervals: usize) {
    // One more than intervals, for an interval has two ends.
    if list.len() > intervals {
        list.pop_front();
    }
    list.push_back(value);
}

/// The last value, and the one so many intervals before it or the first.
fn ends<T>(list: &VecDeque<T>, intervals: usize) -> Option<(&T, &T)> {
    let last = list.len().checked_sub(1)?;
    let before = last.saturating_sub(intervals);
    (before < last).then_some((list.get(last)?, list.get(before)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use netio::{NUMA_NODES, numa_nodes};

    /// A machine with four processors in two groups, of which processor 3 works as told: ticks in user mode and idle so far.
    pub(crate) fn kernel(user: u64, idle: u64) -> Kernel {
        Kernel {
            stat: format!(
                "cpu  1 2 3\ncpu0 0 0 0 {idle} 0 0 0 0\ncpu1 0 0 0 {idle} 0 0 0 0\ncpu2 0 0 0 {idle} 0 0 0 0\n\
                 cpu3 {user} 0 0 {idle} 0 0 0 0\nintr 5\n"
            ),
            memory: "MemTotal:       8388608 kB\nMemFree: 5 kB\nMemAvailable:   4194304 kB\n".to_owned(),
            load: "0.14 0.17 0.13 1/280 4711\n".to_owned(),
            uptime: "93784.10 11.1\n".to_owned(),
        }
    }

    pub(crate) fn two_groups() -> Vec<NumaNode> {
        let group = |number, cores: [u32; 2]| NumaNode {
            number,
            cores: cores.into(),
            memory: 4_096,
        };
        vec![group(0, [0, 1]), group(1, [2, 3])]
    }

    #[test]
    fn intervals_averages_and_extremes() {
        let mut processors = Processors::default();
        processors.take(&kernel(0, 0), two_groups());
        assert_eq!(processors.last(Place::Node), None);
        processors.take(&kernel(300, 100), two_groups());
        let busy = |share: Option<Share>| share.unwrap().busy().round();
        assert_eq!(busy(processors.last(Place::Core(3))), 75.0);
        assert_eq!(busy(processors.last(Place::Core(0))), 0.0);
        assert_eq!(busy(processors.last(Place::Group(1))), 60.0);
        assert_eq!(busy(processors.last(Place::Node)), 43.0);
        processors.take(&kernel(300, 400), two_groups());
        assert_eq!(busy(processors.last(Place::Core(3))), 0.0);
        assert_eq!(busy(processors.average(Place::Core(3))), 43.0);
        let extreme = processors.extreme(Place::Core(3)).unwrap();
        assert_eq!((extreme.user, extreme.idle), (75.0, 25.0));
        assert_eq!(
            (processors.memory_total, processors.memory_used(1)),
            (8_192, 4_096)
        );
        assert_eq!(processors.uptime, 93_784);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut processors = Processors::default();
        for minute in 0..1_000 {
            processors.take(&kernel(minute * 10, minute * 90), two_groups());
        }
        assert_eq!(
            (processors.readings.len(), processors.totals.len()),
            (READINGS + 1, TOTALS + 1)
        );
        let [five, fifteen] = Processors::MINUTES;
        assert!(processors.node_over(five).is_some() && processors.node_over(fifteen).is_some());
        assert_eq!(processors.average(Place::Core(3)).unwrap().user.round(), 10.0);
    }

    #[test]
    fn lists_of_processors() {
        assert_eq!(cpu_list("0-2,8\n"), [0, 1, 2, 8].into());
        assert_eq!(cpu_list("\n"), [].into());
        assert_eq!(cpu_list("1-99999999,x,5-3"), [].into());
        let status = "Name:\tiftask\nCpus_allowed:\t2\nCpus_allowed_list:\t1\nMems_allowed:\t1\n";
        assert_eq!(allowed_processors(status), [1].into());
        assert_eq!(allowed_processors(""), [].into());
    }

    #[test]
    fn this_machine_can_be_read() {
        let mut processors = Processors::default();
        processors.take(&Kernel::read(), numa_nodes(Path::new(NUMA_NODES)));
        assert!(processors.memory_total > 0 && processors.uptime > 0);
        assert!(processors.groups.iter().all(|group| !group.cores.is_empty()));
        // Without NUMA there is one group.
        processors.take(&kernel(0, 0), numa_nodes(Path::new("/nonexistent")));
        assert_eq!(processors.groups.len(), 1);
        assert_eq!(processors.groups[0].cores.len(), 4);
    }
}

//! What a gateway costs: processor time and memory of all its processes.

use std::collections::{BTreeSet, HashMap};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// The cost of a process and all its descendants at one moment.
#[derive(Debug, Clone, Default)]
pub struct Cost {
    /// Processor time in user space and in the kernel since their start, in milliseconds.
    pub cpu_ms: f64,
    /// Proportional set size of all of them plus the allocated pages of shared segments that nobody has mapped, in KiB.
    pub memory_kib: f64,
    /// Who they are.
    pub pids: BTreeSet<u32>,
}

/// Shared memory behind descriptors: segment (inode) to its allocated KiB.
type Segments = HashMap<u64, f64>;

impl Cost {
    /// Reads the cost of the tree of processes under `root`, from /proc.
    pub fn of(root: u32) -> Result<Self, String> {
        let pids = tree(root);
        let mut cost = Self::default();
        let mut allocated = Segments::new();
        let mut mapped = Segments::new();
        for pid in &pids {
            cost.cpu_ms += cpu_ms(*pid)?;
            cost.memory_kib += pss_kib(*pid, &mut mapped)?;
            segments(*pid, &mut allocated);
        }
        cost.memory_kib += allocated
            .iter()
            .map(|(inode, kib)| (kib - mapped.get(inode).copied().unwrap_or_default()).max(0.0))
            .sum::<f64>();
        cost.pids = pids;
        Ok(cost)
    }
}

/// Processor time of the threads of this name in these processes, in milliseconds.
///
/// # Errors
/// There is none.
pub fn thread_ms(pids: &BTreeSet<u32>, name: &str) -> Result<f64, String> {
    let threads = pids.iter().flat_map(|pid| {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
        tasks.into_iter().flatten().flatten()
    });
    let named = threads.filter(|thread| {
        let comm = std::fs::read_to_string(thread.path().join("comm"));
        comm.is_ok_and(|comm| comm.trim_end() == name)
    });
    let times: Vec<f64> = named
        .filter_map(|thread| time_ms(&thread.path().join("stat")))
        .collect();
    if times.is_empty() {
        return Err(format!("there is no thread {name}"));
    }
    Ok(times.iter().sum())
}

/// The process and its descendants.
fn tree(root: u32) -> BTreeSet<u32> {
    let parents: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, fields(pid)?.get(1)?.parse().ok()?)))
        .collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let before = found.len();
        for (pid, parent) in &parents {
            if found.contains(parent) {
                found.insert(*pid);
            }
        }
        if found.len() == before {
            return found;
        }
    }
}

/// The fields of /proc/PID/stat after the program's name, which may contain anything: the first is the state.
fn fields(pid: u32) -> Option<Vec<String>> {
    fields_of(Path::new(&format!("/proc/{pid}/stat")))
}

fn fields_of(stat: &Path) -> Option<Vec<String>> {
    let stat = std::fs::read_to_string(stat).ok()?;
    let (_, rest) = stat.rsplit_once(')')?;
    Some(rest.split_whitespace().map(str::to_owned).collect())
}

/// Processor time of a process.
fn cpu_ms(pid: u32) -> Result<f64, String> {
    time_ms(Path::new(&format!("/proc/{pid}/stat")))
        .ok_or_else(|| format!("process {pid} ended while it was measured"))
}

/// utime and stime of a process or thread, fields 14 and 15 of proc(5).
fn time_ms(stat: &Path) -> Option<f64> {
    let fields = fields_of(stat)?;
    let ticks = fields.get(11)?.parse::<f64>().ok()? + fields.get(12)?.parse::<f64>().ok()?;
    let hertz = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)
        .ok()
        .flatten()
        .unwrap_or(100);
    Some(ticks * 1000.0 / hertz as f64)
}

/// Proportional set size; adds to `mapped` what of it belongs to shared memory behind descriptors.
fn pss_kib(pid: u32, mapped: &mut Segments) -> Result<f64, String> {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps"))
        .map_err(|error| format!("memory of process {pid}: {error}"))?;
    let mut total = 0.0;
    let mut segment = None;
    for line in smaps.lines() {
        if let Some(value) = line.strip_prefix("Pss:") {
            let kib: f64 = value.trim().trim_end_matches(" kB").parse().unwrap_or_default();
            total += kib;
            if let Some(inode) = segment {
                *mapped.entry(inode).or_default() += kib;
            }
        } else if !line
            .split_whitespace()
            .next()
            .is_some_and(|word| word.ends_with(':'))
        {
            // The head of a mapping: range, rights, offset, device, inode, name.
            let mut words = line.split_whitespace().skip(4);
            let inode = words.next().and_then(|inode| inode.parse().ok());
            let is_memfd = words.next().is_some_and(|name| name.starts_with("/memfd:"));
            segment = inode.filter(|_| is_memfd);
        }
    }
    Ok(total)
}

/// The memfd segments a process holds descriptors of.
fn segments(pid: u32, allocated: &mut Segments) {
    let folder = format!("/proc/{pid}/fd");
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let is_memfd = std::fs::read_link(entry.path())
            .is_ok_and(|target| target.to_string_lossy().starts_with("/memfd:"));
        if let (true, Ok(metadata)) = (is_memfd, std::fs::metadata(entry.path())) {
            allocated.insert(metadata.ino(), metadata.blocks() as f64 / 2.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descendants_belong_to_the_tree() {
        let mut child = std::process::Command::new("sleep").arg("30").spawn().unwrap();
        let tree = tree(std::process::id());
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(tree.contains(&std::process::id()) && tree.contains(&child.id()));
    }

    #[test]
    fn work_costs_processor_time() {
        let before = Cost::of(std::process::id()).unwrap();
        let mut sum = 0u64;
        while Cost::of(std::process::id()).unwrap().cpu_ms < before.cpu_ms + 50.0 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(before.memory_kib > 100.0);
    }

    /// A segment counts once written, whether it is mapped or not.
    #[test]
    fn segments_count_without_being_mapped() {
        use std::io::Write as _;
        let memfd = nix::sys::memfd::memfd_create(c"bench-test", nix::sys::memfd::MFdFlags::empty()).unwrap();
        let mut file = std::fs::File::from(memfd);
        let inode = file.metadata().unwrap().ino();
        for _ in 0..512 {
            file.write_all(&[1; 1 << 16]).unwrap();
        }
        let mut allocated = Segments::new();
        segments(std::process::id(), &mut allocated);
        assert_eq!(allocated.get(&inode), Some(&32_768.0));
        let mut mapped = Segments::new();
        pss_kib(std::process::id(), &mut mapped).unwrap();
        assert_eq!(mapped.get(&inode), None, "nobody has mapped it");
        assert!(Cost::of(std::process::id()).unwrap().memory_kib > 32_768.0);
    }
}

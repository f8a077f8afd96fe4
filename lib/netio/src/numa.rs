//! Which processors share memory.

use std::collections::BTreeSet;
use std::path::Path;

/// Where the kernel shows its NUMA nodes.
pub const NUMA_NODES: &str = "/sys/devices/system/node";

/// A NUMA node: processors, and the memory that is near to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaNode {
    /// The kernel's.
    pub number: u32,
    /// Processors that are on.
    pub cores: BTreeSet<u32>,
    /// Mebibytes.
    pub memory: u64,
}

/// The NUMA nodes below `directory` ([`NUMA_NODES`]) that have processors, in ascending order; none where the kernel knows nothing of NUMA.
pub fn numa_nodes(directory: &Path) -> Vec<NumaNode> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut nodes: Vec<NumaNode> = entries
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("node")?.parse().ok()?;
            let read = |name: &str| std::fs::read_to_string(entry.path().join(name)).unwrap_or_default();
            let memory = read("meminfo");
            // `Node 0 MemTotal:       32768 kB`
            let memory = memory.lines().find(|line| line.contains("MemTotal:"));
            let kilobytes = memory.and_then(|line| line.split_once(':')?.1.split_ascii_whitespace().next());
            let node = NumaNode {
                number,
                cores: cpu_list(&read("cpulist")),
                memory: kilobytes
                    .and_then(|number| number.parse::<u64>().ok())
                    .unwrap_or(0)
                    >> 10,
            };
            (!node.cores.is_empty()).then_some(node)
        })
        .collect();
    nodes.sort_by_key(|node| node.number);
    nodes
}

/// `0-3,8` as the kernel writes lists of processors; nonsense is left out.
pub fn cpu_list(text: &str) -> BTreeSet<u32> {
    /// More processors than any machine has.
    const MOST: u32 = 4_096;
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        (last < MOST).then_some(first..=last)
    });
    ranges.flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_as_the_kernel_shows_them() {
        let directory = std::env::temp_dir().join(format!("starward-numa-{}", std::process::id()));
        for (name, cpus, memory) in [
            (
                "node1",
                "4-6,8\n",
                "Node 1 MemTotal:       2097152 kB\nNode 1 MemFree: 7 kB\n",
            ),
            ("node0", "0-3\n", "Node 0 MemTotal:       1048576 kB\n"),
            ("node2", "\n", "Node 2 MemTotal:       1048576 kB\n"),
            ("power", "9\n", ""),
        ] {
            let node = directory.join(name);
            std::fs::create_dir_all(&node).unwrap();
            std::fs::write(node.join("cpulist"), cpus).unwrap();
            std::fs::write(node.join("meminfo"), memory).unwrap();
        }
        let node = |number, cores: &[u32], memory| NumaNode {
            number,
            cores: cores.iter().copied().collect(),
            memory,
        };
        let found = numa_nodes(&directory);
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(
            found,
            [node(0, &[0, 1, 2, 3], 1024), node(1, &[4, 5, 6, 8], 2048)]
        );
        assert_eq!(numa_nodes(&directory), []);
    }
}

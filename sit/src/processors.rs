//! Where tasks run: each worker near its memory.
//!
//! The tasks of a worker run on processors of one NUMA node; workers take turns at the nodes. What a task is the first to write is taken from the memory of its node by the
//! kernel, so the segments of a worker's slots, its buffers and its keys lie there.

use std::path::Path;

use bus::{Address, Facility};
use netio::{NUMA_NODES, NumaNode, numa_nodes};

/// The processors that this node of ours may use.
#[derive(Debug)]
pub(crate) struct Processors {
    /// One of each NUMA node in turn.
    all: Vec<u32>,
    /// By NUMA node.
    nodes: Vec<Vec<u32>>,
}

impl Processors {
    /// What the kernel allows and knows.
    pub fn of_this_machine() -> Result<Self, netio::Error> {
        let usable = netio::task::usable_cpus()?;
        let usable: Vec<u32> = usable
            .into_iter()
            .filter_map(|cpu| u32::try_from(cpu).ok())
            .collect();
        Ok(Self::new(&usable, &numa_nodes(Path::new(NUMA_NODES))))
    }

    fn new(usable: &[u32], known: &[NumaNode]) -> Self {
        let of_none = |cpu: &u32| !known.iter().any(|node| node.cores.contains(cpu));
        let rest: Vec<u32> = usable.iter().copied().filter(of_none).collect();
        let mut nodes: Vec<Vec<u32>> = known
            .iter()
            .map(|node| {
                usable
                    .iter()
                    .copied()
                    .filter(|cpu| node.cores.contains(cpu))
                    .collect()
            })
            .chain([rest])
            .collect();
        nodes.retain(|node| !node.is_empty());
        let longest = nodes.iter().map(Vec::len).max().unwrap_or(0);
        let all = (0..longest).flat_map(|n| nodes.iter().filter_map(move |node| node.get(n).copied()));
        Self {
            all: all.collect(),
            nodes,
        }
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// The one that a task stays on: the data plane has one each where there are several to share among workers, everything else floats.
    pub fn own(&self, address: Address, workers: u32) -> Option<u32> {
        let place = address.instance.checked_sub(1)? as usize;
        let enough = self.all.len() > 2 && self.all.len() >= workers as usize;
        (address.facility == Facility::Iftask && enough)
            .then(|| self.all.get(place).copied())
            .flatten()
    }

    /// Those that a task floats among: of a worker those of its NUMA node. Empty when it may run anywhere.
    pub fn near(&self, address: Address) -> &[u32] {
        let is_workers = matches!(
            address.facility,
            Facility::Iftask | Facility::Ipsecmgr | Facility::Sessmgr
        );
        if !is_workers || self.nodes.len() < 2 {
            return &[];
        }
        let place = address
            .instance
            .checked_sub(1)
            .map(|place| place as usize % self.all.len());
        let cpu = place.and_then(|place| self.all.get(place));
        let node = cpu.and_then(|cpu| self.nodes.iter().find(|node| node.contains(cpu)));
        node.map_or(&[], Vec::as_slice)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(number: u32, cores: &[u32]) -> NumaNode {
        NumaNode {
            number,
            cores: cores.iter().copied().collect(),
            memory: 0,
        }
    }

    fn iftask(instance: u32) -> Address {
        Address::new(Facility::Iftask, instance)
    }

    #[test]
    fn the_data_plane_is_pinned_where_there_is_room() {
        for known in [&[][..], &[node(0, &[0, 1, 2, 3, 4, 5, 6])]] {
            let of = |usable: &[u32]| Processors::new(usable, known);
            assert_eq!(of(&[0, 2, 4, 6]).own(iftask(2), 4), Some(2));
            assert_eq!(of(&[0, 1]).own(iftask(2), 2), None);
            assert_eq!(of(&[0, 1, 2, 3]).own(iftask(5), 8), None);
            let ipsecmgr = Address::new(Facility::Ipsecmgr, 1);
            let all = of(&[0, 1, 2, 3]);
            assert_eq!(all.own(ipsecmgr, 4), None);
            assert_eq!(
                (all.near(ipsecmgr), all.near(iftask(1))),
                (&[][..], &[][..]),
                "one node: anywhere"
            );
        }
    }

    #[test]
    fn workers_take_turns_at_the_nodes_and_stay_there() {
        let all = Processors::new(&[0, 1, 2, 4, 5, 9], &[node(0, &[0, 1, 2, 3]), node(1, &[4, 5])]);
        assert_eq!(all.count(), 6);
        let own: Vec<Option<u32>> = (1..=6).map(|worker| all.own(iftask(worker), 6)).collect();
        assert_eq!(own, [0, 4, 9, 1, 5, 2].map(Some));
        for (worker, near) in [
            (1, &[0, 1, 2][..]),
            (2, &[4, 5]),
            (3, &[9]),
            (4, &[0, 1, 2]),
            (8, &[4, 5]),
        ] {
            for facility in [Facility::Iftask, Facility::Ipsecmgr, Facility::Sessmgr] {
                assert_eq!(all.near(Address::new(facility, worker)), near, "{worker}");
            }
        }
        assert_eq!(all.near(Address::new(Facility::Vpnmgr, 1)), [0; 0]);
        assert_eq!(Processors::new(&[], &[]).near(iftask(1)), [0; 0]);
    }
}

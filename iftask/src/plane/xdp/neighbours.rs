//! Where to send what goes to a peer: back to the station that authentic packets of its come from, for as long as they come.

use std::collections::HashMap;
use std::net::IpAddr;

use super::super::engine::SECOND_NS;
use super::super::lookup::Mixer;
use super::frame::Way;

/// Outer addresses of peers that are remembered, for each device.
const MOST: usize = 65_536;
/// How long a way is used after a packet came by it: so long may packets go a way that ends somewhere by now.
const AGE_NS: u64 = 10 * SECOND_NS;
/// And from when on the next packet is to confirm it.
const OLD_NS: u64 = AGE_NS / 2;
/// How soon another way may take its place: packets of a peer that come by two routers in turn teach something once in a while only.
const SETTLED_NS: u64 = SECOND_NS / 10;

/// The ways to peers by one device.
#[derive(Default)]
pub(crate) struct Neighbours {
    ways: HashMap<IpAddr, Learned, Mixer>,
}

#[derive(Clone, Copy)]
struct Learned {
    way: Way,
    /// Nanoseconds of CLOCK_MONOTONIC.
    at_ns: u64,
}

impl Neighbours {
    /// The way to a peer, if it is known and not too old.
    pub(crate) fn way(&self, peer: IpAddr, now_ns: u64) -> Option<Way> {
        let learned = self.ways.get(&peer)?;
        (now_ns.saturating_sub(learned.at_ns) < AGE_NS).then_some(learned.way)
    }

    /// Whether a packet that came from a peer by this way would be worth [learning](Self::learn) from, if it were authentic.
    pub(crate) fn is_news(&self, peer: IpAddr, way: &Way, now_ns: u64) -> bool {
        match self.ways.get(&peer) {
            Some(learned) => {
                let age_ns = now_ns.saturating_sub(learned.at_ns);
                age_ns >= if learned.way == *way { OLD_NS } else { SETTLED_NS }
            }
            None => self.ways.len() < MOST && way.is_between_stations(),
        }
    }

    /// An authentic packet of a peer came by this way.
    pub(crate) fn learn(&mut self, peer: IpAddr, way: Way, now_ns: u64) {
        let is_new = !self.ways.contains_key(&peer);
        if way.is_between_stations() && (!is_new || self.ways.len() < MOST) {
            self.ways.insert(peer, Learned { way, at_ns: now_ns });
        }
    }

    /// Packets of a peer come by another device.
    pub(crate) fn forget(&mut self, peer: IpAddr) {
        self.ways.remove(&peer);
    }

    /// Makes room, when there is none left, by forgetting what is too old.
    pub(crate) fn make_room(&mut self, now_ns: u64) {
        if self.ways.len() >= MOST {
            self.ways
                .retain(|_, learned| now_ns.saturating_sub(learned.at_ns) < AGE_NS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(last: u8) -> Way {
        Way {
            ours: [2, 0, 0, 0, 0, 1],
            neighbour: [2, 0, 0, 0, 1, last],
        }
    }

    fn peer(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn ways_are_used_as_long_as_packets_come_by_them() {
        let mut neighbours = Neighbours::default();
        assert!(neighbours.is_news(peer(1), &way(1), 0));
        assert_eq!(neighbours.way(peer(1), 0), None);
        neighbours.learn(peer(1), way(1), 1000);
        assert!(!neighbours.is_news(peer(1), &way(1), 1000));
        assert!(!neighbours.is_news(peer(1), &way(2), 999 + SETTLED_NS));
        assert!(
            neighbours.is_news(peer(1), &way(2), 1000 + SETTLED_NS),
            "another station"
        );
        assert!(
            neighbours.is_news(peer(1), &way(1), 1000 + OLD_NS),
            "to be confirmed"
        );
        assert_eq!(neighbours.way(peer(1), 999 + AGE_NS), Some(way(1)));
        assert_eq!(neighbours.way(peer(1), 1000 + AGE_NS), None);
        neighbours.learn(peer(1), way(2), 2000);
        assert_eq!(neighbours.way(peer(1), 1000 + AGE_NS), Some(way(2)));
        assert_eq!(neighbours.way(peer(2), 2000), None);
        neighbours.forget(peer(1));
        assert_eq!(neighbours.way(peer(1), 2000), None);
    }

    #[test]
    fn groups_are_no_neighbours() {
        let mut neighbours = Neighbours::default();
        let broadcast = Way {
            ours: [0xff; 6],
            ..way(1)
        };
        assert!(!neighbours.is_news(peer(1), &broadcast, 0));
        neighbours.learn(peer(1), broadcast, 0);
        assert_eq!(neighbours.way(peer(1), 0), None);
    }

    #[test]
    fn there_is_room_for_so_many() {
        let mut neighbours = Neighbours::default();
        for n in 0..=MOST as u32 {
            neighbours.learn(peer(n), way(1), u64::from(n));
        }
        let last = peer(MOST as u32);
        assert_eq!(neighbours.way(last, 0), None);
        assert!(!neighbours.is_news(last, &way(1), 0));
        neighbours.make_room(AGE_NS - 1);
        assert!(!neighbours.is_news(last, &way(1), 0), "nothing is old");
        neighbours.learn(peer(1), way(2), AGE_NS);
        assert_eq!(neighbours.way(peer(1), AGE_NS), Some(way(2)), "it is known");
        neighbours.make_room(AGE_NS + 9);
        assert_eq!(neighbours.ways.len(), MOST - 9);
        assert!(neighbours.is_news(last, &way(1), 0));
    }
}

//! Messages that wait until the routes of a new child SA stand.
//!
//! A peer may send as soon as it has our response, and whoever it talks to answers at once. Without the route back the kernel would drop
//! that answer. So what goes to a peer after a child SA was installed waits for the child SA's routes, in its order, but not for ever.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ikev2::Path;

/// A `vpnmgr` answers in far less; one that is being restarted shall not keep peers waiting longer.
const PATIENCE: Duration = Duration::from_secs(1);

/// What waits, by path.
#[derive(Default)]
pub(crate) struct Held {
    paths: HashMap<Path, VecDeque<Item>>,
    /// Child SAs whose routes are being made.
    waiting: HashMap<u32, Path>,
    /// When they are no longer waited for, in the order of time.
    patience: VecDeque<(Instant, u32)>,
}

enum Item {
    Routes(u32),
    Datagram(Vec<u8>),
}

impl Held {
    /// From now on what goes along `path` waits for the routes of child SA `spi`.
    pub(crate) fn wait_for(&mut self, now: Instant, path: Path, spi: u32) {
        self.waiting.insert(spi, path);
        self.patience.push_back((now + PATIENCE, spi));
        self.paths.entry(path).or_default().push_back(Item::Routes(spi));
    }

    /// A datagram: comes back if it need not wait.
    pub(crate) fn pass(&mut self, path: Path, datagram: Vec<u8>) -> Option<Vec<u8>> {
        match self.paths.get_mut(&path) {
            Some(queue) => {
                queue.push_back(Item::Datagram(datagram));
                None
            }
            None => Some(datagram),
        }
    }

    /// The routes of `spi` stand: sends what waited for them.
    pub(crate) fn routed(&mut self, spi: u32, mut send: impl FnMut(Path, Vec<u8>)) {
        let Some(path) = self.waiting.remove(&spi) else {
            return;
        };
        let Some(queue) = self.paths.get_mut(&path) else {
            return;
        };
        while let Some(item) = queue.pop_front() {
            match item {
                Item::Datagram(datagram) => send(path, datagram),
                Item::Routes(other) if self.waiting.contains_key(&other) => {
                    queue.push_front(Item::Routes(other));
                    return;
                }
                Item::Routes(_) => {}
            }
        }
        self.paths.remove(&path);
    }

    /// Waits no longer for what takes too long; gives the child SAs concerned.
    pub(crate) fn expire(&mut self, now: Instant, mut send: impl FnMut(Path, Vec<u8>)) -> Vec<u32> {
        let mut late = Vec::new();
        while let Some((due, spi)) = self.patience.front().copied() {
            if !self.waiting.contains_key(&spi) {
                self.patience.pop_front();
                continue;
            }
            if due > now {
                break;
            }
            self.patience.pop_front();
            self.routed(spi, &mut send);
            late.push(spi);
        }
        late
    }

    /// When [`Self::expire`] has something to do.
    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        self.patience.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(port: u16) -> Path {
        Path {
            local: ([192, 0, 2, 1], 500).into(),
            remote: ([192, 0, 2, 2], port).into(),
        }
    }

    #[test]
    fn what_follows_a_child_sa_waits_for_its_routes_in_order() {
        let (mut held, now) = (Held::default(), Instant::now());
        let mut sent = Vec::new();
        assert_eq!(held.pass(path(1), vec![0]), Some(vec![0]));
        held.wait_for(now, path(1), 100);
        assert_eq!(held.pass(path(1), vec![1]), None);
        assert_eq!(held.pass(path(2), vec![2]), Some(vec![2]), "another peer");
        held.wait_for(now, path(1), 101);
        assert_eq!(held.pass(path(1), vec![3]), None);
        held.routed(101, |_, datagram| sent.push(datagram));
        assert!(sent.is_empty(), "the first one still waits");
        held.routed(100, |_, datagram| sent.push(datagram));
        assert_eq!(sent, [[1], [3]]);
        assert_eq!(held.pass(path(1), vec![4]), Some(vec![4]));
        assert!(held.expire(now + PATIENCE * 2, |_, _| {}).is_empty());
        assert_eq!(held.next_timeout(), None);
    }

    #[test]
    fn nothing_waits_for_ever() {
        let (mut held, now) = (Held::default(), Instant::now());
        let mut sent = Vec::new();
        held.wait_for(now, path(1), 100);
        assert_eq!(held.pass(path(1), vec![1]), None);
        assert_eq!(held.next_timeout(), Some(now + PATIENCE));
        assert!(held.expire(now, |_, datagram| sent.push(datagram)).is_empty());
        assert_eq!(
            held.expire(now + PATIENCE, |_, datagram| sent.push(datagram)),
            [100]
        );
        assert_eq!(sent, [[1]]);
        // Late routes find nothing to do.
        held.routed(100, |_, _| panic!("nothing waited"));
    }
}

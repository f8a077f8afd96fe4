//! How wide the paths to peers are: what routers say about our packets, remembered for a while (RFC 4301 8.2, RFC 1191, RFC 8201).

use std::net::{IpAddr, SocketAddr};

use esp::NarrowPath;
use netio::split_ipv4_header;
use sadb::{Encapsulation, PathMtu, Spi};

use super::engine::{Engine, SECOND_NS};
use super::io::Io;
use super::sa::Sa;
use super::table::{Slots, Table};
use crate::counters::Count;

/// Messages a second that are looked at: many, as forged ones must not keep true ones out, and each costs little.
pub(crate) const MESSAGES: u64 = 10_000;
/// After that a longer packet is tried again (RFC 1191 6.3).
const AGE_NS: u64 = 600 * SECOND_NS;
/// SAs of one peer that learn from one message; others learn from their own.
const MOST_SAS: usize = 256;

/// What is known of the path of an SA beyond its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    mtu: u16,
    /// Believed until then (nanoseconds of CLOCK_MONOTONIC).
    until_ns: u64,
}

impl From<PathMtu> for Path {
    fn from(PathMtu { mtu, until_ns }: PathMtu) -> Self {
        Self { mtu, until_ns }
    }
}

impl<I: Io> Engine<I> {
    /// Takes an ICMP message to one of our addresses: for IPv4 with its header.
    pub(crate) fn too_big(&mut self, local: IpAddr, message: &mut [u8]) {
        let length = message.len();
        let path = if !self.path_messages.allow(self.now_ns) {
            None
        } else if local.is_ipv4() {
            split_ipv4_header(message).and_then(|(_, message)| NarrowPath::parse_v4(message))
        } else {
            NarrowPath::parse_v6(message)
        };
        let is_news = path
            .filter(|path| path.local == local)
            .is_some_and(|path| self.table.learn_path(&path, self.now_ns));
        let count = if is_news {
            Count::PathsLearned
        } else {
            Count::PathsIgnored
        };
        self.tally.one(count, length);
    }
}

impl Table {
    /// Narrows the SAs to a peer; false when there is none, or none that has the SPI that is quoted, or they were as narrow already.
    fn learn_path(&mut self, path: &NarrowPath, now_ns: u64) -> bool {
        let (slots, entries) = self.split();
        entries.index_peers();
        let leaves_by_it = |sa: &Sa| sa.local.ip() == path.local && sa.encapsulation == path.encapsulation;
        let all = |spi| -> Vec<Spi> {
            let towards = entries.towards(path.peer, spi).take(MOST_SAS);
            let on_path = towards.filter(|spi| entries.get(*spi).is_some_and(leaves_by_it));
            on_path.collect()
        };
        let quoted = all(path.spi);
        if quoted.is_empty() {
            return false;
        }
        let mut learned = false;
        for spi in quoted.into_iter().chain(all(None)) {
            learned |= entries
                .get_mut(spi)
                .is_some_and(|sa| learn(slots, sa, path.mtu, now_ns));
        }
        learned
    }
}

/// The path of an SA takes packets of up to `mtu` octets: notes it also for whoever serves the SA next. False when that is no news (see [`Sa::learn_path`]).
pub(super) fn learn(slots: &Slots, sa: &mut Sa, mtu: u16, now_ns: u64) -> bool {
    let learned = sa.learn_path(mtu, now_ns);
    if let (true, Some(Path { mtu, until_ns })) = (learned, sa.path)
        && let Some(hot) = slots.get(sa.spi.slot()).and_then(|slot| slot.hot(sa.spi))
    {
        hot.learn_path(PathMtu { mtu, until_ns });
    }
    learned
}

impl Sa {
    /// Where its packets go: port 0 without UDP.
    pub(crate) fn destination(&self) -> SocketAddr {
        let port = match self.encapsulation {
            Encapsulation::Udp => self.peer.port(),
            // Raw IPv6 sockets take no port (raw(7), ipv6(7)).
            Encapsulation::Esp => 0,
        };
        SocketAddr::new(self.peer.ip(), port)
    }

    /// The path takes packets of up to `mtu` octets. False when it is known to take no more than that, or is as wide for all that its record allows.
    pub(crate) fn learn_path(&mut self, mtu: u16, now_ns: u64) -> bool {
        self.follow(Path {
            mtu,
            until_ns: now_ns + AGE_NS,
        })
    }

    /// What it has learned.
    pub(crate) fn path(&self) -> Option<Path> {
        self.path
    }

    /// Learns what another SA to the same peer has learned.
    pub(crate) fn follow(&mut self, path: Path) -> bool {
        let limits = self.widest.on_path(path.mtu);
        if limits.fits() >= self.limits.fits() {
            return false;
        }
        self.limits = limits;
        self.path = Some(path);
        true
    }

    /// Forgets what was learned too long ago: the path may be wider by now.
    pub(crate) fn forget_old_path(&mut self, now_ns: u64) {
        if self.path.is_some_and(|path| path.until_ns <= now_ns) {
            self.path = None;
            self.limits = self.widest;
        }
    }
}

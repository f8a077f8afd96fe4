//! What the data plane counts: once here, in batches, and from here into the counter page and `show iftask statistics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use sadb::Slot;
use telemetry::Counters;
use telemetry::counters::{Counter, ipsec};

macro_rules! counts {
    ($($name:ident: $label:literal, $section:ident, $telemetry:expr;)*) => {
        /// Something that happens to a packet.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Count { $(#[doc = $label] $name,)* }

        impl Count {
            /// In the order of `show`.
            pub(crate) const ALL: &[Count] = &[$(Count::$name,)*];

            /// As `show` prints it.
            pub(crate) const fn label(self) -> &'static str {
                match self { $(Count::$name => $label,)* }
            }

            /// Under which heading.
            pub(crate) const fn section(self) -> Section {
                match self { $(Count::$name => Section::$section,)* }
            }

            /// The counters of the node's table that move with it: packets, and octets if those are counted.
            const fn telemetry(self) -> Option<Pair> {
                match self { $(Count::$name => $telemetry,)* }
            }
        }
    };
}

/// Headings of `show iftask statistics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Encrypted,
    Clear,
    Strays,
    InboundDrops,
    OutboundDrops,
}

impl Section {
    pub(crate) const ALL: [Section; 5] = [
        Self::Encrypted,
        Self::Clear,
        Self::Strays,
        Self::InboundDrops,
        Self::OutboundDrops,
    ];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Encrypted => "Encrypted Side",
            Self::Clear => "Clear Side",
            Self::Strays => "Between Workers",
            Self::InboundDrops => "Drops, From the Peer",
            Self::OutboundDrops => "Drops, To the Peer",
        }
    }
}

counts! {
    EspReceived: "ESP packets received", Encrypted, Some(Pair::RECEIVED);
    EspSent: "ESP packets sent", Encrypted, Some(Pair::SENT);
    GroBuffers: "Reads (coalesced by the kernel)", Encrypted, None;
    GsoSends: "Sends (segmented by the kernel)", Encrypted, None;
    Keepalives: "NAT keepalives received", Encrypted, None;
    KeepalivesSent: "NAT keepalives sent", Encrypted, None;
    EndpointsLearned: "Peer addresses learned", Encrypted, None;
    PathsLearned: "Path MTUs learned", Encrypted, None;
    PathsIgnored: "Path MTU messages ignored", Encrypted, None;
    XdpReceived: "Packets received by AF_XDP", Encrypted, None;
    XdpSent: "Packets sent by AF_XDP", Encrypted, None;

    Delivered: "Packets delivered", Clear, None;
    Writes: "Writes (super-packets)", Clear, None;
    ClearReceived: "Packets to be sent", Clear, None;
    Reads: "Reads (super-packets)", Clear, None;
    ClearXdpSent: "Packets delivered by AF_XDP", Clear, None;
    ClearXdpReceived: "Packets to be sent by AF_XDP", Clear, None;
    Fragmented: "Packets fragmented", Clear, Some(Pair::FRAGMENTED);
    TooBigSent: "Too-big messages sent", Clear, None;
    Dummies: "Dummy packets discarded", Clear, None;

    StraySent: "Packets passed on", Strays, Some(Pair::STRAYS_SENT);
    StrayReceived: "Packets taken", Strays, Some(Pair::STRAYS_RECEIVED);
    StrayLost: "Packets lost, ring full", Strays, Some(Pair::STRAYS_LOST);
    OutputHandedOn: "Packets handed on for output", Strays, Some(Pair::OUTPUT_HANDED_ON);
    OutputTaken: "Packets taken for output", Strays, Some(Pair::OUTPUT_TAKEN);
    OutputLate: "Outputs taken back with packets left", Strays, None;
    IkeAstray: "IKE messages whose owner is elsewhere", Strays, None;
    Held: "Packets held for a slot to come", Strays, Some(Pair::HELD);
    HeldDouble: "Held packets that came twice", Strays, None;
    HeldLost: "Packets lost, too many held", Strays, Some(Pair::HELD_LOST);

    NoSa: "No SA", InboundDrops, Some(Pair::NO_SA);
    Inactive: "SA not active", InboundDrops, Some(Pair::NO_SA);
    NotEsp: "Neither ESP nor keepalive", InboundDrops, Some(Pair::INVALID);
    Truncated: "Truncated", InboundDrops, Some(Pair::UNDERRUN);
    Replayed: "Replayed or too old", InboundDrops, Some(Pair::REPLAY);
    BadIcv: "Integrity check failed", InboundDrops, Some(Pair::AUTH_ERROR);
    Malformed: "Bad padding or no IP inside", InboundDrops, Some(Pair::INVALID);
    Congestion: "Congestion met, not ECN-capable", InboundDrops, Some(Pair::DISCARD);
    NotSelected: "Selector mismatch", InboundDrops, Some(Pair::IGNORED);
    NotDelivered: "Refused by the clear side", InboundDrops, Some(Pair::DISCARD);
    BadOuter: "AF_XDP, bad outer header", InboundDrops, Some(Pair::INVALID);
    XdpNoFrame: "AF_XDP, no frame to receive into", InboundDrops, Some(Pair::DISCARD);
    XdpRingFull: "AF_XDP, receive ring full", InboundDrops, Some(Pair::DISCARD);
    XdpOther: "AF_XDP, dropped by the kernel", InboundDrops, Some(Pair::DISCARD);

    ClearNoSa: "No SA", OutboundDrops, Some(Pair::CLEAR_NO_SA);
    NotIp: "No IP packet", OutboundDrops, Some(Pair::INVALID);
    TooBig: "Too big", OutboundDrops, Some(Pair::TOO_BIG);
    SequenceSpent: "Sequence numbers used up", OutboundDrops, Some(Pair::DISCARD);
    NoSocket: "No socket for its address", OutboundDrops, Some(Pair::DISCARD);
    NotSent: "Refused by the encrypted side", OutboundDrops, Some(Pair::DISCARD);
    OwnOuter: "ESP or IKE of the tunnel itself", OutboundDrops, Some(Pair::DISCARD);
    BadClear: "AF_XDP, bad header", OutboundDrops, Some(Pair::INVALID);
    Unusable: "SA that cannot be used", OutboundDrops, Some(Pair::DISCARD);
}

/// A packet counter of the node's table, and the octet counter beside it.
#[derive(Clone, Copy)]
struct Pair(Counter, Option<Counter>);

impl Pair {
    const RECEIVED: Self = Self(ipsec::RX_ESP_PACKETS, Some(ipsec::RX_ESP_OCTETS));
    const SENT: Self = Self(ipsec::TX_ESP_PACKETS, Some(ipsec::TX_ESP_OCTETS));
    const FRAGMENTED: Self = Self(ipsec::FRAGMENTED, None);
    const STRAYS_SENT: Self = Self(ipsec::STRAYS_SENT, None);
    const STRAYS_RECEIVED: Self = Self(ipsec::STRAYS_RECEIVED, None);
    const STRAYS_LOST: Self = Self(ipsec::STRAYS_LOST, None);
    const OUTPUT_HANDED_ON: Self = Self(ipsec::OUTPUT_HANDED_ON, None);
    const OUTPUT_TAKEN: Self = Self(ipsec::OUTPUT_TAKEN, None);
    const HELD: Self = Self(ipsec::HELD, None);
    const HELD_LOST: Self = Self(ipsec::HELD_LOST, None);
    const NO_SA: Self = Self(ipsec::BAD_RECORD_PACKETS, Some(ipsec::BAD_RECORD_OCTETS));
    const INVALID: Self = Self(ipsec::INVALID_PACKETS, Some(ipsec::INVALID_OCTETS));
    const UNDERRUN: Self = Self(ipsec::UNDERRUN_PACKETS, Some(ipsec::UNDERRUN_OCTETS));
    const REPLAY: Self = Self(ipsec::REPLAY_PACKETS, Some(ipsec::REPLAY_OCTETS));
    const AUTH_ERROR: Self = Self(ipsec::AUTH_ERROR_PACKETS, Some(ipsec::AUTH_ERROR_OCTETS));
    const DISCARD: Self = Self(ipsec::DISCARD_PACKETS, Some(ipsec::DISCARD_OCTETS));
    const IGNORED: Self = Self(ipsec::IGNORED_PACKETS, Some(ipsec::IGNORED_OCTETS));
    const CLEAR_NO_SA: Self = Self(ipsec::CLEAR_NO_SA, None);
    const TOO_BIG: Self = Self(ipsec::TOO_BIG, None);
}

/// What is done with many packets at once: as many as one system call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Receive,
    Send,
    Read,
    Write,
}

impl Call {
    pub(crate) const ALL: [Self; 4] = [Self::Receive, Self::Send, Self::Read, Self::Write];

    /// As `show` prints it.
    pub(crate) const fn label(self) -> &'static str {
        match self {
            Self::Receive => "Received from peers",
            Self::Send => "Sent to peers",
            Self::Read => "Read from the clear side",
            Self::Write => "Written to the clear side",
        }
    }
}

/// How many packets calls took: class n counts those with 2^n to 2^(n+1) - 1, the last one all with more.
pub(crate) const CLASSES: usize = 9;

/// Numbers of one worker: written by the data plane once a round, read by `show`.
#[derive(Debug)]
pub(crate) struct Statistics {
    packets: [AtomicU64; COUNTS],
    calls: [[AtomicU64; CLASSES]; Call::ALL.len()],
    /// Nanoseconds that the data plane has worked.
    pub(crate) busy_ns: AtomicU64,
    /// Nanoseconds since it started.
    pub(crate) alive_ns: AtomicU64,
    /// How often it woke up.
    pub(crate) rounds: AtomicU64,
    /// Child SAs it knows.
    pub(crate) sas: AtomicU64,
    /// Packets of each slot, both ways, by its number.
    slots: [AtomicU64; 256],
    /// Child SAs of each, as of the last tick.
    pub(crate) slot_sas: [AtomicU32; 256],
}

impl Statistics {
    /// All zero.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            packets: [const { AtomicU64::new(0) }; COUNTS],
            calls: [const { [const { AtomicU64::new(0) }; CLASSES] }; Call::ALL.len()],
            busy_ns: AtomicU64::new(0),
            alive_ns: AtomicU64::new(0),
            rounds: AtomicU64::new(0),
            sas: AtomicU64::new(0),
            slots: [const { AtomicU64::new(0) }; 256],
            slot_sas: [const { AtomicU32::new(0) }; 256],
        })
    }

    /// How many there were.
    pub(crate) fn get(&self, count: Count) -> u64 {
        self.packets
            .get(count as usize)
            .map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// By slot number, the packets that crossed and the child SAs.
    pub(crate) fn of_slots(&self) -> impl Iterator<Item = (u64, u32)> {
        let slots = self.slots.iter().zip(&self.slot_sas);
        slots.map(|(packets, sas)| (packets.load(Ordering::Relaxed), sas.load(Ordering::Relaxed)))
    }

    /// How many calls there were, by the number of packets.
    pub(crate) fn calls(&self, call: Call) -> [u64; CLASSES] {
        let mut classes = [0; CLASSES];
        let cells = self.calls.get(call as usize);
        for (number, cell) in classes.iter_mut().zip(cells.into_iter().flatten()) {
            *number = cell.load(Ordering::Relaxed);
        }
        classes
    }
}

/// Adds up a batch, so that shared memory is touched once for each batch and kind.
#[derive(Debug)]
pub(crate) struct Tally {
    packets: [u64; COUNTS],
    octets: [u64; COUNTS],
    calls: [[u64; CLASSES]; Call::ALL.len()],
    counters: Counters,
    statistics: Arc<Statistics>,
}

impl Tally {
    pub(crate) fn new(counters: Counters, statistics: Arc<Statistics>) -> Self {
        Self {
            packets: [0; COUNTS],
            octets: [0; COUNTS],
            calls: [[0; CLASSES]; Call::ALL.len()],
            counters,
            statistics,
        }
    }

    /// One packet of so many octets.
    pub(crate) fn one(&mut self, count: Count, octets: usize) {
        self.add(count, 1, octets as u64);
    }

    /// Several packets of together so many octets.
    pub(crate) fn add(&mut self, count: Count, packets: u64, octets: u64) {
        if let (Some(sum), Some(all)) = (
            self.packets.get_mut(count as usize),
            self.octets.get_mut(count as usize),
        ) {
            *sum += packets;
            *all += octets;
        }
    }

    /// So many packets of a slot crossed. Noted at once: it is a batch that is counted.
    pub(crate) fn of_slot(&self, slot: Slot, packets: u64) {
        if let Some(cell) = self.statistics.slots.get(usize::from(slot.number())) {
            cell.store(cell.load(Ordering::Relaxed) + packets, Ordering::Relaxed);
        }
    }

    /// One system call that took so many packets.
    pub(crate) fn call(&mut self, call: Call, packets: usize) {
        let class = packets
            .checked_ilog2()
            .map(|class| (class as usize).min(CLASSES - 1));
        let classes = self.calls.get_mut(call as usize);
        if let Some(number) = class.and_then(|class| classes?.get_mut(class)) {
            *number += 1;
        }
    }

    /// How many were added and are not visible yet.
    pub(crate) fn pending(&self, count: Count) -> u64 {
        self.packets.get(count as usize).copied().unwrap_or(0)
    }

    /// Makes what was added visible, and starts again.
    pub(crate) fn publish(&mut self) {
        let cells = self.statistics.calls.iter().flatten();
        for (cell, number) in cells.zip(self.calls.iter_mut().flatten()) {
            if *number > 0 {
                let more = std::mem::take(number);
                cell.store(cell.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            }
        }
        for (&count, (packets, octets)) in Count::ALL
            .iter()
            .zip(self.packets.iter_mut().zip(&mut self.octets))
        {
            let (packets, octets) = (std::mem::take(packets), std::mem::take(octets));
            if packets == 0 {
                continue;
            }
            if let Some(Pair(counter, of_octets)) = count.telemetry() {
                self.counters.add(counter, packets);
                if let Some(of_octets) = of_octets {
                    self.counters.add(of_octets, octets);
                }
            }
            if let Some(cell) = self.statistics.packets.get(count as usize) {
                // One writer.
                cell.store(cell.load(Ordering::Relaxed) + packets, Ordering::Relaxed);
            }
        }
    }

    /// The numbers that `show` reads.
    pub(crate) fn statistics(&self) -> &Statistics {
        &self.statistics
    }
}

const COUNTS: usize = Count::ALL.len();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_moves_the_node_s_counters_once_published() {
        let counters = Counters::in_memory();
        let statistics = Statistics::new();
        let mut tally = Tally::new(counters.clone(), statistics.clone());
        tally.one(Count::EspReceived, 100);
        tally.add(Count::EspReceived, 2, 300);
        tally.one(Count::Replayed, 77);
        assert_eq!(counters.get(ipsec::RX_ESP_PACKETS), 0);
        tally.publish();
        tally.publish();
        assert_eq!(counters.get(ipsec::RX_ESP_PACKETS), 3);
        assert_eq!(counters.get(ipsec::RX_ESP_OCTETS), 400);
        assert_eq!(counters.get(ipsec::REPLAY_OCTETS), 77);
        assert_eq!(statistics.get(Count::EspReceived), 3);
    }

    #[test]
    fn calls_are_classed_by_powers_of_two() {
        let statistics = Statistics::new();
        let mut tally = Tally::new(Counters::in_memory(), statistics.clone());
        for packets in [0, 1, 2, 3, 4, 63, 64, 255, 256, 4096] {
            tally.call(Call::Send, packets);
        }
        tally.publish();
        tally.publish();
        assert_eq!(statistics.calls(Call::Send), [1, 2, 1, 0, 0, 1, 1, 1, 2]);
        assert_eq!(statistics.calls(Call::Read), [0; CLASSES]);
    }

    #[test]
    fn every_drop_is_counted_for_the_node_too() {
        for count in Count::ALL {
            let is_drop = matches!(count.section(), Section::InboundDrops | Section::OutboundDrops);
            assert!(!is_drop || count.telemetry().is_some(), "{count:?}");
        }
    }
}

//! The publishing side of events: numbers, what is retained, beacons.
//!
//! Every publisher sends a beacon each [`BEACON_INTERVAL`] (and a few in quick succession when a subscriber arrives) with its incarnation
//! and the number of its next event of each type. So a subscriber learns that its subscription is in force, notices events it lost even if
//! none follows, and notices a publisher that hangs or is another process than before.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::facility::Address;
use crate::frame::{self, Beacon, BeaconCount, Header, Kind};
use crate::message::Event;
use crate::messages::common::{Replay, Replayed};
use crate::peer::lock;
use crate::statistics::Counts;
use crate::transport::Transport;

/// Topic of beacons; no message has type 0.
pub(crate) const BEACON_TOPIC: u16 = 0;
const BEACON_INTERVAL: Duration = Duration::from_secs(1);
/// Waits before the beacons that greet a new subscriber, whose subscription takes a moment to arrive.
const GREETING: [Duration; 3] = [
    Duration::from_millis(5),
    Duration::from_millis(20),
    Duration::from_millis(100),
];
/// Octets of events of one type that are retained, whatever their number: far below [`frame::MAX_MESSAGE`], so that all of them fit into
/// one answer.
const RETAINED_OCTETS: usize = 2 * 1024 * 1024;

/// The publishing side of a bus.
pub(crate) struct Publisher {
    me: Address,
    transport: Arc<dyn Transport>,
    counts: Arc<Counts>,
    /// Tells this life of the publisher from others.
    incarnation: AtomicU64,
    published: Mutex<BTreeMap<u16, Published>>,
}

/// All that a publisher has published, for the program that goes on in its place: to its subscribers it is the same life.
#[derive(Clone, PartialEq, prost::Message)]
pub struct History {
    /// The life.
    #[prost(fixed64, tag = "1")]
    pub incarnation: u64,
    /// Each type.
    #[prost(message, repeated, tag = "2")]
    pub types: Vec<HistoryOfType>,
}

/// The events of one type.
#[derive(Clone, PartialEq, prost::Message)]
pub struct HistoryOfType {
    /// Message type.
    #[prost(uint32, tag = "1")]
    pub message: u32,
    /// Number of the next event.
    #[prost(uint64, tag = "2")]
    pub next: u64,
    /// The frames of the latest, as far as they are retained.
    #[prost(bytes = "bytes", repeated, tag = "3")]
    pub frames: Vec<Bytes>,
}

/// The events of one type.
#[derive(Default)]
struct Published {
    /// The number of the next one.
    next: u64,
    /// The frames of the latest, up to the one before `next`, without a gap.
    retained: VecDeque<Bytes>,
    octets: usize,
}

impl Published {
    fn retain(&mut self, frame: Bytes, most: usize) {
        self.octets += frame.len();
        self.retained.push_back(frame);
        while self.retained.len() > most || self.octets > RETAINED_OCTETS {
            let Some(oldest) = self.retained.pop_front() else {
                return;
            };
            self.octets -= oldest.len();
        }
    }

    fn since(&self, number: u64) -> Vec<Bytes> {
        let wanted = self.next.saturating_sub(number);
        let known = self.retained.len();
        let skip = usize::try_from(wanted).map_or(0, |wanted| known.saturating_sub(wanted));
        self.retained.iter().skip(skip).cloned().collect()
    }
}

impl Publisher {
    pub fn new(me: Address, transport: Arc<dyn Transport>, counts: Arc<Counts>) -> Self {
        Self {
            me,
            transport,
            counts,
            // Every RandomState is another one.
            incarnation: AtomicU64::new(RandomState::new().build_hasher().finish()),
            published: Mutex::default(),
        }
    }

    /// Numbers the event, keeps it if its type is retained, and hands it to the subscribers there are.
    pub fn publish<E: Event>(&self, event: &E) {
        let mut all = lock(&self.published);
        let published = all.entry(E::TYPE).or_default();
        let header = Header {
            kind: Kind::Event,
            message: E::TYPE,
            sender: self.me,
            correlation: published.next,
        };
        // An event that does not leave keeps its number, so that subscribers see the gap.
        published.next += 1;
        let sent = match frame::encode(header, event) {
            Ok(frame) => {
                if E::RETAINED > 0 {
                    published.retain(frame.clone(), E::RETAINED);
                }
                self.transport.publish(E::TYPE, frame)
            }
            Err(_) => {
                // What is retained has no gap.
                *published = Published {
                    next: published.next,
                    ..Published::default()
                };
                false
            }
        };
        if sent {
            self.counts.published.add();
        } else {
            self.counts.dropped_events.add();
        }
    }

    /// What was published so far.
    pub fn history(&self) -> History {
        let all = lock(&self.published);
        History {
            incarnation: self.incarnation(),
            types: all
                .iter()
                .map(|(&message, published)| HistoryOfType {
                    message: message.into(),
                    next: published.next,
                    frames: published.retained.iter().cloned().collect(),
                })
                .collect(),
        }
    }

    /// Goes on as the publisher that published this.
    pub fn resume(&self, history: History) {
        self.incarnation.store(history.incarnation, Ordering::Relaxed);
        let known = history.types.into_iter().filter_map(|one| {
            let published = Published {
                next: one.next,
                octets: one.frames.iter().map(Bytes::len).sum(),
                retained: one.frames.into(),
            };
            Some((u16::try_from(one.message).ok()?, published))
        });
        *lock(&self.published) = known.collect();
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Relaxed)
    }

    /// What is retained of the events that are asked for.
    pub fn replay(&self, asked: &Replay) -> Replayed {
        let all = lock(&self.published);
        let published = u16::try_from(asked.message)
            .ok()
            .and_then(|message| all.get(&message));
        let from = if asked.incarnation == self.incarnation() {
            asked.from
        } else {
            0
        };
        Replayed {
            incarnation: self.incarnation(),
            next: published.map_or(0, |published| published.next),
            frames: published.map_or_else(Vec::new, |published| published.since(from)),
        }
    }

    /// Sends beacons for ever; `arrivals` tells of new subscribers.
    pub async fn beacons(self: Arc<Self>, arrivals: Arc<Notify>) {
        let mut greeting = GREETING.iter();
        loop {
            let wait = greeting.next().copied().unwrap_or(BEACON_INTERVAL);
            tokio::select! {
                () = sleep(wait) => self.beacon(),
                () = arrivals.notified() => greeting = GREETING.iter(),
            }
        }
    }

    fn beacon(&self) {
        // Under the lock, so that no event overtakes the beacon that counts it.
        let all = lock(&self.published);
        let counts = all
            .iter()
            .map(|(&message, published)| BeaconCount {
                message: u32::from(message),
                count: published.next,
            })
            .collect();
        let header = Header {
            kind: Kind::Beacon,
            message: BEACON_TOPIC,
            sender: self.me,
            correlation: 0,
        };
        let beacon = Beacon {
            counts,
            incarnation: self.incarnation(),
        };
        if let Ok(frame) = frame::encode(header, &beacon) {
            self.transport.publish(BEACON_TOPIC, frame);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(published: &Published, number: u64) -> Vec<usize> {
        published.since(number).iter().map(Bytes::len).collect()
    }

    #[test]
    fn the_latest_are_retained() {
        let mut published = Published::default();
        assert!(frames(&published, 0).is_empty());
        for length in 1..=5 {
            published.next += 1;
            published.retain(vec![0; length].into(), 3);
        }
        assert_eq!(frames(&published, 0), [3, 4, 5]);
        assert_eq!(frames(&published, 2), [3, 4, 5]);
        assert_eq!(frames(&published, 4), [5]);
        assert!(frames(&published, 5).is_empty());
        assert!(frames(&published, u64::MAX).is_empty());
        assert_eq!(published.octets, 12);
    }

    #[test]
    fn the_octets_of_what_is_retained_are_bounded() {
        let mut published = Published::default();
        let half = RETAINED_OCTETS / 2;
        for length in [10, half, half] {
            published.next += 1;
            published.retain(vec![0; length].into(), 1_000);
        }
        assert_eq!(frames(&published, 0), [half, half]);
        // One that is too large for the whole ring leaves nothing behind, not even itself: no gap.
        published.next += 1;
        published.retain(vec![0; RETAINED_OCTETS + 1].into(), 1_000);
        assert!(frames(&published, 0).is_empty());
        assert_eq!(published.octets, 0);
    }
}

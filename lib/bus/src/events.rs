//! Events: numbered at the publisher, checked for gaps at the subscriber.
//!
//! Every publisher sends a beacon each [`BEACON_INTERVAL`] (and a few in quick succession when a subscriber arrives) with the number of
//! its last event of each type. So a subscriber learns that its subscription is in force, notices events it lost even if none follows,
//! and notices a publisher that hangs.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use prost::bytes::Bytes;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{sleep, timeout};

use crate::facility::Address;
use crate::frame::{self, Beacon, BeaconCount, Header, Kind};
use crate::message::Event;
use crate::peer::{back_off, lock};
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
/// A publisher without a sign of life for this long is connected to anew.
const SILENCE: Duration = Duration::from_secs(5);
const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// Events that may wait in a subscription; further ones are dropped and reported as missed.
const QUEUE: usize = 10_000;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard<E> {
    /// An event of this publisher.
    Event(Address, E),
    /// Events of this publisher may have been missed; those published from now on will come. Comes once at the beginning, after every
    /// reconnection and after every gap. Whoever keeps a copy of the publisher's state asks for the state now.
    Missed(Address),
}

/// Events of one type from any number of publishers.
pub struct Subscription<E> {
    transport: Arc<dyn Transport>,
    started: broadcast::Sender<Address>,
    counts: Arc<Counts>,
    sender: mpsc::Sender<Heard<E>>,
    receiver: mpsc::Receiver<Heard<E>>,
    followers: HashMap<Address, AbortHandle>,
}

impl<E: Event> Subscription<E> {
    pub(crate) fn new(
        transport: Arc<dyn Transport>,
        started: broadcast::Sender<Address>,
        counts: Arc<Counts>,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            transport,
            started,
            counts,
            sender,
            receiver,
            followers: HashMap::new(),
        }
    }

    /// Listens to `publisher` from now on, whether it is there already or not, through all its restarts.
    pub fn follow(&mut self, publisher: Address) {
        self.followers.entry(publisher).or_insert_with(|| {
            let follower = Follower {
                publisher,
                sender: self.sender.clone(),
                counts: self.counts.clone(),
                expected: None,
                owed: false,
                event: PhantomData,
            };
            let started = self.started.subscribe();
            tokio::spawn(follower.run(self.transport.clone(), started)).abort_handle()
        });
    }

    /// Listens to `publisher` no longer.
    pub fn unfollow(&mut self, publisher: Address) {
        if let Some(follower) = self.followers.remove(&publisher) {
            follower.abort();
        }
    }

    /// The next event. Waits for ever when nobody is followed. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Heard<E> {
        match self.receiver.recv().await {
            Some(heard) => heard,
            // We hold a sender ourselves, so the channel does not close.
            None => std::future::pending().await,
        }
    }
}

impl<E> Drop for Subscription<E> {
    fn drop(&mut self) {
        for follower in self.followers.values() {
            follower.abort();
        }
    }
}

struct Follower<E> {
    publisher: Address,
    sender: mpsc::Sender<Heard<E>>,
    counts: Arc<Counts>,
    /// The number of the next event; unknown until the first frame.
    expected: Option<u64>,
    /// The subscriber has to be told that it missed something.
    owed: bool,
    event: PhantomData<fn(E)>,
}

impl<E: Event> Follower<E> {
    async fn run(mut self, transport: Arc<dyn Transport>, mut started: broadcast::Receiver<Address>) {
        let mut wait = FIRST_WAIT;
        loop {
            if let Ok(mut frames) = transport.listen(self.publisher, [E::TYPE, BEACON_TOPIC]).await {
                self.expected = None;
                while let Ok(Some(frame)) = timeout(SILENCE, frames.recv()).await {
                    wait = FIRST_WAIT;
                    self.frame(&frame);
                }
            }
            back_off(wait, self.publisher, &mut started).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }

    fn frame(&mut self, frame: &Bytes) {
        let (header, payload) = match frame::decode(frame) {
            Ok(decoded) => decoded,
            Err(error) => return self.counts.bad_frame(error),
        };
        match header.kind {
            Kind::Beacon => match Beacon::decode(payload) {
                Ok(beacon) => self.beacon(&beacon),
                Err(_) => self.counts.malformed.add(),
            },
            Kind::Event if header.message == E::TYPE => match E::decode(payload) {
                Ok(event) => self.event(header.correlation, event),
                Err(_) => self.counts.malformed.add(),
            },
            _ => self.counts.malformed.add(),
        }
    }

    fn beacon(&mut self, beacon: &Beacon) {
        let published = beacon
            .counts
            .iter()
            .find(|count| count.message == u32::from(E::TYPE))
            .map_or(0, |count| count.count);
        if self.expected != Some(published) {
            self.expected = Some(published);
            self.owed = true;
        }
        self.pay();
    }

    fn event(&mut self, number: u64, event: E) {
        self.counts.heard.add();
        if self.expected != Some(number) {
            self.owed = true;
        }
        self.expected = Some(number.wrapping_add(1));
        self.pay();
        if self.sender.try_send(Heard::Event(self.publisher, event)).is_err() {
            self.owed = true;
        }
    }

    fn pay(&mut self) {
        if self.owed && self.sender.try_send(Heard::Missed(self.publisher)).is_ok() {
            self.owed = false;
            self.counts.missed.add();
        }
    }
}

/// The publishing side of a bus.
pub(crate) struct Publisher {
    me: Address,
    transport: Arc<dyn Transport>,
    counts: Arc<Counts>,
    /// How many events of each type have been published.
    numbers: Mutex<BTreeMap<u16, u64>>,
}

impl Publisher {
    pub fn new(me: Address, transport: Arc<dyn Transport>, counts: Arc<Counts>) -> Self {
        Self {
            me,
            transport,
            counts,
            numbers: Mutex::default(),
        }
    }

    /// Numbers the event and hands it to the subscribers there are.
    pub fn publish<E: Event>(&self, event: &E) {
        let mut numbers = lock(&self.numbers);
        let number = numbers.entry(E::TYPE).or_insert(0);
        let header = Header {
            kind: Kind::Event,
            message: E::TYPE,
            sender: self.me,
            correlation: *number,
        };
        // An event that does not leave keeps its number, so that subscribers see the gap.
        *number = number.wrapping_add(1);
        let sent = frame::encode(header, event).is_ok_and(|frame| self.transport.publish(E::TYPE, frame));
        if sent {
            self.counts.published.add();
        } else {
            self.counts.dropped_events.add();
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
        let numbers = lock(&self.numbers);
        let counts = numbers
            .iter()
            .map(|(&message, &count)| BeaconCount {
                message: u32::from(message),
                count,
            })
            .collect();
        let header = Header {
            kind: Kind::Beacon,
            message: BEACON_TOPIC,
            sender: self.me,
            correlation: 0,
        };
        if let Ok(frame) = frame::encode(header, &Beacon { counts }) {
            self.transport.publish(BEACON_TOPIC, frame);
        }
    }
}

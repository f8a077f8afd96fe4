//! The subscribing side of events: checks for gaps, and has them filled if the publisher retains such events.
//!
//! How far a follower has come is a [`Position`]: the publisher's incarnation and the number of its next event. Events that are not retained
//! are heard as they come, and every jump is told as [`Heard::Missed`]. Events that are retained are heard in order and once: whenever a beacon
//! or an event shows that others came before it, the follower asks for them ([`Replay`]) before it goes on. Meanwhile live events wait in
//! the bounded queues of the back end; what is lost there is another gap, and what waited and came by the replay too is known by its number.

use std::collections::{BTreeMap, HashMap};
use std::marker::PhantomData;
use std::time::Duration;

use prost::Message as _;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::error::BusError;
use crate::facility::Address;
use crate::frame::{self, Beacon, Kind};
use crate::handle::Bus;
use crate::message::Event;
use crate::messages::common::Replay;
use crate::peer::{FIRST_WAIT, back_off};
use crate::publisher::BEACON_TOPIC;

/// A publisher without a sign of life for this long is connected to anew.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a publisher may take to replay.
const REPLAY_DEADLINE: Duration = Duration::from_secs(5);
/// Events that may wait in a subscription. Further ones wait in the back end if they are retained; else they are dropped and reported as
/// missed.
const QUEUE: usize = 10_000;

/// What a subscriber hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard<E> {
    /// An event of this publisher.
    Event(Address, E),
    /// Events of this publisher may have been missed; those published from now on will come. Whoever keeps a copy of the publisher's state
    /// asks for the state now.
    ///
    /// Comes once at the beginning, after every reconnection and after every gap. Of events that are retained ([`Event::RETAINED`]) it comes
    /// only when some are no longer retained, and when the publisher has restarted: its last ones may not have left.
    Missed(Address),
}

/// How far the retained events of one publisher have been heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Position {
    /// The life of the publisher, an arbitrary number.
    pub incarnation: u64,
    /// The number of the next event in this life.
    pub next: u64,
}

/// Events of one type from any number of publishers.
pub struct Subscription<E> {
    bus: Bus,
    sender: mpsc::Sender<Delivery<E>>,
    receiver: mpsc::Receiver<Delivery<E>>,
    followers: HashMap<Address, AbortHandle>,
    positions: BTreeMap<Address, Position>,
}

/// What is heard, and where that brings the subscriber if such events are retained.
type Delivery<E> = (Heard<E>, Option<Position>);

impl<E: Event> Subscription<E> {
    pub(crate) fn new(bus: Bus) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        Self {
            bus,
            sender,
            receiver,
            followers: HashMap::new(),
            positions: BTreeMap::new(),
        }
    }

    /// Goes on where an earlier subscription ended: what comes before `positions` ([`Self::positions`] of that one) has been heard. For
    /// retained events, and before [`Self::follow`]; publishers without a position, and those that have restarted, are heard from the
    /// beginning.
    pub fn resume(mut self, positions: BTreeMap<Address, Position>) -> Self {
        self.positions = positions;
        self
    }

    /// How far [`Self::next`] has come with each publisher. Only of retained events.
    pub fn positions(&self) -> &BTreeMap<Address, Position> {
        &self.positions
    }

    /// Listens to `publisher` from now on, whether it is there already or not, through all its restarts. Events that are retained are heard
    /// from the beginning, or from where [`Self::positions`] says.
    pub fn follow(&mut self, publisher: Address) {
        self.followers.entry(publisher).or_insert_with(|| {
            let follower = Follower {
                publisher,
                bus: self.bus.clone(),
                sender: self.sender.clone(),
                position: self
                    .positions
                    .get(&publisher)
                    .copied()
                    .filter(|_| E::RETAINED > 0),
                greeted: false,
                owed: false,
                event: PhantomData,
            };
            tokio::spawn(follower.run()).abort_handle()
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
        loop {
            let Some((heard, position)) = self.receiver.recv().await else {
                // We hold a sender ourselves, so the channel does not close.
                return std::future::pending().await;
            };
            let (Heard::Event(publisher, _) | Heard::Missed(publisher)) = &heard;
            let Some(position) = position else { return heard };
            let before = self.positions.insert(*publisher, position);
            // A publisher that was unfollowed and is followed again may come twice with what was waiting here.
            let again = before
                .filter(|before| before.incarnation == position.incarnation && before.next >= position.next);
            match again {
                None => return heard,
                Some(before) => drop(self.positions.insert(*publisher, before)),
            }
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
    bus: Bus,
    sender: mpsc::Sender<Delivery<E>>,
    /// How far it has come; unknown until the first frame, and of events that are not retained, until the first frame of each connection.
    position: Option<Position>,
    /// The present connection is known to lead to the incarnation of `position`: it has brought a beacon.
    greeted: bool,
    /// The subscriber has to be told that it missed something.
    owed: bool,
    event: PhantomData<fn(E)>,
}

/// The connection is of no more use; the next one will show what was missed.
struct Lost;

impl<E: Event> Follower<E> {
    async fn run(mut self) {
        let mut started = self.bus.starts();
        let mut wait = FIRST_WAIT;
        loop {
            let listen = self
                .bus
                .transport()
                .listen(self.publisher, [E::TYPE, BEACON_TOPIC]);
            if let Ok(mut frames) = listen.await {
                self.greeted = false;
                if E::RETAINED == 0 {
                    self.position = None;
                }
                while let Ok(Some(frame)) = timeout(SILENCE, frames.recv()).await {
                    wait = FIRST_WAIT;
                    if self.frame(&frame).await.is_err() {
                        break;
                    }
                }
            }
            wait = back_off(wait, self.publisher, &mut started).await;
        }
    }

    async fn frame(&mut self, frame: &[u8]) -> Result<(), Lost> {
        let malformed = &self.bus.counts().malformed;
        let (header, payload) = match frame::decode(frame) {
            Ok(decoded) => decoded,
            Err(error) => {
                self.bus.counts().bad_frame(error);
                return Ok(());
            }
        };
        match header.kind {
            Kind::Beacon => match Beacon::decode(payload) {
                Ok(beacon) => return self.beacon(&beacon).await,
                Err(_) => malformed.add(),
            },
            Kind::Event if header.message == E::TYPE => match E::decode(payload) {
                Ok(event) if E::RETAINED > 0 => return self.retained(header.correlation, event).await,
                Ok(event) => self.passing(header.correlation, event),
                Err(_) => malformed.add(),
            },
            _ => malformed.add(),
        }
        Ok(())
    }

    async fn beacon(&mut self, beacon: &Beacon) -> Result<(), Lost> {
        let count = beacon
            .counts
            .iter()
            .find(|count| count.message == u32::from(E::TYPE));
        let published = Position {
            incarnation: beacon.incarnation,
            next: count.map_or(0, |count| count.count),
        };
        if E::RETAINED == 0 {
            // Only the number counts: an event that came before the first beacon does not tell the incarnation.
            self.owed |= self
                .position
                .is_none_or(|position| position.next != published.next);
            self.position = Some(published);
            self.pay();
            return Ok(());
        }
        let behind = self.position.is_none_or(|position| {
            position.incarnation != published.incarnation || position.next < published.next
        });
        if behind {
            self.catch_up(published).await?;
        }
        self.greeted = true;
        Ok(())
    }

    /// An event that is not retained. One that finds no room is missed.
    fn passing(&mut self, number: u64, event: E) {
        self.bus.counts().heard.add();
        let position = self.position.unwrap_or_default();
        if self.position.is_none() || position.next != number {
            self.owed = true;
        }
        self.position = Some(Position {
            next: number.wrapping_add(1),
            ..position
        });
        self.pay();
        let heard = Heard::Event(self.publisher, event);
        if self.sender.try_send((heard, None)).is_err() {
            self.owed = true;
        }
    }

    fn pay(&mut self) {
        if self.owed
            && self
                .sender
                .try_send((Heard::Missed(self.publisher), None))
                .is_ok()
        {
            self.owed = false;
            self.bus.counts().missed.add();
        }
    }

    /// A retained event, live.
    async fn retained(&mut self, number: u64, event: E) -> Result<(), Lost> {
        let (true, Some(position)) = (self.greeted, self.position) else {
            // The beacon will tell what to ask for, and this one is among it.
            return Ok(());
        };
        if number > position.next {
            self.catch_up(Position {
                next: number,
                ..position
            })
            .await?;
        }
        self.deliver(number, event).await;
        Ok(())
    }

    /// Asks for what was published, at least up to `published`, and has not been heard yet.
    async fn catch_up(&mut self, published: Position) -> Result<(), Lost> {
        let heard = self.position.unwrap_or_default();
        let request = Replay {
            message: E::TYPE.into(),
            incarnation: heard.incarnation,
            from: heard.next,
        };
        let replayed = match self.bus.request(self.publisher, &request, REPLAY_DEADLINE).await {
            Ok(replayed) => replayed,
            Err(BusError::Timeout { .. } | BusError::Unreachable { .. }) => return Err(Lost),
            Err(error) => {
                tracing::warn!("no replay: {error}");
                self.miss(published).await;
                return Ok(());
            }
        };
        if heard.incarnation != replayed.incarnation {
            let beginning = Position {
                incarnation: replayed.incarnation,
                next: 0,
            };
            if self.position.is_some() {
                self.miss(beginning).await;
            }
            self.position = Some(beginning);
        }
        for frame in &replayed.frames {
            match frame::decode(frame).map(|(header, payload)| (header, E::decode(payload))) {
                Ok((header, Ok(event))) if header.message == E::TYPE => {
                    self.bus.counts().replayed.add();
                    self.deliver(header.correlation, event).await;
                }
                _ => self.bus.counts().malformed.add(),
            }
        }
        if self
            .position
            .is_some_and(|position| position.next < replayed.next)
        {
            self.miss(Position {
                incarnation: replayed.incarnation,
                next: replayed.next,
            })
            .await;
        }
        // It may have restarted again since this connection was made.
        if replayed.incarnation == published.incarnation {
            Ok(())
        } else {
            Err(Lost)
        }
    }

    /// Hands on the event with this number, unless it has been heard already. Waits for room.
    async fn deliver(&mut self, number: u64, event: E) {
        let position = self.position.unwrap_or_default();
        if number < position.next {
            return;
        }
        if number > position.next {
            self.miss(Position {
                next: number,
                ..position
            })
            .await;
        }
        let position = Position {
            next: number.saturating_add(1),
            ..position
        };
        self.position = Some(position);
        self.bus.counts().heard.add();
        self.tell(Heard::Event(self.publisher, event), position).await;
    }

    /// Goes on to a position although not everything before it has been heard.
    async fn miss(&mut self, position: Position) {
        self.position = Some(position);
        self.bus.counts().missed.add();
        self.tell(Heard::Missed(self.publisher), position).await;
    }

    async fn tell(&self, heard: Heard<E>, position: Position) {
        // The receiver goes only with the subscription, which takes us along.
        let _ = self.sender.send((heard, Some(position))).await;
    }
}

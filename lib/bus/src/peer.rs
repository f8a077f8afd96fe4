//! The client side towards one address: a window of outstanding requests, and one task that keeps a connection.
//!
//! Cardinality: one [`Peer`] per address a bus has ever asked. It lives as long as the bus. Its task connects when there is
//! something to send, and again after every loss, waiting between [`FIRST_WAIT`] and [`LONGEST_WAIT`].

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use prost::bytes::Bytes;
use tokio::sync::{Notify, Semaphore, broadcast, mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use crate::facility::Address;
use crate::frame::{self, Kind};
use crate::statistics::Counts;
use crate::transport::{Connection, Transport};

/// Requests that may be outstanding towards one peer; further ones wait their turn within their deadline.
pub(crate) const WINDOW: usize = 1_000;
pub(crate) const FIRST_WAIT: Duration = Duration::from_millis(50);
const LONGEST_WAIT: Duration = Duration::from_secs(1);
/// A connection is given up when this many requests in a row had no answer ...
const UNANSWERED: u32 = 3;
/// ... and nothing came over it for this long. It bounds what piles up towards a stopped process.
const SILENCE: Duration = Duration::from_secs(5);

/// Why an exchange has no reply.
pub(crate) enum Failure {
    Timeout,
    Unreachable { sent: bool, cause: String },
}

pub(crate) struct Peer {
    outgoing: mpsc::Sender<Outgoing>,
    shared: Arc<Shared>,
    window: Semaphore,
    task: AbortHandle,
}

struct Outgoing {
    correlation: u64,
    frame: Bytes,
}

struct Shared {
    to: Address,
    waiting: Mutex<HashMap<u64, Waiting>>,
    /// Why there is no connection; `None` while there is one.
    cause: Mutex<Option<String>>,
    unanswered: AtomicU32,
    give_up: Notify,
    counts: Arc<Counts>,
}

struct Waiting {
    answer: oneshot::Sender<Answer>,
    sent: bool,
}

enum Answer {
    Frame(Bytes),
    Lost,
}

impl Peer {
    /// Starts the task towards `to`. `started` names addresses that have just started, to be tried at once.
    pub fn new(
        to: Address,
        transport: Arc<dyn Transport>,
        started: broadcast::Receiver<Address>,
        counts: Arc<Counts>,
    ) -> Self {
        let (outgoing, queue) = mpsc::channel(WINDOW);
        let shared = Arc::new(Shared {
            to,
            waiting: Mutex::default(),
            cause: Mutex::new(Some("not connected yet".into())),
            unanswered: AtomicU32::new(0),
            give_up: Notify::new(),
            counts,
        });
        let task = tokio::spawn(keep_connected(shared.clone(), transport, queue, started)).abort_handle();
        Self {
            outgoing,
            shared,
            window: Semaphore::new(WINDOW),
            task,
        }
    }

    /// Sends `frame` and waits for the frame that answers `correlation`, until `until`. With `again`, the frame is sent once more on
    /// the next connection if the first one breaks before the answer.
    pub async fn exchange(
        &self,
        correlation: u64,
        frame: Bytes,
        again: bool,
        until: Instant,
    ) -> Result<Bytes, Failure> {
        let Ok(Ok(_place)) = timeout_at(until, self.window.acquire()).await else {
            return Err(self.too_late());
        };
        loop {
            let (answer, receiver) = oneshot::channel();
            let ticket = Ticket::new(&self.shared, correlation, answer);
            let outgoing = Outgoing {
                correlation,
                frame: frame.clone(),
            };
            let exchange = async {
                self.outgoing.send(outgoing).await.ok()?;
                receiver.await.ok()
            };
            match timeout_at(until, exchange).await {
                Ok(Some(Answer::Frame(frame))) => return Ok(frame),
                Ok(Some(Answer::Lost)) if again => {}
                Ok(Some(Answer::Lost)) => return Err(self.unreachable(true)),
                Ok(None) => return Err(self.unreachable(false)),
                Err(_) if ticket.sent() => {
                    if self.shared.unanswered.fetch_add(1, Ordering::Relaxed) + 1 >= UNANSWERED {
                        self.shared.give_up.notify_one();
                    }
                    return Err(Failure::Timeout);
                }
                Err(_) => return Err(self.too_late()),
            }
        }
    }

    /// The deadline of a request that has not left: for want of a connection, or because the window is full.
    fn too_late(&self) -> Failure {
        if lock(&self.shared.cause).is_some() {
            self.unreachable(false)
        } else {
            Failure::Timeout
        }
    }

    fn unreachable(&self, sent: bool) -> Failure {
        let cause = lock(&self.shared.cause)
            .clone()
            .unwrap_or_else(|| "the connection was lost".into());
        Failure::Unreachable { sent, cause }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An entry among the waiting; taken out when the caller has its answer or goes away.
struct Ticket<'a> {
    shared: &'a Shared,
    correlation: u64,
}

impl<'a> Ticket<'a> {
    fn new(shared: &'a Shared, correlation: u64, answer: oneshot::Sender<Answer>) -> Self {
        lock(&shared.waiting).insert(correlation, Waiting { answer, sent: false });
        Self { shared, correlation }
    }

    fn sent(&self) -> bool {
        lock(&self.shared.waiting)
            .get(&self.correlation)
            .is_some_and(|waiting| waiting.sent)
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        lock(&self.shared.waiting).remove(&self.correlation);
    }
}

impl Shared {
    fn is_waiting(&self, correlation: u64) -> bool {
        lock(&self.waiting).contains_key(&correlation)
    }

    /// Notes that the frame of `correlation` is about to leave. False: nobody waits for it any more.
    fn mark_sent(&self, correlation: u64) -> bool {
        match lock(&self.waiting).get_mut(&correlation) {
            Some(waiting) => {
                waiting.sent = true;
                true
            }
            None => false,
        }
    }

    /// Hands a frame to whoever waits for it.
    fn answer(&self, frame: Bytes) {
        self.unanswered.store(0, Ordering::Relaxed);
        let header = match frame::decode(&frame) {
            Ok((header, _)) => header,
            Err(error) => return self.counts.bad_frame(error),
        };
        if !matches!(header.kind, Kind::Reply | Kind::Refusal) {
            return self.counts.malformed.add();
        }
        match lock(&self.waiting).remove(&header.correlation) {
            Some(waiting) => drop(waiting.answer.send(Answer::Frame(frame))),
            None => self.counts.late_replies.add(),
        }
    }

    /// Tells everybody whose request was out that its connection is gone.
    fn lost(&self, cause: &str) {
        *lock(&self.cause) = Some(cause.to_owned());
        let sent: Vec<Waiting> = lock(&self.waiting)
            .extract_if(|_, waiting| waiting.sent)
            .map(|(_, waiting)| waiting)
            .collect();
        for waiting in sent {
            drop(waiting.answer.send(Answer::Lost));
        }
    }
}

async fn keep_connected(
    shared: Arc<Shared>,
    transport: Arc<dyn Transport>,
    mut queue: mpsc::Receiver<Outgoing>,
    mut started: broadcast::Receiver<Address>,
) {
    let mut backlog = VecDeque::new();
    let mut wait = FIRST_WAIT;
    let mut connected_before = false;
    loop {
        if backlog.is_empty() {
            match queue.recv().await {
                Some(outgoing) => backlog.push_back(outgoing),
                None => return,
            }
        }
        match transport.connect(shared.to).await {
            Ok(connection) => {
                if connected_before {
                    shared.counts.reconnects.add();
                }
                connected_before = true;
                *lock(&shared.cause) = None;
                wait = FIRST_WAIT;
                let cause = talk(&shared, connection, &mut backlog, &mut queue).await;
                shared.lost(cause);
            }
            Err(error) => {
                *lock(&shared.cause) = Some(error.to_string());
                wait = back_off(wait, shared.to, &mut started).await;
            }
        }
        while let Ok(outgoing) = queue.try_recv() {
            backlog.push_back(outgoing);
        }
        backlog.retain(|outgoing| shared.is_waiting(outgoing.correlation));
    }
}

/// Moves frames both ways until the connection ends; returns why it did.
async fn talk(
    shared: &Shared,
    mut connection: Connection,
    backlog: &mut VecDeque<Outgoing>,
    queue: &mut mpsc::Receiver<Outgoing>,
) -> &'static str {
    let mut heard = Instant::now();
    loop {
        let outgoing = match backlog.pop_front() {
            Some(outgoing) => outgoing,
            None => tokio::select! {
                biased;
                frame = connection.incoming.recv() => match frame {
                    Some(frame) => {
                        heard = Instant::now();
                        shared.answer(frame);
                        continue;
                    }
                    None => return "the process at the other end went away",
                },
                outgoing = queue.recv() => match outgoing {
                    Some(outgoing) => outgoing,
                    None => return "the bus is closed",
                },
                () = shared.give_up.notified() => {
                    if heard.elapsed() >= SILENCE {
                        return "the process at the other end does not answer";
                    }
                    continue;
                }
            },
        };
        if !shared.mark_sent(outgoing.correlation) {
            continue;
        }
        // The connection's queue holds a whole window, so this waits only when the peer has stopped reading.
        tokio::select! {
            sent = connection.outgoing.send(outgoing.frame) => {
                if sent.is_err() {
                    return "the process at the other end went away";
                }
            }
            () = shared.give_up.notified() => return "the process at the other end does not read",
        }
    }
}

/// Sleeps for `wait`, or until `address` is said to have started. Gives the next wait: longer, or short for a process that is just starting.
pub(crate) async fn back_off(
    wait: Duration,
    address: Address,
    started: &mut broadcast::Receiver<Address>,
) -> Duration {
    let longer = (wait * 2).min(LONGEST_WAIT);
    let until = Instant::now() + wait;
    loop {
        match timeout_at(until, started.recv()).await {
            Err(_) => return longer,
            Ok(Ok(who)) if who == address => return FIRST_WAIT,
            Ok(Ok(_) | Err(broadcast::error::RecvError::Lagged(_))) => {}
            Ok(Err(broadcast::error::RecvError::Closed)) => {
                sleep(until.saturating_duration_since(Instant::now())).await;
                return longer;
            }
        }
    }
}

/// Locks a mutex that is never held across anything that can panic half-way.
pub(crate) fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

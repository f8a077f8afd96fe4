//! The handle to the bus that every task holds.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use prost::Message as _;
use tokio::sync::{Notify, broadcast, mpsc};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::error::{BusError, RefusalCode};
use crate::events::Subscription;
use crate::facility::Address;
use crate::frame::{self, Header, Kind, Refusal};
use crate::hub::{Hub, HubTransport};
use crate::ipc::{IpcTransport, Sockets};
use crate::message::{Event, Request};
use crate::peer::{Failure, Peer, lock};
use crate::publisher::{History, Publisher};
use crate::server::{self, Applied, Itself, Server};
use crate::statistics::{Counts, Statistics};
use crate::transport::{Arrived, Transport};

/// Notes about started tasks that may wait for a connection that is backing off.
const STARTED_QUEUE: usize = 64;

/// The bus, as one address sees it. Clones are the same bus; it closes when all clones, its subscriptions and its [`Server`] are dropped.
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

/// Another process follows this one at its address.
#[derive(Debug, Clone)]
pub struct Leaving(Arc<AtomicBool>);

impl Leaving {
    /// What is not answered from now on is not refused either. The end of the connection tells, and an idempotent request is asked again of the next one.
    pub fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

struct Inner {
    me: Address,
    transport: Arc<dyn Transport>,
    publisher: Arc<Publisher>,
    peers: Mutex<HashMap<Address, Arc<Peer>>>,
    correlation: AtomicU64,
    started: broadcast::Sender<Address>,
    applied: Arc<Applied>,
    counts: Arc<Counts>,
    leaving: Arc<AtomicBool>,
    _tasks: Arc<Tasks>,
}

impl Bus {
    /// Opens the bus of the node in `run_dir` and serves `me` on it.
    ///
    /// Fails when another live process serves `me`, or when others than our user and group may enter `run_dir/bus`. Must be called within a tokio
    /// runtime, which then runs the tasks of the bus.
    pub async fn open(run_dir: &Path, me: Address) -> Result<(Self, Server), BusError> {
        Self::open_on(run_dir, me, Sockets::bind(run_dir, me)?).await
    }

    /// As [`open`](Self::open), on sockets that were bound before.
    pub async fn open_on(run_dir: &Path, me: Address, sockets: Sockets) -> Result<(Self, Server), BusError> {
        let (tasks, counts) = (Arc::<Tasks>::default(), Arc::<Counts>::default());
        let (transport, arrived, arrivals) =
            IpcTransport::serve(run_dir, me, sockets, &tasks, &counts).await?;
        Ok(Self::serving(
            me,
            Arc::new(transport),
            arrived,
            arrivals,
            tasks,
            counts,
        ))
    }

    /// What it has published so far, for [`resume`](Self::resume) in another program.
    pub fn history(&self) -> History {
        self.0.publisher.history()
    }

    /// Goes on as the bus that published this, under the same address: subscribers see the same life, and miss nothing of what is retained. To be called
    /// right after it was opened.
    pub fn resume(&self, history: History) {
        self.0.publisher.resume(history);
    }

    /// Opens the bus of the node in `run_dir` only to ask and to listen, in the name of `me`. What it publishes is dropped.
    pub fn client(run_dir: &Path, me: Address) -> Result<Self, BusError> {
        let transport = IpcTransport::client(run_dir)?;
        Ok(Self::new(me, Arc::new(transport), Arc::default(), Arc::default()))
    }

    /// Joins `hub` as `me`: the same bus without sockets, for tests. Fails when `me` is a member already.
    pub fn in_process(hub: &Hub, me: Address) -> Result<(Self, Server), BusError> {
        let (transport, arrived, arrivals) =
            HubTransport::join(hub, me).ok_or_else(|| BusError::AddressInUse {
                address: me,
                path: "hub".into(),
            })?;
        Ok(Self::serving(
            me,
            Arc::new(transport),
            arrived,
            arrivals,
            Arc::default(),
            Arc::default(),
        ))
    }

    /// Joins `hub` only to ask and to listen.
    pub fn in_process_client(hub: &Hub, me: Address) -> Self {
        Self::new(
            me,
            Arc::new(HubTransport::client(hub)),
            Arc::default(),
            Arc::default(),
        )
    }

    /// The address of this end.
    pub fn address(&self) -> Address {
        self.0.me
    }

    /// Asks `to` and waits for its reply, for at most `deadline` in all. Requests wait while `to` is away and go through when it comes
    /// back in time. Cancelling is safe; the request may have been carried out then.
    pub async fn request<R: Request>(
        &self,
        to: Address,
        request: &R,
        deadline: Duration,
    ) -> Result<R::Reply, BusError> {
        let until = Instant::now() + deadline;
        let counts = &self.0.counts;
        counts.requests.add();
        let correlation = self.0.correlation.fetch_add(1, Ordering::Relaxed);
        let header = Header {
            kind: Kind::Request,
            message: R::TYPE,
            sender: self.0.me,
            correlation,
        };
        let frame = frame::encode(header, request).map_err(|size| BusError::TooLarge {
            message: R::NAME,
            size,
            limit: frame::MAX_MESSAGE,
        })?;
        match self
            .peer(to)
            .exchange(correlation, frame, R::IDEMPOTENT, until)
            .await
        {
            Ok(answer) => self.read::<R>(to, &answer),
            Err(Failure::Timeout) => {
                counts.timeouts.add();
                Err(BusError::Timeout {
                    to,
                    request: R::NAME,
                    after: deadline,
                })
            }
            Err(Failure::Unreachable { sent, cause }) => {
                counts.unreachable.add();
                Err(BusError::Unreachable {
                    to,
                    request: R::NAME,
                    sent,
                    cause,
                })
            }
        }
    }

    /// Publishes `event` to whoever listens now, and later, as long as it is retained. Never blocks; one that is dropped is counted, and its
    /// subscribers notice the gap.
    pub fn publish<E: Event>(&self, event: &E) {
        self.0.publisher.publish(event);
    }

    /// A subscription to events of type `E`; it hears nothing until it is told whom to [`Subscription::follow`].
    pub fn subscribe<E: Event>(&self) -> Subscription<E> {
        Subscription::new(self.clone())
    }

    /// Says that the task at `address` has just started, so that a connection to it that is backing off is tried at once.
    pub fn note_started(&self, address: Address) {
        // No receiver means that nobody is connected to anything yet.
        let _ = self.0.started.send(address);
    }

    /// Says that this task has applied this version of the configuration (0: it has just begun to follow it). Every [`Pong`] tells it.
    ///
    /// [`Pong`]: crate::messages::common::Pong
    pub fn note_applied(&self, version: u64) {
        self.0.applied.note(version);
    }

    /// The tasks that seem to be on the bus now (one that died a moment ago may still be among them).
    pub fn addresses(&self) -> Vec<Address> {
        self.0.transport.addresses()
    }

    /// By which it is said that another process follows this one. It does not keep the bus open.
    pub fn leaving(&self) -> Leaving {
        Leaving(self.0.leaving.clone())
    }

    /// What this end of the bus has counted.
    pub fn statistics(&self) -> Statistics {
        self.0.counts.read()
    }

    pub(crate) fn transport(&self) -> &dyn Transport {
        &*self.0.transport
    }

    pub(crate) fn counts(&self) -> &Counts {
        &self.0.counts
    }

    /// Hears of tasks that have just started.
    pub(crate) fn starts(&self) -> broadcast::Receiver<Address> {
        self.0.started.subscribe()
    }

    fn new(me: Address, transport: Arc<dyn Transport>, tasks: Arc<Tasks>, counts: Arc<Counts>) -> Self {
        let publisher = Arc::new(Publisher::new(me, transport.clone(), counts.clone()));
        let (started, _) = broadcast::channel(STARTED_QUEUE);
        Self(Arc::new(Inner {
            me,
            transport,
            publisher,
            peers: Mutex::default(),
            correlation: AtomicU64::new(1),
            started,
            applied: Arc::default(),
            counts,
            leaving: Arc::default(),
            _tasks: tasks,
        }))
    }

    fn serving(
        me: Address,
        transport: Arc<dyn Transport>,
        arrived: mpsc::Receiver<Arrived>,
        arrivals: Arc<Notify>,
        tasks: Arc<Tasks>,
        counts: Arc<Counts>,
    ) -> (Self, Server) {
        let bus = Self::new(me, transport, tasks.clone(), counts.clone());
        let (sender, requests) = mpsc::channel(server::QUEUE);
        let publisher = &bus.0.publisher;
        let itself = Itself {
            me,
            publisher: publisher.clone(),
            applied: bus.0.applied.clone(),
            counts,
            leaving: bus.0.leaving.clone(),
        };
        tasks.spawn(server::receive(itself, arrived, sender));
        tasks.spawn(publisher.clone().beacons(arrivals));
        (
            bus,
            Server {
                requests,
                _tasks: tasks,
            },
        )
    }

    fn peer(&self, to: Address) -> Arc<Peer> {
        let inner = &self.0;
        let new = || {
            Arc::new(Peer::new(
                to,
                inner.transport.clone(),
                self.starts(),
                inner.counts.clone(),
            ))
        };
        lock(&inner.peers).entry(to).or_insert_with(new).clone()
    }

    fn read<R: Request>(&self, to: Address, answer: &[u8]) -> Result<R::Reply, BusError> {
        let malformed = |cause: String| BusError::Malformed {
            from: to,
            request: R::NAME,
            cause,
        };
        let (header, payload) = frame::decode(answer).map_err(|error| malformed(error.to_string()))?;
        if header.kind == Kind::Refusal {
            self.0.counts.refused.add();
            let refusal = Refusal::decode(payload).map_err(|error| malformed(error.to_string()))?;
            let code = RefusalCode::from_number(refusal.code);
            return Err(BusError::Refused {
                to,
                request: R::NAME,
                code,
                text: refusal.text,
            });
        }
        if header.message != R::TYPE {
            return Err(malformed(format!(
                "it answers message type {:#06x}",
                header.message
            )));
        }
        let reply = R::Reply::decode(payload).map_err(|error| malformed(error.to_string()))?;
        self.0.counts.replies.add();
        Ok(reply)
    }
}

/// The tasks of a bus; they end with it.
#[derive(Default)]
pub(crate) struct Tasks(Mutex<Vec<AbortHandle>>);

impl Tasks {
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        lock(&self.0).push(tokio::spawn(task).abort_handle());
    }
}

impl Drop for Tasks {
    fn drop(&mut self) {
        for task in lock(&self.0).drain(..) {
            task.abort();
        }
    }
}

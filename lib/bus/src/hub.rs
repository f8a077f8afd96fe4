//! The bus inside one process: for tests, and for several managers in one process. Same semantics as sockets.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

use prost::bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use crate::facility::Address;
use crate::peer::{WINDOW, lock};
use crate::transport::{Arrived, Boxed, Connection, Route, Transport};

/// Frames that may wait for one subscriber before some are dropped.
const SUBSCRIBER_QUEUE: usize = 100_000;
const ARRIVAL_QUEUE: usize = 1_024;

/// Joins the buses opened with [`crate::Bus::in_process`].
#[derive(Clone, Default)]
pub struct Hub(Arc<Mutex<HashMap<Address, Member>>>);

impl Hub {
    /// A hub without members.
    pub fn new() -> Self {
        Self::default()
    }
}

struct Member {
    server: mpsc::Sender<Arrived>,
    subscribers: Vec<Subscriber>,
    arrivals: Arc<Notify>,
}

struct Subscriber {
    topics: [u16; 2],
    frames: mpsc::Sender<Bytes>,
}

/// Membership of a hub; ends when dropped.
pub(crate) struct HubTransport {
    hub: Hub,
    me: Option<Address>,
}

impl HubTransport {
    /// Joins as `me`. `None` when there is such a member.
    pub fn join(hub: &Hub, me: Address) -> Option<(Self, mpsc::Receiver<Arrived>, Arc<Notify>)> {
        let (server, arrived) = mpsc::channel(ARRIVAL_QUEUE);
        let arrivals = Arc::new(Notify::new());
        let mut members = lock(&hub.0);
        if members.get(&me).is_some_and(|member| !member.server.is_closed()) {
            return None;
        }
        members.insert(
            me,
            Member {
                server,
                subscribers: Vec::new(),
                arrivals: arrivals.clone(),
            },
        );
        Some((
            Self {
                hub: hub.clone(),
                me: Some(me),
            },
            arrived,
            arrivals,
        ))
    }

    /// A client that serves nothing.
    pub fn client(hub: &Hub) -> Self {
        Self {
            hub: hub.clone(),
            me: None,
        }
    }
}

impl Drop for HubTransport {
    fn drop(&mut self) {
        if let Some(me) = self.me {
            lock(&self.hub.0).remove(&me);
        }
    }
}

impl Transport for HubTransport {
    fn connect(&self, to: Address) -> Boxed<'_, io::Result<Connection>> {
        Box::pin(async move {
            let server = lock(&self.hub.0).get(&to).map(|member| member.server.clone());
            let server = server
                .filter(|server| !server.is_closed())
                .ok_or(io::ErrorKind::ConnectionRefused)?;
            let (outgoing, from_client) = mpsc::channel(WINDOW);
            let (to_client, incoming) = mpsc::channel(2 * WINDOW);
            tokio::spawn(pump(server, from_client, to_client));
            Ok(Connection { outgoing, incoming })
        })
    }

    fn listen(&self, to: Address, topics: [u16; 2]) -> Boxed<'_, io::Result<mpsc::Receiver<Bytes>>> {
        Box::pin(async move {
            let mut members = lock(&self.hub.0);
            let member = members.get_mut(&to).ok_or(io::ErrorKind::ConnectionRefused)?;
            let (frames, receiver) = mpsc::channel(SUBSCRIBER_QUEUE);
            member.subscribers.push(Subscriber { topics, frames });
            member.arrivals.notify_one();
            Ok(receiver)
        })
    }

    fn publish(&self, topic: u16, frame: Bytes) -> bool {
        let Some(me) = self.me else { return false };
        if let Some(member) = lock(&self.hub.0).get_mut(&me) {
            member.subscribers.retain(|subscriber| {
                if subscriber.topics.contains(&topic) {
                    // A full queue drops the frame; the numbering tells the subscriber.
                    let _ = subscriber.frames.try_send(frame.clone());
                }
                !subscriber.frames.is_closed()
            });
        }
        true
    }

    fn addresses(&self) -> Vec<Address> {
        lock(&self.hub.0).keys().copied().collect()
    }
}

/// Moves frames between a client and a server until one of them goes.
async fn pump(
    server: mpsc::Sender<Arrived>,
    mut from_client: mpsc::Receiver<Bytes>,
    to_client: mpsc::Sender<Bytes>,
) {
    let (replies, mut from_server) = mpsc::channel(2 * WINDOW);
    loop {
        tokio::select! {
            biased;
            reply = from_server.recv() => {
                // A client holds at most a window of requests, so its queue has room; what exceeds it answers nobody.
                if let Some((_, frame)) = reply {
                    let _ = to_client.try_send(frame);
                }
            }
            frame = from_client.recv() => {
                let Some(frame) = frame else { return };
                let back = Route { connection: Bytes::new(), replies: replies.clone() };
                if server.send(Arrived { frame, back }).await.is_err() {
                    return;
                }
            }
            () = server.closed() => return,
        }
    }
}

//! The bus over ZeroMQ sockets in a directory: ROUTER and DEALER for requests, PUB and SUB for events.
//!
//! Who may talk: whoever may enter the directory. It belongs to our user or, where every process has a user of its own, to the node's parent, and
//! to a group of ours; nobody but its owner may write there, and nobody else may enter (checked here). So every socket in it was made by the owner,
//! who hands it to the process it is for ([`Sockets`]); a client checks that by SO_PEERCRED, too. The `zeromq` crate accepts connections itself, so
//! the server cannot look at the credentials of a client; the directory does that for it.
//!
//! What the `zeromq` crate does not do, and is done here or in [`crate::peer`] and [`crate::events`]:
//! * a stale socket file is removed before binding, when nobody answers on it;
//! * a DEALER never reconnects: its loss is seen through the monitor and ends the [`Connection`], and the peer makes a new one;
//! * a SUB reconnects too lazily: it is likewise replaced;
//! * queues hold 100,000 messages per peer and a full one blocks the sender: every send has a time-out, and a peer that does not read is
//!   left alone for a while.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::Gid;
use prost::bytes::Bytes;
use tokio::net::UnixStream;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, timeout};
use zeromq::{
    DealerSocket, PubSocket, RouterRecvHalf, RouterSendHalf, RouterSocket, Socket, SocketEvent,
    SocketOptions, SocketRecv, SocketSend, SubSocket, ZmqMessage,
};

use crate::error::BusError;
use crate::facility::{Address, Facility};
use crate::handle::Tasks;
use crate::peer::WINDOW;
use crate::statistics::Counts;
use crate::transport::{Arrived, Boxed, Connection, Route, Transport};

/// A handshake that takes longer has failed.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// A send that waits longer has met a full queue of 100,000 messages.
const SEND_TIMEOUT: Duration = Duration::from_millis(100);
/// Replies to a peer with a full queue are dropped for this long before it is tried again.
const PENALTY: Duration = Duration::from_secs(1);
const REPLY_QUEUE: usize = 16_384;
const EVENT_QUEUE: usize = 16_384;
const ARRIVAL_QUEUE: usize = 1_024;
/// Longest socket path the kernel takes (sun_path less its terminator).
const MAX_PATH: usize = 107;

/// A future that ends when the monitor of a socket reports the loss of its connection. (A macro, for the type of a monitor cannot be named
/// without one more dependency.)
macro_rules! lost {
    ($monitor:ident) => {{
        let mut monitor = $monitor;
        async move {
            while let Ok(event) = monitor.recv().await {
                if matches!(event, SocketEvent::Disconnected(_)) {
                    return;
                }
            }
        }
    }};
}

/// The listening sockets of one address: made by itself, or by the node's parent for it.
#[derive(Debug)]
pub struct Sockets {
    /// Where requests arrive.
    pub requests: UnixListener,
    /// Where subscribers arrive.
    pub events: UnixListener,
}

impl Sockets {
    /// Binds those of `me` in `run_dir/bus`. Fails when another live process serves `me`, or when others than our user and group may enter there.
    pub fn bind(run_dir: &Path, me: Address) -> Result<Self, BusError> {
        let directory = run_dir.join("bus");
        let group = check_directory(&directory)?;
        Ok(Self {
            requests: listener(&directory.join(me.to_string()), me, group)?,
            events: listener(&events_path(&directory, me), me, group)?,
        })
    }

    /// The same sockets once more.
    pub fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            requests: self.requests.try_clone()?,
            events: self.events.try_clone()?,
        })
    }

    /// Takes away the names of those of `address`, which is gone for good.
    pub fn remove(run_dir: &Path, address: Address) {
        let directory = run_dir.join("bus");
        for path in [
            directory.join(address.to_string()),
            events_path(&directory, address),
        ] {
            // Whoever served there may have done it.
            let _ = fs::remove_file(path);
        }
    }
}

/// The sockets of one process.
pub(crate) struct IpcTransport {
    directory: PathBuf,
    events: Option<mpsc::Sender<(u16, Bytes)>>,
}

impl IpcTransport {
    /// A client that serves nothing.
    pub fn client(run_dir: &Path) -> Result<Self, BusError> {
        let directory = run_dir.join("bus");
        check_directory(&directory)?;
        Ok(Self {
            directory,
            events: None,
        })
    }

    /// Puts the ROUTER and the PUB of `me` on its sockets.
    pub async fn serve(
        run_dir: &Path,
        me: Address,
        sockets: Sockets,
        tasks: &Tasks,
        counts: &Arc<Counts>,
    ) -> Result<(Self, mpsc::Receiver<Arrived>, Arc<Notify>), BusError> {
        let directory = run_dir.join("bus");
        check_directory(&directory)?;

        let path = directory.join(me.to_string());
        let mut router = RouterSocket::new();
        router
            .bind_listener(sockets.requests)
            .await
            .map_err(|error| failed_to_bind(&path, error))?;
        let (send, recv) = router.split();
        let (arrivals_in, arrived) = mpsc::channel(ARRIVAL_QUEUE);
        let (replies, reply_queue) = mpsc::channel(REPLY_QUEUE);
        tasks.spawn(receive(recv, arrivals_in, replies, counts.clone()));
        tasks.spawn(reply(send, reply_queue, counts.clone()));

        let path = events_path(&directory, me);
        let mut publisher = PubSocket::new();
        let mut monitor = publisher.monitor();
        publisher
            .bind_listener(sockets.events)
            .await
            .map_err(|error| failed_to_bind(&path, error))?;
        let (events, event_queue) = mpsc::channel(EVENT_QUEUE);
        tasks.spawn(publish(publisher, event_queue));
        let subscriber_arrived = Arc::new(Notify::new());
        let notify = subscriber_arrived.clone();
        tasks.spawn(async move {
            while let Ok(event) = monitor.recv().await {
                if matches!(event, SocketEvent::Accepted(..)) {
                    notify.notify_one();
                }
            }
        });
        Ok((
            Self {
                directory,
                events: Some(events),
            },
            arrived,
            subscriber_arrived,
        ))
    }
}

impl Transport for IpcTransport {
    fn connect(&self, to: Address) -> Boxed<'_, io::Result<Connection>> {
        Box::pin(async move {
            let path = self.directory.join(to.to_string());
            probe(&path).await?;
            let mut dealer = DealerSocket::with_options(options());
            let monitor = dealer.monitor();
            let lost = lost!(monitor);
            dealer.connect(&endpoint(&path)).await.map_err(io::Error::other)?;
            let (outgoing, from_peer) = mpsc::channel(WINDOW);
            let (to_peer, incoming) = mpsc::channel(2 * WINDOW);
            tokio::spawn(talk(dealer, lost, from_peer, to_peer));
            Ok(Connection { outgoing, incoming })
        })
    }

    fn listen(&self, to: Address, topics: [u16; 2]) -> Boxed<'_, io::Result<mpsc::Receiver<Bytes>>> {
        Box::pin(async move {
            let path = events_path(&self.directory, to);
            probe(&path).await?;
            let mut subscriber = SubSocket::with_options(options());
            let monitor = subscriber.monitor();
            let lost = lost!(monitor);
            for name in topics {
                subscriber
                    .subscribe(&topic(name))
                    .await
                    .map_err(io::Error::other)?;
            }
            subscriber
                .connect(&endpoint(&path))
                .await
                .map_err(io::Error::other)?;
            let (frames, receiver) = mpsc::channel(ARRIVAL_QUEUE);
            tokio::spawn(hear(subscriber, lost, frames));
            Ok(receiver)
        })
    }

    fn publish(&self, topic: u16, frame: Bytes) -> bool {
        self.events
            .as_ref()
            .is_some_and(|events| events.try_send((topic, frame)).is_ok())
    }

    fn addresses(&self) -> Vec<Address> {
        let Ok(entries) = fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        entries
            .filter_map(|entry| parse_address(entry.ok()?.file_name().to_str()?))
            .collect()
    }
}

/// `ipsecmgr-3`, the name of a request socket, as an address.
fn parse_address(name: &str) -> Option<Address> {
    let (facility, instance) = name.rsplit_once('-')?;
    Some(Address::new(
        facility.parse::<Facility>().ok()?,
        instance.parse().ok()?,
    ))
}

fn events_path(directory: &Path, address: Address) -> PathBuf {
    directory.join(format!("{address}.events"))
}

fn endpoint(path: &Path) -> String {
    format!("ipc://{}", path.display())
}

/// A message type as a subscription: of fixed length, so that none is the beginning of another.
fn topic(message: u16) -> String {
    format!("{message:04x}")
}

fn options() -> SocketOptions {
    let mut options = SocketOptions::default();
    options.connect_timeout(CONNECT_TIMEOUT);
    options
}

/// The bus directory must be ours, or that of a group of ours with somebody else as its only writer: who can enter it is a peer. It is made if it is
/// missing. Returns the group it belongs to.
fn check_directory(directory: &Path) -> Result<Gid, BusError> {
    let wrong = |cause: String| BusError::Directory {
        path: directory.to_owned(),
        cause,
    };
    match fs::DirBuilder::new().mode(0o700).create(directory) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(wrong(error.to_string())),
    }
    let metadata = fs::symlink_metadata(directory).map_err(|error| wrong(error.to_string()))?;
    if !metadata.is_dir() {
        return Err(wrong("is not a directory".into()));
    }
    let group = Gid::from_raw(metadata.gid());
    let ours = metadata.uid() == nix::unistd::geteuid().as_raw();
    let our_groups = || nix::unistd::getgroups().unwrap_or_default();
    let shared = || metadata.mode() & 0o070 == 0o050 && our_groups().contains(&group);
    if !ours && !shared() {
        return Err(wrong(format!("belongs to user {}, not to us", metadata.uid())));
    }
    if metadata.mode() & 0o027 != 0 {
        return Err(wrong(format!(
            "has mode {:o}; others may enter it or write there, 750 or 700 is needed",
            metadata.mode() & 0o777
        )));
    }
    Ok(group)
}

/// A listening socket at `path` for its user and `group`. A file left by a dead process is removed; a live one is not disturbed.
fn listener(path: &Path, me: Address, group: Gid) -> Result<UnixListener, BusError> {
    if path.as_os_str().len() > MAX_PATH {
        return Err(BusError::Directory {
            path: path.to_owned(),
            cause: format!(
                "is longer than the {MAX_PATH} octets of a socket name; use a shorter run directory"
            ),
        });
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Ok(_) => {
            return Err(BusError::AddressInUse {
                address: me,
                path: path.to_owned(),
            });
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(_) => {
            fs::remove_file(path).map_err(|source| BusError::Io {
                action: "remove the stale socket",
                path: path.to_owned(),
                source,
            })?;
        }
    }
    let bound = UnixListener::bind(path).and_then(|listener| {
        // (Connecting is writing.)
        fs::set_permissions(path, fs::Permissions::from_mode(0o660))?;
        nix::unistd::chown(path, None, Some(group))?;
        Ok(listener)
    });
    bound.map_err(|source| BusError::Io {
        action: "bind",
        path: path.to_owned(),
        source,
    })
}

fn failed_to_bind(path: &Path, error: zeromq::ZmqError) -> BusError {
    BusError::Io {
        action: "listen on",
        path: path.to_owned(),
        source: io::Error::other(error),
    }
}

/// Is somebody there, on a socket that the owner of the directory made? Fails at once if not, where the connect of `zeromq` would go on trying.
async fn probe(path: &Path) -> io::Result<()> {
    let stream = timeout(CONNECT_TIMEOUT, UnixStream::connect(path)).await??;
    let peer = getsockopt(&stream, sockopt::PeerCredentials)?;
    let owner = fs::metadata(path.parent().unwrap_or(path))?.uid();
    if peer.uid() != owner {
        let text = format!(
            "{} was made by user {}, not by {owner}",
            path.display(),
            peer.uid()
        );
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, text));
    }
    Ok(())
}

/// ROUTER to server.
async fn receive(
    mut router: RouterRecvHalf,
    arrivals: mpsc::Sender<Arrived>,
    replies: mpsc::Sender<(Bytes, Bytes)>,
    counts: Arc<Counts>,
) {
    loop {
        let Ok(message) = router.recv().await else {
            // Faults of one peer do not surface here; whatever this is, it must not become a busy loop.
            tokio::time::sleep(SEND_TIMEOUT).await;
            continue;
        };
        let Ok([connection, frame]) = <[Bytes; 2]>::try_from(message.into_vec()) else {
            counts.malformed.add();
            continue;
        };
        let back = Route {
            connection,
            replies: replies.clone(),
        };
        if arrivals.send(Arrived { frame, back }).await.is_err() {
            return;
        }
    }
}

/// Replies to ROUTER.
async fn reply(mut router: RouterSendHalf, mut queue: mpsc::Receiver<(Bytes, Bytes)>, counts: Arc<Counts>) {
    let mut stuck: HashMap<Bytes, Instant> = HashMap::new();
    while let Some((connection, frame)) = queue.recv().await {
        if !stuck.is_empty() {
            stuck.retain(|_, since| since.elapsed() < PENALTY);
            if stuck.contains_key(&connection) {
                counts.dropped_replies.add();
                continue;
            }
        }
        let Ok(message) = ZmqMessage::try_from(vec![connection.clone(), frame]) else {
            continue;
        };
        match timeout(SEND_TIMEOUT, router.send(message)).await {
            Ok(Ok(())) => {}
            // The client went away.
            Ok(Err(_)) => counts.dropped_replies.add(),
            Err(_) => {
                counts.dropped_replies.add();
                stuck.insert(connection, Instant::now());
            }
        }
    }
}

/// Events to PUB, which drops rather than blocks.
async fn publish(mut publisher: PubSocket, mut queue: mpsc::Receiver<(u16, Bytes)>) {
    while let Some((name, frame)) = queue.recv().await {
        if let Ok(message) = ZmqMessage::try_from(vec![Bytes::from(topic(name)), frame]) {
            let _ = publisher.send(message).await;
        }
    }
}

/// DEALER to peer and back, until the server goes or the peer does.
async fn talk(
    dealer: DealerSocket,
    lost: impl Future<Output = ()>,
    mut from_peer: mpsc::Receiver<Bytes>,
    to_peer: mpsc::Sender<Bytes>,
) {
    let (mut send, mut recv) = dealer.split();
    let mut lost = std::pin::pin!(lost);
    loop {
        tokio::select! {
            biased;
            message = recv.recv() => {
                let Ok(message) = message else { return };
                // There is room for all answers of a window; what exceeds it answers nobody.
                if let Ok([frame]) = <[Bytes; 1]>::try_from(message.into_vec()) {
                    let _ = to_peer.try_send(frame);
                }
            }
            () = &mut lost => return,
            frame = from_peer.recv() => {
                let Some(frame) = frame else { return };
                if !matches!(timeout(SEND_TIMEOUT, send.send(ZmqMessage::from(frame))).await, Ok(Ok(()))) {
                    return;
                }
            }
        }
    }
}

/// SUB to follower, until the publisher goes or the follower does.
async fn hear(mut subscriber: SubSocket, lost: impl Future<Output = ()>, frames: mpsc::Sender<Bytes>) {
    let mut lost = std::pin::pin!(lost);
    loop {
        tokio::select! {
            biased;
            message = subscriber.recv() => {
                let Ok(message) = message else { return };
                if let Ok([_, frame]) = <[Bytes; 2]>::try_from(message.into_vec())
                    && frames.send(frame).await.is_err()
                {
                    return;
                }
            }
            () = &mut lost => return,
            () = frames.closed() => return,
        }
    }
}

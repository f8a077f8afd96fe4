//! What a back end of the bus supplies. There are two: sockets ([`crate::ipc`]) and this process ([`crate::hub`]).

use std::future::Future;
use std::io;
use std::pin::Pin;

use prost::bytes::Bytes;
use tokio::sync::mpsc;

use crate::facility::Address;

/// A future without a name.
pub(crate) type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries frames; knows nothing of what is in them.
pub(crate) trait Transport: Send + Sync + 'static {
    /// One attempt to connect to the server at `to`, bounded in time.
    fn connect(&self, to: Address) -> Boxed<'_, io::Result<Connection>>;

    /// One attempt to connect to the publisher at `to` and to get its frames of the topics `topics`.
    /// The channel closes when the publisher goes.
    fn listen(&self, to: Address, topics: [u16; 2]) -> Boxed<'_, io::Result<mpsc::Receiver<Bytes>>>;

    /// Gives a frame to the present subscribers of `topic`; never blocks. False when it was dropped.
    fn publish(&self, topic: u16, frame: Bytes) -> bool;

    /// The servers there seem to be (some may have died a moment ago).
    fn addresses(&self) -> Vec<Address>;
}

/// A connection to a server. The incoming side closes when the server goes; dropping it disconnects.
pub(crate) struct Connection {
    pub outgoing: mpsc::Sender<Bytes>,
    pub incoming: mpsc::Receiver<Bytes>,
}

/// A frame that reached a server.
pub(crate) struct Arrived {
    pub frame: Bytes,
    pub back: Route,
}

/// The way back to whoever sent a frame.
#[derive(Clone)]
pub(crate) struct Route {
    /// Names the connection to the back end.
    pub connection: Bytes,
    pub replies: mpsc::Sender<(Bytes, Bytes)>,
}

impl Route {
    /// Hands a reply to the back end; never blocks. False when it was dropped.
    pub fn send(&self, frame: Bytes) -> bool {
        self.replies.try_send((self.connection.clone(), frame)).is_ok()
    }
}

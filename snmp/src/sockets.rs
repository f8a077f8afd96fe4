//! The sockets of the agent.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::state::State;

/// Datagrams that may wait to be answered; the kernel's queue holds the next ones.
const RECEIVED: usize = 64;
/// The largest request; SNMP over UDP allows more, nobody sends it.
const LARGEST_REQUEST: usize = 8_192;

/// The sockets of the agent, one for each address family at most.
pub struct Sockets {
    sockets: Vec<Arc<UdpSocket>>,
    received: mpsc::Receiver<Request>,
    receivers: Vec<AbortHandle>,
}

/// A datagram that came in.
pub struct Request {
    octets: Vec<u8>,
    from: SocketAddr,
    socket: Arc<UdpSocket>,
}

impl Sockets {
    /// Receives from these sockets.
    pub fn new(sockets: Vec<UdpSocket>) -> Self {
        let (sender, received) = mpsc::channel(RECEIVED);
        let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
        let receivers = sockets
            .iter()
            .map(|socket| tokio::spawn(receive(socket.clone(), sender.clone())).abort_handle());
        Self {
            receivers: receivers.collect(),
            sockets,
            received,
        }
    }

    /// The next request. Waits for ever without sockets.
    pub async fn next(&mut self) -> Request {
        match self.received.recv().await {
            Some(request) => request,
            None => std::future::pending().await,
        }
    }

    /// The socket that reaches an address.
    fn towards(&self, address: SocketAddr) -> Option<&Arc<UdpSocket>> {
        let same = |socket: &&Arc<UdpSocket>| {
            socket
                .local_addr()
                .is_ok_and(|local| local.is_ipv4() == address.is_ipv4())
        };
        self.sockets.iter().find(same)
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        self.receivers.iter().for_each(AbortHandle::abort);
    }
}

/// Answers a request. An answer that the kernel does not take is lost, as any datagram may be; the asker asks again.
pub fn answer(state: &mut State, request: &Request) {
    if let Some(answer) = state.answer(request.from, &request.octets)
        && let Err(error) = request.socket.try_send_to(&answer, request.from)
    {
        tracing::debug!("answer to {} not sent: {error}", request.from);
    }
}

/// Sends the notifications that wait, as far as the kernel takes them; gives the socket to wait for when it does not take more.
pub fn send(state: &mut State, sockets: &Sockets) -> Option<Arc<UdpSocket>> {
    while let Some(outgoing) = state.traps.outbox.next() {
        let Some(socket) = sockets.towards(outgoing.to) else {
            state.traps.sent(true);
            continue;
        };
        match socket.try_send_to(&outgoing.datagram, outgoing.to) {
            Ok(_) => state.traps.sent(false),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(socket.clone()),
            // A refusal of an earlier datagram is reported here (ECONNREFUSED): this one is lost all the same.
            Err(_) => state.traps.sent(true),
        }
    }
    None
}

/// Waits until a socket takes datagrams again; for ever without one.
pub async fn writable(socket: Option<Arc<UdpSocket>>) {
    match socket {
        // An error shows at the next attempt to send.
        Some(socket) => drop(socket.writable().await),
        None => std::future::pending().await,
    }
}

async fn receive(socket: Arc<UdpSocket>, sender: mpsc::Sender<Request>) {
    let mut buffer = vec![0; LARGEST_REQUEST];
    loop {
        match socket.recv_from(&mut buffer).await {
            Ok((length, from)) => {
                let octets = buffer.get(..length).unwrap_or_default().to_vec();
                if sender
                    .send(Request {
                        octets,
                        from,
                        socket: socket.clone(),
                    })
                    .await
                    .is_err()
                {
                    return;
                }
            }
            // Reports of unreachable receivers of earlier answers come out here.
            Err(error) => tracing::debug!("receiving: {error}"),
        }
    }
}

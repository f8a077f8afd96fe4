//! One end of one socket pair: a task that reads it and one that writes it.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, send};
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use zeroize::{Zeroize, Zeroizing};

use super::{Answer, Answers, LinkIncoming, MAX_LINK_MESSAGE};
use crate::error::RefusalCode;
use crate::facility::Address;
use crate::frame::{self, HEADER, Header, Kind};
use crate::peer::lock;
use crate::statistics::Counts;

/// Frames that may wait to be written; callers wait within their deadline, replies beyond it are dropped.
const WRITE_QUEUE: usize = 1_024;

type Frame = Zeroizing<Vec<u8>>;

/// A frame in a buffer of exactly its size: one that grows would leave copies of its content behind.
pub(super) fn encode(header: Header, message: &impl prost::Message) -> Frame {
    let mut frame = Zeroizing::new(Vec::with_capacity(HEADER + message.encoded_len()));
    frame::put_header(header, &mut *frame);
    message.encode_raw(&mut *frame);
    frame
}

pub(super) struct Wire {
    /// The answers callers wait for; `None` once the other end is gone.
    answers: Arc<Mutex<Option<Answers>>>,
    outgoing: mpsc::Sender<Frame>,
    tasks: [AbortHandle; 2],
}

impl Wire {
    pub fn new(
        me: Address,
        peer: Address,
        socket: OwnedFd,
        requests: mpsc::Sender<LinkIncoming>,
        counts: Arc<Counts>,
    ) -> io::Result<Self> {
        // Only an asynchronous handle to a packet socket is needed, and tokio has one for datagrams: on a SOCK_SEQPACKET pair it keeps
        // packets apart just the same.
        let socket = std::os::unix::net::UnixDatagram::from(socket);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UnixDatagram::from_std(socket)?);
        let answers = Arc::new(Mutex::new(Some(Answers::new())));
        let (outgoing, queue) = mpsc::channel(WRITE_QUEUE);
        let reader = Reader {
            me,
            peer,
            answers: answers.clone(),
            back: outgoing.clone(),
            requests,
            counts,
        };
        let tasks = [
            tokio::spawn(reader.run(socket.clone())).abort_handle(),
            tokio::spawn(write(socket, queue)).abort_handle(),
        ];
        Ok(Self {
            answers,
            outgoing,
            tasks,
        })
    }

    pub fn is_open(&self) -> bool {
        lock(&self.answers).is_some()
    }

    /// Sends a request and waits for its answer. `None` when the link breaks.
    pub async fn exchange(&self, correlation: u64, frame: Frame) -> Option<Frame> {
        let (answer, receiver) = oneshot::channel();
        lock(&self.answers).as_mut()?.insert(correlation, answer);
        let _ticket = Ticket {
            answers: &self.answers,
            correlation,
        };
        self.outgoing.send(frame).await.ok()?;
        receiver.await.ok()
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
        lock(&self.answers).take();
    }
}

/// Takes the entry of a caller out when it has its answer or goes away.
struct Ticket<'a> {
    answers: &'a Mutex<Option<Answers>>,
    correlation: u64,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(answers) = lock(self.answers).as_mut() {
            answers.remove(&self.correlation);
        }
    }
}

struct Reader {
    me: Address,
    peer: Address,
    answers: Arc<Mutex<Option<Answers>>>,
    back: mpsc::Sender<Frame>,
    requests: mpsc::Sender<LinkIncoming>,
    counts: Arc<Counts>,
}

impl Reader {
    async fn run(self, socket: Arc<UnixDatagram>) {
        let mut buffer = Zeroizing::new(vec![0; HEADER + MAX_LINK_MESSAGE]);
        loop {
            // MSG_TRUNC: the true length of a packet that is larger than the buffer.
            let flags = MsgFlags::MSG_TRUNC | MsgFlags::MSG_DONTWAIT;
            let received = socket
                .async_io(Interest::READABLE, || {
                    Ok(recv(socket.as_raw_fd(), &mut buffer, flags)?)
                })
                .await;
            match received {
                Ok(0) | Err(_) => break,
                Ok(size) => match buffer.get_mut(..size) {
                    Some(packet) => {
                        self.packet(packet);
                        packet.zeroize();
                    }
                    None => {
                        self.counts.oversized.add();
                        buffer.zeroize();
                        buffer.resize(HEADER + MAX_LINK_MESSAGE, 0);
                    }
                },
            }
        }
        // Whoever waits for an answer learns that none will come.
        lock(&self.answers).take();
    }

    fn packet(&self, packet: &[u8]) {
        let header = match frame::decode(packet) {
            Ok((header, _)) => header,
            Err(error) => return self.counts.bad_frame(error),
        };
        let frame = Zeroizing::new(packet.to_vec());
        match header.kind {
            Kind::Request => self.request(header, frame),
            Kind::Reply | Kind::Refusal => {
                let caller = lock(&self.answers)
                    .as_mut()
                    .and_then(|answers| answers.remove(&header.correlation));
                match caller {
                    Some(caller) => drop(caller.send(frame)),
                    None => self.counts.late_replies.add(),
                }
            }
            Kind::Event | Kind::Beacon => self.counts.malformed.add(),
        }
    }

    fn request(&self, header: Header, frame: Frame) {
        let answer = Answer {
            me: self.me,
            message: header.message,
            correlation: header.correlation,
            back: Some(self.back.clone()),
            counts: self.counts.clone(),
        };
        match self.requests.try_send(LinkIncoming {
            from: self.peer,
            frame,
            answer,
        }) {
            Ok(()) => self.counts.served.add(),
            Err(mpsc::error::TrySendError::Full(incoming)) => {
                self.counts.overloaded.add();
                incoming.refuse(RefusalCode::Busy, "too many requests are waiting");
            }
            // Nobody serves: the request is refused as dropped.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }
}

async fn write(socket: Arc<UnixDatagram>, mut queue: mpsc::Receiver<Frame>) {
    let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
    while let Some(frame) = queue.recv().await {
        let sent = socket
            .async_io(Interest::WRITABLE, || {
                match send(socket.as_raw_fd(), &frame, flags) {
                    // Out of buffers is not "not writable": epoll would not wake us for it.
                    Err(Errno::ENOBUFS) => Ok(0),
                    sent => Ok(sent?),
                }
            })
            .await;
        if sent.is_err() {
            return;
        }
    }
}

//! The server side: what comes in, and the answers to it.

use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use prost::bytes::Bytes;
use tokio::sync::mpsc;

use crate::error::RefusalCode;
use crate::facility::Address;
use crate::frame::{self, FrameError, Header, Kind};
use crate::handle::Tasks;
use crate::message::{Message, Request};
use crate::messages::common::{Ping, Pong, Replay};
use crate::publisher::Publisher;
use crate::statistics::Counts;
use crate::transport::{Arrived, Route};

/// Requests that may wait for the server; further ones are refused as [`RefusalCode::Busy`].
pub(crate) const QUEUE: usize = 4_096;

/// The requests to this address. [`Ping`] and [`Replay`] are answered by the bus itself and never seen here.
pub struct Server {
    pub(crate) requests: mpsc::Receiver<Incoming>,
    pub(crate) _tasks: Arc<Tasks>,
}

impl Server {
    /// The next request. `None` when the bus is closed. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<Incoming> {
        self.requests.recv().await
    }

    /// The next request, if it is here already.
    pub fn try_next(&mut self) -> Option<Incoming> {
        self.requests.try_recv().ok()
    }
}

/// A request that has come in. Dropping it refuses it.
pub struct Incoming {
    header: Header,
    frame: Bytes,
    answer: Answer,
}

impl Incoming {
    /// The type of the request, to be compared with [`Message::TYPE`].
    pub fn message(&self) -> u16 {
        self.header.message
    }

    /// Who asks.
    pub fn from(&self) -> Address {
        self.header.sender
    }

    /// The request and the way to answer it. `None` when it is not a `R` or cannot be decoded: then it has been refused.
    pub fn take<R: Request>(self) -> Option<(R, Responder<R>)> {
        if self.header.message != R::TYPE {
            self.answer
                .refuse(RefusalCode::Unsupported, "asked for another type of request");
            return None;
        }
        let payload = self.frame.get(frame::HEADER..).unwrap_or_default();
        match R::decode(payload) {
            Ok(request) => Some((
                request,
                Responder {
                    answer: self.answer,
                    request: PhantomData,
                },
            )),
            Err(error) => {
                self.answer.counts.malformed.add();
                self.answer.refuse(RefusalCode::Malformed, &error.to_string());
                None
            }
        }
    }

    /// Refuses the request.
    pub fn refuse(self, code: RefusalCode, text: &str) {
        self.answer.refuse(code, text);
    }
}

/// The way to answer one request. Dropping it without an answer refuses as [`RefusalCode::Dropped`].
pub struct Responder<R: Request> {
    answer: Answer,
    request: PhantomData<fn(R)>,
}

impl<R: Request> Responder<R> {
    /// Answers.
    pub fn reply(self, reply: R::Reply) {
        self.answer.reply(&reply);
    }

    /// Refuses.
    pub fn refuse(self, code: RefusalCode, text: &str) {
        self.answer.refuse(code, text);
    }
}

/// Answers an [`Incoming`] or a [`crate::link::LinkIncoming`] by its type: `dispatch!(incoming, { GetConfig => |query, responder| ..., })`. A type that is not listed is
/// refused as [`RefusalCode::Unsupported`]. Each arm is an expression of type `()`.
#[macro_export]
macro_rules! dispatch {
    ($incoming:expr, { $($request:ty => |$query:pat_param, $responder:pat_param| $body:expr),* $(,)? }) => {{
        let incoming = $incoming;
        let message = incoming.message();
        $(if message == <$request as $crate::Message>::TYPE {
            if let Some(($query, $responder)) = incoming.take::<$request>() {
                $body
            }
        } else)* {
            incoming.refuse($crate::RefusalCode::Unsupported, "this task does not serve such requests");
        }
    }};
}

/// Exactly one answer to one request.
struct Answer {
    me: Address,
    message: u16,
    correlation: u64,
    back: Option<Route>,
    counts: Arc<Counts>,
    leaving: Arc<AtomicBool>,
}

impl Answer {
    fn reply(mut self, reply: &impl prost::Message) {
        let header = self.header(Kind::Reply);
        match frame::encode(header, reply) {
            Ok(frame) => self.send(frame),
            Err(size) => {
                let text = format!("the reply of {size} octets is larger than {}", frame::MAX_MESSAGE);
                self.refuse(RefusalCode::Failed, &text);
            }
        }
    }

    fn refuse(mut self, code: RefusalCode, text: &str) {
        self.send(frame::refusal(
            self.me,
            self.message,
            self.correlation,
            code,
            text,
        ));
    }

    fn header(&self, kind: Kind) -> Header {
        Header {
            kind,
            message: self.message,
            sender: self.me,
            correlation: self.correlation,
        }
    }

    fn send(&mut self, frame: Bytes) {
        if let Some(back) = self.back.take()
            && !back.send(frame)
        {
            self.counts.dropped_replies.add();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        // Whoever serves next may be asked again, when the connection has gone.
        if self.back.is_some() && !self.leaving.load(Ordering::Relaxed) {
            let text = "the request was dropped without an answer";
            self.send(frame::refusal(
                self.me,
                self.message,
                self.correlation,
                RefusalCode::Dropped,
                text,
            ));
        }
    }
}

/// The version of the configuration that this task has applied.
pub(crate) struct Applied(AtomicU64);

impl Applied {
    const FOLLOWS_NONE: u64 = u64::MAX;

    pub(crate) fn note(&self, version: u64) {
        self.0.store(version, Ordering::Relaxed);
    }

    fn version(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|version| *version != Self::FOLLOWS_NONE)
    }
}

impl Default for Applied {
    fn default() -> Self {
        Self(AtomicU64::new(Self::FOLLOWS_NONE))
    }
}

/// What the bus answers with by itself.
pub(crate) struct Itself {
    pub(crate) me: Address,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) applied: Arc<Applied>,
    pub(crate) counts: Arc<Counts>,
    /// See [`Leaving`](crate::Leaving).
    pub(crate) leaving: Arc<AtomicBool>,
}

/// Checks what arrives and queues the requests.
pub(crate) async fn receive(
    itself: Itself,
    mut arrived: mpsc::Receiver<Arrived>,
    requests: mpsc::Sender<Incoming>,
) {
    let Itself {
        me,
        publisher,
        applied,
        counts,
        leaving,
    } = itself;
    while let Some(Arrived { frame, back }) = arrived.recv().await {
        let header = match frame::decode(&frame) {
            Ok((header, _)) => header,
            Err(error) => {
                counts.bad_frame(error);
                tracing::debug!("dropped a frame: {error}");
                if let FrameError::Version {
                    correlation, message, ..
                } = error
                {
                    let text = error.to_string();
                    back.send(frame::refusal(
                        me,
                        message,
                        correlation,
                        RefusalCode::Version,
                        &text,
                    ));
                }
                continue;
            }
        };
        if header.kind != Kind::Request {
            counts.malformed.add();
            continue;
        }
        let answer = Answer {
            me,
            message: header.message,
            correlation: header.correlation,
            back: Some(back),
            counts: counts.clone(),
            leaving: leaving.clone(),
        };
        if header.message == Ping::TYPE {
            answer.reply(&Pong {
                pid: std::process::id(),
                applied: applied.version(),
            });
            continue;
        }
        let incoming = Incoming {
            header,
            frame,
            answer,
        };
        if header.message == Replay::TYPE {
            if let Some((replay, responder)) = incoming.take::<Replay>() {
                responder.reply(publisher.replay(&replay));
            }
            continue;
        }
        match requests.try_send(incoming) {
            Ok(()) => counts.served.add(),
            Err(mpsc::error::TrySendError::Full(incoming)) => {
                counts.overloaded.add();
                incoming.refuse(RefusalCode::Busy, "too many requests are waiting");
            }
            // The server is gone, the bus still answers pings: the request is refused as dropped, unless somebody follows.
            Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }
}

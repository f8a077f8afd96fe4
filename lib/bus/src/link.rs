//! Links: private socket pairs between two processes, for what must not cross the bus.
//!
//! `sit` makes a pair (SOCK_SEQPACKET) for every two live tasks whose facilities stand in [`LINKS`] and hands each its end; when either
//! restarts, both get a new pair. A task keeps all its ends in one [`Links`]: it asks by address ([`Links::request`]) and serves what
//! the others ask ([`LinkServer::next`]). Frames are those of the bus. Every buffer that held a message is overwritten when it is
//! dropped; what the caller decoded is the caller's to wipe.

mod wire;

use std::collections::HashMap;
use std::io;
use std::marker::PhantomData;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};
use zeroize::Zeroizing;

use crate::error::{BusError, RefusalCode};
use crate::facility::{Address, Facility};
use crate::frame::{self, Header, Kind, Refusal};
use crate::message::LinkMessage;
use crate::peer::lock;
use crate::statistics::{Counts, Statistics};
use wire::Wire;

/// The facilities between which there are links; of facilities with several instances, every instance has one.
///
/// | link | what travels |
/// |---|---|
/// | `sct`-`ipsecmgr` | pre-shared keys |
/// | `sct`-`aaamgr` | RADIUS secrets |
/// | `sct`-`certmgr` | pass phrases of private keys |
/// | `sct`-`snmp` | communities |
/// | `aaamgr`-`ipsecmgr` | EAP with the MSK |
pub const LINKS: &[(Facility, Facility)] = &[
    (Facility::Sct, Facility::Ipsecmgr),
    (Facility::Sct, Facility::Aaamgr),
    (Facility::Sct, Facility::Certmgr),
    (Facility::Sct, Facility::Snmp),
    (Facility::Aaamgr, Facility::Ipsecmgr),
];

/// Largest message (without the header) that travels on a link, in octets.
pub const MAX_LINK_MESSAGE: usize = 64 * 1024;

/// Requests that may wait for the server; further ones are refused as [`RefusalCode::Busy`].
const QUEUE: usize = 4_096;

/// Is there a link between tasks of these facilities?
pub fn linked(a: Facility, b: Facility) -> bool {
    LINKS.contains(&(a, b)) || LINKS.contains(&(b, a))
}

/// A new pair of ends.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// The links of one task. Clones are the same links.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

struct Inner {
    me: Address,
    wires: Mutex<HashMap<Address, Arc<Wire>>>,
    /// Grows whenever a link is installed.
    installed: watch::Sender<u64>,
    requests: mpsc::Sender<LinkIncoming>,
    correlation: AtomicU64,
    counts: Arc<Counts>,
}

impl Links {
    /// The links of the task `me`, none yet, and what comes in over them.
    pub fn new(me: Address) -> (Self, LinkServer) {
        let (requests, incoming) = mpsc::channel(QUEUE);
        let links = Self(Arc::new(Inner {
            me,
            wires: Mutex::default(),
            installed: watch::Sender::new(0),
            requests,
            correlation: AtomicU64::new(1),
            counts: Arc::default(),
        }));
        (links, LinkServer { requests: incoming })
    }

    /// Takes `socket`, an end of a pair whose other end `peer` has, as the link to `peer`. An older link to `peer` is closed. Must be
    /// called within a tokio runtime.
    pub fn install(&self, peer: Address, socket: OwnedFd) -> io::Result<()> {
        let wire = Wire::new(
            self.0.me,
            peer,
            socket,
            self.0.requests.clone(),
            self.0.counts.clone(),
        )?;
        lock(&self.0.wires).insert(peer, Arc::new(wire));
        self.0.installed.send_modify(|generation| *generation += 1);
        Ok(())
    }

    /// Asks `to` and waits for its reply, for at most `deadline` in all; also for a link to `to` if there is none now.
    pub async fn request<M: LinkMessage>(
        &self,
        to: Address,
        message: &M,
        deadline: Duration,
    ) -> Result<M::Reply, BusError> {
        let counts = &self.0.counts;
        counts.requests.add();
        let size = message.encoded_len();
        if size > MAX_LINK_MESSAGE {
            return Err(BusError::TooLarge {
                message: M::NAME,
                size,
                limit: MAX_LINK_MESSAGE,
            });
        }
        let until = Instant::now() + deadline;
        let unreachable = |sent: bool, cause: &str| {
            counts.unreachable.add();
            Err(BusError::Unreachable {
                to,
                request: M::NAME,
                sent,
                cause: cause.to_owned(),
            })
        };
        let Ok(wire) = timeout_at(until, self.wire(to)).await else {
            return unreachable(false, "there is no link to it");
        };
        let correlation = self.0.correlation.fetch_add(1, Ordering::Relaxed);
        let header = Header {
            kind: Kind::Request,
            message: M::TYPE,
            sender: self.0.me,
            correlation,
        };
        match timeout_at(until, wire.exchange(correlation, wire::encode(header, message))).await {
            Ok(Some(answer)) => self.read::<M>(to, &answer),
            Ok(None) => unreachable(true, "the link broke"),
            Err(_) => {
                counts.timeouts.add();
                Err(BusError::Timeout {
                    to,
                    request: M::NAME,
                    after: deadline,
                })
            }
        }
    }

    /// What was counted on all links together.
    pub fn statistics(&self) -> Statistics {
        self.0.counts.read()
    }

    /// The live link to `to`, as soon as there is one.
    async fn wire(&self, to: Address) -> Arc<Wire> {
        let mut installed = self.0.installed.subscribe();
        loop {
            let wire = lock(&self.0.wires)
                .get(&to)
                .filter(|wire| wire.is_open())
                .cloned();
            match wire {
                Some(wire) => return wire,
                // The sender lives as long as `self`, so this waits and does not fail.
                None => drop(installed.changed().await),
            }
        }
    }

    fn read<M: LinkMessage>(&self, to: Address, answer: &[u8]) -> Result<M::Reply, BusError> {
        let malformed = |cause: String| BusError::Malformed {
            from: to,
            request: M::NAME,
            cause,
        };
        let (header, payload) = frame::decode(answer).map_err(|error| malformed(error.to_string()))?;
        if header.kind == Kind::Refusal {
            self.0.counts.refused.add();
            let refusal =
                <Refusal as prost::Message>::decode(payload).map_err(|error| malformed(error.to_string()))?;
            let code = RefusalCode::from_number(refusal.code);
            return Err(BusError::Refused {
                to,
                request: M::NAME,
                code,
                text: refusal.text,
            });
        }
        if header.message != M::TYPE {
            return Err(malformed(format!(
                "it answers message type {:#06x}",
                header.message
            )));
        }
        let reply =
            <M::Reply as prost::Message>::decode(payload).map_err(|error| malformed(error.to_string()))?;
        self.0.counts.replies.add();
        Ok(reply)
    }
}

/// The requests that come in over the links of a task.
pub struct LinkServer {
    requests: mpsc::Receiver<LinkIncoming>,
}

impl LinkServer {
    /// The next request of any link. `None` when all [`Links`] are dropped. Cancelling it loses nothing.
    pub async fn next(&mut self) -> Option<LinkIncoming> {
        self.requests.recv().await
    }
}

/// A request that has come in over a link. Dropping it refuses it. [`crate::dispatch`] answers these too.
pub struct LinkIncoming {
    from: Address,
    frame: Zeroizing<Vec<u8>>,
    answer: Answer,
}

impl LinkIncoming {
    /// The type of the request, to be compared with [`crate::Message::TYPE`].
    pub fn message(&self) -> u16 {
        self.answer.message
    }

    /// Who asks: the task that `sit` put at the other end, whatever the frame says.
    pub fn from(&self) -> Address {
        self.from
    }

    /// The request and the way to answer it. `None` when it is not a `M` or cannot be decoded: then it has been refused.
    pub fn take<M: LinkMessage>(self) -> Option<(M, LinkResponder<M>)> {
        if self.answer.message != M::TYPE {
            self.answer
                .refuse(RefusalCode::Unsupported, "asked for another type of request");
            return None;
        }
        match M::decode(self.frame.get(frame::HEADER..).unwrap_or_default()) {
            Ok(message) => Some((
                message,
                LinkResponder {
                    answer: self.answer,
                    message: PhantomData,
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

/// The way to answer one request of a link. Dropping it without an answer refuses as [`RefusalCode::Dropped`].
pub struct LinkResponder<M: LinkMessage> {
    answer: Answer,
    message: PhantomData<fn(M)>,
}

impl<M: LinkMessage> LinkResponder<M> {
    /// Answers.
    pub fn reply(self, reply: M::Reply) {
        self.answer.reply(&reply);
    }

    /// Answers with something that stays the caller's, to be wiped.
    pub fn reply_with(self, reply: &M::Reply) {
        self.answer.reply(reply);
    }

    /// Refuses.
    pub fn refuse(self, code: RefusalCode, text: &str) {
        self.answer.refuse(code, text);
    }
}

/// Exactly one answer to one request of a link.
struct Answer {
    me: Address,
    message: u16,
    correlation: u64,
    back: Option<mpsc::Sender<Zeroizing<Vec<u8>>>>,
    counts: Arc<Counts>,
}

impl Answer {
    fn reply(mut self, reply: &impl prost::Message) {
        if reply.encoded_len() > MAX_LINK_MESSAGE {
            return self.refuse(RefusalCode::Failed, "the reply is larger than a link carries");
        }
        let frame = wire::encode(self.header(Kind::Reply), reply);
        self.send(frame);
    }

    fn refuse(mut self, code: RefusalCode, text: &str) {
        self.send_refusal(code, text);
    }

    fn send_refusal(&mut self, code: RefusalCode, text: &str) {
        let refusal = Refusal {
            code: code as u32,
            text: text.to_owned(),
        };
        let frame = wire::encode(self.header(Kind::Refusal), &refusal);
        self.send(frame);
    }

    fn header(&self, kind: Kind) -> Header {
        Header {
            kind,
            message: self.message,
            sender: self.me,
            correlation: self.correlation,
        }
    }

    fn send(&mut self, frame: Zeroizing<Vec<u8>>) {
        if let Some(back) = self.back.take()
            && back.try_send(frame).is_err()
        {
            self.counts.dropped_replies.add();
        }
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.back.is_some() {
            self.send_refusal(RefusalCode::Dropped, "the request was dropped without an answer");
        }
    }
}

type Answers = HashMap<u64, oneshot::Sender<Zeroizing<Vec<u8>>>>;

//! A netlink socket that is asked and answered at once: batches of changes in one system call, dumps of tables.
//!
//! The kernel tells of every change that it refuses, and of the last one of a batch in any case; the others were carried out. It answers while
//! it carries out the request, so nothing here ever waits for anything but the kernel itself.

use std::io;

use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::error::Error;

/// How a change treats what exists already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Adds; what exists already is an error (`EEXIST`).
    Add,
    /// Changes or removes something that exists.
    Existing,
}

/// The socket.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl Netlink {
    /// Opens a socket in the network namespace of the caller.
    pub fn open() -> Result<Self, Error> {
        let failed = |action| move |source| Error::Netlink { action, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("open a socket"))?;
        socket.bind_auto().map_err(failed("bind the socket"))?;
        socket
            .connect(&SocketAddr::new(0, 0))
            .map_err(failed("connect the socket"))?;
        // Refused changes come back without their text, so that the answers to a whole batch fit into the socket.
        socket
            .set_cap_ack(true)
            .map_err(failed("shorten acknowledgements"))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Carries out changes in order. One result each.
    pub fn change(
        &mut self,
        changes: impl IntoIterator<Item = (RouteNetlinkMessage, Mode)>,
    ) -> Result<Vec<io::Result<()>>, Error> {
        let mut results = Vec::new();
        let mut changes = changes.into_iter().peekable();
        while changes.peek().is_some() {
            let first = self.sequence.wrapping_add(1);
            let mut batch = Vec::new();
            for number in 1..=BATCH {
                let Some((message, mode)) = changes.next() else {
                    break;
                };
                let flags = match mode {
                    Mode::Add => NLM_F_CREATE | NLM_F_EXCL,
                    Mode::Existing => 0,
                };
                let last = number == BATCH || changes.peek().is_none();
                self.append(&mut batch, message, if last { flags | NLM_F_ACK } else { flags });
            }
            self.send(&batch)?;
            self.outcomes(first, &mut results)?;
        }
        Ok(results)
    }

    /// Everything a table has, as its own kind of message.
    pub fn dump(&mut self, question: RouteNetlinkMessage) -> Result<Vec<RouteNetlinkMessage>, Error> {
        let mut request = Vec::new();
        self.append(&mut request, question, NLM_F_DUMP);
        self.send(&request)?;
        let mut found = Vec::new();
        loop {
            for message in self.receive()? {
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Done(_) => return Ok(found),
                    NetlinkPayload::Error(error) => {
                        return Err(Error::Netlink {
                            action: "read a table",
                            source: error.to_io(),
                        });
                    }
                    _ => {}
                }
            }
        }
    }

    fn append(&mut self, batch: &mut Vec<u8>, message: RouteNetlinkMessage, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let start = batch.len();
        batch.resize((start + message.buffer_len()).next_multiple_of(ALIGNMENT), 0);
        if let Some(room) = batch.get_mut(start..) {
            message.serialize(room);
        }
    }

    fn send(&self, octets: &[u8]) -> Result<(), Error> {
        let sent = self.socket.send(octets, 0).map_err(|source| Error::Netlink {
            action: "send",
            source,
        })?;
        match sent == octets.len() {
            true => Ok(()),
            false => Err(Error::Malformed(format!(
                "back {sent} of {} octets",
                octets.len()
            ))),
        }
    }

    /// What became of the changes from number `first` on, up to the last one sent.
    fn outcomes(&self, first: u32, results: &mut Vec<io::Result<()>>) -> Result<(), Error> {
        let last = self.sequence.wrapping_sub(first) as usize;
        let begin = results.len();
        results.extend((0..=last).map(|_| Ok(())));
        loop {
            for message in self.receive()? {
                let place = message.header.sequence_number.wrapping_sub(first) as usize;
                let NetlinkPayload::Error(error) = message.payload else {
                    continue;
                };
                if error.code.is_some()
                    && let Some(result) = results.get_mut(begin + place.min(last + 1))
                {
                    *result = Err(error.to_io());
                }
                if place == last {
                    return Ok(());
                }
            }
        }
    }

    fn receive(&self) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, Error> {
        let mut buffer = Vec::with_capacity(RECEIVE);
        let failed = |source| Error::Netlink {
            action: "receive",
            source,
        };
        self.socket.recv(&mut buffer, 0).map_err(failed)?;
        let mut messages = Vec::new();
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let length = NetlinkBuffer::new_checked(rest)
                .map_err(|error| Error::Malformed(error.to_string()))?
                .length() as usize;
            let message =
                NetlinkMessage::deserialize(rest).map_err(|error| Error::Malformed(error.to_string()))?;
            messages.push(message);
            rest = rest
                .get(length.max(1).next_multiple_of(ALIGNMENT)..)
                .unwrap_or_default();
        }
        Ok(messages)
    }
}

/// Changes in one system call: what the kernel says of them must fit into the socket's receive buffer, also when it refuses all.
const BATCH: usize = 100;
/// Netlink messages begin at multiples of this.
const ALIGNMENT: usize = 4;
/// Octets read at a time; the kernel sends at most 32 KiB at once.
const RECEIVE: usize = 64 * 1024;

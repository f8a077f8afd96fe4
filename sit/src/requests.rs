//! Requests of children over their control sockets.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::sit::{Close, Closed, OpenFile, Opened, Ready};
use bus::{Address, Message};
use task::{Channel, Packet};
use tokio::time::Instant;

use crate::descriptors::{Given, Refusal};
use crate::manager::{Manager, SIT};
use crate::state::Phase;

/// A request that waits for something to become known is answered after this time at the latest; the child gives up after 15 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// A request that waits for something to become known.
pub(crate) struct Deferred {
    pub address: Address,
    pub life: u32,
    pub packet: Packet,
    pub until: Instant,
}

impl Manager {
    pub(crate) fn said(&mut self, address: Address, life: u32, packet: Packet) {
        if !self
            .tasks
            .get(&address)
            .is_some_and(|entry| entry.is_living(life))
        {
            return;
        }
        if packet.header.kind != Kind::Request {
            return tracing::warn!("{address} sent a control message that is no request");
        }
        match packet.header.message {
            Ready::TYPE => {
                self.answer(address, packet.header, &Closed {}, &[]);
                let ready = packet.decode::<Ready>().unwrap_or_default();
                self.note_unprotected(ready.unprotected);
                if let Some(entry) = self.tasks.get_mut(&address) {
                    if entry.phase == Phase::Starting {
                        entry.phase = Phase::Ready;
                    }
                    if let Some(life) = &mut entry.life {
                        life.confined = ready.confined;
                    }
                }
                self.publish_start(address);
                self.check_ready();
                self.rolled(address);
            }
            Close::TYPE => {
                if let Ok(close) = packet.decode::<Close>() {
                    self.descriptors.close(address, &close);
                }
                self.answer(address, packet.header, &Closed {}, &[]);
            }
            _ => {
                let until = Instant::now() + PATIENCE;
                self.open(Deferred {
                    address,
                    life,
                    packet,
                    until,
                });
            }
        }
    }

    /// Fulfils an opening request, or puts it aside.
    fn open(&mut self, request: Deferred) {
        if request.packet.header.message == OpenFile::TYPE {
            return self.open_file(request);
        }
        let Deferred {
            address,
            packet,
            until,
            ..
        } = &request;
        let given = match self.descriptors.open(&self.contexts, *address, packet) {
            Ok(given) => given,
            Err(Refusal::NotYet(_)) if *until > Instant::now() => return self.deferred.push(request),
            Err(Refusal::NotYet(failure) | Refusal::Failed(failure)) => {
                // Whoever asked knows what it is for, says so, and may ask again and again.
                tracing::debug!("cannot open something for {address}: {failure}");
                Given {
                    opened: Opened {
                        failure,
                        ..Opened::default()
                    },
                    fds: Vec::new(),
                }
            }
        };
        let fds: Vec<_> = given.fds.iter().map(AsFd::as_fd).collect();
        self.answer(*address, packet.header, &given.opened, &fds);
    }

    pub(crate) fn retry_deferred(&mut self) {
        for request in std::mem::take(&mut self.deferred) {
            if self
                .tasks
                .get(&request.address)
                .is_some_and(|entry| entry.is_living(request.life))
            {
                self.open(request);
            }
        }
    }

    fn answer(&self, address: Address, asked: Header, message: &impl prost::Message, fds: &[BorrowedFd<'_>]) {
        let Some(life) = self.tasks.get(&address).and_then(|entry| entry.life.as_ref()) else {
            return;
        };
        answer_on(&life.channel, address, asked, message, fds);
    }
}

/// Answers a request of `address`. A child that does not read its socket gets no answer; it would time out and ask again.
pub(crate) fn answer_on(
    channel: &Channel,
    address: Address,
    asked: Header,
    message: &impl prost::Message,
    fds: &[BorrowedFd<'_>],
) {
    let header = Header {
        kind: Kind::Reply,
        sender: SIT,
        ..asked
    };
    if let Err(error) = channel.try_send(header, message, fds) {
        tracing::warn!("cannot answer {address}: {error}");
    }
}

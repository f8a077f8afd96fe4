//! Requests of children over their control sockets.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use bus::frame::{Header, Kind};
use bus::messages::sit::{
    Close, Closed, EndLife, GetKeptSlotMap, KeptSlotMap, OpenFile, Opened, Ready, SetSlotMap,
};
use bus::{Address, Facility, Message};
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
            SetSlotMap::TYPE | GetKeptSlotMap::TYPE => {
                let kept = self.keep_slot_map(address, &packet);
                self.answer(address, packet.header, &kept, &[]);
            }
            EndLife::TYPE => {
                if let Ok(end) = packet.decode::<EndLife>() {
                    self.end_life(address, &end);
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

    /// Takes over a slot map of `rmctrl`'s, if there is one in the request, and says which is kept.
    fn keep_slot_map(&mut self, address: Address, packet: &Packet) -> KeptSlotMap {
        let map = packet.decode::<SetSlotMap>().ok().and_then(|set| set.map);
        let outcome = match map.filter(|_| packet.header.message == SetSlotMap::TYPE) {
            None => Ok(()),
            Some(_) if address.facility != Facility::Rmctrl => Err(format!("{address} has no slots to deal")),
            Some(map) => self.descriptors.set_slot_map(&map),
        };
        if let Err(error) = &outcome {
            tracing::error!("slot map: {error}");
        }
        self.retry_deferred();
        self.check_ready();
        KeptSlotMap {
            map: self.descriptors.slot_map().cloned(),
            failure: outcome.err().unwrap_or_default(),
        }
    }

    /// Kills a life of a task that `rmctrl` waits for in vain.
    fn end_life(&mut self, who: Address, end: &EndLife) {
        let facility = u8::try_from(end.facility).ok().and_then(Facility::from_number);
        let has_slots = |facility: &Facility| matches!(facility, Facility::Ipsecmgr | Facility::Iftask);
        match facility.filter(has_slots) {
            Some(facility) if who.facility == Facility::Rmctrl => {
                let address = Address::new(facility, end.instance);
                self.kill(address, end.lives, "it did not let go of its slots in time");
            }
            _ => tracing::warn!("{who} may not end that: {end:?}"),
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

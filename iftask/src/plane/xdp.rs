//! AF_XDP: packets straight from a device's queues, and straight to it.
//!
//! What comes runs through the engine where it lies. ESP, as if the socket of its address had been read; what leaves goes to the station that authentic packets
//! of the same peer came from by the same device: the neighbour that the kernel would ask ARP or its routes for. Clear packets, as if the TUN had been read; what
//! comes out of tunnels goes to the station that the kernel named when the last packet of that host came. While none is known, and for whatever does not fit,
//! sockets and the TUN are used as ever.

mod clear;
pub(super) mod frame;
mod neighbours;
mod send;

use std::net::{IpAddr, SocketAddr};

use netio::{Received, XdpQueue, XdpReceiver, XdpSender};

use super::engine::{BATCH, Engine};
use super::io::KernelIo;
use super::{Round, XDP_TOKEN, put};
use crate::counters::{Count, Tally};
use crate::error::Error;
use clear::Came;
use frame::{Outside, Way};
use send::Device;
pub(crate) use send::XdpWays;

/// A device that is gone, which its context may have again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostDevice {
    pub(crate) context: u32,
    pub(crate) device: String,
}

/// A queue that is read.
pub(super) struct Queue {
    /// Place of its device.
    device: usize,
    receiver: XdpReceiver,
}

/// A packet of a frame.
struct Arrived<'p> {
    /// Place of the socket that would have it.
    socket: usize,
    /// Taken when the engine has it.
    received: Option<Received<'p>>,
    peer: IpAddr,
    way: Way,
    /// The way is to be learned if the packet turns out to be authentic.
    is_news: bool,
}

impl Round {
    /// Takes over the queues of a device in a context, in place of those it had. They are asked for again if that fails: what comes by them would be lost.
    pub(super) fn open_xdp(&mut self, context: u32, name: &str, queues: &[XdpQueue]) -> Result<(), Error> {
        self.close_xdp(context, name)?;
        let opened = self.open_queues(context, name, queues);
        if opened.is_err() {
            self.close_xdp(context, name)?;
            self.lose_xdp(LostDevice {
                context,
                device: name.to_owned(),
            });
        }
        opened
    }

    fn open_queues(&mut self, context: u32, name: &str, queues: &[XdpQueue]) -> Result<(), Error> {
        // One is enough to send by.
        let Some(first) = queues.first() else {
            return Ok(());
        };
        let device = Device::new(context, name, XdpSender::map(first)?);
        let device = self.engine.io.xdp.add(device);
        for queue in queues {
            let receiver = XdpReceiver::map(queue)?;
            let free = self.xdp.iter().position(Option::is_none);
            let place = free.unwrap_or(self.xdp.len());
            self.poller.add(&receiver, XDP_TOKEN | place as u64)?;
            put(&mut self.xdp, place, Queue { device, receiver });
        }
        self.engine.io.look_at_mtus();
        Ok(())
    }

    /// Leaves the queues of a device.
    pub(super) fn close_xdp(&mut self, context: u32, name: &str) -> Result<(), Error> {
        let Some(device) = self.engine.io.xdp.remove(context, name) else {
            return Ok(());
        };
        for place in &mut self.xdp {
            if let Some(queue) = place.take_if(|queue| queue.device == device) {
                self.poller.remove(&queue.receiver)?;
            }
        }
        Ok(())
    }

    /// Takes what waits in a queue.
    pub(super) fn read_xdp(&mut self, place: usize) {
        let Some(Some(queue)) = self.xdp.get_mut(place) else {
            return;
        };
        queue.receiver.receive();
        take_in(&mut self.engine, queue.device, queue.receiver.packets_mut());
        queue.receiver.give_back();
    }

    /// What is to be done now and then: counts what the kernel lost, has it send what it could not before, and looks whether devices are still there.
    pub(super) fn look_after_xdp(&mut self) {
        self.engine.io.look_at_mtus();
        self.engine.io.xdp.look_after(self.engine.now_ns);
        let tally = &mut self.engine.tally;
        let (sent, forwarded) = self.engine.io.xdp.take_sent();
        tally.add(Count::XdpSent, sent, 0);
        tally.add(Count::ClearXdpSent, forwarded, 0);
        let mut gone = Vec::new();
        for queue in self.xdp.iter().flatten() {
            count_losses(&queue.receiver, tally);
            if queue.receiver.is_gone() && !gone.contains(&queue.device) {
                gone.push(queue.device);
            }
        }
        for device in gone {
            let Some(lost) = self.engine.io.xdp.lost(device) else {
                continue;
            };
            tracing::warn!("device {} went away with its AF_XDP sockets", lost.device);
            if let Err(error) = self.close_xdp(lost.context, &lost.device) {
                tracing::error!("{error}");
            }
            self.lose_xdp(lost);
        }
    }

    fn lose_xdp(&self, lost: LostDevice) {
        // Fails only when nobody asks for queues any more.
        let _ = self.lost.send(super::Lost::Xdp(lost));
    }
}

/// Has the engine work on the frames that came by a device.
fn take_in<'p>(engine: &mut Engine<KernelIo>, device: usize, mut frames: impl Iterator<Item = &'p mut [u8]>) {
    let Some(context) = engine.io.xdp.context_of(device) else {
        return;
    };
    loop {
        let mut batch = [const { None }; BATCH];
        let mut reads = [const { None }; BATCH];
        let (mut seen, mut good) = (0, 0);
        // The places first: a frame that is asked for without one would be lost.
        for (read, frame) in reads.iter_mut().zip(frames.by_ref()) {
            seen += 1;
            let length = frame.len();
            if clear::is_clear(frame) {
                *read = take_clear(engine, device, frame);
                continue;
            }
            engine.tally.one(Count::XdpReceived, 0);
            match engine.io.xdp.arrive(device, frame, engine.now_ns) {
                Some(arrived) => {
                    if let Some(place) = batch.get_mut(good) {
                        *place = Some(arrived);
                    }
                    good += 1;
                }
                None => engine.tally.one(Count::BadOuter, length),
            }
        }
        let mut rest = batch.get_mut(..good).unwrap_or(&mut []);
        while let Some(Some(first)) = rest.first() {
            let (socket, peer, way, is_news) = (first.socket, first.peer, first.way, first.is_news);
            let joins = |arrived: &&Option<Arrived<'_>>| {
                let arrived = arrived.as_ref();
                arrived.is_some_and(|arrived| !arrived.is_news && arrived.socket == socket)
            };
            // What there is to learn from goes by itself, so that what the engine counts tells whether it was authentic.
            let count = if is_news {
                1
            } else {
                rest.iter().take_while(joins).count()
            };
            let Some((run, later)) = rest.split_at_mut_checked(count) else {
                break;
            };
            rest = later;
            let before = engine.tally.pending(Count::EspReceived);
            let packets = run.iter_mut().flatten();
            engine.inbound(socket, packets.filter_map(|arrived| arrived.received.take()));
            if is_news && engine.tally.pending(Count::EspReceived) > before {
                engine.io.xdp.learn(device, peer, way, engine.now_ns);
            }
        }
        if reads.iter().any(Option::is_some) {
            engine.outbound(context, reads.iter_mut().filter_map(Option::take));
            engine.flush();
        }
        if seen < BATCH {
            break;
        }
    }
}

/// A clear packet that came by a device, as a TUN would have given it; learns how its sender is reached.
fn take_clear<'p>(engine: &mut Engine<KernelIo>, device: usize, frame: &'p mut [u8]) -> Option<&'p mut [u8]> {
    let length = frame.len();
    engine.tally.one(Count::ClearXdpReceived, 0);
    match clear::take(frame) {
        Some(Came { source, way, read }) => {
            engine.io.xdp.learn_host(device, source, way, engine.now_ns);
            Some(read)
        }
        None => {
            engine.tally.one(Count::BadClear, length);
            None
        }
    }
}

fn count_losses(receiver: &XdpReceiver, tally: &mut Tally) {
    match receiver.losses() {
        Ok(losses) => {
            tally.add(Count::XdpNoFrame, losses.no_frame, 0);
            tally.add(Count::XdpRingFull, losses.ring_full, 0);
            tally.add(Count::XdpOther, losses.other, 0);
        }
        Err(error) => tracing::debug!("cannot ask what AF_XDP lost: {error}"),
    }
}

impl XdpWays {
    /// The packet of a frame that came by a device; `None` when its headers are broken, or no socket of ours is for it.
    fn arrive<'p>(&self, device: usize, frame: &'p mut [u8], now_ns: u64) -> Option<Arrived<'p>> {
        let outside = Outside::parse(frame)?;
        let device = self.device(device)?;
        let socket = self.socket(device.context, outside.local, outside.encapsulation)?;
        let data = frame.get_mut(outside.data)?;
        let peer = outside.source.ip();
        let is_news = device.neighbours.is_news(peer, &outside.way, now_ns);
        Some(Arrived {
            socket,
            peer,
            way: outside.way,
            is_news,
            received: Some(Received {
                segment: data.len().max(1),
                data,
                source: SocketAddr::new(peer, outside.source.port()),
                destination: None,
                traffic_class: outside.traffic_class,
                truncated: false,
            }),
        })
    }
}

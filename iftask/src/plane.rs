//! The data plane: one pinned thread that runs every packet to completion.
//!
//! ```text
//!   UDP 4500 ─┐                                    ┌─> TUN (super-packets)
//!   ESP 50   ─┼─> Engine: table, windows, keys ────┤
//!   TUN      ─┤    (per round: batches of 64)      ├─> UDP (GSO), ESP 50
//!   rings    ─┘                                    └─> rings
//!   Event ────> commands of the control thread (mpsc)
//! ```
//!
//! No locks, no allocation per packet: what the control thread has to say comes as [`Command`]s, what it wants to know lies in atomics.

mod bursts;
mod engine;
mod entries;
mod flush;
mod hand_over;
mod hints;
mod hosts;
mod inbound;
mod io;
mod keepalive;
mod lookup;
mod moves;
mod outbound;
mod outputs;
mod paths;
mod ranges;
mod sa;
mod sender;
mod strays;
mod table;
mod xdp;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use netio::{
    DatagramSocket, Event, GRO_BUFFER_BYTES, Poller, ReceiveBatch, TunBatch, TunQueue, XdpQueue, task,
};
use sadb::{Encapsulation, SegmentFds, Slot, SlotWorker, StrayConsumer, StrayProducer};
use telemetry::Counters;
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::oneshot;

use crate::counters::{Count, Statistics, Tally};
use crate::error::Error;
pub(crate) use engine::Engine;
use hand_over::HandOver;
use io::KernelIo;
pub(crate) use io::{Io, Socket};
pub(crate) use keepalive::Keepalive;
pub(crate) use xdp::LostDevice;

/// Packets read from a TUN queue in one round.
const TUN_BATCH: usize = 64;
/// About as much of them is read before it is worked on: so little that it stays in the cache.
const TUN_BYTES: usize = 256 << 10;
/// Datagrams read from a socket in one round.
const RECEIVE_BATCH: usize = 64;
/// Descriptors reported in one round.
const READY: usize = 64;
/// The longest sleep: timers are looked at so often.
const TICK: Duration = Duration::from_millis(100);

const CONTROL_TOKEN: u64 = 0;
const SOCKET_TOKEN: u64 = 1 << 32;
const TUN_TOKEN: u64 = 2 << 32;
const RING_TOKEN: u64 = 3 << 32;
const TOO_BIG_TOKEN: u64 = 4 << 32;
const XDP_TOKEN: u64 = 5 << 32;

/// What the control thread tells the data plane.
#[derive(Debug)]
pub(crate) enum Command {
    /// New sockets of a local address.
    OpenAddress {
        context: u32,
        address: IpAddr,
        udp: OwnedFd,
        esp: Option<OwnedFd>,
        /// ICMP about packets that were too long.
        too_big: Option<OwnedFd>,
    },
    /// An address is no longer used.
    CloseAddress { context: u32, address: IpAddr },
    /// The TUN queue of a context.
    OpenTun {
        context: u32,
        queue: OwnedFd,
        steering: Option<OwnedFd>,
    },
    /// A context is gone.
    CloseTun { context: u32 },
    /// Our queues of a device with AF_XDP.
    OpenXdp {
        context: u32,
        device: String,
        queues: Vec<XdpQueue>,
    },
    /// A device is no longer to be used so.
    CloseXdp { context: u32, device: String },
    /// Segments of a slot of ours.
    AddSlot(SegmentFds),
    /// A slot that is no longer ours: what is left of it can go.
    DropSlot(Slot),
    /// Segments of a slot that will be ours, and the worker that serves it: what comes for it is held.
    ExpectSlot(SegmentFds, u16),
    /// A slot that was expected is ours now.
    TakeSlot(Slot),
    /// A slot that was expected stays where it is.
    ForgoSlot(Slot),
    /// Serve what waits for these slots, then let them go to this worker, and say so.
    HandOver {
        slots: Vec<Slot>,
        to: u16,
        done: oneshot::Sender<()>,
    },
    /// Say when all that was told before is done.
    Report(oneshot::Sender<()>),
    /// Which worker serves which slot: index 0 is slot 1; 0 = none of this node. And who takes the last step for its packets; 0 = who has the data.
    Owners {
        managers: Vec<u16>,
        data: Vec<u16>,
        outputs: Vec<u16>,
    },
    /// Rings to and from another worker's data plane, or this worker's `ipsecmgr`: memory and event of each.
    OpenRing {
        worker: u16,
        to: (OwnedFd, OwnedFd),
        from: (OwnedFd, OwnedFd),
    },
    /// Addresses of this node, with their contexts: nothing leaves by AF_XDP that says it comes from there.
    OwnAddresses(BTreeSet<(u32, IpAddr)>),
    /// When to send NAT keepalives, by local address.
    Keepalives(Vec<(IpAddr, Keepalive)>),
    /// The end.
    Stop,
}

/// What somebody took away, in the namespace of a context, and the control thread is to ask for again.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The TUN of this context.
    Tun(u32),
    Xdp(LostDevice),
}

/// The control thread's hand on the data plane.
#[derive(Debug)]
pub(crate) struct Plane {
    handle: PlaneHandle,
    pub(crate) statistics: Arc<Statistics>,
    thread: JoinHandle<()>,
}

/// The way in for commands.
#[derive(Clone, Debug)]
pub(crate) struct PlaneHandle {
    commands: Sender<Command>,
    event: Arc<Event>,
}

impl PlaneHandle {
    /// Tells the data plane something.
    pub(crate) fn tell(&self, command: Command) {
        // Fails only when the thread is gone, which ends the process.
        let _ = self.commands.send(command);
        self.event.raise();
    }
}

impl Plane {
    /// Starts the thread. It runs on the processors that the calling thread may use.
    ///
    /// `lost` hears of what is gone and needed again.
    pub(crate) fn start(worker: u16, counters: Counters, lost: UnboundedSender<Lost>) -> Result<Self, Error> {
        let statistics = Statistics::new();
        let (sender, receiver) = channel();
        let event = Arc::new(Event::new()?);
        let mut round = Round::new(
            worker,
            Tally::new(counters, statistics.clone()),
            event.clone(),
            receiver,
            lost,
        )?;
        let thread = std::thread::Builder::new()
            .name(format!("plane-{worker}"))
            .spawn(move || {
                task::set_name(&format!("plane-{worker}"));
                round.run();
            })
            .map_err(Error::Thread)?;
        Ok(Self {
            handle: PlaneHandle {
                commands: sender,
                event,
            },
            statistics,
            thread,
        })
    }

    /// For those who have something to tell it.
    pub(crate) fn handle(&self) -> PlaneHandle {
        self.handle.clone()
    }

    /// False when the thread has ended by itself, which it must not.
    pub(crate) fn is_alive(&self) -> bool {
        !self.thread.is_finished()
    }

    /// Ends it and waits for that.
    pub(crate) fn stop(self) {
        self.handle.tell(Command::Stop);
        // A panic has ended the process before (see `task::main`).
        let _ = self.thread.join();
    }
}

/// The thread's state around the engine.
struct Round {
    engine: Engine<KernelIo>,
    poller: Poller,
    event: Arc<Event>,
    commands: Receiver<Command>,
    lost: UnboundedSender<Lost>,
    batch: ReceiveBatch,
    /// Sockets for ICMP about packets that were too long, by place; the context of each.
    too_big: Vec<Option<(DatagramSocket, u32)>>,
    /// Queues of devices with AF_XDP, by place.
    xdp: Vec<Option<xdp::Queue>>,
    reads: TunBatch,
    /// Workers whose rings were not emptied in the last round.
    unfinished: Vec<u16>,
    hand_overs: Vec<HandOver>,
    running: bool,
}

impl Round {
    fn new(
        worker: u16,
        tally: Tally,
        event: Arc<Event>,
        commands: Receiver<Command>,
        lost: UnboundedSender<Lost>,
    ) -> Result<Self, Error> {
        let poller = Poller::new(READY)?;
        poller.add(&*event, CONTROL_TOKEN)?;
        Ok(Self {
            engine: Engine::new(KernelIo::new(), worker, tally),
            poller,
            event,
            commands,
            lost,
            batch: ReceiveBatch::new(RECEIVE_BATCH, GRO_BUFFER_BYTES),
            too_big: Vec::new(),
            xdp: Vec::new(),
            reads: TunBatch::new(TUN_BATCH, TUN_BYTES),
            unfinished: Vec::new(),
            hand_overs: Vec::new(),
            running: true,
        })
    }

    fn run(&mut self) {
        let started_ns = task::monotonic_ns();
        let mut tick_ns = started_ns;
        let mut ready = [0; READY];
        while self.running {
            let count = self.wait(&mut ready);
            let now_ns = task::monotonic_ns();
            self.engine.begin(now_ns);
            self.engine.io.xdp.set_time(now_ns);
            for worker in std::mem::take(&mut self.unfinished) {
                self.take_strays(worker);
            }
            for token in ready.iter().take(count) {
                self.serve(*token);
                self.engine.io.xdp.commit();
            }
            if now_ns.saturating_sub(tick_ns) >= TICK.as_nanos() as u64 {
                tick_ns = now_ns;
                self.engine.keep_alive();
                let late = self.engine.strays.take_back_late();
                self.engine.tally.add(Count::OutputLate, late, 0);
                self.count_sas();
                self.look_after_xdp();
                // Whoever put something in may have died before it could say so.
                for worker in self.engine.strays.workers() {
                    self.take_strays(worker);
                }
            }
            self.advance_hand_overs();
            self.engine.io.xdp.commit();
            self.engine.end();
            let end_ns = task::monotonic_ns();
            let statistics = self.engine.tally.statistics();
            let add = |cell: &std::sync::atomic::AtomicU64, amount| {
                cell.store(cell.load(Ordering::Relaxed) + amount, Ordering::Relaxed);
            };
            add(&statistics.rounds, 1);
            add(&statistics.busy_ns, end_ns.saturating_sub(now_ns));
            statistics
                .alive_ns
                .store(end_ns.saturating_sub(started_ns), Ordering::Relaxed);
            statistics
                .sas
                .store(self.engine.table.len() as u64, Ordering::Relaxed);
        }
    }

    /// Waits for something to do; fills in tokens and returns how many.
    fn wait(&mut self, ready: &mut [u64; READY]) -> usize {
        let longest = if self.unfinished.is_empty() {
            self.hand_over_due().min(TICK)
        } else {
            Duration::ZERO
        };
        match self.poller.wait(Some(longest)) {
            Ok(tokens) => tokens.zip(ready).map(|(token, place)| *place = token).count(),
            Err(error) => {
                // Cannot be: the descriptor is ours and good. Not to turn at full speed if it is.
                tracing::error!("cannot wait for packets: {error}");
                std::thread::sleep(TICK);
                0
            }
        }
    }

    fn serve(&mut self, token: u64) {
        let place = (token & 0xffff_ffff) as usize;
        match token & !0xffff_ffff {
            SOCKET_TOKEN => drop(self.read_socket(place)),
            TUN_TOKEN => self.read_tun(place),
            TOO_BIG_TOKEN => self.read_too_big(place),
            XDP_TOKEN => self.read_xdp(place),
            RING_TOKEN => {
                if let Ok(worker) = u16::try_from(place) {
                    self.take_strays(worker);
                }
            }
            _ => self.obey(),
        }
    }

    fn take_strays(&mut self, worker: u16) {
        if self.engine.take_strays(worker) && !self.unfinished.contains(&worker) {
            self.unfinished.push(worker);
        }
    }

    /// Reads a batch from a socket. False when nothing waits there any more.
    fn read_socket(&mut self, place: usize) -> bool {
        let Some(Some((socket, _))) = self.engine.io.sockets.get(place) else {
            return false;
        };
        match self.batch.receive(socket) {
            Ok(_) => self.engine.inbound(place, self.batch.iter_mut()),
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return false,
            // What ICMP said about earlier sends; reading it has cleared it.
            Err(error) => tracing::debug!("cannot receive: {error}"),
        }
        true
    }

    /// Shows how many child SAs the slots have.
    fn count_sas(&self) {
        let cells = &self.engine.tally.statistics().slot_sas;
        for (cell, count) in cells.iter().zip(self.engine.table.counts()) {
            cell.store(count, Ordering::Relaxed);
        }
    }

    fn read_too_big(&mut self, place: usize) {
        let Some(Some((socket, _))) = self.too_big.get(place) else {
            return;
        };
        // An error is no news but `WouldBlock`: nothing is ever sent from here.
        if self.batch.receive(socket).is_ok() {
            let local = socket.local().ip();
            for received in self.batch.iter_mut() {
                self.engine.too_big(local, received.data);
            }
        }
    }

    fn read_tun(&mut self, place: usize) {
        let Some(context) = self.engine.ports.context_of(place) else {
            return;
        };
        let Some(Some(queue)) = self.engine.io.tuns.get(place) else {
            return;
        };
        match self.reads.read(queue) {
            Ok(_) => {
                self.engine.outbound(context, self.reads.iter_mut());
                self.engine.flush();
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => {
                tracing::debug!("cannot read from the TUN of context {context}: {error}");
                if queue.is_gone() {
                    self.lose_tun(context);
                }
            }
        }
    }

    /// Somebody deleted the TUN of a context.
    fn lose_tun(&mut self, context: u32) {
        tracing::warn!("the TUN of context {context} is gone");
        if let Err(error) = self.close_tun(context) {
            tracing::error!("{error}");
        }
        // Fails only when nobody asks for queues any more.
        let _ = self.lost.send(Lost::Tun(context));
    }

    fn obey(&mut self) {
        self.event.clear();
        loop {
            match self.commands.try_recv() {
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.running = false;
                    return;
                }
                Ok(command) => {
                    if let Err(error) = self.execute(command) {
                        tracing::error!("{error}");
                    }
                }
                Err(TryRecvError::Empty) => return,
            }
        }
    }

    fn execute(&mut self, command: Command) -> Result<(), Error> {
        match command {
            Command::OpenAddress {
                context,
                address,
                udp,
                esp,
                too_big,
            } => {
                self.close_address(context, address)?;
                self.open_socket(context, udp, Encapsulation::Udp)?;
                if let Some(esp) = esp {
                    self.open_socket(context, esp, Encapsulation::Esp)?;
                }
                if let Some(too_big) = too_big {
                    self.open_too_big(context, too_big)?;
                }
            }
            Command::CloseAddress { context, address } => self.close_address(context, address)?,
            Command::OpenTun {
                context,
                queue,
                steering,
            } => {
                self.close_tun(context)?;
                let place = self.engine.ports.add_tun(context);
                let number = usize::from(self.engine.strays.worker().saturating_sub(1));
                let queue = match steering {
                    Some(table) => TunQueue::adopt_steered(queue, table, number)?,
                    None => TunQueue::adopt(queue),
                };
                self.poller.add(&queue, TUN_TOKEN | place as u64)?;
                put(&mut self.engine.io.tuns, place, queue);
            }
            Command::CloseTun { context } => self.close_tun(context)?,
            Command::OpenXdp {
                context,
                device,
                queues,
            } => self.open_xdp(context, &device, &queues)?,
            Command::CloseXdp { context, device } => self.close_xdp(context, &device)?,
            Command::AddSlot(fds) => self.engine.add_slot(SlotWorker::map(&fds)?),
            Command::DropSlot(slot) => self.engine.forget_slot(slot),
            Command::ExpectSlot(fds, from) => self.engine.expect_slot(SlotWorker::map(&fds)?, from),
            Command::TakeSlot(slot) => drop(self.engine.take_slot(slot)),
            Command::ForgoSlot(slot) => self.engine.forgo_slot(slot),
            Command::HandOver { slots, to, done } => self.begin_hand_over(slots, to, done),
            // Who asked may have given up.
            Command::Report(done) => drop(done.send(())),
            Command::Owners {
                managers,
                data,
                outputs,
            } => {
                self.engine.strays.set_owners(&managers, &data);
                self.engine.strays.set_outputs(&outputs);
            }
            Command::OpenRing { worker, to, from } => {
                let to = StrayProducer::map(to.0, to.1)?;
                let from = StrayConsumer::map(from.0, from.1)?;
                self.poller.add(&from, RING_TOKEN | u64::from(worker))?;
                self.engine.strays.add_ring(worker, to, from);
                // What waits from before raises no event.
                self.take_strays(worker);
            }
            Command::OwnAddresses(addresses) => self.engine.io.xdp.set_own(addresses),
            Command::Keepalives(services) => self.engine.keepalives.set(services),
            Command::Stop => self.running = false,
        }
        Ok(())
    }

    fn open_socket(&mut self, context: u32, fd: OwnedFd, encapsulation: Encapsulation) -> Result<(), Error> {
        let socket = DatagramSocket::adopt(fd)?;
        let described = Socket {
            context,
            local: socket.local(),
            encapsulation,
        };
        let place = self.engine.ports.add_socket(described);
        self.engine.io.xdp.note_socket(place, Some(described));
        self.poller.add(&socket, SOCKET_TOKEN | place as u64)?;
        put(&mut self.engine.io.sockets, place, (socket, None));
        Ok(())
    }

    fn open_too_big(&mut self, context: u32, fd: OwnedFd) -> Result<(), Error> {
        let socket = DatagramSocket::adopt(fd)?;
        let free = self.too_big.iter().position(Option::is_none);
        let place = free.unwrap_or(self.too_big.len());
        self.poller.add(&socket, TOO_BIG_TOKEN | place as u64)?;
        put(&mut self.too_big, place, (socket, context));
        Ok(())
    }

    fn close_address(&mut self, context: u32, address: IpAddr) -> Result<(), Error> {
        for place in self.engine.ports.sockets_of(context, address) {
            self.engine.ports.remove_socket(place);
            self.engine.io.xdp.note_socket(place, None);
            let socket = self.engine.io.sockets.get_mut(place).and_then(Option::take);
            if let Some((socket, _)) = socket {
                // Others hold the socket too, so closing our descriptor would not stop the reports.
                self.poller.remove(&socket)?;
            }
        }
        for place in &mut self.too_big {
            let is_meant =
                |(socket, of): &mut (DatagramSocket, u32)| *of == context && socket.local().ip() == address;
            if let Some((socket, _)) = place.take_if(is_meant) {
                self.poller.remove(&socket)?;
            }
        }
        Ok(())
    }

    fn close_tun(&mut self, context: u32) -> Result<(), Error> {
        if let Some(place) = self.engine.ports.tun(context) {
            self.engine.ports.remove_tun(place);
            if let Some(queue) = self.engine.io.tuns.get_mut(place).and_then(Option::take) {
                self.poller.remove(&queue)?;
            }
        }
        Ok(())
    }
}

fn put<T>(list: &mut Vec<Option<T>>, place: usize, item: T) {
    if list.len() <= place {
        list.resize_with(place + 1, || None);
    }
    if let Some(slot) = list.get_mut(place) {
        *slot = Some(item);
    }
}

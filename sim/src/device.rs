//! `starward sim tunnel`: one tunnel with a TUN device at its end, for ordinary programs to send through.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crypto::SystemRandom;
use ikev2::{Action, Engine, EngineConfig, Event, IkeSaId, Output, Path};
use ipnet::IpNet;
use netio::{
    Datagram, DatagramSocket, GRO_BUFFER_BYTES, MAX_GSO_SEGMENTS, Poller, ReceiveBatch, Received, SendBatch,
    SocketOptions, Tun, TunQueue, split_ipv4_header,
};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rtnetlink::RouteMessageBuilder;

use crate::credentials::Credentials;
use crate::initiator::{Common, Memory, RETRANSMISSION, profile};
use crate::offer::Offer;
use crate::pace::Pace;
use crate::plane::{Plane, ROUND};
use crate::progress::tell;
use crate::world::{index, inside, text};

const IKE_PORT: u16 = 500;
const NATT_PORT: u16 = 4500;
const MARKER: [u8; 4] = [0; 4];
/// What the poller says; the first three are places in [`End::sockets`] too.
const IKE: usize = 0;
const NATT: usize = 1;
const ESP: usize = 2;
const DEVICE: usize = 3;
const STOP: usize = 4;
/// Datagrams (coalesced or not) read in one go.
const BATCH: usize = 16;
const SETUP: Duration = Duration::from_secs(15);
/// The delete is answered within this time, or not at all.
const FAREWELL: Duration = Duration::from_secs(1);

/// One tunnel with a TUN device.
#[derive(Debug, clap::Args)]
pub struct Device {
    /// Address of the gateway
    #[arg(long)]
    pub gateway: IpAddr,
    /// Local outer address
    #[arg(long)]
    pub local: IpAddr,
    /// Key or certificate
    #[command(flatten)]
    pub credentials: Credentials,
    /// Algorithms
    #[command(flatten)]
    pub offer: Offer,
    /// What carries ESP
    #[arg(long, value_enum, default_value_t = Encapsulation::Udp)]
    pub encapsulation: Encapsulation,
    /// The identity is PREFIX0.sim.test, unless a certificate says otherwise
    #[arg(long, default_value = "enb")]
    pub identity_prefix: String,
    /// Inner address; the device gets it
    #[arg(long, default_value = "10.64.0.1")]
    pub inner: Ipv4Addr,
    /// Network behind the gateway; the device gets a route to it
    #[arg(long, default_value = "172.16.0.0/24")]
    pub protected: IpNet,
    /// Name of the device
    #[arg(long, default_value = "tunnel0")]
    pub device: String,
    /// Child SAs beside the first that are asked for, each for some of the flows (RFC 9611)
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub per_resource: u8,
    /// Size of the largest inner packet
    #[arg(long, default_value_t = 1400)]
    pub mtu: u16,
}

/// What carries ESP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Encapsulation {
    /// In UDP, by faking a NAT
    Udp,
    /// As IP protocol 50, unless there really is a NAT
    Esp,
}

impl Device {
    /// Runs until SIGTERM or SIGINT, or until the tunnel ends otherwise, which is an error.
    pub(crate) fn run(self) -> Result<bool, String> {
        let common = Common {
            credentials: Arc::new(self.credentials.read()?),
            offer: self.offer.clone(),
            protected: self.protected,
            asks_for_address: false,
            fakes_nat: self.encapsulation == Encapsulation::Udp,
            identity_prefix: self.identity_prefix.clone(),
            retransmission: RETRANSMISSION,
            per_resource: self.per_resource,
        };
        let stop = stop_signals().map_err(|error| format!("signals: {error}"))?;
        let mut end = End::open(&self, common).map_err(|error| error.to_string())?;
        end.poller
            .add(&stop, STOP as u64)
            .map_err(|error| error.to_string())?;
        end.set_up(&self)?;
        self.route()?;
        tell(&format!("tunnel up: device {}, {}", self.device, end.spis()));
        let mut is_stopped = false;
        while end.is_up() && !is_stopped {
            is_stopped = end.step(Duration::from_secs(1))?;
        }
        let ended = end.failure.take();
        end.farewell()?;
        if is_stopped {
            return Ok(true);
        }
        Err(ended.unwrap_or_else(|| "the tunnel ended".to_owned()))
    }

    /// Gives the device its address and its route.
    fn route(&self) -> Result<(), String> {
        let IpNet::V4(protected) = self.protected else {
            return Err(format!("{} is no IPv4 network", self.protected));
        };
        let here = netio::Namespace::current().map_err(|error| error.to_string())?;
        inside(&here, async |handle| {
            let device = index(&self.device)?;
            handle
                .address()
                .add(device, self.inner.into(), 32)
                .execute()
                .await
                .map_err(text)?;
            let route = RouteMessageBuilder::<Ipv4Addr>::new()
                .destination_prefix(protected.addr(), protected.prefix_len())
                .output_interface(device)
                .pref_source(self.inner)
                .build();
            handle.route().add(route).execute().await.map_err(text)
        })
    }
}

/// Everything at this end of the tunnel.
struct End {
    common: Common,
    engine: Engine,
    memory: Memory,
    ike: Option<IkeSaId>,
    /// Why there is no tunnel, or no longer.
    failure: Option<String>,
    plane: Plane,
    path: Path,
    /// Port 500, port 4500, and protocol 50 if it is wanted.
    sockets: Vec<DatagramSocket>,
    /// The socket that ESP leaves by.
    exit: usize,
    poller: Poller,
    receive: ReceiveBatch,
    send: SendBatch,
    /// Of packets from the device.
    pace: Pace,
}

impl End {
    fn open(device: &Device, common: Common) -> Result<Self, netio::Error> {
        let bind = |port| {
            let options = SocketOptions {
                gro: port == NATT_PORT,
                freebind: false,
                ..SocketOptions::default()
            };
            DatagramSocket::bind_udp(SocketAddr::new(device.local, port), options)
        };
        let mut sockets = vec![bind(IKE_PORT)?, bind(NATT_PORT)?];
        if device.encapsulation == Encapsulation::Esp {
            let address = SocketAddr::new(device.local, 0);
            sockets.push(DatagramSocket::bind_esp(address, SocketOptions::default())?);
        }
        let Tun {
            mut queues, offloads, ..
        } = Tun::create(&device.device, 1, device.mtu)?;
        let queue = queues.pop().map(TunQueue::adopt).ok_or(netio::Error::Invalid {
            what: "number of TUN queues",
            expected: "1",
        })?;
        let poller = Poller::new(STOP + 1)?;
        for (place, socket) in (0..).zip(&sockets) {
            poller.add(socket, place)?;
        }
        poller.add(&queue, DEVICE as u64)?;
        let config = EngineConfig {
            slots: vec![1],
            ..EngineConfig::default()
        };
        Ok(Self {
            common,
            engine: Engine::new(config, Box::new(SystemRandom)),
            memory: Memory::default(),
            ike: None,
            failure: None,
            plane: Plane::new(queue, offloads),
            path: Path {
                local: SocketAddr::new(device.local, IKE_PORT),
                remote: SocketAddr::new(device.gateway, IKE_PORT),
            },
            sockets,
            exit: NATT,
            poller,
            receive: ReceiveBatch::new(BATCH, GRO_BUFFER_BYTES),
            send: SendBatch::new(MAX_GSO_SEGMENTS),
            pace: Pace::new(),
        })
    }

    fn set_up(&mut self, device: &Device) -> Result<(), String> {
        let start = Instant::now();
        let profile = profile(&self.common, 0, device.inner);
        self.engine
            .initiate(start, profile, self.path, &mut self.memory)
            .map_err(|error| error.to_string())?;
        self.carry_out()?;
        while !self.is_up() {
            if let Some(failure) = self.failure.take() {
                return Err(failure);
            }
            if start.elapsed() > SETUP || self.step(Duration::from_millis(100))? {
                return Err("the tunnel did not come up".to_owned());
            }
        }
        Ok(())
    }

    fn is_up(&self) -> bool {
        self.ike.is_some() && self.plane.spis().is_some()
    }

    /// What is needed to find the tunnel at the gateway and on the wire.
    fn spis(&self) -> String {
        let (inbound, outbound) = self.plane.spis().unwrap_or_default();
        let over = if self.exit == ESP { "protocol 50" } else { "UDP" };
        format!("inbound SPI 0x{inbound:08x}, outbound SPI 0x{outbound:08x}, ESP over {over}")
    }

    fn farewell(&mut self) -> Result<(), String> {
        let start = Instant::now();
        if let Some(ike) = self.ike {
            // One that is gone already needs no farewell.
            let _ = self.engine.action(start, ike, Action::Delete, &mut self.memory);
        }
        self.carry_out()?;
        while self.engine.totals().ike_sas > 0 && start.elapsed() < FAREWELL {
            self.step(Duration::from_millis(20))?;
        }
        Ok(())
    }

    /// Takes in what came and does what is due; true when a signal asks to stop.
    fn step(&mut self, timeout: Duration) -> Result<bool, String> {
        let timeout = self.engine.next_timeout().map_or(timeout, |at| {
            at.saturating_duration_since(Instant::now()).min(timeout)
        });
        let wrong = |error: std::io::Error| error.to_string();
        let ready: Vec<usize> = self
            .poller
            .wait(Some(timeout))
            .map_err(wrong)?
            .filter_map(|source| usize::try_from(source).ok())
            .collect();
        let now = Instant::now();
        for source in &ready {
            match *source {
                DEVICE => self.outbound(),
                IKE | NATT | ESP => self.inbound(*source, now),
                _ => {}
            }
        }
        self.engine.expire(Instant::now(), &mut self.memory);
        self.carry_out()?;
        if ready.contains(&DEVICE) {
            self.pace.rest();
        }
        Ok(ready.contains(&STOP))
    }

    fn outbound(&mut self) {
        let Some(socket) = self.sockets.get(self.exit) else {
            return;
        };
        let (exit, gateway, send) = (self.exit, self.path.remote, &mut self.send);
        let reads = self.plane.outbound(|data, segment| {
            // What the kernel has no room for is lost, as in any network.
            let _ = send.send(socket, &datagrams(exit, gateway, data, segment));
        });
        self.pace.took(reads, reads == ROUND);
    }

    fn inbound(&mut self, place: usize, now: Instant) {
        let Some(socket) = self.sockets.get(place) else {
            return;
        };
        // An error of an earlier send is reported here; retransmission takes care of it.
        let _ = self.receive.receive(socket);
        let local = socket.local();
        if place == ESP {
            let packets = self
                .receive
                .iter_mut()
                .filter_map(|received| packet(local, received));
            return self.plane.inbound(packets, |_| false);
        }
        for mut received in self.receive.iter_mut() {
            let path = Path {
                local,
                remote: received.source,
            };
            let (engine, memory) = (&mut self.engine, &mut self.memory);
            if place == IKE {
                engine.receive(now, path, received.data, memory);
                continue;
            }
            self.plane.inbound(received.segments_mut(), |segment| {
                let message = segment.strip_prefix(&MARKER);
                if let Some(message) = message {
                    engine.receive(now, path, message, memory);
                }
                message.is_some()
            });
        }
    }

    fn carry_out(&mut self) -> Result<(), String> {
        while let Some(output) = self.engine.poll() {
            match output {
                Output::Transmit { path, bytes } => {
                    let port = if path.local.port() == NATT_PORT { NATT } else { IKE };
                    let socket = &self.sockets[port];
                    // What the kernel does not take is sent again, as if the network had lost it.
                    let _ = self.send.send(socket, &[Datagram::to(path.remote, &bytes)]);
                }
                Output::Ask { ticket, question, .. } => {
                    let answer = self.common.credentials.answer(0, &question);
                    self.engine
                        .answer(Instant::now(), ticket, answer, &mut self.memory);
                }
                Output::Install(child) => {
                    self.path = child.path;
                    self.exit = if child.udp_encapsulation { NATT } else { ESP };
                    self.plane.install(&child)?;
                }
                Output::Remove {
                    inbound_spi, reason, ..
                } => {
                    self.memory.remove(inbound_spi);
                    self.plane.remove(inbound_spi);
                    if self.plane.spis().is_none() {
                        self.failure.get_or_insert(format!("the tunnel ended: {reason}"));
                    }
                }
                Output::Move { path, .. } => self.path = path,
                Output::Activate {
                    inbound_spi,
                    replaces,
                } => {
                    self.plane.activate(inbound_spi, Some(replaces));
                    tell(&format!("tunnel rekeyed: {}", self.spis()));
                }
                Output::Beside { groups, .. } => {
                    let count = groups.iter().map(Vec::len).max().unwrap_or(1);
                    tell(&format!("child SAs that share the flows: {count}"));
                }
                Output::Event(event) => self.event(event),
            }
        }
        Ok(())
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Established(established) => self.ike = Some(established.ike),
            Event::IkeRekeyed { new, .. } => {
                self.ike = Some(new);
                tell("IKE SA rekeyed");
            }
            Event::SetupFailed { reason, .. } => self.failure = Some(reason.to_string()),
            Event::Deleted { ike, reason, .. } if self.ike == Some(ike) => {
                self.ike = None;
                self.failure.get_or_insert(format!("the tunnel ended: {reason}"));
            }
            _ => {}
        }
    }
}

/// ESP packets for the gateway, `segment` octets each but the last: for UDP in one piece, which the kernel cuts.
fn datagrams(exit: usize, gateway: SocketAddr, data: &[u8], segment: u16) -> Vec<Datagram<'_>> {
    if exit == NATT {
        let whole = Datagram {
            segment: Some(segment),
            ..Datagram::to(gateway, data)
        };
        return vec![whole];
    }
    // Raw IPv6 sockets take no port.
    let gateway = SocketAddr::new(gateway.ip(), 0);
    data.chunks(segment.max(1).into())
        .map(|packet| Datagram::to(gateway, packet))
        .collect()
}

/// The ESP packet in what a raw socket read.
fn packet<'r>(local: SocketAddr, received: Received<'r>) -> Option<&'r mut [u8]> {
    if local.is_ipv6() {
        return Some(received.data);
    }
    split_ipv4_header(received.data).map(|(_, packet)| packet)
}

/// Readable when the program shall stop.
fn stop_signals() -> nix::Result<SignalFd> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block()?;
    SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

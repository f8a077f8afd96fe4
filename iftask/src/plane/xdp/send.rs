//! What leaves by AF_XDP, and what leaves by sockets and the TUN.

use std::collections::BTreeSet;
use std::net::IpAddr;

use netio::{Datagram, SendError, XdpSender, interface};
use sadb::Encapsulation;

use super::super::io::{KernelIo, Socket};
use super::LostDevice;
use super::clear::Leaving;
use super::frame::{Envelope, Way};
use super::neighbours::Neighbours;

/// What every path takes in one piece (RFC 8200 5).
const IPV6_LEAST_MTU: usize = 1280;

/// Devices by which packets may leave, and what is known of our sockets, by their place.
#[derive(Default)]
pub(crate) struct XdpWays {
    devices: Vec<Option<Device>>,
    sockets: Vec<Option<Socket>>,
    /// Addresses of the node, with their contexts.
    own: BTreeSet<(u32, IpAddr)>,
    now_ns: u64,
    /// Of the last packet that may be cut.
    identification: u16,
    /// ESP and clear packets sent since that was asked last.
    sent: (u64, u64),
}

/// One device.
pub(crate) struct Device {
    pub(super) context: u32,
    name: String,
    sender: XdpSender,
    /// How peers are reached, learned from authentic packets.
    pub(super) neighbours: Neighbours,
    /// How hosts of the clear side are reached, as the kernel has said it of each.
    hosts: Neighbours,
    /// Octets of the longest IP packet; 0 while it is not known.
    mtu: usize,
    /// The kernel took what was given last.
    is_up: bool,
}

impl Device {
    pub(super) fn new(context: u32, name: &str, sender: XdpSender) -> Self {
        Self {
            context,
            name: name.to_owned(),
            sender,
            neighbours: Neighbours::default(),
            hosts: Neighbours::default(),
            mtu: 0,
            is_up: true,
        }
    }

    /// Has `fill` write a frame; false when the device takes none now.
    fn write(&mut self, fill: impl Fn(&mut [u8]) -> Option<usize>) -> bool {
        self.sender.write(&fill) || {
            // All frames are with the kernel: it may be done with some, once it has seen these.
            self.commit();
            self.sender.write(&fill)
        }
    }

    fn commit(&mut self) {
        if let Err(error) = self.sender.commit() {
            tracing::debug!("cannot send by device {}: {error}", self.name);
            self.is_up = false;
        }
    }
}

impl XdpWays {
    /// Whether there is no device.
    pub(crate) fn is_empty(&self) -> bool {
        self.devices.iter().all(Option::is_none)
    }

    /// Notes a device; returns its place.
    pub(super) fn add(&mut self, device: Device) -> usize {
        let free = self.devices.iter().position(Option::is_none);
        let place = free.unwrap_or(self.devices.len());
        super::super::put(&mut self.devices, place, device);
        place
    }

    /// Forgets a device; returns the place it had.
    pub(super) fn remove(&mut self, context: u32, name: &str) -> Option<usize> {
        let is_it = |device: &Device| device.context == context && device.name == name;
        let place = self
            .devices
            .iter()
            .position(|device| device.as_ref().is_some_and(is_it))?;
        *self.devices.get_mut(place)? = None;
        Some(place)
    }

    pub(super) fn device(&self, place: usize) -> Option<&Device> {
        self.devices.get(place)?.as_ref()
    }

    /// What a device at a place is called.
    pub(super) fn lost(&self, place: usize) -> Option<LostDevice> {
        let device = self.device(place)?;
        Some(LostDevice {
            context: device.context,
            device: device.name.clone(),
        })
    }

    /// Notes what socket is at a place, or that there is none any more.
    pub(crate) fn note_socket(&mut self, place: usize, socket: Option<Socket>) {
        if self.sockets.len() <= place {
            self.sockets.resize(place + 1, None);
        }
        if let Some(known) = self.sockets.get_mut(place) {
            *known = socket;
        }
    }

    /// The place of the socket in a context for what comes to an address.
    pub(super) fn socket(&self, context: u32, local: IpAddr, encapsulation: Encapsulation) -> Option<usize> {
        let is_it = |socket: &Socket| {
            socket.context == context && socket.local.ip() == local && socket.encapsulation == encapsulation
        };
        self.sockets
            .iter()
            .position(|socket| socket.as_ref().is_some_and(is_it))
    }

    /// An authentic packet of a peer came this way.
    pub(super) fn learn(&mut self, device: usize, peer: IpAddr, way: Way, now_ns: u64) {
        let Some(context) = self.device(device).map(|device| device.context) else {
            return;
        };
        for (place, other) in self.devices.iter_mut().enumerate() {
            match other {
                Some(other) if place == device => other.neighbours.learn(peer, way, now_ns),
                Some(other) if other.context == context => other.neighbours.forget(peer),
                _ => {}
            }
        }
    }

    /// A packet of a host came this way, which leads back to it.
    pub(super) fn learn_host(&mut self, device: usize, host: IpAddr, way: Way, now_ns: u64) {
        let Some(context) = self.context_of(device) else {
            return;
        };
        let hosts = |device: &Option<Device>| {
            let device = device.as_ref()?;
            Some(device.hosts.is_news(host, &way, now_ns))
        };
        if self.devices.get(device).and_then(hosts) != Some(true) {
            return;
        }
        for (place, other) in self.devices.iter_mut().enumerate() {
            match other {
                Some(other) if place == device => other.hosts.learn(host, way, now_ns),
                Some(other) if other.context == context => other.hosts.forget(host),
                _ => {}
            }
        }
    }

    /// Sends a packet that came out of a tunnel to its host; false when it has to go by the TUN.
    pub(crate) fn forward(&mut self, context: u32, packet: &[u8]) -> bool {
        let Some(leaving) = Leaving::parse(packet) else {
            return false;
        };
        // Whoever sends with an address of ours is for the kernel to refuse.
        if self.own.contains(&(context, leaving.source)) {
            return false;
        }
        let now_ns = self.now_ns;
        let mut devices = self.devices.iter_mut().flatten();
        let found = devices.find_map(|device| {
            let fits = device.context == context && device.is_up && leaving.length() <= device.mtu;
            let way = device.hosts.way(leaving.destination, now_ns).filter(|_| fits)?;
            Some((device, way))
        });
        let Some((device, way)) = found else {
            return false;
        };
        let is_written = device.write(|room| leaving.write(way, room));
        self.sent.1 += u64::from(is_written);
        is_written
    }

    /// Tells which addresses are the node's own, with their contexts.
    pub(crate) fn set_own(&mut self, addresses: BTreeSet<(u32, IpAddr)>) {
        self.own = addresses;
    }

    /// The context of the device at a place.
    pub(super) fn context_of(&self, place: usize) -> Option<u32> {
        self.device(place).map(|device| device.context)
    }

    /// Makes room for new neighbours, and sends what a device did not take before.
    pub(super) fn look_after(&mut self, now_ns: u64) {
        for device in self.devices.iter_mut().flatten() {
            device.neighbours.make_room(now_ns);
            device.hosts.make_room(now_ns);
            device.is_up = device.sender.turn().is_ok();
        }
    }

    /// How many ESP and clear packets were sent since that was asked last.
    pub(super) fn take_sent(&mut self) -> (u64, u64) {
        std::mem::take(&mut self.sent)
    }

    /// Tells the time: CLOCK_MONOTONIC in nanoseconds.
    pub(crate) fn set_time(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
    }

    /// The device that a datagram of the socket at a place may leave by, and what goes around it. `None` when it has to leave by the socket.
    fn exit(&self, place: usize, dont_fragment: bool, datagram: &Datagram<'_>) -> Option<(usize, Envelope)> {
        let socket = self.sockets.get(place)?.as_ref()?;
        let longest = datagram.segment.map_or(datagram.data.len(), usize::from);
        let peer = datagram.destination.ip();
        let mut devices = self.devices.iter().enumerate();
        devices.find_map(|(place, device)| {
            let device = device
                .as_ref()
                .filter(|device| device.context == socket.context && device.is_up)?;
            let envelope = Envelope {
                way: device.neighbours.way(peer, self.now_ns)?,
                local: socket.local,
                destination: datagram.destination,
                encapsulation: socket.encapsulation,
                traffic_class: datagram.traffic_class,
                dont_fragment,
                identification: self.identification,
            };
            let octets = envelope.packet_bytes(longest);
            // Over IPv6 routers cut nothing: the kernel does, to the path MTU that it has learned.
            let cut = !dont_fragment && socket.local.is_ipv6() && octets > IPV6_LEAST_MTU;
            (octets <= device.mtu && !cut).then_some((place, envelope))
        })
    }

    /// Writes the packets of a datagram; returns how many found room.
    fn write(&mut self, device: usize, mut envelope: Envelope, datagram: &Datagram<'_>) -> usize {
        let Some(Some(device)) = self.devices.get_mut(device) else {
            return 0;
        };
        let segment = datagram.segment.map_or(datagram.data.len(), usize::from);
        let mut written = 0;
        for packet in datagram.data.chunks(segment.max(1)) {
            self.identification = self.identification.wrapping_add(1);
            envelope.identification = self.identification;
            if !device.write(|room| envelope.write(room, packet)) {
                break;
            }
            written += 1;
        }
        self.sent.0 += written as u64;
        written
    }

    /// Sends what was written.
    pub(crate) fn commit(&mut self) {
        self.devices.iter_mut().flatten().for_each(Device::commit);
    }
}

impl KernelIo {
    /// Sends datagrams by devices with AF_XDP as far as they know the way, and the others by the socket, in their order.
    pub(crate) fn send_by_ways(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
    ) -> Result<(), SendError> {
        let sent = self.send_each(socket, dont_fragment, datagrams);
        self.xdp.commit();
        sent
    }

    fn send_each(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
    ) -> Result<(), SendError> {
        let mut begin = 0;
        for (n, datagram) in datagrams.iter().enumerate() {
            let Some((device, envelope)) = self.xdp.exit(socket, dont_fragment, datagram) else {
                continue;
            };
            self.send_part(socket, dont_fragment, datagrams, begin, n)?;
            let written = self.xdp.write(device, envelope, datagram);
            if written == 0 {
                // The device takes nothing now: the socket may.
                begin = n;
                continue;
            }
            begin = n + 1;
            if written < datagram.segments() {
                return Err(SendError {
                    sent: n,
                    segments: written,
                    error: std::io::Error::other("all frames are with the kernel"),
                });
            }
        }
        self.send_part(socket, dont_fragment, datagrams, begin, datagrams.len())
    }

    fn send_part(
        &mut self,
        socket: usize,
        dont_fragment: bool,
        datagrams: &[Datagram<'_>],
        begin: usize,
        end: usize,
    ) -> Result<(), SendError> {
        let part = datagrams.get(begin..end).unwrap_or(&[]);
        if part.is_empty() {
            return Ok(());
        }
        self.send_by_socket(socket, dont_fragment, part)
            .map_err(|error| SendError {
                sent: begin + error.sent,
                ..error
            })
    }

    /// Asks how long packets may be that leave by each device. One of a context that we have no socket in carries none.
    pub(crate) fn look_at_mtus(&mut self) {
        for device in self.xdp.devices.iter_mut().flatten() {
            let is_there = |socket: &Option<Socket>| {
                socket.is_some_and(|socket| {
                    socket.context == device.context && socket.encapsulation == Encapsulation::Udp
                })
            };
            let place = self.xdp.sockets.iter().position(is_there);
            let socket = place.and_then(|place| self.sockets.get(place)?.as_ref());
            let mtu = socket.and_then(|(socket, _)| interface::mtu_beside(socket, &device.name).ok());
            device.mtu = mtu.map_or(0, |mtu| mtu as usize);
        }
    }
}

//! The sockets of the channels: opened by `sit` in the namespace of each context, read by a small helper each.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use task::Sit;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::channel::Datagram;
use crate::settings::{ChannelKey, GroupKey};

/// A datagram that came in.
#[derive(Debug)]
pub struct Received {
    /// The channel.
    pub channel: ChannelKey,
    /// To which of its source ports.
    pub port: u16,
    /// From whom.
    pub from: SocketAddr,
    /// What.
    pub bytes: Vec<u8>,
}

/// What a channel needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The channel.
    pub channel: ChannelKey,
    /// Source address, if one is configured.
    pub source: Option<IpAddr>,
    /// Its servers are reached by IPv6.
    pub ipv6: bool,
    /// How many source ports.
    pub ports: u16,
}

/// All sockets.
pub struct Sockets {
    sit: Sit,
    received: mpsc::Sender<Received>,
    open: HashMap<(ChannelKey, bool), Ports>,
    numbers: HashMap<(ChannelKey, bool), u32>,
}

struct Ports {
    source: Option<IpAddr>,
    sockets: Vec<Port>,
}

/// A socket with its reader, which ends with it.
struct Port(Arc<UdpSocket>, AbortHandle);

impl Drop for Port {
    fn drop(&mut self) {
        self.1.abort();
    }
}

impl Sockets {
    /// No sockets. What comes in on those to come goes to `received`.
    pub fn new(sit: Sit, received: mpsc::Sender<Received>) -> Self {
        Self {
            sit,
            received,
            open: HashMap::new(),
            numbers: HashMap::new(),
        }
    }

    /// Opens what is wanted and forgets the rest. Returns the channels that could not be served.
    pub async fn adjust(&mut self, wanted: &[Wanted]) -> Vec<(ChannelKey, String)> {
        self.open.retain(|(channel, ipv6), ports| {
            wanted
                .iter()
                .any(|want| want.channel == *channel && want.ipv6 == *ipv6 && want.source == ports.source)
        });
        let mut failures = Vec::new();
        for want in wanted {
            if let Err(reason) = self.open(want).await {
                failures.push((want.channel.clone(), reason));
            }
        }
        failures
    }

    /// Sends a datagram. One that cannot be sent now is lost, as any datagram may be: the request is repeated.
    pub fn send(&self, datagram: &Datagram) {
        let ports = self
            .open
            .get(&(datagram.channel.clone(), datagram.server.is_ipv6()));
        let Some(Port(socket, _)) = ports.and_then(|ports| ports.sockets.get(usize::from(datagram.port)))
        else {
            return tracing::debug!("no socket towards {}", datagram.server);
        };
        if let Err(error) = socket.try_send_to(&datagram.bytes, datagram.server) {
            tracing::debug!("{}: {error}", datagram.server);
        }
    }

    /// Our address towards a server: what the routes of the context choose.
    pub async fn address_towards(&mut self, group: &GroupKey, server: SocketAddr) -> Option<IpAddr> {
        let probe = (
            ChannelKey {
                group: group.clone(),
                accounting: false,
            },
            server.is_ipv6(),
        );
        let number = PROBE + self.number(probe);
        let any = unspecified(server.is_ipv6());
        let descriptor = self
            .sit
            .open_udp(&group.context, Some(any), 0, number)
            .await
            .ok()?;
        let socket = StdSocket::from(descriptor);
        socket.connect(server).ok()?;
        socket
            .local_addr()
            .ok()
            .map(|address| address.ip())
            .filter(|address| !address.is_unspecified())
    }

    async fn open(&mut self, want: &Wanted) -> Result<(), String> {
        let key = (want.channel.clone(), want.ipv6);
        let number = self.number(key.clone());
        let context = want.channel.group.context.clone();
        let source = want.source.unwrap_or_else(|| unspecified(want.ipv6));
        let present = self.open.get(&key).map_or(0, |ports| ports.sockets.len());
        for port in present..usize::from(want.ports) {
            let number = number + port as u32;
            let descriptor = self.sit.open_udp(&context, Some(source), 0, number).await;
            let descriptor = descriptor.map_err(|error| error.to_string())?;
            let socket = self
                .read(descriptor, want.channel.clone(), port as u16)
                .map_err(|error| error.to_string())?;
            let ports = self.open.entry(key.clone()).or_insert(Ports {
                source: want.source,
                sockets: Vec::new(),
            });
            ports.sockets.push(socket);
        }
        Ok(())
    }

    fn read(&self, descriptor: OwnedFd, channel: ChannelKey, port: u16) -> io::Result<Port> {
        let socket = StdSocket::from(descriptor);
        socket.set_nonblocking(true)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let (reader, received) = (socket.clone(), self.received.clone());
        let task = tokio::spawn(async move {
            let mut buffer = vec![0; radius::packet::MAX_PACKET];
            loop {
                match reader.recv_from(&mut buffer).await {
                    Ok((length, from)) => {
                        let bytes = buffer.get(..length).unwrap_or_default().to_vec();
                        let received = received.send(Received {
                            channel: channel.clone(),
                            port,
                            from,
                            bytes,
                        });
                        if received.await.is_err() {
                            return;
                        }
                    }
                    // An ICMP error of an earlier datagram; the timeout of the request deals with it.
                    Err(error) => tracing::debug!("{error}"),
                }
            }
        });
        Ok(Port(socket, task.abort_handle()))
    }

    /// The first of the numbers by which `sit` tells our sockets apart. A channel keeps its numbers.
    fn number(&mut self, key: (ChannelKey, bool)) -> u32 {
        let next = self.numbers.len() as u32 * NUMBERS;
        *self.numbers.entry(key).or_insert(next)
    }
}

fn unspecified(ipv6: bool) -> IpAddr {
    if ipv6 {
        Ipv6Addr::UNSPECIFIED.into()
    } else {
        Ipv4Addr::UNSPECIFIED.into()
    }
}

/// Numbers set aside for each channel: more than it has ports.
const NUMBERS: u32 = 32;
/// Numbers of sockets that only find out our address.
const PROBE: u32 = 1 << 20;

//! UDP and protocol-50 sockets of the encrypted side.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::steering::Program;
use crate::{Error, sys};

/// IP protocol number of ESP (RFC 4303 2).
const ESP: libc::c_int = 50;

/// How a socket of the encrypted side is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOptions {
    /// Kernel memory for what waits to be read, in bytes. Without privilege it is cut to net.core.rmem_max.
    pub receive_buffer: usize,
    /// Kernel memory for what waits to be sent, in bytes; likewise.
    pub send_buffer: usize,
    /// Bind also to an address that no interface has (yet).
    pub freebind: bool,
    /// Let the kernel coalesce equal datagrams of one peer into one read (UDP_GRO); UDP only.
    pub gro: bool,
    /// Report our own address with every datagram (for sockets bound to the unspecified address).
    pub packet_info: bool,
    /// Firewall mark of what is sent, by which rules may choose a routing table (SO_MARK); 0 is none. Needs CAP_NET_ADMIN.
    pub mark: u32,
}

impl Default for SocketOptions {
    /// 8 MiB buffers, freebind, no GRO, no packet info, no mark.
    fn default() -> Self {
        Self {
            receive_buffer: 8 << 20,
            send_buffer: 8 << 20,
            freebind: true,
            gro: false,
            packet_info: false,
            mark: 0,
        }
    }
}

/// One non-blocking datagram socket: UDP, or raw protocol 50. Read and written with [`crate::ReceiveBatch`] and [`crate::SendBatch`].
#[derive(Debug)]
pub struct DatagramSocket {
    fd: OwnedFd,
    local: SocketAddr,
    /// Its interface segments (UDP GSO), as far as is known.
    segments: AtomicBool,
}

impl DatagramSocket {
    /// Binds a UDP socket of its own.
    pub fn bind_udp(address: SocketAddr, options: SocketOptions) -> Result<Self, Error> {
        open_udp(address, options, false).and_then(Self::adopt)
    }

    /// Opens a raw socket for ESP to and from one local address (the port is ignored). Needs CAP_NET_RAW.
    ///
    /// IPv4 packets are read with their IP header ([`crate::split_ipv4_header`]), IPv6 ones without; the kernel adds the header to what is sent.
    pub fn bind_esp(mut address: SocketAddr, options: SocketOptions) -> Result<Self, Error> {
        address.set_port(0);
        open_raw(address, ESP, options)
            .map_err(|e| match e.raw_os_error() {
                Some(libc::EPERM) => Error::Unavailable {
                    what: format!("ESP (protocol 50) at {}", address.ip()),
                    remedy: "give the node CAP_NET_RAW, or let peers use UDP encapsulation",
                },
                _ => Error::system(format!("open a socket for ESP at {}", address.ip()), e),
            })
            .and_then(Self::adopt)
    }

    /// Opens a raw socket that hears routers say that an ESP packet from one local address, in UDP or not, was too long (the port is ignored).
    /// Needs CAP_NET_RAW. IPv4 messages are read with their IP header and with any checksum, ICMPv6 ones without header and verified.
    pub fn bind_too_big(mut address: SocketAddr, options: SocketOptions) -> Result<Self, Error> {
        address.set_port(0);
        let protocol = if address.is_ipv4() {
            libc::IPPROTO_ICMP
        } else {
            libc::IPPROTO_ICMPV6
        };
        let socket = open_raw(address, protocol, options)
            .map_err(|e| Error::system(format!("open a socket for ICMP at {}", address.ip()), e))
            .and_then(Self::adopt)?;
        socket.attach_filter(&Program::too_big(address.is_ipv4()))?;
        Ok(socket)
    }

    /// Takes over a socket that another process opened and bound.
    pub fn adopt(fd: OwnedFd) -> Result<Self, Error> {
        let local = sys::local_address(&fd).map_err(|e| Error::system("ask for a socket's address", e))?;
        Ok(Self {
            fd,
            local,
            segments: AtomicBool::new(true),
        })
    }

    /// Our address and port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Sets DF on everything sent from now on and lets nothing be fragmented: the path MTU is this program's business (RFC 4301 8.2). Or clears
    /// it and fragments what is longer than the interface's MTU over IPv4, where routers go on with that; over IPv6, where they do not, what is longer
    /// than the path MTU that the kernel has learned, which is never below 1280.
    pub fn set_dont_fragment(&self, dont: bool) -> Result<(), Error> {
        let (level, name, value) = match (self.local, dont) {
            (SocketAddr::V4(_), true) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
            (SocketAddr::V4(_), false) => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_OMIT),
            (SocketAddr::V6(_), true) => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_PROBE,
            ),
            (SocketAddr::V6(_), false) => (
                libc::IPPROTO_IPV6,
                libc::IPV6_MTU_DISCOVER,
                libc::IPV6_PMTUDISC_DONT,
            ),
        };
        sys::set_option(&self.fd, level, name, value)
            .map_err(|e| Error::system("set the DF policy of a socket", e))
    }

    /// Whether segmentation may be left to the kernel: true until it refused.
    pub(crate) fn segments(&self) -> bool {
        self.segments.load(Ordering::Relaxed)
    }

    /// Notes that the interface never segments.
    pub(crate) fn give_up_segmentation(&self) {
        self.segments.store(false, Ordering::Relaxed);
    }

    /// Drops in the kernel what the program does not accept.
    pub fn attach_filter(&self, program: &Program) -> Result<(), Error> {
        program.attach(&self.fd, libc::SO_ATTACH_FILTER)
    }

    /// Forbids whoever holds this socket to change its program (SO_LOCK_FILTER).
    pub fn lock_filter(&self) -> Result<(), Error> {
        lock_filter(&self.fd)
    }

    /// The kernel memory really granted for receiving, in bytes.
    pub fn receive_buffer(&self) -> Result<usize, Error> {
        // The kernel doubles what was asked for, for its own bookkeeping (socket(7)).
        sys::int_option(&self.fd, libc::SOL_SOCKET, libc::SO_RCVBUF)
            .map(|bytes| usize::try_from(bytes).unwrap_or(0) / 2)
            .map_err(|e| Error::system("ask for a socket's buffer size", e))
    }

    /// How much of the memory for what waits to be read is in use, in percent, at most 100.
    pub fn backlog(&self) -> Result<u32, Error> {
        let (waiting, limit) =
            sys::receive_memory(&self.fd).map_err(|e| Error::system("ask what waits in a socket", e))?;
        let percent = u64::from(waiting) * 100 / u64::from(limit.max(1));
        Ok(u32::try_from(percent).unwrap_or(u32::MAX).min(100))
    }
}

impl AsFd for DatagramSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for DatagramSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl From<DatagramSocket> for OwnedFd {
    fn from(socket: DatagramSocket) -> Self {
        socket.fd
    }
}

/// The sockets of one local address and port, among which a [`Program`] chooses. `sit` holds it; it never shrinks, for closing a member would renumber the
/// others.
#[derive(Debug)]
pub struct UdpGroup {
    address: SocketAddr,
    members: Vec<OwnedFd>,
    /// The last member, which no program ever selects. It alone may swap programs.
    control: OwnedFd,
}

impl UdpGroup {
    /// Opens `members` sockets and the control socket on one address, steers them by `program` (which gives indices below `members`), and locks the
    /// members against changes.
    pub fn open(
        address: SocketAddr,
        members: usize,
        options: SocketOptions,
        program: &Program,
    ) -> Result<Self, Error> {
        let mut address = address;
        let mut sockets = Vec::with_capacity(members);
        for _ in 0..=members {
            let socket = open_udp(address, options, true)?;
            // Port 0 (tests): the first member chooses, the others follow.
            address =
                sys::local_address(&socket).map_err(|e| Error::system("ask for a socket's address", e))?;
            sockets.push(socket);
        }
        let Some(control) = sockets.pop() else {
            return Err(Error::Invalid {
                what: "members",
                expected: "at least one",
            });
        };
        let group = Self {
            address,
            members: sockets,
            control,
        };
        group.steer(program)?;
        group.members.iter().try_for_each(lock_filter)?;
        Ok(group)
    }

    /// Takes over the sockets of a group that another program opened: its members by index, and its control socket.
    pub fn adopt(address: SocketAddr, members: Vec<OwnedFd>, control: OwnedFd) -> Self {
        Self {
            address,
            members,
            control,
        }
    }

    /// Their address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The socket that alone may swap programs.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The members, by index.
    pub fn members(&self) -> &[OwnedFd] {
        &self.members
    }

    /// Swaps the program. Takes effect for the next packet.
    pub fn steer(&self, program: &Program) -> Result<(), Error> {
        program.attach(&self.control, libc::SO_ATTACH_REUSEPORT_CBPF)
    }
}

fn open_raw(address: SocketAddr, protocol: libc::c_int, options: SocketOptions) -> io::Result<OwnedFd> {
    let fd = sys::socket(sys::family(address), libc::SOCK_RAW, protocol)?;
    prepare(&fd, address, options)?;
    sys::bind(&fd, address)?;
    Ok(fd)
}

fn open_udp(address: SocketAddr, options: SocketOptions, reuse_port: bool) -> Result<OwnedFd, Error> {
    let open = || -> io::Result<OwnedFd> {
        let fd = sys::socket(sys::family(address), libc::SOCK_DGRAM, 0)?;
        prepare(&fd, address, options)?;
        if reuse_port {
            sys::set_option(&fd, libc::SOL_SOCKET, libc::SO_REUSEPORT, 1)?;
        }
        if address.is_ipv6() {
            sys::set_option(&fd, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 1)?;
            // RFC 3948 2.1 lets peers send ESP in UDP with a zero checksum; ESP protects itself.
            sys::set_option(&fd, libc::IPPROTO_UDP, libc::UDP_NO_CHECK6_RX, 1)?;
        }
        if options.gro {
            // Absent before Linux 5.0: every datagram comes alone then.
            let _ = sys::set_option(&fd, libc::IPPROTO_UDP, libc::UDP_GRO, 1);
        }
        sys::bind(&fd, address)?;
        Ok(fd)
    };
    open().map_err(|e| match e.raw_os_error() {
        Some(libc::EACCES) => Error::Unavailable {
            what: format!("UDP port {}", address.port()),
            remedy: "give the node CAP_NET_BIND_SERVICE, or run it as root",
        },
        _ => Error::system(format!("bind UDP {address}"), e),
    })
}

/// What UDP and raw sockets have in common, before bind.
fn prepare(fd: &OwnedFd, address: SocketAddr, options: SocketOptions) -> io::Result<()> {
    set_buffer(fd, libc::SO_RCVBUFFORCE, libc::SO_RCVBUF, options.receive_buffer)?;
    set_buffer(fd, libc::SO_SNDBUFFORCE, libc::SO_SNDBUF, options.send_buffer)?;
    if options.mark != 0 {
        sys::set_option(fd, libc::SOL_SOCKET, libc::SO_MARK, options.mark.cast_signed())?;
    }
    if address.is_ipv4() {
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_FREEBIND, options.freebind.into())?;
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_RECVTOS, 1)?;
        sys::set_option(fd, libc::IPPROTO_IP, libc::IP_PKTINFO, options.packet_info.into())?;
        sys::set_option(
            fd,
            libc::IPPROTO_IP,
            libc::IP_MTU_DISCOVER,
            libc::IP_PMTUDISC_OMIT,
        )
    } else {
        sys::set_option(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_FREEBIND,
            options.freebind.into(),
        )?;
        sys::set_option(fd, libc::IPPROTO_IPV6, libc::IPV6_RECVTCLASS, 1)?;
        sys::set_option(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_RECVPKTINFO,
            options.packet_info.into(),
        )?;
        sys::set_option(
            fd,
            libc::IPPROTO_IPV6,
            libc::IPV6_MTU_DISCOVER,
            libc::IPV6_PMTUDISC_DONT,
        )
    }
}

/// Sets a buffer size beyond the system's limit if we may, within it otherwise.
fn set_buffer(fd: &OwnedFd, force: libc::c_int, plain: libc::c_int, bytes: usize) -> io::Result<()> {
    let bytes = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    sys::set_option(fd, libc::SOL_SOCKET, force, bytes)
        .or_else(|_| sys::set_option(fd, libc::SOL_SOCKET, plain, bytes))
}

fn lock_filter(fd: &OwnedFd) -> Result<(), Error> {
    sys::set_option(fd, libc::SOL_SOCKET, libc::SO_LOCK_FILTER, 1)
        .map_err(|e| Error::system("lock a socket's program", e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_fills_a_socket() {
        let options = SocketOptions {
            receive_buffer: 64 * 1024,
            ..SocketOptions::default()
        };
        let socket = || DatagramSocket::bind_udp(SocketAddr::from(([127, 0, 0, 1], 0)), options).unwrap();
        let (sender, receiver) = (socket(), socket());
        assert_eq!(receiver.backlog().unwrap(), 0);
        let sender = std::net::UdpSocket::from(OwnedFd::from(sender));
        for _ in 0..1_000 {
            sender.send_to(&[0; 1_000], receiver.local()).unwrap();
        }
        assert!((80..=100).contains(&receiver.backlog().unwrap()));
    }
}

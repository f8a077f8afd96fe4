//! The few things about an interface that need no netlink library: up, MTU, queue length, index, namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, recv, send, socket};

use crate::{Error, Namespace};

/// if_link.h: the namespace an interface is to be in, by descriptor. (libc has no name for it.)
const IFLA_NET_NS_FD: u16 = 28;

/// Sets an interface of the calling thread's namespace up.
pub fn set_up(name: &str) -> Result<(), Error> {
    let action = || format!("set interface {name} up");
    let mut request = request(name)?;
    control(libc::SIOCGIFFLAGS, &mut request).map_err(|e| Error::system(action(), e))?;
    // SAFETY: SIOCGIFFLAGS filled in the flags member.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    control(libc::SIOCSIFFLAGS, &mut request).map_err(|e| Error::system(action(), e))
}

/// Sets the MTU of an interface of the calling thread's namespace, in bytes.
pub fn set_mtu(name: &str, mtu: u16) -> Result<(), Error> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_mtu = mtu.into();
    control(libc::SIOCSIFMTU, &mut request)
        .map_err(|e| Error::system(format!("set the MTU of interface {name} to {mtu}"), e))
}

/// The MTU of an interface of the namespace that a UDP socket is in, in bytes.
pub fn mtu_beside(socket: impl AsFd, name: &str) -> Result<u32, Error> {
    let mut request = request(name)?;
    control_by(socket, libc::SIOCGIFMTU, &mut request)
        .map_err(|e| Error::system(format!("ask for the MTU of interface {name}"), e))?;
    // SAFETY: SIOCGIFMTU filled in the MTU member.
    let mtu = unsafe { request.ifr_ifru.ifru_mtu };
    Ok(u32::try_from(mtu).unwrap_or(0))
}

/// Sets the length of an interface's transmit queue, in packets.
pub fn set_queue_length(name: &str, packets: u16) -> Result<(), Error> {
    let index = index(name)?;
    // By netlink, because the ioctl wants privilege outside the user namespace as well.
    set_link_attribute(index, libc::IFLA_TXQLEN, packets.into())
        .map_err(|e| Error::system(format!("set the queue length of interface {name}"), e))
}

/// Moves an interface from the calling thread's namespace into another. The kernel switches it off and takes its addresses away; it keeps its name.
///
/// Fails when the other namespace has an interface of that name, and for those that the kernel keeps where they are (loopback).
pub fn move_to(name: &str, namespace: &Namespace) -> Result<(), Error> {
    let index = index(name)?;
    let target = namespace.as_raw_fd().cast_unsigned();
    set_link_attribute(index, IFLA_NET_NS_FD, target)
        .map_err(|e| Error::system(format!("move interface {name} to another namespace"), e))
}

/// The speed of an interface of the calling thread's namespace, in Mbit/s; `None` when it knows of none (no link, or no such thing).
pub fn speed(name: &str) -> Result<Option<u32>, Error> {
    let mut command = EthtoolCommand {
        command: ETHTOOL_GSET,
        rest: [0; 10],
    };
    let mut request = request(name)?;
    request.ifr_ifru.ifru_data = std::ptr::from_mut(&mut command).cast();
    match control(SIOCETHTOOL, &mut request) {
        Ok(()) => {
            let speed = command.speed();
            Ok((speed != 0 && speed != SPEED_UNKNOWN).then_some(speed))
        }
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(None),
        Err(error) => Err(Error::system(
            format!("ask for the speed of interface {name}"),
            error,
        )),
    }
}

/// linux/sockios.h.
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// linux/ethtool.h.
const ETHTOOL_GSET: u32 = 1;
/// linux/ethtool.h: -1.
const SPEED_UNKNOWN: u32 = u32::MAX;

/// struct ethtool_cmd of linux/ethtool.h: its command, then 40 bytes.
#[repr(C)]
struct EthtoolCommand {
    command: u32,
    rest: [u32; 10],
}

impl EthtoolCommand {
    /// Mbit/s: `speed` begins the fourth word of the structure, `speed_hi` the eighth.
    fn speed(&self) -> u32 {
        let bytes = |word: usize| self.rest.get(word).copied().unwrap_or(0).to_ne_bytes();
        let ([a, b, ..], [c, d, ..]) = (bytes(2), bytes(6));
        u32::from(u16::from_ne_bytes([c, d])) << 16 | u32::from(u16::from_ne_bytes([a, b]))
    }
}

/// The names of the interfaces of the calling thread's namespace.
pub fn names() -> Result<Vec<String>, Error> {
    let all = nix::net::if_::if_nameindex().map_err(|e| Error::system("list the interfaces", e))?;
    let name = |interface: &nix::net::if_::Interface| interface.name().to_str().ok().map(str::to_owned);
    Ok(all.iter().filter_map(name).collect())
}

/// The number of an interface of the calling thread's namespace.
pub fn index(name: &str) -> Result<u32, Error> {
    nix::net::if_::if_nametoindex(name).map_err(|e| Error::system(format!("find interface {name}"), e))
}

/// An `ifreq` for this interface, otherwise zero.
pub(crate) fn request(name: &str) -> Result<libc::ifreq, Error> {
    if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '/']) {
        return Err(Error::Invalid {
            what: "interface name",
            expected: "1 to 15 characters without /",
        });
    }
    // SAFETY: a C structure of integers and unions of integers, for which zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn control(code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // Interfaces are the same whatever the family; this one every process may have.
    let any = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    control_by(any, code, request)
}

fn control_by(socket: impl AsFd, code: libc::Ioctl, request: &mut libc::ifreq) -> io::Result<()> {
    // SAFETY: all codes used here take an `ifreq`, which lives through the call, as does what it points to.
    let result = unsafe { libc::ioctl(socket.as_fd().as_raw_fd(), code, std::ptr::from_mut(request)) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Sets one number of a link (rtnetlink(7), RTM_SETLINK) and waits for the answer.
fn set_link_attribute(index: u32, attribute: u16, value: u32) -> io::Result<()> {
    const MESSAGE_BYTES: u32 = 40;
    const ATTRIBUTE_BYTES: u16 = 8;
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_ACK) as u16;
    let mut message = Vec::with_capacity(MESSAGE_BYTES as usize);
    // struct nlmsghdr: length, type, flags, sequence number, port.
    message.extend(MESSAGE_BYTES.to_ne_bytes());
    message.extend(libc::RTM_SETLINK.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend([0; 8]);
    // struct ifinfomsg: family and type any, index, no flags changed.
    message.extend([0; 4]);
    message.extend(index.to_ne_bytes());
    message.extend([0; 8]);
    // struct rtattr: length, type, value.
    message.extend(ATTRIBUTE_BYTES.to_ne_bytes());
    message.extend(attribute.to_ne_bytes());
    message.extend(value.to_ne_bytes());
    let netlink = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    send(netlink.as_raw_fd(), &message, MsgFlags::empty())?;
    let mut answer = [0; 256];
    let length = recv(netlink.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    // struct nlmsgerr behind the header: 0, or the negative error code.
    let code = answer
        .get(..length)
        .and_then(|answer| answer.get(16..))
        .and_then(|rest| rest.first_chunk());
    match code.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.saturating_neg())),
        None => Err(io::Error::from(io::ErrorKind::InvalidData)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test::is_root;

    #[test]
    fn bad_names_are_refused_and_missing_interfaces_named() {
        assert!(matches!(set_up(""), Err(Error::Invalid { .. })));
        assert!(matches!(set_up("sixteen-letters!"), Err(Error::Invalid { .. })));
        let error = set_mtu("swn-none", 1400).unwrap_err();
        assert!(error.to_string().contains("swn-none"), "{error}");
        assert!(index("lo").unwrap() >= 1);
        assert!(names().unwrap().contains(&"lo".to_owned()));
        assert_eq!(speed("lo").unwrap(), None);
        assert!(speed("swn-none").is_err());
    }

    #[test]
    fn an_interface_moves_there_and_back() {
        if !is_root() {
            return;
        }
        let (here, there) = (Namespace::create().unwrap(), Namespace::create().unwrap());
        let _tun = here
            .run(|| crate::Tun::create("swn-moves", 1, 1400))
            .unwrap()
            .unwrap();
        here.run(|| move_to("swn-moves", &there)).unwrap().unwrap();
        let gone = here.run(|| move_to("swn-moves", &there)).unwrap().unwrap_err();
        assert_eq!(gone.raw_os_error(), Some(libc::ENODEV));
        assert_eq!(there.run(names).unwrap().unwrap(), ["lo", "swn-moves"]);
        let socket = there
            .run(|| std::net::UdpSocket::bind("127.0.0.1:0").unwrap())
            .unwrap();
        assert_eq!(mtu_beside(&socket, "swn-moves").unwrap(), 1400);
        assert!(mtu_beside(&socket, "swn-none").is_err());
        // Kernels have different ideas of the speed of a TUN, but all have one.
        assert!(there.run(|| speed("swn-moves")).unwrap().unwrap().is_some());
        there.run(|| move_to("swn-moves", &here)).unwrap().unwrap();
        assert_eq!(here.run(names).unwrap().unwrap(), ["lo", "swn-moves"]);
        let kept = here.run(|| move_to("lo", &there)).unwrap().unwrap_err();
        assert_eq!(
            kept.to_string(),
            "cannot move interface lo to another namespace: Invalid argument (os error 22)"
        );
    }
}

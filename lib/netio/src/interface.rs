//! The few things about an interface that need no netlink: up, MTU, queue length, index.

use std::io;
use std::os::fd::AsRawFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

use crate::Error;

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

/// Sets the length of an interface's transmit queue, in packets.
pub fn set_queue_length(name: &str, packets: u16) -> Result<(), Error> {
    let mut request = request(name)?;
    request.ifr_ifru.ifru_metric = packets.into();
    control(libc::SIOCSIFTXQLEN, &mut request)
        .map_err(|e| Error::system(format!("set the queue length of interface {name}"), e))
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
    let any = socket(
        AddressFamily::Inet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    // SAFETY: all codes used here take an `ifreq`, which lives through the call.
    let result = unsafe { libc::ioctl(any.as_raw_fd(), code, std::ptr::from_mut(request)) };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bad_names_are_refused_and_missing_interfaces_named() {
        assert!(matches!(set_up(""), Err(Error::Invalid { .. })));
        assert!(matches!(set_up("sixteen-letters!"), Err(Error::Invalid { .. })));
        let error = set_mtu("swn-none", 1400).unwrap_err();
        assert!(error.to_string().contains("swn-none"), "{error}");
        assert!(index("lo").unwrap() >= 1);
    }
}

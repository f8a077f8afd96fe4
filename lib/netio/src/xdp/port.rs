//! What the process holds that brings AF_XDP to a device: plain descriptors and numbers, so that it can hand them on.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use super::XdpQueue;
use super::program::{KEY_BYTES, assemble};
use crate::bpf::ProgramKind;
use crate::{Error, bpf, interface};

/// Addresses of ours that the program knows at most: those beyond go by the kernel.
const MOST_ADDRESSES: u32 = 1024;

/// A device with our program, and a socket for each of its queues. All goes when this is dropped, but for sockets that others have.
#[derive(Debug)]
pub struct XdpPort {
    /// Number of the device in its namespace.
    pub device: u32,
    /// The driver runs the program; otherwise the stack does, for every packet after it was made one.
    pub native: bool,
    /// The program, on the device as long as this is open.
    pub link: OwnedFd,
    /// Our addresses, as the program knows them.
    pub addresses: OwnedFd,
    /// The same.
    pub taken: BTreeSet<IpAddr>,
    /// The number of the TUN, as the program knows it; `None` while the program is that of another version.
    pub tun: Option<OwnedFd>,
    /// By number, from 0 on.
    pub queues: Vec<XdpQueue>,
}

impl XdpPort {
    /// Attaches the program to a device of the calling thread's namespace and opens its queues, at most so many. Takes no packet before it is told
    /// [addresses](Self::set_addresses) or a [TUN](Self::set_tun). Needs CAP_BPF, CAP_NET_ADMIN and CAP_NET_RAW.
    ///
    /// # Errors
    /// The device is missing or used so already; the kernel or its driver cannot.
    pub fn open(name: &str, most_queues: u32) -> Result<Self, Error> {
        let device = interface::index(name)?;
        let addresses = bpf::create_address_map(MOST_ADDRESSES)?;
        let sockets = bpf::create_socket_map(most_queues)?;
        let tun = bpf::create_number()?;
        let program = bpf::load(ProgramKind::Xdp, &assemble(&addresses, &sockets, &tun))?;
        // A driver that knows of XDP may still be unable as things are: receive offloads, MTU, queues.
        let (link, native) = match bpf::attach(&program, device, true) {
            Ok(link) => (Ok(link), true),
            // Somebody else's program is there.
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => (Err(error), true),
            Err(_) => (bpf::attach(&program, device, false), false),
        };
        let link =
            link.map_err(|e| Error::system(format!("attach an XDP program to interface {name}"), e))?;
        let mut queues = Vec::new();
        for number in 0..most_queues {
            let Some(queue) = XdpQueue::open(device, number, native)? else {
                break;
            };
            redirect(&sockets, &queue)?;
            queues.push(queue);
        }
        Ok(Self {
            device,
            native,
            link,
            addresses,
            taken: BTreeSet::new(),
            tun: Some(tun),
            queues,
        })
    }

    /// ESP to exactly these addresses goes to the sockets from now on.
    pub fn set_addresses(&mut self, wanted: &BTreeSet<IpAddr>) -> Result<(), Error> {
        for address in self.taken.clone().difference(wanted) {
            bpf::remove(&self.addresses, &key(*address))
                .map_err(|e| Error::system(format!("give {address} back to the kernel"), e))?;
            self.taken.remove(address);
        }
        for address in wanted {
            if self.taken.contains(address) {
                continue;
            }
            bpf::set(&self.addresses, &key(*address), 1)
                .map_err(|e| Error::system(format!("take ESP to {address} by AF_XDP"), e))?;
            self.taken.insert(*address);
        }
        Ok(())
    }

    /// What the kernel would forward from the device to the TUN of this number in the same namespace goes to the sockets from now on; to none with `None`.
    pub fn set_tun(&mut self, number: Option<u32>) -> Result<(), Error> {
        let tun = match self.tun.take() {
            Some(tun) => tun,
            None => self.renew()?,
        };
        let set = bpf::set(&tun, &0_u32.to_ne_bytes(), number.unwrap_or(0));
        self.tun = Some(tun);
        set.map_err(|e| Error::system("take by AF_XDP what goes into tunnels", e))
    }

    /// Puts the program of this version in the place of another's; returns its map for the number of the TUN.
    fn renew(&self) -> Result<OwnedFd, Error> {
        let tun = bpf::create_number()?;
        let sockets = bpf::create_socket_map(u32::try_from(self.queues.len()).unwrap_or(u32::MAX))?;
        for queue in &self.queues {
            redirect(&sockets, queue)?;
        }
        let program = bpf::load(ProgramKind::Xdp, &assemble(&self.addresses, &sockets, &tun))?;
        bpf::replace(&self.link, &program)
            .map_err(|e| Error::system(format!("replace the XDP program of device {}", self.device), e))?;
        Ok(tun)
    }

    /// Whether the device is gone, or in another namespace.
    pub fn is_gone(&self) -> bool {
        self.queues.first().is_none_or(XdpQueue::is_gone)
    }
}

/// What the program takes from a queue goes to the queue's socket.
fn redirect(sockets: &OwnedFd, queue: &XdpQueue) -> Result<(), Error> {
    let socket = queue.socket.as_raw_fd().cast_unsigned();
    bpf::set(sockets, &queue.number.to_ne_bytes(), socket)
        .map_err(|e| Error::system(format!("redirect queue {} of a device", queue.number), e))
}

/// IPv4 addresses as IPv6 ones (RFC 4291 2.5.5.2).
fn key(address: IpAddr) -> [u8; KEY_BYTES] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

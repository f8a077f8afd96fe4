//! One queue of a device: its socket, and the memory of its frames.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::memfd::{MFdFlags, memfd_create};

use super::ring::Kind;
use super::{FRAME_BYTES, FRAMES, MEMORY_BYTES};
use crate::Error;
use crate::memory::Mapping;

/// What the kernel may take off the transmit ring in one call, if it can be told (linux/if_xdp.h, since 6.17); 32 otherwise.
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;
const TX_BUDGET: u32 = 512;

/// Both descriptors of a queue. They may be handed to another process, which asks them again when it is a new one.
#[derive(Debug)]
pub struct XdpQueue {
    /// Its number at the device.
    pub number: u32,
    /// The AF_XDP socket, bound to it.
    pub socket: OwnedFd,
    /// Frames and what is known of them.
    pub memory: OwnedFd,
}

impl XdpQueue {
    /// Opens a queue of a device, with rings and no frame given yet. `None` when the device has no queue of this number.
    pub(super) fn open(device: u32, number: u32, native: bool) -> Result<Option<Self>, Error> {
        let memory = memfd_create(c"xdp-frames", MFdFlags::MFD_CLOEXEC)
            .map_err(|e| Error::system("make memory for AF_XDP", e))?;
        nix::unistd::ftruncate(&memory, MEMORY_BYTES as libc::off_t)
            .map_err(|e| Error::system("make memory for AF_XDP", e))?;
        let socket = socket()?;
        // The kernel keeps the pages; where we see them meanwhile is of no interest later.
        let mapping = Mapping::new(&memory, 0, MEMORY_BYTES)?;
        let region = libc::xdp_umem_reg {
            addr: mapping.address(),
            len: (FRAMES * FRAME_BYTES) as u64,
            chunk_size: FRAME_BYTES as u32,
            headroom: 0,
            flags: 0,
            tx_metadata_len: 0,
        };
        set(&socket, libc::XDP_UMEM_REG, &region)
            .map_err(|e| Error::system("give memory to an AF_XDP socket", e))?;
        for kind in Kind::ALL {
            set(&socket, kind.option(), &kind.size())
                .map_err(|e| Error::system("make a ring of an AF_XDP socket", e))?;
        }
        match bind(&socket, device, number, native) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) && number > 0 => return Ok(None),
            Err(error) => {
                let action = format!("bind an AF_XDP socket to queue {number} of interface {device}");
                return Err(Error::system(action, error));
            }
        }
        // Older kernels do without.
        let _ = set(&socket, XDP_MAX_TX_SKB_BUDGET, &TX_BUDGET);
        Ok(Some(Self {
            number,
            socket,
            memory,
        }))
    }

    /// Whether the device is gone, or in another namespace: the socket will never see a packet again.
    pub fn is_gone(&self) -> bool {
        is_gone(self.socket.as_fd())
    }
}

/// As [`XdpQueue::is_gone`].
pub(super) fn is_gone(socket: BorrowedFd<'_>) -> bool {
    kick(socket).is_err_and(|error| error.raw_os_error() == Some(libc::ENXIO))
}

/// Has the kernel look at the transmit ring.
pub(super) fn kick(socket: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: nothing is read from or written to memory of ours.
    let result = unsafe {
        libc::sendto(
            socket.as_raw_fd(),
            std::ptr::null(),
            0,
            libc::MSG_DONTWAIT,
            std::ptr::null(),
            0,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn socket() -> Result<OwnedFd, Error> {
    // SAFETY: takes numbers only.
    let fd = unsafe {
        libc::socket(
            libc::AF_XDP,
            libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK,
            0,
        )
    };
    if fd < 0 {
        let error = io::Error::last_os_error();
        return Err(match error.raw_os_error() {
            Some(libc::EPERM | libc::EAFNOSUPPORT) => crate::bpf::not_allowed(),
            _ => Error::system("open an AF_XDP socket", error),
        });
    }
    // SAFETY: the kernel has just given it to us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn bind(socket: &OwnedFd, device: u32, queue: u32, native: bool) -> io::Result<()> {
    // Only a driver can do without copying.
    let copying = if native { 0 } else { libc::XDP_COPY };
    let address = libc::sockaddr_xdp {
        sxdp_family: libc::AF_XDP as u16,
        sxdp_flags: libc::XDP_USE_NEED_WAKEUP | copying,
        sxdp_ifindex: device,
        sxdp_queue_id: queue,
        sxdp_shared_umem_fd: 0,
    };
    // SAFETY: pointer and length describe `address`, which lives through the call.
    let result = unsafe {
        libc::bind(
            socket.as_raw_fd(),
            std::ptr::from_ref(&address).cast(),
            size_of_val(&address) as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// setsockopt(2) of an AF_XDP socket.
fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: pointer and length describe `value`, which lives through the call, as does the memory that a region names.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

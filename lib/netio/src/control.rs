//! Control sockets: private `SOCK_SEQPACKET` pairs that carry messages with descriptors.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use nix::cmsg_space;
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixCredentials,
    getsockopt, recvmsg, sendmsg, socketpair, sockopt,
};

use crate::Error;

/// One end of a private pair. Messages keep their boundaries and order; each may carry descriptors (SCM_RIGHTS).
///
/// Blocking unless [`set_nonblocking`](Self::set_nonblocking) was called; then `WouldBlock` is returned, and tokio's `AsyncFd` can drive it.
#[derive(Debug)]
pub struct ControlSocket {
    socket: OwnedFd,
}

/// What [`ControlSocket::receive`] got.
#[derive(Debug)]
pub struct ControlMessageIn {
    /// The message's length in the buffer given.
    pub length: usize,
    /// The descriptors that came with it, close-on-exec.
    pub fds: Vec<OwnedFd>,
}

impl ControlSocket {
    /// The number of the descriptor on which a child finds its control socket.
    pub const CHILD_FD: RawFd = 3;
    /// The longest message: what a pair carries under any kernel's default buffer sizes.
    pub const MAX_MESSAGE: usize = 128 * 1024;
    /// The most descriptors in one message (below the kernel's SCM_MAX_FD of 253).
    pub const MAX_FDS: usize = 64;

    /// Makes a connected pair; both ends are close-on-exec and blocking.
    pub fn pair() -> Result<(Self, Self), Error> {
        let (left, right) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC,
        )
        .map_err(|e| Error::system("create a control socket pair", e))?;
        Ok((Self { socket: left }, Self { socket: right }))
    }

    /// The socket that a child was started with, on descriptor 3. Can be taken once in a process.
    pub fn inherited() -> Result<Self, Error> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let action = "take the control socket on descriptor 3 (was this process started by `starward run`?)";
        if TAKEN.swap(true, Ordering::AcqRel) {
            return Err(Error::system(action, io::Error::from_raw_os_error(libc::EBADF)));
        }
        // SAFETY: only looked at here. If nothing is open there, getsockopt says EBADF.
        let candidate = unsafe { BorrowedFd::borrow_raw(Self::CHILD_FD) };
        match getsockopt(&candidate, sockopt::SockType) {
            Ok(SockType::SeqPacket) => {}
            Ok(_) => {
                return Err(Error::system(
                    action,
                    io::Error::from_raw_os_error(libc::EPROTOTYPE),
                ));
            }
            Err(e) => return Err(Error::system(action, e)),
        }
        fcntl(candidate, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)).map_err(|e| Error::system(action, e))?;
        // SAFETY: the parent opened descriptor 3 for this very use, the check above found a socket of our kind there, and `TAKEN` makes
        // us its only owner.
        let socket = unsafe { OwnedFd::from_raw_fd(Self::CHILD_FD) };
        Ok(Self { socket })
    }

    /// Makes calls return `WouldBlock` instead of waiting (or wait again).
    pub fn set_nonblocking(&self, nonblocking: bool) -> Result<(), Error> {
        let failed = |e| Error::system("change the mode of a control socket", e);
        let flags = OFlag::from_bits_retain(fcntl(&self.socket, FcntlArg::F_GETFL).map_err(failed)?);
        let flags = if nonblocking {
            flags | OFlag::O_NONBLOCK
        } else {
            flags - OFlag::O_NONBLOCK
        };
        fcntl(&self.socket, FcntlArg::F_SETFL(flags)).map_err(failed)?;
        Ok(())
    }

    /// Sends one message of 1 to [`MAX_MESSAGE`](Self::MAX_MESSAGE) bytes with up to [`MAX_FDS`](Self::MAX_FDS) descriptors (which stay open here). `BrokenPipe` when
    /// the other end is gone.
    pub fn send(&self, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        if message.is_empty() || message.len() > Self::MAX_MESSAGE || fds.len() > Self::MAX_FDS {
            return Err(io::Error::from_raw_os_error(libc::EMSGSIZE));
        }
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        let parts = [IoSlice::new(message)];
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &parts,
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )?;
        Ok(())
    }

    /// Receives one message into `buffer` (use [`MAX_MESSAGE`](Self::MAX_MESSAGE) bytes). `None` when the other end is closed; `InvalidData` for a message that
    /// was cut off, which loses it and its descriptors but not the socket.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<ControlMessageIn>> {
        let mut control = cmsg_space!([RawFd; ControlSocket::MAX_FDS]);
        let mut parts = [IoSliceMut::new(buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC;
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut control), flags)?;
        let mut fds = Vec::new();
        for message in received.cmsgs()? {
            if let ControlMessageOwned::ScmRights(raw) = message {
                // SAFETY: the kernel has just opened these descriptors for us, and nobody else knows their numbers.
                fds.extend(raw.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        if received
            .flags
            .intersects(MsgFlags::MSG_TRUNC | MsgFlags::MSG_CTRUNC)
        {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "control message was cut off",
            ));
        }
        // Messages are never empty, so this is the end.
        Ok((received.bytes > 0).then_some(ControlMessageIn {
            length: received.bytes,
            fds,
        }))
    }

    /// Process, user and group of the other end, as they were when the pair was made.
    pub fn peer_credentials(&self) -> Result<UnixCredentials, Error> {
        getsockopt(&self.socket, sockopt::PeerCredentials)
            .map_err(|e| Error::system("ask who holds the other end", e))
    }
}

impl From<OwnedFd> for ControlSocket {
    fn from(socket: OwnedFd) -> Self {
        Self { socket }
    }
}

impl From<ControlSocket> for OwnedFd {
    fn from(socket: ControlSocket) -> Self {
        socket.socket
    }
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for ControlSocket {
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::io::{Read, Seek, Write};

    #[test]
    fn messages_keep_their_boundaries_and_descriptors_arrive() {
        let (left, right) = ControlSocket::pair().unwrap();
        let path = std::env::temp_dir().join(format!("swn-control-{}", std::process::id()));
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(&path)
            .unwrap();
        std::fs::remove_file(&path).unwrap();
        left.send(b"first", &[]).unwrap();
        left.send(b"second", &[file.as_fd(), left.as_fd()]).unwrap();
        let mut buffer = vec![0; ControlSocket::MAX_MESSAGE];
        let first = right.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..first.length], first.fds.len()), (&b"first"[..], 0));
        let mut second = right.receive(&mut buffer).unwrap().unwrap();
        assert_eq!((&buffer[..second.length], second.fds.len()), (&b"second"[..], 2));
        let mut received = File::from(second.fds.remove(0));
        assert_ne!(received.as_raw_fd(), file.as_raw_fd());
        received.write_all(b"through the other end").unwrap();
        let mut text = String::new();
        (&file).rewind().unwrap();
        (&file).read_to_string(&mut text).unwrap();
        assert_eq!(text, "through the other end");
        let flags = fcntl(&received, FcntlArg::F_GETFD).unwrap();
        assert_eq!(flags & FdFlag::FD_CLOEXEC.bits(), FdFlag::FD_CLOEXEC.bits());
    }

    #[test]
    fn the_longest_message_fits_and_a_cut_one_is_an_error() {
        let (left, right) = ControlSocket::pair().unwrap();
        let long = vec![7; ControlSocket::MAX_MESSAGE];
        let fds = vec![left.as_fd(); ControlSocket::MAX_FDS];
        left.send(&long, &fds).unwrap();
        left.send(b"too long for the buffer", &[]).unwrap();
        left.send(b"next", &[]).unwrap();
        assert_eq!(
            left.send(&vec![0; long.len() + 1], &[])
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EMSGSIZE)
        );
        assert_eq!(
            left.send(&[], &[]).unwrap_err().raw_os_error(),
            Some(libc::EMSGSIZE)
        );
        let mut buffer = vec![0; ControlSocket::MAX_MESSAGE];
        let message = right.receive(&mut buffer).unwrap().unwrap();
        assert_eq!(
            (message.length, message.fds.len()),
            (ControlSocket::MAX_MESSAGE, ControlSocket::MAX_FDS)
        );
        assert_eq!(
            right.receive(&mut [0; 4]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert_eq!(right.receive(&mut buffer).unwrap().unwrap().length, 4);
    }

    #[test]
    fn closing_one_end_is_seen_by_the_other() {
        let (left, right) = ControlSocket::pair().unwrap();
        right.set_nonblocking(true).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(
            right.receive(&mut buffer).unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
        assert_eq!(right.peer_credentials().unwrap().pid(), std::process::id() as i32);
        drop(left);
        assert!(right.receive(&mut buffer).unwrap().is_none());
        assert_eq!(
            right.send(b"x", &[]).unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }
}

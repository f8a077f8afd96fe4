//! The kernel tells when devices of our namespace come, go or change.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::unix::AsyncFd;

use crate::error::Error;

/// A socket that hears of every change of a device. What has changed is read elsewhere: messages may be lost, the kernel's state is not.
pub struct LinkWatch {
    socket: Socket,
    /// The same descriptor again.
    readiness: AsyncFd<OwnedFd>,
}

impl LinkWatch {
    /// Opens it in the network namespace of the caller, within a runtime.
    pub fn open() -> Result<Self, Error> {
        let failed = |action| move |source| Error::Netlink { action, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("open a socket"))?;
        socket
            .bind(&SocketAddr::new(0, LINK_GROUP))
            .map_err(failed("listen to devices"))?;
        socket
            .set_non_blocking(true)
            .map_err(failed("listen to devices"))?;
        let twin = socket.as_fd().try_clone_to_owned();
        let readiness = twin
            .and_then(task::async_fd)
            .map_err(failed("listen to devices"))?;
        Ok(Self { socket, readiness })
    }

    /// Waits until some device has changed. Loses nothing when it is given up.
    pub async fn changed(&self) {
        loop {
            let Ok(mut ready) = self.readiness.readable().await else {
                // The runtime ends, and this process with it.
                return std::future::pending().await;
            };
            let mut heard = false;
            for _ in 0..MOST_READS {
                match ready.try_io(|_| self.socket.recv(&mut Vec::with_capacity(RECEIVE), 0)) {
                    Ok(Ok(_)) => heard = true,
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    // More was lost than waited (ENOBUFS).
                    Ok(Err(_)) => return,
                    Err(_) => break,
                }
            }
            if heard {
                return;
            }
        }
    }
}

/// RTMGRP_LINK.
const LINK_GROUP: u32 = 1;
/// Octets read of a message; what it says is not looked at.
const RECEIVE: usize = 4096;
/// Messages taken at a time.
const MOST_READS: usize = 256;
